"""Which backend gets which share of a hash, so that a change moves few of them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

#: Prime, as Maglev's permutations need it; with 16 backends each has 15 or 16 slots.
SLOTS = 251


def slots(names: Sequence[str]) -> list[str]:
    """A name for each slot, in shares that differ by one at most; () gives none.

    Maglev hashing (Eisenbud et al., NSDI 2016, section 3.4): each name has a permutation of the slots, and they take
    turns at their next free one. Where a name comes or goes, most slots of the others stay.
    """
    if not names:
        return []
    turns = [_preferences(name) for name in names]
    table: list[str | None] = [None] * SLOTS
    for taken in range(SLOTS):
        turn = taken % len(names)
        place = next(place for place in turns[turn] if table[place] is None)
        table[place] = names[turn]
    return [name for name in table if name is not None]


def _preferences(name: str) -> list[int]:
    digest = hashlib.blake2b(name.encode(), digest_size=16).digest()
    offset, skip = int.from_bytes(digest[:8]) % SLOTS, int.from_bytes(digest[8:]) % (SLOTS - 1) + 1
    return [(offset + number * skip) % SLOTS for number in range(SLOTS)]
