"""The kernel's link engine, where the kernel has it; elsewhere what is said then."""

from __future__ import annotations

import time

import pytest
from link_kit import needs_netem
from udp_kit import close_all, drain, hear, is_silent, udp

from netns_fixtures import Lab, LinkCondition, LinkEngineError, MissingCapability, TopologyError
from netns_fixtures.features import Capabilities, Feature

#: What a busy machine may add to a round trip, seconds.
SLACK = 0.05
#: For how long a round trip is looked for that the machine did not slow down.
TRYING = 15.0


def test_missing_netem_is_said_before_anything_is_built(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the remedy, and without a namespace."""
    missing = Feature(
        "netem", False, "impair links in the kernel", "no netem", "run: sudo modprobe sch_netem"
    )
    monkeypatch.setattr(Lab, "capabilities", Capabilities("root", "6.1", (missing,)))
    with Lab(link_engine="netem") as lab:
        lab.host("laptop", uplink=lab.router("home"), delay=0.1)
        with pytest.raises(MissingCapability, match=r"netem.*modprobe sch_netem"):
            lab.build()
        assert not lab.is_built


def test_inexpressible_condition_is_refused_when_it_is_described() -> None:
    """By the engine that was asked for, on any kernel."""
    lab = Lab(link_engine="netem")
    laptop = lab.host("laptop", uplink=lab.router("home"))
    with pytest.raises(LinkEngineError, match="reorder needs a delay"):
        laptop.link.describe_condition(LinkCondition(reorder=0.5))
    with pytest.raises(TopologyError, match="one of auto, wire, netem"):
        Lab(link_engine="tc")


@pytest.mark.parametrize("engine", ["auto", "wire", "netem"])
def test_engines_are_alike_from_outside(engine: str) -> None:
    """One API: delay both ways, loss one way, clear again, and the engine has a name."""
    if engine == "netem":
        needs_netem()
    with Lab(seed=4, link_engine=engine) as lab:
        router = lab.router("home")
        laptop = lab.host("laptop", uplink=router, delay=0.05)
        server = lab.host("server", uplink=router)
        here, there = udp(laptop), udp(server, 7000)
        took, deadline = 9.9, time.monotonic() + TRYING
        while took >= 0.1 + SLACK and time.monotonic() < deadline:  # the first pays for neighbour discovery
            began = time.perf_counter()
            here.sendto(b"?", (server.ip, 7000))
            there.sendto(b"!", hear(there))
            hear(here)
            took = min(took, time.perf_counter() - began)
        assert 0.1 <= took < 0.1 + SLACK
        assert lab.link_engine == ("netem" if engine == "netem" else "wire")
        laptop.link.condition(loss=1.0, direction="egress")
        here.sendto(b"?", (server.ip, 7000))
        assert is_silent(there)
        laptop.link.condition(None)
        drain(there)
        here.sendto(b"?", (server.ip, 7000))
        hear(there)
        close_all()
