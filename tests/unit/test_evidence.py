"""Directories of artifacts."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_iroh.evidence import MAX_SLUG, new_directory, slug


@pytest.mark.parametrize(
    ("nodeid", "name"),
    [
        ("tests/lab/test_nat.py::test_rebind[home-cgnat]", "tests-lab-test_nat-test_rebind-home-cgnat"),
        ("test_a.py::TestB::test_c", "test_a-TestB-test_c"),
        ("test_a.py::test_c[../../etc/passwd]", "test_a-test_c-..-..-etc-passwd"),
        ("test_a.py::test_ü[x y]", "test_a-test_ü-x-y"),
        ("///", "test"),
    ],
)
def test_slug_reads_like_the_test(nodeid: str, name: str) -> None:
    """A directory is named after its test, in one component of a path."""
    assert slug(nodeid) == name
    assert "/" not in slug(nodeid)


def test_long_names_stay_apart() -> None:
    """Very long names are cut, and a hash keeps them different."""
    first, second = (slug("test_a.py::test_b[" + "x" * 500 + end + "]") for end in "12")

    assert first != second
    assert len(first) == len(second) == MAX_SLUG


def test_attempts_never_share_a_directory(tmp_path: Path) -> None:
    """Each attempt gets the next free number."""
    made = [new_directory(tmp_path, "test_a.py::test_b").relative_to(tmp_path) for _ in range(3)]

    assert list(map(str, made)) == [f"test_a-test_b/attempt-{number}" for number in (1, 2, 3)]
