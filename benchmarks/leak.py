"""Whether labs leave anything behind: many in a row, then a count of everything that could have leaked.

    python benchmarks/leak.py [--json] [--labs 100] [--full-every 1]

Each lab has NATs, an impaired link, a socket, a program and a function in its hosts, and a recording (with
--full-every 10 each tenth one; the others are a host, a router and a socket). Counted in this process and its agent:
descriptors and threads; network namespaces that any process of ours is in or holds, those processes, and bytes in a
temporary directory of their own. The first labs make what stays for good (the agent, the wire process), so the count
begins after them. Exit status 1 when something was left.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import sys
import tempfile
import threading
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from netns_fixtures import Lab
from netns_fixtures.client import shared_agent
from netns_fixtures.drain import Drain
from netns_fixtures.recording import record

#: Labs before the count.
WARM_UP = 3
#: Seconds for closed labs to be given back, which the agent does when it has nothing else to do.
PATIENCE = 60.0


@dataclass(frozen=True, slots=True)
class Count:
    """What there is: in this process, in the agent, on disk."""

    descriptors: int
    threads: int
    agent_descriptors: int
    agent_threads: int
    namespaces: int
    processes: int
    bytes: int


def main() -> int:
    """Measure, and print for people or as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--labs", type=int, default=100)
    parser.add_argument("--full-every", type=int, default=1, help="how often a lab has everything in it")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="leak-bench-") as directory:
        tempfile.tempdir = os.environ["TMPDIR"] = directory
        before, after, seconds = measure(options.labs, options.full_every, Path(directory))
    if options.json:
        result = {"labs": options.labs, "seconds": seconds, "before": asdict(before), "after": asdict(after)}
        print(json.dumps(result, indent=2))
    else:
        print(f"{options.labs} labs in {seconds:.1f} s")
        for name, value in asdict(before).items():
            print(f"  {name:18} {value:8} -> {asdict(after)[name]}")
    return 0 if before == after else 1


def measure(labs: int, full_every: int, directory: Path) -> tuple[Count, Count, float]:
    """Before, after, and the seconds that the labs took."""
    for _ in range(WARM_UP):
        use_a_lab()
    before = settled(directory)
    started = time.perf_counter()
    for number in range(labs):
        use_a_lab() if number % full_every == 0 else use_a_small_lab()
    seconds = time.perf_counter() - started
    return before, settled(directory, before), seconds


def use_a_lab() -> None:
    """Build a lab, use all that holds something open, and close it without tidying up."""
    with Lab("leak") as lab:
        recording = record(lab)
        home, centre = lab.router("home", nat="moderate"), lab.router("centre")
        laptop, server = lab.host("laptop", uplink=home, delay=0.001), lab.host("server", uplink=centre)
        with laptop.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.sendto(b"x", (server.ip, 9))
        laptop.popen(["sleep", "1000"])
        assert server.run(os.getpid)
        laptop.renumber()
        home.nat.rebind()
        recording.abandon()


def use_a_small_lab() -> None:
    """The least that a test uses."""
    with Lab("leak") as lab:
        laptop = lab.host("laptop", uplink=lab.router("home", nat="moderate"))
        with laptop.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.sendto(b"x", ("198.51.100.1", 9))


def settled(directory: Path, wanted: Count | None = None) -> Count:
    """Count when nothing changes any more, or when it is as wanted; seconds of PATIENCE at most."""
    deadline = time.monotonic() + PATIENCE
    Drain.shared().join(PATIENCE)
    last, steady = count(directory), 0
    while time.monotonic() < deadline and last != wanted and steady < (10 if wanted is None else 10**9):
        time.sleep(0.1)  # there is no event for the end of a namespace
        now = count(directory)
        steady = steady + 1 if now == last else 0
        last = now
    return last


def count(directory: Path) -> Count:
    """Everything that is there now."""
    agent = shared_agent().pid
    family = _descendants(os.getpid())
    return Count(
        descriptors=len(os.listdir("/proc/self/fd")),
        threads=threading.active_count(),
        agent_descriptors=len(os.listdir(f"/proc/{agent}/fd")),
        agent_threads=len(os.listdir(f"/proc/{agent}/task")),
        namespaces=len({link for pid in (os.getpid(), *family) for link in _namespaces(pid)}),
        processes=len(family),
        bytes=sum(path.stat().st_size for path in directory.rglob("*") if path.is_file()),
    )


def _namespaces(pid: int) -> set[str]:
    """The network namespaces that a process is in or holds open."""
    found = set()
    for link in (Path(f"/proc/{pid}/ns/net"), *_entries(Path(f"/proc/{pid}/fd"))):
        try:
            target = os.readlink(link)
        except OSError:
            continue  # closed, or ended, just now
        if target.startswith("net:"):
            found.add(target)
    return found


def _descendants(pid: int) -> list[int]:
    try:
        text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    except OSError:
        return []
    children = [int(word) for word in text.split()]
    return [each for child in children for each in (child, *_descendants(child))]


def _entries(directory: Path) -> list[Path]:
    try:
        return list(directory.iterdir())
    except OSError:
        return []


if __name__ == "__main__":
    sys.exit(main())
