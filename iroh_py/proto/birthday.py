"""Port prediction by the birthday method: a way through one NAT that gives every destination another port.

Theory of operation
-------------------
A *strict* NAT (endpoint-dependent mapping, RFC 4787 section 4.1) shows each destination another port, so the address
that its STUN server sees is of no use to a peer. But a host behind it can have many mappings towards one peer: it
opens 256 sockets and sends a ping from each. The peer, whose own NAT keeps one port for all destinations, sends pings
to random ports of the strict NAT's address. With 256 of 64512 ports open for it each ping has a chance of 1 in 252;
2048 pings fail all together in 3 of 10000 cases (the birthday paradox; method: Tailscale, "How NAT traversal works").
What gets through is an ordinary ping to an ordinary path, and ``NodeState`` proves and adopts it.

Nothing is agreed on the wire. Each side waits until plain hole punching had its chance, and then plays the part that
its own mapping tells; not knowing it (one STUN server cannot tell), it plays both. Both keep the same times, so that
attempts overlap. Two strict NATs cannot be joined this way: after the first attempt that is told, and further attempts
follow ever more rarely.

One ``Birthday`` is the machine for one peer. It is told the time, and says what to do; it sends nothing.
"""

from __future__ import annotations

import ipaddress
import random
from typing import NamedTuple

from iroh_py.network import Addr, Family

#: Sockets of one attempt, each a mapping of the strict NAT: 256 of 64512 ports, see above.
SOCKETS = 256
#: Pings to random ports of one attempt.
MAX_PROBES = 2048
#: Addresses of the peer that the sockets' pings go to: what STUN saw, and a port mapping or a forwarded port.
MAX_TARGETS = 2
#: Datagrams of one step, and seconds between steps: 500 per second, 62 kB/s, which any uplink carries.
PER_STEP, STEP = 10, 0.02
#: Ports that NATs give out.
FIRST_PORT, LAST_PORT = 1024, 65535
#: What plain hole punching gets first, in seconds from the peer's offer: its dense rounds of pings last as long.
PATIENCE = 1.0
#: Seconds of an attempt: 2048 + 512 pings take 5.1, the rest allows for a peer that begins later. Linux forgets a
#: mapping without an answer after 30.
ATTEMPT = 10.0
#: Seconds between attempts that brought nothing; the last one repeats.
PAUSES = (5.0, 30.0, 60.0, 300.0)
#: A peer that tells other addresses gets another attempt soon, but so often at once, and then one in that many seconds:
#: else it could make us flood an address of its choice.
RESTARTS, RESTART_REFILL = 3.0, 60.0
#: How often a running attempt that has sent everything looks whether it is over, in seconds.
LOOK_INTERVAL = 0.25

#: Where no public address lies: private (RFC 1918), shared by carriers (RFC 6598), loopback, link-local, multicast and
#: reserved. Unlike ``ipaddress.is_global`` the documentation and benchmark networks count as public: labs live there.
_NOT_PUBLIC = tuple(
    ipaddress.ip_network(text)
    for text in (
        "0.0.0.0/8",
        "10.0.0.0/8",
        "100.64.0.0/10",
        "127.0.0.0/8",
        "169.254.0.0/16",
        "172.16.0.0/12",
        "192.168.0.0/16",
        "224.0.0.0/3",
    )
)


class OpenSockets(NamedTuple):
    """Open so many new sockets, and send a ping from each to each of these addresses."""

    sockets: int
    to: tuple[Addr, ...]


class ProbePorts(NamedTuple):
    """Send a ping from the main socket to each of these ports."""

    ip: str
    ports: tuple[int, ...]


class CloseSockets(NamedTuple):
    """The attempt is over: close the sockets that nothing came through."""


class GaveUp(NamedTuple):
    """There is no direct path, for the reason that is given; attempts become rare."""

    why: str


BirthdayAction = OpenSockets | ProbePorts | CloseSockets | GaveUp


def public_v4(addresses: tuple[Addr, ...]) -> tuple[Addr, ...]:
    """The IPv4 addresses among these that may be a NAT's outside."""
    return tuple(
        addr
        for addr in addresses
        if Family.of(addr[0]) is Family.V4
        and not any(ipaddress.IPv4Address(addr[0]) in network for network in _NOT_PUBLIC)
    )


class Attempt:
    """One attempt: what is still to be opened and sent. ``varies``: whether our mapping does; None if unknown."""

    __slots__ = ("_left", "_ports", "_targets", "ends", "varies")

    def __init__(
        self, now: float, targets: tuple[Addr, ...], varies: bool | None, rng: random.Random
    ) -> None:
        self.varies = varies
        self.ends = now + ATTEMPT
        self._targets = targets
        self._left = 0 if varies is False else SOCKETS
        self._ports = [] if varies else rng.sample(range(FIRST_PORT, LAST_PORT + 1), MAX_PROBES)

    def step(self) -> list[BirthdayAction]:
        """The next few datagrams; sockets before probes, since those of the peer need them."""
        if self._left:
            count = min(self._left, PER_STEP // len(self._targets))
            self._left -= count
            return [OpenSockets(count, self._targets)]
        if self._ports:
            ports, self._ports = tuple(self._ports[:PER_STEP]), self._ports[PER_STEP:]
            return [ProbePorts(self._targets[0][0], ports)]
        return []

    @property
    def sending(self) -> bool:
        """Whether something is left to send."""
        return bool(self._left or self._ports)

    def failure(self) -> str:
        """Why an attempt without success is one, as far as we can know."""
        ip = self._targets[0][0]
        if self.varies:
            return (
                f"our NAT maps by destination and nothing came through from {ip}: its NAT seems to, as well"
            )
        if self.varies is False:
            return f"no answer to pings to {MAX_PROBES} ports of {ip}"
        return f"nothing came through {SOCKETS} sockets, and no answer to pings to {MAX_PROBES} ports of {ip}"


class Birthday:
    """When to try port prediction with one peer, and what to do then. Times are seconds on the endpoint's clock."""

    __slots__ = ("_attempt", "_failures", "_not_before", "_offered", "_refilled", "_restarts", "_rng", "due")

    def __init__(self, now: float, rng: random.Random) -> None:
        self.due: float | None = None
        self._rng = rng
        self._offered: tuple[Addr, ...] = ()
        self._attempt: Attempt | None = None
        self._failures = 0
        self._not_before = now
        self._restarts = RESTARTS
        self._refilled = now

    @property
    def running(self) -> bool:
        """Whether an attempt is going on."""
        return self._attempt is not None

    def handle_offer(self, now: float, addresses: tuple[Addr, ...]) -> None:
        """The peer told where it may be reached, and plain hole punching begins."""
        offered = public_v4(addresses)[:MAX_TARGETS]
        if not offered:
            return
        if offered != self._offered:
            known, self._offered = self._offered, offered
            if known and not self.running and self._may_restart(now):
                self._begin_anew(now)
        if self.due is None:
            self.due = max(now + PATIENCE, self._not_before)

    def handle_network_change(self, now: float) -> None:
        """Our own network is another one, perhaps behind another NAT: failures before say nothing about it."""
        self._attempt = None
        if self._offered:
            self._begin_anew(now)

    def stop(self, now: float) -> None:
        """There is a direct path, or none is wanted any more."""
        if self.running:
            self._not_before = now + PAUSES[0]
        self._attempt = None
        self._failures = 0
        self.due = None

    def postpone(self, until: float) -> None:
        """Not yet: look again then."""
        self.due = until

    def handle_timeout(self, now: float, *, varies: bool | None) -> list[BirthdayAction]:
        """Begin an attempt, go on with it, or end it."""
        if self.due is None or now < self.due:
            return []
        if self._attempt is None:
            self._attempt = Attempt(now, self._offered, varies, self._rng)
        attempt = self._attempt
        if now >= attempt.ends:
            return self._fail(now, attempt)
        actions = attempt.step()
        self.due = now + STEP if attempt.sending else min(now + LOOK_INTERVAL, attempt.ends)
        return actions

    def _fail(self, now: float, attempt: Attempt) -> list[BirthdayAction]:
        self._attempt = None
        pause = PAUSES[min(self._failures, len(PAUSES) - 1)]
        self._failures += 1
        self.due = self._not_before = now + pause
        return [CloseSockets(), GaveUp(attempt.failure())] if self._failures == 1 else [CloseSockets()]

    def _begin_anew(self, now: float) -> None:
        self._failures = 0
        # A network that comes and goes, too, makes no more attempts than this.
        self._not_before = min(self._not_before, now + PAUSES[0])
        self.due = max(now + PATIENCE, self._not_before)

    def _may_restart(self, now: float) -> bool:
        self._restarts = min(RESTARTS, self._restarts + (now - self._refilled) / RESTART_REFILL)
        self._refilled = now
        if self._restarts < 1:
            return False
        self._restarts -= 1
        return True
