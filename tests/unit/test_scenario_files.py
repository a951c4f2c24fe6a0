"""A scenario file says what was meant, or the error names the place in it; no kernel takes part."""

from __future__ import annotations

from pathlib import Path

import pytest

from netns_fixtures import (
    Lab,
    LinkCondition,
    NatConfig,
    Scenario,
    ScenarioError,
    TopologyError,
    load_scenario,
)
from netns_fixtures.paths import find, find_verb, path_of
from netns_fixtures.scenario import Action
from netns_fixtures.scenario.values import can_say, from_plain, to_plain
from netns_fixtures.verbs import all_handles, signature_of, verb_names

MOVE = """
name: move
seed: 7
hosts:
  laptop: {uplink: home, condition: wifi-bad}
  phone:
    uplink: {wlan0: home, wwan0: hotspot}
routers:
  home: {nat: moderate}
  hotspot: {nat: cgnat, ipv6: no_ipv6}
  centre:
run:
- {on: phone, command: "python3 -m http.server 'two words'", ready: Serving, env: {MODE: test}}
setup:
- {on: phone, do: set_default_route, args: [wwan0]}
timeline:
- {at: 2, do: laptop.link.down}
- {at: 5.5, on: laptop, do: replug, args: {router: hotspot}}
- {at: 1, every: 0.1, times: 3, on: home, do: nat.rebind, args: {address: true}}
- {at: 6, do: laptop.link.condition, args: {condition: {delay: 1e-2}, direction: egress}}
""".replace("no_ipv6", "false")

MOVE_TOML = """
name = "move"
[routers]
home = {nat = "moderate"}
centre = {}
[hosts.laptop]
uplink = "home"
[[timeline]]
at = 2
do = "laptop.replug"
args = {router = "centre"}
"""


def broken(old: str, new: str) -> str:
    """What the error says when a part of the file is replaced."""
    assert old in MOVE
    with pytest.raises(ScenarioError) as caught:
        Scenario.parse(MOVE.replace(old, new, 1), "move.yaml")
    return str(caught.value)


def test_file_becomes_the_lab_that_its_words_describe() -> None:
    """Nodes, their options, and uplinks by interface name; the same addresses as in code."""
    lab = Scenario.parse(MOVE).lab()
    assert (lab.name, lab.seed) == ("move", 7)
    assert list(lab.hosts) == ["laptop", "phone"]
    assert list(lab.routers) == ["home", "hotspot-carrier", "hotspot", "centre"]
    assert {name: i.router for name, i in lab.hosts["phone"].interfaces.items()} == {
        "wlan0": lab.routers["home"],
        "wwan0": lab.routers["hotspot"],
    }
    assert lab.routers["hotspot"].ip6 is None
    assert lab.hosts["laptop"].ip == "192.168.1.10"


def test_timeline_has_each_step_at_its_time() -> None:
    """Repeated steps are counted from "at"; the order is that of time."""
    actions = Scenario.parse(MOVE).actions
    assert [(a.at, a.path) for a in actions] == [
        (1.0, "home.nat.rebind"),
        (1.1, "home.nat.rebind"),
        (1.2, "home.nat.rebind"),
        (2.0, "laptop.link.down"),
        (5.5, "laptop.replug"),
        (6.0, "laptop.link.condition"),
    ]


def test_text_of_a_scenario_is_read_as_the_same_scenario(tmp_path: Path) -> None:
    """What is written can be read, and says the same."""
    scenario = Scenario.parse(MOVE)
    scenario.save(tmp_path / "copy.yaml")
    assert load_scenario(tmp_path / "copy.yaml") == scenario
    assert Scenario.parse(str(scenario)) == scenario


def test_toml_says_the_same(tmp_path: Path) -> None:
    """A file that ends with .toml is TOML."""
    (tmp_path / "move.toml").write_text(MOVE_TOML)
    scenario = load_scenario(tmp_path / "move.toml")
    assert scenario.actions == (Action("laptop", "replug", {"router": "centre"}, 2.0),)
    (tmp_path / "move.toml").write_text(MOVE_TOML.replace('"centre"}', '"center"}'))
    with pytest.raises(
        ScenarioError, match=r"move.toml \(timeline\[0\].args.router\): no node named 'center'"
    ):
        load_scenario(tmp_path / "move.toml")


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("nat: moderate", "nat: modrate", "line 9 (routers.home): nat='modrate': it is one of none, open"),
        ("uplink: home,", "uplinks: home,", "line 5 (hosts.laptop.uplinks): host has no 'uplinks'; it takes"),
        (
            "nat: moderate",
            "nat: 5",
            "line 9 (routers.home.nat): 5 is not a text or the fields of a NatConfig",
        ),
        ("wifi-bad", "wifi-worse", "line 5 (hosts.laptop.condition): no link preset 'wifi-worse'"),
        ("link.down", "link.drop", "line 17 (timeline[0]): laptop.link has no verb 'drop'; it has carrier"),
        ("laptop.link.down", "lap.down", "line 17 (timeline[0]): no node named 'lap'; there are home"),
        ("{router: hotspot}", "{router: phone}", "(timeline[1].args.router): 'phone' is the name of a host"),
        ("{router: hotspot}", "{}", "line 18 (timeline[1]): replug needs router"),
        ("[wwan0]", "[wwan1]", "line 15 (setup[0]): phone has no interface 'wwan1'; it has wlan0, wwan0"),
        ("{address: true}", "{address: 1}", "line 19 (timeline[2].args.address): 1: true or false is needed"),
        ("direction: egress", "direction: up", "args.direction): 'up': it is one of 'both', 'egress'"),
        ("delay: 1e-2", "dellay: 1", "no 'dellay' in a LinkCondition; it has delay, jitter"),
        ("delay: 1e-2", "loss: 2", "loss=2"),
        ("times: 3", "times: 0", "line 19 (timeline[2]): with 'every' it needs 'times', from 1 to 10000"),
        ("at: 5.5", "at: .inf", "line 18 (timeline[1].at): '.inf' is no time: seconds from 0 to 86400"),
        ("at: 5.5", "att: 5", "line 18 (timeline[1].att): 'att' is unknown here; there are at, every"),
        ("on: phone, command", "on: fone, command", "line 13 (run[0].on): no host named 'fone'; there are"),
        ("'two words'", "'two words", "(run[0].command)"),
        ("Serving", "(((", "line 13 (run[0].ready): no regular expression"),
        ("seed: 7", "seed: -1", "line 3 (seed): -1: it is a whole number, 0 or more"),
        ("seed: 7", "sede: 7", "line 3 (sede): 'sede' is unknown here; there are scenario, name, seed"),
        ("seed: 7", "scenario: 2", "line 3 (scenario): this is format 2; this netns_fixtures reads format 1"),
        ("  centre:", "  home:", "line 11: 'home' stands here twice"),
        ("  centre:", "  laptop:", "line 11 (routers.laptop): there is another node of this name"),
        ("name: move", "name: {move", "line 3: this is no YAML"),
        ("seed: 7", "order: [home]", "line 3 (order): it has each node once: laptop, phone, home"),
    ],
)
def test_mistake_is_told_with_its_place(old: str, new: str, says: str) -> None:
    """Line, keys, and what would be right."""
    assert says in broken(old, new)
    assert broken(old, new).startswith("move.yaml, line ")


def test_routers_behind_each_other_are_refused() -> None:
    """A circle has no first router."""
    with pytest.raises(ScenarioError, match="they are behind each other: a, b"):
        Scenario.parse("routers: {a: {upstream: b}, b: {upstream: a}}")


def test_words_of_yaml_mean_what_they_look_like() -> None:
    """``on`` and ``no`` are words, and a host may be named so."""
    scenario = Scenario.parse("routers: {no: {}}\nhosts: {off: {uplink: no}}")
    assert [node.name for node in scenario.nodes] == ["no", "off"]
    assert Scenario.parse(str(scenario)) == scenario


def test_description_of_a_lab_is_a_scenario() -> None:
    """What was described in code can be written, and described again with the same addresses and order."""
    lab = Lab("mine", seed=3)
    home = lab.router("home", nat="cgnat")
    laptop = lab.host("laptop", uplink=home)
    both = lab.host("both", uplink={"a": lab.router("late", upstream=home), "b": home})
    again = Scenario.parse(str(Scenario.of(lab))).lab()
    assert (again.name, again.seed) == ("mine", 3)
    for host in (laptop, both):
        twin = again.hosts[host.name]
        assert {n: (i.addresses, i.mac) for n, i in host.interfaces.items()} == {
            n: (i.addresses, i.mac) for n, i in twin.interfaces.items()
        }


def test_what_was_said_before_building_is_set_up_and_not_an_event() -> None:
    """Regions, latencies and records of a lab that does not run yet are nodes and ``setup``, whatever their order."""
    lab = Lab("world", seed=1)
    lab.region("eu")
    lab.region("us")
    lab.region("asia", {"eu": 0.1})
    lab.latency("eu", "us", 0.05)
    router = lab.router("home", nat=NatConfig(hairpin=True), region="us", firewall="block-inbound")
    lab.dns.set("relay.test", "A", "203.0.113.5")
    lab.host("laptop", uplink=router, mtu=1400)
    scenario = Scenario.of(lab)
    assert [node.name for node in scenario.nodes] == ["eu", "us", "asia", "home", "laptop"]
    assert [action.path for action in scenario.setup] == ["lab.latency", "lab.dns.set"]
    assert scenario.steps == ()
    assert "gaps" not in scenario.test
    again = Scenario.parse(str(scenario))
    assert again == scenario
    assert again.lab().hosts["laptop"].ip == lab.hosts["laptop"].ip


def test_every_verb_can_be_named_and_its_types_are_known() -> None:
    """No verb has a parameter that a file could not say; each handle is reached by its path and back."""
    lab = Scenario.parse(MOVE).lab()
    for path in ("lab", "home", "home.nat", "home.wan", "phone", "phone.wwan0"):
        target = find(lab, path)
        assert path_of(target) == path
        for verb in verb_names(type(target)):
            assert find_verb(lab, f"{path}.{verb}") == (target, verb)
            assert None not in signature_of(type(target), verb).names  # type: ignore[arg-type]
    assert find(lab, "hotspot.upstream.nat") is lab.routers["hotspot-carrier"].nat
    assert find(lab, "home.uplink") is lab.routers["home"].uplink


def test_each_verb_of_each_handle_takes_what_a_file_can_say() -> None:
    """Whatever can be done to a lab, can be done from a file: no parameter needs an object that has no text."""
    for kind in all_handles():
        for verb in verb_names(kind):
            for parameter in signature_of(kind, verb).parameters:
                assert can_say(parameter.hint), f"{kind.__name__}.{verb}: {parameter}"


def test_node_is_written_as_its_name_where_a_text_may_stand_too() -> None:
    """A firewall's rule names a host, and means the host, not a text."""
    lab = Lab()
    home = lab.router("home", nat="moderate")
    laptop = lab.host("laptop", uplink=home)
    hint = signature_of(type(home.firewall), "block").hint("source")  # type: ignore[arg-type]
    assert from_plain(lab, hint, "laptop") is laptop
    assert from_plain(lab, hint, "192.0.2.1") == "192.0.2.1"
    assert from_plain(lab, hint, None) is None
    assert to_plain(laptop) == "laptop"


def test_link_fields_are_those_of_a_condition() -> None:
    """``condition(delay=...)`` takes each field of a LinkCondition, in code and in files."""
    from netns_fixtures import Interface

    names = signature_of(Interface, "condition").names
    assert names == ("condition", "direction", *LinkCondition().as_dict())


def test_timeline_refuses_what_cannot_happen() -> None:
    """A mistake shows where it is made, not when its time has come."""
    lab = Scenario.parse(MOVE).lab()
    laptop, timeline = lab.hosts["laptop"], lab.timeline()
    with pytest.raises(TopologyError, match="seconds from 0"):
        timeline.at(-1, laptop.link.down)
    with pytest.raises(TopologyError, match="replug needs router"):
        timeline.at(1, laptop.replug)
    with pytest.raises(TopologyError, match=r"no 'rooter'; it takes router, interface"):
        timeline.at(1, laptop.replug, rooter=1)
    with pytest.raises(TypeError, match="without"):
        timeline.at(1, laptop.link.down.__name__)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="awaited"):
        timeline.at(1, timeline.play)
    with pytest.raises(TopologyError, match="times=0"):
        timeline.every(1, laptop.link.down, times=0)
    with pytest.raises(TopologyError, match="above 0"):
        timeline.every(0, laptop.link.down, times=2)
    assert timeline.steps == ()


def test_timeline_shows_its_steps_as_calls() -> None:
    """Each step reads as somebody would write it; those of one time stay in the order of their adding."""
    lab = Scenario.parse(MOVE).lab()
    laptop, home = lab.hosts["laptop"], lab.routers["home"]
    timeline = lab.timeline().at(2, laptop.replug, home).every(1, home.nat.rebind, times=2, address=True)
    timeline.at(1, laptop.link.condition, delay=0.5)
    assert [(step.at, step.text) for step in timeline.steps] == [
        (1, "home.nat.rebind(address=True)"),
        (1, "laptop.eth0.condition(delay=0.5)"),
        (2, "laptop.replug(home)"),
        (2, "home.nat.rebind(address=True)"),
    ]
    assert timeline.duration == 2


def test_link_engine_of_a_file_reaches_the_lab_and_comes_back() -> None:
    """Who names none gets what the caller wants, else the default; a lab that was told one writes it down."""
    scenario = Scenario.parse("link_engine: netem\nrouters: {home: {}}")
    assert scenario.lab().engine_choice == "netem"
    assert scenario.lab(link_engine="wire").engine_choice == "wire"
    assert Scenario.of(scenario.lab()).link_engine == "netem"
    assert Scenario.parse(str(scenario)) == scenario
    plain = Scenario.parse("routers: {home: {}}")
    assert plain.lab().engine_choice == "auto"
    assert "link_engine" not in str(Scenario.of(plain.lab()))
    with pytest.raises(ScenarioError, match=r"line 1 \(link_engine\): 'tc': it is one of auto, wire, netem"):
        Scenario.parse("link_engine: tc")


def test_environment_names_the_engine_of_labs_that_name_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """For programs and tests that make their labs themselves."""
    monkeypatch.setenv("NETNS_FIXTURES_LINK_ENGINE", "netem")
    assert (Lab().engine_choice, Lab(link_engine="wire").engine_choice) == ("netem", "wire")
    monkeypatch.setenv("NETNS_FIXTURES_LINK_ENGINE", "tc")
    with pytest.raises(TopologyError, match="NETNS_FIXTURES_LINK_ENGINE: link_engine='tc': it is one of"):
        Lab()
