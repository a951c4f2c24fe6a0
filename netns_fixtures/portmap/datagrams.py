"""PCP and NAT-PMP on UDP port 5351: a datagram in, its answer out. Pure."""

from __future__ import annotations

import ipaddress

from netns_fixtures.portmap import natpmp, pcp
from netns_fixtures.portmap.behaviour import Failure
from netns_fixtures.portmap.service import Ask, MappingRefused, MappingService
from netns_fixtures.portmap.wire import PortMapProtocolError

#: RFC 6886 section 3 and RFC 6887 section 19.1; announcements go to clients at the port below.
PORT = 5351
CLIENT_PORT = 5350
ALL_HOSTS, ALL_NODES = "224.0.0.1", "ff02::1"

_TRANSPORTS = {6: "tcp", 17: "udp"}
#: How long a client may believe a refusal, seconds (RFC 6887 section 7.4: short for what may pass).
_SHORT_REFUSAL = 30


def answer_datagram(
    service: MappingService, now: float, data: bytes, source: str, external_ip: str | None
) -> bytes | None:
    """The answer to a datagram of an inside address; None where there is none to give."""
    speaks = service.behaviour.protocols
    if data[:1] == b"\x02" and "pcp" in speaks:
        return _answer_pcp(service, now, data, source, external_ip)
    if "nat-pmp" in speaks and ":" not in source:
        return _answer_nat_pmp(service, now, data, source, external_ip)
    if "pcp" in speaks and len(data) >= 2 and not data[1] & 0x80:
        return pcp.encode_refusal(data, pcp.Result.UNSUPP_VERSION, 0, service.epoch(now))
    return None


def announcements(service: MappingService, now: float, external_ip: str | None) -> list[bytes]:
    """What clients are told unasked, after a restart or with a new outside address."""
    told = []
    if "nat-pmp" in service.behaviour.protocols and external_ip is not None:
        told.append(natpmp.encode_external_address(external_ip, service.epoch(now)))
    if "pcp" in service.behaviour.protocols:
        told.append(pcp.encode_announce(service.epoch(now)))
    return told


def _answer_pcp(
    service: MappingService, now: float, data: bytes, source: str, external_ip: str | None
) -> bytes | None:
    if not pcp.is_answerable(data):
        return None
    epoch = service.epoch(now)
    try:
        request = pcp.parse_request(data)
        if request.client_ip != source:
            raise pcp.Refused(pcp.Result.ADDRESS_MISMATCH, f"{request.client_ip} sent from {source}")
        if isinstance(request, pcp.AnnounceRequest):
            return pcp.encode_announce(epoch)
        return _map_pcp(service, now, request, external_ip)
    except pcp.Refused as refusal:
        return pcp.encode_refusal(data, refusal.result, _SHORT_REFUSAL, epoch)
    except MappingRefused as refusal:
        if refusal.failure is Failure.SILENCE:
            return None
        return pcp.encode_refusal(data, refusal.failure.pcp, _SHORT_REFUSAL, epoch)


def _map_pcp(service: MappingService, now: float, request: pcp.MapRequest, external_ip: str | None) -> bytes:
    transport = _TRANSPORTS.get(request.protocol)
    if transport is None:
        raise pcp.Refused(pcp.Result.UNSUPP_PROTOCOL, f"protocol {request.protocol}")
    if not request.internal_port:
        raise pcp.Refused(pcp.Result.UNSUPP_PROTOCOL, "a mapping of all ports")
    if request.third_party is not None:
        _check_third_party(service, request)
    internal = ipaddress.ip_address(request.internal_ip)
    if internal.version == 6:
        external_ip = request.internal_ip if service.pinholes and not internal.is_link_local else None
    epoch = service.epoch(now)
    if not request.lifetime:
        known = service.table.of(transport, request.internal_ip, request.internal_port)
        if known is not None:
            if known.nonce != request.nonce:
                raise service.refuse(Failure.NOT_AUTHORIZED, f"another nonce for {request.client_ip}")
            service.release(known)
        return pcp.encode_map(request, request.external_ip, request.external_port, 0, epoch)
    if external_ip is None:
        raise service.refuse(Failure.NETWORK_FAILURE, f"{internal} has no outside address")
    ask = Ask(
        "pcp",
        transport,
        request.internal_ip,
        request.internal_port,
        request.external_port,
        request.lifetime,
        request.nonce,
        exact=request.prefer_failure,
    )
    mapping = service.map(now, ask)
    return pcp.encode_map(request, external_ip, mapping.external_port, mapping.lifetime, epoch)


def _check_third_party(service: MappingService, request: pcp.MapRequest) -> None:
    """RFC 6887 section 13.1: only where it is allowed, and not for the client itself. Raises Refused."""
    if not service.behaviour.third_party:
        raise pcp.Refused(pcp.Result.UNSUPP_OPTION, "THIRD_PARTY is not allowed here")
    if request.third_party == request.client_ip:
        raise pcp.Refused(pcp.Result.MALFORMED_REQUEST, "the third party is the client")


def _answer_nat_pmp(
    service: MappingService, now: float, data: bytes, source: str, external_ip: str | None
) -> bytes | None:
    if not natpmp.is_answerable(data):
        return None
    epoch = service.epoch(now)
    if data[0] != natpmp.VERSION:
        return natpmp.encode_unsupported(data, natpmp.Result.UNSUPPORTED_VERSION, epoch)
    try:
        request = natpmp.parse_request(data)
    except natpmp.UnknownOpcode:
        return natpmp.encode_unsupported(data, natpmp.Result.UNSUPPORTED_OPCODE, epoch)
    except PortMapProtocolError:
        return None
    if isinstance(request, natpmp.ExternalAddressRequest):
        if external_ip is None:
            return natpmp.encode_external_address("0.0.0.0", epoch, natpmp.Result.NETWORK_FAILURE)
        return natpmp.encode_external_address(external_ip, epoch)
    try:
        return _map_nat_pmp(service, now, request, source, external_ip)
    except MappingRefused as refusal:
        if refusal.failure is Failure.SILENCE:
            return None
        return natpmp.encode_mapped(request, 0, 0, epoch, refusal.failure.nat_pmp)


def _map_nat_pmp(
    service: MappingService, now: float, request: natpmp.MapRequest, source: str, external_ip: str | None
) -> bytes:
    transport = request.transport.name.lower()
    epoch = service.epoch(now)
    if not request.lifetime:
        _release_nat_pmp(service, transport, source, request.internal_port)
        return natpmp.encode_mapped(request, 0, 0, epoch)
    if external_ip is None or not request.internal_port:
        raise service.refuse(Failure.NETWORK_FAILURE, "no outside address, or no inside port")
    ask = Ask("nat-pmp", transport, source, request.internal_port, request.external_port, request.lifetime)
    mapping = service.map(now, ask)
    return natpmp.encode_mapped(request, mapping.external_port, mapping.lifetime, epoch)


def _release_nat_pmp(service: MappingService, transport: str, source: str, port: int) -> None:
    """One mapping of this client, or with port 0 all of them (RFC 6886 section 3.4)."""
    for mapping in service.table:
        mine = mapping.transport == transport and mapping.internal_ip == source
        if mine and port in (0, mapping.internal_port):
            service.release(mapping)
