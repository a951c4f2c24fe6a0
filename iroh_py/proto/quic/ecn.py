"""Explicit congestion notification (RFC 9000 section 13.4): counts of marks that came, and trust in marks that go.

Two halves that know nothing of each other. ``CountedRanges`` counts the marks of received packets, per packet number
space, for ACK_ECN frames. ``EcnTrust`` decides whether packets are sent with ECT(0): it tests each path, and
gives it up when the peer's counts do not add up (section 13.4.2.1), or when the marked packets vanish. Only 1-RTT
packets are marked, and only with those that must be acknowledged: a network that eats ECT must not eat a handshake,
nor anything whose loss nobody would notice.
"""

from __future__ import annotations

import enum
from collections.abc import Hashable
from dataclasses import dataclass
from typing import NamedTuple

from aioquic.quic.rangeset import RangeSet

#: The codepoints of the IP header (RFC 3168 section 5).
NOT_ECT, ECT_1, ECT_0, CE = 0, 1, 2, 3
#: Probe timeouts in a row after which marks are to blame: of an untested path the first, of a proven one later,
#: since it is more likely an outage.
MAX_TIMEOUTS_UNTESTED, MAX_TIMEOUTS = 1, 3


class EcnCounts(NamedTuple):
    """Packets with each mark, in the order of an ACK_ECN frame (section 19.3.2)."""

    ect0: int = 0
    ect1: int = 0
    ce: int = 0


@dataclass(slots=True)
class Arriving:
    """The mark of the datagram that is being read; the spaces of a connection share it."""

    codepoint: int = NOT_ECT


class CountedRanges(RangeSet):
    """The received packet numbers of a space. Each number is added once, and counted by its datagram's mark."""

    def __init__(self, arriving: Arriving) -> None:
        super().__init__()
        self._arriving = arriving
        self._marks = [0, 0, 0, 0]

    def add(self, start: int, stop: int | None = None) -> None:
        self._marks[self._arriving.codepoint] += 1 if stop is None else stop - start
        super().add(start, stop)

    @property
    def counts(self) -> EcnCounts | None:
        """What an ACK_ECN frame says; None where a plain ACK says it all."""
        marks = self._marks
        if not (marks[ECT_0] or marks[ECT_1] or marks[CE]):
            return None
        return EcnCounts(marks[ECT_0], marks[ECT_1], marks[CE])


class EcnState(enum.StrEnum):
    """What is known of the present path."""

    OFF = "off"
    """No single direct path is in use."""
    TESTING = "testing"
    """Packets are marked, and the peer has not told yet what became of them."""
    CAPABLE = "capable"
    """Marks arrive, and are reported."""
    FAILED = "failed"
    """They do not, or the peer's counts cannot be right: nothing is marked."""


class EcnTrust:
    """Whether packets are marked, by what the peer says of those that were."""

    def __init__(self) -> None:
        self.state = EcnState.OFF
        #: Packets below this number were sent before the present path was tested.
        self.begin = 0
        self._path: Hashable = None
        #: Under doubt a path is not the only one for a moment; it must not be tested again then, and fail again.
        self._failed_path: Hashable = None
        self._sent = self._sent_here = self._timeouts = 0
        self._told = EcnCounts()

    @property
    def marking(self) -> bool:
        """Whether packets are sent with ECT(0) now."""
        return self.state is EcnState.CAPABLE or self.state is EcnState.TESTING

    def use_path(self, path: Hashable, next_number: int) -> None:
        """The only path that packets take from now on; None: there are several, or none that carries marks."""
        if path == self._path:
            return
        self._path = path
        self.begin = next_number
        self._sent_here = self._timeouts = 0
        if path is None:
            self.state = EcnState.OFF
        elif path == self._failed_path:
            self.state = EcnState.FAILED
        else:
            self._failed_path = None
            self.state = EcnState.TESTING

    def handle_sent(self, packets: int) -> None:
        """So many packets were sent with ECT(0)."""
        self._sent += packets
        self._sent_here += packets

    def handle_ack(self, counts: EcnCounts | None, acked: int, *, newest: bool) -> bool:
        """An ACK of the peer. Returns whether the network says that it is congested.

        ``acked``: packets of this path that it acknowledges first. ``newest``: it acknowledges a higher number than all
        before; others may be late, and prove nothing.
        """
        marking = self.marking
        if acked:
            self._timeouts = 0
        if counts is None:
            if marking and acked and newest:
                self._fail()
            return False
        if not newest:
            return False
        before, self._told = self._told, counts
        grown = EcnCounts(*(now - then for now, then in zip(counts, before, strict=True)))
        # Nobody sends ECT(1); the total cannot exceed what was ever sent; each packet must be in some count.
        wrong = min(grown) < 0 or grown.ect1 or counts.ect0 + counts.ce > self._sent
        if wrong or (marking and grown.ect0 + grown.ce < acked):
            self._fail()
            return False
        if marking and acked:
            self.state = EcnState.CAPABLE
        return marking and grown.ce > 0

    def handle_timeout(self) -> None:
        """A probe timeout passed without an acknowledgement."""
        if not self._sent_here:
            return
        self._timeouts += 1
        limit = MAX_TIMEOUTS if self.state is EcnState.CAPABLE else MAX_TIMEOUTS_UNTESTED
        if self.marking and self._timeouts >= limit:
            self._fail()

    def _fail(self) -> None:
        if self._path is not None:
            self.state = EcnState.FAILED
            self._failed_path = self._path
