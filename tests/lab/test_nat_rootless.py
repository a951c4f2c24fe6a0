"""NATs with tables and timers of their own need no root either."""

from __future__ import annotations

import json
import os

import pytest
from test_rootless import as_nobody, nobodys_python

SCRIPT = """
import json
from netns_fixtures import Lab, NatConfig
from netns_fixtures.nat_probe import Probe, behaviour
from netns_fixtures.nat_probe_tcp import tcp_behaviour

config = NatConfig(mapping="adm", filtering="adf", ports="sequential", timeout=30, lifetime=60, tcp_timeout=60)
with Lab() as lab, Probe() as probe:
    home, centre = lab.router("home", nat=config), lab.router("centre")
    laptop, servers = lab.host("laptop", uplink=home), [lab.host(name, uplink=centre) for name in ("a", "b")]
    seen = behaviour(laptop, servers)
    client, server = probe.udp(laptop), probe.udp(servers[0])
    before = probe.outside(client, server, servers[0].ip)
    home.nat.rebind(keep_flows=True)
    kept = probe.outside(client, server, servers[0].ip) == before
    mapped = [each for each in home.nat.mappings() if each.outside == before]
    home.nat.change("strict")
    hard = behaviour(laptop, servers)
    pool = NatConfig(addresses=2, pooling="arbitrary", tcp_mapping="eim", tcp_filtering="adf", tcp_syn="reject")
    home.nat.change(pool)
    home.port_mapping.enable("pcp")
    tcp = tcp_behaviour(laptop, servers)
    assert (tcp.mapping, tcp.filtering, tcp.unsolicited) == ("eim", "adf", "reject"), tcp
    assert behaviour(laptop, servers).pooling == "arbitrary"
    print(json.dumps([lab.mode, seen.mapping, seen.filtering, seen.ports, kept, len(mapped), hard.mapping]))
"""


def test_unprivileged_user_has_every_nat() -> None:
    """Rules with zones, timers of connection tracking, reading mappings, pools, TCP, port mapping, all as nobody."""
    if os.geteuid() != 0:
        pytest.skip("this test becomes another user, so it must start as root; the others here run as you")
    found = nobodys_python()
    if found is None:
        pytest.skip("no Python here that another user may read (chmod a+rX it)")
    python, path = found
    done = as_nobody([python, "-B", "-c", SCRIPT], path)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == ["userns", "adm", "adf", "sequential", True, 1, "apdm"]
