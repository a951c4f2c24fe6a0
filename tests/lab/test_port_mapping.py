"""Routers that map ports, asked by iroh_py's clients: two implementations that share no line meet here."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator

import pytest
from parity_kit import meet, scaled, start_relays
from udp_kit import PATIENCE, close_all, hear, is_silent, port_of, udp

from iroh_py import Endpoint, EndpointConfig
from iroh_py.io import portmap
from iroh_py.proto import natpmp, pcp
from netns_fixtures import Host, Lab, LabEvent, Router, TopologyError
from pytest_iroh import Endpoints
from pytest_iroh.relays import Relays

PROTOCOLS = ["pcp", "nat-pmp", "upnp"]
NONCE = bytes(range(12))
#: Patience with an endpoint that asks in three languages, one after the other.
ASKING = 15.0
#: And with a pair that can only go direct once the port was asked for and told.
DIRECT = 15.0


@pytest.fixture
def net() -> Iterator[Lab]:
    with Lab("portmap", seed=5) as lab:
        yield lab
    close_all()


class Home:
    """A laptop behind a strict NAT that maps ports, and a stranger outside."""

    def __init__(self, lab: Lab, *protocols: str, nat: str = "strict") -> None:
        self.router = lab.router("home", nat=nat, port_mapping=protocols or "all")
        self.laptop = lab.host("laptop", uplink=self.router)
        self.stranger = udp(lab.host("stranger", uplink=lab.router("centre")), 999)
        self.inside = udp(self.laptop, 4444)
        self._asking = udp(self.laptop)

    def ask(self, request: bytes) -> bytes:
        """A datagram to the router's server, and its answer."""
        self._asking.sendto(request, ("192.168.1.1", pcp.PORT))
        return self._asking.recv(2000)

    def map_pcp(self, lifetime: int = 3600, *, nonce: bytes = NONCE) -> pcp.MapResponse:
        """Ask for a port that leads to ``inside``."""
        request = pcp.MapRequest(self.laptop.ip, nonce, port_of(self.inside), lifetime)
        response = pcp.parse_response(self.ask(pcp.encode_request(request)))
        assert isinstance(response, pcp.MapResponse)
        return response

    def knock(self, port: int) -> None:
        """The stranger sends to the router's outside."""
        self.stranger.sendto(b"hello", (self.router.ip, port))


def when(lab: Lab, kind: str) -> threading.Event:
    """Set at the next event of that kind."""
    seen = threading.Event()

    def note(event: LabEvent) -> None:
        if event.kind == kind:
            seen.set()

    lab.on_event(note)
    return seen


async def happens(seen: threading.Event, within: float = ASKING) -> None:
    """Wait for it without holding up the endpoints."""
    assert await asyncio.to_thread(seen.wait, scaled(within))


@pytest.mark.parametrize("nat", ["open", "strict", "full-cone", "corporate"])
def test_mapped_port_leads_strangers_in_and_comes_from_there(net: Lab, nat: str) -> None:
    """Through any NAT: packets before any answer, the answer, and packets to somebody else."""
    home = Home(net, nat=nat)
    mapped = home.map_pcp()
    assert (mapped.external_ip, mapped.lifetime) == (home.router.ip, 3600)
    for _ in range(3):
        home.knock(mapped.external_port)
        assert hear(home.inside) == (net.hosts["stranger"].ip, 999)
    home.inside.sendto(b"back", (net.hosts["stranger"].ip, 999))
    assert hear(home.stranger) == (home.router.ip, mapped.external_port)
    other = udp(net.host("other", uplink=net.routers["centre"]), 998)
    home.inside.sendto(b"first", (net.hosts["other"].ip, port_of(other)))
    assert hear(other) == (home.router.ip, mapped.external_port)


def test_unmapped_port_stays_closed_beside_a_mapped_one(net: Lab) -> None:
    """One accept rule for mapped connections opens nothing else."""
    home = Home(net)
    other = udp(home.laptop, 4445)
    home.map_pcp()
    home.knock(4445)
    assert is_silent(other)


def test_mapping_of_a_moderate_nat_leaves_its_own_filter_alone(net: Lab) -> None:
    """Strangers come through the mapped port, and not through the one that the NAT itself has mapped."""
    router = net.router("home", nat="moderate", port_mapping="nat-pmp")
    laptop, centre = net.host("laptop", uplink=router), net.router("centre")
    friend = udp(net.host("friend", uplink=centre), 7)
    stranger = udp(net.host("stranger", uplink=centre), 8)
    mapped, plain, asking = udp(laptop, 5001), udp(laptop, 5002), udp(laptop)
    asking.sendto(natpmp.encode_request(natpmp.MapRequest(5001, 60, 6001)), ("192.168.1.1", natpmp.PORT))
    response = natpmp.parse_response(asking.recv(100))
    assert isinstance(response, natpmp.MapResponse)
    assert response.external_port == 6001
    plain.sendto(b"out", (net.hosts["friend"].ip, 7))
    outside = hear(friend)
    stranger.sendto(b"in", outside)
    assert is_silent(plain)
    stranger.sendto(b"in", (router.ip, 6001))
    assert hear(mapped) == (net.hosts["stranger"].ip, 8)


def test_lifetime_ends_the_mapping(net: Lab) -> None:
    """The kernel's rule is gone with it, and the timeline says so."""
    home = Home(net)
    over = when(net, "port_expired")
    mapped = home.map_pcp(lifetime=1)
    assert [m.internal_port for m in home.router.port_mapping.mappings()] == [4444]
    assert over.wait(PATIENCE)
    assert home.router.port_mapping.mappings() == []
    home.knock(mapped.external_port)
    assert is_silent(home.inside)


def test_forgetful_router_drops_what_it_promised(net: Lab) -> None:
    """``forget_after``: granted for an hour, gone after half a second."""
    home = Home(net)
    home.router.port_mapping.enable("pcp", forget_after=0.5)
    over = when(net, "port_expired")
    assert home.map_pcp().lifetime == 3600
    assert over.wait(PATIENCE)


def test_deleted_mapping_needs_its_owner(net: Lab) -> None:
    """Another nonce is refused (RFC 6887 11.3), the right one ends it."""
    home = Home(net)
    home.map_pcp()
    assert home.map_pcp(0, nonce=bytes(12)).result == pcp.Result.NOT_AUTHORIZED
    assert len(home.router.port_mapping.mappings()) == 1
    assert home.map_pcp(0).result == pcp.Result.SUCCESS
    assert home.router.port_mapping.mappings() == []


@pytest.mark.parametrize(
    ("failure", "result"),
    [("not_authorized", pcp.Result.NOT_AUTHORIZED), ("out_of_resources", pcp.Result.NO_RESOURCES)],
)
def test_planned_failure_refuses_once(net: Lab, failure: str, result: pcp.Result) -> None:
    """The next request fails with the code of its protocol, the one after it is granted."""
    home = Home(net)
    home.router.port_mapping.fail_next(failure)
    assert home.map_pcp().result == result
    assert home.map_pcp().result == pcp.Result.SUCCESS


def test_restart_forgets_and_announces(net: Lab) -> None:
    """Epoch 0 again, nothing mapped, and a multicast on the LAN that says so."""
    home = Home(net, "nat-pmp")
    listening = udp(home.laptop, 5350)
    group = socket.inet_aton("224.0.0.1") + bytes(4) + home.laptop.link.index.to_bytes(4, "little")
    listening.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, group)
    home.ask(natpmp.encode_request(natpmp.MapRequest(4444, 60)))
    assert len(home.router.port_mapping.mappings()) == 1
    home.router.port_mapping.restart()
    told = natpmp.parse_response(listening.recv(100))
    assert isinstance(told, natpmp.ExternalAddressResponse)
    assert told.checked_ip() == home.router.ip
    assert home.router.port_mapping.mappings() == []


def test_new_outside_address_is_announced_and_told(net: Lab) -> None:
    """After a rebind with another address the mapping leads there, without being asked for again."""
    home = Home(net)
    mapped = home.map_pcp()
    before = home.router.ip
    home.router.nat.rebind(address=True)
    assert home.router.ip != before
    answer = natpmp.parse_response(home.ask(natpmp.encode_request(natpmp.ExternalAddressRequest())))
    assert isinstance(answer, natpmp.ExternalAddressResponse)
    assert answer.external_ip == home.router.ip
    home.knock(mapped.external_port)
    assert hear(home.inside) == (net.hosts["stranger"].ip, 999)


def test_router_answers_nobody_outside(net: Lab) -> None:
    """RFC 6886 section 3: requests from the Internet are not answered."""
    home = Home(net)
    home.stranger.sendto(
        natpmp.encode_request(natpmp.ExternalAddressRequest()), (home.router.ip, natpmp.PORT)
    )
    assert is_silent(home.stranger)


def test_router_without_nat_maps_nothing(net: Lab) -> None:
    """There are no ports to map; the description says so at once."""
    with pytest.raises(TopologyError, match="has no NAT"):
        net.router("plain", port_mapping="all")
    with pytest.raises(TopologyError, match="it is one of pcp, nat-pmp, upnp"):
        net.router("home", nat="moderate", port_mapping="igd")


def test_cgnat_grants_a_private_address(net: Lab) -> None:
    """The phone's router can only map at its own outside, which is the carrier's inside."""
    hotspot = net.router("hotspot", nat="cgnat", port_mapping="pcp")
    phone = net.host("phone", uplink=hotspot)
    asking = udp(phone)
    request = pcp.MapRequest(phone.ip, NONCE, 4444, 60)
    asking.sendto(pcp.encode_request(request), ("192.168.1.1", pcp.PORT))
    response = pcp.parse_response(asking.recv(2000))
    assert isinstance(response, pcp.MapResponse)
    assert response.external_ip == hotspot.ip
    assert hotspot.ip.startswith("100.64.")


# --- endpoints


def behind(lab: Lab, name: str, **router: object) -> tuple[Router, Host]:
    """A host behind a strict NAT; IPv6 would need no port mapping."""
    home = lab.router(f"{name}-nat", nat="strict", ipv6=False, **router)  # type: ignore[arg-type]
    return home, lab.host(name, uplink=home)


async def bind(endpoints: Endpoints, lab: Lab, relay: Relays, host: Host) -> Endpoint:
    """An endpoint that asks for a port."""
    running = relay(lab.host("relay", uplink=lab.router("relay-dc")))
    config: EndpointConfig = running.config(relays=(running.node,))
    return await endpoints.bind(host, config=config)


async def offered(endpoint: Endpoint, address: tuple[str, int], within: float = ASKING) -> None:
    """Wait until peers are told this address."""
    async with asyncio.timeout(scaled(within)):
        async for addr in endpoint.watch_node_addr():
            if address in addr.direct_addresses:
                return


@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_endpoint_gains_offers_and_releases_a_port(
    lab: Lab, relay: Relays, endpoints: Endpoints, protocol: str
) -> None:
    """In each language: asked for at the start, offered to peers, given back at the end."""
    home, laptop = behind(lab, "laptop")
    home.port_mapping.enable(protocol, keep_ports=False)
    endpoint = await bind(endpoints, lab, relay, laptop)
    (mapped,) = await asyncio.to_thread(home.port_mapping.wait, 1, scaled(ASKING))
    assert (mapped.by, mapped.internal_ip) == (protocol, laptop.ip)
    await offered(endpoint, (home.ip, mapped.external_port))
    await endpoint.close()
    assert await asyncio.to_thread(home.port_mapping.wait, 0, scaled(ASKING)) == []


@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_endpoint_renews_in_time_and_regains_after_a_restart(
    lab: Lab, relay: Relays, endpoints: Endpoints, protocol: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A lease of 4 s is renewed before it ends; what a restart of the router lost is asked for again."""
    monkeypatch.setattr(portmap, "LIFETIMES", (1.0, 86_400.0))
    monkeypatch.setattr("iroh_py.io.portmap_protocols.UPNP_LEASE", 4)
    home, laptop = behind(lab, "laptop")
    home.port_mapping.enable(protocol, lifetime=4, keep_ports=False)
    renewed, expired = when(lab, "port_renewed"), when(lab, "port_expired")
    await bind(endpoints, lab, relay, laptop)
    (mapped,) = await asyncio.to_thread(home.port_mapping.wait, 1, scaled(ASKING))
    await happens(renewed)
    assert not expired.is_set()
    regained = when(lab, "port_mapped")
    home.port_mapping.restart()
    await happens(regained)
    (again,) = home.port_mapping.mappings()
    assert again.external_port == mapped.external_port


async def test_endpoint_asks_the_new_router_after_a_replug(
    lab: Lab, relay: Relays, endpoints: Endpoints
) -> None:
    """The old mapping is worth nothing elsewhere: the next network's router is asked at once, in its own language."""
    home, laptop = behind(lab, "laptop", port_mapping="pcp")
    cafe = lab.router("cafe", nat="strict", ipv6=False, port_mapping="upnp")
    endpoint = await bind(endpoints, lab, relay, laptop)
    (first,) = await asyncio.to_thread(home.port_mapping.wait, 1, scaled(ASKING))
    laptop.replug(cafe)
    (second,) = await asyncio.to_thread(cafe.port_mapping.wait, 1, scaled(ASKING))
    assert (first.by, second.by) == ("pcp", "upnp")
    await offered(endpoint, (cafe.ip, second.external_port))
    assert (home.ip, first.external_port) not in endpoint.node_addr.direct_addresses


async def test_refused_languages_lead_to_the_next(lab: Lab, relay: Relays, endpoints: Endpoints) -> None:
    """PCP keeps silent, NAT-PMP is out of ports: UPnP gives one."""
    home, laptop = behind(lab, "laptop", port_mapping="all")
    lab.build()
    home.port_mapping.fail_next("silence", 2)  # PCP asks twice
    home.port_mapping.fail_next("out_of_resources")
    await bind(endpoints, lab, relay, laptop)
    (mapped,) = await asyncio.to_thread(home.port_mapping.wait, 1, scaled(ASKING))
    assert mapped.by == "upnp"


async def test_strict_by_strict_goes_direct_with_a_port_on_one_side(
    lab: Lab, relay: Relays, endpoints: Endpoints
) -> None:
    """What no hole punching can do, a mapped port does, whichever side has it."""
    home, server = behind(lab, "server", port_mapping="pcp")
    _office, client = behind(lab, "client")
    pair = await meet(endpoints, client, server, *start_relays(lab, relay))
    await pair.go_direct(DIRECT)
    await pair.ping()
    assert len(home.port_mapping.mappings()) == 1
