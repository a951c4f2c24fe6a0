"""Local discovery on a real LAN: two hosts behind one router find each other by multicast, and again after moves."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing

import pytest
from rawns import needs_root

from iroh_py import Connection, Endpoint, EndpointConfig, IrohError
from iroh_py.discovery import DiscoveryServer, DnsDiscovery, Found, LocalDiscovery, PkarrDiscovery, Site
from iroh_py.errors import NoAddressError
from iroh_py.events import NodeDiscovered
from iroh_py.io.multicast import MulticastSocket
from iroh_py.io.system import SocketNetwork
from iroh_py.keys import SecretKey
from iroh_py.network import Addr, Family, Receiver
from iroh_py.proto.node_info import NodeInfo
from netns_fixtures import Host, Lab
from pytest_iroh.discovery_services import WatchedStore

pytestmark = needs_root
ALPN = "lab/echo"
#: A round lasts 0.85 s at most; more than that is for the machine.
PATIENCE = 5.0


@pytest.fixture
def lan() -> Iterator[tuple[Lab, Host, Host]]:
    """A LAN with two hosts."""
    with Lab(name="lan") as lab:
        home = lab.router("home", nat="moderate")
        laptop, phone = lab.host("laptop", uplink=home), lab.host("phone", uplink=home)
        lab.build()
        yield lab, laptop, phone


async def serve(endpoint: Endpoint) -> None:
    async def echo(connection: Connection) -> None:
        with contextlib.suppress(IrohError):
            while True:
                send, recv = await connection.accept_bi()
                while part := await recv.read():
                    await send.write(part)
                send.finish()

    async with asyncio.TaskGroup() as tasks:
        async for connection in endpoint.connections():
            tasks.create_task(echo(connection))


@contextlib.asynccontextmanager
async def bound(host: Host, *discovery: object) -> AsyncIterator[Endpoint]:
    config = EndpointConfig(discovery=discovery)
    endpoint = await Endpoint.bind(network=host, alpns=[ALPN], config=config)
    service = asyncio.create_task(serve(endpoint))
    try:
        yield endpoint
    finally:
        await endpoint.close()
        service.cancel()
        await asyncio.gather(service, return_exceptions=True)


async def echo(connection: Connection, data: bytes) -> None:
    send, recv = connection.open_bi()
    async with asyncio.timeout(PATIENCE):
        await send.write(data)
        assert await recv.read_exact(len(data)) == data
    send.finish()


def move(*hosts: Host) -> None:
    """New addresses for all, while none of them can tell another."""
    for host in hosts:
        host.link.down()
    for host in hosts:
        host.renumber()
    for host in hosts:
        host.link.up()


async def test_neighbour_is_dialled_by_its_node_id(lan: tuple[Lab, Host, Host]) -> None:
    """No server, no ticket: the announcement is heard, and the connection is direct."""
    _, laptop, phone = lan
    async with bound(laptop, LocalDiscovery()) as one, bound(phone, LocalDiscovery()) as two:
        found: list[str] = []
        one.on_event(lambda e: found.append(e.provenance) if isinstance(e, NodeDiscovered) else None)
        async with asyncio.timeout(PATIENCE):
            connection = await one.connect(two.node_id, ALPN)
        assert set(found) == {"local.swarm.discovery"}
        await echo(connection, b"hello")


async def test_both_neighbours_move_at_once_and_find_each_other(lan: tuple[Lab, Host, Host]) -> None:
    """Both are unplugged and come back elsewhere: only the announcements of the new addresses can heal it."""
    _, laptop, phone = lan
    async with bound(laptop, LocalDiscovery()) as one, bound(phone, LocalDiscovery()) as two:
        async with asyncio.timeout(PATIENCE):
            connection = await one.connect(two.node_id, ALPN)
        await echo(connection, b"before")
        found: list[NodeDiscovered] = []
        for endpoint in (one, two):
            endpoint.on_event(lambda e: found.append(e) if isinstance(e, NodeDiscovered) else None)
        await asyncio.to_thread(move, laptop, phone)
        await echo(connection, b"after")
        # Whoever heard the other first pinged it.
        assert any({laptop.ip, phone.ip} & dict(event.addresses).keys() for event in found)


async def test_node_that_is_not_there_is_not_found(lan: tuple[Lab, Host, Host]) -> None:
    """The question ends with the dial."""
    _, laptop, phone = lan
    async with bound(laptop, LocalDiscovery()) as one, bound(phone, LocalDiscovery()):
        with pytest.raises(NoAddressError):
            await one.connect(SecretKey(bytes(32)).node_id, ALPN, timeout=1.0)


@pytest.mark.parametrize("family", list(Family))
async def test_service_hears_and_is_heard_in_each_family(lan: tuple[Lab, Host, Host], family: Family) -> None:
    """With the other family's socket missing, announcements go by this one."""
    _, laptop, phone = lan

    class OneFamily(SocketNetwork):
        def open_multicast(self, wanted: Family, *args: object) -> MulticastSocket:
            if wanted is not family:
                raise OSError("not here")
            return super().open_multicast(wanted, *args)  # type: ignore[arg-type]

    heard: asyncio.Queue[Found] = asyncio.Queue()
    secrets = [SecretKey(bytes([n]) * 32) for n in (1, 2)]
    services = []
    for host, secret in zip((laptop, phone), secrets, strict=True):
        network = OneFamily(host)
        site = Site(network, secret, random.Random(1), heard.put_nowait)
        service = await LocalDiscovery().start(site)
        watch = network.watch(service.handle_network_change)
        service.handle_network_change(watch.state)
        services.append((service, watch))
    try:
        one, two = services[0][0], services[1][0]
        here, there = ("192.168.1.5", 4433), ("192.168.1.6", 4434)
        for addr in (here, there):
            two.publish(NodeInfo(secrets[1].node_id, None, frozenset({addr}), "data"))
            async with asyncio.timeout(PATIENCE):
                found = await heard.get()
            assert (found.info.node_id, found.info.direct_addresses) == (
                secrets[1].node_id,
                frozenset({addr}),
            )
        # The cache has the second announcement, not the first (PROTOCOL 14, trap 20).
        async with asyncio.timeout(PATIENCE), aclosing(one.resolve(secrets[1].node_id)) as results:
            assert (await anext(results)).info.direct_addresses == {there}
    finally:
        for service, watch in services:
            watch.close()
            await service.close()


Datagram = tuple[bytes, Addr, int]


def inbox() -> tuple[asyncio.Queue[Datagram], Receiver]:
    """A queue, and a receiver that fills it."""
    queue: asyncio.Queue[Datagram] = asyncio.Queue()

    def receive(batch: list[Datagram]) -> None:
        for item in batch:
            queue.put_nowait(item)

    return queue, receive


async def test_sockets_of_one_host_share_the_port_and_tell_the_interface(lan: tuple[Lab, Host, Host]) -> None:
    """Two programs of a host both hear the group, with the index of the interface; who left hears nothing."""
    _, laptop, phone = lan
    group = ("224.0.0.251", 5353)
    first, take_first = inbox()
    second, take_second = inbox()
    here, there = SocketNetwork(laptop), SocketNetwork(phone)
    one = here.open_multicast(Family.V4, *group, take_first)
    two = here.open_multicast(Family.V4, *group, take_second)
    sender = there.open_multicast(Family.V4, *group, lambda batch: None)
    try:
        assert one.join(laptop.link.index)
        assert two.join(laptop.link.index)
        assert not two.join(4711)
        assert sender.send(b"one", phone.link.index)
        for queue in (first, second):
            async with asyncio.timeout(PATIENCE):
                data, source, index = await queue.get()
            assert (data, source, index) == (b"one", (phone.ip, 5353), laptop.link.index)
        one.leave(laptop.link.index)
        assert one.joined == frozenset()
        assert sender.send(b"two", phone.link.index)
        async with asyncio.timeout(PATIENCE):
            assert (await second.get())[0] == b"two"
        assert first.empty()
        assert not sender.send(b"lost", 4711)
    finally:
        for socket in (one, two, sender):
            socket.close()


async def test_registry_in_the_lab_serves_pkarr_and_dns() -> None:
    """Published by HTTP behind one NAT, found by DNS behind the other: connected by node id alone."""
    with Lab(name="registry") as lab:
        dc = lab.router("dc")
        registry, public = lab.host("registry", uplink=dc), lab.host("public", uplink=dc)
        laptop = lab.host("laptop", uplink=lab.router("home", nat="strict"))
        lab.build()
        store = WatchedStore()
        async with DiscoveryServer(registry, store=store) as server:
            publish = PkarrDiscovery(server.pkarr_url, resolve=False)
            look_up = DnsDiscovery(server.origin, nameservers=[server.dns_addr])
            async with bound(public, publish, look_up) as two, bound(laptop, publish, look_up) as one:
                async with asyncio.timeout(PATIENCE):
                    while store.get(two.node_id) is None:
                        await store.changed.wait()
                    connection = await one.connect(two.node_id, ALPN)
                await echo(connection, b"hello")
