"""A laptop, a server and what a link between them does to numbered datagrams."""

from __future__ import annotations

import bisect
import contextlib
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from udp_kit import PATIENCE

from netns_fixtures import Host, Lab, LinkCondition, MissingCapability
from netns_fixtures.doctor import capabilities
from netns_fixtures.link_engine import NETEM_FEATURES

#: Datagrams in one go: far fewer than any buffer on the way holds.
CHUNK = 50
#: Between two of them: what has not arrived by then is lost, or arrives later.
_LULL = 0.004
_SILENCE = 0.1
_END = 0xFFFF_FFFF
#: <asm-generic/socket.h>. A busy machine reads late: what has arrived must not be lost here.
_SO_RCVBUFFORCE, _ROOM = 33, 4 << 20


def needs_netem() -> None:
    """Skip where the kernel has none. Labs do without, so a strict run does not insist on it as on other features."""
    try:
        capabilities().require(*NETEM_FEATURES)
    except MissingCapability as error:
        pytest.skip(f"{error} (the wire, which is tested, does its work)")


@dataclass
class Pair:
    """Two hosts of a lab behind one router, with a socket each; the laptop's link is the one under test."""

    lab: Lab
    laptop: Host
    server: Host
    here: socket.socket
    there: socket.socket
    ip: str

    def send(self, count: int, size: int = 100, first: int = 0) -> None:
        """Numbered datagrams of the laptop to the server, at once."""
        for number in range(first, first + count):
            self.here.sendto(number.to_bytes(4, "big") + bytes(size - 4), (self.ip, 7000))

    def receive(self, within: float) -> int | None:
        """The next number that the server gets; None after this much silence."""
        self.there.settimeout(within)
        try:
            return int.from_bytes(self.there.recv(2000)[:4], "big")
        except TimeoutError:
            return None

    def survivors(self, count: int, size: int = 100, lull: float = _LULL) -> list[int]:
        """What arrives of so many datagrams, in the order of arrival. The link is clear afterwards."""
        got: list[int] = []
        for first in range(0, count, CHUNK):
            self.send(min(CHUNK, count - first), size, first)
            while (number := self.receive(lull)) is not None:
                got.append(number)
        return got + self.arrivals() + self.rest()

    def arrivals(self) -> list[int]:
        """What arrives until nothing has for a while: who changes the link earlier changes the fate of these, too."""
        got = []
        while (number := self.receive(_SILENCE)) is not None:
            got.append(number)
        return got

    def rest(self) -> list[int]:
        """Clear the link, and what arrives before the first datagram that was sent after it."""
        self.laptop.link.condition(None)
        return self.wait_through()

    def wait_through(self) -> list[int]:
        """What arrives before a datagram that is sent now; the link loses none."""
        got = []
        self.send(1, first=_END)
        while (number := self.receive(PATIENCE)) != _END:
            assert number is not None, "the link does not carry"
            got.append(number)
        return got

    def trip(self) -> float:
        """Seconds until a datagram is at the server."""
        began = time.perf_counter()
        self.send(1)
        assert self.receive(PATIENCE) == 0
        return time.perf_counter() - began


@contextlib.contextmanager
def pair(engine: str, family: int = 4, condition: LinkCondition | None = None) -> Iterator[Pair]:
    """Both hosts have found each other already when the condition begins. Skips without netem, if that is asked for."""
    if engine == "netem":
        needs_netem()
    with Lab(seed=4, link_engine=engine) as lab:
        router = lab.router("home")
        laptop, server = lab.host("laptop", uplink=router), lab.host("server", uplink=router)
        lab.build()
        ip = (server.ip if family == 4 else server.ip6) or ""
        kind = socket.AF_INET if family == 4 else socket.AF_INET6
        with laptop.socket(kind, socket.SOCK_DGRAM) as here, server.socket(kind, socket.SOCK_DGRAM) as there:
            for sock in (here, there):
                with contextlib.suppress(
                    PermissionError
                ):  # rootless labs have the system's, which is enough mostly
                    sock.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _ROOM)
            there.bind(("", 7000))
            found = Pair(lab, laptop, server, here, there, ip)
            found.rest()
            if condition is not None:
                laptop.link.condition(condition, direction="egress")
            yield found


def runs(numbers: list[int], count: int) -> list[int]:
    """The lengths of the gaps in what arrived of ``count``."""
    found, there = [0], set(numbers)
    for number in range(count):
        if number not in there:
            found[-1] += 1
        elif found[-1]:
            found.append(0)
    return [length for length in found if length]


def out_of_order(numbers: list[int]) -> int:
    """How many would have to move for all to be in order."""
    tails: list[int] = []
    for number in numbers:
        place = bisect.bisect_right(tails, number)
        tails[place : place + 1] = [number]
    return len(numbers) - len(tails)
