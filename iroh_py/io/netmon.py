"""The network monitor: sees links, addresses, routes, rules and gateways change within a millisecond or two.

Every event leads to a fresh look at all tables, because the kernel does not tell everything: IPv4 routes
vanish with their interface or address without a message. A look costs some 0.1 ms, since only changed
messages are decoded. Source: PROTOCOL.md chapter 4, without traps 9 and 10 of chapter 14; rtnetlink(7).
"""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
import time
from collections.abc import Callable, Sequence

from iroh_py.io import rtnetlink
from iroh_py.io.links import LinkHistory
from iroh_py.io.rtnetlink import KernelQuery, Link, SocketOpener
from iroh_py.network import Interface, InterfaceAddress, NetworkState
from iroh_py.proto.netstate import diff

log = logging.getLogger(__name__)

#: RTMGRP bits: link, neighbour, IPv4 address / route / rule, IPv6 address / route / rule (group n is bit n -
#: 1).
GROUPS = sum(1 << (group - 1) for group in (1, 3, 5, 7, 8, 9, 11, 19))
#: Room for some thousand events, so that a storm rarely overruns; an overrun only costs one more look.
EVENT_BUFFER = 1 << 20
#: Reads per wake-up at most; the rest waits for the next turn of the event loop.
MAX_READS = 512
#: So many callbacks may follow each other at once: a move is 5 to 10 kernel events in a burst.
CALLBACK_BURST = 20
#: Then this many per second, so that a flapping link cannot drive the endpoint (SCENARIOS.md M20, Never 9).
CALLBACKS_PER_SECOND = 10.0
#: What a callback costs of that if the change means nothing to a connection, such as a neighbour learnt.
IRRELEVANT_COST = 0.1
#: Looks that take more processor time than this many seconds (a huge routing table) take at most one part in
#: ten of the time.
LONG_LOOK = 0.005
LOOK_SHARE = 10
#: Seconds after an event to look again: the kernel announces a link before it changes its routes, and does
#: not announce those. The second look is for what a slower daemon or address detection leaves behind.
SETTLE_DELAYS = (0.02, 0.25)
#: Seconds until a netlink socket that failed is opened again.
REOPEN_DELAY = 1.0
#: Seconds between two looks at the carriers while packets are sent, and while none are. The kernel announces
#: a lost carrier up to 1 s late, its flags tell it at once; a look takes some 30 microseconds.
CARRIER_INTERVAL, IDLE_CARRIER_INTERVAL = 0.05, 0.25
#: Seconds after a packet was sent that still count as busy.
BUSY_TIME = 2.0
#: With very many links the carriers are looked at more rarely: at most one part in so many of the time.
CARRIER_SHARE = 50

LINK_EVENTS = (rtnetlink.RTM_NEWLINK, rtnetlink.RTM_DELLINK)
ROUTE_EVENTS = (rtnetlink.RTM_NEWROUTE, rtnetlink.RTM_DELROUTE)
OTHER_EVENTS = (
    rtnetlink.RTM_NEWADDR,
    rtnetlink.RTM_DELADDR,
    rtnetlink.RTM_NEWRULE,
    rtnetlink.RTM_DELRULE,
)


class NetworkMonitor:
    """A monitor over netlink sockets from ``opener(family, type, proto)``; implements ``NetworkWatch``.

    ``callback`` gets each different snapshot from the running event loop: the first twenty of a burst at
    once, then ten per second, the newest always. ``busy()`` says whether packets were sent since it was last
    asked: then a lost carrier is looked for more often. The sockets decide which network namespace is
    watched. Needs a running event loop. Raises OSError if the kernel gives no netlink socket.
    """

    def __init__(
        self,
        opener: SocketOpener,
        callback: Callable[[NetworkState], None],
        *,
        busy: Callable[[], bool] = lambda: True,
    ) -> None:
        self._opener = opener
        self._callback = callback
        self._busy = busy
        self._loop = asyncio.get_running_loop()
        self._links = LinkHistory()
        self._macs: dict[tuple[int, str], str] = {}
        self._gateways: frozenset[tuple[int, str]] = frozenset()
        self._packed_gateways: tuple[bytes, ...] = ()
        self._timer: asyncio.TimerHandle | None = None
        self._settling: list[float] = []
        self._tokens = float(CALLBACK_BURST)
        self._tokens_at = self._rested_at = self._busy_until = self._loop.time()
        self._closed = self._deaf = False
        self._carrier_timer: asyncio.TimerHandle | None = None
        self._events: socket.socket | None = None
        self._query: KernelQuery | None = None
        #: Looks taken, callbacks made, event buffer overruns, sockets lost: for tests and for the curious.
        self.looks = self.callbacks = self.overruns = self.failures = 0
        self._open()
        try:
            self._state = self._snapshot()
        except BaseException:
            self._shut()
            raise
        self._carrier_timer = self._loop.call_later(CARRIER_INTERVAL, self._look_at_carriers)

    @property
    def state(self) -> NetworkState:
        """The newest snapshot."""
        return self._state

    def refresh(self) -> None:
        """Look again at once, whatever the rate; the callback hears of a difference before this returns."""
        if self._closed:
            return
        if self._query is None:
            self._cancel_timer()
            self._reopen()
        else:
            self._look()

    def close(self) -> None:
        """Stop watching; no callback after this returns. Closing twice does nothing."""
        self._closed = True
        self._cancel_timer()
        if self._carrier_timer is not None:
            self._carrier_timer.cancel()
            self._carrier_timer = None
        self._shut()

    def _open(self) -> None:
        # Subscribed before the first look, so that nothing falls in between.
        kind = socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
        events = self._opener(rtnetlink.AF_NETLINK, kind, rtnetlink.NETLINK_ROUTE)
        try:
            events.setblocking(False)
            _enlarge(events)
            events.bind((0, GROUPS))
            self._query = KernelQuery(self._opener)
        except BaseException:
            events.close()
            raise
        self._events = events
        self._loop.add_reader(events.fileno(), self._on_events)

    def _shut(self) -> None:
        if self._events is not None:
            self._loop.remove_reader(self._events.fileno())
            self._events.close()
            self._events = None
        if self._query is not None:
            self._query.close()
            self._query = None

    def _on_events(self) -> None:
        try:
            relevant = self._drain()
        except OSError as error:
            self._fail(error)
            return
        if relevant:
            self._settling = list(SETTLE_DELAYS)
            self._look_when_allowed()

    def _drain(self) -> bool:
        assert self._events is not None
        relevant = False
        for _ in range(MAX_READS):
            try:
                data = self._events.recv(rtnetlink.READ_SIZE)
            except BlockingIOError:
                break
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                self.overruns += 1
                self._gateways = frozenset()  # Asks for the gateways' MACs again.
                relevant = True
                continue
            for kind, _, message in rtnetlink.messages(data):
                relevant = self._is_relevant(kind, message) or relevant
        return relevant

    def _is_relevant(self, kind: int, message: bytes) -> bool:
        if kind in LINK_EVENTS:
            index, flags = rtnetlink.link_flags(message)
            self._links.event(index, flags if kind == rtnetlink.RTM_NEWLINK else 0)
            return True
        if kind in ROUTE_EVENTS:
            return rtnetlink.route_table(message) != rtnetlink.TABLE_LOCAL
        if kind == rtnetlink.RTM_NEWNEIGH:
            return self._learns_gateway(message)
        return kind in OTHER_EVENTS

    def _learns_gateway(self, message: bytes) -> bool:
        # A search in the bytes first: neighbours of a busy network make many events, none of them ours.
        if not any(ip in message for ip in self._packed_gateways):
            return False
        entry = rtnetlink.neighbour(message)
        if entry is None or entry[0] not in self._gateways or self._macs.get(entry[0]) == entry[1]:
            return False
        self._macs[entry[0]] = entry[1]
        return True

    def _look_when_allowed(self) -> None:
        now = self._loop.time()
        self._refill(now)
        wait = max((1.0 - self._tokens) / CALLBACKS_PER_SECOND, self._rested_at - now)
        if wait <= 0:
            self._arm_settling()
            self._look()
        else:
            # Deaf until then: what the kernel says meanwhile is in the look, and a storm costs nothing.
            assert self._events is not None
            self._loop.remove_reader(self._events.fileno())
            self._deaf = True
            self._arm(wait, self._wake)

    def _wake(self) -> None:
        self._timer = None
        self._deaf = False
        if self._events is not None:
            self._loop.add_reader(self._events.fileno(), self._on_events)
            try:
                if self._drain():
                    self._settling = list(SETTLE_DELAYS)
            except OSError as error:
                self._fail(error)
                return
            self._look_when_allowed()

    def _look_at_carriers(self) -> None:
        started = time.thread_time()
        if self._busy():
            self._busy_until = self._loop.time() + BUSY_TIME
        interval = CARRIER_INTERVAL if self._loop.time() < self._busy_until else IDLE_CARRIER_INTERVAL
        changed = False
        try:
            changed = self._query is not None and self._links.glance(self._query.carriers())
        except OSError as error:
            self._fail(error)
        interval = max(interval, (time.thread_time() - started) * CARRIER_SHARE)
        self._carrier_timer = self._loop.call_later(interval, self._look_at_carriers)
        # Unless a look is due anyway, in a moment or after the rest that a storm has earned it.
        if changed and not self._deaf:
            self._settling = list(SETTLE_DELAYS)
            self._look_when_allowed()

    def _arm_settling(self) -> None:
        if self._settling and self._query is not None and not self._closed:
            self._arm(self._settling.pop(0), self._wake)

    def _arm(self, delay: float, action: Callable[[], None]) -> None:
        self._cancel_timer()
        self._timer = self._loop.call_later(delay, action)

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _refill(self, now: float) -> None:
        self._tokens = min(CALLBACK_BURST, self._tokens + (now - self._tokens_at) * CALLBACKS_PER_SECOND)
        self._tokens_at = now

    def _look(self) -> None:
        started = time.thread_time()
        try:
            state = self._snapshot()
        except OSError as error:
            self._fail(error)
            return
        # Processor time: on a busy machine a short look may take long without being costly.
        spent = time.thread_time() - started
        if spent > LONG_LOOK:
            self._rested_at = self._loop.time() + spent * (LOOK_SHARE - 1)
        if state != self._state:
            cost = 1.0 if diff(self._state, state) else IRRELEVANT_COST
            self._tokens = max(0.0, self._tokens - cost)
            self._state = state
            self.callbacks += 1
            self._callback(state)

    def _snapshot(self) -> NetworkState:
        query = self._query
        if query is None:
            return self._state
        self.looks += 1
        links, routes = query.links(), tuple(query.routes())
        addresses: dict[int, list[InterfaceAddress]] = {}
        for index, address in query.addresses():
            addresses.setdefault(index, []).append(address)
        self._links.look(links)
        self._follow_gateways(
            frozenset((r.interface, r.gateway) for r in routes if r.is_default and r.gateway)
        )
        return NetworkState(
            interfaces=tuple(self._interface(link, addresses.get(link.index, ())) for link in links),
            routes=routes,
            rules=tuple(query.rules()),
            gateways=tuple(
                sorted((ip, self._macs[i, ip]) for i, ip in self._gateways if (i, ip) in self._macs)
            ),
        )

    def _interface(self, link: Link, addresses: Sequence[InterfaceAddress]) -> Interface:
        return Interface(
            index=link.index,
            name=link.name,
            up=link.up,
            running=self._links.running(link.index),
            loopback=bool(link.flags & rtnetlink.IFF_LOOPBACK),
            mac=link.mac,
            addresses=tuple(addresses),
            generation=self._links.generation(link.index),
        )

    def _follow_gateways(self, gateways: frozenset[tuple[int, str]]) -> None:
        if gateways == self._gateways or self._query is None:
            return
        # A MAC that the kernel has forgotten stays known: another one behind the same address is news (M2).
        known = {pair: mac for pair, mac in self._macs.items() if pair in gateways}
        self._macs = known | self._query.neighbours(gateways)
        self._gateways = gateways
        self._packed_gateways = tuple({rtnetlink.packed_ip(ip) for _, ip in gateways})

    def _fail(self, error: OSError) -> None:
        """Something closed or broke the sockets: open them again, and look."""
        self.failures += 1
        self._deaf = False
        log.warning("netlink failed (%s); watching again in %.0f s", error, REOPEN_DELAY)
        self._shut()
        self._arm(REOPEN_DELAY, self._reopen)

    def _reopen(self) -> None:
        self._timer = None
        try:
            self._open()
        except OSError as error:
            self._fail(error)
            return
        self._look()


def _enlarge(events: socket.socket) -> None:
    force = getattr(socket, "SO_RCVBUFFORCE", 33)
    for option in (force, socket.SO_RCVBUF):
        try:
            events.setsockopt(socket.SOL_SOCKET, option, EVENT_BUFFER)
        except PermissionError:
            continue  # The first needs CAP_NET_ADMIN; the second gives what the system allows.
        return
