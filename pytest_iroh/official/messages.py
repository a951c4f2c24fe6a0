"""What an official peer answers: addresses, paths, echoes, and the log of a ticker."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from itertools import pairwise
from typing import Any, Literal, Protocol

from iroh_py import NodeAddr


class AddressLike(Protocol):
    """Anything that says where a node is: OfficialAddr, ``iroh_py.NodeAddr``, or your own."""

    @property
    def node_id(self) -> object:
        """The node id; ``str()`` of it is 64 hex digits."""

    @property
    def relay_url(self) -> object | None:
        """The home relay, or None."""

    @property
    def direct_addresses(self) -> Iterable[object]:
        """Addresses as ``ip:port`` text, as ``(ip, port)``, or as objects whose ``str()`` is such text."""


@dataclasses.dataclass(slots=True, frozen=True)
class OfficialAddr:
    """Where a node is: id in hex, relay URL or None, addresses as ``ip:port`` (v6 in brackets)."""

    node_id: str
    relay_url: str | None = None
    direct_addresses: tuple[str, ...] = ()

    def node_addr(self) -> NodeAddr:
        """Return the same as an ``iroh_py.NodeAddr``, for ``Endpoint.connect``."""
        return NodeAddr.from_json(
            {**dataclasses.asdict(self), "direct_addresses": list(self.direct_addresses)}
        )


@dataclasses.dataclass(slots=True, frozen=True)
class PathNow:
    """The path that a peer uses now, as far as its version can tell; ``rtt`` in seconds.

    "mixed" (0.x) means a direct address that is tried beside the relay, not yet proven.
    """

    kind: Literal["direct", "relay", "mixed", "none"]
    address: str | None
    relay_url: str | None
    rtt: float | None


@dataclasses.dataclass(slots=True, frozen=True)
class Echo:
    """One echo: ``ok`` if every byte came back, byte counts, and ``elapsed`` seconds in all."""

    ok: bool
    sent: int
    received: int
    elapsed: float
    sha256: str = ""


@dataclasses.dataclass(slots=True, frozen=True)
class Stats:
    """What the echo server of a peer has seen; ``received`` in bytes."""

    connections: int
    bi_streams: int
    uni_streams: int
    datagrams: int
    received: int


@dataclasses.dataclass(slots=True, frozen=True)
class TickerLog:
    """A ticker's story in ``time.monotonic()`` seconds.

    ``sent[n]`` is when message n was sent, ``echoes`` pairs a message number with when its echo came, ``at``
    is when the log was taken, ``error`` why it ended early.
    """

    sent: tuple[float, ...]
    echoes: tuple[tuple[int, float], ...]
    at: float
    error: str | None

    @property
    def in_order(self) -> bool:
        """Whether the echoes are exactly 0, 1, 2, ...: none lost, doubled or swapped."""
        return all(number == index for index, (number, _) in enumerate(self.echoes))

    @property
    def unanswered(self) -> int:
        """How many messages have no echo yet."""
        return len(self.sent) - len(self.echoes)

    def gaps(self, longer_than: float = 0.1) -> tuple[tuple[float, float], ...]:
        """Return the silences longer than so many seconds as (begin, end), the one up to ``at`` included."""
        times = [*self.sent[:1], *(at for _, at in self.echoes), self.at]
        return tuple((begin, end) for begin, end in pairwise(times) if end - begin > longer_than)

    def healed_at(self, event: float) -> float | None:
        """Return when the first message sent at or after ``event`` came back, or None: it has not."""
        return min((at for number, at in self.echoes if self.sent[number] >= event), default=None)


def address_arguments(address: AddressLike) -> dict[str, Any]:
    """Return an address in the form in which the runner takes it."""
    return {
        "node_id": str(address.node_id),
        "relay_url": None if address.relay_url is None else str(address.relay_url),
        "direct_addresses": [_socket_address(one) for one in address.direct_addresses],
    }


def _socket_address(value: object) -> str:
    if isinstance(value, tuple):
        ip, port = str(value[0]), value[1]
        return f"[{ip}]:{port}" if ":" in ip else f"{ip}:{port}"
    return str(value)
