"""What must never happen (SCENARIOS 3), on a real kernel network with an attacker in it."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Iterator
from typing import Any

import pytest
from forging import forge, sealed, udp_payloads
from parity_kit import STEP, meet, moderate_pair, start_relay

from iroh_py import Connection, Endpoint, SecretKey
from iroh_py.events import CallMeMaybeReceived, PathChanged, PeerMoved
from iroh_py.io.relay_client import RelayClient
from iroh_py.io.system import as_network
from iroh_py.proto.disco import CallMeMaybe, Ping
from iroh_py.proto.magicsock import MAX_OFFERED
from iroh_py.proto.offers import ACCEPT_BURST, ACCEPT_INTERVAL
from iroh_py.proto.paths import AMPLIFICATION, OFFERED_CREDIT
from netns_fixtures import Host, Lab
from netns_fixtures.capture import Capture, capture
from pytest_iroh import ECHO_ALPN, Endpoints, echo
from pytest_iroh.relays import Relays

#: Seconds for packets to cross the lab and to be answered.
PATIENCE = 5.0


@dataclasses.dataclass
class Scene:
    """A connection between two honest hosts, an attacker, and somebody whom the attacker wants to harm."""

    client: Endpoint
    server: Endpoint
    connection: Connection
    attacker: Host
    victim: Host
    events: list[Any]

    @property
    def target(self) -> tuple[str, int]:
        """Where the server listens."""
        return next(a for a in self.server.node_addr.direct_addresses if ":" not in a[0])

    async def works(self) -> None:
        """Data flows."""
        assert await echo(self.connection, b"still ours" * 50, timeout=PATIENCE) == b"still ours" * 50

    def moved(self) -> list[Any]:
        """What the server believed about new paths."""
        return [e for e in self.events if isinstance(e, PathChanged | PeerMoved)]


@pytest.fixture
def hosts(lab: Lab) -> dict[str, Host]:
    """Four hosts in networks of their own, without NATs: nothing stands in an attacker's way."""
    names = ("client", "server", "attacker", "victim")
    return {name: lab.host(name, uplink=lab.router(f"{name}-net", ipv6=False)) for name in names}


async def connected(endpoints: Endpoints, hosts: dict[str, Host]) -> Scene:
    server = await endpoints.bind_echo(hosts["server"], bind=[("0.0.0.0", 0)])
    client = await endpoints.bind(hosts["client"], bind=[("0.0.0.0", 0)])
    connection = await client.connect(server.node_addr, ECHO_ALPN)
    scene = Scene(client, server, connection, hosts["attacker"], hosts["victim"], [])
    await scene.works()
    server.on_event(scene.events.append)
    return scene


@pytest.fixture
def at_victim(hosts: dict[str, Host]) -> Iterator[Capture]:
    """What comes to the victim."""
    with capture(hosts["victim"]) as packets:
        yield packets


async def test_replayed_packets_from_another_address_take_no_path_over(
    endpoints: Endpoints, hosts: dict[str, Host], at_victim: Capture
) -> None:
    """Never 2, 4 and 5: everything the server ever got is sent again, from the attacker and in the victim's name."""
    with capture(hosts["server"]) as seen:
        scene = await connected(endpoints, hosts)
        await scene.works()
        heard = udp_payloads(seen, target=scene.target[0])
    assert len(heard) > 5
    port = next(p for _, p in scene.client.node_addr.direct_addresses)
    for source in (hosts["attacker"].ip, hosts["victim"].ip):
        forge(scene.attacker, (source, port), scene.target, heard)
        await scene.works()
    assert scene.moved() == []
    assert scene.connection.path.direct
    sent_back = sum(map(len, udp_payloads(at_victim, source=scene.target[0])))
    assert sent_back <= AMPLIFICATION * sum(map(len, heard))
    assert sent_back == 0, "a replay is not even worth an answer"


async def test_strangers_garbage_moves_nothing(endpoints: Endpoints, hosts: dict[str, Host]) -> None:
    """Never 2: bytes of any shape, also those that look like disco and QUIC, under the client's own address."""
    scene = await connected(endpoints, hosts)
    node_id = scene.client.node_id.raw
    garbage = [
        b"",
        b"TS\xf0\x9f\x92\xac" + node_id + bytes(60),
        b"TS\xf0\x9f\x92\xac" + node_id + bytes(24) + b"\x01\x00" * 30,
        bytes([0x40]) + bytes(100),
        bytes([0xC0, 0, 0, 0, 1, 8]) + bytes(1194),
        bytes(1400),
    ]
    client = next(a for a in scene.client.node_addr.direct_addresses)
    for source in (client, (scene.attacker.ip, 4433)):
        forge(scene.attacker, source, scene.target, garbage * 20)
        await scene.works()
    assert scene.moved() == []


async def test_node_that_pings_in_a_victims_name_gets_no_more_than_three_times_its_bytes_sent_there(
    endpoints: Endpoints, hosts: dict[str, Host], at_victim: Capture
) -> None:
    """Never 3 and 5: authentic pings of another node, with a forged source: no reflector, and no harm to others."""
    scene = await connected(endpoints, hosts)
    evil = SecretKey.generate()
    pings = [
        sealed(evil, scene.server.node_id, Ping(n.to_bytes(12, "big"), evil.node_id, 0)) for n in range(60)
    ]
    forge(scene.attacker, (scene.victim.ip, 5555), scene.target, pings)
    async with asyncio.timeout(PATIENCE):
        while not udp_payloads(at_victim):  # noqa: ASYNC110  # a capture has no event to await
            await asyncio.sleep(0.01)
    await scene.works()
    answers = udp_payloads(at_victim, source=scene.target[0])
    assert 0 < sum(map(len, answers)) <= AMPLIFICATION * sum(map(len, pings))
    assert scene.connection.path.direct


async def test_node_that_claims_to_be_at_a_peers_address_does_not_take_its_path(
    endpoints: Endpoints, hosts: dict[str, Host]
) -> None:
    """Never 3: the attacker's own pings come from the client's very address; the client's path is the client's."""
    scene = await connected(endpoints, hosts)
    evil = SecretKey.generate()
    client = next(a for a in scene.client.node_addr.direct_addresses)
    pings = [
        sealed(evil, scene.server.node_id, Ping(n.to_bytes(12, "big"), evil.node_id, 0)) for n in range(60)
    ]
    lies = [
        sealed(evil, scene.server.node_id, Ping(n.to_bytes(12, "big"), scene.client.node_id, 0))
        for n in range(60, 90)
    ]
    forge(scene.attacker, client, scene.target, pings + lies)
    await scene.works()
    assert [e for e in scene.moved() if e.node == scene.client.node_id] == []
    assert scene.connection.path.direct


async def test_call_me_maybe_outside_a_relay_is_no_order(
    endpoints: Endpoints, hosts: dict[str, Host], at_victim: Capture
) -> None:
    """A list of addresses is accepted over the relay only, or anybody could replay it from anywhere."""
    scene = await connected(endpoints, hosts)
    offer = CallMeMaybe(((scene.victim.ip, 7777),))
    for key in (SecretKey.generate(), scene.client.secret_key):
        packet = sealed(key, scene.server.node_id, offer)
        forge(scene.attacker, (scene.attacker.ip, 5555), scene.target, [packet])
    await scene.works()
    assert not any(isinstance(e, CallMeMaybeReceived) for e in scene.events)
    assert udp_payloads(at_victim) == []


async def test_call_me_maybes_with_a_crowd_of_addresses_make_a_bounded_number_of_pings(
    lab: Lab, relay: Relays, endpoints: Endpoints
) -> None:
    """Never 5: a node with a good key lists a stranger's ports over the relay, a hundred times in a row."""
    relayed = start_relay(lab, relay)
    pair_hosts = moderate_pair(lab)
    attacker = lab.host("attacker", uplink=lab.router("attacker-net", ipv6=False))
    victim = lab.host("victim", uplink=lab.router("victim-net", ipv6=False))
    pair = await meet(endpoints, pair_hosts["client"], pair_hosts["server"], relayed)
    server = pair.server.endpoint
    offers: list[CallMeMaybeReceived] = []
    server.on_event(lambda e: offers.append(e) if isinstance(e, CallMeMaybeReceived) else None)
    evil = SecretKey.generate()
    ports = tuple((victim.ip, 1000 + n) for n in range(100))
    hello = sealed(evil, server.node_id, Ping(bytes(12), evil.node_id, 0))
    crowd = sealed(evil, server.node_id, CallMeMaybe(ports))
    config = relayed.config()
    with capture(victim) as at_victim:
        client = RelayClient(
            as_network(attacker),
            evil,
            relayed.url,
            on_datagrams=lambda *_: None,
            on_state=lambda *_: None,
            ssl_context=config.relay_ssl,
        )
        began = asyncio.get_running_loop().time()
        client.start()
        client.send(server.node_id, [hello])
        for _ in range(100):
            client.send(server.node_id, [crowd])
        async with asyncio.timeout(PATIENCE):
            while not any(e.node == evil.node_id for e in offers):  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        await pair.ping()
        await client.close()
        pings = udp_payloads(at_victim)
        passed = asyncio.get_running_loop().time() - began
    assert pings, "an offer over the relay is acted on"
    assert all(len(e.addresses) <= MAX_OFFERED for e in offers)
    accepted = ACCEPT_BURST + passed / ACCEPT_INTERVAL
    assert sum(map(len, pings)) <= accepted * MAX_OFFERED * OFFERED_CREDIT


async def test_relay_sees_no_content(lab: Lab, relay: Relays, endpoints: Endpoints) -> None:
    """Never 6: what two nodes say to each other passes a relay unread, in clear HTTP as well."""
    relayed = relay(lab.host("relay", uplink=lab.router("relay-dc")))
    routers = [lab.router(name, nat="strict", ipv6=False) for name in ("a", "b")]
    near, far = (lab.host(f"host-{router.name}", uplink=router) for router in routers)
    with capture(lab.hosts["relay"]) as seen:
        pair = await meet(endpoints, near, far, relayed, port_prediction=False)
        secret = b"the quick brown fox" * 20
        assert await echo(pair.connection, secret, timeout=STEP) == secret
        assert pair.connection.path.relayed
        cable = b"".join(frame.data for frame in seen.frames)
    assert pair.client.endpoint.node_id.raw in cable, "the capture holds what was relayed"
    assert secret[:19] not in cable
    assert ECHO_ALPN.encode() not in cable


async def test_relayed_packet_of_another_node_is_not_taken_for_the_senders(
    lab: Lab, relay: Relays, endpoints: Endpoints
) -> None:
    """Swapped ids: the attacker hands the client's own packets over, under its own name at the relay."""
    relayed = relay(lab.host("relay", uplink=lab.router("relay-dc")))
    pair_hosts = moderate_pair(lab)
    attacker = lab.host("attacker", uplink=lab.router("attacker-net", ipv6=False))
    pair = await meet(endpoints, pair_hosts["client"], pair_hosts["server"], relayed)
    await pair.go_direct(STEP)
    client, server = pair.client.endpoint, pair.server.endpoint
    events: list[Any] = []
    server.on_event(events.append)
    evil = SecretKey.generate()
    answered = asyncio.Event()
    link = RelayClient(
        as_network(attacker),
        evil,
        relayed.url,
        on_datagrams=lambda *_: answered.set(),
        on_state=lambda *_: None,
    )
    link.start()
    stolen = sealed(client.secret_key, server.node_id, CallMeMaybe(((attacker.ip, 7),)))
    own = sealed(evil, server.node_id, Ping(bytes(12), evil.node_id, 0))
    link.send(server.node_id, [stolen, own])
    async with asyncio.timeout(PATIENCE):
        await answered.wait()  # the server has handled both: they came in this order
    await link.close()
    assert not any(isinstance(e, CallMeMaybeReceived) and e.node == client.node_id for e in events)
    await pair.ping()
