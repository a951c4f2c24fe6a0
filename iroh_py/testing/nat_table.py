"""The mapping and filtering rules of one NAT (RFC 4787), as plain data: ``now`` comes in, decisions come out.

Mapping decides which outside port a flow gets, filtering which strangers may use it. Pinholes belong to a
mapping, as in Linux: with endpoint-dependent mapping the port that a STUN server saw lets nobody else in.
"""

from __future__ import annotations

import enum
import random
from dataclasses import dataclass, field

from iroh_py.network import Addr
from iroh_py.testing.errors import TopologyError

#: Mappings of one NAT; the oldest go first. A port number can name no more.
_MAPPINGS = 64_000

#: Remote addresses remembered per mapping: far more than the birthday probes of one hole punch.
_PINHOLES = 4_096

#: Ports that a NAT gives out when it does not keep the inside port: above the well-known ones.
_FIRST_PORT, _LAST_PORT = 1024, 65_535


class Mapping(enum.Enum):
    """RFC 4787 section 4.1: what a new outside port depends on, besides the inside address and port."""

    EIM = "endpoint-independent"
    ADM = "address-dependent"
    EDM = "address-and-port-dependent"


class Filtering(enum.Enum):
    """RFC 4787 section 5: who may send to a mapping."""

    EIF = "endpoint-independent"
    ADF = "address-dependent"
    APDF = "address-and-port-dependent"


class Ports(enum.Enum):
    """RFC 4787 section 4.2: which outside port is chosen. ``PRESERVE``: the inside port while it is free."""

    PRESERVE = "preserve"
    RANDOM = "random"
    SEQUENTIAL = "sequential"


@dataclass(frozen=True, slots=True, kw_only=True)
class NatConfig:
    """How one NAT behaves.

    ``timeout`` is the idle life of a mapping and of a pinhole, both directions refreshing it as in Linux (RFC
    4787 REQ-5 asks for 2 minutes or more); ``lifetime`` an absolute life that nothing refreshes, as some
    carrier-grade NATs have it; both in seconds. ``translates=False`` is a plain router.
    """

    mapping: Mapping = Mapping.EIM
    filtering: Filtering = Filtering.APDF
    ports: Ports = Ports.PRESERVE
    timeout: float = 120.0
    lifetime: float | None = None
    hairpin: bool = False
    translates: bool = True


#: The kinds by the names that the lab uses too.
KINDS: dict[str, NatConfig] = {
    "none": NatConfig(filtering=Filtering.EIF, translates=False),
    "open": NatConfig(filtering=Filtering.EIF),
    "moderate": NatConfig(),
    "strict": NatConfig(mapping=Mapping.EDM, ports=Ports.RANDOM),
    # A carrier-grade NAT as RFC 6888 asks for it: endpoint-independent in both respects, ports shared out.
    "cgnat": NatConfig(filtering=Filtering.EIF, ports=Ports.RANDOM),
}


def nat_kind(kind: str | NatConfig) -> NatConfig:
    """The rules of a named kind. Raises TopologyError for a name that does not exist."""
    if isinstance(kind, NatConfig):
        return kind
    if kind not in KINDS:
        raise TopologyError(f"no NAT kind {kind!r}; there are {', '.join(KINDS)}")
    return KINDS[kind]


@dataclass(slots=True)
class _Entry:
    inner: Addr
    port: int
    created: float
    used: float
    pinholes: dict[object, float] = field(default_factory=dict)


class NatTable:
    """The mappings of one NAT at one outside address."""

    def __init__(self, config: NatConfig, rng: random.Random) -> None:
        self.config = config
        self._rng = rng
        self._by_key: dict[tuple[Addr, object], _Entry] = {}
        self._by_port: dict[int, tuple[tuple[Addr, object], _Entry]] = {}
        self._next_port = _FIRST_PORT
        #: After a rebind the NAT no longer keeps ports and does not hand out the old ones again.
        self._moved = False
        self._retired: frozenset[int] = frozenset()

    def __len__(self) -> int:
        return len(self._by_key)

    def outbound(self, now: float, inner: Addr, dst: Addr) -> int:
        """The outside port for a packet from ``inner`` to ``dst``: of its mapping, or of a new one."""
        key = (inner, self._mapping_part(dst))
        entry = self._by_key.get(key)
        if entry is not None and not self._alive(now, entry):
            self._drop(key)
            entry = None
        if entry is None:
            entry = self._create(now, key)
        entry.used = now
        entry.pinholes.pop(pin := self._filter_part(dst), None)
        entry.pinholes[pin] = now
        if len(entry.pinholes) > _PINHOLES:
            del entry.pinholes[next(iter(entry.pinholes))]
        return entry.port

    def inbound(self, now: float, port: int, src: Addr) -> Addr | str:
        """The inside address that a packet from ``src`` to an outside port goes to, or why to none."""
        known = self._by_port.get(port)
        if known is None:
            return "nat-no-mapping"
        refusal = self._refusal(now, known[0], known[1], src)
        return refusal or known[1].inner

    def admit(self, now: float, inner: Addr, src: Addr) -> str | None:
        """For a firewall that does not translate: None, or in a word why a packet to ``inner`` is dropped."""
        key = (inner, None)
        entry = self._by_key.get(key)
        return "firewalled" if entry is None else self._refusal(now, key, entry, src)

    def flush(self) -> None:
        """Forget every mapping. Where the NAT keeps ports, the next packet gets the same one again."""
        self._by_key.clear()
        self._by_port.clear()

    def rebind(self) -> None:
        """Forget every mapping and give other ports from now on, as if another device had taken over."""
        self._retired = frozenset(self._by_port)
        self._moved = True
        self.flush()

    def age(self, seconds: float) -> None:
        """Make every mapping and pinhole older, as if that time had passed without a packet."""
        for entry in self._by_key.values():
            entry.created -= seconds
            entry.used -= seconds
            entry.pinholes = {pin: opened - seconds for pin, opened in entry.pinholes.items()}

    def _refusal(self, now: float, key: tuple[Addr, object], entry: _Entry, src: Addr) -> str | None:
        if not self._alive(now, entry):
            self._drop(key)
            return "nat-expired"
        pin = self._filter_part(src)
        opened = entry.pinholes.get(pin)
        if self.config.filtering is not Filtering.EIF:
            if opened is None or now - opened > self.config.timeout:
                return "nat-filtered"
            entry.pinholes[pin] = now
        entry.used = now
        return None

    def _mapping_part(self, dst: Addr) -> object:
        if self.config.mapping is Mapping.EIM:
            return None
        return dst[0] if self.config.mapping is Mapping.ADM else dst

    def _filter_part(self, remote: Addr) -> object:
        if self.config.filtering is Filtering.EIF:
            return None
        return remote[0] if self.config.filtering is Filtering.ADF else remote

    def _alive(self, now: float, entry: _Entry) -> bool:
        config = self.config
        if now - entry.used > config.timeout:
            return False
        return config.lifetime is None or now - entry.created <= config.lifetime

    def _create(self, now: float, key: tuple[Addr, object]) -> _Entry:
        if len(self._by_key) >= _MAPPINGS:
            self._drop(next(iter(self._by_key)))
        entry = _Entry(key[0], self._free_port(now, key[0][1]), now, now)
        self._by_key[key] = entry
        self._by_port[entry.port] = (key, entry)
        return entry

    def _free_port(self, now: float, wanted: int) -> int:
        ports = self.config.ports
        if ports is Ports.PRESERVE and not self._moved and self._is_free(now, wanted):
            return wanted
        while True:
            if ports is Ports.SEQUENTIAL:
                port = self._next_port
                self._next_port = _FIRST_PORT if port == _LAST_PORT else port + 1
            else:
                port = self._rng.randint(_FIRST_PORT, _LAST_PORT)
            # The inside port is left out too: after a rebind the mapping shall be seen to have changed.
            if port != wanted and port not in self._retired and self._is_free(now, port):
                return port

    def _is_free(self, now: float, port: int) -> bool:
        known = self._by_port.get(port)
        if known is not None and not self._alive(now, known[1]):
            self._drop(known[0])
            return True
        return known is None

    def _drop(self, key: tuple[Addr, object]) -> None:
        entry = self._by_key.pop(key)
        del self._by_port[entry.port]
