"""Have the bindings trust a lab's authority: its name and key take the place of one built-in root's, in memory.

The bindings trust Mozilla's roots, compiled in, and have no option for others. So a relay in a lab could show them
no certificate at all. The bytes are changed in this process only; the library's file stays as it is.
"""

from __future__ import annotations

import ctypes
import dataclasses
import mmap
from collections.abc import Iterator

LIBRARY = "libiroh_ffi.so"
PROTECTIONS = {"r": mmap.PROT_READ, "w": mmap.PROT_WRITE, "x": mmap.PROT_EXEC}


@dataclasses.dataclass(slots=True, frozen=True)
class Mapping:
    """One mapped part of the library."""

    start: int
    end: int
    protection: int

    def occurrences(self, pattern: bytes) -> Iterator[int]:
        """The addresses at which these bytes stand."""
        content = ctypes.string_at(self.start, self.end - self.start)
        at = content.find(pattern)
        while at >= 0:
            yield self.start + at
            at = content.find(pattern, at + 1)


def replace_constants(replacements: list[tuple[bytes, bytes]]) -> None:
    """Replace each constant of the library by one of its length. Raises ValueError where it does not have it once.

    Nothing is changed unless all of them are found.
    """
    mappings = list(_mappings())
    places: list[tuple[Mapping, int, bytes]] = []
    for old, new in replacements:
        if len(old) != len(new):
            raise ValueError(f"{len(old)} bytes cannot be replaced by {len(new)}")
        found = [(mapping, at, new) for mapping in mappings for at in mapping.occurrences(old)]
        if len(found) != 1:
            raise ValueError(
                f"this build of iroh has the built-in root certificate that a lab's authority stands in for "
                f"{len(found)} times, not once: it cannot be made to trust a lab's relay"
            )
        places += found
    for mapping, at, new in places:
        _write(mapping, at, new)


def _mappings() -> Iterator[Mapping]:
    with open("/proc/self/maps") as maps:
        for line in maps:
            span, flags, *_, name = line.split()
            if name.endswith(f"/{LIBRARY}") and flags.startswith("r"):
                start, end = (int(part, 16) for part in span.split("-"))
                yield Mapping(start, end, sum(PROTECTIONS.get(flag, 0) for flag in flags))


def _write(mapping: Mapping, at: int, new: bytes) -> None:
    """Write into a private mapping: the kernel copies the page for us alone."""
    first = at - at % mmap.PAGESIZE
    size = at + len(new) - first
    libc = ctypes.CDLL(None, use_errno=True)
    for protection in (mapping.protection | mmap.PROT_WRITE, mapping.protection):
        if libc.mprotect(ctypes.c_void_p(first), ctypes.c_size_t(size), protection):
            raise OSError(ctypes.get_errno(), "mprotect")
        if protection & mmap.PROT_WRITE:
            ctypes.memmove(at, new, len(new))
