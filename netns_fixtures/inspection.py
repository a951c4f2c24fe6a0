"""What a node's kernel says about its network: addresses, routes, rules, neighbours, sockets, NAT.

For evidence, so it never raises for what a machine lacks, and leaves no trace among the lab's events.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable

from netns_fixtures.errors import LabError
from netns_fixtures.messages import Reap, Spawn
from netns_fixtures.node import Node
from netns_fixtures.process import HostProcess, Plumbing, watch
from netns_fixtures.tracked import tracked

#: Seconds for all commands of a node together; each takes milliseconds.
TIMEOUT = 10.0
#: Processes at a time: a lab of hundreds of nodes must not start hundreds of shells at once.
_AT_A_TIME = 8

_LOOK = (
    "ip -details address",
    "ip -statistics link",
    "ip route show table all",
    "ip -6 route show table all",
    "ip rule",
    "ip -6 rule",
    "ip neighbour",
    "ss --all --numeric --processes --udp --tcp",
    "nft list ruleset",
)


def _script() -> str:
    lines = []
    for command in _LOOK:
        program = command.split()[0]
        missing = f"(not available: {program} is not installed)"
        lines.append(
            f'echo "# {command}"; if command -v {program} >/dev/null; then {command} 2>&1; '
            f'else echo "{missing}"; fi; echo'
        )
    return "\n".join(lines)


def inspect(nodes: Iterable[Node], timeout: float = TIMEOUT) -> dict[str, str]:
    """What the kernel says in each node, by its name; trouble stands in the text.

    ``timeout``: seconds per node.
    """
    found: dict[str, str] = {}
    waiting = list(nodes)
    while waiting:
        batch, waiting = waiting[:_AT_A_TIME], waiting[_AT_A_TIME:]
        started = [(node, _start(node)) for node in batch]
        for node, process in started:
            said = process if isinstance(process, str) else _finish(process, timeout)
            found[node.name] = f"{said}# tracked connections\n{_tracked(node)}\n"
    return found


def _start(node: Node) -> HostProcess | str:
    lab = node.lab
    # The usual places of these programs, wherever a test has moved its own PATH.
    path = os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin", "/sbin", "/usr/bin", "/bin"))
    argv = ("sh", "-c", _script())
    plumbing = Plumbing(None)
    try:
        with plumbing:
            request = Spawn(lab.ready(), node.number, argv, (("PATH", path), ("LC_ALL", "C")), "/")
            pid, (pidfd,) = lab.request(request, plumbing.theirs)
    except (LabError, OSError) as error:
        return f"(not available: {error})\n"

    def ended(process: HostProcess) -> int:
        status, _fds = lab.request(Reap(lab.number, process.pid))
        return 0 if status is None else int(status)

    process = HostProcess(argv, node.name, pid, pidfd, stdin=None, ended=ended, log=lambda _data: None)
    watch(process, plumbing.output, pidfd)
    return process


def _tracked(node: Node) -> str:
    try:
        return "\n".join(map(str, tracked(node))) or "none"
    except (LabError, OSError) as error:
        return f"(not available: {error})"


def _finish(process: HostProcess, timeout: float) -> str:
    try:
        process.wait(timeout)
    except TimeoutError:
        with contextlib.suppress(TimeoutError):  # what it wrote is what there is
            process.kill_and_wait()
        return f"{process.output}\n(cut short after {timeout:g} s)\n"
    return process.output
