"""How labs grow: time to build and to tear down, and memory, by the number of nodes; beside munet from PyPI.

    python benchmarks/scale.py [--json] [--rounds 5] [--sizes 2,10,50,200,220] [--no-munet]

One size after the other, each several times; a round waits until the kernel has taken the last lab apart, so that it
measures its own work. "Processor" is what the agent and the kernel on its behalf used to build, which other work on
the machine does not change much. Memory: what the kernel's slabs (namespaces, interfaces, rules) and the agent grew
by while the lab was open; the slabs are the machine's, so other work on it shows. 220 nodes are 200 hosts behind 20
NATs. "Growth" is how much more a node costs in the largest lab than in one of 10 (memory: of 50): linear is 1.
munet's labs have one switch and no routing (its smallest form), of sizes that it manages.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from statistics import median
from typing import Any

from beside_munet import munet_python, munet_times
from figures import stats, timed
from lab_options import Options

from netns_fixtures import Lab
from netns_fixtures.client import shared_agent

#: munet crashes too often beyond this.
MUNET_MAX = 50
#: Seconds for the kernel to take a lab apart, per node, and at least: 5 ms per cable, twice that for a busy machine.
SETTLE_PER_NODE = 0.01
SETTLE = 0.8
NATS = ("moderate", "strict", "none", "open")
#: Hosts behind one router.
PER_ROUTER = 10


def main() -> None:
    """Measure, and print for people or as JSON."""
    options = Options.parse(__doc__, rounds=5, sizes="2,10,50,200,220")
    results = measure(options.sizes, options.rounds, munet=options.munet)
    if options.json:
        print(json.dumps(results, indent=2))
        return
    print(
        f"{'nodes':>6} {'build ms':>20} {'processor':>10} {'tear down ms':>13} {'kernel MB':>10} {'agent MB':>9}"
    )
    for row in results["rows"]:
        build = f"{row['build']['median']:.0f} ({row['build']['min']:.0f}-{row['build']['max']:.0f})"
        theirs = f"munet {row['munet']}" if "munet" in row else ""
        print(
            f"{row['nodes']:>6} {build:>20} {row['processor_ms']:>10.1f} {row['tear down']['median']:>13.1f}"
            f" {row['kernel_mb']:>10.1f} {row['agent_mb']:>9.1f}   {theirs}"
        )
    print(f"growth per node: build {results['growth']['build']}, kernel memory {results['growth']['memory']}")


def measure(sizes: list[int], rounds: int, *, munet: bool) -> dict[str, Any]:
    """A row per size, and how a node's cost grows from 10 nodes to the largest lab."""
    shared_agent()
    _round(2)  # imports, and the agent's first lab
    rows = []
    for size in sizes:
        row = _size(size, rounds)
        if munet and size <= MUNET_MAX:
            found = munet_times(munet_python(), size, 3 if size <= 10 else 1)
            row["munet"] = _munet_words(found)
        rows.append(row)
    return {"rows": rows, "growth": _growth(rows)}


def _size(nodes: int, rounds: int) -> dict[str, Any]:
    found = [_round(nodes) for _ in range(rounds)]
    return {
        "nodes": nodes,
        "build": stats([each[0] for each in found]),
        "tear down": stats([each[1] for each in found]),
        "processor_ms": round(median(each[4] for each in found), 1),
        "kernel_mb": round(median(each[2] for each in found), 1),
        "agent_mb": round(median(each[3] for each in found), 1),
    }


def _round(nodes: int) -> tuple[float, float, float, float, float]:
    """Milliseconds to build and to tear down; MB of the kernel and the agent while open; the build's processor ms."""
    lab = Lab()
    _describe(nodes, lab)
    slab, agent, used = _slab(), _resident(), _processor()
    build = timed(lab.build)
    used = _processor() - used
    slab, agent = _slab() - slab, _resident() - agent
    close = timed(lab.close)
    time.sleep(max(SETTLE, nodes * SETTLE_PER_NODE))
    return build, close, slab, agent, used


def _describe(nodes: int, lab: Lab) -> None:
    """Routers with up to ten hosts each."""
    wanted = max(1, round(nodes / (PER_ROUTER + 1)))
    routers = [lab.router(f"r{n}", nat=NATS[n % len(NATS)]) for n in range(wanted)]
    for number in range(nodes - wanted):
        lab.host(f"h{number}", uplink=routers[number % wanted])


def _slab() -> float:
    return _field(Path("/proc/meminfo"), "Slab:") / 1024


def _resident() -> float:
    return _field(Path(f"/proc/{shared_agent().pid}/status"), "VmRSS:") / 1024


def _processor() -> float:
    """Milliseconds that the agent ran so far."""
    return int(Path(f"/proc/{shared_agent().pid}/schedstat").read_text().split()[0]) / 1e6


def _field(path: Path, name: str) -> int:
    """A number of kB out of a file of the kernel."""
    return next(int(line.split()[1]) for line in path.read_text().splitlines() if line.startswith(name))


#: The sizes from which growth counts. Memory: ten nodes fit into what the last lab left free in the kernel's slabs.
GROWTH_FROM = {"processor_ms": 10, "kernel_mb": 50}


def _growth(rows: list[dict[str, Any]]) -> dict[str, float | None]:
    """How much more a node costs in the largest lab than in a small one."""
    build, memory = (_ratio(rows, value) for value in GROWTH_FROM)
    return {"build": build, "memory": memory}


def _ratio(rows: list[dict[str, Any]], value: str) -> float | None:
    base = next((row for row in rows if row["nodes"] == GROWTH_FROM[value]), None)
    last = rows[-1]
    if base is None or base is last or base[value] <= 0:
        return None
    return float(round(last[value] / last["nodes"] / (base[value] / base["nodes"]), 2))


def _munet_words(found: dict[str, Any]) -> str:
    if "build" not in found:
        return f"crashed ({found['crashes']})"
    return (
        f"{found['build']['median']:.0f} / {found['tear down']['median']:.0f} ms, crashes {found['crashes']}"
    )


if __name__ == "__main__":
    main()
