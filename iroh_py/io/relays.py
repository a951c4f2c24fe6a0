"""What an endpoint has beside its UDP sockets: relays, netcheck, port mapping, and what follows from them.

This is the glue: it connects the home relay, routes datagrams to relays, lets netcheck look at the network
whenever that may have changed, and tells the core our addresses as soon as they are known.
"""

from __future__ import annotations

import asyncio
import math
import ssl as ssl_module
from collections.abc import Callable
from typing import TYPE_CHECKING

from iroh_py.addr import RelayUrl
from iroh_py.events import AnswerLate, Event, HomeRelayChanged, PathSuspected, RelayStateChanged, ReportMade
from iroh_py.io.netcheck import Netcheck
from iroh_py.io.portmap import PortMapper
from iroh_py.io.publishing import Publishing
from iroh_py.io.relay_clients import RelayClients
from iroh_py.keys import NodeId
from iroh_py.network import Addr, Family, NetworkState
from iroh_py.proto import netstate
from iroh_py.proto.home_relay import HomeRelay
from iroh_py.proto.netcheck.report import Report
from iroh_py.proto.netcheck.run import NetcheckRun
from iroh_py.proto.node_state import SILENCE
from iroh_py.proto.paths import RelayPath
from iroh_py.proto.stand_ins import STAND_IN_AFTER, StandIns
from iroh_py.relay_map import relay_map

if TYPE_CHECKING:
    from iroh_py.io.driver import Driver

#: How often we look whether the home relay owes an answer: while connections need it, and else.
HEALTH_INTERVAL = 1.0
IDLE_HEALTH_INTERVAL = 5.0
#: Paths that fall silent ask for our address anew at most this often: mappings may have changed unseen.
SILENCE_INTERVAL = 2.0


class Relays:
    """The relays of one endpoint. ``on_change()`` is called when ``home`` may be another one."""

    def __init__(self, driver: Driver, *, on_change: Callable[[], None]) -> None:
        config, core = driver.core.config, driver.core
        nodes = relay_map(config.relays)
        ssl = config.relay_ssl
        if ssl is None and any(node.url.is_tls for node in nodes):
            ssl = ssl_module.create_default_context()  # once: it reads the system's authorities
        self._driver = driver
        self._core = core
        self._on_change = on_change
        self._closed = False
        self._online: RelayUrl | None = None
        self._told: RelayUrl | None = None
        self._publishing = Publishing(driver, lambda: self.port_mapping)
        self._timer: asyncio.TimerHandle | None = None
        self._silence_at = driver.now() - SILENCE_INTERVAL
        self._look_again_at: float | None = None
        self._choice = HomeRelay(driver.now(), nodes)
        self._clients = RelayClients(
            driver.network,
            core.secret_key,
            on_datagrams=driver.on_relay_datagrams,
            on_state=self._handle_state,
            on_answer=self._handle_answer,
            ssl_context=ssl,
            token=config.relay_token,
            ways=lambda ip: netstate.ways(driver.state, ip),
            rng=core.shared.rng,
        )
        self._netcheck = Netcheck(
            driver.network,
            nodes,
            rng=core.shared.rng,
            ssl=ssl,
            send_stun=self._send_stun,
            state=lambda: driver.state,
            families=self._families,
            on_event=self._handle_netcheck,
            on_report=self._handle_report,
        )
        self._portmap: PortMapper | None = None
        if config.portmap:
            self._portmap = PortMapper(
                driver.network,
                state=lambda: driver.state,
                port=lambda: driver.sockets.port(Family.V4),
                rng=core.shared.rng,
                on_change=self._publishing.handle_mapping,
            )
        self._stand_ins = StandIns([node.url for node in nodes if not node.stun_only])
        self._warmed = False

    # --- life ---

    def start(self) -> None:
        """Connect the only relay, or find the nearest; tell our local addresses meanwhile."""
        self._core.shared.relay_connected = self._clients.connected
        self._publishing.handle_network(self._driver.state)
        self._publishing.publish(self._driver.now())
        # Peers are told after the first answers: now we know only what they cannot use.
        self._core.magic.addresses_fresh = False
        self._follow_choice()
        if self._portmap is not None:
            self._portmap.start()
        self._netcheck.start()
        self._arm()

    async def close(self) -> None:
        """Disconnect from all relays, and release the port mapping."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        closing = [self._netcheck.close(), self._clients.close()]
        if self._portmap is not None:
            closing.append(self._portmap.close())
        await asyncio.gather(*closing)

    # --- what the endpoint and the driver use ---

    @property
    def home(self) -> RelayUrl | None:
        """The home relay, once it has answered: only then it forwards to us. Until then the one before, if it works."""
        online, chosen = self._online, self._choice.current
        if online == chosen or (online is not None and chosen is not None and self._works(online)):
            return online
        return None

    @property
    def report(self) -> Report | None:
        """The newest report with an answer."""
        return self._netcheck.last

    @property
    def reports_started(self) -> int:
        """How many reports were begun."""
        return self._netcheck.starts

    @property
    def clients(self) -> RelayClients:
        """The connections to relays."""
        return self._clients

    @property
    def port_mapping(self) -> Addr | None:
        """Our public address by port mapping."""
        return None if self._portmap is None else self._portmap.external

    def send(self, url: RelayUrl, node_id: NodeId, payloads: list[bytes]) -> None:
        """Send datagrams to a node through a relay (7.7).

        While that relay does not answer, copies take other ways on which the node may be met: twice costs less
        than not at all.
        """
        self._clients.send(url, node_id, payloads)
        if self._works(url):
            self._stand_ins.handle_works(url)
            return
        now = self._driver.now()
        self._stand_ins.handle_fails(now, url)
        for other in self._instead_of(now, url):
            self._clients.send(other, node_id, payloads)

    def handle_stun(self, now: float, data: bytes, source: Addr) -> None:
        """A STUN message arrived on one of our sockets."""
        self._netcheck.handle_stun(now, data, source)

    def handle_network_change(self, state: NetworkState, *, major: bool) -> None:
        """Our network is another one: relays first, since data waits for them."""
        now = self._driver.now()
        if major:
            self._silence_at = now  # what this change breaks needs no report of its own
            self._look_again_at = None
            self._clients.network_changed(_sendable(state))
            self._choice.handle_network_change(now)
        self._publishing.handle_network(state)
        if self._portmap is not None:
            self._portmap.handle_network_change()
        if major:
            self._publishing.hold()
        self._netcheck.request(full=major, restart=major)
        self._arm()

    def handle_event(self, event: Event) -> None:
        """Something happened in the core: a path that falls silent may mean that our own mapping changed."""
        if isinstance(event, AnswerLate):
            self._check_beside(event.node)
        if isinstance(event, PathSuspected) and event.why == SILENCE:
            self._clients.check()  # what silenced UDP may have cut TCP, too, and now it is needed
            self._look_again()

    # --- relays ---

    def _check_beside(self, node_id: NodeId) -> None:
        """The relay by which a node is reached, and the one by which it reaches us, may be needed in a moment."""
        node = self._core.magic.nodes.get(node_id)
        path = None if node is None or node.relay is None else node.relay.path
        urls = {self._choice.current, path.url if isinstance(path, RelayPath) else None}
        for url in urls:
            client = None if url is None else self._clients.client(url)
            if client is not None:
                client.check(beside=True)

    def _works(self, url: RelayUrl) -> bool:
        client = self._clients.client(url)
        return client is not None and client.connected and not client.suspect

    def _instead_of(self, now: float, url: RelayUrl) -> list[RelayUrl]:
        home = self._choice.current
        return self._stand_ins.instead_of(now, url, home if home is not None and self._works(home) else None)

    def _stand_ins_at(self) -> float:
        """When to be there ourselves, since our home relay does not answer."""
        since = self._choice.down_since
        if since is None or self._choice.current is None:
            return math.inf
        return since + STAND_IN_AFTER

    def _handle_state(self, url: RelayUrl, connected: bool, detail: str) -> None:
        if self._closed:
            return
        now = self._driver.now()
        self._core.events.append(RelayStateChanged(now, url, connected, detail))
        self._choice.handle_connection(now, url, healthy=connected)
        if connected:
            self._core.handle_relay_connected(now, url)
            client = self._clients.client(url)
            self._netcheck.handle_relay_found(url, () if client is None else client.addresses)
            for failing in self._stand_ins.failing:
                if url in self._instead_of(now, failing):  # what waits for that relay has another way now
                    self._core.handle_relay_connected(now, failing)
        else:
            self._core.handle_relay_lost(now, url)
            if url == self._choice.current and self._online == url:
                self._look_again()  # whatever cut TCP may have changed our address, too
        self._driver.pump_soon()
        self._arm()

    def _handle_answer(self, url: RelayUrl) -> None:
        if not self._closed and url == self._choice.current and self._online != url:
            self._online = url
            self._on_change()

    def _follow_choice(self) -> None:
        """Make the chosen relay our home."""
        url = self._choice.current
        if url == self._told:
            return
        self._told = url
        now = self._driver.now()
        self._core.events.append(HomeRelayChanged(now, url))
        self._clients.set_home(url)
        self._netcheck.preferred = url
        client = None if url is None else self._clients.client(url)
        if url is not None and client is not None and client.connected:
            if client.latency is not None:
                self._online = url
            self._choice.handle_connection(now, url, healthy=True)
        self._on_change()
        self._driver.pump_soon()

    def _check_home(self, now: float) -> None:
        """Look at the home relay's connection; ask the others if it stays broken."""
        url = self._choice.current
        if url is not None:
            healthy = self._works(url)
            self._choice.handle_connection(now, url, healthy=healthy)
            self._warmed = self._warmed and not healthy
        if url is not None and not self._warmed and self._stand_ins_at() <= now:
            self._warmed = True
            for other in self._stand_ins.meeting_points(url) if self._core.entries else ():
                self._clients.warm(other)
        due = self._choice.next_check()
        if due is not None and now >= due:
            self._choice.handle_check(now)
            self._netcheck.request(full=True, failover=True)

    # --- netcheck ---

    def _families(self) -> tuple[Family, ...]:
        return tuple(family for family in Family if family in self._driver.sockets)

    def _send_stun(self, data: bytes, addr: Addr) -> bool:
        """From the main socket, by the interface of the kernel's choice if that carries packets."""
        shared, sockets = self._core.shared, self._driver.sockets
        if Family.of(addr[0]) not in sockets:
            return False
        ways = (0,) if shared.route_usable(addr[0]) else shared.vias(addr[0])[:2] or (0,)
        errors = sockets.send_errors + sockets.dropped
        for via in ways:
            sockets.send([data], addr, via)
        return sockets.send_errors + sockets.dropped < errors + len(ways)

    def _look_again(self) -> None:
        """Ask for our addresses anew; if that was done just now, a little later."""
        now = self._driver.now()
        if now - self._silence_at < SILENCE_INTERVAL:
            self._look_again_at = self._silence_at + SILENCE_INTERVAL
            self._arm()
            return
        self._silence_at = now
        self._look_again_at = None
        self._netcheck.request()

    def _handle_netcheck(self, run: NetcheckRun) -> None:
        now = self._driver.now()
        self._publishing.handle_run(now, run, self._families())
        report = run.report(now)
        if report.relay_latency:
            nearest = min(report.relay_latency, key=lambda url: report.relay_latency[url])
            if self._choice.handle_answer(now, nearest):
                self._follow_choice()
        self._publishing.handle_answer(now, report)
        self._arm()

    def _handle_report(self, report: Report) -> None:
        now = self._driver.now()
        self._publishing.handle_report(report)
        if self._choice.handle_report(now, report):
            self._follow_choice()
        self._core.events.append(_event(now, report))
        self._publishing.publish(now)
        self._arm()

    # --- the timer ---

    def _arm(self) -> None:
        if self._closed:
            return
        if self._timer is not None:
            self._timer.cancel()
        now = self._driver.now()
        times = [
            self._choice.next_check(),
            self._look_again_at,
            self._publishing.due(),
            None if self._warmed else self._stand_ins_at(),
            now + (HEALTH_INTERVAL if self._core.entries else IDLE_HEALTH_INTERVAL),
        ]
        due = min((t for t in times if t is not None), default=None)
        if due is not None:
            self._timer = asyncio.get_running_loop().call_later(max(0.0, due - now), self._on_timer)

    def _on_timer(self) -> None:
        now = self._driver.now()
        self._publishing.look(now)
        self._check_home(now)
        if self._look_again_at is not None and now >= self._look_again_at:
            self._look_again()
        self._arm()


def _event(now: float, report: Report) -> ReportMade:
    latencies = sorted(report.relay_latency.items(), key=lambda item: item[1])
    return ReportMade(
        now,
        report.full,
        report.udp,
        report.mapping_varies_by_dest_ip,
        report.captive_portal,
        tuple((str(url), seconds) for url, seconds in latencies),
    )


def _sendable(state: NetworkState) -> set[str]:
    """Addresses that a TCP connection can live on: those of links that carry packets, and loopback."""
    return {a.ip for i in state.interfaces if i.usable or i.loopback for a in i.addresses if not a.tentative}
