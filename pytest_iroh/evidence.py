"""What a failed test leaves behind: one directory per attempt, filled by collectors.

A collector is an object with the methods of :class:`Collector`; ``register`` adds one. Whatever records while
the test runs (packets, qlog) starts in ``begin`` or ``lab_made``; ``save`` is called while the labs still
stand.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pytest_iroh.options import Settings
from pytest_iroh.timeline import Recorder

#: Characters of a directory's name; beyond that a hash tells tests apart. File systems allow 255 bytes.
MAX_SLUG = 120


class Collector:
    """Gathers one sort of evidence. Every method may do nothing."""

    #: What a report calls it.
    name = "evidence"

    def begin(self, evidence: Evidence) -> None:
        """A test begins."""

    def lab_made(self, evidence: Evidence, lab: Any) -> None:
        """A lab is on the timeline from now on; nothing of it may be built yet."""

    def save(self, evidence: Evidence, directory: Path) -> None:
        """Write files into the attempt's directory; the labs still stand, unless the tear-down failed."""

    def end(self, evidence: Evidence) -> None:
        """The test is over; let go of what is not saved."""


_collectors: list[Collector] = []


def register(collector: Collector) -> Callable[[], None]:
    """Add a collector to all tests from now on; returns what takes it away again."""
    _collectors.append(collector)

    def unregister() -> None:
        _collectors.remove(collector)

    return unregister


class Evidence:
    """The evidence of one attempt."""

    def __init__(self, nodeid: str, settings: Settings, recorder: Recorder) -> None:
        self.nodeid = nodeid
        self.settings = settings
        self.recorder = recorder
        self.directory: Path | None = None
        #: How the test ended so far, why, and the seconds that it took.
        self.outcome = ""
        self.reason = ""
        #: The failure in one line.
        self.headline = ""
        self.duration: float | None = None
        #: What could not be saved, as sentences.
        self.troubles: list[str] = []
        #: For collectors: whatever they keep while the test runs, by their name.
        self.kept: dict[str, Any] = {}
        self._collectors = () if settings.artifacts == "off" else tuple(_collectors)
        for collector in self._collectors:
            self._call(collector.name, collector.begin, self)
        recorder.on_lab(self._lab_made)

    @property
    def empty(self) -> bool:
        """Whether nothing was recorded: a test that has no network, which leaves nothing behind."""
        return not self.recorder.labs and not self.recorder.entries

    def wanted(self, failed: bool) -> bool:
        """Whether the policy wants this attempt's evidence."""
        policy = self.settings.artifacts
        return not self.empty and (policy == "on" or (policy == "retain-on-failure" and failed))

    def save(self) -> Path | None:
        """Write everything into a directory of this attempt's own; None where that is impossible."""
        try:
            if self.directory is None:
                self.directory = new_directory(self.settings.output, self.nodeid)
        except OSError as error:
            self.troubles.append(f"no directory for artifacts: {error}")
            return None
        for collector in self._collectors:
            self._call(collector.name, collector.save, self, self.directory)
        return self.directory

    def end(self) -> None:
        """Let the collectors go."""
        for collector in self._collectors:
            self._call(collector.name, collector.end, self)

    def _lab_made(self, lab: Any) -> None:
        for collector in self._collectors:
            self._call(collector.name, collector.lab_made, self, lab)

    def _call(self, name: str, step: Callable[..., None], *args: Any) -> None:
        try:
            step(*args)
        except Exception as error:
            # Evidence must never change a test's result; its absence is reported beside the result.
            self.troubles.append(f"{name} could not be saved: {type(error).__name__}: {error}")


def slug(nodeid: str) -> str:
    """A directory name for a test: its node id in letters, digits, dashes and dots."""
    words = re.sub(r"[^\w.]+", "-", nodeid.replace(".py::", "-")).strip("-.")
    if len(words) <= MAX_SLUG:
        return words or "test"
    tail = hashlib.sha256(nodeid.encode()).hexdigest()[:8]
    return f"{words[: MAX_SLUG - len(tail) - 1]}-{tail}"


def new_directory(output: Path, nodeid: str) -> Path:
    """A new directory ``<slug>/attempt-<number>``: nothing is ever overwritten. Raises OSError."""
    for number in itertools.count(1):
        directory = output / slug(nodeid) / f"attempt-{number}"
        try:
            directory.mkdir(parents=True)
        except FileExistsError:
            continue  # of an earlier run, or of another worker
        return directory
    raise AssertionError("there is always a next number")


class TimelineCollector(Collector):
    """The merged timeline: ``timeline.jsonl`` for programs, ``story.txt`` for people."""

    name = "the timeline"

    def save(self, evidence: Evidence, directory: Path) -> None:
        entries = evidence.recorder.entries
        with (directory / "timeline.jsonl").open("w") as file:
            for entry in entries:
                line = {
                    "time": entry.time,
                    "part": entry.part,
                    "who": entry.who,
                    "text": entry.text,
                    "data": entry.data,
                }
                file.write(json.dumps(line, default=str) + "\n")
        zero = entries[0].time if entries else 0.0
        lines = [evidence.nodeid, *(describe_lab(lab) for lab in evidence.recorder.labs)]
        lines += [entry.line(zero) for entry in entries]
        (directory / "story.txt").write_text("\n".join(lines) + "\n")


class HostLogCollector(Collector):
    """What the processes in each host and router wrote: ``<lab>-<node>.log``."""

    name = "the log of a host"

    def save(self, evidence: Evidence, directory: Path) -> None:
        for lab in evidence.recorder.labs:
            nodes = {**getattr(lab, "routers", {}), **getattr(lab, "hosts", {})}
            for name, node in nodes.items():
                log = getattr(node, "log", "")
                if log:
                    path = directory / "logs" / f"{slug(f'{lab.name}-{name}')}.log"
                    path.parent.mkdir(exist_ok=True)
                    path.write_text(str(log))


def describe_lab(lab: Any) -> str:
    """A lab in half a line: its name, link engine and seed."""
    engine = getattr(lab, "link_engine", "")
    return (
        f'lab "{getattr(lab, "name", "")}"' + (f", {engine} engine" if engine else "") + f", seed {lab.seed}"
    )


register(TimelineCollector())
register(HostLogCollector())
