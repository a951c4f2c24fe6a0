"""Signed records on a pkarr relay, by HTTP (PROTOCOL 9.4)."""

from __future__ import annotations

import asyncio
import bisect
import dataclasses
import logging
import ssl as ssl_module
import time
from collections.abc import AsyncGenerator, Callable

from iroh_py.addr import addr_order
from iroh_py.discovery.base import DiscoveryCounters, DiscoveryService, Found, Site
from iroh_py.discovery.http import BaseUrl, fetch
from iroh_py.errors import DiscoveryError, IrohError, RemoteProtocolError
from iroh_py.keys import NodeId
from iroh_py.network import NetworkState
from iroh_py.proto.node_info import TTL, NodeInfo
from iroh_py.proto.pkarr import MAX_DNS_PACKET, MAX_PAYLOAD, SignedPacket

log = logging.getLogger("iroh_py.discovery")

#: The public relay of number 0, for production and for tests.
N0_PKARR = "https://dns.iroh.link/pkarr"
N0_PKARR_STAGING = "https://staging-dns.iroh.link/pkarr"
#: Content type of signed packets.
CONTENT_TYPE = "application/x-pkarr-signed-packet"
PROVENANCE = "pkarr"

#: Seconds after which an unchanged record is published again (9.4): relays may forget it.
REPUBLISH_INTERVAL = 300.0
#: Seconds for one request. A relay answers within some round trips; a second try is worth more than patience.
REQUEST_TIMEOUT = 5.0
#: What a relay answers that has a newer record than the one sent.
_CONFLICT = 409


class PkarrDiscovery:
    """Publishes our record on a pkarr relay and looks up those of others.

    ``url``: the relay's base URL, to which ``/<z-base-32 node id>`` is appended. ``publish`` and ``resolve``
    switch the two halves. ``addresses``: whether direct addresses are published; None means only while we
    have no home relay, as upstream does, since the record is public. ``ssl``: TLS context for https; None
    means the system's certificate authorities. ``ttl``, ``republish_interval``: seconds. ``clock``: seconds
    since 1970. Raises LocalProtocolError for a URL that is none.
    """

    def __init__(
        self,
        url: str = N0_PKARR,
        *,
        publish: bool = True,
        resolve: bool = True,
        addresses: bool | None = None,
        ssl: ssl_module.SSLContext | None = None,
        ttl: int = TTL,
        republish_interval: float = REPUBLISH_INTERVAL,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.url = BaseUrl.parse(url)
        self.publishes = publish
        self.resolves = resolve
        self.addresses = addresses
        self.ssl = ssl
        self.ttl = ttl
        self.republish_interval = republish_interval
        self.clock = clock

    async def start(self, site: Site) -> PkarrService:
        """Begin to work for an endpoint."""
        return PkarrService(self, site)


class PkarrService(DiscoveryService):
    """A pkarr relay at work for one endpoint. Needs a running event loop."""

    provenance = PROVENANCE

    def __init__(self, options: PkarrDiscovery, site: Site) -> None:
        self.counters = DiscoveryCounters()
        self._options = options
        self._site = site
        self._info: NodeInfo | None = None
        self._failures = 0
        self._last_timestamp = 0
        self._sending = False
        self._wake = asyncio.Event()
        self._task = asyncio.create_task(self._publish_for_ever()) if options.publishes else None

    # --- publishing ---

    def publish(self, info: NodeInfo) -> None:
        """Put our record on the relay now, in place of whatever is under way."""
        public = published_part(info, self._options.addresses)
        if public != self._info:
            self._info = public
            self._failures = 0
            self._wake.set()

    def handle_network_change(self, state: NetworkState) -> None:
        """Try at once what failed, or hangs, in the network that is gone."""
        if self._failures or self._sending:
            self._wake.set()

    async def _publish_for_ever(self) -> None:
        pause: float | None = None
        while True:
            await self._woken(pause)
            info = self._info
            if info is None:
                continue
            put = asyncio.create_task(self._put(info))
            woken = asyncio.create_task(self._wake.wait())
            self._sending = True
            try:
                await asyncio.wait((put, woken), return_when=asyncio.FIRST_COMPLETED)
                # Newer addresses must not wait for a request that may hang in the network we left.
                finished = put.done()
            finally:
                self._sending = False
                put.cancel()
                woken.cancel()
                results = await asyncio.gather(put, woken, return_exceptions=True)
            pause = self._note(results[0]) if finished else 0.0

    async def _woken(self, pause: float | None) -> None:
        """Wait for a change, or for so many seconds."""
        try:
            async with asyncio.timeout(pause):
                await self._wake.wait()
        except TimeoutError:
            pass  # the same record again
        self._wake.clear()

    def _note(self, result: object) -> float:
        """Account for a publication; seconds until the next one."""
        if result is None:
            self._failures = 0
            self.counters.published += 1
            return self._options.republish_interval
        if not isinstance(result, OSError | IrohError):
            assert isinstance(result, BaseException)
            raise result
        log.debug("not published at %s: %s", self._options.url.authority, result)
        self._failures += 1
        self.counters.publish_failed += 1
        return min(float(self._failures), self._options.republish_interval)

    async def _put(self, info: NodeInfo) -> None:
        packet = self._sign(info)
        status = await self._send(packet)
        if status == _CONFLICT:
            # Our clock went back, or another process with our key was here: go on from its time.
            newer = await self._get(info.node_id)
            if newer is not None:
                self._last_timestamp = max(self._last_timestamp, newer.timestamp_us)
            status = await self._send(self._sign(info))
        if not 200 <= status < 300:
            raise OSError(f"pkarr relay {self._options.url.authority} answered {status}")

    def _sign(self, info: NodeInfo) -> SignedPacket:
        # Never a timestamp twice, nor an older one (9.4), even if the clock says so.
        self._last_timestamp = max(int(self._options.clock() * 1e6), self._last_timestamp + 1)
        packet = fitting_packet(info, self._options.ttl)
        return SignedPacket.sign(self._site.secret_key, packet, self._last_timestamp)

    async def _send(self, packet: SignedPacket) -> int:
        answer = await fetch(
            self._site.network,
            self._options.url,
            f"/{packet.node_id.z32}",
            within=REQUEST_TIMEOUT,
            method="PUT",
            body=packet.to_relay_payload(),
            content_type=CONTENT_TYPE,
            ssl=self._options.ssl,
        )
        return answer.status

    # --- resolving ---

    async def resolve(self, node_id: NodeId) -> AsyncGenerator[Found, None]:
        """Yield what the relay's record of a node says; nothing if it has none."""
        if not self._options.resolves:
            return
        self.counters.asked += 1
        try:
            packet = await self._get(node_id)
            info = None if packet is None else NodeInfo.from_dns_packet(node_id, packet.dns_packet)
        except RemoteProtocolError:
            self.counters.malformed += 1
            raise
        except OSError:
            self.counters.failed += 1
            raise
        if info is not None:
            self.counters.found += 1
            yield Found(info, self.provenance)

    async def _get(self, node_id: NodeId) -> SignedPacket | None:
        options = self._options
        answer = await fetch(
            self._site.network, options.url, f"/{node_id.z32}", within=REQUEST_TIMEOUT, ssl=options.ssl
        )
        if answer.status == 404:
            return None
        if answer.status != 200:
            raise OSError(f"pkarr relay {options.url.authority} answered {answer.status}")
        if len(answer.body) > MAX_PAYLOAD:
            raise DiscoveryError(f"a signed packet of {len(answer.body)} bytes")
        return SignedPacket.from_relay_payload(node_id, answer.body)

    async def close(self) -> None:
        """Stop publishing; the record stays on the relay."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)


def published_part(info: NodeInfo, addresses: bool | None) -> NodeInfo:
    """What of our info becomes public: direct addresses as asked for, by default only without a home relay."""
    if addresses is None:
        addresses = info.relay_url is None
    return info if addresses else dataclasses.replace(info, direct_addresses=frozenset())


def fitting_packet(info: NodeInfo, ttl: int = TTL) -> bytes:
    """The DNS packet of an info with as many addresses as fit into 1000 bytes, families taking turns."""
    families: dict[bool, list[tuple[str, int]]] = {False: [], True: []}
    for addr in sorted(info.direct_addresses, key=addr_order):
        families[":" in addr[0]].append(addr)
    ranked = sorted(
        (rank, v6, addr) for v6, addresses in families.items() for rank, addr in enumerate(addresses)
    )
    kept = [addr for _, _, addr in ranked]

    def packet(count: int) -> bytes:
        return dataclasses.replace(info, direct_addresses=frozenset(kept[:count])).to_dns_packet(ttl=ttl)

    # By halves: each packet costs dnspython a millisecond or more.
    fitting = bisect.bisect_left(
        range(1, len(kept) + 1), True, key=lambda count: len(packet(count)) > MAX_DNS_PACKET
    )
    return packet(fitting)
