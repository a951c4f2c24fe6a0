"""What a router says, and how a host listens, as plain data."""

from __future__ import annotations

import hashlib
import ipaddress
from dataclasses import dataclass
from typing import Literal, TypedDict

from netns_fixtures.addressing import NAME_SERVER_V6
from netns_fixtures.errors import TopologyError

#: RFC 4861 section 6.2.1 (AdvDefaultLifetime, AdvPreferredLifetime, AdvValidLifetime), in seconds.
ROUTER_LIFETIME = 1800.0
PREFERRED_LIFETIME = 604_800.0
VALID_LIFETIME = 2_592_000.0
#: MaxRtrAdvInterval. Changes are sent at once and solicitations are answered, so few labs live to see one.
INTERVAL = 600.0
#: Below, the agent would do little else; RFC 6275 section 7.5 allows mobile networks 0.03 to 0.07.
MIN_INTERVAL = 0.03
#: Lifetimes are 32 bits of seconds with all ones for ever, that of a router is 16 bits.
MAX_LIFETIME = 0xFFFF_FFFF
MAX_ROUTER_LIFETIME = 0xFFFF
MIN_MTU = 1280

Preference = Literal["low", "medium", "high"]
Dad = Literal["none", "optimistic", "real"]


class RaFields(TypedDict, total=False):
    """The fields of :class:`Ra`, for calls that change some of them."""

    interval: float
    router_lifetime: float
    preferred_lifetime: float
    valid_lifetime: float
    mtu: int | None
    rdnss: tuple[str, ...]
    preference: Preference


@dataclass(frozen=True, slots=True, kw_only=True)
class Ra:
    """What a router advertises besides its prefixes; lifetimes in seconds.

    interval: between unsolicited advertisements.
    router_lifetime: for how long hosts use it as default router; 0: not at all.
    preferred_lifetime, valid_lifetime: of the addresses that hosts make.
    mtu: what hosts use on this link, or None to say nothing.
    rdnss: addresses of recursive DNS servers (RFC 8106); the lab's own unless said otherwise.
    preference: among several routers (RFC 4191).

    Raises TopologyError for a value that cannot be said.
    """

    interval: float = INTERVAL
    router_lifetime: float = ROUTER_LIFETIME
    preferred_lifetime: float = PREFERRED_LIFETIME
    valid_lifetime: float = VALID_LIFETIME
    mtu: int | None = None
    rdnss: tuple[str, ...] = (NAME_SERVER_V6,)
    preference: Preference = "medium"

    def __post_init__(self) -> None:
        _check(self.interval >= MIN_INTERVAL, f"interval={self.interval!r}: {MIN_INTERVAL:g} s or more")
        _check(
            0 <= self.router_lifetime <= MAX_ROUTER_LIFETIME,
            f"router_lifetime={self.router_lifetime!r}: 0 to {MAX_ROUTER_LIFETIME} s",
        )
        _check(
            0 <= self.preferred_lifetime <= self.valid_lifetime <= MAX_LIFETIME,
            f"preferred_lifetime={self.preferred_lifetime!r}: at most valid_lifetime={self.valid_lifetime!r}",
        )
        _check(self.mtu is None or MIN_MTU <= self.mtu <= 65535, f"mtu={self.mtu!r}: {MIN_MTU} or more")
        _check(
            self.preference in ("low", "medium", "high"), f"preference={self.preference!r}: low, medium, high"
        )
        for server in self.rdnss:
            _check(_is_v6(server), f"rdnss: {server!r} is no IPv6 address")


@dataclass(frozen=True, slots=True, kw_only=True)
class Slaac:
    """How a host configures itself.

    privacy: besides the stable address a temporary one that is preferred for what it sends (RFC 8981).
    temporary_lifetime: seconds for which a temporary address is preferred; then comes the next.
    stable: the stable address shows nothing of the hardware (RFC 7217); else it is made of the MAC (EUI-64).
    dad: duplicate address detection: "none", "optimistic" (RFC 4429: usable at once), or "real" (1 s).

    Raises TopologyError for a value that cannot be.
    """

    privacy: bool = False
    temporary_lifetime: float = 86_400.0
    stable: bool = True
    dad: Dad = "none"

    def __post_init__(self) -> None:
        # Linux makes the next one regen_min_advance + 3 s before the end, and none that lives shorter.
        _check(self.temporary_lifetime >= 10, f"temporary_lifetime={self.temporary_lifetime!r}: 10 s or more")
        _check(self.dad in ("none", "optimistic", "real"), f"dad={self.dad!r}: none, optimistic, real")

    def sysctls(self, secret: str) -> tuple[tuple[str, str], ...]:
        """Settings of a node whose interfaces listen; ``secret`` (an IPv6 address) makes stable addresses."""
        lifetime = round(self.temporary_lifetime)
        settings = {
            "accept_ra": "1",
            "router_solicitations": "-1",  # for as long as nobody answers (RFC 7559)
            "router_solicitation_delay": "0",  # up to 1 s else, against crowds that a lab does not have
            "router_solicitation_interval": "1",
            "use_tempaddr": "2" if self.privacy else "0",
            "temp_prefered_lft": str(lifetime),
            "temp_valid_lft": str(7 * lifetime),  # as RFC 8981: a week for a day
            "max_desync_factor": "0",
            "accept_dad": "0" if self.dad == "none" else "1",
            "optimistic_dad": "1" if self.dad == "optimistic" else "0",
            "use_optimistic": "1" if self.dad == "optimistic" else "0",
        }
        if self.stable:
            settings["stable_secret"] = secret
        return tuple((f"net/ipv6/conf/default/{name}", value) for name, value in settings.items())


def secret_of(name: str) -> str:
    """What stable addresses of a host are made with: the same name, the same addresses, in every lab."""
    return str(ipaddress.IPv6Address(hashlib.sha256(name.encode()).digest()[:16]))


def _check(right: bool, said: str) -> None:
    if not right:
        raise TopologyError(said)


def _is_v6(text: str) -> bool:
    try:
        return ipaddress.ip_address(text).version == 6
    except ValueError:
        return False
