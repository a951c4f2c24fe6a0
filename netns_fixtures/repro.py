"""Repro files: a scenario with what is needed to judge whether it is still the same elsewhere."""

from __future__ import annotations

import platform
from importlib import metadata
from typing import Any

from netns_fixtures.scenario import Scenario


def versions() -> dict[str, str]:
    """What a run depends on besides its file."""
    return {
        "iroh-py": _version("iroh-py"),
        "python": platform.python_version(),
        "kernel": platform.release(),
    }


def doubts(scenario: Scenario) -> list[str]:
    """Why a repro file may not show the same again here, as sentences."""
    told: dict[str, Any] = dict(scenario.test.get("versions", {}))
    here = versions()
    sentences = [
        f"recorded with {name} {then}, here it is {here[name]}"
        for name, then in told.items()
        if name in here and str(then) != here[name]
    ]
    return [*sentences, *(f"not in the file: {gap}" for gap in scenario.test.get("gaps", ()))]


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "unknown"  # run from a source tree that was never installed
