"""Discovery in endpoints: published, resolved, and asked again when every known address is dead; no relay anywhere."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass, field

import pytest
from heal_kit import ALPN, Scene, serve

from iroh_py import ConnectError, Endpoint, EndpointConfig, NodeAddr, SecretKey
from iroh_py.discovery import (
    DiscoveryServer,
    DiscoveryService,
    DnsDiscovery,
    Found,
    PkarrDiscovery,
    Site,
    StaticDiscovery,
)
from iroh_py.errors import ClosedError, DiscoveryError, LocalProtocolError, NoAddressError, SelfConnectError
from iroh_py.events import Event, NodeDiscovered
from iroh_py.keys import NodeId
from iroh_py.proto.node_info import NodeInfo
from iroh_py.testing import SimHost, SimNet, run_virtual

#: Links of 10 ms each way, so a round trip is 40 ms.
DELAY = 0.01
RTT = 4 * DELAY
CLIENT, SERVER = SecretKey(bytes([1]) * 32), SecretKey(bytes([2]) * 32)


@dataclass
class Book(DiscoveryService):
    """A discovery that counts its questions and answers what it is told to, after a delay."""

    nodes: dict[NodeId, NodeInfo] = field(default_factory=dict)
    delay: float = 0.0
    error: Exception | None = None
    asked: list[float] = field(default_factory=list)
    published: list[tuple[float, NodeInfo]] = field(default_factory=list)
    closed: bool = False
    provenance = "book"

    async def start(self, site: Site) -> DiscoveryService:
        return self

    def publish(self, info: NodeInfo) -> None:
        self.published.append((asyncio.get_running_loop().time(), info))

    async def resolve(self, node_id: NodeId) -> AsyncGenerator[Found, None]:
        self.asked.append(asyncio.get_running_loop().time())
        await asyncio.sleep(self.delay)
        if self.error is not None:
            raise self.error
        if node_id in self.nodes:
            yield Found(self.nodes[node_id], self.provenance)

    async def close(self) -> None:
        self.closed = True


def hosts(seed: int = 1) -> tuple[SimNet, SimHost, SimHost]:
    net = SimNet(seed=seed)
    client, server = net.host("client", "198.51.100.10"), net.host("server", "198.51.100.20")
    net.link(client, delay=DELAY)
    net.link(server, delay=DELAY)
    return net, client, server


@contextlib.asynccontextmanager
async def bound(
    host: SimHost, secret: SecretKey, *discovery: object, **options: object
) -> AsyncIterator[Endpoint]:
    """An endpoint that echoes, with these discoveries."""
    config = EndpointConfig(discovery=discovery, **options)  # type: ignore[arg-type]
    rng = random.Random(secret.seed[0])
    endpoint = await Endpoint.bind(network=host, secret_key=secret, alpns=[ALPN], config=config, rng=rng)
    service = asyncio.create_task(serve(endpoint))
    try:
        yield endpoint
    finally:
        await endpoint.close()
        service.cancel()
        await asyncio.gather(service, return_exceptions=True)


def found_events(endpoint: Endpoint) -> list[NodeDiscovered]:
    """The list that this endpoint's discovery events go to from now on."""
    events: list[NodeDiscovered] = []

    def note(event: Event) -> None:
        if isinstance(event, NodeDiscovered):
            events.append(event)

    endpoint.on_event(note)
    return events


# --- resolving ---


def test_node_id_alone_is_dialled_through_discovery() -> None:
    """connect(node id) asks, dials with the first answer, and tells whence it knew."""

    async def story() -> None:
        _, client, server = hosts()
        book = StaticDiscovery(shared=True)
        async with bound(client, CLIENT, book) as one, bound(server, SERVER, book) as two:
            await two.online()
            events = found_events(one)
            begun = one._driver.now()
            connection = await one.connect(str(two.node_id), ALPN)
            assert connection.node_id == two.node_id
            assert one._driver.now() - begun <= 3 * RTT
            assert [(e.node, e.provenance) for e in events] == [(two.node_id, "static_discovery")]
            assert events[0].text == "static_discovery says " + ", ".join(
                f"{ip}:{port}" for ip, port in two.node_addr.ordered_addresses
            )

    run_virtual(story)


def test_first_answer_is_enough_and_later_ones_still_count() -> None:
    """A wrong first answer costs nothing but its pings: the later right one completes the dial."""

    async def story() -> None:
        _, client, server = hosts()
        wrong = Book({SERVER.node_id: NodeInfo(SERVER.node_id, None, frozenset({("198.51.100.99", 9)}))})
        right = Book(delay=0.3)
        async with bound(server, SERVER) as two, bound(client, CLIENT, wrong, right) as one:
            right.nodes[two.node_id] = NodeInfo(two.node_id, None, two.node_addr.direct_addresses)
            begun = one._driver.now()
            await one.connect(two.node_id, ALPN)
            assert 0.3 <= one._driver.now() - begun <= 0.3 + 4 * RTT

    run_virtual(story)


@pytest.mark.parametrize(
    ("book", "says"),
    [
        (Book(), "all were asked, and nothing they know can be dialled"),
        (Book(error=DiscoveryError("bad record")), "book: bad record"),
        (Book(error=OSError("no route")), "book: no route"),
        (
            Book(
                {
                    SERVER.node_id: NodeInfo(
                        SERVER.node_id, None, frozenset({("fe80::1", 5), ("224.0.0.1", 5)})
                    )
                }
            ),
            "nothing they know can be dialled",
        ),
    ],
)
def test_unknown_node_is_a_no_address_error_with_the_reasons(book: Book, says: str) -> None:
    """Bad records and dead networks are reasons in the error, never exceptions of their own."""

    async def story() -> None:
        _, client, _ = hosts()
        async with bound(client, CLIENT, book) as one:
            with pytest.raises(NoAddressError, match=says):
                await one.connect(SERVER.node_id, ALPN)
        assert book.closed

    run_virtual(story)


def test_discovery_that_hangs_ends_with_the_dial() -> None:
    """connect()'s time limit covers the question, which says what was missing, and leaves no task."""

    async def story() -> None:
        _, client, _ = hosts()
        async with bound(client, CLIENT, Book(delay=1000.0)) as one:
            before = asyncio.all_tasks()
            with pytest.raises(NoAddressError, match="within 2 s"):
                await one.connect(SERVER.node_id, ALPN, timeout=2.0)
            assert asyncio.all_tasks() == before

    run_virtual(story)


def test_closing_the_endpoint_ends_a_dial_that_waits_for_discovery() -> None:
    """Whoever waits for an answer hears of the end at once."""

    async def story() -> None:
        _, client, _ = hosts()
        async with bound(client, CLIENT, Book(delay=1000.0)) as one:
            dialling = asyncio.create_task(one.connect(SERVER.node_id, ALPN, timeout=60.0))
            await asyncio.sleep(1.0)
            await one.close()
            begun = one._driver.now()
            with pytest.raises(ClosedError):
                await dialling
            assert one._driver.now() == begun

    run_virtual(story)


def test_dialling_oneself_asks_nobody() -> None:
    """The error is the same with discovery as without."""

    async def story() -> None:
        _, client, _ = hosts()
        book = Book()
        async with bound(client, CLIENT, book) as one:
            with pytest.raises(SelfConnectError):
                await one.connect(one.node_id, ALPN)
        assert book.asked == []

    run_virtual(story)


def test_dead_addresses_of_a_ticket_lead_to_a_question_after_half_a_second() -> None:
    """With known addresses discovery is asked only when nothing was heard for 500 ms."""

    async def story() -> None:
        _, client, server = hosts()
        book = Book()
        async with bound(server, SERVER) as two, bound(client, CLIENT, book) as one:
            book.nodes[two.node_id] = NodeInfo(two.node_id, None, two.node_addr.direct_addresses)
            begun = one._driver.now()
            await one.connect(NodeAddr(two.node_id, direct_addresses=[("198.51.100.99", 9)]), ALPN)
            assert 0.5 <= book.asked[0] - begun <= 0.5 + 0.3
            assert one._driver.now() - book.asked[0] <= 4 * RTT

    run_virtual(story)


def test_good_addresses_of_a_ticket_need_no_question() -> None:
    """Who answers at once is not asked for, neither while dialling nor later."""

    async def story() -> None:
        _, client, server = hosts()
        book = Book()
        async with bound(server, SERVER) as two, bound(client, CLIENT, book) as one:
            await one.connect(two.node_addr, ALPN)
            await asyncio.sleep(60.0)
        assert book.asked == []

    run_virtual(story)


def test_remembered_addresses_are_tried_while_discovery_is_asked() -> None:
    """A node id that was silent for a while is asked for at once, beside the dial to where it was."""

    async def story() -> None:
        _, client, server = hosts()
        book = Book(delay=5.0)
        async with bound(server, SERVER) as two, bound(client, CLIENT, book) as one:
            (await one.connect(two.node_addr, ALPN)).close()
            server.blackhole()
            await asyncio.sleep(60.0)
            server.blackhole(False)
            begun = one._driver.now()
            await one.connect(two.node_id, ALPN)
            assert one._driver.now() - begun <= 0.5
            assert book.asked == [begun]

    run_virtual(story)


# --- publishing ---


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


# --- asked again ---


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


# --- wrong use ---


def test_wrong_option_fails_at_bind_and_leaves_nothing_open() -> None:
    """Something that is no discovery, and user data that fits no record, are told at once."""

    async def story() -> None:
        _, client, _ = hosts()
        with pytest.raises(LocalProtocolError, match="is no Discovery"):
            async with bound(client, CLIENT, "dns.iroh.link"):
                pass
        with pytest.raises(LocalProtocolError, match="user data"):
            async with bound(client, CLIENT, StaticDiscovery(), user_data="u" * 246):
                pass
        assert not client._sockets
        assert not client._watches

    run_virtual(story)


def test_dial_without_discovery_is_as_before() -> None:
    """Nothing is asked, and the error names the remedy."""

    async def story() -> None:
        _, client, _ = hosts()
        async with bound(client, CLIENT) as one:
            with pytest.raises(ConnectError, match="configure a discovery service"):
                await one.connect(SERVER.node_id, ALPN)

    run_virtual(story)


def test_run_with_discovery_repeats_itself() -> None:
    """The same seed gives the same packets at the same times, registry included."""

    def run() -> list[object]:
        trace: list[object] = []

        async def story() -> None:
            net, client, server = hosts(7)
            async with DiscoveryServer(net.host("registry", "203.0.113.5")) as registry:
                discovery = PkarrDiscovery(registry.pkarr_url, clock=lambda: net.loop.time())
                async with bound(server, SERVER, discovery) as two, bound(client, CLIENT, discovery) as one:
                    await asyncio.sleep(1.0)
                    await one.connect(two.node_id, ALPN)
                    client.interface().renumber("198.51.100.110")
                    server.interface().renumber("198.51.100.120")
                    await asyncio.sleep(5.0)
            trace.extend(net.trace)

        run_virtual(story)
        return trace

    assert run() == run()
