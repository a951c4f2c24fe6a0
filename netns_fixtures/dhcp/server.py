"""A DHCP server for one subnet (RFC 2131 section 4.3), sans-IO: messages and the time come in, answers go out."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from netns_fixtures.dhcp.leases import Lease, LeaseTable
from netns_fixtures.dhcp.options import (
    DhcpMalformed,
    Option,
    address,
    encode_routes,
    mask,
    packed,
    text,
)
from netns_fixtures.dhcp.packet import BOOTREPLY, BOOTREQUEST, Kind, Message
from netns_fixtures.dhcp.steps import Service

#: A client identifier is kept per lease; a longer one is no client of ours.
_MAX_CLIENT_ID = 64
_MAX_HOST_NAME = 63
_DEFAULT_ROUTE = "0.0.0.0/0"


@dataclass(frozen=True, slots=True)
class Answer:
    """A reply and where it goes: an IP address, "" for broadcast; ``mac`` of the client in both cases."""

    message: Message
    to: str
    mac: bytes


@dataclass(frozen=True, slots=True)
class News:
    """Something that a person would tell: ``kind`` is nak, declined, exhausted; "": a lease was granted or
    given back, which its client tells."""

    kind: str
    mac: bytes
    data: dict[str, Any] = field(default_factory=dict)


class DhcpServer:
    """Grants addresses of one subnet. ``on_news`` is called where something did not go as usual."""

    def __init__(self, service: Service, on_news: Callable[[News], None]) -> None:
        self._on_news = on_news
        self._told: tuple[bytes, int] | None = None
        self.change(service)

    def change(self, service: Service) -> None:
        """Serve this from now on. Leases of another subnet are forgotten: their renewal is refused."""
        network = ipaddress.IPv4Network(service.network)
        first, last = service.config.numbers(network)
        old = getattr(self, "table", None)
        if old is None or old.network != network or (old.first, old.last) != (first, last):
            self.table = LeaseTable(network, first, last)
            for lease in old or ():
                if lease.state == "bound" and ipaddress.IPv4Address(lease.ip) in network:
                    self.table.put(lease.client, lease.mac, lease.ip, "bound", lease.expires, lease.host_name)
        self.table.kept = frozenset(service.kept) | {service.address}
        self.table.reserved = {
            _mac(mac): ip
            for mac, ip in service.config.reservations.items()
            if ipaddress.IPv4Address(ip) in network
        }
        self.table.preferred = {_mac(mac): ip for mac, ip in service.preferred}
        self.service = service

    def forget(self, mac: bytes) -> None:
        """The address of this client is nobody's now, and comes last when addresses are given out."""
        for lease in self.table:
            if lease.mac == mac and lease.state != "declined":
                self.table.forget(lease.ip)

    def reset(self) -> None:
        """Forget all leases, as a router that restarts without a disk does."""
        old, self.table = self.table, LeaseTable(self.table.network, self.table.first, self.table.last)
        self.table.kept, self.table.reserved, self.table.preferred = old.kept, old.reserved, old.preferred

    def receive(self, message: Message, source_mac: bytes, now: float) -> Answer | None:
        """Judge one message. Whatever it says, the server goes on."""
        relayed = bool(message.giaddr)  # there are no relays in a lab, so this one is made up
        if message.op != BOOTREQUEST or relayed or self.service.state == "silent":
            return None
        try:
            client = _client(message)
            match message.kind:
                case Kind.DISCOVER:
                    return self._discover(message, client, now)
                case Kind.REQUEST:
                    return self._request(message, client, source_mac, now)
                case Kind.DECLINE:
                    self._decline(message, client, now)
                case Kind.RELEASE:
                    self._release(message, client, now)
                case Kind.INFORM if message.ciaddr:
                    return Answer(
                        self._reply(message, Kind.ACK, "", leased=False), message.ciaddr, source_mac
                    )
        except DhcpMalformed:
            pass  # an option whose value has no meaning: the message is dropped, as any noise
        return None

    # -- messages

    def _discover(self, message: Message, client: bytes, now: float) -> Answer | None:
        wanted = _wanted(message)
        if self.service.exhausted and self.table.of(client, now) is None:
            ip = None
        else:
            ip = self.table.choose(client, message.chaddr, wanted, now)
        if ip is None:
            if self._told != (message.chaddr, message.xid):  # once, not for each retransmission
                self._told = (message.chaddr, message.xid)
                self._on_news(News("exhausted", message.chaddr))
            return None
        if self.service.config.rapid_commit and Option.RAPID_COMMIT in message.options:
            return self._grant(message, client, ip, now, rapid=True)
        held = self.table.of(client, now)
        if held is None or held.ip != ip or held.state != "bound":
            self.table.put(
                client, message.chaddr, ip, "offered", now + self.service.config.offer_time, _name(message)
            )
        return self._answer(message, self._reply(message, Kind.OFFER, ip))

    def _request(self, message: Message, client: bytes, source_mac: bytes, now: float) -> Answer | None:
        server = message.options.get(Option.SERVER_ID)
        wanted = _wanted(message)
        if server is not None:
            return self._selected(message, client, wanted, address(server), now)
        asked = message.ciaddr or wanted
        if not asked:
            return None
        if ipaddress.IPv4Address(asked) not in self.table.network:
            return self._refuse(message, asked, f"it is not in {self.service.network}")
        held = self.table.of(client, now)
        if held is not None and held.ip == asked and held.state == "bound":
            if not self.table.may_have(asked, client, message.chaddr, now):
                return self._refuse(message, asked, "it is reserved for somebody else")
            return self._grant(message, client, asked, now, renewed_by=source_mac)
        other = self.table.at(asked, now)
        if other is not None and other.client != client:
            return self._refuse(message, asked, "somebody else has it")
        if held is not None:
            return self._refuse(message, asked, f"{held.ip} is yours")
        # No record of this client: silence lets other servers speak (RFC 2131 section 4.3.2).
        return (
            self._refuse(message, asked, "it is unknown here") if self.service.config.authoritative else None
        )

    def _selected(
        self, message: Message, client: bytes, wanted: str, server: str, now: float
    ) -> Answer | None:
        held = self.table.of(client, now)
        if server != self.service.address:
            if held is not None and held.state == "offered":
                self.table.free(held.ip)  # it took another server's offer
            return None
        if held is None or held.ip != wanted:
            return self._refuse(message, wanted, "it was not offered")
        return self._grant(message, client, wanted, now)

    def _decline(self, message: Message, client: bytes, now: float) -> None:
        ip = _wanted(message)
        held = self.table.of(client, now)
        if held is not None and held.ip == ip:
            self.table.put(b"", b"", ip, "declined", now + self.service.config.decline_time)
            self._on_news(News("declined", message.chaddr, {"ip": ip}))

    def _release(self, message: Message, client: bytes, now: float) -> None:
        held = self.table.of(client, now)
        if held is not None and held.ip == message.ciaddr:
            self.table.free(held.ip)
            self._on_news(News("", message.chaddr))

    # -- answers

    def _grant(
        self,
        message: Message,
        client: bytes,
        ip: str,
        now: float,
        *,
        rapid: bool = False,
        renewed_by: bytes = b"",
    ) -> Answer:
        lease = self.service.config.lease
        self.table.put(client, message.chaddr, ip, "bound", now + lease, _name(message))
        self._on_news(News("", message.chaddr))
        reply = self._reply(message, Kind.ACK, ip, rapid=rapid)
        if message.ciaddr:  # it has its address, and hears what is sent there
            return Answer(reply, message.ciaddr, renewed_by or message.chaddr)
        return self._answer(message, reply)

    def _refuse(self, message: Message, ip: str, why: str) -> Answer:
        self._on_news(News("nak", message.chaddr, {"ip": ip, "why": why}))
        reply = Message(
            op=BOOTREPLY,
            kind=Kind.NAK,
            xid=message.xid,
            chaddr=message.chaddr,
            broadcast=message.broadcast,
            options={Option.SERVER_ID: packed((self.service.address,)), Option.MESSAGE: why.encode()},
        )
        # By broadcast, whatever the client believes its address to be (RFC 2131 section 4.3.2).
        return Answer(reply, "", message.chaddr)

    def _answer(self, message: Message, reply: Message) -> Answer:
        return Answer(reply, "" if message.broadcast else reply.yiaddr, message.chaddr)

    def _reply(
        self, message: Message, kind: Kind, ip: str, *, leased: bool = True, rapid: bool = False
    ) -> Message:
        service, config = self.service, self.service.config
        options: dict[int, bytes] = {Option.SERVER_ID: packed((service.address,))}
        if leased:
            options[Option.LEASE_TIME] = config.seconds.to_bytes(4, "big")
            for code, value in ((Option.T1, config.t1), (Option.T2, config.t2)):
                if value is not None:
                    options[code] = int(value).to_bytes(4, "big")
        if rapid:
            options[Option.RAPID_COMMIT] = b""
        options |= self._parameters()
        return Message(
            op=BOOTREPLY,
            kind=kind,
            xid=message.xid,
            chaddr=message.chaddr,
            broadcast=message.broadcast,
            ciaddr=message.ciaddr,
            yiaddr=ip,
            options=options,
        )

    def _parameters(self) -> dict[int, bytes]:
        """What the server says of the network: all of it, for every client asks for it."""
        service, config = self.service, self.service.config
        options: dict[int, bytes] = {Option.SUBNET_MASK: mask(self.table.network.prefixlen)}
        if config.routes:  # first: RFC 3442 wants it before the router option
            routes = config.routes
            if not any(destination == _DEFAULT_ROUTE for destination, _gateway in routes):
                routes = (*routes, (_DEFAULT_ROUTE, service.address))
            options[Option.ROUTES] = encode_routes(routes)
        options[Option.ROUTER] = packed((service.address,))
        if config.dns:
            options[Option.DNS] = packed(config.dns)
        if config.domain:
            options[Option.DOMAIN] = config.domain.encode()
        if config.mtu is not None:
            options[Option.MTU] = config.mtu.to_bytes(2, "big")
        portal = config.captive_portal or service.portal
        if portal:
            options[Option.CAPTIVE_PORTAL] = portal.encode()
        return options


def held(table: LeaseTable, now: float) -> list[Lease]:
    """What a person would call the leases: addresses that somebody has, in order of address."""
    table.expire(now)
    return sorted((x for x in table if x.state == "bound"), key=lambda x: ipaddress.IPv4Address(x.ip))


def _mac(text: str) -> bytes:
    return bytes.fromhex(text.replace(":", ""))


def _client(message: Message) -> bytes:
    """What a client is known by. Raises DhcpMalformed."""
    identifier = message.options.get(Option.CLIENT_ID, b"")
    if len(identifier) > _MAX_CLIENT_ID:
        raise DhcpMalformed(f"a client identifier of {len(identifier)} bytes")
    return identifier or message.chaddr


def _wanted(message: Message) -> str:
    value = message.options.get(Option.REQUESTED_IP)
    return address(value) if value is not None else ""


def _name(message: Message) -> str:
    return text(message.options.get(Option.HOST_NAME, b""))[:_MAX_HOST_NAME]
