"""What a NAT does, in the words of RFC 4787: one frozen description, checked when it is made.

Field names are those of the simulator's ``NatConfig`` too, so that a test can say the same to both.
"""

from __future__ import annotations

import enum
import ipaddress
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeVar

from netns_fixtures.errors import TopologyError

#: Where no timeout is given, a mapping outlives its last use by this; RFC 4787 REQ-5 recommends 5 minutes.
MAPPING_TIMEOUT = 300.0
#: nftables counts in milliseconds, and a packet needs some of them to pass a lab.
MIN_TIMEOUT = 0.05
#: Beyond a week nothing expires in any test, and the kernel's clocks stay far from their limits.
MAX_TIMEOUT = 7 * 86400.0
#: How long a kernel remembers an idle TCP connection (<net/netfilter/nf_conntrack_tcp.h>): 5 days.
KERNEL_TCP = 432_000
#: RFC 5382 REQ-5: connections that are only partly open, or closing, are remembered for 4 minutes at least.
TCP_TRANSITORY = 240.0
#: Outside addresses of one NAT: each has rules of its own, and a subnet of a lab has some 240.
MAX_ADDRESSES = 16


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


class NatPooling(enum.StrEnum):
    """RFC 4787 section 4.1: which of its outside addresses a NAT gives to a new mapping."""

    PAIRED = "paired"
    """All mappings of an inside host have the same one (REQ-2), the next host's another."""
    ARBITRARY = "arbitrary"
    """The next one of a ring, whoever asks."""


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
    hosts reach each other by outside addresses, and are seen with theirs (REQ-9; UDP, and TCP where that has
    axes). ``translates=False`` is a plain router.

    ``addresses``: how many outside addresses it has, or which (IPv4 ones of the uplink's subnet, the router's own
    first); ``pooling`` says who gets which.

    TCP: without ``tcp_mapping`` and ``tcp_filtering``, connections are the kernel's: one mapping for each, which
    keeps its port where that is free, and none begins outside. With either (the other is then "eim", "apdf") TCP
    has mappings and pinholes as UDP has, by RFC 5382, with the same ``ports``, ``hairpin``, ``refresh_inbound``:
    ``tcp_timeout`` is then also how long they outlive their last packet, ``tcp_transitory`` the same before the
    connection is open, ``tcp_lifetime`` ends them although in use. ``tcp_transitory`` (whole seconds; None: what
    the kernel has, 10 to 120 s; for mappings 240 s) always holds for half-open and closing connections.
    ``tcp_syn``: what a SYN from outside gets that nobody asked for: "drop", or "reject" (a RST).
    Raises TopologyError for what cannot be, or cannot be combined.
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
    addresses: int | tuple[str, ...] = 1
    pooling: NatPooling | str = NatPooling.PAIRED
    tcp_mapping: NatMapping | str | None = None
    tcp_filtering: NatFiltering | str | None = None
    tcp_transitory: float | None = None
    tcp_lifetime: float | None = None
    tcp_syn: Literal["drop", "reject"] = "drop"

    def __post_init__(self) -> None:
        for name, kind in _AXES:
            if getattr(self, name) is not None:
                object.__setattr__(self, name, _choice(kind, name, getattr(self, name)))
        for name in ("timeout", "lifetime", "tcp_timeout", "tcp_transitory", "tcp_lifetime"):
            _check_seconds(name, getattr(self, name))
        for name in ("tcp_timeout", "tcp_transitory"):
            value = getattr(self, name)
            if value is not None and value != int(value):
                raise TopologyError(f"{name}={value!r}: the kernel counts it in whole seconds")
        if self.tcp_syn not in ("drop", "reject"):
            raise TopologyError(f"tcp_syn={self.tcp_syn!r}: it is 'drop' or 'reject'")
        object.__setattr__(self, "addresses", _addresses(self.addresses))
        if self.tcp is None and self.tcp_lifetime is not None:
            raise TopologyError("tcp_lifetime is one of mappings: give tcp_mapping or tcp_filtering, too")
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
        more = timed or self.hairpin or self.tcp is not None or self.pool_size > 1
        return more or (self.mapping, self.filtering, self.ports) not in _CONNTRACKS_OWN

    @property
    def pool_size(self) -> int:
        """How many outside addresses it has."""
        return self.addresses if isinstance(self.addresses, int) else len(self.addresses)

    @property
    def tcp(self) -> NatConfig | None:
        """What it does to TCP, in the fields of UDP; None: mappings are the kernel's, one per connection."""
        if self.tcp_mapping is None and self.tcp_filtering is None:
            return None
        return replace(
            self,
            mapping=self.tcp_mapping or NatMapping.EIM,
            filtering=self.tcp_filtering or NatFiltering.APDF,
            timeout=self.tcp_timeout or KERNEL_TCP,
            lifetime=self.tcp_lifetime,
            tcp_mapping=None,
            tcp_filtering=None,
            tcp_timeout=None,
            tcp_lifetime=None,
        )

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
            ("tcp transitory", self.tcp_transitory),
            ("tcp lifetime", self.tcp_lifetime),
        ):
            parts += [f"{name} {seconds:g} s"] if seconds is not None else []
        parts += [f"tcp {self.tcp.mapping}+{self.tcp.filtering}"] if self.tcp is not None else []
        parts += ["tcp syn reject"] if self.tcp_syn == "reject" else []
        parts += [f"{self.pool_size} addresses {self.pooling}"] if self.pool_size > 1 else []
        return " ".join(parts)

    def _check_plain(self) -> None:
        if replace(self, translates=True, filtering=NatFiltering.APDF) != NatConfig():
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
        if self.tcp is not None or self.pool_size > 1:
            raise TopologyError(f"{why}; leave tcp_mapping, tcp_filtering and addresses out")
        if self.timeout is not None and self.timeout != int(self.timeout):
            raise TopologyError(f"timeout={self.timeout!r} with ports='overload': use whole seconds")


#: What the kernel's connection tracking does with few rules, and without being told about each mapping.
_CONNTRACKS_OWN = {
    (NatMapping.EIM, NatFiltering.EIF, NatPorts.PRESERVE),
    (NatMapping.EIM, NatFiltering.APDF, NatPorts.PRESERVE),
    (NatMapping.APDM, NatFiltering.APDF, NatPorts.RANDOM),
}

#: What each field is one of.
_AXES: tuple[tuple[str, type[enum.StrEnum]], ...] = (
    ("mapping", NatMapping),
    ("filtering", NatFiltering),
    ("ports", NatPorts),
    ("pooling", NatPooling),
    ("tcp_mapping", NatMapping),
    ("tcp_filtering", NatFiltering),
)

E = TypeVar("E", bound=enum.StrEnum)


def _choice(kind: type[E], name: str, value: Any) -> E:
    text = str(value).lower()
    text = _ALIASES.get(text, text)
    if text in ("ei", "ad", "apd"):
        text += {"mapping": "m", "filtering": "f"}.get(name.removeprefix("tcp_"), "")
    try:
        return kind(text)
    except ValueError:
        raise TopologyError(f"{name}={value!r}: it is one of {', '.join(kind)}") from None


def _check_seconds(name: str, value: float | None) -> None:
    if value is not None and not MIN_TIMEOUT <= value <= MAX_TIMEOUT:
        raise TopologyError(f"{name}={value!r}: seconds, from {MIN_TIMEOUT:g} to {MAX_TIMEOUT:g}")


def _addresses(value: Any) -> int | tuple[str, ...]:
    """A number of outside addresses, or these. Raises TopologyError."""
    if isinstance(value, int) and not isinstance(value, bool):
        if not 1 <= value <= MAX_ADDRESSES:
            raise TopologyError(f"addresses={value!r}: 1 to {MAX_ADDRESSES}")
        return value
    try:
        found = tuple(str(ipaddress.IPv4Address(each)) for each in value)
    except (TypeError, ValueError) as error:
        raise TopologyError(f"addresses={value!r}: a number, or IPv4 addresses: {error}") from None
    if not 1 <= len(found) <= MAX_ADDRESSES or len(set(found)) != len(found):
        raise TopologyError(f"addresses={value!r}: 1 to {MAX_ADDRESSES} different ones")
    return found
