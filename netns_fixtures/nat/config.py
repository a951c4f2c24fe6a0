"""What a NAT does, in the words of RFC 4787: one frozen description, checked when it is made.

Field names are those of the simulator's ``NatConfig`` too, so that a test can say the same to both.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Any, TypeVar

from netns_fixtures.errors import TopologyError

#: Where no timeout is given, a mapping outlives its last use by this; RFC 4787 REQ-5 recommends 5 minutes.
MAPPING_TIMEOUT = 300.0
#: nftables counts in milliseconds, and a packet needs some of them to pass a lab.
MIN_TIMEOUT = 0.05
#: Beyond a week nothing expires in any test, and the kernel's clocks stay far from their limits.
MAX_TIMEOUT = 7 * 86400.0


class NatMapping(enum.StrEnum):
    """RFC 4787 section 4.1: what a new outside port depends on, besides the inside address and port."""

    EIM = "eim"
    """Endpoint-independent: one outside port for all destinations."""
    ADM = "adm"
    """Address-dependent: another one for each destination address."""
    APDM = "apdm"
    """Address-and-port-dependent ("symmetric", "endpoint-dependent"): another one for each destination port."""


class NatFiltering(enum.StrEnum):
    """RFC 4787 section 5: who may send to a mapping."""

    EIF = "eif"
    """Endpoint-independent: everybody."""
    ADF = "adf"
    """Address-dependent: every port of an address that was sent to."""
    APDF = "apdf"
    """Address-and-port-dependent: exactly what was sent to."""


class NatPorts(enum.StrEnum):
    """RFC 4787 section 4.2: how the outside port of a new mapping is chosen."""

    PRESERVE = "preserve"
    """The inside port while no other mapping has it, else a random one."""
    SEQUENTIAL = "sequential"
    """The next one of a counter, whoever asks."""
    RANDOM = "random"
    """A random one."""
    OVERLOAD = "overload"
    """The inside port always, also for several clients at once, while their destinations differ."""


#: Other names that the field uses.
_ALIASES = {
    "endpoint-independent": "ei",
    "address-dependent": "ad",
    "address-and-port-dependent": "apd",
    "endpoint-dependent": "apd",
    "edm": "apdm",
    "edf": "apdf",
    "preserving": "preserve",
    "overloaded": "overload",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class NatConfig:
    """How one NAT behaves. Fields take the enum or its value; the default is a common home router.

    ``timeout``: seconds that a UDP mapping and its pinholes live after the last packet that refreshes them:
    each one from inside (RFC 4787 REQ-6), and with ``refresh_inbound`` each one let in from outside, too.
    None is the kernel's own way: a mapping lives 300 s after its last new flow, a pinhole 30 s, and 120 s once
    it was answered. ``lifetime``: seconds after which a UDP mapping ends although it is in use; None: never.
    ``tcp_timeout``: whole seconds that an idle TCP connection is remembered; None: 5 days. ``hairpin``: inside
    hosts reach each other by outside addresses, and are seen with theirs (REQ-9; UDP). ``translates=False`` is
    a plain router. Raises TopologyError for what cannot be, or cannot be combined.
    """

    mapping: NatMapping | str = NatMapping.EIM
    filtering: NatFiltering | str = NatFiltering.APDF
    ports: NatPorts | str = NatPorts.PRESERVE
    hairpin: bool = False
    timeout: float | None = None
    refresh_inbound: bool = True
    lifetime: float | None = None
    tcp_timeout: float | None = None
    translates: bool = True

    def __post_init__(self) -> None:
        for name, kind in (("mapping", NatMapping), ("filtering", NatFiltering), ("ports", NatPorts)):
            object.__setattr__(self, name, _choice(kind, name, getattr(self, name)))
        for name in ("timeout", "lifetime", "tcp_timeout"):
            _check_seconds(name, getattr(self, name))
        if self.tcp_timeout is not None and self.tcp_timeout != int(self.tcp_timeout):
            raise TopologyError(f"tcp_timeout={self.tcp_timeout!r}: the kernel counts it in whole seconds")
        if not self.translates:
            self._check_plain()
        if self.ports == NatPorts.OVERLOAD:
            self._check_overload()

    @property
    def filters(self) -> bool:
        """Whether unsolicited packets from outside are dropped."""
        return self.translates and self.filtering != NatFiltering.EIF

    @property
    def exact(self) -> bool:
        """Whether mappings and pinholes are kept in tables of their own (``nat/exact.py``), not conntrack's."""
        if not self.translates or self.ports == NatPorts.OVERLOAD:
            return False
        timed = self.timeout is not None or self.lifetime is not None or not self.refresh_inbound
        return timed or self.hairpin or (self.mapping, self.filtering, self.ports) not in _CONNTRACKS_OWN

    @property
    def idle(self) -> float:
        """Seconds without packets after which a UDP mapping ends."""
        return min(self.timeout or MAPPING_TIMEOUT, self.lifetime or MAX_TIMEOUT)

    @property
    def aging(self) -> bool:
        """Whether mappings end by age and by idleness, by two clocks; else by the one that is shorter."""
        return self.lifetime is not None and self.idle < self.lifetime

    @property
    def label(self) -> str:
        """One line for pictures and events: ``eim+apdf preserve``."""
        if not self.translates:
            return "none"
        parts = [f"{self.mapping}+{self.filtering}", str(self.ports)]
        parts += ["hairpin"] if self.hairpin else []
        for name, seconds in (
            ("timeout", self.timeout),
            ("lifetime", self.lifetime),
            ("tcp", self.tcp_timeout),
        ):
            parts += [f"{name} {seconds:g} s"] if seconds is not None else []
        return " ".join(parts)

    def _check_plain(self) -> None:
        fields = (self.mapping, self.ports, self.timeout, self.lifetime, self.tcp_timeout)
        if (
            fields != (NatMapping.EIM, NatPorts.PRESERVE, None, None, None)
            or self.hairpin
            or not self.refresh_inbound
        ):
            raise TopologyError("a router with translates=False has no mappings: leave their fields out")

    def _check_overload(self) -> None:
        """One outside port for several clients: only the remote end tells whose packet it is."""
        why = (
            "ports='overload': several clients share a port, so only an exact remote end can say whose it is"
        )
        if self.mapping != NatMapping.EIM or self.filtering != NatFiltering.APDF or self.hairpin:
            raise TopologyError(f"{why}; use mapping='eim', filtering='apdf', hairpin=False")
        if self.lifetime is not None or not self.refresh_inbound:
            raise TopologyError(f"{why}; such flows have no lifetime, and both directions refresh them")
        if self.timeout is not None and self.timeout != int(self.timeout):
            raise TopologyError(f"timeout={self.timeout!r} with ports='overload': use whole seconds")


#: What the kernel's connection tracking does with few rules, and without being told about each mapping.
_CONNTRACKS_OWN = {
    (NatMapping.EIM, NatFiltering.EIF, NatPorts.PRESERVE),
    (NatMapping.EIM, NatFiltering.APDF, NatPorts.PRESERVE),
    (NatMapping.APDM, NatFiltering.APDF, NatPorts.RANDOM),
}

E = TypeVar("E", bound=enum.StrEnum)


def _choice(kind: type[E], name: str, value: Any) -> E:
    text = str(value).lower()
    text = _ALIASES.get(text, text)
    if text in ("ei", "ad", "apd"):
        text += {"mapping": "m", "filtering": "f"}.get(name, "")
    try:
        return kind(text)
    except ValueError:
        raise TopologyError(f"{name}={value!r}: it is one of {', '.join(kind)}") from None


def _check_seconds(name: str, value: float | None) -> None:
    if value is not None and not MIN_TIMEOUT <= value <= MAX_TIMEOUT:
        raise TopologyError(f"{name}={value!r}: seconds, from {MIN_TIMEOUT:g} to {MAX_TIMEOUT:g}")
