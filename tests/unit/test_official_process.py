"""Starting a runner that does not come up."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from pytest_iroh.official.errors import OfficialDied, OfficialTimeout
from pytest_iroh.official.process import Process, Runner


class Started:
    """A popen that runs a program of its own, whatever it is asked for, and remembers both."""

    def __init__(self, program: str) -> None:
        self._program = program
        self.processes: list[subprocess.Popen[bytes]] = []
        self.argv: list[str] = []

    def __call__(self, argv: Sequence[str]) -> Process:
        self.argv = list(argv)
        log = argv[argv.index("--log") + 1]
        self.processes.append(subprocess.Popen([sys.executable, "-c", self._program, log]))
        return self.processes[-1]


def test_runner_that_dies_at_once_says_what_it_printed() -> None:
    """A failed import in the other environment is shown, not waited for."""
    popen = Started("import sys; open(sys.argv[1], 'w').write('no module iroh'); sys.exit(3)")
    with pytest.raises(OfficialDied, match=r"(?s)ended with 3.*no module iroh"):
        Runner(Path("/nowhere/python"), popen=popen, within=10.0)


def test_runner_that_never_connects_is_killed() -> None:
    """After the time given nothing is left behind: no process, no directory."""
    popen = Started("import signal; signal.pause()")
    with pytest.raises(OfficialTimeout):
        Runner(Path("/nowhere/python"), popen=popen, within=0.1)
    assert popen.processes[0].returncode is not None
    assert not Path(popen.argv[-1]).parent.exists()


def test_runner_is_started_isolated_from_our_environment() -> None:
    """Python gets -I, so that neither PYTHONPATH nor the user's site leaks into the other environment."""
    popen = Started("raise SystemExit(1)")
    with pytest.raises(OfficialDied):
        Runner(Path("/nowhere/python"), popen=popen, within=10.0)
    assert popen.argv[:2] == ["/nowhere/python", "-I"]
    assert Path(popen.argv[2], "__main__.py").is_file()
