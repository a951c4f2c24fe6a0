"""A lab without root: in a user namespace, as the same user, with everything that root has."""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
import sysconfig
from typing import Any

import pytest

import netns_fixtures

#: The traditional number of "nobody": a user without rights on every Linux.
NOBODY = 65534
TIMEOUT = 60

SCRIPT = """
    import json, os, socket, time
    from netns_fixtures import Firewall, Lab
    from netns_fixtures.doctor import capabilities

    def ask(client, server, ip):
        started = time.monotonic()
        client.sendto(b"x", (ip, 7))
        return server.recvfrom(10)[1], time.monotonic() - started

    with Lab() as lab:
        home, hotspot = lab.router("home", nat="moderate"), lab.router("hotspot", nat="cgnat")
        laptop = lab.host("laptop", uplink=home)
        server = lab.host("server", uplink=lab.router("centre"))
        listening = server.socket(socket.AF_INET, socket.SOCK_DGRAM)
        listening.bind((server.ip, 7))
        listening.settimeout(5)
        client = laptop.socket(socket.AF_INET, socket.SOCK_DGRAM)
        at_home = ask(client, listening, server.ip)[0]
        laptop.replug(hotspot)
        laptop.renumber()
        laptop.link.down()
        laptop.link.up()
        at_hotspot = ask(client, listening, server.ip)[0]
        hotspot.upstream.nat.rebind()
        rebound = ask(client, listening, server.ip)[0]
        laptop.link.condition(delay=0.02)
        delayed = ask(client, listening, server.ip)[1]
        # Joined frames are split with an ioctl, and the portal is a program in a router.
        hotspot.firewall.set(Firewall.preset("no-udp") | Firewall.longer_than(1300))
        hotspot.uplink.mtu(1400)
        hotspot.captive_portal()
        listening.settimeout(0.3)
        try:
            blocked = not ask(client, listening, server.ip)
        except TimeoutError:
            blocked = True
        hotspot.portal.disable()
        hotspot.firewall.clear()
        whoami = laptop.popen(["sh", "-c", "id -u; ip route show default; test -r /proc/self/status && echo proc"])
        ping = laptop.socket(socket.AF_INET, socket.SOCK_DGRAM, socket.IPPROTO_ICMP)
        names = laptop.popen(["python3", "-c", "import socket; print(socket.gethostbyname('server'))"]).check(10)
        result = {
            "names": names.strip() == server.ip == laptop.resolve("server")[0],
            "mode": lab.mode, "engine": lab.link_engine, "ok": capabilities().ok,
            "at_home": at_home[0] == home.ip, "at_hotspot": at_hotspot[0] == hotspot.upstream.ip,
            "rebound": rebound != at_hotspot, "delayed": delayed >= 0.02, "blocked": blocked,
            "output": whoami.check(10), "uid": laptop.run(os.getuid),
        }
        for sock in (listening, client, ping):
            sock.close()
    print(json.dumps(result))
"""


@functools.cache
def nobodys_python() -> list[str] | None:
    """How nobody runs a Python that has our dependencies; None where nobody may read any."""
    path = os.pathsep.join(
        (os.path.dirname(os.path.dirname(netns_fixtures.__file__)), sysconfig.get_path("purelib"))
    )
    for python in (sys.executable, f"/usr/bin/python{sys.version_info[0]}.{sys.version_info[1]}"):
        command = [python, "-B", "-c", "import netns_fixtures.lab, netns_fixtures.agent.server"]
        try:
            done = as_nobody(command, path)
        except OSError:
            continue
        if done.returncode == 0:
            return [python, path]
    return None


def as_nobody(command: list[str], path: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/", "PYTHONPATH": path, **environment},
        cwd="/",
        user=NOBODY,
        group=NOBODY,
        extra_groups=[],
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
    )


def run_script(**environment: str) -> dict[str, Any]:
    if os.geteuid() != 0:
        pytest.skip("this test becomes another user, so it must start as root; the others here run as you")
    found = nobodys_python()
    if found is None:
        pytest.skip("no Python here that another user may read (chmod a+rX it)")
    python, path = found
    lines = [line.removeprefix("    ") for line in SCRIPT.splitlines()]
    done = as_nobody([python, "-B", "-c", "\n".join(lines)], path, **environment)
    assert done.returncode == 0, done.stderr
    result: dict[str, Any] = json.loads(done.stdout)
    return result


@pytest.mark.parametrize("ends", ["", "packet"], ids=["taps-where-possible", "packet-sockets"])
def test_unprivileged_user_has_the_whole_lab(ends: str) -> None:
    """NAT, verbs, firewalls, programs, functions, ping sockets, an impaired link, and the doctor, all as nobody."""
    result = run_script(NETNS_FIXTURES_WIRE_ENDS=ends)
    output = result.pop("output").split("\n")
    assert output[0] == str(NOBODY)
    assert output[1].startswith("default via 192.168.2.1 dev eth0")
    assert output[2] == "proc"
    assert result == {
        "names": True,
        "mode": "userns",
        "engine": "wire",
        "ok": True,
        "at_home": True,
        "at_hotspot": True,
        "rebound": True,
        "delayed": True,
        "blocked": True,
        "uid": NOBODY,
    }
