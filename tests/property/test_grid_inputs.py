"""Files of results come from anywhere: any of them is read or refused."""

from __future__ import annotations

import contextlib
import json
import tempfile
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from netns_fixtures.errors import ResultsError
from netns_fixtures.grid import Results, compare, results_page
from netns_fixtures.grid.model import FORMAT

WORDS = st.sampled_from(
    ["name", "rows_name", "rows", "columns", "cells", "row", "tests", "runs", "values", "value"]
)
ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.just("passed"),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(WORDS, inner, max_size=6),
    max_leaves=20,
)


@given(st.text() | ANY.map(json.dumps))
def test_any_text_is_refused_or_read(text: str) -> None:
    """No other error than ours."""
    with contextlib.suppress(ResultsError):
        Results.parse(text)


@given(ANY, st.lists(ANY, max_size=3))
def test_any_cells_are_refused_or_shown(value: object, runs: list[object]) -> None:
    """What was read can be shown and compared."""
    cell = {"row": "a", "column": "b", "tests": ["t"], "chosen": True, "began": False}
    run = {"test": "t", "outcome": "passed", "values": [{"name": "x", "value": value}], "reason": "why"}
    grid = {"name": "g", "rows_name": "r", "columns_name": "c", "rows": ["a"], "columns": ["b"]}
    text = json.dumps(
        {"format": FORMAT, "about": {}, "grids": [grid | {"cells": [cell | {"runs": [run, *runs]}]}]}
    )
    try:
        found = Results.parse(text)
    except ResultsError:
        return
    assert "<html" in results_page(found)
    assert compare(found, found) == []


@given(st.binary(max_size=40))
def test_any_bytes_are_refused(data: bytes) -> None:
    """A file of another kind is an error of ours, too."""
    with tempfile.NamedTemporaryFile() as file:
        file.write(data)
        file.flush()
        with contextlib.suppress(ResultsError):
            Results.load(Path(file.name))
