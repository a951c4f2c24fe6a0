"""Descriptions and the steps that they turn into, without a kernel."""

from __future__ import annotations

import itertools

import pytest

from netns_fixtures.errors import TopologyError
from netns_fixtures.nat import NatKind
from netns_fixtures.ops import (
    AddAddress,
    AddBridge,
    AddCable,
    AddNode,
    AddRoute,
    LoadRules,
    Op,
    RemoveAddress,
    RemoveRoute,
    SetLink,
)
from netns_fixtures.plug import FABRIC, Plug
from netns_fixtures.renumbering import renumber_lan_ops
from netns_fixtures.topology import RouterPlan, Topology


def build(nat: NatKind = NatKind.MODERATE) -> tuple[Topology, RouterPlan, Plug]:
    """A router and a host behind it, all steps taken."""
    topology = Topology()
    router = topology.add_router("home", nat, None)
    host = topology.add_host("laptop", {"eth0": router})
    topology.take_pending()
    return topology, router, host.plugs["eth0"]


def routes(ops: list[Op], kind: type[AddRoute | RemoveRoute] = AddRoute) -> list[tuple[str, str]]:
    return [
        (op.destination, op.gateway)
        for op in ops
        if isinstance(op, (AddRoute, RemoveRoute)) and type(op) is kind
    ]


def test_every_interface_index_is_unique_in_the_lab() -> None:
    """Equal indices at both ends of a cable would delay the carrier's loss by up to a second."""
    topology = Topology()
    home = topology.add_router("home", NatKind.CGNAT, None)
    for number in range(5):
        topology.add_host(f"h{number}", {"eth0": home, "eth1": home})
    ops = topology.take_pending()
    indices = [i for op in ops if isinstance(op, AddCable) for i in (op.port, op.index)]
    indices += [op.index for op in ops if isinstance(op, AddBridge)]
    assert len(indices) == len(set(indices)) > 20


def test_steps_come_in_few_batches_and_in_an_order_that_works() -> None:
    """Namespaces before bridges before cables before the rest, the rest node by node."""
    topology = Topology()
    home = topology.add_router("home", NatKind.STRICT, None)
    topology.add_host("laptop", {"eth0": home})
    ops = topology.take_pending()
    ranks = [{AddNode: 0, AddBridge: 1, AddCable: 2}.get(type(op), 3) for op in ops]
    assert ranks == sorted(ranks)
    nodes = [
        key for key, _ in itertools.groupby(op.node for op in ops[ranks.index(3) :] if hasattr(op, "node"))
    ]
    assert len(nodes) == len(set(nodes))
    assert topology.take_pending() == []


def test_nat_router_has_private_lan_and_public_uplink() -> None:
    """A home: 192.168.1.0/24 inside, a public address outside, dual stack."""
    _topology, router, plug = build()
    assert router.wan is not None
    assert (router.wan.ip(4), router.lan.ip(4)) == ("203.0.113.10", "192.168.1.1")
    assert (plug.ip(4), plug.ip(6)) == ("192.168.1.10", "2001:db8:1::a")


def test_lan_without_nat_is_routed_by_the_exchange() -> None:
    """Everybody can reach a data centre's hosts."""
    topology, router, _plug = build(NatKind.NONE)
    assert router.wan is not None
    assert ("198.18.1.0/24", router.wan.ip(4)) in topology.exchange.lan.routes
    assert ("2001:db8:1::/64", router.wan.ip(6)) in topology.exchange.lan.routes


def test_nested_router_is_routed_up_to_the_first_nat() -> None:
    """Its private LAN is known inside the NAT and not outside; IPv6 is known everywhere."""
    topology, home, _plug = build()
    inner = topology.add_router("inner", NatKind.NONE, home)
    assert inner.wan is not None
    lan4, lan6 = (str(pool.network) for pool in inner.lan.segment.pools)
    assert lan4.startswith("192.168.")
    assert (lan4, inner.wan.ip(4)) in home.lan.routes
    destinations = [destination for destination, _gateway in topology.exchange.lan.routes]
    assert lan4 not in destinations
    assert lan6 in destinations


def test_v4_only_router_gives_no_v6() -> None:
    """ipv6=False: neither the hosts nor the routers behind it get IPv6."""
    topology = Topology()
    home = topology.add_router("home", NatKind.NONE, None, ipv6=False)
    inner = topology.add_router("inner", NatKind.NONE, home)
    plug = topology.add_host("laptop", {"eth0": inner}).plugs["eth0"]
    assert plug.ip(6) is None
    assert inner.lan.segment.v6 is None


def test_first_interface_has_the_best_metric() -> None:
    """wlan0 before wwan0."""
    topology = Topology()
    home, hotspot = (topology.add_router(name, NatKind.MODERATE, None) for name in ("home", "hotspot"))
    plugs = topology.add_host("phone", {"wlan0": home, "wwan0": hotspot}).plugs
    assert [plug.metric for plug in plugs.values()] == [100, 200]


@pytest.mark.parametrize("name", ["", "two words", "a/b", "home", "exchange"])
def test_unusable_or_taken_name_raises(name: str) -> None:
    """A name twice, or one that is no word, is refused."""
    topology, _router, _plug = build()
    with pytest.raises(TopologyError):
        topology.add_router(name, NatKind.NONE, None)


@pytest.mark.parametrize("name", ["", "lo", "a" * 16, "eth 0", "a/b", "eth0:1"])
def test_unusable_interface_name_raises(name: str) -> None:
    """The kernel would refuse these later, with less to say."""
    topology, router, _plug = build()
    with pytest.raises(TopologyError, match="interface name"):
        topology.add_host("phone", {name: router})


def test_host_without_uplink_raises() -> None:
    """A host needs at least one router."""
    topology, _router, _plug = build()
    with pytest.raises(TopologyError, match="uplink"):
        topology.add_host("phone", {})


def test_replug_moves_the_port_under_lost_carrier() -> None:
    """Down, to the other bridge, up; old addresses gone, new ones and the default route there."""
    topology, _router, plug = build()
    hotspot = topology.add_router("hotspot", NatKind.MODERATE, None)
    old = list(plug.addresses)
    ops = plug.replug_ops(hotspot.lan.segment)
    cable = [op for op in ops if isinstance(op, SetLink)]
    assert cable == [
        SetLink(FABRIC, plug.port, up=False),
        SetLink(FABRIC, plug.port, master=hotspot.lan.segment.bridge),
        SetLink(FABRIC, plug.port, up=True),
    ]
    assert [op.ip for op in ops if isinstance(op, RemoveAddress)] == [a.ip for a in old]
    assert plug.ip(4) == "192.168.2.10"
    assert routes(ops) == [("0.0.0.0/0", "192.168.2.1"), ("::/0", "2001:db8:2::1")]


def test_replug_behind_a_wire_moves_the_wires_far_end() -> None:
    """The wire stays on the host's side of the move."""
    topology, _router, plug = build()
    hotspot = topology.add_router("hotspot", NatKind.MODERATE, None)
    plug.spliced = 4242
    assert SetLink(FABRIC, 4242, master=hotspot.lan.segment.bridge) in plug.replug_ops(hotspot.lan.segment)


def test_replug_without_carrier_or_admin_down_stays_so() -> None:
    """A verb changes what it says and nothing else."""
    topology, _router, plug = build()
    hotspot = topology.add_router("hotspot", NatKind.MODERATE, None)
    plug.carrier_ops(False)
    plug.down_ops()
    ops = plug.replug_ops(hotspot.lan.segment)
    assert SetLink(FABRIC, plug.port, up=True) not in ops
    assert routes(ops) == []


def test_renumber_changes_the_lease_and_keeps_other_addresses() -> None:
    """A new address of each family; one added by hand stays."""
    _topology, _router, plug = build()
    ops = plug.renumber_ops()
    assert [op.ip for op in ops if isinstance(op, RemoveAddress)] == ["192.168.1.10", "2001:db8:1::a"]
    assert [op.ip for op in ops if isinstance(op, AddAddress)] == ["192.168.1.11", "2001:db8:1::b"]
    assert routes(ops) == [("0.0.0.0/0", "192.168.1.1"), ("::/0", "2001:db8:1::1")]


def test_renumber_to_an_address_changes_only_its_family() -> None:
    """renumber(address="192.168.1.77") leaves IPv6 alone."""
    _topology, _router, plug = build()
    plug.renumber_ops("192.168.1.77")
    assert (plug.ip(4), plug.ip(6)) == ("192.168.1.77", "2001:db8:1::a")


@pytest.mark.parametrize("address", ["10.0.0.1", "192.168.1.1", "x"])
def test_renumber_to_impossible_address_changes_nothing(address: str) -> None:
    """Outside of the subnet, the router's own, garbage: refused before anything changed."""
    _topology, _router, plug = build()
    with pytest.raises(TopologyError):
        plug.renumber_ops(address)
    assert plug.ip(4) == "192.168.1.10"


def test_link_up_brings_back_addresses_and_routes() -> None:
    """What `ip link set down` took comes back with up."""
    _topology, _router, plug = build()
    plug.down_ops()
    ops = plug.up_ops()
    assert ops[0] == SetLink(plug.node, plug.index, up=True)
    assert [op.ip for op in ops if isinstance(op, AddAddress)] == ["192.168.1.10", "2001:db8:1::a"]
    assert routes(ops) == [("0.0.0.0/0", "192.168.1.1"), ("::/0", "2001:db8:1::1")]


def test_new_lan_subnet_moves_everybody_and_their_routes() -> None:
    """Router, hosts, inner router with its rules; routes to the old gateway go first."""
    topology, home, plug = build()
    inner = topology.add_router("inner", NatKind.MODERATE, home)
    ops = renumber_lan_ops(topology, home, "192.168.77.0/24")
    assert home.lan.ip(4) == "192.168.77.1"
    assert str(plug.ip(4)).startswith("192.168.77.")
    assert inner.wan is not None
    assert ("0.0.0.0/0", "192.168.1.1") in routes(ops, RemoveRoute)
    assert ("0.0.0.0/0", "192.168.77.1") in routes(ops)
    rules = next(op.text for op in ops if isinstance(op, LoadRules) and op.node == inner.node)
    assert f"snat to {inner.wan.ip(4)}" in rules
    lan6 = str(inner.lan.segment.v6.network) if inner.lan.segment.v6 else ""
    assert (lan6, inner.wan.ip(6)) in home.lan.routes


def test_metric_change_adds_before_it_removes() -> None:
    """There is no moment without a default route."""
    _topology, _router, plug = build()
    ops = plug.metric_ops(50)
    kinds = [type(op) for op in ops]
    assert kinds == [AddRoute, AddRoute, RemoveRoute, RemoveRoute]
