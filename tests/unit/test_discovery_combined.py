"""discovery/static.py, discovery/combined.py: services side by side."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator
from contextlib import aclosing

import pytest
from discovery_kit import PATIENCE, ask, info, key, site

from iroh_py import NodeAddr
from iroh_py.addr import NodeTicket
from iroh_py.discovery import CombinedDiscovery, Discovery, DiscoveryService, Found, Site, StaticDiscovery
from iroh_py.errors import DiscoveryError, LocalProtocolError
from iroh_py.keys import NodeId
from iroh_py.network import NetworkState
from iroh_py.proto.node_info import NodeInfo

HERE = ("192.0.2.1", 4433)
THERE = ("2001:db8::1", 4433)


class Scripted(DiscoveryService):
    """Yields and raises as it was told; a Discovery and its service in one."""

    provenance = "scripted"

    def __init__(self, *script: NodeInfo | Exception, after: asyncio.Event | None = None) -> None:
        self._script = script
        self._after = after
        self.published: list[NodeInfo] = []
        self.changes = 0
        self.closed = False

    async def start(self, site: Site) -> DiscoveryService:
        return self

    def publish(self, info: NodeInfo) -> None:
        self.published.append(info)

    async def resolve(self, node_id: NodeId) -> AsyncGenerator[Found, None]:
        if self._after is not None:
            await self._after.wait()
        for step in self._script:
            if isinstance(step, Exception):
                raise step
            yield Found(step, self.provenance)

    def handle_network_change(self, state: NetworkState) -> None:
        self.changes += 1

    async def close(self) -> None:
        self.closed = True


class Broken(Scripted):
    """A service with a fault in each method."""

    def publish(self, info: NodeInfo) -> None:
        raise RuntimeError("fault")

    async def close(self) -> None:
        raise RuntimeError("fault")


async def test_static_gives_what_was_entered_last() -> None:
    """Info, address or ticket: the newest entry is found under the static provenance; removed ones are not."""
    book = StaticDiscovery([info(2, HERE)])
    service = await book.start(site())
    assert await ask(service, key(2).node_id) == [Found(info(2, HERE), "static_discovery")]
    book.set(NodeTicket(NodeAddr(key(2).node_id, direct_addresses=[THERE])))
    assert [f.info for f in await ask(service, key(2).node_id)] == [info(2, THERE)]
    book.remove(key(2).node_id)
    book.remove(key(2).node_id)
    assert await ask(service, key(2).node_id) == []


@pytest.mark.parametrize("shared", [False, True])
async def test_shared_static_is_a_meeting_place(shared: bool) -> None:
    """Endpoints enter themselves only into a map that was declared shared."""
    book = StaticDiscovery(shared=shared)
    (await book.start(site(1))).publish(info(1, HERE))
    assert book.find(key(1).node_id) == (info(1, HERE) if shared else None)


async def test_results_are_merged_as_they_come() -> None:
    """A fast service's result is not held back by a slow one, which still gets its turn."""
    later = asyncio.Event()
    slow, fast = Scripted(info(2, HERE), after=later), Scripted(info(2, THERE))
    combined = await CombinedDiscovery(slow, fast).start(site())
    async with asyncio.timeout(PATIENCE), aclosing(combined.resolve(key(2).node_id)) as results:
        assert (await anext(results)).info == info(2, THERE)
        later.set()
        assert (await anext(results)).info == info(2, HERE)
        with pytest.raises(StopAsyncIteration):
            await anext(results)


async def test_failure_beside_a_result_is_silent_and_alone_it_is_told() -> None:
    """One service's failure never hides another's result; without any result the reasons are raised."""
    failing = Scripted(DiscoveryError("bad record"))
    good = await CombinedDiscovery(failing, StaticDiscovery([info(2, HERE)])).start(site())
    assert [f.info for f in await ask(good, key(2).node_id)] == [info(2, HERE)]
    alone = await CombinedDiscovery(failing, Scripted(OSError("no route")), StaticDiscovery()).start(site())
    with pytest.raises(DiscoveryError, match="scripted: bad record; scripted: no route"):
        await ask(alone, key(2).node_id)


async def test_fault_of_a_service_is_logged_and_costs_only_itself(caplog: pytest.LogCaptureFixture) -> None:
    """Publishing, resolving and closing go on with the others."""
    broken, good = Broken(ValueError("fault")), Scripted(info(2, HERE))
    combined = await CombinedDiscovery(broken, good).start(site())
    with caplog.at_level(logging.WARNING, "iroh_py.discovery"):
        combined.publish(info(1, HERE))
        combined.handle_network_change(NetworkState())
        assert len(await ask(combined, key(2).node_id)) == 1
        await combined.close()
    assert good.published == [info(1, HERE)]
    assert (good.changes, broken.changes, good.closed) == (1, 1, True)
    assert len(caplog.records) == 3


async def test_services_that_started_are_closed_if_another_cannot() -> None:
    """A half-started combination leaves nothing behind."""

    class Impossible:
        async def start(self, site: Site) -> DiscoveryService:
            raise LocalProtocolError("not here")

    first = Scripted()
    with pytest.raises(LocalProtocolError, match="not here"):
        await CombinedDiscovery(first, Impossible()).start(site())
    assert first.closed


async def test_question_that_nobody_reads_further_leaves_no_task() -> None:
    """Closing the results cancels the services' work."""
    before = asyncio.all_tasks()
    combined = await CombinedDiscovery(Scripted(info(2, HERE)), Scripted(after=asyncio.Event())).start(site())
    async with asyncio.timeout(PATIENCE), aclosing(combined.resolve(key(2).node_id)) as results:
        await anext(results)
    assert asyncio.all_tasks() == before


def test_anything_with_start_is_a_discovery() -> None:
    """Applications bring their own without a base class."""
    assert isinstance(Scripted(), Discovery)
    assert isinstance(StaticDiscovery(), Discovery)
    assert not isinstance(object(), Discovery)
