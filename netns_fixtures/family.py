"""Which versions of IP a router's LAN or a host speaks."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from netns_fixtures.errors import TopologyError

if TYPE_CHECKING:
    from netns_fixtures.ipv6_nat import Ipv6Nat


class Family(enum.StrEnum):
    """IPv4 alone, both, or IPv6 alone."""

    V4 = "v4"
    DUAL = "dual"
    V6 = "v6"

    @classmethod
    def parse(cls, text: str) -> Family:
        """The family of that name. Raises TopologyError naming all."""
        try:
            return cls(text)
        except ValueError:
            raise TopologyError(f"family={text!r}: it is one of {', '.join(cls)}") from None

    def speaks(self, version: int) -> bool:
        """Whether it has addresses of IP version 4 or 6."""
        return self is Family.DUAL or self is (Family.V6 if version == 6 else Family.V4)

    def __and__(self, other: Family) -> Family | None:
        """What both speak; None where that is nothing."""
        if self is other or other is Family.DUAL:
            return self
        return other if self is Family.DUAL else None


def asked_family(family: str | None, ipv6: bool) -> Family | None:
    """What a router was asked for; None is "what its uplink offers". ``ipv6=False`` is ``family="v4"``.

    Raises TopologyError where the two contradict each other.
    """
    if family is None:
        return None if ipv6 else Family.V4
    asked = Family.parse(family)
    if not ipv6 and asked is not Family.V4:
        raise TopologyError(f"family={family!r} and ipv6=False contradict each other; leave one out")
    return asked


@dataclass(frozen=True, slots=True, kw_only=True)
class IpSettings:
    """What a router was asked for beyond plain dual stack; None as ``family`` is "what its uplink offers"."""

    family: Family | None = None
    nat64: bool = False
    ula: bool | Literal["only"] = False
    ipv6_nat: Ipv6Nat | None = None

    @property
    def of_carrier(self) -> IpSettings:
        """What the carrier's router in front of this one must offer."""
        return IpSettings(family=Family.DUAL if self.nat64 else self.family)
