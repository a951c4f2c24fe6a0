"""Which IPv4 address stands for which IPv6 client. Sans-IO; bounded."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass

#: Seconds that a client keeps its stand-in after a packet of a protocol: as long as the longest session that the
#: packet may belong to (RFC 6146 section 4: UDP_DEFAULT, TCP_EST, ICMP_DEFAULT).
UDP_LIFETIME = 300.0
TCP_LIFETIME = 7440.0
ICMP_LIFETIME = 60.0
ICMP, TCP, UDP, ICMPV6 = 1, 6, 17, 58
LIFETIMES = {UDP: UDP_LIFETIME, TCP: TCP_LIFETIME, ICMP: ICMP_LIFETIME, ICMPV6: ICMP_LIFETIME}

#: More than the hosts of any lab, with privacy addresses that rotate.
MAX_CLIENTS = 4096
#: Looking for expired clients costs a pass over all; a full table under attack is looked at this often.
SWEEP_INTERVAL = 1.0


@dataclass(slots=True)
class _Client:
    v6: bytes
    v4: bytes
    until: float


class Clients:
    """The pool's IPv4 addresses, given to IPv6 addresses as they come; addresses are packed bytes.

    An address is not given out again before all others of the pool were: what conntrack still remembers of its
    last owner has ended by then.
    """

    def __init__(self, pool: str, maximum: int = MAX_CLIENTS) -> None:
        network = ipaddress.IPv4Network(pool)
        self._first = int(network.network_address)
        self._size = network.num_addresses
        self._maximum = min(maximum, self._size - 2)
        self._next = 0
        self._by_v6: dict[bytes, _Client] = {}
        self._by_v4: dict[bytes, _Client] = {}
        self._swept = float("-inf")

    def __len__(self) -> int:
        return len(self._by_v6)

    def v4(self, now: float, v6: bytes, protocol: int) -> bytes | None:
        """The stand-in of a client that sends; None when all are taken."""
        client = self._by_v6.get(v6) or self._admit(now, v6)
        if client is None:
            return None
        client.until = max(client.until, now + LIFETIMES.get(protocol, 0.0))
        return client.v4

    def known_v4(self, v6: bytes) -> bytes | None:
        """The stand-in of a client that has one."""
        client = self._by_v6.get(v6)
        return client.v4 if client else None

    def v6(self, now: float, v4: bytes, protocol: int) -> bytes | None:
        """The client behind a stand-in; None for one that nobody has."""
        client = self._by_v4.get(v4)
        if client is None:
            return None
        client.until = max(client.until, now + LIFETIMES.get(protocol, 0.0))
        return client.v6

    def _admit(self, now: float, v6: bytes) -> _Client | None:
        if len(self._by_v6) >= self._maximum:
            self._sweep(now)
        if len(self._by_v6) >= self._maximum:
            return None
        v4 = self._free()
        client = _Client(v6, v4, now)
        self._by_v6[v6] = self._by_v4[v4] = client
        return client

    def _free(self) -> bytes:
        while True:  # ends: fewer clients than addresses
            self._next = self._next % (self._size - 2) + 1  # neither the network's address nor the broadcast
            v4 = (self._first + self._next).to_bytes(4, "big")
            if v4 not in self._by_v4:
                return v4

    def _sweep(self, now: float) -> None:
        if now - self._swept < SWEEP_INTERVAL:
            return
        self._swept = now
        for client in [c for c in self._by_v6.values() if c.until <= now]:
            del self._by_v6[client.v6], self._by_v4[client.v4]
