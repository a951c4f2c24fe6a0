"""Who has which address, and until when: the table of one server. Sans-IO."""

from __future__ import annotations

import ipaddress
from collections.abc import Collection, Iterator
from dataclasses import dataclass

#: A range has no more addresses than this in any lab; what a flood of made-up clients can fill.
MAX_LEASES = 4096


@dataclass(slots=True)
class Lease:
    """An address and its client. ``client`` is what it is known by (option 61, or its hardware address).

    ``state``: "offered", "bound", "declined" (kept from everybody), or "free": it was this client's last.
    """

    client: bytes
    mac: bytes
    ip: str
    state: str
    expires: float
    host_name: str = ""
    #: Order of last use: the address that has been free for longest is given out first.
    used: int = 0


class LeaseTable:
    """The leases of one subnet: ``first`` to ``last`` by number, without ``kept`` addresses.

    ``reserved``: hardware address -> IP address, given to nobody else.
    """

    def __init__(self, network: ipaddress.IPv4Network, first: int, last: int) -> None:
        self.network = network
        self.first, self.last = first, min(last, first + MAX_LEASES - 1)
        self.kept: Collection[str] = ()
        self.reserved: dict[bytes, str] = {}
        #: Who gets which address if it is free: not by who comes first, so every run of a lab gives the same.
        self.preferred: dict[bytes, str] = {}
        self._by_ip: dict[str, Lease] = {}
        self._clock = 0

    def __iter__(self) -> Iterator[Lease]:
        return iter(tuple(self._by_ip.values()))

    def of(self, client: bytes, now: float) -> Lease | None:
        """The address that a client has, or was offered."""
        self.expire(now)
        return next((x for x in self._by_ip.values() if x.client == client and x.state in _HELD), None)

    def at(self, ip: str, now: float) -> Lease | None:
        """Who has an address, or keeps it from others."""
        self.expire(now)
        lease = self._by_ip.get(ip)
        return lease if lease is not None and lease.state != "free" else None

    def choose(self, client: bytes, mac: bytes, wanted: str, now: float) -> str | None:
        """An address for a client (RFC 2131 section 4.3.1): reserved, its own, its last, wanted, preferred, any."""
        self.expire(now)
        reserved = self.reserved.get(mac)
        if reserved is not None:
            return reserved if self._is_free(reserved, client) else None
        held = self.of(client, now)
        if held is not None and self._may_have(held.ip, client):
            return held.ip
        last = next((x.ip for x in self._by_ip.values() if x.client == client and x.state == "free"), "")
        for ip in (last, wanted, self.preferred.get(mac, "")):
            if ip and self._may_have(ip, client):
                return ip
        return self._next(client)

    def may_have(self, ip: str, client: bytes, mac: bytes, now: float) -> bool:
        """Whether a client can be given this very address."""
        self.expire(now)
        reserved = self.reserved.get(mac)
        if reserved is not None:
            return ip == reserved and self._is_free(ip, client)
        return self._may_have(ip, client)

    def put(self, client: bytes, mac: bytes, ip: str, state: str, expires: float, name: str = "") -> Lease:
        """Give an address to a client, who gives up any other one."""
        for other in self:
            if other.client == client and other.ip != ip and other.state in _HELD:
                other.state = "free"
        self._clock += 1
        lease = Lease(client, mac, ip, state, expires, name, self._clock)
        self._by_ip[ip] = lease
        return lease

    def free(self, ip: str) -> None:
        """An address comes back; its client gets it again unless somebody else was faster."""
        lease = self._by_ip.get(ip)
        if lease is not None:
            lease.state = "free"

    def forget(self, ip: str) -> None:
        """The same, and nobody remembers whose it was; its turn comes after all others."""
        lease = self._by_ip.get(ip)
        if lease is not None:
            lease.state, lease.client, lease.mac = "free", b"", b""

    def expire(self, now: float) -> None:
        """End what has ended by now."""
        for lease in self._by_ip.values():
            if lease.state != "free" and lease.expires <= now:
                lease.state = "free"

    def _next(self, client: bytes) -> str | None:
        """A number never used before, if possible one that is nobody's preferred; else what is unused for longest."""
        never = [str(self.network[n]) for n in range(self.first, self.last + 1)]
        never = [ip for ip in never if ip not in self._by_ip and self._may_have(ip, client)]
        others = set(self.preferred.values())
        for ip in (*(ip for ip in never if ip not in others), *never):
            return ip
        free = [x for x in self._by_ip.values() if x.state == "free" and self._may_have(x.ip, client)]
        return min(free, key=lambda lease: lease.used).ip if free else None

    def _may_have(self, ip: str, client: bytes) -> bool:
        return self._in_range(ip) and ip not in self.reserved.values() and self._is_free(ip, client)

    def _is_free(self, ip: str, client: bytes) -> bool:
        lease = self._by_ip.get(ip)
        mine = lease is None or lease.state == "free" or (lease.client == client and lease.state in _HELD)
        return mine and ip not in self.kept

    def _in_range(self, ip: str) -> bool:
        number = int(ipaddress.IPv4Address(ip)) - int(self.network.network_address)
        return self.first <= number <= self.last


_HELD = ("offered", "bound")
