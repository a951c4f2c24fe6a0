"""The process in a router's namespace: waits on its sockets, loads its rules, tells the test what happened."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import os
import socket
import struct
import sys
import uuid
from collections.abc import Callable
from typing import Any

from netns_fixtures.agent.nft import RuleLoader
from netns_fixtures.errors import LabError, TopologyError
from netns_fixtures.nat.text import LAN, WAN
from netns_fixtures.portmap import control, datagrams, pcp, rules, soap, ssdp
from netns_fixtures.portmap.behaviour import PortMappingBehaviour, failure_of
from netns_fixtures.portmap.held import holder_of
from netns_fixtures.portmap.http import HttpReply, HttpRequest, serve_http
from netns_fixtures.portmap.service import MappingService, News
from netns_fixtures.portmap.table import Mapping
from netns_fixtures.portmap.upnp import Gateway
from netns_fixtures.portmap.wire import PortMapProtocolError
from netns_fixtures.replies import encode_error, encode_reply

#: Any free port will do, clients learn it from SSDP; miniupnpd has this one.
HTTP_PORT = 5000
#: RFC 6886 section 3.2.1: announcements are repeated ten times, at first after 250 ms, then twice as long.
_ANNOUNCEMENTS = 10
_ANNOUNCE_INTERVAL = 0.25
_MAX_DATAGRAM = 4096
#: Room for one IPV6_PKTINFO.
_MAX_ANCILLARY = socket.CMSG_SPACE(20)
# <linux/sockios.h>, <linux/rtnetlink.h>
_SIOCGIFADDR = 0x8915
_RTMGRP_IPV4_IFADDR = 0x10


class Server:
    """Serves one router until the control socket closes."""

    def __init__(
        self, name: str, channel: socket.socket, behaviour: PortMappingBehaviour, *, pinholes: bool
    ) -> None:
        self._name = name
        self._uuid = str(uuid.uuid5(uuid.NAMESPACE_DNS, name))
        self._channel = channel
        self._loop = asyncio.get_running_loop()
        self._rules = RuleLoader(name)
        self._installed: set[tuple[str, str]] = set()
        self._outside = _address(WAN)
        self._service = MappingService(
            self._loop.time(), behaviour, self._tell, pinholes=pinholes, holder=self._holder
        )
        self._expiry: asyncio.TimerHandle | None = None
        self._announcing: asyncio.TimerHandle | None = None
        self._done = asyncio.Event()

    async def run(self) -> None:
        """Serve; returns when the test process is gone or says stop."""
        self._rules.load(rules.table_text(0xFFFF))
        self._install()
        try:
            async with contextlib.AsyncExitStack() as stack:
                self._mapping = self._listen(stack, datagrams.PORT, self._handle_mapping_request)
                self._mapping6 = stack.enter_context(_udp6(datagrams.PORT))
                self._watch(stack, self._mapping6, self._handle_pinhole_request)
                self._ssdp = self._listen(stack, ssdp.PORT, self._handle_search)
                _join(self._ssdp, ssdp.GROUP)
                web = await asyncio.start_server(self._handle_http, sock=_tcp(HTTP_PORT))
                await stack.enter_async_context(web)
                self._watch(stack, self._channel, self._handle_control)
                self._watch(stack, _address_monitor(stack), self._handle_address_change)
                self._channel.send(encode_reply())
                self._announce()
                await self._done.wait()
        finally:
            for timer in (self._expiry, self._announcing):
                if timer is not None:
                    timer.cancel()
            self._rules.load(rules.delete_text())
            self._rules.close()

    # -- sockets

    def _listen(
        self, stack: contextlib.AsyncExitStack, port: int, handle: Callable[[socket.socket], None]
    ) -> socket.socket:
        sock = stack.enter_context(_udp(port))
        self._watch(stack, sock, handle)
        return sock

    def _watch(
        self, stack: contextlib.AsyncExitStack, sock: socket.socket, handle: Callable[[socket.socket], None]
    ) -> None:
        sock.setblocking(False)
        self._loop.add_reader(sock, handle, sock)
        stack.callback(self._loop.remove_reader, sock)

    def _handle_mapping_request(self, sock: socket.socket) -> None:
        with contextlib.suppress(OSError):  # an ICMP error of an earlier answer, or nobody to answer to
            data, (source, port) = sock.recvfrom(_MAX_DATAGRAM)
            self._expire()
            answer = datagrams.answer_datagram(self._service, self._now(), data, source, self._external())
            self._install()
            if answer is not None:
                sock.sendto(answer, (source, port))

    def _handle_pinhole_request(self, sock: socket.socket) -> None:
        with contextlib.suppress(OSError):
            data, here, _flags, source = sock.recvmsg(_MAX_DATAGRAM, _MAX_ANCILLARY)
            self._expire()
            answer = datagrams.answer_datagram(
                self._service, self._now(), data, source[0].partition("%")[0], self._external()
            )
            self._install()
            if answer is not None:
                # From the address that was asked, which may be one of several.
                own = [each for each in here if each[:2] == (socket.IPPROTO_IPV6, socket.IPV6_PKTINFO)]
                sock.sendmsg([answer], own, 0, source)

    def _handle_search(self, sock: socket.socket) -> None:
        if "upnp" not in self._service.behaviour.protocols:
            with contextlib.suppress(OSError):
                sock.recv(_MAX_DATAGRAM)
            return
        with contextlib.suppress(OSError, PortMapProtocolError):  # other multicasts of this group, NOTIFYs
            data, source = sock.recvfrom(_MAX_DATAGRAM)
            for target in ssdp.parse_search(data).answers():
                location = f"http://{_address(LAN)}:{HTTP_PORT}{soap.DESCRIPTION_PATH}"
                sock.sendto(ssdp.encode_answer(target, location, self._uuid), source)

    async def _handle_http(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await serve_http(reader, writer, self._answer_http)

    def _answer_http(self, request: HttpRequest) -> HttpReply:
        if "upnp" not in self._service.behaviour.protocols:
            return None
        if request.method == "GET" and request.path == soap.DESCRIPTION_PATH:
            return 200, soap.encode_description(self._uuid, self._name)
        if request.method != "POST" or request.path != soap.CONTROL_PATH:
            return 404, b""
        self._expire()
        try:
            call = soap.parse_call(request.headers.get("soapaction", ""), request.body)
            gateway = Gateway(self._service, self._now(), request.source, self._external())
            values = gateway.call(call)
        except soap.UpnpFault as fault:
            return 500, soap.encode_fault(fault.fault)
        except PortMapProtocolError:
            return 400, b""
        finally:
            self._install()
        return None if values is None else (200, soap.encode_answer(call, values))

    def _handle_address_change(self, sock: socket.socket) -> None:
        sock.recv(_MAX_DATAGRAM)
        outside = _address(WAN)
        if outside != self._outside:
            self._outside = outside
            self._install()
            if outside is not None:
                self._announce()

    # -- control

    def _handle_control(self, channel: socket.socket) -> None:
        packet = channel.recv(control.MAX_MESSAGE)
        if not packet:
            self._done.set()
            return
        try:
            verb, arguments = control.decode_request(packet)
            reply = encode_reply(self._carry_out(verb, arguments))
        except (LabError, ValueError) as error:
            reply = encode_error(str(error))
        channel.send(reply)

    def _carry_out(self, verb: str, arguments: dict[str, Any]) -> Any:
        self._expire()
        match verb:
            case "mappings":
                return [self._as_dict(mapping) for mapping in self._service.table]
            case "behave":
                self._service.behaviour = PortMappingBehaviour.of(arguments)
            case "fail_next":
                self._service.fail_next(failure_of(arguments["failure"]), arguments["count"])
            case "restart":
                self._service.restart(self._now())
                self._install()
                self._announce()
            case "stop":
                self._service.restart(self._now())
                self._done.set()
            case _:
                raise TopologyError(f"a port mapping service cannot {verb}")
        return None

    def _as_dict(self, mapping: Mapping) -> dict[str, Any]:
        left = None if mapping.expires is None else mapping.expires - self._now()
        return {
            "transport": mapping.transport,
            "external_ip": mapping.internal_ip if mapping.is_pinhole else self._external(),
            "external_port": mapping.external_port,
            "internal_ip": mapping.internal_ip,
            "internal_port": mapping.internal_port,
            "expires_in": left,
            "by": mapping.by,
            "description": mapping.description,
        }

    # -- inside

    def _now(self) -> float:
        return self._loop.time()

    def _external(self) -> str | None:
        return self._service.behaviour.external_ip or self._outside

    def _holder(self, transport: str, port: int) -> tuple[str, int] | None:
        return holder_of(self._rules, transport, port, self._outside)

    def _expire(self) -> None:
        self._service.expire(self._now())

    def _install(self) -> None:
        """Make the kernel's rules what the table says, and be back when the next mapping ends."""
        wanted = rules.elements(self._service.table, self._outside)
        text = rules.change_text(self._installed, wanted)
        if text:
            self._rules.load(text)
            self._installed = wanted
        if self._expiry is not None:
            self._expiry.cancel()
        due = self._service.table.next_expiry
        self._expiry = None if due is None else self._loop.call_at(due, self._handle_expiry)

    def _handle_expiry(self) -> None:
        self._expire()
        self._install()

    def _announce(self, number: int = 0) -> None:
        if self._announcing is not None:
            self._announcing.cancel()
        for message in datagrams.announcements(self._service, self._now(), self._external()):
            with contextlib.suppress(OSError):  # the LAN is down: nobody to tell
                self._mapping.sendto(message, (datagrams.ALL_HOSTS, datagrams.CLIENT_PORT))
        if "pcp" in self._service.behaviour.protocols:
            to = datagrams.ALL_NODES, datagrams.CLIENT_PORT, 0, socket.if_nametoindex(LAN)
            with contextlib.suppress(OSError):  # the same, or no IPv6
                self._mapping6.sendto(pcp.encode_announce(self._service.epoch(self._now())), to)
        if number + 1 < _ANNOUNCEMENTS:
            wait = _ANNOUNCE_INTERVAL * 2**number
            self._announcing = self._loop.call_later(wait, self._announce, number + 1)

    def _tell(self, news: News) -> None:
        told: dict[str, Any] = {"kind": news.kind, "why": news.why}
        if news.mapping is not None:
            told |= self._as_dict(news.mapping) | {"lifetime": news.mapping.lifetime}
        sys.stdout.write(json.dumps(told) + "\n")
        sys.stdout.flush()


async def serve(name: str, behaviour: PortMappingBehaviour, *, pinholes: bool) -> None:
    """Serve, with standard input as the control socket."""
    with socket.socket(fileno=os.dup(0)) as channel:
        await Server(name, channel, behaviour, pinholes=pinholes).run()


def main(argv: list[str]) -> int:
    """``NAME BEHAVIOUR PINHOLES``: the router's name, how it behaves as JSON, "yes" where IPv6 is not translated."""
    behaviour = PortMappingBehaviour.of(json.loads(argv[1]))
    asyncio.run(serve(argv[0], behaviour, pinholes=argv[2] == "yes"))
    return 0


def _udp(port: int) -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    return _bind(sock, port)


def _udp6(port: int) -> socket.socket:
    sock = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
    return _bind(sock, port)


def _tcp(port: int) -> socket.socket:
    return _bind(socket.socket(socket.AF_INET, socket.SOCK_STREAM), port)


def _bind(sock: socket.socket, port: int) -> socket.socket:
    """On the inside only: RFC 6886 section 3 forbids to answer the outside."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, LAN.encode())
    sock.bind(("", port))
    return sock


def _join(sock: socket.socket, group: str) -> None:
    request = struct.pack("=4s4si", socket.inet_aton(group), bytes(4), socket.if_nametoindex(LAN))
    sock.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, request)


def _address(interface: str) -> str | None:
    """The first IPv4 address of an interface; None without one."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        try:
            answer = fcntl.ioctl(sock, _SIOCGIFADDR, struct.pack("256s", interface.encode()))
        except OSError:
            return None
    return socket.inet_ntoa(answer[20:24])


def _address_monitor(stack: contextlib.AsyncExitStack) -> socket.socket:
    sock = stack.enter_context(socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE))
    sock.bind((0, _RTMGRP_IPV4_IFADDR))
    return sock
