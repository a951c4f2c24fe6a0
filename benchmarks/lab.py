"""What a lab costs: start of the agent, build and tear-down by size, one verb; beside munet from PyPI.

    python benchmarks/lab.py [--json] [--rounds 9] [--sizes 2,10,50] [--no-munet]

Medians (and ranges) of several rounds, all in one run on one machine. "Build" is from a description to namespaces
in which packets flow; ours with NATs, routers and both IP families, munet's with one switch and no routing, its
smallest form. Bounds: 2 hosts and 3 routers in 60 ms, 10 nodes in 100 ms, 50 in 500 ms, tear-down in 5 ms. munet
lives in a virtual environment of its own (made here on first use) and in a PID namespace, without which it crashes.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

from netns_fixtures import Host, Lab, Router
from netns_fixtures.client import Agent, shared_agent

MUNET = "munet==0.17.3"
#: After so many crashes of one size the benchmark goes on without it.
MUNET_FAILURES = 6
#: The namespaces of one lab are taken apart by the kernel in the background; give it that time between rounds, so
#: that a round measures its own work. "back to back" measures without.
SETTLE = 0.6
NATS = ("moderate", "strict", "none", "open", "moderate")

MUNET_SCRIPT = """
import asyncio, json, logging, os, sys, tempfile, time
logging.disable(logging.CRITICAL)
from munet.parser import async_build_topology

async def once(nodes, rundir):
    hosts = [{"name": f"n{i}", "connections": [{"to": "net0"}]} for i in range(nodes)]
    topology = {"networks-autonumber": True, "networks": [{"name": "net0"}], "nodes": hosts}
    config = {"version": 1, "topology": topology, "config_pathname": os.path.join(rundir, "munet.yaml")}
    start = time.perf_counter()
    unet = await async_build_topology(config, rundir=rundir)
    built = time.perf_counter()
    await unet.async_delete()
    return built - start, time.perf_counter() - built

with tempfile.TemporaryDirectory(prefix="munet-bench-") as rundir:
    print("RESULT", json.dumps(asyncio.run(once(int(sys.argv[1]), rundir))))
"""


def main() -> None:
    """Measure, and print for people or as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--sizes", default="2,10,50", help="numbers of nodes")
    parser.add_argument("--no-munet", action="store_true", help="measure only ours")
    options = parser.parse_args()
    sizes = [int(size) for size in options.sizes.split(",")]
    results = measure(sizes, options.rounds, munet=not options.no_munet)
    if options.json:
        print(json.dumps(results, indent=2))
        return
    for title, rows in results.items():
        print(title)
        for name, value in rows.items():
            print(f"  {name:34} {_show(value)}")


def measure(sizes: list[int], rounds: int, *, munet: bool) -> dict[str, dict[str, Any]]:
    """All figures, in milliseconds."""
    results: dict[str, dict[str, Any]] = {
        "agent": {"start, once per process": _stats(_agent_starts(min(rounds, 5)))}
    }
    shared_agent()
    results["2 hosts, 3 routers"] = lab_times(_five, rounds)
    for size in sizes:
        results[f"{size} nodes"] = lab_times(partial(_star, size), rounds)
    results["10 nodes, back to back"] = lab_times(partial(_star, 10), 2 * rounds, settle=0)
    results["verbs"] = verb_times(rounds)
    if munet:
        python = _munet_python()
        for size in sizes:
            results[f"munet, {size} nodes"] = munet_times(python, size, 5 if size <= 10 else 2)
    return results


def lab_times(describe: Callable[[Lab], None], rounds: int, settle: float = SETTLE) -> dict[str, Any]:
    """Describe, build and tear down, several times."""
    times: dict[str, list[float]] = {"describe": [], "build": [], "tear down": []}
    for _ in range(rounds):
        lab = Lab()
        times["describe"].append(_timed(partial(describe, lab)))
        times["build"].append(_timed(lab.build))
        times["tear down"].append(_timed(lab.close))
        time.sleep(settle)
    return {name: _stats(values) for name, values in times.items()}


def verb_times(rounds: int) -> dict[str, Any]:
    """One verb each, in a lab that runs."""
    with Lab() as lab:
        home, hotspot = lab.router("home", nat="moderate"), lab.router("hotspot", nat="cgnat")
        host = lab.host("laptop", uplink=home)
        lab.build()
        return {
            name: _stats([_timed(verb) for _ in range(rounds)]) for name, verb in _verbs(host, home, hotspot)
        }


def munet_times(python: Path, nodes: int, rounds: int) -> dict[str, Any]:
    """The same number of nodes in munet, each round in a process of its own.

    It fails at random while it looks for its own children (``pgrep`` comes before the fork), the more nodes the
    more often; such a round is tried again, and the number of failures is part of the result.
    """
    builds: list[float] = []
    ends: list[float] = []
    failures = 0
    while len(builds) < rounds and failures < MUNET_FAILURES:
        times = _munet_once(python, nodes)
        if times is None:
            failures += 1
            continue
        builds.append(times[0] * 1000)
        ends.append(times[1] * 1000)
    measured = {"build": _stats(builds), "tear down": _stats(ends)} if builds else {}
    return {**measured, "crashes": f"{failures} of {failures + len(builds)} tries"}


def _verbs(host: Host, home: Router, hotspot: Router) -> list[tuple[str, Callable[[], object]]]:
    def flip() -> None:
        host.link.down()
        host.link.up()

    def move() -> None:
        host.replug(hotspot)
        host.replug(home)

    return [
        ("link down and up", flip),
        ("replug there and back", move),
        ("renumber", host.renumber),
        ("NAT rebind", home.nat.rebind),
        ("socket", lambda: host.socket(socket.AF_INET, socket.SOCK_DGRAM).close()),
        ("popen true and wait", lambda: host.popen(["true"]).wait()),
        ("run a function", lambda: host.run(os.getpid)),
        ("splice a wire, then change it", lambda: host.link.condition(delay=0.01)),
    ]


def _five(lab: Lab) -> None:
    home, _hotspot, centre = (lab.router(name, nat=nat) for name, nat in zip("abc", NATS, strict=False))
    lab.host("laptop", uplink=home)
    lab.host("server", uplink=centre)


def _star(nodes: int, lab: Lab) -> None:
    """One router for up to ten nodes more; the rest are hosts, spread over them."""
    wanted = min(len(NATS), 1 + nodes // 5)
    routers = [lab.router(f"r{n}", nat=NATS[n]) for n in range(wanted)]
    for number in range(nodes - wanted):
        lab.host(f"h{number}", uplink=routers[number % wanted])


def _agent_starts(rounds: int) -> list[float]:
    return [_timed(lambda: Agent.start().close()) for _ in range(rounds)]


def _timed(step: Callable[[], object]) -> float:
    start = time.perf_counter()
    step()
    return (time.perf_counter() - start) * 1000


def _stats(values: list[float]) -> dict[str, float]:
    return {"median": round(median(values), 2), "min": round(min(values), 2), "max": round(max(values), 2)}


def _show(value: dict[str, float] | str) -> str:
    if isinstance(value, str):
        return value
    return f"{value['median']:9.2f} ms   ({value['min']:.2f} to {value['max']:.2f})"


def _munet_python() -> Path:
    home = Path(tempfile.gettempdir()) / f"munet-bench-venv-{os.getuid()}"
    python = home / "bin" / "python"
    if not (home / "ready").exists():
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(home)], check=True)
        subprocess.run(
            [str(python), "-m", "pip", "install", "-q", MUNET], check=True, stdout=subprocess.DEVNULL
        )
        (home / "ready").touch()
    return python


def _munet_once(python: Path, nodes: int) -> tuple[float, float] | None:
    command = ["unshare", "-mpf", "--kill-child", "--mount-proc", str(python), "-c", MUNET_SCRIPT, str(nodes)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    line = next((text for text in done.stdout.splitlines() if text.startswith("RESULT ")), None)
    if line is None:
        return None
    build, end = json.loads(line.removeprefix("RESULT "))
    return build, end


if __name__ == "__main__":
    main()
