"""What this machine can do: the line in the header, and the check of ``requires_netns``.

The doctor tries each feature, which takes most of a second. So a run probes when a test asks, or when it was
told anything about labs; what was found is remembered in pytest's cache for the headers of later runs.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pytest_iroh.missing import give_up
from pytest_iroh.options import settings_of

if TYPE_CHECKING:
    from netns_fixtures import Capabilities

MARKER = "requires_netns"
_CACHE = "netns/capabilities"
#: Features that the header always names; of the others, only those that are missing.
_NAMED = ("nft", "netem", "tun")


def probe(config: pytest.Config) -> Capabilities:
    """The doctor's findings; each feature is tried once per process."""
    from netns_fixtures import doctor

    found = doctor.capabilities()
    cache = getattr(config, "cache", None)
    if cache is not None:
        cache.set(_CACHE, {"machine": _machine(), "line": describe(found)})
    return found


def describe(found: Capabilities) -> str:
    """The findings in half a line."""
    if not found.ok:
        reasons = [f"{each.detail or each.what}; {each.remedy}" for each in found.missing if each.needed]
        return f"no labs here: {', '.join(reasons)}"
    words = [found.mode]
    words += [f"{name} {'yes' if found.has(name) else 'no'}" for name in _NAMED]
    if not found.has("netem"):
        words[words.index("netem no")] += (
            f" ({'userspace wire' if found.has('wire') else 'no impaired links'})"
        )
    words += [f"{each.name} no" for each in found.missing if each.name not in _NAMED]
    return ", ".join(words)


def header(config: pytest.Config) -> str:
    """The line of the header: kernel, rights, features, and where artifacts go."""
    settings = settings_of(config)
    cache = getattr(config, "cache", None)
    known = cache.get(_CACHE, None) if cache is not None else None
    if known and known.get("machine") == _machine():
        features = known["line"]
    elif settings.told:
        features = describe(probe(config))
    else:
        features = _at_a_glance()
    kept = "no artifacts"
    if settings.artifacts != "off":
        kept = f"artifacts {settings.artifacts} in {os.path.relpath(settings.output)}"
    engine = f"; links by {settings.link_engine}" if settings.link_engine else ""
    only = "; topology only, no test body runs" if settings.topology_only else ""
    return f"netns: Linux {os.uname().release}, {features}; {kept}{engine}{only}"


def check_engine(config: pytest.Config) -> None:
    """Raises UsageError, with feature and remedy, where the run asks for a link engine that this kernel lacks."""
    settings = settings_of(config)
    if settings.link_engine != "netem":
        return
    from netns_fixtures.errors import MissingCapability
    from netns_fixtures.link_engine import NETEM_FEATURES

    try:
        probe(config).require(*NETEM_FEATURES)
    except MissingCapability as error:
        raise pytest.UsageError(f"--netns-link-engine {settings.link_engine}: {error}") from None


def check(item: pytest.Item) -> None:
    """Give a test up that is marked to require what this machine lacks.

    Raises UsageError for a feature that nobody knows.
    """
    markers = list(item.iter_markers(MARKER))
    if not markers:
        return
    found = probe(item.config)
    for feature in found.missing:
        if feature.needed:
            give_up(item, f"{feature.what} ({feature.detail})", feature.remedy)
    features = {feature.name: feature for feature in found.features}
    for name in [name for marker in markers for name in marker.args]:
        if name not in features:
            known = ", ".join(sorted(features))
            raise pytest.UsageError(f"{item.nodeid}: {MARKER}({name!r}): the features are {known}")
        feature = features[name]
        if not feature.ok:
            give_up(item, f"{name} ({feature.detail or feature.what})", feature.remedy)


def _at_a_glance() -> str:
    """What can be said without trying."""
    mode = "root" if os.geteuid() == 0 else "not root"
    return f"{mode}, nft {'yes' if shutil.which('nft') else 'no'} (for more: netns-lab doctor)"


def _machine() -> list[str]:
    """What the findings depend on: this boot of this kernel, these rights, these programs."""
    boot = Path("/proc/sys/kernel/random/boot_id")
    return [
        os.uname().release,
        boot.read_text().strip() if boot.exists() else "",
        str(os.geteuid()),
        shutil.which("nft") or "",
    ]
