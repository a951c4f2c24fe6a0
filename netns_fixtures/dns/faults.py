"""Failures of the name server on demand: which questions, what goes wrong, how often. Pure."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from enum import StrEnum

import dns.name
import dns.rdatatype

from netns_fixtures.dns.rdata import parse_name, parse_type
from netns_fixtures.dns.settings import ALL
from netns_fixtures.errors import TopologyError

#: Faults of one lab at a time.
MAX_FAULTS = 1000
#: Seconds; more than any resolver waits.
MAX_DELAY = 60.0


class FaultKind(StrEnum):
    """What goes wrong."""

    SERVFAIL = "servfail"
    REFUSED = "refused"
    NXDOMAIN = "nxdomain"
    #: The name exists, and has no records.
    NODATA = "nodata"
    #: No answer at all.
    TIMEOUT = "timeout"
    #: The right answer, after ``seconds``.
    SLOW = "slow"
    #: Bytes that are no DNS message, from the right address and port.
    GARBAGE = "garbage"
    #: The answer under another number, as from somebody who guesses.
    WRONG_ID = "wrong-id"
    #: Over UDP nothing but "ask again over TCP"; over TCP the right answer.
    TRUNCATE = "truncate"


@dataclass(slots=True)
class Fault:
    """A failure in force. ``left`` is how many questions it still spoils, None for all; ``hits`` counts them."""

    name: str
    kind: FaultKind
    record: str | None = None
    seconds: float = 0.0
    left: int | None = None
    hits: int = 0

    @staticmethod
    def parse(name: str, kind: str, record: str | None, seconds: float | None, times: int | None) -> Fault:
        """Raises TopologyError for a failure that cannot be."""
        try:
            parsed = FaultKind(kind)
        except ValueError:
            raise TopologyError(f"{kind!r} is no failure of a name server: {', '.join(FaultKind)}") from None
        if (seconds is not None) != (parsed is FaultKind.SLOW):
            raise TopologyError("'slow' needs seconds=, and nothing else takes it")
        if seconds is not None and not 0 < seconds <= MAX_DELAY:
            raise TopologyError(f"seconds={seconds!r}: it is above 0, and {MAX_DELAY:g} at most")
        if times is not None and (isinstance(times, bool) or not isinstance(times, int) or times < 1):
            raise TopologyError(f"times={times!r}: it is a whole number of questions, or None for all")
        if record is not None:
            record = dns.rdatatype.to_text(parse_type(record))
        return Fault(_pattern(name), parsed, record, seconds or 0.0, times)

    def matches(self, name: dns.name.Name, kind: dns.rdatatype.RdataType) -> bool:
        """Whether a question is spoilt."""
        if self.left == 0 or self.record not in (None, dns.rdatatype.to_text(kind)):
            return False
        if self.name == ALL:
            return True
        below = self.name.startswith("*.")
        wanted = dns.name.from_text(self.name.removeprefix("*."))
        return name.is_subdomain(wanted) and name != wanted if below else name == wanted

    def __str__(self) -> str:
        what = "every name" if self.name == ALL else self.name
        record = f" {self.record}" if self.record else ""
        by = f" by {self.seconds:g} s" if self.seconds else ""
        times = "" if self.left is None else f", {self.left} times"
        return f"{what}{record}: {self.kind}{by}{times}"


class Faults:
    """The failures in force; of several that fit a question, the newest counts."""

    def __init__(self) -> None:
        self._faults: list[Fault] = []
        self._lock = threading.Lock()

    def add(self, fault: Fault) -> None:
        """Put a failure into force. Raises TopologyError when there are too many."""
        with self._lock:
            if len(self._faults) >= MAX_FAULTS:
                raise TopologyError(
                    f"a name server has {MAX_FAULTS} failures at most; lab.dns.heal() ends them"
                )
            self._faults.append(fault)

    def heal(self, name: str | None) -> int:
        """End the failures of a name, or all; how many there were."""
        gone = None if name is None else _pattern(name)
        with self._lock:
            before = len(self._faults)
            self._faults = [fault for fault in self._faults if gone not in (None, fault.name)]
            return before - len(self._faults)

    def take(self, name: dns.name.Name, kind: dns.rdatatype.RdataType, *, tcp: bool) -> Fault | None:
        """The failure of a question, counted."""
        with self._lock:
            for fault in reversed(self._faults):
                if tcp and fault.kind is FaultKind.TRUNCATE:
                    continue  # there is no more room than over TCP
                if fault.matches(name, kind):
                    fault.hits += 1
                    if fault.left is not None:
                        fault.left -= 1
                        if not fault.left:
                            self._faults.remove(fault)
                    return fault
        return None

    def snapshot(self) -> tuple[Fault, ...]:
        """Those in force, oldest first."""
        with self._lock:
            return tuple(self._faults)


def _pattern(name: str) -> str:
    if name == ALL:
        return ALL
    if not isinstance(name, str) or not name:
        raise TopologyError(f"{name!r} is no domain name; {ALL!r} means all")
    return parse_name(name).to_text()
