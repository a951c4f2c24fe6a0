"""The same labs in munet from PyPI, in a virtual environment and a PID namespace of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from figures import stats

MUNET = "munet==0.17.3"
#: After so many crashes of one size the benchmark goes on without it.
MUNET_FAILURES = 6

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
    measured = {"build": stats(builds), "tear down": stats(ends)} if builds else {}
    return {**measured, "crashes": f"{failures} of {failures + len(builds)} tries"}


def munet_python() -> Path:
    """The interpreter of that environment, made at first use."""
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
