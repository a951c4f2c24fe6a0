"""``--evidence DIRECTORY``: what a run leaves behind for later eyes."""

from __future__ import annotations

import json
from pathlib import Path

from netns_fixtures.inspection import inspect
from netns_fixtures.lab import Lab
from netns_fixtures.recording import record
from netns_fixtures.scenario import Scenario


class EvidenceFiles:
    """Records packets from now on; ``save`` writes all files.

    ``packets/<node>-<interface>.pcapng``, ``kernel/<node>.txt``, ``logs/<node>.log``, ``timeline.jsonl``, and
    ``repro.yaml`` with the verbs as they were done.
    """

    def __init__(self, lab: Lab, directory: Path) -> None:
        self._lab = lab
        self._directory = directory
        directory.mkdir(parents=True, exist_ok=True)
        self._packets = record(lab, directory / "packets")

    def save(self, scenario: Scenario) -> None:
        """Write everything; the lab still stands. Raises OSError."""
        self._packets.stop()
        nodes = [*self._lab.hosts.values(), *self._lab.routers.values()]
        if self._lab.mode:
            for name, text in inspect(nodes).items():
                self._write(f"kernel/{name}.txt", text)
        for node in nodes:
            if node.log:
                self._write(f"logs/{node.name}.log", node.log)
        events = self._lab.events
        lines = [
            {"time": e.time, "kind": e.kind, "node": e.node, "text": e.text, "data": e.data} for e in events
        ]
        self._write("timeline.jsonl", "".join(json.dumps(line, default=str) + "\n" for line in lines))
        done = Scenario.of(self._lab)
        self._write("repro.yaml", str(done.with_test(**{**scenario.test, **done.test})))

    def _write(self, name: str, text: str) -> None:
        path = self._directory / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
