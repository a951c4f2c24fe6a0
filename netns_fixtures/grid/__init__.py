"""Results of tests as grids (NAT by NAT, link by load): their file, their page, and what changed between two.

``pytest --netns-grid`` writes them, ``netns-lab compare`` reads them; any other program may do either.
"""

from __future__ import annotations

from netns_fixtures.grid.comparing import Change, Rule, compare
from netns_fixtures.grid.model import Cell, Grid, Results, Run, Value
from netns_fixtures.grid.page import comparison_page, results_page

__all__ = [
    "Cell",
    "Change",
    "Grid",
    "Results",
    "Rule",
    "Run",
    "Value",
    "compare",
    "comparison_page",
    "results_page",
]
