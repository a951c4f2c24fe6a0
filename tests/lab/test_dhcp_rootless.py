"""Leases need no root either: packet sockets, address and routes belong to the user's own namespaces."""

from __future__ import annotations

import json
import os

import pytest
from test_rootless import as_nobody, nobodys_python

SCRIPT = """
import json
from netns_fixtures import DhcpClient, DhcpConfig, Lab

with Lab() as lab:
    home = lab.router("home", nat="moderate", dhcp=DhcpConfig(mtu=1400))
    cafe = lab.router("cafe", nat="strict")
    laptop = lab.host("laptop", uplink=home, dhcp=DhcpClient(check=0.03))
    lab.build()
    first = laptop.ip
    laptop.dhcp.renew()
    laptop.replug(cafe)
    print(json.dumps([lab.mode, first, laptop.ip, len(home.dhcp.leases()), laptop.link.mtu_bytes]))
"""


def test_unprivileged_user_leases_addresses() -> None:
    """Building, renewing by unicast, another network, ARP probes, as nobody."""
    if os.geteuid() != 0:
        pytest.skip("this test becomes another user, so it must start as root; the others here run as you")
    found = nobodys_python()
    if found is None:
        pytest.skip("no Python here that another user may read (chmod a+rX it)")
    python, path = found
    done = as_nobody([python, "-B", "-c", SCRIPT], path)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == ["userns", "192.168.1.100", "192.168.2.100", 1, 1500]
