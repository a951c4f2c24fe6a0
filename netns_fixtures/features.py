"""What a machine can or cannot do, as data."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from netns_fixtures.errors import MissingCapability


@dataclass(frozen=True, slots=True)
class Feature:
    """One thing that was tried. Without a ``needed`` one no lab runs; ``remedy`` is what helps."""

    name: str
    ok: bool
    what: str
    detail: str = ""
    remedy: str = ""
    needed: bool = False


@dataclass(frozen=True, slots=True)
class Capabilities:
    """All features, and how the agent got its rights ("root", "userns", "" where it could not)."""

    mode: str
    kernel: str
    features: tuple[Feature, ...]

    @property
    def ok(self) -> bool:
        """Whether labs run here: hosts, routers, NATs, impaired links."""
        return bool(self.mode) and not any(feature.needed and not feature.ok for feature in self.features)

    @property
    def missing(self) -> tuple[Feature, ...]:
        """What is not there."""
        return tuple(feature for feature in self.features if not feature.ok)

    def has(self, name: str) -> bool:
        """Whether a feature is there; an unknown name, or one that could not be tried, is not."""
        return any(feature.name == name and feature.ok for feature in self.features)

    def require(self, *names: str) -> None:
        """Raise MissingCapability, with the remedy, for the first that is not there."""
        for name in names:
            if self.has(name):
                continue
            # Where the agent could not start, its reason stands for all.
            feature = next((f for f in self.features if f.name == name), None) or next(
                iter(self.missing), None
            )
            if feature is None:
                raise MissingCapability(f"{name} is no feature that the doctor knows", "")
            raise MissingCapability(f"{feature.what}: {feature.detail}", feature.remedy)

    def line(self) -> str:
        """One line for a report header: "root, netem no (wire), nft yes, ..."."""
        said = [f"{feature.name} {'yes' if feature.ok else 'no'}" for feature in self.features]
        return ", ".join([self.mode or "no lab here", *said])

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {"ok": self.ok, **asdict(self)}
