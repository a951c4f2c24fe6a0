"""Which relays are dialled, by which names, and which are left."""

from __future__ import annotations

import asyncio

from relay_sim import PORT, RTT, Node, SimRelay, world

from iroh_py.io.relay_client import IDLE_TIMEOUT
from iroh_py.relay_url import RelayUrl
from iroh_py.testing import SimNet, virtual


@virtual()
async def test_unused_relay_is_left_after_a_minute_and_comes_back() -> None:
    """A relay that is not home is closed when idle; the next datagram opens it again."""
    relay, alice, bob = await world(SimNet())
    receiver = bob.client(relay.url)
    receiver.start()
    sender = alice.client(relay.url, is_home=False)
    sender.send(bob.id, [b"one"])
    await bob.until(lambda: bob.received == [b"one"], 1)
    await asyncio.sleep(IDLE_TIMEOUT - 1)
    assert sender.connected
    await asyncio.sleep(2)
    assert not sender.running
    assert alice.states[-1][1:] == (False, "idle")
    assert relay.nodes() == 1
    sender.send(bob.id, [b"two"])
    await bob.until(lambda: bob.received == [b"one", b"two"], 1)
    await asyncio.gather(sender.close(), receiver.close())
    await relay.kill()


@virtual()
async def test_home_relay_stays_without_traffic() -> None:
    """An hour of silence costs pings and no reconnect."""
    relay, alice, _ = await world(SimNet())
    client = alice.client(relay.url)
    client.start()
    await asyncio.sleep(3000)
    assert client.connects == client.dials == 1
    assert client.latency is not None
    assert abs(client.latency - RTT) < 0.001
    await client.close()
    await relay.kill()


@virtual()
async def test_two_clients_with_one_key_do_not_storm() -> None:
    """They throw each other out, but at the pace of the back-off."""
    relay, alice, bob = await world(SimNet())
    bob.secret = alice.secret
    first, second = alice.client(relay.url), bob.client(relay.url)
    first.start()
    second.start()
    await asyncio.sleep(60)
    assert first.dials + second.dials < 60 * 5
    await asyncio.gather(first.close(), second.close())
    await relay.kill()


@virtual()
async def test_dead_ipv6_delays_by_a_quarter_second() -> None:
    """Happy eyeballs: a family that swallows packets costs 250 ms."""
    net = SimNet()
    host = net.host("relay", ("198.51.100.1", "2001:db8:ffff::1"))
    net.name("relay.example", "2001:db8:dead::1", "198.51.100.1")
    relay = SimRelay(host, RelayUrl.parse(f"http://relay.example:{PORT}"))
    await relay.start()
    alice = Node(net.host("alice", ("198.51.100.3", "2001:db8:ffff::3")), 1)
    client = alice.client(relay.url)
    client.start()
    assert await alice.until(lambda: client.connected, 2) <= 0.25 + 3 * RTT + net.resolve_delay
    await client.close()
    await relay.kill()


@virtual()
async def test_name_server_that_fails_after_a_move_is_not_waited_for_long() -> None:
    """Known addresses are dialled when the name cannot be resolved any more."""
    net = SimNet()
    relay, alice, _bob = await world(net)
    net.name("relay.example", "198.51.100.1")
    client = alice.client(RelayUrl.parse(f"http://relay.example:{PORT}"))
    client.start()
    await alice.until(lambda: client.connected, 2)
    await asyncio.sleep(3)
    net.name("relay.example")
    await relay.kill()
    await asyncio.sleep(2)
    await relay.start()
    await alice.until(lambda: client.connected, 2)
    await client.close()
    await relay.kill()


@virtual()
async def test_first_answer_was_useless_a_slow_name_server_is_waited_for() -> None:
    """The first answer named a dead address; the next takes 600 ms, and must not be cut off before."""
    net = SimNet()
    relay, alice, _bob = await world(net)
    net.name("relay.example", "198.51.100.250")
    client = alice.client(RelayUrl.parse(f"http://relay.example:{PORT}"))
    client.start()
    await asyncio.sleep(2)
    assert not client.connected
    net.resolve_delay = 0.6
    net.name("relay.example", "198.51.100.1")
    await alice.until(lambda: client.connected, 20)
    await client.close()
    await relay.kill()


@virtual()
async def test_relay_that_never_resolves_is_reported_and_retried() -> None:
    """Errors are told once, with the reason, and end when the name appears."""
    net = SimNet()
    relay, alice, _ = await world(net)
    net.name("relay.example")
    client = alice.client(RelayUrl.parse(f"http://relay.example:{PORT}"))
    client.start()
    await asyncio.sleep(5)
    assert len(alice.states) == 1
    assert "relay.example" in alice.states[0][2]
    net.name("relay.example", "198.51.100.1")
    assert await alice.until(lambda: client.connected, 3) <= 1.2
    await client.close()
    await relay.kill()


@virtual()
async def test_fallback_to_the_relay_where_the_node_was_heard() -> None:
    """While a node's relay is not reachable, datagrams also take the relay it last spoke through."""
    net = SimNet()
    relay, alice, bob = await world(net)
    other = SimRelay(net.host("relay2", "198.51.100.9"), RelayUrl.parse(f"http://198.51.100.9:{PORT}"))
    mine, theirs = alice.clients(), bob.clients()
    mine.set_home(relay.url)
    theirs.set_home(relay.url)
    await alice.until(lambda: mine.connected(relay.url), 1)
    await bob.until(lambda: theirs.connected(relay.url), 1)
    await asyncio.sleep(RTT)
    theirs.send(relay.url, alice.id, [b"hello"])
    await alice.until(lambda: alice.received == [b"hello"], 1)
    mine.send(other.url, bob.id, [b"over the known relay"])
    assert await bob.until(lambda: b"over the known relay" in bob.received, 1) <= 2 * RTT
    await asyncio.gather(mine.close(), theirs.close())
    await relay.kill()


@virtual()
async def test_home_moves_and_the_old_one_is_left_when_idle() -> None:
    """The new home is connected at once, the old one a minute longer."""
    net = SimNet()
    relay, alice, _ = await world(net)
    other = SimRelay(net.host("relay2", "198.51.100.9"), RelayUrl.parse(f"http://198.51.100.9:{PORT}"))
    await other.start()
    relays = alice.clients()
    relays.set_home(relay.url)
    await alice.until(lambda: relays.connected(relay.url), 1)
    relays.set_home(other.url)
    await alice.until(lambda: relays.connected(other.url), 1)
    assert relays.home == other.url
    assert relays.connected(relay.url)
    await asyncio.sleep(IDLE_TIMEOUT + 1)
    assert not relays.connected(relay.url)
    assert relays.connected(other.url)
    await relays.close()
    await relay.kill()
    await other.kill()


@virtual()
async def test_number_of_relays_is_bounded() -> None:
    """Peers name relays; the least recently used one makes room, never the home relay."""
    net = SimNet()
    relay, alice, bob = await world(net)
    relays = alice.clients(max_relays=3)
    relays.set_home(relay.url)
    urls = [RelayUrl.parse(f"http://198.51.100.{number}:{PORT}") for number in range(20, 26)]
    for url in urls:
        relays.send(url, bob.id, [b"x"])
        await asyncio.sleep(0.1)
    assert {client.url for client in relays.clients} == {relay.url, *urls[-2:]}
    await relays.close()
    await relay.kill()
