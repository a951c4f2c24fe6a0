"""The evidence that shows most: packets, the page, and what the kernel of each node says.

Nothing here is imported before a test has a lab: this module is loaded in every pytest run.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_iroh.endpoint_collector import KEY_LOG, EndpointCollector
from pytest_iroh.evidence import Collector, Evidence, register, slug

if TYPE_CHECKING:
    from netns_fixtures.recording import Recording
    from pytest_iroh.page import TopologyLog

#: Nodes whose kernel is asked, hosts first.
MAX_NODES = 60


class PacketCollector(Collector):
    """``packets/<node>-<interface>.pcapng`` for every interface of every lab, with the lab's events as comments."""

    name = "packets"

    def begin(self, evidence: Evidence) -> None:
        evidence.kept[self.name] = []

    def lab_made(self, evidence: Evidence, lab: Any) -> None:
        if not _has_namespaces(lab):
            return
        from netns_fixtures.recording import record

        evidence.kept[self.name].append(record(lab))

    def save(self, evidence: Evidence, directory: Path) -> None:
        recordings: list[Recording] = evidence.kept[self.name]
        if not recordings:
            return
        from pytest_iroh.packets.notes import annotate

        forget = _know_keys(evidence)
        try:
            for recording in recordings:
                place = _place(directory / "packets", recording.lab, len(recordings))
                recording.save_each(place, annotate=annotate, key_log=evidence.kept.get(KEY_LOG, ""))
                _complain(evidence, recording)
        finally:
            forget()

    def end(self, evidence: Evidence) -> None:
        for recording in evidence.kept.pop(self.name, ()):
            recording.abandon()


class PageCollector(Collector):
    """``report.html``: topology, swim lanes, payload gaps and every entry, for a browser."""

    name = "the page"

    def begin(self, evidence: Evidence) -> None:
        evidence.kept[self.name] = []

    def lab_made(self, evidence: Evidence, lab: Any) -> None:
        if not _has_namespaces(lab):
            return
        from pytest_iroh.page.topology import TopologyLog

        evidence.kept[self.name].append(TopologyLog(lab))

    def save(self, evidence: Evidence, directory: Path) -> None:
        from pytest_iroh.page import Payload, Result, render

        recorder = evidence.recorder
        logs: list[TopologyLog] = evidence.kept[self.name]
        payloads = [Payload("payload", beats.byte_times(), beats.given_up) for beats in recorder.pulses]
        result = Result(
            evidence.nodeid,
            evidence.outcome,
            evidence.reason,
            evidence.duration,
            _again(evidence, recorder.labs),
            evidence.headline,
            sorted(str(path.relative_to(directory)) for path in directory.rglob("*") if path.is_file()),
        )
        page = render(recorder.entries, logs, result, payloads, recorder.labs)
        (directory / "report.html").write_text(page, encoding="utf-8")

    def end(self, evidence: Evidence) -> None:
        for log in evidence.kept.pop(self.name, ()):
            log.close()


class KernelCollector(Collector):
    """``kernel/<node>.txt``: addresses, routes, rules, neighbours, sockets, nftables and tracked connections."""

    name = "the state of the kernel"

    def save(self, evidence: Evidence, directory: Path) -> None:
        labs = [lab for lab in evidence.recorder.labs if _has_namespaces(lab) and lab.mode and not lab.closed]
        if not labs:
            return
        from netns_fixtures.inspection import inspect

        for lab in labs:
            nodes = [*lab.hosts.values(), *lab.routers.values()]
            if len(nodes) > MAX_NODES:
                evidence.troubles.append(f"the kernel was asked in {MAX_NODES} of {len(nodes)} nodes")
            place = _place(directory / "kernel", lab, len(labs))
            place.mkdir(parents=True, exist_ok=True)
            for name, text in inspect(nodes[:MAX_NODES]).items():
                (place / f"{slug(name)}.txt").write_text(text)


def _has_namespaces(lab: Any) -> bool:
    """Whether it is a lab of namespaces, whose module then is loaded already."""
    module = sys.modules.get("netns_fixtures.lab")
    return module is not None and isinstance(lab, module.Lab)


def _place(directory: Path, lab: Any, labs: int) -> Path:
    """One lab needs no directory of its own."""
    return directory if labs == 1 else directory / f"{slug(lab.name)}-{lab.number}"


def _know_keys(evidence: Evidence) -> Callable[[], None]:
    """Open the disco packets of the test's own endpoints; returns what forgets their keys."""
    from pytest_iroh.packets.keyring import register_keys

    return register_keys(*(endpoint.secret_key for endpoint in evidence.recorder.endpoints))


def _complain(evidence: Evidence, recording: Recording) -> None:
    if recording.trouble:
        evidence.troubles.append(recording.trouble)
    if recording.missed:
        evidence.troubles.append(f"{recording.missed} packets of lab {recording.lab.name} were not kept")


def _again(evidence: Evidence, labs: list[Any]) -> str:
    """The command that runs the test again, with the seed where there is one."""
    seeds = {lab.seed for lab in labs if _has_namespaces(lab)}
    seed = f" --netns-seed {seeds.pop()}" if len(seeds) == 1 else ""
    return f"pytest {shlex.quote(evidence.nodeid)}{seed}"


register(EndpointCollector())
register(PacketCollector())
# Asking takes longest, and its processes must not be in the packets.
register(KernelCollector())
# Last: it links to the files of the others.
register(PageCollector())
