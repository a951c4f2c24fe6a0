"""Doors: the command with which a person enters a node, as root and without."""

from __future__ import annotations

import json
import subprocess

import pytest
from test_rootless import as_nobody, nobodys_python

from netns_fixtures import Lab, LabClosed
from netns_fixtures.door import Door

SCRIPT = """
import json, os, subprocess
from netns_fixtures import Lab
from netns_fixtures.door import Door

with Lab() as lab:
    laptop = lab.host("laptop", uplink=lab.router("home", nat="moderate"))
    with Door(laptop) as door:
        line = door.command(["sh", "-c", "id -u; cat /proc/net/fib_trie"])
        done = subprocess.run(line, shell=True, capture_output=True, text=True)
    print(json.dumps({"mode": lab.mode, "line": line, "said": done.stdout + done.stderr, "uid": os.getuid()}))
"""


def test_the_command_runs_in_the_node(lab: Lab) -> None:
    """What a shell makes of the line sees the host's addresses, and nobody else's."""
    home = lab.router("home", nat="moderate")
    laptop, server = lab.host("laptop", uplink=home), lab.host("server", uplink=lab.router("centre"))
    with Door(laptop) as door:
        line = door.command(["cat", "/proc/net/fib_trie"])
        done = subprocess.run(line, shell=True, capture_output=True, text=True, check=True)
    assert laptop.ip in done.stdout
    assert server.ip not in done.stdout


def test_an_unprivileged_user_enters_too() -> None:
    """The same line works where the lab is in a user namespace, and the user stays who they are."""
    found = nobodys_python()
    if found is None:
        pytest.skip("no Python here that another user may read (chmod a+rX it)")
    python, path = found
    done = as_nobody([python, "-B", "-c", SCRIPT], path)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["mode"] == "userns"
    assert result["line"].startswith("nsenter --user=/proc/")
    assert "192.168.1.10" in result["said"], result
    assert result["said"].startswith(f"{result['uid']}\n")


def test_a_closed_lab_has_no_doors() -> None:
    """One sentence instead of a command that leads nowhere."""
    with Lab() as lab:
        laptop = lab.host("laptop", uplink=lab.router("home"))
        lab.build()
    with pytest.raises(LabClosed, match="nobody can enter laptop"):
        Door(laptop)
