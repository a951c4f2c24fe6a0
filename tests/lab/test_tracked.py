"""Tracked connections: what a NAT remembers can be read, as root and without, with no tool installed."""

from __future__ import annotations

import socket

from netns_fixtures import Lab
from netns_fixtures.inspection import inspect
from netns_fixtures.tracked import tracked


def test_a_nat_shows_its_mapping(lab: Lab) -> None:
    """From whom, to whom, and which address and port stand for them outside."""
    home = lab.router("home", nat="moderate")
    laptop, server = lab.host("laptop", uplink=home), lab.host("server", uplink=lab.router("centre"))
    with (
        laptop.socket(socket.AF_INET, socket.SOCK_DGRAM) as client,
        server.socket(socket.AF_INET, socket.SOCK_DGRAM) as service,
    ):
        service.bind((server.ip, 7))
        service.settimeout(10)
        client.sendto(b"x", (server.ip, 7))
        _data, outside = service.recvfrom(10)
        flows = [flow for flow in tracked(home) if flow.target == (server.ip, 7)]
        assert [(f.protocol, f.source[0], f.answer, f.back) for f in flows] == [
            ("udp", laptop.ip, (server.ip, 7), outside)
        ]
        assert flows[0].expires > 0
        said = inspect([home])["home"]
    assert f"{laptop.ip}:{flows[0].source[1]} > {server.ip}:7, back {server.ip}:7 > {home.ip}:" in said
    assert "# ip rule" in said


def test_a_host_without_rules_tracks_nothing(lab: Lab) -> None:
    """An empty list, and a word in the evidence."""
    laptop = lab.host("laptop", uplink=lab.router("home", nat="moderate"))
    assert tracked(laptop) == []
    assert inspect([laptop])["laptop"].endswith("# tracked connections\nnone\n")
