"""One direction of a wire in the pump: read the frames of one TAP, write them to another."""

from __future__ import annotations

import os
import time

from netns_fixtures.link import LinkCondition
from netns_fixtures.wire.model import LinkModel

# More than the largest MTU of a TAP (65 521) and its Ethernet header: a shorter read would cut the frame.
_MAX_FRAME = 65_536

# Frames per turn: enough to make the epoll call cheap, few enough that other links wait below half a
# millisecond.
_BATCH = 32


class Line:
    """Reads `source`, asks the model, writes `sink`; both descriptors are non-blocking and not owned.

    Anything that keeps the bounds of packets will do for a TAP, such as a socket pair, which is gone at its
    end of file.
    """

    __slots__ = ("connected", "model", "scheduled_for", "sink", "source")

    def __init__(self, source: int, sink: int, condition: LinkCondition, seed: str) -> None:
        self.source = source
        self.sink = sink
        self.model = LinkModel(condition, seed)
        self.connected = True
        # When the pump's agenda will look here next; kept by the agenda.
        self.scheduled_for: float | None = None

    def handle_readable(self) -> bool:
        """Take up to a batch of frames; False once the device is gone for good."""
        if self.connected and self.model.is_idle_and_clear:
            return self._pass_through()
        return self._take_in()

    def deliver(self, now: float) -> None:
        """Write the frames that are due."""
        for frame in self.model.poll(now):
            try:
                os.write(self.sink, frame)
            except OSError:
                # EIO: the interface is down. EAGAIN, ENOBUFS: no memory just now. EBADFD: it was deleted.
                # A cable knows nothing of it; counted, because somebody will ask where the frame went.
                self._count_write_failure()

    def disconnect(self) -> None:
        """Swallow everything from now on, also what is under way."""
        self.connected = False
        self.model.counters.cut += self.model.forget_frames()

    def _pass_through(self) -> bool:
        """The fast path of a clear link: no model, no clock. Inlined by hand, it is the hottest loop."""
        source, sink, read, write = self.source, self.sink, os.read, os.write
        frames = size = failed = 0
        alive = True
        for _ in range(_BATCH):
            try:
                frame = read(source, _MAX_FRAME)
            except BlockingIOError:
                break
            except OSError:
                frame = b""  # EBADFD: the interface was deleted under us
            if not frame:
                alive = False
                break
            frames += 1
            size += len(frame)
            try:
                write(sink, frame)
            except OSError:
                failed += 1  # the reasons stand in deliver()
        counters = self.model.counters
        counters.frames += frames
        counters.bytes += size
        counters.delivered += frames - failed
        counters.write_failed += failed
        return alive

    def _take_in(self) -> bool:
        model, clock, read = self.model, time.monotonic, os.read
        for _ in range(_BATCH):
            try:
                frame = read(self.source, _MAX_FRAME)
            except BlockingIOError:
                break
            except OSError:
                return False  # EBADFD, as above
            if not frame:
                return False
            if self.connected:
                model.handle_frame(clock(), frame)
            else:
                model.counters.cut += 1
        return True

    def _count_write_failure(self) -> None:
        self.model.counters.delivered -= 1
        self.model.counters.write_failed += 1
