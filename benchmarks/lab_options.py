"""The options of the benchmarks that build labs of several sizes."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from typing import Self


@dataclass(frozen=True, slots=True)
class Options:
    """``json``: for a machine; ``sizes``: numbers of nodes; ``munet``: beside it."""

    json: bool
    rounds: int
    sizes: list[int]
    munet: bool

    @classmethod
    def parse(cls, doc: str | None, *, rounds: int, sizes: str) -> Self:
        """Those of the command line; ``doc`` is the benchmark's, of which the help shows the first line."""
        parser = argparse.ArgumentParser(description=doc.splitlines()[0] if doc else "")
        parser.add_argument("--json", action="store_true", help="print one JSON object")
        parser.add_argument("--rounds", type=int, default=rounds)
        parser.add_argument("--sizes", default=sizes, help="numbers of nodes")
        parser.add_argument("--no-munet", action="store_true", help="measure only ours")
        given = parser.parse_args()
        nodes = [int(size) for size in given.sizes.split(",")]
        return cls(given.json, given.rounds, nodes, not given.no_munet)
