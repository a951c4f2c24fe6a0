"""docs/compared.md says of each feature which test shows it."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "compared.md"
LINK = re.compile(r"\[(\w+)\]\(\.\./(tests/[\w/]+\.py)\)")
#: Feature, ours, and ten others.
COLUMNS = 12


def rows() -> list[list[str]]:
    """The cells of every row of every table, without headings."""
    lines = [line for line in PAGE.read_text().splitlines() if line.startswith("| ")]
    cells = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]
    return [row for row in cells if row[0] != "feature"]


@cache
def functions(path: Path) -> set[str]:
    return set(re.findall(r"^ *(?:async )?def (test_\w+)", path.read_text(), re.MULTILINE))


@pytest.mark.parametrize("row", rows(), ids=lambda row: re.sub(r"\W+", "-", row[0]))
def test_a_claim_has_a_test_that_exists(row: list[str]) -> None:
    """Whoever doubts a row can run it; what we do not have is not claimed."""
    assert len(row) == COLUMNS
    ours = row[1]
    assert re.match(r"\*\*[Y~–]\*\*", ours)
    links = LINK.findall(ours)
    assert links or not ours.startswith("**Y**"), "a claim without a test"
    for name, file in links:
        assert name in functions(ROOT / file), f"{file} has no {name}"


def test_every_area_of_the_survey_is_there() -> None:
    """Three tables of a survey, none of them thinned out."""
    assert len(rows()) >= 60
