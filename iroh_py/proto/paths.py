"""Paths to a node, what is known of each, and which of two is better.

A path is either a UDP address together with the interface to leave by, or a relay. The interface is part of the
path since a machine with two uplinks has two paths to one address, and the kernel's own choice may be the dead one.
"""

from __future__ import annotations

from typing import NamedTuple

from iroh_py.addr import RelayUrl, format_addr
from iroh_py.network import Addr


class UdpPath(NamedTuple):
    """A remote address, and the index of the interface to leave by (0: the system's routing decides).

    Below 0, ``via`` is the number of an extra socket of port prediction.
    """

    addr: Addr
    via: int = 0

    def __str__(self) -> str:
        text = format_addr(self.addr)
        if self.via < 0:
            return f"{text}#{-self.via}"
        return f"{text}%{self.via}" if self.via else text


class RelayPath(NamedTuple):
    """A relay through which the node can be reached."""

    url: RelayUrl

    def __str__(self) -> str:
        return f"relay {self.url}"


Path = UdpPath | RelayPath

#: How long a sign of life vouches for a path (PROTOCOL 3.1, "trust UDP address"), in seconds.
TRUST = 6.5
#: A path not heard from for this long may be forgotten (PROTOCOL 3.1), in seconds.
PRUNE_AFTER = 120.0
#: UDP payload every path carries (RFC 9000 section 14), in bytes.
BASE_MTU = 1200
#: A path on which large packets vanished is not tried with large ones for this long (quinn: 60 s), in seconds.
MTU_COOLDOWN = 60.0
#: And one that did not answer a large ping at most this often, in seconds.
MTU_PROBE_INTERVAL = 1.0
#: Bytes we may send to an unproven address, as a multiple of what came from there (RFC 9000 section 8.1).
AMPLIFICATION = 3
#: Bytes for pings to an address that a peer offered over a relay: hole punching needs us to speak first. Offers are
#: limited in number and rate, so this bounds what a peer can make us send to strangers.
OFFERED_CREDIT = 10 * 124
#: Bytes that an address we were told by a user, a ticket or discovery gets before it has answered: one handshake flight
#: and its repetition. Such an address is not chosen by a stranger, so it is no reflection risk.
TOLD_CREDIT = 8 * BASE_MTU


class PathState:
    """Everything known of one path to one node. All times are seconds on the endpoint's clock."""

    __slots__ = (
        "credit",
        "last_payload",
        "last_ping",
        "last_pong",
        "last_recv",
        "latency",
        "mtu",
        "mtu_failed_at",
        "mtu_probed_at",
        "path",
        "pings_lost",
        "proven",
        "since",
        "told",
        "withheld",
    )

    def __init__(self, path: Path, now: float, *, told: bool = False) -> None:
        self.path = path
        self.since = now
        #: The address came from a user, a ticket or discovery, not from the network.
        self.told = told
        #: A pong came back over it, and no doubt arose since.
        self.proven = False
        self.latency: float | None = None
        self.last_ping: float | None = None
        self.last_pong: float | None = None
        self.last_recv: float | None = None
        self.last_payload: float | None = None
        self.pings_lost = 0
        #: Bytes that may still be sent there while it is unproven.
        self.credit = TOLD_CREDIT if told else 0
        #: Bytes of the last datagram that the credit did not cover, 0 if it covered all.
        self.withheld = 0
        self.mtu = BASE_MTU
        self.mtu_probed_at: float | None = None
        self.mtu_failed_at: float | None = None

    @property
    def is_udp(self) -> bool:
        """Whether this is a direct path."""
        return type(self.path) is UdpPath

    def last_alive(self) -> float | None:
        """When the last sign of life came over this path."""
        times = [t for t in (self.last_recv, self.last_pong) if t is not None]
        return max(times, default=None)

    def trusted(self, now: float) -> bool:
        """Whether it is proven and was heard from lately."""
        alive = self.last_alive()
        return self.proven and alive is not None and now - alive < TRUST

    def quiet_for(self, now: float) -> float:
        """Seconds since the last sign of life (since it is known, if there was none)."""
        alive = self.last_alive()
        return now - (self.since if alive is None else alive)

    def handle_received(self, now: float, size: int) -> None:
        """Account for authenticated bytes that arrived over this path."""
        self.last_recv = now
        if not self.proven:
            self.credit += AMPLIFICATION * size

    def allows(self, size: int) -> bool:
        """Whether so many bytes may be sent here now; an unproven path pays from its credit.

        Pings count as well as payload: else one packet with a forged source would be answered by a hundred.
        """
        if self.proven:
            return True
        if self.credit < size:
            return False
        self.credit -= size
        return True

    def pays(self, datagrams: list[bytes]) -> list[bytes]:
        """The first of these datagrams that may be sent here now; the rest counts as withheld."""
        self.withheld = 0
        for index, data in enumerate(datagrams):
            if not self.allows(len(data)):
                self.withheld = len(data)
                return datagrams[:index]
        return datagrams

    def charge(self, size: int) -> None:
        """Account for bytes that are sent whether or not the credit covers them (an answer)."""
        if not self.proven:
            self.credit -= size

    def handle_pong(self, now: float, latency: float) -> None:
        """A ping of ours was answered: the path works both ways."""
        self.proven = True
        self.last_pong = now
        self.pings_lost = 0
        # The newest sample counts most: after a move the old latency says nothing (PROTOCOL 14, trap 22).
        self.latency = latency if self.latency is None else 0.25 * self.latency + 0.75 * latency

    def forget_mtu(self) -> None:
        """The way there is another one, which may carry less."""
        self.mtu = BASE_MTU
        self.mtu_failed_at = self.mtu_probed_at = None

    def handle_mtu_failure(self, now: float) -> None:
        """Large packets vanish on it although small ones arrive."""
        self.mtu = BASE_MTU
        self.mtu_failed_at = now

    def probes_mtu(self, now: float, wanted: int) -> bool:
        """Whether to try now if packets of ``wanted`` bytes get through; remembers that it was tried."""
        cooling = self.mtu_failed_at is not None and now - self.mtu_failed_at < MTU_COOLDOWN
        recent = self.mtu_probed_at is not None and now - self.mtu_probed_at < MTU_PROBE_INTERVAL
        if self.mtu >= wanted or cooling or recent:
            return False
        self.mtu_probed_at = now
        return True


#: A switch between two working paths must gain this much: below it, measuring noise would make paths flap.
SWITCH_GAIN_RATIO = 0.8
SWITCH_GAIN_SECONDS = 0.002


def better_path(candidate: PathState, current: PathState) -> bool:
    """Whether a proven path is worth leaving another proven path for.

    A direct path always beats a relay. Between direct ones the latency decides, with a margin against flapping; IPv6
    needs 10 % less than IPv4's latency to be equal (PROTOCOL 3.4), and the system's own routing is preferred to a
    chosen interface, since the system knows which uplink costs money.
    """
    if candidate.is_udp != current.is_udp:
        return candidate.is_udp
    if candidate.latency is None:
        return False
    if current.latency is None:
        return True
    return _cost(candidate) < _cost(current) * SWITCH_GAIN_RATIO and (
        current.latency - candidate.latency > SWITCH_GAIN_SECONDS
    )


def _cost(state: PathState) -> float:
    """Latency in seconds, weighted by family and by whether the system itself would choose the interface."""
    latency = state.latency or 0.0
    path = state.path
    if isinstance(path, UdpPath):
        if ":" in path.addr[0]:
            latency *= 0.9
        if path.via:
            latency = latency * 1.25 + 0.005
    return latency
