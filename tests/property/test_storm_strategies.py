"""Random networks and storms: all of them are scenarios, and failing ones shrink to what is needed to fail."""

from __future__ import annotations

from collections.abc import Callable

from hypothesis import find, given, settings
from hypothesis import strategies as st

from netns_fixtures import NatConfig, Scenario, ScenarioError
from netns_fixtures.strategies import storms, topologies


def smallest(condition: Callable[[Scenario], bool], **options: bool) -> str:
    """The text of the smallest storm for which something holds."""
    found = settings(database=None, derandomize=True, max_examples=100)
    small = topologies(max_routers=2, max_hosts=2)
    return str(find(storms(small, max_events=4, **options), condition, settings=found))  # type: ignore[arg-type]


@given(storms(settle=True))
@settings(max_examples=25)
def test_storm_is_a_scenario_that_can_be_written_and_read(storm: Scenario) -> None:
    """Its text has every step at its time, in order; nothing in it is refused, and its repr makes it again."""
    storm.check()
    assert Scenario.parse(str(storm)) == storm
    assert eval(repr(storm), {"Scenario": Scenario}) == storm
    times = [action.at for action in storm.actions]
    assert times == sorted(times, key=lambda at: at or 0)
    assert list(storm.lab().hosts)


POOL = NatConfig(addresses=3, pooling="arbitrary", tcp_mapping="eim", tcp_syn="reject")


@given(storms(topologies(nats=("moderate", POOL))))
@settings(max_examples=10)
def test_storm_carries_nats_by_their_axes(storm: Scenario) -> None:
    """A NatConfig among the NATs is written by its fields, and is the same NAT when it is built."""
    assert Scenario.parse(str(storm)) == storm
    configs = [router.nat.config for router in storm.lab().routers.values() if router.nat.kind != "moderate"]
    assert all(config == POOL for config in configs)


@given(topologies(max_routers=6, max_hosts=6))
@settings(max_examples=25)
def test_random_network_gives_nobody_the_address_of_another(network: Scenario) -> None:
    """In each segment addresses are unique, whatever is behind whatever."""
    lab = network.lab()
    seen: dict[tuple[str, str], str] = {}
    for plug in lab.topology.plugs():
        for address in plug.addresses:
            key = (plug.segment.name, address.ip)
            assert key not in seen
            seen[key] = plug.owner


def test_storm_shrinks_to_one_router_one_host_and_the_event_that_matters() -> None:
    """A failure at any rebinding NAT is told with one rebinding NAT, at once."""
    assert smallest(lambda storm: any(a.verb == "rebind" for a in storm.actions)) == (
        "scenario: 1\nname: storm\nseed: 0\nrouters:\n  r1: {nat: open}\nhosts:\n  h1: {uplink: r1}\n"
        "timeline:\n- {at: 0.0, do: r1.nat.rebind}\n"
    )


def test_settled_storm_ends_with_what_undoes_it() -> None:
    """A link that went down comes up again at the end; nothing else is touched."""
    text = smallest(
        lambda storm: any(a.verb == "down" and a.target[0] == "h" for a in storm.actions), settle=True
    )
    assert text.endswith("timeline:\n- {at: 0.0, do: h1.eth0.down}\n- {at: 0.01, do: h1.eth0.up}\n")


@given(st.text(max_size=200) | st.binary(max_size=50).map(lambda data: data.decode("latin-1")))
def test_any_text_is_a_scenario_or_a_scenario_error(text: str) -> None:
    """YAML or TOML, nothing else is raised."""
    for toml in (False, True):
        try:
            Scenario.parse(text, toml=toml)
        except ScenarioError:
            pass


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.sampled_from(["home", "laptop", "down", "", "1e5"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["routers", "hosts", "timeline", "at", "do", "on", "args", "nat", "uplink", "home", "run"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(VALUES)
def test_any_values_are_a_scenario_or_a_scenario_error(value: object) -> None:
    """Whatever stands where something else was meant."""
    import yaml

    from netns_fixtures.scenario.marked import Dumper

    text = yaml.dump(value, Dumper=Dumper)
    try:
        Scenario.parse(text)
    except ScenarioError:
        pass
