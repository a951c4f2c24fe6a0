"""Discovery and moves: what is published, and asked for again when nothing else leads to a node."""

from __future__ import annotations

import asyncio
import contextlib

import pytest
from heal_kit import ALPN, Scene
from registry_kit import CLIENT, RTT, SERVER, Book, bound, hosts

from iroh_py import SecretKey
from iroh_py.discovery import (
    DiscoveryServer,
    DiscoveryService,
    DnsDiscovery,
    Found,
    PkarrDiscovery,
    Site,
    StaticDiscovery,
)
from iroh_py.proto.node_info import NodeInfo
from iroh_py.testing import run_virtual


def test_each_change_is_published_the_first_at_once() -> None:
    """A new address reaches the services within milliseconds, and flapping only a few times per second."""

    async def story() -> None:
        _, client, _ = hosts()
        book = Book()
        async with bound(client, CLIENT, book, user_data="hello") as one:
            await asyncio.sleep(1.0)
            assert [info.user_data for _, info in book.published] == ["hello"]
            book.published.clear()
            begun = one._driver.now()
            for number in range(40):
                client.interface().renumber(f"198.51.100.{100 + number}")
                await asyncio.sleep(0.05)
            await asyncio.sleep(1.0)
            assert book.published[0][0] - begun < 0.01
            assert len(book.published) <= 2 + 2.0 / 0.3
            assert book.published[-1][1].direct_addresses == one.node_addr.direct_addresses
            assert {ip for ip, _ in one.node_addr.direct_addresses} == {"198.51.100.139"}

    run_virtual(story)


def test_nothing_is_published_while_there_is_nothing_to_say() -> None:
    """Losing every address does not erase the last record."""

    async def story() -> None:
        _, client, _ = hosts()
        book = Book()
        async with bound(client, CLIENT, book):
            await asyncio.sleep(1.0)
            client.interface().down()
            await asyncio.sleep(2.0)
        assert all(info.direct_addresses for _, info in book.published)

    run_virtual(story)


@pytest.mark.parametrize("how", ["static", "pkarr", "dns"])
@pytest.mark.parametrize("seed", range(3))
def test_two_nodes_that_both_moved_find_each_other_without_a_relay(how: str, seed: int) -> None:
    """Both renumber at the same instant: discovery is asked again, and not a byte is lost."""

    async def story() -> None:
        net, client, server = hosts(seed)
        async with contextlib.AsyncExitStack() as stack:
            discovery: tuple[object, ...] = (StaticDiscovery(shared=True),)
            if how != "static":
                registry = await stack.enter_async_context(
                    DiscoveryServer(net.host("registry", "203.0.113.5"))
                )
                reads = how == "pkarr"
                discovery = (PkarrDiscovery(registry.pkarr_url, resolve=reads),)
                if how == "dns":
                    discovery += (DnsDiscovery(registry.origin, nameservers=[registry.dns_addr]),)
            two = await stack.enter_async_context(bound(server, SERVER, *discovery))
            one = await stack.enter_async_context(bound(client, CLIENT, *discovery))
            await asyncio.sleep(1.0)
            connection = await one.connect(two.node_id, ALPN)
            scene = Scene(one, two, connection)
            pulse = asyncio.create_task(scene.beat())
            await asyncio.sleep(2.0)
            client.interface().renumber("198.51.100.110")
            server.interface().renumber("198.51.100.120")
            took = await scene.first_answer(asyncio.get_running_loop().time(), 30.0)
            # Half a second of patience, a look each quarter, the question, the pings, the data.
            assert took <= 0.5 + 0.25 + 4 * RTT + 0.05
            await scene.check_bytes(pulse)

    run_virtual(story)


def test_registry_that_is_down_during_the_move_heals_them_when_it_is_back() -> None:
    """Questions and publications go on at a bounded rate until the registry answers."""

    async def story() -> None:
        net, client, server = hosts()
        registry = DiscoveryServer(net.host("registry", "203.0.113.5"))
        async with registry:
            discovery = PkarrDiscovery(registry.pkarr_url)
            async with bound(server, SERVER, discovery) as two, bound(client, CLIENT, discovery) as one:
                await asyncio.sleep(1.0)
                scene = Scene(one, two, await one.connect(two.node_id, ALPN))
                pulse = asyncio.create_task(scene.beat())
                await asyncio.sleep(2.0)
                await registry.close()
                client.interface().renumber("198.51.100.110")
                server.interface().renumber("198.51.100.120")
                await asyncio.sleep(12.0)
                await registry.start()
                back = asyncio.get_running_loop().time()
                # Publishing was due again within 5 s, the next question within 16 s.
                assert await scene.first_answer(back, 20.0) <= 17.0
                await scene.check_bytes(pulse)

    run_virtual(story)


def test_node_that_is_gone_is_asked_for_at_a_bounded_rate() -> None:
    """Eight questions in the first two minutes, and none once the connection is over."""

    async def story() -> None:
        _, client, server = hosts()
        book = Book()
        async with bound(server, SERVER) as two, bound(client, CLIENT, book, idle_timeout=100.0) as one:
            connection = await one.connect(two.node_addr, ALPN)
            begun = one._driver.now()
            server.blackhole()
            await connection.wait_closed()
            ended = one._driver.now()
            assert 3 <= len(book.asked) <= 8
            assert book.asked[0] - begun <= 4.5 + 0.25 + 0.5 + 0.3
            await asyncio.sleep(120.0)
            assert book.asked[-1] <= ended

    run_virtual(story)


def test_answers_about_strangers_do_not_fill_the_node_map() -> None:
    """What a service hears unasked is used for nodes that we talk to, and for nobody else."""

    class Gossip(Book):
        site: Site | None = None

        async def start(self, site: Site) -> DiscoveryService:
            self.site = site
            return self

    async def story() -> None:
        _, client, server = hosts()
        gossip = Gossip()
        async with bound(server, SERVER) as two, bound(client, CLIENT, gossip) as one:
            assert gossip.site is not None
            stranger = SecretKey(bytes([9]) * 32).node_id
            where = frozenset({("198.51.100.77", 7)})
            gossip.site.heard(Found(NodeInfo(stranger, None, where), "gossip"))
            assert stranger not in one._core.magic.nodes
            await one.connect(two.node_addr, ALPN)
            gossip.site.heard(Found(NodeInfo(two.node_id, None, where), "gossip"))
            assert ("198.51.100.77", 7) in {s.path.addr for s in one._core.magic.nodes[two.node_id].paths}  # type: ignore[union-attr]

    run_virtual(story)
