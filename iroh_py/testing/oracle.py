"""What is possible: whether UDP can flow between two hosts, found out by trying on fresh NAT tables, outside
of time.

The trial ignores delay, loss and what the hosts really do: it says what a perfect program could reach. It
respects what stands in the way for good: links that are down, unplugged or block UDP, black holes,
partitions, NAT rules.
"""

from __future__ import annotations

import dataclasses
import random
from collections import deque
from typing import TYPE_CHECKING

from iroh_py.network import Addr, Family
from iroh_py.testing.interface import SimInterface
from iroh_py.testing.link import Direction, Link
from iroh_py.testing.nat_table import Filtering, Mapping, NatTable

if TYPE_CHECKING:
    from iroh_py.testing.host import SimHost
    from iroh_py.testing.nat import SimNat
    from iroh_py.testing.segment import Segment

#: The ports that the two hosts of a trial use; not the same, so that nothing works by chance.
_PORTS = (41_001, 41_002)

#: A STUN server that both have asked. Documentation addresses: no simulated host has them.
_STUN: dict[Family, Addr] = {Family.V4: ("192.0.2.53", 3478), Family.V6: ("2001:db8:ffff::53", 3478)}

#: Datagrams until a trial gives up; a few per candidate address is plenty.
_STEPS = 400

#: All of a trial happens at one instant.
_NOW = 0.0


def reachable(first: SimHost, second: SimHost, *, punch: bool = False) -> bool:
    """Whether data can flow both ways when ``first`` sends first, to any address that ``second`` could tell.

    Both have asked a STUN server, so ``second`` can tell its own addresses and the outside one. It only
    answers, to where the packet came from; with ``punch=True`` both send to all addresses of the other at
    once, as after an exchange over a relay. Ports are not guessed.
    """
    return _Trial(first, second).run(punch=punch)


class _Trial:
    def __init__(self, first: SimHost, second: SimHost) -> None:
        self._net = first.net
        self._hosts = (first, second)
        self._tables: dict[SimNat, tuple[NatTable, NatTable]] = {}
        self._rng = random.Random(0)
        self._heard: set[SimHost] = set()

    def run(self, *, punch: bool) -> bool:
        first, second = self._hosts
        seconds_addresses, firsts_addresses = self._candidates(second), self._candidates(first)
        queue = deque((first, addr) for addr in seconds_addresses)
        if punch:
            # Twice: the first packets only open the sender's own NAT.
            queue.extend((second, addr) for addr in firsts_addresses)
            queue.extend(list(queue))
        for _ in range(_STEPS):
            if not queue or len(self._heard) == 2:
                break
            host, dst = queue.popleft()
            self._send(host, dst, queue)
        return len(self._heard) == 2

    def _candidates(self, host: SimHost) -> list[Addr]:
        port = _PORTS[self._hosts.index(host)]
        found = [(a.ip, port) for i in host.interfaces.values() for a in i.active_addresses()]
        for stun in _STUN.values():
            seen = self._travel(host, stun)
            if isinstance(seen, tuple) and seen not in found:
                found.append(seen)
        return found

    def _send(self, host: SimHost, dst: Addr, queue: deque[tuple[SimHost, Addr]]) -> None:
        got = self._travel(host, dst)
        if isinstance(got, _Arrival) and got.host in self._hosts and got.host is not host:
            if got.dst[1] != _PORTS[self._hosts.index(got.host)]:
                return
            self._heard.add(got.host)
            if len(queue) < _STEPS:
                queue.append((got.host, got.src))

    def _travel(self, host: SimHost, dst: Addr) -> _Arrival | Addr | None:
        """Where a packet ends: at a host, at the STUN server (as the source it sees), or nowhere."""
        try:
            choice = host.route(dst[0])
        except OSError:
            return None
        interface = choice.interface
        if (
            interface is None
            or host.deaf
            or not interface.passes
            or not _passes(interface.link, Direction.UP)
        ):
            return None
        src = (choice.source, _PORTS[self._hosts.index(host)])
        segment = interface.segment
        while segment is not None:
            node = segment.find(dst[0])
            if node is None:
                nat = segment.owner
                if nat is None:
                    return src if dst in _STUN.values() else None
                if dst[0] == nat.outside_ip and not nat.config.hairpin:
                    return None
                src = self._outbound(nat, src, dst)
                if dst[0] == nat.outside_ip:
                    segment, dst = self._inbound(nat, src, dst)
                    continue
                if not _passes(nat.link, Direction.UP):
                    return None
                segment = nat.upstream
            elif not _passes(node.link, Direction.DOWN):
                return None
            elif isinstance(node, SimInterface):
                there = node.host
                blocked = there.deaf or not node.passes or self._net.partitioned(host, there)
                return None if blocked or dst[0] not in node.ips else _Arrival(there, src, dst)
            else:
                segment, dst = self._inbound(node, src, dst)
        return None

    def _outbound(self, nat: SimNat, src: Addr, dst: Addr) -> Addr:
        table, firewall = self._fresh(nat)
        if nat.translates(src[0]):
            return nat.outside_ip, table.outbound(_NOW, src, dst)
        firewall.outbound(_NOW, src, dst)
        return src

    def _inbound(self, nat: SimNat, src: Addr, dst: Addr) -> tuple[Segment | None, Addr]:
        table, firewall = self._fresh(nat)
        if nat.translates(dst[0]):
            inner = table.inbound(_NOW, dst[1], src)
            return (None, dst) if isinstance(inner, str) else (nat.inside, inner)
        open_to_all = nat.config.filtering is Filtering.EIF
        return (nat.inside if open_to_all or firewall.admit(_NOW, dst, src) is None else None), dst

    def _fresh(self, nat: SimNat) -> tuple[NatTable, NatTable]:
        if nat not in self._tables:
            firewall = NatTable(dataclasses.replace(nat.config, mapping=Mapping.EIM), self._rng)
            self._tables[nat] = (NatTable(nat.config, self._rng), firewall)
        return self._tables[nat]


@dataclasses.dataclass(frozen=True, slots=True)
class _Arrival:
    host: SimHost
    src: Addr
    dst: Addr


def _passes(link: Link, direction: Direction) -> bool:
    condition = link.lane(direction).condition
    return condition.udp and condition.loss < 1
