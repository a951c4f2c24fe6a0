"""The page out of its parts: data as JSON that cannot break out, one template, no network."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any
from urllib.parse import quote

from pytest_iroh.page.topology import TopologyLog
from pytest_iroh.timeline import Entry, story

#: Seconds without a byte that are drawn as a gap: five messages of a pulse did not come.
GAP = 0.1
#: Entries on a page. A browser draws and filters so many without a pause; the newest are kept.
MAX_ENTRIES = 20_000
#: Characters of an entry's details.
MAX_DETAILS = 2000
#: What would end the script element, or a line of it; JSON has another way to write each (RFC 8259 section 7).
_ESCAPES = {ord(c): f"\\u{ord(c):04x}" for c in "<>&\u2028\u2029"}


@dataclass(frozen=True, slots=True)
class Result:
    """How the test ended. ``outcome`` is passed, failed, error or skipped; ``reason`` any text."""

    nodeid: str = ""
    outcome: str = ""
    reason: str = ""
    #: Seconds.
    duration: float | None = None
    #: The command that runs it again.
    again: str = ""
    #: The failure in one line.
    headline: str = ""
    #: Files beside the page, relative to it.
    files: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Payload:
    """When bytes of a pulse came in, in seconds of the timeline's clock, in order.

    ``end``: when nobody waited for bytes any more; silence up to there is a gap.
    """

    label: str
    times: Sequence[float]
    end: float | None = None


def render(
    entries: Iterable[Entry],
    topology: Sequence[TopologyLog] = (),
    result: Result | None = None,
    payloads: Sequence[Payload] = (),
    labs: Sequence[Any] = (),
) -> str:
    """One self-contained HTML page.

    ``entries``: the timeline. ``topology``: a log per lab that is drawn. ``payloads``: what pulses felt. ``labs``: of
    which the heading names name, engine and seed (default: those of ``topology``).
    """
    from jinja2 import Environment, PackageLoader
    from markupsafe import Markup

    result = result or Result()
    chosen = sorted(entries, key=lambda entry: entry.time)[-MAX_ENTRIES:]
    zero = chosen[0].time if chosen else 0.0
    data = page_data(chosen, zero, topology, payloads)
    loader = PackageLoader("pytest_iroh.page")
    environment = Environment(loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True)
    # Our own files, not the test's data: they go in as they are.
    style, script = (Markup(loader.get_source(environment, name)[0]) for name in ("page.css", "page.js"))
    return environment.get_template("page.html.j2").render(
        result=result,
        files=[(name, quote(name)) for name in result.files],
        labs=[describe(lab) for lab in labs or [log.lab for log in topology]],
        count=len(chosen),
        story=story(chosen, zero) if chosen else "nothing was recorded",
        data=Markup(embed(data)),
        style=style,
        script=script,
    )


def page_data(
    entries: Sequence[Entry], zero: float, topology: Sequence[TopologyLog], payloads: Sequence[Payload]
) -> dict[str, Any]:
    """What the page's script draws; all times in seconds relative to ``zero``."""
    return {
        "entries": [
            [
                round(entry.time - zero, 6),
                entry.part,
                entry.who,
                entry.text,
                str(entry.data.get("kind", "")),
                _details(entry),
            ]
            for entry in entries
        ],
        "labs": [log.plain(zero) for log in topology],
        "paths": _paths(entries, zero),
        "payloads": _payloads(payloads, zero),
    }


def embed(data: Any) -> str:
    """JSON that is safe inside a script element, whatever the names in it are."""
    return json.dumps(data, default=str, separators=(",", ":"), allow_nan=False).translate(_ESCAPES)


def describe(lab: Any) -> dict[str, str]:
    """What the heading says about a lab."""
    return {
        "name": str(getattr(lab, "name", "")),
        "engine": str(getattr(lab, "link_engine", "")),
        "seed": str(getattr(lab, "seed", "")),
    }


def _details(entry: Entry) -> str:
    plain = {key: value for key, value in entry.data.items() if key not in ("kind", "time")}
    return json.dumps(plain, default=str)[:MAX_DETAILS] if plain else ""


def _paths(entries: Sequence[Entry], zero: float) -> dict[str, list[list[Any]]]:
    """Per endpoint: from when on payload took which way."""
    found: dict[str, list[list[Any]]] = {}
    for entry in entries:
        if entry.data.get("kind") == "path":
            path, relayed = str(entry.data.get("path", "")), bool(entry.data.get("relayed"))
            found.setdefault(entry.who, []).append([round(entry.time - zero, 6), path, relayed])
        elif entry.data.get("kind") == "closed":
            found.setdefault(entry.who, []).append([round(entry.time - zero, 6), "", False])
    return found


def _payloads(payloads: Iterable[Payload], zero: float) -> list[dict[str, Any]]:
    """Lanes of runs of bytes and the gaps between them, as [from, to]; pulses one after the other share a lane."""
    lanes: list[dict[str, Any]] = []
    for payload in sorted((p for p in payloads if p.times), key=lambda p: p.times[0]):
        runs, gaps = _runs(payload, zero)
        free = (lane for lane in lanes if lane["label"] == payload.label and lane["until"] < runs[0][0])
        lane = next(free, None)
        if lane is None:
            lane = {"label": payload.label, "runs": [], "gaps": []}
            lanes.append(lane)
        lane["runs"] += runs
        lane["gaps"] += gaps
        lane["until"] = max(runs[-1][1], gaps[-1][1] if gaps else runs[-1][1])
    return lanes


def _runs(payload: Payload, zero: float) -> tuple[list[list[float]], list[list[float]]]:
    times = [round(time - zero, 6) for time in payload.times]
    gaps = [[a, b] for a, b in pairwise(times) if b - a > GAP]
    edges = [times[0], *(edge for gap in gaps for edge in gap), times[-1]]
    runs = [[edges[i], edges[i + 1]] for i in range(0, len(edges), 2)]
    if payload.end is not None and payload.end - zero - times[-1] > GAP:
        gaps.append([times[-1], round(payload.end - zero, 6)])
    return runs, gaps
