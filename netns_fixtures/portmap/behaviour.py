"""How a router's port mapping service answers, as data."""

from __future__ import annotations

import enum
import ipaddress
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, get_type_hints

from netns_fixtures.errors import TopologyError
from netns_fixtures.portmap import natpmp, pcp
from netns_fixtures.portmap.soap import Fault

PROTOCOLS = ("pcp", "nat-pmp", "upnp")
#: RFC 6887 section 15 recommends 2 minutes to 24 hours; tests must see mappings end sooner.
LIFETIMES = (1.0, 86_400.0)
#: What a home router keeps; a client that asks for more is told so.
MAX_MAPPINGS = 512


class Failure(enum.StrEnum):
    """Why a request is refused, in words; each protocol has its own number for it."""

    NOT_AUTHORIZED = "not_authorized"
    NETWORK_FAILURE = "network_failure"
    OUT_OF_RESOURCES = "out_of_resources"
    CONFLICT = "conflict"
    SILENCE = "silence"
    """No answer at all."""

    @property
    def pcp(self) -> pcp.Result:
        """The result code of PCP."""
        return _CODES[self][0]

    @property
    def nat_pmp(self) -> natpmp.Result:
        """The result code of NAT-PMP, which has no word for a conflict."""
        return _CODES[self][1]

    @property
    def upnp(self) -> Fault:
        """The error code of UPnP."""
        return _CODES[self][2]


_FAILED = pcp.Result.NETWORK_FAILURE, natpmp.Result.NETWORK_FAILURE, Fault.ActionFailed
_CODES = {
    Failure.NOT_AUTHORIZED: (
        pcp.Result.NOT_AUTHORIZED,
        natpmp.Result.NOT_AUTHORIZED,
        Fault.ActionNotAuthorized,
    ),
    Failure.NETWORK_FAILURE: _FAILED,
    Failure.OUT_OF_RESOURCES: (
        pcp.Result.NO_RESOURCES,
        natpmp.Result.OUT_OF_RESOURCES,
        Fault.NoPortMapsAvailable,
    ),
    Failure.CONFLICT: (
        pcp.Result.CANNOT_PROVIDE_EXTERNAL,
        natpmp.Result.OUT_OF_RESOURCES,
        Fault.ConflictInMappingEntry,
    ),
    Failure.SILENCE: _FAILED,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class PortMappingBehaviour:
    """What a router speaks and grants; the default is a router that does it right.

    protocols: of "pcp", "nat-pmp", "upnp".
    lifetimes: seconds, least and most; what is asked for is brought into this range.
    lifetime: seconds that are granted whatever was asked for; None grants what was asked for.
    forget_after: seconds after which a mapping is really gone, whatever was granted; None keeps the promise.
    max_mappings: the next one is refused.
    refuse: a Failure with which every request for a mapping is refused; None grants.
    external_ip: what it says its outside address is; None tells the truth.
    permanent_only: UPnP leases must be 0 (error 725), as old routers want it.
    keep_ports: where no outside port is asked for it is the inside one, if free; False gives another.
    third_party: PCP clients may ask for other hosts (RFC 6887 section 13.1).

    Raises TopologyError for a value that makes no sense.
    """

    protocols: tuple[str, ...] = PROTOCOLS
    lifetimes: tuple[float, float] = LIFETIMES
    lifetime: float | None = None
    forget_after: float | None = None
    max_mappings: int = MAX_MAPPINGS
    refuse: Failure | None = None
    external_ip: str | None = None
    permanent_only: bool = False
    keep_ports: bool = True
    third_party: bool = False

    def __post_init__(self) -> None:
        low, high = self.lifetimes
        _check(0 < low <= high < 2**32, f"lifetimes={self.lifetimes!r}: it is (least, most) in seconds")
        for name in ("lifetime", "forget_after"):
            value = getattr(self, name)
            _check(value is None or 0 < value < 2**32, f"{name}={value!r}: it is seconds above 0, or None")
        _check(0 <= self.max_mappings <= 65535, f"max_mappings={self.max_mappings!r}: it is 0 to 65535")
        if self.external_ip is not None:
            try:
                ipaddress.IPv4Address(self.external_ip)
            except ValueError:
                raise TopologyError(f"external_ip={self.external_ip!r}: it is an IPv4 address") from None

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON; :meth:`of` is the way back."""
        return asdict(self)

    @classmethod
    def of(cls, fields: dict[str, Any]) -> PortMappingBehaviour:
        """From plain values, as a caller writes them. Raises TopologyError."""
        unknown = sorted(set(fields) - set(get_type_hints(cls)))
        if unknown:
            known = ", ".join(get_type_hints(cls))
            raise TopologyError(f"a port mapping service has no {unknown[0]!r}; it has {known}")
        values = dict(fields)
        if "protocols" in values:
            values["protocols"] = protocols_of(values["protocols"])
        if values.get("refuse") is not None:
            values["refuse"] = failure_of(values["refuse"])
        if "lifetimes" in values:
            values["lifetimes"] = tuple(values["lifetimes"])
        return cls(**values)


def protocols_of(names: str | Iterable[str]) -> tuple[str, ...]:
    """Names of protocols; "all" is all three. Raises TopologyError."""
    wanted = (names,) if isinstance(names, str) else tuple(names)
    if wanted in ((), ("all",)):
        return PROTOCOLS
    for name in wanted:
        if name not in PROTOCOLS:
            raise TopologyError(f"port mapping {name!r}: it is one of {', '.join(PROTOCOLS)}, or 'all'")
    return tuple(name for name in PROTOCOLS if name in wanted)


def failure_of(name: str) -> Failure:
    """A failure by its word. Raises TopologyError."""
    try:
        return Failure(name)
    except ValueError:
        raise TopologyError(f"{name!r} is no failure; it is one of {', '.join(Failure)}") from None


def _check(right: bool, sentence: str) -> None:
    if not right:
        raise TopologyError(sentence)
