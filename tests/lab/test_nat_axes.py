"""Each mapping x filtering x port choice of RFC 4787 is what it says, discovered from outside (RFC 5780)."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest
from nat_kit import World

from netns_fixtures import Lab, NatConfig
from netns_fixtures.nat import PRESETS, NatFiltering, NatMapping, NatPorts

CHOICES = (NatPorts.PRESERVE, NatPorts.SEQUENTIAL, NatPorts.RANDOM)


@pytest.fixture
def net() -> Iterator[Lab]:
    with Lab("axes") as lab:
        yield lab


@pytest.mark.parametrize("filtering", NatFiltering)
@pytest.mark.parametrize("mapping", NatMapping)
def test_nat_is_what_its_axes_say(net: Lab, mapping: NatMapping, filtering: NatFiltering) -> None:
    """Behaviour discovery finds each combination, with each choice of ports, and hairpin where it is on."""
    worlds = {
        (ports, hairpin): World(
            net, NatConfig(mapping=mapping, filtering=filtering, ports=ports, hairpin=hairpin)
        )
        for ports, hairpin in itertools.product(CHOICES, (False, True))
    }
    for (ports, hairpin), world in worlds.items():
        seen = world.discover()
        assert (seen.mapping, seen.filtering, seen.ports) == (mapping, filtering, ports)
        assert seen.outside[0] == world.router.ip
        # With a port per destination and a filter nobody can tell the other where its packet will come from.
        assert seen.hairpin == (hairpin and "ei" in (mapping[:2], filtering[:2]))


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


def test_behaviour_of_chained_nats_is_that_of_the_narrower_one(net: Lab) -> None:
    """A port per destination outside of an endpoint-independent one: from outside, the whole has it."""
    outer = net.router("outer", nat=NatConfig(mapping="adm", filtering="eif"))
    world = World(net, NatConfig(filtering="adf"), upstream=outer)
    seen = world.discover()
    assert (seen.mapping, seen.filtering) == (NatMapping.ADM, NatFiltering.ADF)
    assert seen.outside[0] == outer.ip
