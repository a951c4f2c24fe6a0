"""Each mapping x filtering x port choice of RFC 4787 is what it says, discovered from outside (RFC 5780)."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest

from netns_fixtures import Host, Lab, NatConfig
from netns_fixtures.nat import PRESETS, NatFiltering, NatMapping, NatPorts
from netns_fixtures.nat_probe import NatBehaviour, behaviour

CHOICES = (NatPorts.PRESERVE, NatPorts.SEQUENTIAL, NatPorts.RANDOM)
AXES = list(itertools.product(NatMapping, NatFiltering, CHOICES))


class World:
    """Two clients behind one NAT, two servers outside."""

    def __init__(self, lab: Lab, nat: str | NatConfig) -> None:
        self.router, centre = lab.router("home", nat=nat), lab.router("centre")
        self.first, self.second = (lab.host(name, uplink=self.router) for name in ("first", "second"))
        self.servers: list[Host] = [lab.host(f"server{n}", uplink=centre) for n in range(2)]

    def discover(self) -> NatBehaviour:
        return behaviour(self.first, self.servers, self.second)


@pytest.fixture
def net() -> Iterator[Lab]:
    with Lab("axes") as lab:
        yield lab


@pytest.mark.parametrize("hairpin", [False, True], ids=["no-hairpin", "hairpin"])
@pytest.mark.parametrize(("mapping", "filtering", "ports"), AXES, ids="-".join)
def test_nat_is_what_its_axes_say(
    net: Lab, mapping: NatMapping, filtering: NatFiltering, ports: NatPorts, hairpin: bool
) -> None:
    """Behaviour discovery finds each combination, and nothing else."""
    world = World(net, NatConfig(mapping=mapping, filtering=filtering, ports=ports, hairpin=hairpin))
    seen = world.discover()
    assert (seen.mapping, seen.filtering, seen.ports) == (mapping, filtering, ports)
    assert seen.outside[0] == world.router.ip
    # With a port per destination and a filter nobody can tell the other where its packet will come from.
    assert seen.hairpin == (hairpin and (mapping == NatMapping.EIM or filtering == NatFiltering.EIF))


@pytest.mark.parametrize("name", PRESETS)
def test_preset_is_what_its_axes_say(net: Lab, name: str) -> None:
    """Presets are names for axes; "cgnat" is one of them behind another, which looks the same."""
    config, seen = PRESETS[name], World(net, name).discover()
    assert (seen.mapping, seen.filtering, seen.ports) == (config.mapping, config.filtering, config.ports)
    assert seen.hairpin == config.hairpin
    assert seen.translates == config.translates


def test_overloading_nat_gives_one_port_to_two_clients(net: Lab) -> None:
    """Port overloading: told apart by their destinations only."""
    seen = World(net, NatConfig(ports=NatPorts.OVERLOAD)).discover()
    assert (seen.mapping, seen.filtering, seen.ports) == (
        NatMapping.EIM,
        NatFiltering.APDF,
        NatPorts.OVERLOAD,
    )
