"""Two small habits of a session: asking for signs of life, and repeating its last word."""

from __future__ import annotations


class KeepAlive:
    """When to send a PING because nothing was heard for ``interval`` seconds, at most as often."""

    def __init__(self, now: float, interval: float) -> None:
        self._interval = interval
        self._heard_at = self._asked_at = now

    @property
    def due(self) -> float:
        """When to ask next."""
        return max(self._heard_at, self._asked_at) + self._interval

    def heard(self, now: float) -> None:
        """The peer is alive."""
        self._heard_at = now

    def asked(self, now: float) -> None:
        """A PING is on its way; loss recovery repeats it."""
        self._asked_at = now


class Farewell:
    """Our close, repeated after 1, 2, 4, 8 ... packets of a peer that missed it (RFC 9000 section 10.2.1)."""

    def __init__(self) -> None:
        self._datagrams: list[bytes] = []
        self._late_packets = 0
        self._due = False

    def said(self, datagrams: list[bytes]) -> None:
        """These carried the close."""
        self._datagrams = list(datagrams)

    def heard(self) -> None:
        """A packet came although the session is over."""
        self._late_packets += 1
        count = self._late_packets
        self._due = count & (count - 1) == 0

    def again(self) -> list[bytes]:
        """The datagrams to send now, if it is time for them."""
        due, self._due = self._due, False
        return list(self._datagrams) if due else []
