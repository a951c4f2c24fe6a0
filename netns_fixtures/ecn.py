"""Explicit congestion notification on a link, as data: who is marked, and what broken middleboxes do.

The two lowest bits of the traffic class are the ECN field (RFC 3168 section 5): 00 not ECN-capable, 10 ECT(0),
01 ECT(1), 11 congestion experienced (CE).
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from netns_fixtures.errors import TopologyError


class EcnMiddlebox(enum.StrEnum):
    """What stands before the queue and treats the ECN field as nobody should."""

    NONE = "none"
    BLEACH = "bleach"
    """The field is cleared, CE too: routers that overwrite the whole former TOS byte."""
    REMARK = "ect1-to-ect0"
    """ECT(1) becomes ECT(0), which RFC 3168 allowed once nobody used the nonce; it breaks L4S (RFC 9331)."""
    DROP = "drop-ect"
    """Packets with ECT or CE are dropped: a black hole for ECN."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ecn:
    """What one direction of a link does to the ECN field of IP packets; the default does nothing.

    mark: probability 0..1 that an ECN-capable packet gets CE, whatever the queue. 1 is also the middlebox that
        marks everything.
    mark_above: seconds; an ECN-capable packet that will wait longer than this for the limited rate gets CE.
        None: the queue marks nobody. Needs a ``rate``, and a ``queue`` longer than this.
    mark_all_above: seconds; from ``mark_above`` up to here the chance grows from 0 to 1, as in RED. None: it is a
        step, as in DCTCP (RFC 8257).
    drop_others: packets that would be marked and cannot be (not ECN-capable) are dropped, as a router with active
        queue management does (RFC 3168 section 5). Else they pass, until the queue is full.
    l4s_only: only ECT(1) is ECN-capable here (RFC 9331: the queue for L4S); ECT(0) counts among the others.
    middlebox: see EcnMiddlebox; it stands before the queue.

    Raises TopologyError for a value out of range.
    """

    mark: float = 0.0
    mark_above: float | None = None
    mark_all_above: float | None = None
    drop_others: bool = False
    l4s_only: bool = False
    middlebox: EcnMiddlebox = EcnMiddlebox.NONE

    def __post_init__(self) -> None:
        _check(_is_number(self.mark) and 0 <= self.mark <= 1, "mark", self.mark, "a probability, from 0 to 1")
        for name in ("mark_above", "mark_all_above"):
            value = getattr(self, name)
            right = value is None or (_is_number(value) and 0 <= value < float("inf"))
            _check(right, name, value, "seconds, 0 or more, or None")
        if self.mark_all_above is not None:
            grows = self.mark_above is not None and self.mark_all_above > self.mark_above
            _check(grows, "mark_all_above", self.mark_all_above, "more than mark_above")
        for name in ("drop_others", "l4s_only"):
            _check(isinstance(getattr(self, name), bool), name, getattr(self, name), "true or false")
        try:
            object.__setattr__(self, "middlebox", EcnMiddlebox(self.middlebox))
        except ValueError:
            _check(False, "middlebox", self.middlebox, f"one of {', '.join(EcnMiddlebox)}")

    @property
    def is_clear(self) -> bool:
        """Whether every packet passes as it is."""
        return not self.mark and self.mark_above is None and self.middlebox == EcnMiddlebox.NONE

    def chance(self, waiting: float) -> float:
        """The probability of a mark for a packet that will wait that many seconds in the queue."""
        if self.mark_above is None or waiting <= self.mark_above:
            return self.mark
        if self.mark_all_above is None:
            return 1.0
        ramp = (waiting - self.mark_above) / (self.mark_all_above - self.mark_above)
        return max(self.mark, min(1.0, ramp))

    @classmethod
    def preset(cls, name: str) -> Ecn:
        """The behaviour known by that name; raises TopologyError naming those that exist."""
        try:
            return ECN_PRESETS[name]
        except KeyError:
            raise TopologyError(f"no ECN preset {name!r}; there are {', '.join(ECN_PRESETS)}") from None

    @classmethod
    def of(cls, value: Ecn | str | Mapping[str, Any] | None) -> Ecn | None:
        """What a field ``ecn`` may be: itself, a preset's name, or fields. Raises TopologyError."""
        if value is None or isinstance(value, Ecn):
            return value
        if isinstance(value, str):
            return cls.preset(value)
        if isinstance(value, Mapping):
            try:
                return cls(**value)
            except TypeError as error:
                raise TopologyError(f"ecn: {error}") from None
        raise TopologyError(f"ecn={value!r}: ecn is an Ecn, or one of {', '.join(ECN_PRESETS)}")

    def __str__(self) -> str:
        return ", ".join(_phrases(self)) or "as it is"


_MIDDLEBOX_PHRASES = {
    EcnMiddlebox.BLEACH: "ECN bleached",
    EcnMiddlebox.REMARK: "ECT(1) made ECT(0)",
    EcnMiddlebox.DROP: "ECT packets dropped",
}


def _phrases(ecn: Ecn) -> list[str]:
    phrases = [_MIDDLEBOX_PHRASES[ecn.middlebox]] if ecn.middlebox in _MIDDLEBOX_PHRASES else []
    who = "ECT(1) " if ecn.l4s_only else ""
    if ecn.mark:
        phrases.append(f"{ecn.mark:.4g} {who}marked CE")
    if ecn.mark_above is not None:
        ramp = "" if ecn.mark_all_above is None else f", all above {ecn.mark_all_above * 1e3:g} ms"
        phrases.append(f"{who}marked CE above {ecn.mark_above * 1e3:g} ms of queue{ramp}")
    if ecn.drop_others and (ecn.mark or ecn.mark_above is not None):
        phrases.append("others dropped instead")
    return phrases


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _check(right: bool, name: str, value: object, meaning: str) -> None:
    if not right:
        raise TopologyError(f"{name}={value!r}: {name} is {meaning}")


#: "l4s": the native queue of DualPI2 (RFC 9332 appendix A: minTh 0.8 ms, range 0.4 ms). "dctcp": a step, as in RFC
#: 8257; 1 ms is the default of Linux's dualpi2 (step_thresh). "classic": CoDel's target of 5 ms (RFC 8289 section
#: 4.4) as RED's lower threshold, and the upper one at three times that, which Floyd recommended for RED (1997).
ECN_PRESETS: Mapping[str, Ecn] = MappingProxyType(
    {
        "l4s": Ecn(mark_above=0.0008, mark_all_above=0.0012, l4s_only=True),
        "dctcp": Ecn(mark_above=0.001),
        "classic": Ecn(mark_above=0.005, mark_all_above=0.015, drop_others=True),
        "all-ce": Ecn(mark=1.0),
        "bleach": Ecn(middlebox=EcnMiddlebox.BLEACH),
        "ect1-to-ect0": Ecn(middlebox=EcnMiddlebox.REMARK),
        "drop-ect": Ecn(middlebox=EcnMiddlebox.DROP),
    }
)
