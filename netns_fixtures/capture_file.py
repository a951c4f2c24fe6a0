"""Captures as pcapng files, with what the lab did between the packets as their comments."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from netns_fixtures.pcapng import PcapngWriter

if TYPE_CHECKING:
    from netns_fixtures.capture import Capture
    from netns_fixtures.events import LabEvent
    from netns_fixtures.tap import Frame, Tap

#: Characters of one comment, and comments of one packet: a storm of events must still open in Wireshark.
MAX_COMMENT = 2000
MAX_COMMENTS = 200

Annotate = Callable[["Frame"], str | None]


def save(
    capture: Capture,
    path: Path,
    *,
    events: Sequence[LabEvent] | None = None,
    annotate: Annotate | None = None,
    key_log: str = "",
) -> Path:
    """Write all frames of a capture into one file; returns its path.

    ``events`` (default: those of the lab) become comments of the packets that follow them, ``annotate``
    gives one more comment for a frame, ``key_log`` is the text of an SSLKEYLOGFILE. Raises OSError.
    """
    taps = {(tap.node, tap.interface): tap for tap in capture.taps()}
    _write(capture, path, capture.frames, taps.values(), _events(capture, events), annotate, key_log)
    return path


def save_each(
    capture: Capture,
    directory: Path,
    *,
    events: Sequence[LabEvent] | None = None,
    annotate: Annotate | None = None,
    key_log: str = "",
) -> list[Path]:
    """Write one file per interface that saw a frame; otherwise as :func:`save`."""
    directory.mkdir(parents=True, exist_ok=True)
    chosen = _events(capture, events)
    by_interface: dict[tuple[str, str], list[Frame]] = {}
    for frame in capture.frames:
        by_interface.setdefault((frame.node, frame.interface), []).append(frame)
    paths = []
    for tap in capture.taps():
        frames = by_interface.get((tap.node, tap.interface))
        if frames:
            path = directory / f"{_file_name(tap)}.pcapng"
            _write(capture, path, frames, [tap], chosen, annotate, key_log)
            paths.append(path)
    return paths


def _write(
    capture: Capture,
    path: Path,
    frames: list[Frame],
    taps: Iterable[Tap],
    events: Sequence[LabEvent],
    annotate: Annotate | None,
    key_log: str,
) -> None:
    lab = capture.lab
    with path.open("wb") as file:
        writer = PcapngWriter(file, f"lab {lab.name}, seed {lab.seed}, {lab.link_engine} engine")
        if key_log:
            writer.add_secrets(key_log)
        numbers = {(tap.node, tap.interface): _declare(writer, tap) for tap in taps}
        comments = _Comments(events, frames[-1].time if frames else 0.0)
        for frame in frames:
            number = numbers[frame.node, frame.interface]
            words = comments.before(frame)
            note = annotate(frame) if annotate is not None else None
            if note:
                words.append(note[:MAX_COMMENT])
            writer.add_packet(
                number, frame.stamp, frame.data, frame.length, outgoing=frame.outgoing, comments=words
            )


class _Comments:
    """Hands each event to the first packet after it; those after the last packet to that one."""

    def __init__(self, events: Sequence[LabEvent], end: float) -> None:
        self._events = sorted(events, key=lambda event: event.time)
        self._zero = self._events[0].time if self._events else 0.0
        self._end = end
        self._next = 0

    def before(self, frame: Frame) -> list[str]:
        found: list[str] = []
        last = frame.time >= self._end
        while self._next < len(self._events):
            event = self._events[self._next]
            late = event.time > frame.time
            if late and not last:
                break
            self._next += 1
            after = "after this packet: " if late else ""
            found.append(f"lab {event.time - self._zero:+.6f} s: {after}{event.text}"[:MAX_COMMENT])
        left_out = len(found) - MAX_COMMENTS
        if left_out > 0:
            found[:left_out] = [f"lab: {left_out} events left out"]
        return found


def _declare(writer: PcapngWriter, tap: Tap) -> int:
    plugged = f", plugged into {tap.segment}" if tap.segment and tap.segment != tap.node else ""
    return writer.add_interface(
        f"{tap.node}-{tap.interface}", f"{tap.node} {tap.interface}{plugged}", tap.mac
    )


def _events(capture: Capture, events: Sequence[LabEvent] | None) -> Sequence[LabEvent]:
    return [*(capture.lab.events if events is None else events), *capture.notes]


def _file_name(tap: Tap) -> str:
    """Node names may hold anything but spaces and slashes."""
    return re.sub(r"[^\w.-]", "_", f"{tap.node}-{tap.interface}").lstrip(".")
