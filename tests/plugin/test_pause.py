"""``--netns-pause-on-failure``: a person at a terminal looks around in the lab of a failed test."""

from __future__ import annotations

import fcntl
import os
import re
import select
import shlex
import signal
import subprocess
import sys
import termios
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

#: Seconds for a run to come to its pause, and to its end.
PATIENCE = 60.0

PROJECT = """
    def test_fails(lab):
        home = lab.router("home", nat="moderate")
        laptop = lab.host("laptop", uplink=home)
        lab.host("server", uplink=lab.router("centre"))
        lab.build()
        laptop.renumber(address="192.168.1.77")
        assert False

    def test_passes(lab):
        lab.host("laptop", uplink=lab.router("home")).renumber()
"""


class Terminal:
    """A pytest at a terminal of its own, seen by a person: what it wrote, and keys."""

    def __init__(self, place: Path) -> None:
        self.seen = ""
        self._master, slave = os.openpty()
        argv = [sys.executable, "-m", "pytest", "--netns-pause-on-failure", "--color=no"]
        self.process = subprocess.Popen(
            argv,
            cwd=place,
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )
        os.close(slave)

    def wait_for(self, pattern: str) -> re.Match[str]:
        """Read until the text matches."""
        deadline = time.monotonic() + PATIENCE
        while not (match := re.search(pattern, self.seen, re.MULTILINE)):
            left = deadline - time.monotonic()
            assert left > 0, self.seen
            if select.select([self._master], [], [], left)[0]:
                self.seen += self._read()
        return match

    def press_enter(self) -> None:
        """The person is done."""
        os.write(self._master, b"\n")

    def end(self) -> int:
        """Wait for the end; returns the exit status."""
        self.wait_for(r"in \d+\.\d+s")
        return self.process.wait(PATIENCE)

    def close(self) -> None:
        """Whatever happened, nothing of it stays."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        os.close(self._master)

    def _read(self) -> str:
        try:
            return os.read(self._master, 65536).decode().replace("\r\n", "\n")
        except OSError:  # the other end is gone
            pytest.fail(f"the run ended: {self.seen}")


@pytest.fixture
def terminal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Terminal]:
    """A failing and a passing test, run at a terminal."""
    monkeypatch.delenv("PYTEST_ADDOPTS", raising=False)
    (tmp_path / "test_it.py").write_text(textwrap.dedent(PROJECT))
    (tmp_path / "pytest.ini").write_text("[pytest]\naddopts = -p no:cacheprovider\n")
    made = Terminal(tmp_path)
    yield made
    made.close()


@pytest.mark.requires_netns
def test_the_printed_command_enters_the_host(terminal: Terminal) -> None:
    """It is run as printed, from another process, and shows the network as the test left it; Enter goes on."""
    command = terminal.wait_for(r"^  laptop +(nsenter .*)$").group(1)
    terminal.wait_for("^Press Enter to go on")

    inside = [*shlex.split(command)[:-1], "cat", "/proc/net/fib_trie"]
    done = subprocess.run(inside, capture_output=True, text=True, timeout=PATIENCE, check=True)
    assert "192.168.1.77" in done.stdout

    terminal.press_enter()
    assert terminal.end() == pytest.ExitCode.TESTS_FAILED
    assert "1 failed, 1 passed" in terminal.seen
    assert re.findall(r"^  (\w+) +nsenter", terminal.seen, re.MULTILINE) == [
        "laptop",
        "server",
        "home",
        "centre",
    ]


@pytest.mark.requires_netns
def test_a_signal_goes_on_as_well(terminal: Terminal) -> None:
    """A script that looked around needs no terminal."""
    told = terminal.wait_for(r"kill -USR1 (\d+)").group(1)
    assert int(told) == terminal.process.pid

    os.kill(int(told), signal.SIGUSR1)

    assert terminal.end() == pytest.ExitCode.TESTS_FAILED


def test_without_a_terminal_it_refuses(pytester: pytest.Pytester) -> None:
    """A run that nobody could let go on does not begin."""
    pytester.makepyfile("def test_it(): pass")
    argv = [sys.executable, "-m", "pytest", "--netns-pause-on-failure"]

    done = subprocess.run(argv, cwd=pytester.path, capture_output=True, text=True, start_new_session=True)

    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert "waits for you at a terminal, and this run has none" in done.stderr


def test_under_xdist_it_refuses(pytester: pytest.Pytester) -> None:
    """Workers have no terminal."""
    pytester.makepyfile("def test_it(): pass")

    result = pytester.runpytest("--netns-pause-on-failure", "-n", "2")

    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: --netns-pause-on-failure waits for you, * run without -n"])


@pytest.mark.usefixtures("fake_labs")
def test_a_test_without_a_running_lab_is_not_held(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There is nothing to enter."""
    monkeypatch.setattr("pytest_iroh.pause.check", lambda _config: None)
    pytester.makepyfile("def test_it(lab): assert False")

    pytester.runpytest("--netns-pause-on-failure").assert_outcomes(failed=1)
