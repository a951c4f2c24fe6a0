"""Discovery in endpoints: published, resolved, and asked again when every known address is dead; no relay anywhere."""

from __future__ import annotations

import asyncio

import pytest
from heal_kit import ALPN
from registry_kit import CLIENT, RTT, SERVER, Book, bound, hosts

from iroh_py import ConnectError, Endpoint, NodeAddr
from iroh_py.discovery import (
    DiscoveryServer,
    PkarrDiscovery,
    StaticDiscovery,
)
from iroh_py.errors import ClosedError, DiscoveryError, LocalProtocolError, NoAddressError, SelfConnectError
from iroh_py.events import Event, NodeDiscovered
from iroh_py.proto.node_info import NodeInfo
from iroh_py.testing import run_virtual


def found_events(endpoint: Endpoint) -> list[NodeDiscovered]:
    """The list that this endpoint's discovery events go to from now on."""
    events: list[NodeDiscovered] = []

    def note(event: Event) -> None:
        if isinstance(event, NodeDiscovered):
            events.append(event)

    endpoint.on_event(note)
    return events


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
