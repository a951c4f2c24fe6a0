"""What a router has mapped. Pure: the time comes in."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import chain

#: Where a port is looked for when neither the wanted nor the inside one is free: below are services.
_FIRST_PORT = 1024
_LAST_PORT = 65535


@dataclass(frozen=True, slots=True)
class Mapping:
    """One outside port, and where it leads. ``lifetime`` seconds as granted, 0 for ever; ``expires`` on the clock.

    ``by`` is the protocol that made it; only the same ``nonce`` (PCP) may change it.
    """

    transport: str
    external_port: int
    internal_ip: str
    internal_port: int
    lifetime: int
    by: str
    expires: float | None = None
    nonce: bytes = b""
    description: str = ""

    @property
    def is_pinhole(self) -> bool:
        """Whether it translates nothing, and only lets in: so it is in IPv6."""
        return ":" in self.internal_ip

    @property
    def outside(self) -> tuple[str, str, int]:
        """Its key: transport, outside address ("" is the router's) and port."""
        return self.transport, self.internal_ip if self.is_pinhole else "", self.external_port

    @property
    def inside(self) -> tuple[str, str, int]:
        """Transport, inside address and port."""
        return self.transport, self.internal_ip, self.internal_port


class MappingTable:
    """All mappings of a router, by outside port."""

    def __init__(self) -> None:
        self._outside: dict[tuple[str, str, int], Mapping] = {}

    def __len__(self) -> int:
        return len(self._outside)

    def __iter__(self) -> Iterator[Mapping]:
        return iter(tuple(self._outside.values()))

    def at(self, transport: str, external_port: int) -> Mapping | None:
        """The mapping of an outside port of the router."""
        return self._outside.get((transport, "", external_port))

    def of(self, transport: str, ip: str, port: int) -> Mapping | None:
        """The mapping of an inside address and port."""
        return next((m for m in self._outside.values() if m.inside == (transport, ip, port)), None)

    def put(self, mapping: Mapping) -> None:
        """Add or replace one."""
        self._outside[mapping.outside] = mapping

    def remove(self, mapping: Mapping) -> None:
        """Forget one."""
        self._outside.pop(mapping.outside, None)

    def clear(self) -> None:
        """Forget all."""
        self._outside.clear()

    def free_port(self, wanted: Iterable[int], is_free: Callable[[int], bool]) -> int | None:
        """The first free one of ``wanted`` (0 is none), else the next free one; None when all are taken."""
        for port in chain(wanted, range(_FIRST_PORT, _LAST_PORT + 1)):
            if port and is_free(port):
                return port
        return None

    def expire(self, now: float) -> list[Mapping]:
        """Forget what has ended; returns it."""
        gone = [m for m in self._outside.values() if m.expires is not None and m.expires <= now]
        for mapping in gone:
            self.remove(mapping)
        return gone

    @property
    def next_expiry(self) -> float | None:
        """When the next mapping ends."""
        ends: list[float] = [m.expires for m in self._outside.values() if m.expires is not None]
        return min(ends) if ends else None


def renewed(mapping: Mapping, lifetime: int, expires: float | None) -> Mapping:
    """The same mapping with a new end."""
    return replace(mapping, lifetime=lifetime, expires=expires)
