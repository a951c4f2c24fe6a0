"""What does a NAT really do? Behaviour discovery in the manner of RFC 5780, seen from both ends.

A client behind the NAT, one or two servers outside of it, plain UDP: a server reads the source of a datagram,
which is all that STUN would say. What was filtered is known without waiting for it: a packet that must arrive
is sent after it on the same path.

::

    seen = behaviour(laptop, [server, other])
    assert seen.mapping == "eim" and seen.filtering == "apdf" and seen.ports == "preserve"
"""

from __future__ import annotations

import contextlib
import itertools
import select
import socket
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from netns_fixtures.errors import LabError
from netns_fixtures.host import Host
from netns_fixtures.nat import NatFiltering, NatMapping, NatPooling, NatPorts

Address = tuple[str, int]

#: Seconds that a packet which must arrive has, on a busy machine.
PATIENCE = 5.0
#: Each question is asked so often: one packet may be overtaken by the one sent after it on another processor.
ROUNDS = 3
#: Sockets whose outside ports show how ports are chosen.
_SAMPLE = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class NatBehaviour:
    """What was seen. ``outside`` is the client's first address there; ``translates``: it is not its own.

    ``ports``: how outside ports are chosen (``random`` is "by no rule seen"; ``overload`` is only seen with a
    neighbour). ``hairpin``: a packet to the outside address of another inside socket arrives, from the outside
    address of its sender. ``pooling``: whether all sockets of the client come from one address ("paired"), or not.
    """

    outside: Address
    translates: bool
    mapping: NatMapping
    filtering: NatFiltering
    ports: NatPorts
    hairpin: bool
    pooling: NatPooling


@dataclass(frozen=True, slots=True)
class Aged:
    """One mapping asked for once: whether a packet from outside still got in.

    Its age then, in seconds since it was made, lies between ``earliest`` and ``latest``: clocks and processors
    allow no more than bounds. ``quiet``: the longest time without any packet.
    """

    earliest: float
    latest: float
    quiet: float
    alive: bool


class Probe:
    """Sockets of one discovery; a context manager that closes them."""

    def __init__(self) -> None:
        self._stack = contextlib.ExitStack()
        self._tokens = itertools.count()

    def __enter__(self) -> Probe:
        return self

    def __exit__(self, *exc: object) -> None:
        self._stack.close()

    def udp(self, host: Host, port: int = 0) -> socket.socket:
        """A bound IPv4 UDP socket of a host."""
        sock = self._stack.enter_context(host.socket(socket.AF_INET, socket.SOCK_DGRAM))
        sock.settimeout(PATIENCE)
        sock.bind(("", port))
        return sock

    def outside(self, client: socket.socket, server: socket.socket, server_ip: str) -> Address:
        """How a client looks from a server. Raises LabError when nothing arrives."""
        for _ in range(
            ROUNDS
        ):  # a NAT may lose the first packet of a mapping, while it looks for a free port
            token = self._token()
            client.sendto(token, (server_ip, _port(server)))
            for data, source in _receive(server, PATIENCE / ROUNDS):
                if data == token:
                    return source
        raise LabError(f"nothing sent to {server_ip}:{_port(server)} arrived there; is there a route?")

    def arrives(
        self,
        client: socket.socket,
        asked: Sequence[tuple[socket.socket, Address]],
        known: socket.socket,
        at: Address,
    ) -> list[Address | None]:
        """Whether packets reach a client: for each (socket, where to) the source that it saw, or None.

        After each, ``known`` sends one to ``at`` that must arrive. Raises LabError when that does not.
        """
        seen: list[Address | None] = [None] * len(asked)
        for _ in range(ROUNDS):
            tokens = [self._token() for _ in asked]
            for token, (sock, where) in zip(tokens, asked, strict=True):
                sock.sendto(token, where)
            last = self._token()
            known.sendto(last, at)
            for data, source in _receive(client, PATIENCE):
                if data in tokens:
                    seen[tokens.index(data)] = source
                if data == last:
                    break
            else:
                raise LabError(f"a permitted packet to {at} did not arrive: the mapping is gone already")
        return seen

    def _token(self) -> bytes:
        return b"nat-probe %d" % next(self._tokens)


def behaviour(client: Host, servers: Sequence[Host], neighbour: Host | None = None) -> NatBehaviour:
    """Discover what the NATs between a client and two servers do to UDP over IPv4.

    ``servers`` are two hosts outside, with different addresses; neither may have been sent to from the ports
    in use here. ``neighbour`` is another host inside, for hairpin and overloading; else a second socket of the
    client. Raises LabError when a server cannot be reached, or is one only.
    """
    if len(servers) != 2 or servers[0].ip == servers[1].ip:
        raise LabError("behaviour() needs two servers with different addresses")
    with Probe() as probe:
        mapping, outside, inside = _mapping(probe, client, servers)
        ports, pooling = _ports(probe, client, servers, neighbour)
        return NatBehaviour(
            outside=outside,
            translates=outside != inside,
            mapping=mapping,
            filtering=_filtering(probe, client, servers),
            ports=ports,
            hairpin=_hairpin(probe, client, neighbour or client, servers[0], pooling),
            pooling=pooling,
        )


def mapping_ages(
    client: Host, server: Host, ages: Sequence[float], *, keep: str = "", every: float = 0.2
) -> list[Aged]:
    """How long do mappings and their pinholes live? Each age (seconds) is tried with a socket of its own.

    All sockets send to the server at the start. Until its age comes, a socket is idle; with ``keep="outbound"``
    it sends again ``every`` so many seconds, with ``keep="inbound"`` the server does. Then the server sends to
    it: did that arrive? Takes as long as the greatest age. Raises LabError when the server cannot be reached.
    """
    with Probe() as probe:
        there = probe.udp(server)
        aging = [_Aging(probe, client, server, there) for _ in ages]
        found: dict[int, Aged] = {}
        for index in sorted(range(len(ages)), key=lambda i: ages[i]):
            due = aging[index].made[0] + ages[index]
            while (left := due - time.monotonic()) > 0:
                time.sleep(min(left, every))
                for each in aging if keep else ():
                    each.use(outbound=keep == "outbound")
            found[index] = aging[index].ask()
        return [found[index] for index in range(len(ages))]


class _Aging:
    """A mapping that grows old. ``made`` is between when and when."""

    def __init__(self, probe: Probe, client: Host, server: Host, there: socket.socket) -> None:
        self._probe, self._client, self._server, self._there = probe, client, server, there
        self._sock = probe.udp(client)
        before = time.monotonic()
        self._at = probe.outside(self._sock, there, server.ip)
        self._used = time.monotonic()
        self._quiet = 0.0
        self.made = before, self._used

    def use(self, *, outbound: bool) -> None:
        """One packet through it."""
        if outbound:
            self._sock.sendto(b"keep", (self._server.ip, _port(self._there)))
        else:
            self._there.sendto(b"keep", self._at)
        self._note_use()

    def ask(self) -> Aged:
        """Does a packet to it still get in?"""
        _receive_all(self._sock)
        before = time.monotonic()
        for _ in range(ROUNDS):
            self._ask_once()
        self._note_use()
        alive = b"still there?" in _receive_all(self._sock)
        return Aged(before - self.made[1], time.monotonic() - self.made[0], self._quiet, alive)

    def _ask_once(self) -> None:
        """Send to it, and then what must arrive, by a new mapping of the same host."""
        for attempt in range(1, ROUNDS + 1):
            fresh = self._probe.udp(self._client)
            at = self._probe.outside(fresh, self._there, self._server.ip)
            self._there.sendto(b"still there?", self._at)
            try:
                self._probe.arrives(fresh, [], self._there, at)
                return
            except LabError:
                if attempt == ROUNDS:
                    raise  # once, the machine was held up for so long that the new one has ended, too

    def _note_use(self) -> None:
        self._quiet, self._used = max(self._quiet, time.monotonic() - self._used), time.monotonic()


def _mapping(probe: Probe, client: Host, servers: Sequence[Host]) -> tuple[NatMapping, Address, Address]:
    """RFC 5780 section 4.3: one socket, two addresses, two ports each."""
    sock = probe.udp(client)
    asked = [(probe.udp(server), server.ip) for server in servers for _ in range(2)]
    seen = [probe.outside(sock, there, ip) for there, ip in asked]
    if len(set(seen)) == 1:
        mapping = NatMapping.EIM
    elif seen[0] == seen[1] and seen[2] == seen[3]:
        mapping = NatMapping.ADM
    else:
        mapping = NatMapping.APDM
    return mapping, seen[0], (client.ip, _port(sock))


def _filtering(probe: Probe, client: Host, servers: Sequence[Host]) -> NatFiltering:
    """RFC 5780 section 4.4: strangers send to a mapping that was made for one port of one server."""
    sock, known = probe.udp(client), probe.udp(servers[0])
    at = probe.outside(sock, known, servers[0].ip)
    # The path to the other server may take longer: this one's packets come first.
    strangers = [(probe.udp(servers[1]), at), (probe.udp(servers[0]), at)]
    other_address, other_port = probe.arrives(sock, strangers, known, at)
    if other_address:
        return NatFiltering.EIF
    return NatFiltering.ADF if other_port else NatFiltering.APDF


def _ports(
    probe: Probe, client: Host, servers: Sequence[Host], neighbour: Host | None
) -> tuple[NatPorts, NatPooling]:
    """Outside ends of a few new sockets, one after the other; and of two hosts' sockets with one port."""
    there = probe.udp(servers[0])
    socks = [probe.udp(client) for _ in range(_SAMPLE)]
    outsides = [probe.outside(sock, there, servers[0].ip) for sock in socks]
    pooling = NatPooling.PAIRED if len({ip for ip, _port in outsides}) == 1 else NatPooling.ARBITRARY
    if neighbour is not None:
        twin, elsewhere = probe.udp(neighbour, _port(socks[0])), probe.udp(servers[1])
        if probe.outside(twin, elsewhere, servers[1].ip) == outsides[0]:
            return NatPorts.OVERLOAD, pooling
    seen = [port for _ip, port in outsides]
    if seen == [_port(sock) for sock in socks]:
        return NatPorts.PRESERVE, pooling
    steps = {after - before for before, after in itertools.pairwise(seen)}
    return NatPorts.SEQUENTIAL if steps == {1} else NatPorts.RANDOM, pooling


def _hairpin(probe: Probe, client: Host, other: Host, server: Host, pooling: NatPooling) -> bool:
    """RFC 5780 section 4.5; both sides send first, as filtering may ask for."""
    there = probe.udp(server)
    left, right = probe.udp(client), probe.udp(other)
    left_at, right_at = (probe.outside(sock, there, server.ip) for sock in (left, right))
    right.sendto(b"open", left_at)
    left.sendto(b"open", right_at)
    (source,) = probe.arrives(right, [(left, right_at)], there, right_at)
    # An endpoint-dependent mapping has another port for each destination; the address must be an outside one.
    if source is None or source[0] == client.ip:
        return False
    return pooling == NatPooling.ARBITRARY or source[0] == left_at[0]


def _receive(sock: socket.socket, within: float) -> Iterator[tuple[bytes, Address]]:
    """Datagrams as they come, until nothing came for so many seconds."""
    while select.select([sock], [], [], within)[0]:
        data, source = sock.recvfrom(2000)
        yield data, (source[0], source[1])


def _receive_all(sock: socket.socket) -> list[bytes]:
    return [data for data, _source in _receive(sock, 0.0)]


def _port(sock: socket.socket) -> int:
    port: int = sock.getsockname()[1]
    return port
