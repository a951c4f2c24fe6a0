"""The frame of upstream's lab tests (LAB 2.10), rebuilt: a relay, two endpoints, a relay-only address, checked pings.

Upstream's time limits are divided by five where no link is impaired; ``--netns-timeout-scale`` multiplies them again.
"""

from __future__ import annotations

import asyncio
import ipaddress
import time
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from iroh_py import Endpoint, NodeAddr
from iroh_py.events import Event, PathChanged, ReportMade
from netns_fixtures import Host, Lab, Router
from pytest_iroh import ECHO_ALPN, Endpoints, Recorder, echo, stays_relayed
from pytest_iroh.relays import Relays, RunningRelay

#: Upstream's limits in seconds, a fifth of them.
PING = 10.0 / 5
HOLEPUNCH = 10.0 / 5
STEP = 15.0 / 5
RESTART = 20.0 / 5
RECONNECT = 30.0 / 5
SWITCH = 30.0 / 5

#: For how long upstream looks at a pair that shall stay relayed, in seconds; not a limit, so not divided.
HOLD = 3.0
#: How long upstream takes a link down, in seconds.
OUTAGE = 5.0
#: Bytes of a ping: more than one packet holds.
PING_SIZE = 4000

#: Which side is the one that something happens to.
BOTH_ROLES = pytest.mark.parametrize("side", ["client", "server"])


def start_relay(lab: Lab, relay: Relays, name: str = "relay") -> RunningRelay:
    """Upstream's relay: on a dual-stack host, known by a name with A and AAAA, with TLS and STUN."""
    return relay(lab.host(name, uplink=lab.router(f"{name}-dc")), tls=True, by_name=True)


def start_relays(lab: Lab, relay: Relays) -> tuple[RunningRelay, RunningRelay]:
    """Two: by one STUN server alone nobody can tell that a NAT's mapping varies by destination."""
    return start_relay(lab, relay), start_relay(lab, relay, "relay2")


def scaled(within: float) -> float:
    """Seconds, times what the run was told to allow."""
    recorder = Recorder.current()
    return within * (recorder.timeout_scale if recorder else 1.0)


def version_of(way: PathChanged) -> int:
    """4 or 6: the family of a direct path's address."""
    return ipaddress.ip_address(way.path.rsplit(":", 1)[0].strip("[]")).version


class Side:
    """One end of a pair: the endpoint, and the ways that its payload to the other end took."""

    def __init__(self, endpoint: Endpoint, name: str) -> None:
        self.endpoint = endpoint
        self.name = name
        self.ways: list[PathChanged] = []
        self.reports: list[ReportMade] = []
        self._news = asyncio.Event()
        endpoint.on_event(self._note)

    def _note(self, event: Event) -> None:
        if isinstance(event, PathChanged):
            self.ways.append(event)
        elif isinstance(event, ReportMade):
            self.reports.append(event)
        self._news.set()

    @property
    def direct(self) -> bool:
        """Whether its payload goes straight to the other end now."""
        return bool(self.ways and self.ways[-1].path and not self.ways[-1].relayed)

    async def until(self, holds: Callable[[Side], bool], within: float, what: str) -> None:
        """Wait until something holds. Raises AssertionError with the ways that were taken."""
        try:
            async with asyncio.timeout(scaled(within)):
                while not holds(self):
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            ways = " | ".join(way.path or "none" for way in self.ways) or "none"
            raise AssertionError(f"{self.name}: no {what} within {within:g} s; its ways: {ways}") from None

    async def way(self, wanted: Callable[[PathChanged], bool], within: float, what: str) -> PathChanged:
        """Wait until payload takes a direct way that is wanted, and return it."""
        await self.until(lambda side: side.direct and wanted(side.ways[-1]), within, what)
        return self.ways[-1]


class Pair:
    """Two endpoints and a connection that began with a relay-only address."""

    def __init__(self, client: Side, server: Side, relays: Sequence[RunningRelay]) -> None:
        self.client = client
        self.server = server
        self.relays = relays
        self._pings = 0

    def side(self, name: str) -> Side:
        """The side with that role."""
        return {"client": self.client, "server": self.server}[name]

    def other(self, name: str) -> Side:
        """The side with the other role."""
        return {"client": self.server, "server": self.client}[name]

    async def dial(self) -> None:
        """Connect by node id and relay alone, and check that both sides began over the relay."""
        addr = self.server.endpoint.node_addr
        before = self._relayed()
        self._dialled = time.monotonic()
        self.connection = await self.client.endpoint.connect(
            NodeAddr(addr.node_id, relay_url=addr.relay_url), ECHO_ALPN
        )
        # Counted by the relay, as the endpoints report no path while the first one is the relay, and the direct
        # one may be there before the handshake ends: the client's first packets, and the server's answer.
        assert self._relayed() - before >= 2, f"started with {self.connection.path}, past the relay"

    def since_dial(self) -> float:
        """Seconds since connect() began."""
        return time.monotonic() - self._dialled

    def _relayed(self) -> int:
        """Packets that the relays have forwarded so far."""
        return sum(relay.stats()["packets_out"] for relay in self.relays)

    async def ping(self, within: float = PING) -> None:
        """Application bytes there and back, compared. Raises AssertionError."""
        self._pings += 1
        data = f"ping {self._pings} ".encode().ljust(PING_SIZE, b"\xa5")
        began = time.monotonic()
        try:
            answer = await echo(self.connection, data, timeout=scaled(within))
        except TimeoutError:
            now = self.connection.path
            raise AssertionError(f"ping {self._pings} had no answer within {within:g} s over {now}") from None
        assert answer == data, f"ping {self._pings} came back altered after {time.monotonic() - began:.2f} s"

    async def go_direct(self, within: float) -> None:
        """Both sides send straight to each other in time."""
        async with asyncio.TaskGroup() as tasks:
            for side in (self.client, self.server):
                tasks.create_task(side.until(lambda side: side.direct, within, "direct path"))

    async def stay_relayed(self, during: float = HOLD) -> None:
        """Neither side goes direct, and the connection says that it is relayed."""
        await stays_relayed(self.connection, during)
        assert self.connection.path.relayed
        assert not self.client.direct
        assert not self.server.direct


async def meet(
    endpoints: Endpoints,
    client: Host,
    server: Host,
    *relays: RunningRelay,
    within: float = PING,
    **options: Any,
) -> Pair:
    """Bind both, wait until both are online, and dial.

    ``within``: seconds for each side to be online, and for the handshake. ``options`` are those of EndpointConfig.
    """
    nodes = tuple(relay.node for relay in relays)
    config = relays[0].config(relays=nodes, connect_timeout=scaled(within), **options)
    far = Side(await endpoints.bind_echo(server, config=config), "server")
    near = Side(await endpoints.bind(client, config=config), "client")
    await far.endpoint.online(scaled(within))
    await near.endpoint.online(scaled(within))
    pair = Pair(near, far, relays)
    await pair.dial()
    return pair


def block_udp(router: Router) -> None:
    """No UDP but DNS crosses the router."""
    router.firewall.set("udp-blocked")


def moderate_pair(lab: Lab) -> dict[str, Host]:
    """Client and server, each behind a moderate NAT of its own."""
    return nat_pair(lab, "moderate", "moderate")


def nat_pair(lab: Lab, client: str, server: str) -> dict[str, Host]:
    """Client and server behind NATs of these kinds. IPv4 only: IPv6 needs no punching and would hide the NAT."""
    return {
        role: lab.host(role, uplink=lab.router(f"{role}-nat", nat=nat, ipv6=False))
        for role, nat in (("client", client), ("server", server))
    }
