"""``netns-lab``: the lab's command line. ``netns-lab COMMAND --help`` has all options; docs/scenarios.md the rest."""

from __future__ import annotations

from netns_fixtures.cli.main import main

__all__ = ["main"]
