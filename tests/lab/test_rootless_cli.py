"""``netns-lab`` without root: labs that stay up belong to the user who brought them up, and to nobody else."""

from __future__ import annotations

import os
import pty
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from terminal_kit import shell_status
from test_rootless import NOBODY, as_nobody, nobodys_python

from netns_fixtures.holding import places

pytestmark = pytest.mark.requires_netns

FILE = """
seed: 7
routers: {home: {nat: moderate}, hotspot: {nat: cgnat}}
hosts: {laptop: {uplink: home}, phone: {uplink: home}}
"""

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def nobodys_place() -> Iterator[Path]:
    """A directory of an unprivileged user, with a scenario file; pytest's own are root's alone."""
    if os.geteuid() != 0:
        pytest.skip("this test becomes another user, so it must start as root; the others here run as you")
    with tempfile.TemporaryDirectory(prefix="netns-lab-nobody-") as name:
        place = Path(name)
        os.chown(place, NOBODY, NOBODY)
        (place / "move.yaml").write_text(FILE)
        (place / "move.yaml").chmod(0o644)
        yield place


@pytest.fixture
def netns_lab(nobodys_place: Path) -> Iterator[Run]:
    """Run the command line as that user."""
    words, environment = nobodys_command(nobodys_place)

    def run(*more: object) -> subprocess.CompletedProcess[str]:
        return as_nobody([*words, *map(str, more)], **environment)

    yield run
    run("down", "--all")


def nobodys_command(place: Path) -> tuple[list[str], dict[str, str]]:
    found = nobodys_python()
    if found is None:
        pytest.skip("no Python here that another user may read (chmod a+rX it)")
    python, path = found
    state = str(place / "state")
    return [python, "-B", "-m", "netns_fixtures.cli"], {"path": path, places.VARIABLE: state}


def good(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_unprivileged_users_lab_stays_up_until_it_is_brought_down(
    nobodys_place: Path, netns_lab: Run
) -> None:
    """up, exec, do, shell --print, down: the user's own number in the hosts, and nothing left behind."""
    assert good(netns_lab("up", nobodys_place / "move.yaml", "--detach", "--name", "mine")) == "mine\n"
    assert (nobodys_place / "state").stat().st_uid == NOBODY
    script = "id -u; ip -4 -brief address show eth0"
    uid, address = good(netns_lab("exec", "mine", "laptop", "--", "sh", "-c", script)).splitlines()
    assert uid == str(NOBODY)
    assert "192.168.1.10/24" in address
    assert "replugged home -> hotspot" in good(netns_lab("do", "laptop.replug", "hotspot"))
    assert netns_lab("exec", "laptop", "--", "sh", "-c", "kill -9 $$").returncode == 128 + 9
    *enter, _shell = good(netns_lab("shell", "laptop", "--print")).split()
    assert "eth0" in good(as_nobody([*enter, "cat", "/proc/net/route"], ""))
    assert good(netns_lab("down", "mine")) == "mine is down\n"
    assert "no lab is up" in netns_lab("list").stderr


def test_shell_of_an_unprivileged_user_is_a_terminal_in_the_host(nobodys_place: Path, netns_lab: Run) -> None:
    """The same shell as root gets, with the host's interfaces; Ctrl-C reaches what runs in it."""
    good(netns_lab("up", nobodys_place / "move.yaml", "--detach"))
    words, environment = nobodys_command(nobodys_place)
    path = environment.pop("path")
    pid, terminal = pty.fork()
    if pid == 0:
        os.setgroups([])
        os.setgid(NOBODY)
        os.setuid(NOBODY)
        os.chdir("/")
        shell = {"SHELL": "/bin/sh", "PS1": "$ ", "ENV": "", "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
        os.execve(words[0], [*words, "shell", "laptop"], {**environment, **shell, "PYTHONPATH": path})
    assert shell_status(pid, terminal) == 7
