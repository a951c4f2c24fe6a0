"""One direction of an impaired link, sans-IO: frames and the time come in, frames that are due go out.

Theory of operation. A frame meets, in this order: chance (six draws, always all six, so that changing one
field of the condition leaves the fate by the others as it was), the queue before the limited rate (a virtual
one: `_free_at` is when the line has sent all it accepted; a frame that would wait longer than `queue` is
dropped), the delay with its jitter, and a heap until it is due. A lost frame still takes its place in the
queue: it was sent, and nobody heard it. `_tail` is the due time of the latest frame in order; no frame is
due before it, unless it is held back on purpose, which leaves `_tail` alone so that others pass.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from heapq import heappop, heappush
from random import Random

from netns_fixtures.ecn import Ecn
from netns_fixtures.link import LinkCondition
from netns_fixtures.wire.ecn import CE, EcnFate, EcnProcess, codepoint_of, rewritten, with_codepoint
from netns_fixtures.wire.frames import flip_bit, is_housekeeping
from netns_fixtures.wire.loss import LossProcess

# Per direction. A second of a full 250 Mbit/s link, more than the pump carries with delay; without a bound a
# flood into a link with a long delay would eat the machine.
MAX_PENDING_BYTES = 32 * 2**20

# A frame is held back by this, by twice the jitter and by twice its own time on the line: then frames sent
# right behind it do overtake it. 5 ms is below the loss timers of TCP and QUIC, so it is late and not lost.
REORDER_HOLD = 0.005


@dataclass(slots=True)
class LinkCounters:
    """What became of the frames of one direction.

    frames and bytes: arrived. delivered: handed out, copies included. lost, queue_dropped (tail drop),
    duplicated, corrupted, reordered: by the condition. marked: got congestion experienced (CE). ecn_rewritten,
    ecn_dropped: by an ECN middlebox, the latter also instead of a mark. overflowed: dropped by the bound on
    memory, never by the condition. write_failed: due, but the device did not take them (it is down). cut:
    swallowed while the link was disconnected.
    """

    frames: int = 0
    bytes: int = 0
    delivered: int = 0
    lost: int = 0
    queue_dropped: int = 0
    duplicated: int = 0
    corrupted: int = 0
    reordered: int = 0
    marked: int = 0
    ecn_rewritten: int = 0
    ecn_dropped: int = 0
    overflowed: int = 0
    write_failed: int = 0
    cut: int = 0

    def as_dict(self) -> dict[str, int]:
        """The counters as plain data."""
        return asdict(self)


class LinkModel:
    """Decides the fate and the time of each frame of one direction; the driver feeds it and polls it.

    With one seed, one condition and one order of frames the fates are the same, whatever the timing, except
    for tail drop. Housekeeping frames draw nothing and are only delayed (see the package's docstring).
    """

    def __init__(self, condition: LinkCondition, seed: int | str) -> None:
        self.counters = LinkCounters()
        self._random = Random(seed).random
        self._loss = LossProcess(condition)
        self._ecn = EcnProcess(seed)
        self._condition = condition
        self._heap: list[tuple[float, int, bytes]] = []  # due, arrival number, frame
        self._arrivals = 0
        self._pending_bytes = 0
        self._free_at = 0.0
        self._tail = 0.0

    @property
    def condition(self) -> LinkCondition:
        """What the direction does now; assign to change it, frames under way keep their time."""
        return self._condition

    @condition.setter
    def condition(self, condition: LinkCondition) -> None:
        self._condition = condition
        self._loss.change(condition)

    @property
    def next_due(self) -> float | None:
        """When `poll` will have a frame, on the clock of `now`; None while nothing is under way."""
        return self._heap[0][0] if self._heap else None

    @property
    def is_idle_and_clear(self) -> bool:
        """Whether the next frame may pass around the model: nothing to do to it, nothing to overtake."""
        return not self._heap and self._condition.is_clear

    def handle_frame(self, now: float, frame: bytes) -> None:
        """A frame entered the link."""
        self.counters.frames += 1
        self.counters.bytes += len(frame)
        if is_housekeeping(frame):
            self._schedule(self._departure(now, frame) + self._condition.delay, frame)
        else:
            self._handle_packet(now, frame)

    def poll(self, now: float) -> list[bytes]:
        """The frames that are due, in the order in which they arrive at the far end."""
        heap = self._heap
        due: list[bytes] = []
        while heap and heap[0][0] <= now:
            frame = heappop(heap)[2]
            self._pending_bytes -= len(frame)
            due.append(frame)
        self.counters.delivered += len(due)
        return due

    def forget_frames(self) -> int:
        """Lose all frames under way, as when the cable is cut; returns how many."""
        count = len(self._heap)
        self._heap.clear()
        self._pending_bytes = 0
        self._free_at = self._tail = 0.0
        return count

    def _handle_packet(self, now: float, frame: bytes) -> None:
        condition, counters, draw = self._condition, self.counters, self._random
        loss, duplicate, corrupt, place, reorder, jitter = draw(), draw(), draw(), draw(), draw(), draw()

        lost = self._loss.is_lost(loss)
        if condition.ecn is not None:
            judged = self._judge_ecn(now, frame, condition.ecn)
            if judged is None:
                counters.ecn_dropped += 1
                return
            frame = judged
        fits = self._fits_queue(now)
        departure = self._departure(now, frame) if fits else now
        if lost:
            counters.lost += 1
            return
        if not fits:
            counters.queue_dropped += 1
            return
        if corrupt < condition.corrupt:
            counters.corrupted += 1
            frame = flip_bit(frame, place)
        due = departure + max(0.0, condition.delay + condition.jitter * (2 * jitter - 1))
        if reorder < condition.reorder:
            counters.reordered += 1
            self._hold_back(due, frame)
        else:
            self._schedule(due, frame)
        if duplicate < condition.duplicate:
            counters.duplicated += 1
            self._schedule(due, frame)

    def _judge_ecn(self, now: float, frame: bytes, ecn: Ecn) -> bytes | None:
        """The frame with the ECN field that it leaves with; None: dropped, and it never was in the queue.

        The mark is made on arrival, by the time that the frame is going to wait: a virtual queue knows it.
        """
        before = codepoint_of(frame)
        if before is None:
            return frame
        codepoint = rewritten(ecn.middlebox, before)
        if codepoint is None:
            return None
        waiting = self._free_at - now if self._condition.rate is not None else 0.0
        fate = self._ecn.fate(ecn, codepoint, waiting)
        if fate is EcnFate.DROPPED:
            return None
        if fate is EcnFate.MARKED:
            self.counters.marked += self._fits_queue(now)
            return with_codepoint(frame, CE)
        if codepoint == before:
            return frame
        self.counters.ecn_rewritten += 1
        return with_codepoint(frame, codepoint)

    def _fits_queue(self, now: float) -> bool:
        return self._condition.rate is None or self._free_at - now <= self._condition.queue

    def _departure(self, now: float, frame: bytes) -> float:
        """When the line has sent the frame, which it accepts hereby."""
        if self._condition.rate is None:
            # A backlog of an earlier, limited rate keeps its time, and `_tail` keeps its place before us.
            return now
        self._free_at = max(now, self._free_at) + self._line_time(frame)
        return self._free_at

    def _line_time(self, frame: bytes) -> float:
        rate = self._condition.rate
        return 0.0 if rate is None else len(frame) * 8 / rate

    def _schedule(self, due: float, frame: bytes) -> None:
        self._tail = max(self._tail, due)
        self._push(self._tail, frame)

    def _hold_back(self, due: float, frame: bytes) -> None:
        hold = REORDER_HOLD + 2 * self._condition.jitter + 2 * self._line_time(frame)
        self._push(max(self._tail, due) + hold, frame)

    def _push(self, due: float, frame: bytes) -> None:
        if self._pending_bytes + len(frame) > MAX_PENDING_BYTES:
            self.counters.overflowed += 1
            return
        self._pending_bytes += len(frame)
        self._arrivals += 1
        heappush(self._heap, (due, self._arrivals, frame))
