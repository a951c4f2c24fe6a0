"""The port mapper: keeps one public UDP port at the router, if the router gives any (PROTOCOL.md 10).

Difference to the original (trap 21 of chapter 14): another way out ends the mapping at once, and one is asked
for at the new router right away.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable

from iroh_py.errors import PortmapError
from iroh_py.io.portmap_protocols import Gateway, MappingProtocol, NatPmp, Pcp, PortMapping, Upnp
from iroh_py.network import Addr, Family, Network, NetworkState
from iroh_py.proto.netcheck.addresses import WayOut, way_out
from iroh_py.proto.netcheck.report import PortmapProbe

log = logging.getLogger("iroh_py.portmap")

#: A router that gives no mapping is asked again so much later, doubled up to the second (10.1: 10 min).
RETRY_AFTER = 60.0
MAX_RETRY = 600.0
#: A mapping is renewed at half of its lifetime, then at half of the rest, and so on this often.
RENEWALS = 3
#: Lifetimes are taken from here to there: a router must neither keep us busy nor be trusted for days.
LIFETIMES = (30.0, 86_400.0)
#: What releasing at the end may take.
RELEASE_TIMEOUT = 0.5


def gateway_of(state: NetworkState) -> Gateway | None:
    """The IPv4 default gateway and our address towards it; None without one."""
    way = way_out(state, Family.V4)
    return Gateway(way.gateways[0], way.ips[0]) if way.gateways and way.ips else None


def protocols(network: Network, gateway: Gateway, rng: random.Random) -> dict[str, MappingProtocol]:
    """All three, in the order in which they are tried: the newest and cheapest first."""
    return {
        "pcp": Pcp(network, gateway, rng),
        "nat_pmp": NatPmp(network, gateway),
        "upnp": Upnp(network, gateway, rng),
    }


async def probe_portmap(network: Network, state: NetworkState) -> PortmapProbe | None:
    """What the router speaks, asked in parallel, within about 3 s; None without a gateway."""
    gateway = gateway_of(state)
    if gateway is None:
        return None
    speakers = protocols(network, gateway, random.SystemRandom())
    found = await asyncio.gather(*(speaker.available() for speaker in speakers.values()))
    return PortmapProbe(**dict(zip(speakers, found, strict=True)))


class PortMapper:
    """Asks, renews, and releases at the end.

    ``state()`` is our network, ``port()`` the local UDP port (None: there is none); ``on_change()`` is called
    whenever ``external`` changed.
    """

    def __init__(
        self,
        network: Network,
        *,
        state: Callable[[], NetworkState],
        port: Callable[[], int | None],
        rng: random.Random,
        on_change: Callable[[], None],
    ) -> None:
        self._network = network
        self._state = state
        self._port = port
        self._rng = rng
        self._on_change = on_change
        self._way = WayOut()
        self._task: asyncio.Task[None] | None = None
        self._old: set[asyncio.Task[None]] = set()
        self._held: tuple[MappingProtocol, int] | None = None
        #: The public address that leads to our socket, None without a mapping.
        self.external: Addr | None = None
        #: What the router spoke when it was asked last; None before.
        self.probe: PortmapProbe | None = None
        #: Rounds of asking, for tests and reports.
        self.attempts = 0

    def start(self) -> None:
        """Begin to ask."""
        self._begin(way_out(self._state(), Family.V4))

    def handle_network_change(self) -> None:
        """Our network may be another one: then the mapping is worth nothing, and the new router is asked."""
        way = way_out(self._state(), Family.V4)
        if not way.same_as(self._way):
            self._held = None  # it belongs to a router that we cannot talk to any more
            self._set(None)
            self._begin(way)
        self._way = way

    async def close(self) -> None:
        """Stop, and give the mapping back."""
        self._end_task()
        await asyncio.gather(*self._old, return_exceptions=True)
        held, external = self._held, self.external
        self._held = self.external = None
        if held is not None and external is not None:
            try:
                async with asyncio.timeout(RELEASE_TIMEOUT):
                    await held[0].release(held[1], external)
            except OSError as error:  # TimeoutError is one; the mapping ends by itself
                log.debug("releasing %s failed: %s", external, error)

    def _begin(self, way: WayOut) -> None:
        self._end_task()
        self._way = way
        gateway, port = gateway_of(self._state()), self._port()
        if gateway is not None and port is not None:
            self._task = asyncio.create_task(self._run(gateway, port), name="portmap")

    def _end_task(self) -> None:
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            self._old.add(task)
            task.add_done_callback(self._old.discard)

    async def _run(self, gateway: Gateway, port: int) -> None:
        speakers = protocols(self._network, gateway, self._rng)
        wait = RETRY_AFTER
        preferred: Addr | None = None
        while True:
            self.attempts += 1
            found = await self._acquire(speakers, port, preferred)
            if found is None:
                await asyncio.sleep(wait)
                wait = min(2 * wait, MAX_RETRY)
                continue
            wait = RETRY_AFTER
            preferred = await self._hold(found[0], port, found[1])

    async def _acquire(
        self, speakers: dict[str, MappingProtocol], port: int, preferred: Addr | None
    ) -> tuple[MappingProtocol, PortMapping] | None:
        spoken = dict.fromkeys(speakers, False)
        try:
            for name, speaker in speakers.items():
                mapping = await _try(speaker, port, preferred)
                if mapping is not None:
                    spoken[name] = True
                    return speaker, mapping
        finally:
            self.probe = PortmapProbe(**spoken)
        return None

    async def _hold(self, speaker: MappingProtocol, port: int, mapping: PortMapping) -> Addr:
        """Renew until that fails; the address that was lost."""
        self._held = speaker, port
        while True:
            self._set(mapping.external)
            left = min(max(mapping.lifetime, LIFETIMES[0]), LIFETIMES[1])
            renewed: PortMapping | None = None
            for _ in range(RENEWALS):
                left /= 2
                await asyncio.sleep(left)
                renewed = await _try(speaker, port, mapping.external)
                if renewed is not None:
                    break
            if renewed is None:
                self._held = None
                self._set(None)
                return mapping.external
            mapping = renewed

    def _set(self, external: Addr | None) -> None:
        if external != self.external:
            log.info("port mapping %s", external)
            self.external = external
            self._on_change()


async def _try(speaker: MappingProtocol, port: int, preferred: Addr | None) -> PortMapping | None:
    try:
        return await speaker.map(port, preferred)
    except (PortmapError, OSError) as error:  # TimeoutError is one: most routers speak none of them
        log.debug("%s: %s", type(speaker).__name__, error)
        return None
