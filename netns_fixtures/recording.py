"""Recording a whole lab, for evidence: one packet socket, and no more of the processor than a test can spare."""

from __future__ import annotations

import socket
import time
from pathlib import Path
from typing import TYPE_CHECKING

from netns_fixtures.capture import BLOCKS, MAX_BYTES, Capture, with_ring
from netns_fixtures.errors import LabError
from netns_fixtures.events import LabEvent
from netns_fixtures.flood import MAX_RATE, FloodGuard
from netns_fixtures.messages import TakeRing
from netns_fixtures.ops import PrepareRing
from netns_fixtures.plug import FABRIC
from netns_fixtures.ring import count
from netns_fixtures.tap import fabric_socket, fabric_taps

if TYPE_CHECKING:
    from netns_fixtures.lab import Lab

#: Seconds until a block that is not full is handed over: nobody waits for it, and fewer wake-ups cost less.
FLUSH_AFTER = 0.02


class Recording(Capture):
    """A capture of every interface of a lab, which begins by itself when the lab is built.

    In a flood it leaves out bulk frames, then all (see ``flood``): it must not slow the test down.
    """

    def __init__(self, lab: Lab, directory: Path | None, max_bytes: int, max_rate: float) -> None:
        self._directory = directory
        self._guard = FloodGuard(max_rate)
        super().__init__(lab, lambda: fabric_taps(lab), max_bytes=max_bytes)
        if lab.is_built:
            self.open(with_ring(fabric_socket(lab), FLUSH_AFTER))
        else:
            # The kernel needs longer for a ring than a test may wait for it: it is made while the lab is built.
            lab.topology.pending.append(PrepareRing(FABRIC, BLOCKS, FLUSH_AFTER))

    def stop(self) -> None:
        """Capture nothing more, and write the files if a directory was given. Raises OSError."""
        super().stop()
        if self._directory is not None:
            directory, self._directory = self._directory, None
            self.save_each(directory)

    @property
    def notes(self) -> list[LabEvent]:
        """When frames were left out."""
        found = []
        for pause in list(self._guard.pauses):
            what = f"only frames up to {pause.largest} bytes" if pause.largest else "nothing"
            found.append(_note(pause.start, f"a flood: {what} recorded from here"))
            if pause.end is not None:
                found.append(_note(pause.end, "everything recorded again"))
        return found

    def take_blocks(self, blocks: list[bytes]) -> None:
        """Called by the draining thread."""
        super().take_blocks(blocks)
        if self._guard.note(time.monotonic(), sum(map(count, blocks)), sum(map(len, blocks))):
            self.trouble = "in a flood, bulk packets were left out: capture file comments say when"
            self._limit()

    def due(self) -> float | None:
        """Called by the draining thread."""
        return self._guard.due

    def look(self) -> None:
        """Called by the draining thread."""
        if self._guard.look(time.monotonic()):
            self._limit()

    def _limit(self) -> None:
        ring = self._ring
        if ring is not None:
            ring.limit(self._guard.largest)

    def _release(self) -> None:
        super()._release()
        self._guard.stop(time.monotonic())

    def _see(self, event: LabEvent) -> None:
        if event.kind == "lab_built" and self._ring is None:
            try:
                _value, (fd,) = self.lab.request(TakeRing(self.lab.number, FABRIC))
                self.open(socket.socket(fileno=fd))
            except (OSError, LabError) as error:
                # The verb that built the lab must not fail for want of a recording; whoever reads it is told.
                self.trouble = f"no packets were recorded: {error}"
        super()._see(event)


def record(
    lab: Lab,
    directory: str | Path | None = None,
    *,
    max_bytes: int = MAX_BYTES,
    max_rate: float = MAX_RATE,
) -> Recording:
    """Capture at every interface of a lab; with a ``directory``, files are written there at the end.

    A lab that is not built yet is recorded from its first moment. Beyond ``max_bytes`` (of the whole lab) the
    oldest frames are forgotten; above ``max_rate`` frames per second bulk frames are left out (``math.inf``: never).
    Raises OSError and LabError where a lab that is built cannot be recorded; later trouble stands in ``trouble``.
    """
    return Recording(lab, None if directory is None else Path(directory), max_bytes, max_rate)


def _note(time: float, text: str) -> LabEvent:
    return LabEvent(0, time, "recording", "", text)
