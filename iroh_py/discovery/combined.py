"""Several discoveries as one: all are told and asked at the same time (PROTOCOL 9.1)."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator, Callable

from iroh_py.discovery.base import Discovery, DiscoveryService, Found, Site
from iroh_py.errors import DiscoveryError, IrohError
from iroh_py.keys import NodeId
from iroh_py.network import NetworkState
from iroh_py.proto.node_info import NodeInfo

log = logging.getLogger("iroh_py.discovery")

#: Results that wait for the one who asked; the services behind it wait, too, when it is full.
_MAX_WAITING = 64


class CombinedDiscovery:
    """Publishes by all of its parts, and merges what they find as it comes."""

    def __init__(self, *parts: Discovery) -> None:
        self.parts = parts

    async def start(self, site: Site) -> CombinedService:
        """Start all parts for an endpoint. Raises what the first failing part raises; none stays started."""
        services: list[DiscoveryService] = []
        try:
            for part in self.parts:
                services.append(await part.start(site))
        except BaseException:
            await CombinedService(services).close()
            raise
        return CombinedService(services)


class CombinedService(DiscoveryService):
    """The services of one endpoint. One that fails does not disturb the others."""

    provenance = "combined"

    def __init__(self, services: list[DiscoveryService]) -> None:
        self.services = services

    def publish(self, info: NodeInfo) -> None:
        """Tell all services."""
        self._each("publish", lambda service: service.publish(info))

    def handle_network_change(self, state: NetworkState) -> None:
        """Tell all services."""
        self._each("handle_network_change", lambda service: service.handle_network_change(state))

    async def resolve(self, node_id: NodeId) -> AsyncGenerator[Found, None]:
        """Yield what the services find, in the order in which it comes.

        Raises DiscoveryError if none found anything and at least one failed; it tells why each did.
        """
        queue: asyncio.Queue[Found | None] = asyncio.Queue(_MAX_WAITING)
        failures: list[str] = []
        tasks = [asyncio.create_task(_pour(s, node_id, queue, failures)) for s in self.services]
        running, found = len(tasks), False
        try:
            while running:
                item = await queue.get()
                if item is None:
                    running -= 1
                else:
                    found = True
                    yield item
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        if failures and not found:
            raise DiscoveryError("; ".join(failures))

    async def close(self) -> None:
        """Close all services, those after a failing one as well."""
        for result in await asyncio.gather(*(s.close() for s in self.services), return_exceptions=True):
            if isinstance(result, Exception):
                log.warning("a discovery service did not close: %r", result)

    def _each(self, what: str, call: Callable[[DiscoveryService], None]) -> None:
        for service in self.services:
            try:
                call(service)
            except Exception:
                # Services come from applications, too: a fault in one must not cost us the others.
                log.exception("discovery %s: %s failed", service.provenance, what)


async def _pour(
    service: DiscoveryService, node_id: NodeId, queue: asyncio.Queue[Found | None], failures: list[str]
) -> None:
    try:
        async with contextlib.aclosing(service.resolve(node_id)) as results:
            async for found in results:
                await queue.put(found)
    except (IrohError, OSError) as error:
        failures.append(f"{service.provenance}: {error or type(error).__name__}")
    except Exception as error:
        # See _each: a fault of an application's service, which its log shall show.
        log.exception("discovery %s: resolve failed", service.provenance)
        failures.append(f"{service.provenance}: {error!r}")
    await queue.put(None)
