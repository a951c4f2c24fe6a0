"""``assert_packet`` and ``assert_no_packet``: what must, and must not, have crossed an interface."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from netns_fixtures.capture import Capture
from netns_fixtures.tap import Frame
from pytest_iroh.packets.expression import compile_filter
from pytest_iroh.packets.notes import describe, route
from pytest_iroh.packets.views import view
from pytest_iroh.timeline import scaled

#: A filter as text (see ``expression``), or a function of a scapy packet.
Filter = str | Callable[[Any], object]
#: A time on the clock of the lab's events (seconds), or anything that has one, such as a LabEvent.
Moment = Any

#: Packets, and flows, that a failure lists.
SHOWN = 10


class PacketAssertionError(AssertionError):
    """Packets are there that must not be, or the other way round; the text tells what was seen instead."""


def find(capture: Capture, filter: Filter, *, since: Moment = None, until: Moment = None) -> list[Frame]:
    """The frames that a filter lets through, in order of time. ``capture.packet(frame)`` is scapy's form of
    one.

    ``since`` and ``until``: only frames between these times (seconds on the lab's clock, or a LabEvent).
    Raises FilterError.
    """
    passes = _test(capture, filter)
    begin, end = _seconds(since, float("-inf")), _seconds(until, float("inf"))
    return [frame for frame in capture.frames if begin <= frame.time <= end and passes(frame)]


def assert_packet(
    capture: Capture,
    filter: Filter,
    *,
    count: int | None = None,
    within: float = 0.0,
    since: Moment = None,
    until: Moment = None,
) -> Any:
    """At least one packet passes a filter, or exactly ``count``; returns the first one, as a scapy packet.

    ``within``: seconds to wait for it, while the capture runs (times ``--netns-timeout-scale``). Raises
    PacketAssertionError, FilterError.
    """
    __tracebackhide__ = True
    wanted = 1 if count is None else count
    deadline = time.monotonic() + scaled(within)
    while len(found := find(capture, filter, since=since, until=until)) < wanted:
        if not (capture.running and capture.wait(max(0.0, deadline - time.monotonic()))):
            break
    if len(found) < wanted or (count is not None and len(found) > count):
        times = "no packet" if not found else f"{len(found)} packets, not {wanted},"
        verb = "passes" if not found else "pass"
        lines = [f"{times} {verb} {_name(filter)}", *_listed(capture, found), *_seen(capture)]
        raise PacketAssertionError("\n".join([*lines, *_gaps(capture)]))
    return capture.packet(found[0]) if found else None


def assert_no_packet(capture: Capture, filter: Filter, *, since: Moment = None, until: Moment = None) -> None:
    """No packet passes a filter. A capture that missed packets proves nothing, and fails, too.

    Raises PacketAssertionError, FilterError.
    """
    __tracebackhide__ = True
    found = find(capture, filter, since=since, until=until)
    if found:
        what = "1 packet passes" if len(found) == 1 else f"{len(found)} packets pass"
        raise PacketAssertionError("\n".join([f"{what} {_name(filter)}", *_listed(capture, found)]))
    if capture.missed or capture.trouble:
        lines = [f"nothing proves that no packet passes {_name(filter)}", *_gaps(capture)]
        raise PacketAssertionError("\n".join(lines))


def _test(capture: Capture, filter: Filter) -> Callable[[Frame], object]:
    if isinstance(filter, str):
        return compile_filter(filter)
    return lambda frame: filter(capture.packet(frame))


def _seconds(moment: Moment, default: float) -> float:
    if moment is None:
        return default
    return float(moment.time if hasattr(moment, "time") else moment)


def _name(filter: Filter) -> str:
    return repr(filter) if isinstance(filter, str) else f"the filter {getattr(filter, '__name__', filter)}"


def _listed(capture: Capture, frames: Sequence[Frame]) -> list[str]:
    """The first frames, each relative to the lab's event before it."""
    lines = [f"  {_when(capture, frame)}: {describe(frame)}" for frame in frames[:SHOWN]]
    if len(frames) > SHOWN:
        lines.append(f"  ... and {len(frames) - SHOWN} more")
    return lines


def _when(capture: Capture, frame: Frame) -> str:
    before = [event for event in capture.lab.events if event.time <= frame.time]
    if not before:
        return "before the first event"
    last = before[-1]
    return f"{(frame.time - last.time) * 1000:.1f} ms after {last.text!r}"


def _seen(capture: Capture) -> list[str]:
    """What was captured instead, by flow."""
    frames = capture.frames
    if not frames:
        return ["nothing at all was captured"]
    flows = Counter(f"{frame.where} {_flow(frame)}" for frame in frames)
    lines = [f"captured were {len(frames)} packets:"]
    lines += [f"  {number:6d} x {flow}" for flow, number in flows.most_common(SHOWN)]
    if len(flows) > SHOWN:
        lines.append(f"  ... and {len(flows) - SHOWN} more flows")
    return lines


def _flow(frame: Frame) -> str:
    seen = view(frame.data)
    return f"{route(seen)} {seen.content}".rstrip()


def _gaps(capture: Capture) -> list[str]:
    missed = capture.missed
    lines = [f"{missed} packets are missing from the capture: give it more max_bytes"] if missed else []
    return lines + ([capture.trouble] if capture.trouble else [])
