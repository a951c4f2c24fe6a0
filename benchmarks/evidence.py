"""What evidence costs a test: the same tests with recording and without, in turn.

    python benchmarks/evidence.py [--json] [--rounds 15] [--kind transfer]

"off" records nothing, "retain-on-failure" records and throws away (what a passing test costs by default), "on" also
writes everything. The three take turns test by test in one pytest, so that they meet the same machine. Set-up, body
and tear-down together: medians, the median of the ratios to the "off" test before it, and the processor time of the
test process. Bound: recording costs at most 10 % of a test's time.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import textwrap
from pathlib import Path
from statistics import median
from typing import Any

COLUMNS = (("ms", "percent"), ("cpu_ms", "cpu_percent"))
POLICIES = ("off", "retain-on-failure", "on")
#: A test of each kind: hosts alone, a program, a connection that moves, and one that transfers as fast as it can.
TESTS = """
    import os
    import socket
    import pytest
    from pytest_iroh import echo

    POLICIES = os.environ["POLICIES"].split()
    NUMBERS = range(int(os.environ["ROUNDS"]))
    rounds = pytest.mark.parametrize("round", [f"{n}-{policy}" for n in NUMBERS for policy in POLICIES])

    def network(lab):
        home, hotspot = lab.router("home", nat="moderate"), lab.router("hotspot", nat="moderate")
        return lab.host("laptop", uplink=home), lab.host("server", uplink=lab.router("centre")), hotspot

    @rounds
    def test_packets(lab, round):
        laptop, server, _hotspot = network(lab)
        with laptop.socket(socket.AF_INET, socket.SOCK_DGRAM) as client, \\
                server.socket(socket.AF_INET, socket.SOCK_DGRAM) as service:
            service.bind((server.ip, 7))
            for number in range(200):
                client.sendto(b"x" * 100, (server.ip, 7))
                service.recv(200)

    @rounds
    def test_program(lab, round):
        laptop, server, _hotspot = network(lab)
        assert laptop.popen(["sh", "-c", "echo hello"]).check(20) == "hello\\n"

    @rounds
    async def test_move(lab, endpoints, heals, round):
        laptop, server, hotspot = network(lab)
        async with endpoints.connect(laptop, server) as connection:
            async with heals(connection):
                laptop.replug(hotspot)
            async with heals(connection):
                laptop.renumber()

    @rounds
    async def test_transfer(lab, endpoints, round):
        laptop, server, _hotspot = network(lab)
        async with endpoints.connect(laptop, server) as connection:
            for _ in range(10):
                assert len(await echo(connection, bytes(1 << 20), 60)) == 1 << 20
"""
CONFTEST = """
    import dataclasses, json, os, time
    import pytest
    from pytest_iroh.options import SETTINGS, settings_of

    TIMES = {}

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_protocol(item):
        policy = item.callspec.params["round"].partition("-")[2]
        item.config.stash[SETTINGS] = dataclasses.replace(settings_of(item.config), artifacts=policy)
        wall, used = time.perf_counter(), time.process_time()
        result = yield
        spent = (time.perf_counter() - wall, time.process_time() - used)
        TIMES.setdefault(item.originalname, {}).setdefault(policy, []).append(spent)
        return result

    def pytest_sessionfinish(exitstatus):
        with open(os.environ["TIMES"], "w") as file:
            json.dump(TIMES if exitstatus == 0 else {}, file)
"""
#: The first rounds of a run import modules and start the agent.
WARM_UP = 2


def main() -> None:
    """Measure, and print for people or as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--rounds", type=int, default=15, help="tests of each kind and policy")
    parser.add_argument("--kind", default="", help="only tests whose name contains this")
    options = parser.parse_args()
    results = measure(options.rounds, options.kind)
    if options.json:
        print(json.dumps(results, indent=2))
        return
    for kind, row in results.items():
        print(kind)
        for policy, cells in row.items():
            wall, cpu = (f"{cells[a]:8.1f} ms ({cells[b]:+6.1f} %)" for a, b in COLUMNS)
            print(f"  {policy:20} {wall}   processor {cpu}")


def measure(rounds: int, kind: str) -> dict[str, dict[str, dict[str, float]]]:
    """Per kind of test and policy: median milliseconds, processor milliseconds, and percent above "off"."""
    return {name: _compare(policies) for name, policies in _run(rounds, kind).items()}


def _compare(policies: dict[str, list[list[float]]]) -> dict[str, dict[str, float]]:
    rows = {}
    for policy, times in policies.items():
        pairs = list(zip(times, policies["off"], strict=True))[WARM_UP:]
        rows[policy] = {
            "ms": round(median(wall for (wall, _cpu), _off in pairs) * 1000, 2),
            "cpu_ms": round(median(cpu for (_wall, cpu), _off in pairs) * 1000, 2),
            "percent": round(median(mine[0] / off[0] - 1 for mine, off in pairs) * 100, 1),
            "cpu_percent": round(median(mine[1] / off[1] - 1 for mine, off in pairs) * 100, 1),
        }
    return rows


def _run(rounds: int, kind: str) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="evidence-bench-") as name:
        place = Path(name)
        (place / "test_it.py").write_text(textwrap.dedent(TESTS))
        (place / "conftest.py").write_text(textwrap.dedent(CONFTEST))
        (place / "pytest.ini").write_text("[pytest]\nasyncio_mode = auto\n")
        argv = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
        environment = {
            **os.environ,
            "ROUNDS": str(rounds),
            "POLICIES": " ".join(POLICIES),
            "TIMES": str(place / "times"),
        }
        command = [*argv, "--netns-strict", "-k", kind or "test"]
        done = subprocess.run(
            command, cwd=place, env=environment, capture_output=True, text=True, timeout=900
        )
        if done.returncode:
            raise SystemExit(done.stdout)
        times: dict[str, Any] = json.loads((place / "times").read_text())
        return times


if __name__ == "__main__":
    main()
