"""Netcheck as it runs in an endpoint, and once for the command line (PROTOCOL.md 5)."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import random
import ssl as ssl_module
from collections.abc import Callable, Iterable, Sequence

from iroh_py.errors import BindError
from iroh_py.io.netcheck_run import RunDriver, SendStunNow
from iroh_py.io.portmap import probe_portmap
from iroh_py.network import Addr, Family, Network, NetworkState, UdpSocket
from iroh_py.proto import netstate
from iroh_py.proto.demux import Kind, classify
from iroh_py.proto.home_relay import HomeRelay
from iroh_py.proto.netcheck.plan import ProbeSet, failover_plan, incremental_plan, initial_plan
from iroh_py.proto.netcheck.report import Report
from iroh_py.proto.netcheck.run import NetcheckRun
from iroh_py.proto.netcheck.schedule import Schedule
from iroh_py.relay_map import RelayNode, relay_map
from iroh_py.relay_url import RelayUrl


class Netcheck:
    """Makes reports, periodically and on request, one at a time.

    ``send_stun`` sends from the endpoint's own sockets; ``state()`` and ``families()`` tell what network and
    which sockets there are. ``on_event(run)`` is called after whatever happened in a run, also in a finished
    one, ``on_report(report)`` at its end.
    """

    def __init__(
        self,
        network: Network,
        relays: Sequence[RelayNode],
        *,
        rng: random.Random,
        ssl: ssl_module.SSLContext | None,
        send_stun: SendStunNow,
        state: Callable[[], NetworkState],
        families: Callable[[], tuple[Family, ...]],
        on_event: Callable[[NetcheckRun], None],
        on_report: Callable[[Report], None],
    ) -> None:
        self._network = network
        self._relays = tuple(relays)
        self._rng = rng
        self._ssl = ssl
        self._send_stun = send_stun
        self._state = state
        self._families = families
        self._on_event = on_event
        self._on_report = on_report
        self._schedule = Schedule(network.time(), rng.uniform)
        self._driver: RunDriver | None = None
        self._known: dict[RelayUrl, tuple[str, ...]] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._old: set[asyncio.Task[None]] = set()
        self._failover = False
        self._closed = False
        #: The relay that later runs always ask, too.
        self.preferred: RelayUrl | None = None
        #: The newest report; None before the first, and again once the network is another one.
        self.last: Report | None = None

    @property
    def run(self) -> NetcheckRun | None:
        """The run under way, or the last one."""
        return None if self._driver is None else self._driver.run

    @property
    def starts(self) -> int:
        """How many runs there were."""
        return self._schedule.starts

    def start(self) -> None:
        """Begin with the first report."""
        self._look()

    def request(self, *, full: bool = False, restart: bool = False, failover: bool = False) -> None:
        """Make a report soon; ``restart``: the network is another one, what is under way is worthless."""
        if self._closed:
            return
        if restart:
            # Answers that are under way belong to the old network.
            self._retire()
            self._driver = self.last = None
            self._schedule.handle_abandoned()
        self._failover |= failover
        self._schedule.request(self._network.time(), full=full, restart=restart or failover)
        self._look()

    def handle_relay_found(self, url: RelayUrl, ips: tuple[str, ...]) -> None:
        """A connection to a relay came to be, so this is where it is; if no report found that out, one is due."""
        if ips:
            self._known[url] = ips
        if self.last is None and not self._schedule.running:
            self.request()

    def handle_stun(self, now: float, data: bytes, source: Addr) -> bool:
        """A STUN message arrived on one of our sockets; whether it was for us."""
        return self._driver is not None and self._driver.handle_stun(now, data, source)

    async def close(self) -> None:
        """Stop; nothing is called back any more."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        self._retire()
        await asyncio.gather(*self._old, return_exceptions=True)

    def _look(self) -> None:
        """Start a run if one is due, and arm the timer."""
        if self._closed:
            return
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        now = self._network.time()
        due = self._schedule.due(now)
        if due is not None and due <= now:
            self._start_run(now)
            due = self._schedule.due(now)
        if due is not None:
            delay = max(0.0, due - now)
            self._timer = asyncio.get_running_loop().call_later(delay, self._look)

    def _start_run(self, now: float) -> None:
        self._retire()
        full = self._schedule.start(now)
        failover, self._failover = self._failover, False
        plan = self._plan(full=full, failover=failover)
        run = NetcheckRun(
            now,
            plan,
            rng=self._rng,
            full=full,
            portal=self._portal_relay() if full else None,
            hairpin=full,
            failover=failover,
            reachable=self._reachable,
        )
        run.findings.os_has_ipv6 = Family.V6 in self._families()
        self._driver = RunDriver(
            self._network,
            run,
            send_stun=self._send_stun,
            ssl=self._ssl,
            known=self._known,
            on_event=self._handle_event,
        )
        self._driver.start()

    def _plan(self, *, full: bool, failover: bool) -> list[ProbeSet]:
        families = self._families()
        if failover:
            return failover_plan(self._relays, families)
        last = self.last
        if full or last is None or not last.relay_latency:
            return initial_plan(self._relays, families)
        tables = {Family.V4: last.relay_v4_latency, Family.V6: last.relay_v6_latency}
        return incremental_plan(
            self._relays,
            families,
            latency=last.relay_latency,
            family_latency=tables,
            preferred=self.preferred,
        )

    def _portal_relay(self) -> RelayNode | None:
        """The home relay, else any that serves HTTP."""
        able = [relay for relay in self._relays if not relay.stun_only]
        home = next((relay for relay in able if relay.url == self.preferred), None)
        return home or (self._rng.choice(able) if able else None)

    def _reachable(self, ip: str) -> bool:
        return reachable(self._state(), ip)

    def _handle_event(self, driver: RunDriver) -> None:
        if self._closed or driver is not self._driver:
            return
        self._on_event(driver.run)
        if driver is not self._driver:
            return  # what was made of the event began another run
        if driver.run.finished and self._schedule.running:
            now = self._network.time()
            report = driver.run.report(now)
            self._schedule.handle_report(now, report)
            if report.relay_latency:
                self.last = report
            self._on_report(report)
            self._look()

    def _retire(self) -> None:
        """Give the run under way up, and wait for its tasks beside."""
        driver = self._driver
        if driver is None:
            return
        driver.close()
        task = asyncio.create_task(driver.wait_closed())
        self._old.add(task)
        task.add_done_callback(self._old.discard)


def reachable(state: NetworkState, ip: str) -> bool:
    """Whether some route leads to an address; yes if nothing is known of our network at all."""
    if not state.interfaces:
        return True
    return netstate.kernel_choice(state, ip) is not None or bool(netstate.vias(state, ip))


async def run_netcheck(
    network: Network,
    relays: Iterable[RelayNode | str],
    *,
    ssl: ssl_module.SSLContext | None = None,
    portmap: bool = True,
    rng: random.Random | None = None,
) -> Report:
    """One full and thorough report, from sockets of its own; takes 5 s at most.

    ``ssl`` None means the system's certificate authorities. Raises BindError (no UDP socket), TicketError (a
    relay is no URL).
    """
    nodes = relay_map(relays)
    rng = rng or random.SystemRandom()
    done = asyncio.Event()
    drivers: list[RunDriver] = []
    sockets: dict[Family, UdpSocket] = {}

    def receive(batch: list[tuple[bytes, Addr, int]]) -> None:
        for data, source, _ in batch:
            if classify(data) is Kind.STUN and drivers:
                drivers[0].handle_stun(network.time(), data, source)

    def send(data: bytes, addr: Addr) -> bool:
        try:
            return sockets[Family.of(addr[0])].send([data], addr) > 0
        except OSError:  # no route; the run finds no answer
            return False

    for family, ip in ((Family.V4, "0.0.0.0"), (Family.V6, "::")):
        with contextlib.suppress(OSError):  # one family is enough
            sockets[family] = network.open_udp(family, ip, 0, receive)
    if not sockets:
        raise BindError("no UDP socket can be opened for a netcheck")
    try:
        watch = network.watch(lambda state: None)
    except BaseException:
        for sock in sockets.values():
            sock.close()
        raise
    mapping = asyncio.create_task(probe_portmap(network, watch.state)) if portmap else None
    try:
        able = [node for node in nodes if not node.stun_only]
        run = NetcheckRun(
            network.time(),
            initial_plan(nodes, tuple(sockets)),
            rng=rng,
            full=True,
            portal=able[0] if able else None,
            hairpin=True,
            thorough=True,
            reachable=lambda ip: reachable(watch.state, ip),
        )
        run.findings.os_has_ipv6 = Family.V6 in sockets
        drivers.append(
            RunDriver(
                network,
                run,
                send_stun=send,
                ssl=ssl or _default_ssl(nodes),
                known={},
                on_event=lambda driver: done.set() if driver.run.finished else None,
            )
        )
        drivers[0].start()
        await done.wait()
        if mapping is not None:
            run.findings.portmap_probe = await mapping
        report = run.report(network.time())
        home = HomeRelay(network.time(), nodes)
        home.handle_report(network.time(), report)
        answered = home.current in report.relay_latency
        return dataclasses.replace(report, preferred_relay=home.current if answered else None)
    finally:
        watch.close()
        for driver in drivers:
            driver.close()
            await driver.wait_closed()
        if mapping is not None:
            mapping.cancel()
            await asyncio.gather(mapping, return_exceptions=True)
        for sock in sockets.values():
            sock.close()


def _default_ssl(relays: Iterable[RelayNode]) -> ssl_module.SSLContext | None:
    return ssl_module.create_default_context() if any(relay.url.is_tls for relay in relays) else None
