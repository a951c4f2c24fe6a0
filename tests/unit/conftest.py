"""Fixtures of the unit tests."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

_VECTORS = Path(__file__).parent.parent / "vectors" / "VECTORS.txt"


@pytest.fixture(scope="session")
def vector() -> Callable[[str], str]:
    """Look up a test vector by its name in ``tests/vectors/VECTORS.txt``."""
    vectors: dict[str, str] = {}
    name = ""
    for line in _VECTORS.read_text().splitlines():
        if line.startswith("  "):
            vectors[name] = line.strip()
        else:
            name = line
    return vectors.__getitem__
