"""What a lab costs: start of the agent, build and tear-down by size, one verb; beside munet from PyPI.

    python benchmarks/lab.py [--json] [--rounds 9] [--sizes 2,10,50] [--no-munet]

Medians (and ranges) of several rounds, all in one run on one machine. "Build" is from a description to namespaces
in which packets flow; ours with NATs, routers and both IP families, munet's with one switch and no routing, its
smallest form. Bounds: 2 hosts and 3 routers in 60 ms, 10 nodes in 100 ms, 50 in 500 ms, tear-down in 5 ms. munet
lives in a virtual environment of its own (made here on first use) and in a PID namespace, without which it crashes.
"""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from beside_munet import munet_python, munet_times
from figures import stats, timed
from lab_options import Options

from netns_fixtures import Host, Lab, Router
from netns_fixtures.client import Agent, shared_agent

#: The namespaces of one lab are taken apart by the kernel in the background; give it that time between rounds, so
#: that a round measures its own work. "back to back" measures without.
SETTLE = 0.6
NATS = ("moderate", "strict", "none", "open", "moderate")


def main() -> None:
    """Measure, and print for people or as JSON."""
    options = Options.parse(__doc__, rounds=9, sizes="2,10,50")
    results = measure(options.sizes, options.rounds, munet=options.munet)
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
        "agent": {"start, once per process": stats(_agent_starts(min(rounds, 5)))}
    }
    shared_agent()
    results["2 hosts, 3 routers"] = lab_times(_five, rounds)
    for size in sizes:
        results[f"{size} nodes"] = lab_times(partial(_star, size), rounds)
    results["10 nodes, back to back"] = lab_times(partial(_star, 10), 2 * rounds, settle=0)
    results["verbs"] = verb_times(rounds)
    if munet:
        python = munet_python()
        for size in sizes:
            results[f"munet, {size} nodes"] = munet_times(python, size, 5 if size <= 10 else 2)
    return results


def lab_times(describe: Callable[[Lab], None], rounds: int, settle: float = SETTLE) -> dict[str, Any]:
    """Describe, build and tear down, several times."""
    times: dict[str, list[float]] = {"describe": [], "build": [], "tear down": []}
    for _ in range(rounds):
        lab = Lab()
        times["describe"].append(timed(partial(describe, lab)))
        times["build"].append(timed(lab.build))
        times["tear down"].append(timed(lab.close))
        time.sleep(settle)
    return {name: stats(values) for name, values in times.items()}


def verb_times(rounds: int) -> dict[str, Any]:
    """One verb each, in a lab that runs."""
    with Lab() as lab:
        home, hotspot = lab.router("home", nat="moderate"), lab.router("hotspot", nat="cgnat")
        host = lab.host("laptop", uplink=home)
        lab.build()
        return {
            name: stats([timed(verb) for _ in range(rounds)]) for name, verb in _verbs(host, home, hotspot)
        }


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
    return [timed(lambda: Agent.start().close()) for _ in range(rounds)]


def _show(value: dict[str, float] | str) -> str:
    if isinstance(value, str):
        return value
    return f"{value['median']:9.2f} ms   ({value['min']:.2f} to {value['max']:.2f})"


if __name__ == "__main__":
    main()
