"""The relay client under everything that happens to networks, in simulated time."""

from __future__ import annotations

import asyncio

import pytest
from relay_sim import RTT, sending, world

from iroh_py.proto.relay.upgrade import Generation
from iroh_py.testing import SimNet, virtual


@virtual()
@pytest.mark.parametrize("generation", list(Generation))
async def test_first_datagram_takes_few_round_trips(generation: Generation) -> None:
    """TCP, upgrade, data; one more for the challenge of 1.x."""
    relay, alice, bob = await world(SimNet())
    receiver = bob.client(relay.url)
    receiver.start()
    await bob.until(lambda: receiver.connected, 1)
    sender = alice.client(relay.url, generation=generation)
    sender.send(bob.id, [b"one", b"two"])
    took = await bob.until(lambda: bob.received == [b"one", b"two"], 1)
    assert took <= (3.1 if generation.is_v3 else 4.1) * RTT
    await asyncio.gather(sender.close(), receiver.close())
    await relay.kill()


@virtual()
async def test_switching_networks_costs_four_round_trips() -> None:
    """The old address is gone: a new connection is made at once, and nothing is lost."""
    relay, alice, bob = await world(SimNet())
    sender, receiver = alice.client(relay.url), bob.client(relay.url)
    receiver.start()
    sender.start()
    await alice.until(lambda: sender.connected, 1)
    await bob.until(lambda: receiver.connected, 1)
    await asyncio.sleep(1)
    alice.host.interface("wlan0").down()
    sender.send(bob.id, [b"meanwhile"])
    sender.network_changed(alice.ips())
    assert await bob.until(lambda: b"meanwhile" in bob.received, 1) <= 4 * RTT
    assert sender.connects == 2
    await asyncio.gather(sender.close(), receiver.close())
    await relay.kill()


@virtual()
async def test_change_that_does_not_concern_the_connection_keeps_it() -> None:
    """An address that comes or goes elsewhere costs one ping."""
    relay, alice, _ = await world(SimNet())
    client = alice.client(relay.url)
    client.start()
    await alice.until(lambda: client.connected, 1)
    await asyncio.sleep(1)
    for _ in range(5):
        client.network_changed(alice.ips())
        await asyncio.sleep(0.5)
    assert client.connects == client.dials == 1
    await client.close()
    await relay.kill()


@virtual()
async def test_same_address_in_another_network_is_noticed() -> None:
    """The address is still ours but the connection is dead: a replacement is dialled beside the check."""
    net = SimNet()
    relay, alice, bob = await world(net)
    sender, receiver = alice.client(relay.url), bob.client(relay.url)
    receiver.start()
    sender.start()
    await alice.until(lambda: sender.connected, 1)
    await bob.until(lambda: receiver.connected, 1)
    await asyncio.sleep(1)
    net.nats["wifi"].rebind(address="192.0.2.77")
    sender.send(bob.id, [b"lost at first"])
    sender.network_changed(alice.ips())
    assert await bob.until(lambda: b"lost at first" in bob.received, 2) <= 4 * RTT + 0.15
    await asyncio.gather(sender.close(), receiver.close())
    await relay.kill()


@virtual()
async def test_half_open_connection_is_noticed_while_sending_and_loses_nothing() -> None:
    """A NAT that forgot us swallows everything silently; within 1.5 s all of it has arrived elsewhere."""
    net = SimNet()
    relay, alice, bob = await world(net)
    sender, receiver = alice.client(relay.url), bob.client(relay.url)
    receiver.start()
    sender.start()
    await alice.until(lambda: sender.connected, 1)
    await bob.until(lambda: receiver.connected, 1)
    task = asyncio.create_task(sending(sender, bob.id, every=0.1))
    await asyncio.sleep(3)
    net.nats["wifi"].rebind()
    before = len(bob.received)
    assert await bob.until(lambda: len(bob.received) > before + 1, 5) <= 1.5
    await asyncio.sleep(1)
    task.cancel()
    numbers = {int(payload) for payload in bob.received}
    assert numbers == set(range(max(numbers) + 1))
    await asyncio.gather(sender.close(), receiver.close())
    await relay.kill()


@virtual()
async def test_idle_half_open_home_connection_is_noticed_by_its_pings() -> None:
    """Even a home relay connection that nobody uses is replaced after ping interval and timeout."""
    net = SimNet()
    relay, alice, bob = await world(net)
    client, other = alice.client(relay.url), bob.client(relay.url)
    client.start()
    other.start()
    await alice.until(lambda: client.connected, 1)
    await asyncio.sleep(5)
    net.nats["wifi"].rebind()
    await alice.until(lambda: client.connects == 2, 17)
    await asyncio.sleep(RTT)
    other.send(alice.id, [b"still there?"])
    await alice.until(lambda: bool(alice.received), 0.1)
    await asyncio.gather(client.close(), other.close())
    await relay.kill()


@virtual()
@pytest.mark.parametrize("outage", [0.5, 5.0, 20.0])
async def test_restarted_relay_is_used_again_within_a_second(outage: float) -> None:
    """Neither the back-off nor a lost SYN sleeps through the relay's return."""
    relay, alice, bob = await world(SimNet())
    sender, receiver = alice.client(relay.url), bob.client(relay.url)
    receiver.start()
    sender.start()
    await alice.until(lambda: sender.connected, 1)
    await bob.until(lambda: receiver.connected, 1)
    await asyncio.sleep(5)
    await relay.kill()
    await asyncio.sleep(outage)
    assert not sender.connected
    await relay.start()
    task = asyncio.create_task(sending(sender, bob.id))
    assert await bob.until(lambda: bool(bob.received), 5) <= 1 + 3 * RTT
    task.cancel()
    await asyncio.gather(sender.close(), receiver.close())
    await relay.kill()


@virtual()
@pytest.mark.parametrize("outage", [1.0, 5.0, 10.0, 30.0])
async def test_return_of_the_link_interrupts_the_back_off(outage: float) -> None:
    """A link that was down is used four round trips after it is seen to be up."""
    relay, alice, bob = await world(SimNet())
    sender, receiver = alice.client(relay.url), bob.client(relay.url)
    receiver.start()
    sender.start()
    await alice.until(lambda: sender.connected, 1)
    await bob.until(lambda: receiver.connected, 1)
    task = asyncio.create_task(sending(sender, bob.id, every=0.01))
    await asyncio.sleep(2)
    for interface in alice.host.interfaces.values():
        interface.down()
    sender.network_changed(alice.ips())
    await asyncio.sleep(outage)
    alice.host.interface("wlan0").up()
    bob.received.clear()
    sender.network_changed(alice.ips())
    assert await bob.until(lambda: bool(bob.received), 5) <= 4 * RTT + 0.15
    task.cancel()
    await asyncio.gather(sender.close(), receiver.close())
    await relay.kill()


@virtual()
@pytest.mark.parametrize("late", [0.05, 0.2, 0.6, 2.0])
async def test_link_that_is_ready_later_than_it_says_is_used_soon(late: float) -> None:
    """The kernel would repeat a lost SYN after a whole second; fresh dials do not wait for it."""
    net = SimNet()
    relay, alice, bob = await world(net)
    sender, receiver = alice.client(relay.url), bob.client(relay.url)
    receiver.start()
    sender.start()
    await alice.until(lambda: sender.connected, 1)
    await bob.until(lambda: receiver.connected, 1)
    await asyncio.sleep(1)
    net.link(alice.host, loss=1.0)
    alice.host.set_default("wwan0")
    alice.host.interface("wlan0").down()
    sender.send(bob.id, [b"x"])
    sender.network_changed(alice.ips())
    await asyncio.sleep(late)
    net.link(alice.host, loss=0.0)
    assert await bob.until(lambda: bool(bob.received), 5) <= max(0.25, late / 2) + 4 * RTT
    await asyncio.gather(sender.close(), receiver.close())
    await relay.kill()


@virtual()
async def test_route_that_comes_after_the_link_needs_no_second_event() -> None:
    """Dials that fail at once because there is no route yet go on for a while."""
    relay, alice, bob = await world(SimNet())
    sender, receiver = alice.client(relay.url), bob.client(relay.url)
    receiver.start()
    sender.start()
    await alice.until(lambda: sender.connected, 1)
    await bob.until(lambda: receiver.connected, 1)
    for interface in alice.host.interfaces.values():
        interface.down()
    sender.network_changed(alice.ips())
    await asyncio.sleep(3)
    alice.host.interface("wlan0").up(route_after=0.5)
    sender.network_changed(alice.ips())
    sender.send(bob.id, [b"x"])
    assert await bob.until(lambda: bool(bob.received), 5) <= 0.5 + 0.4 + 4 * RTT
    await asyncio.gather(sender.close(), receiver.close())
    await relay.kill()


@virtual()
async def test_flapping_link_causes_no_storm_and_ends_connected() -> None:
    """Twenty changes in ten seconds cost a bounded number of dials."""
    relay, alice, bob = await world(SimNet())
    client, other = alice.client(relay.url), bob.client(relay.url)
    client.start()
    other.start()
    await alice.until(lambda: client.connected, 1)
    for flap in range(20):
        wlan = alice.host.interface("wlan0")
        if flap % 2:
            wlan.up()
        else:
            wlan.down()
        client.network_changed(alice.ips())
        await asyncio.sleep(0.5)
    client.send(bob.id, [b"alive"])
    await bob.until(lambda: b"alive" in bob.received, 1)
    assert client.dials <= 20 * 4
    settled = client.dials
    await asyncio.sleep(60)
    assert client.dials - settled <= 1
    await asyncio.gather(client.close(), other.close())
    await relay.kill()


@virtual()
async def test_dead_relay_is_asked_at_a_bounded_rate() -> None:
    """Refused dials come about once per second at first and rarely after two minutes."""
    relay, alice, _ = await world(SimNet())
    await relay.kill()
    client = alice.client(relay.url)
    client.start()
    await asyncio.sleep(110)
    early = client.dials
    assert 110 <= early <= 350
    await asyncio.sleep(60)
    late = client.dials
    await asyncio.sleep(300)
    assert client.dials - late <= 300 / 8 + 2
    assert [connected for _, connected, _ in alice.states] == [False]
    await client.close()


@virtual()
async def test_slow_link_is_not_mistaken_for_a_dead_one() -> None:
    """A satellite with 600 ms and jitter is used for minutes without a single reconnect."""
    net = SimNet()
    relay, alice, bob = await world(net)
    net.link(alice.host, delay=0.3, jitter=0.2)
    sender, receiver = alice.client(relay.url), bob.client(relay.url)
    receiver.start()
    sender.start()
    await alice.until(lambda: sender.connected, 5)
    task = asyncio.create_task(sending(sender, bob.id, every=0.2))
    await asyncio.sleep(120)
    task.cancel()
    assert sender.connects == 1
    await asyncio.gather(sender.close(), receiver.close())
    await relay.kill()
