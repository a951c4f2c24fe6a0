"""Scenario files: a network, programs and a timeline in YAML or TOML; documented in docs/scenarios.md.

What a file may say about nodes and verbs is what the public API takes: names, parameters and types are read
off the signatures (``netns_fixtures.verbs``), so a new parameter of ``lab.router()`` is a new key here.
"""

from __future__ import annotations

from netns_fixtures.scenario.model import Action, Command, Node, Repeated
from netns_fixtures.scenario.scenario import Scenario, load_scenario

__all__ = ["Action", "Command", "Node", "Repeated", "Scenario", "load_scenario"]
