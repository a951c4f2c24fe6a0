"""What this machine can do: the line in the header, and the check of ``requires_netns``."""

from __future__ import annotations

import os
import shutil
from typing import Any

import pytest

from pytest_iroh.missing import give_up
from pytest_iroh.options import settings_of

MARKER = "requires_netns"


def probe() -> Any:
    """The doctor's findings; each probe is made once per process."""
    from netns_fixtures import doctor

    return doctor.capabilities()


def header(config: pytest.Config) -> str:
    """The line about this machine. What it says is known without probing, which costs time that few runs want."""
    settings = settings_of(config)
    mode = "root" if os.geteuid() == 0 else "userns"
    parts = [f"Linux {os.uname().release}", mode]
    parts += [f"{name} {'yes' if found else 'no'}" for name, found in (("nft", shutil.which("nft")),)]
    kept = "" if settings.artifacts == "off" else f", artifacts in {os.path.relpath(settings.output)}"
    return f"netns: {', '.join(parts)}{kept}"


def check(item: pytest.Item) -> None:
    """Give a test up that is marked to require what this machine lacks."""
    wanted = [feature for marker in item.iter_markers(MARKER) for feature in marker.args]
    if not wanted:
        return
