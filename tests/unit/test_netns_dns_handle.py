"""``lab.dns`` as part of a lab's description: no kernel takes part."""

from __future__ import annotations

import pytest

from netns_fixtures import Lab, Scenario, TopologyError
from netns_fixtures.dns.files import files_of
from netns_fixtures.paths import find_verb, path_of


def described() -> Lab:
    """A lab whose name server was told something of each kind."""
    lab = Lab(name="names", seed=7)
    home = lab.router("home")
    server = lab.host("server", uplink=home)
    lab.dns.set("x.example", "TXT", [["two", "strings"], "one"], ttl=5)
    lab.dns.delegate("zone.example", server, port=5300)
    lab.dns.dns64(home)
    lab.dns.fail("*.example", "slow", record="A", seconds=0.5, times=3)
    lab.dns.set("gone.example", "A", "198.18.0.1")
    lab.dns.delete("gone.example")
    return lab


def test_name_server_is_written_with_its_lab_and_read_again() -> None:
    """So that a failed test is repeated with its records and failures (``--netns-replay``)."""
    first = Scenario.of(described())
    again = Scenario.parse(str(first))
    assert again.setup == first.setup
    assert [action.path for action in first.setup] == [
        "lab.dns.set",
        "lab.dns.delegate",
        "lab.dns.dns64",
        "lab.dns.fail",
        "lab.dns.set",
        "lab.dns.delete",
    ]


def test_verbs_of_the_name_server_have_names() -> None:
    """For timelines and files."""
    lab = described()
    assert path_of(lab.dns) == "lab.dns"
    assert find_verb(lab, "lab.dns.heal") == (lab.dns, "heal")
    with pytest.raises(TopologyError, match="delegate, delete, dns64, fail, heal, set"):
        find_verb(lab, "lab.dns.start")


def test_description_alone_starts_nothing() -> None:
    """The lab is built when the test needs it."""
    lab = described()
    assert lab.mode == ""
    assert repr(lab.dns) == "<LabDns of names not running>"
    assert [str(fault) for fault in lab.dns.faults] == ["*.example. A: slow by 0.5 s, 3 times"]
    assert [event.kind for event in lab.events] == [
        "dns_set",
        "dns_delegated",
        "dns64",
        "dns_fault",
        "dns_set",
        "dns_deleted",
    ]


def test_files_name_the_servers_in_their_order() -> None:
    """And leave hosts to files and DNS alone."""
    files = dict(files_of(("2001:db8::53", "203.0.113.53")))
    assert files["/etc/resolv.conf"].splitlines()[:3] == [
        "search lab",
        "nameserver 2001:db8::53",
        "nameserver 203.0.113.53",
    ]
    switch = files.get("/etc/nsswitch.conf", "hosts: files dns\n")
    assert [line for line in switch.splitlines() if line.startswith("hosts:")] == ["hosts: files dns"]
