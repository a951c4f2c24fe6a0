"""What the name server was asked and what it said."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

#: The newest questions are kept; a resolver that asks in a loop for an hour makes some more.
MAX_QUERIES = 10_000

#: Characters of an answer in its sentence: TXT records can be long.
_SHOWN = 200


@dataclass(frozen=True, slots=True)
class DnsQuery:
    """One question and its answer.

    ``client`` is the address that it came from and ``node`` whose that is: behind a NAT, the router's. ``name`` is
    without the last dot, ``transport`` "udp" or "tcp". ``result`` is "NOERROR", "NXDOMAIN", ..., "TRUNCATED", or ""
    where nothing was sent; ``answers`` are the records' data as text. ``fault`` names the failure that spoilt it.
    """

    number: int
    time: float
    client: str
    node: str
    name: str
    record: str
    transport: str
    result: str
    answers: tuple[str, ...] = ()
    fault: str = ""

    @property
    def text(self) -> str:
        """One sentence."""
        who = self.node or self.client
        said = ", ".join(self.answers) or self.result or "no answer"
        said = said if len(said) <= _SHOWN else said[:_SHOWN] + "..."
        why = f" ({self.fault})" if self.fault else ""
        return f"{who} asked for {self.name} {self.record} over {self.transport}: {said}{why}"


class QueryLog:
    """The questions, in the order of their answers; waiting for one is possible."""

    def __init__(self) -> None:
        self._queries: deque[DnsQuery] = deque(maxlen=MAX_QUERIES)
        self._changed = threading.Condition()
        self._count = 0

    def next_number(self) -> int:
        """The number of the next question, from 1."""
        with self._changed:
            self._count += 1
            return self._count

    def add(self, query: DnsQuery) -> None:
        """Append, and wake those who wait."""
        with self._changed:
            self._queries.append(query)
            self._changed.notify_all()

    def snapshot(self) -> tuple[DnsQuery, ...]:
        """Those so far."""
        with self._changed:
            return tuple(self._queries)

    def wait(self, matches: Callable[[DnsQuery], bool], within: float) -> DnsQuery | None:
        """The first that matches, now or within so many seconds; None if none came."""
        deadline = time.monotonic() + within
        with self._changed:
            while True:
                found = next((query for query in self._queries if matches(query)), None)
                if found is not None or not self._changed.wait(max(0.0, deadline - time.monotonic())):
                    return found
