"""Dialling a relay: several addresses and attempts, the first one that is upgraded wins (PROTOCOL.md 7.5).

Theory of operation. A dial is a race of attempts, each TCP (and TLS) connect plus HTTP upgrade. Attempts
start by a plan: in each *pass* every address once, 250 ms apart (RFC 8305) or as soon as the one before
failed; passes follow each other because a lost SYN is repeated by the kernel only after 1, 3, 7 s. After a
network change the first passes are close together: the new link may carry packets some 100 ms later than it
shows up. Nobody identifies himself here in generation 3, so losing attempts cost the relay nothing but a
connection.

Where the kernel routes into a link without carrier, attempts leave by the other interfaces instead; where its route
looks well and no answer comes, by the others as well.
"""

from __future__ import annotations

import asyncio
import ipaddress
import ssl as ssl_module
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from iroh_py.errors import ConnectError, ConnectTimeoutError, RelayError
from iroh_py.network import Family, Network
from iroh_py.proto.netstate import Ways
from iroh_py.proto.relay.frames import V1Frame, V3Frame
from iroh_py.proto.relay.machine import Phase, RelayMachine
from iroh_py.relay_url import RelayUrl

#: Everything from the name lookup to the upgrade (7.5).
CONNECT_TIMEOUT = 10.0
#: As iroh 1.x; a lookup that we could do without, because addresses are known, may take less.
DNS_TIMEOUT = 3.0
DNS_TIMEOUT_KNOWN = 0.5
#: Connection attempt delay of RFC 8305 section 5.
STAGGER = 0.25
#: Starts of the passes in seconds: beside the kernel's SYN repetitions at 1 and 3 s.
PASSES = (0.0, 1.0, 2.0, 4.0, 7.0)
#: The same after a network change: a link is usually ready within 100 ms, a route within 500 ms.
EAGER_PASSES = (0.0, 0.1, 0.3, 0.7, 1.5, 2.5, 4.0, 7.0)
#: An eager dial whose attempts all fail at once (no route yet) goes on this long by itself.
_EAGER_WINDOW = 0.7
#: Attempts at the same time; the oldest is given up for a newer one.
_MAX_ATTEMPTS = 12
#: So long an address is dialled by the kernel's choice of interface alone, if that looks well: another one may cost
#: money, and a slow satellite link has answered by then.
LATER_WAYS_AFTER = 0.7
_READ_SIZE = 64 * 1024
#: A clock may stop a rounding error short of a timer; without this the race would turn without end there.
_TICK = 1e-6


@dataclass(frozen=True, slots=True)
class Upgraded:
    """A connection whose HTTP upgrade is done; ``rtt`` is how long the upgrade took, in seconds."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    machine: RelayMachine
    early: list[V3Frame | V1Frame]
    rtt: float
    local_ip: str

    def abort(self) -> None:
        """Drop the connection."""
        self.writer.transport.abort()


WaysTo = Callable[[str], Ways]


def kernel_only(ip: str) -> Ways:
    """The kernel's routing decides."""
    return Ways()


class _Step(NamedTuple):
    """An attempt to make: when (seconds on the loop's clock), in which pass, where to, and by which interface."""

    at: float
    number: int
    ip: str
    via: int


class _Plan:
    """The attempts of a dial, in the order of their times."""

    def __init__(self, targets: list[tuple[str, Ways]], *, start: float, eager: bool) -> None:
        passes = EAGER_PASSES if eager else PASSES
        self.window_end = start + (_EAGER_WINDOW if eager else 0.0)
        steps = [s for number, begin in enumerate(passes) for s in _pass(targets, start, number, begin)]
        self._steps = sorted(steps, key=lambda step: step.at)

    def due(self, now: float) -> _Step | None:
        """The attempt to make now, if there is one."""
        return self._steps.pop(0) if self._steps and self._steps[0].at <= now + _TICK else None

    def handle_failure(self, number: int) -> None:
        """An attempt of this pass failed: the pass goes on without waiting."""
        step = next((step for step in self._steps if step.number == number), None)
        if step is not None:
            self._steps.remove(step)
            self._steps.insert(0, step._replace(at=0.0))

    def next_at(self) -> float | None:
        """When the next step is due."""
        return self._steps[0].at if self._steps else None


def _pass(targets: list[tuple[str, Ways]], start: float, number: int, begin: float) -> Iterator[_Step]:
    for position, (ip, ways) in enumerate(targets):
        at = start + position * STAGGER
        yield from (_Step(at + begin, number, ip, via) for via in ways.first)
        if number == 0 or begin >= LATER_WAYS_AFTER:
            later = max(begin, LATER_WAYS_AFTER)
            yield from (_Step(at + later, number, ip, via) for via in ways.later)


class RelayDialer:
    """Dials one relay, again and again. ``new_machine`` makes a fresh protocol machine per attempt."""

    def __init__(
        self,
        network: Network,
        url: RelayUrl,
        *,
        ssl_context: ssl_module.SSLContext | None,
        new_machine: Callable[[], RelayMachine],
        ways: WaysTo = kernel_only,
    ) -> None:
        self._network = network
        self._url = url
        self._ssl = ssl_context
        self._new_machine = new_machine
        #: By which interfaces an address is dialled, as the network is now.
        self.ways = ways
        self._known: list[str] = []
        self._known_good = False
        #: Whether a dial ever succeeded: then what is known is worth more than waiting long for a name server.
        self._proven = False
        self._changed = asyncio.Event()
        #: TCP attempts started, for tests and reports.
        self.attempts = 0

    def handle_network_change(self) -> None:
        """Begin again at once, beside the attempts that are under way."""
        self._changed.set()

    async def dial(self, *, eager: bool) -> Upgraded:
        """The first upgraded connection. Raises ConnectError (ConnectTimeoutError after 10 s)."""
        self._changed.clear()
        race = _Race(self, eager=eager)
        upgraded: Upgraded | None = None
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT):
                upgraded = await race.run()
        except TimeoutError:
            self._known_good = False
            raise ConnectTimeoutError(
                f"relay {self._url} did not answer within {CONNECT_TIMEOUT:g} s"
            ) from None
        except ConnectError:
            self._known_good = False
            raise
        finally:
            try:
                await race.close()
            except asyncio.CancelledError:
                if upgraded is not None:
                    upgraded.abort()  # given up after the race was won: nobody else knows the winner
                raise
        self._known_good = self._proven = True
        return upgraded

    @property
    def known(self) -> tuple[str, ...]:
        """The addresses that the relay's name last had, or its own if it has no name."""
        return (self._url.host,) if _is_ip(self._url.host) else tuple(self._known)

    async def addresses(self) -> list[str]:
        """Where the relay may be, families taking turns, best first. Raises ConnectError."""
        if _is_ip(self._url.host):
            return [self._url.host]
        if not self._known_good:
            await self._look_up()
        return self._known

    async def addresses_anew(self) -> list[str]:
        """The same, after asking again."""
        self._known_good = False
        return await self.addresses()

    async def _look_up(self) -> None:
        limit = DNS_TIMEOUT_KNOWN if self._known and self._proven else DNS_TIMEOUT
        try:
            async with asyncio.timeout(limit):
                found = await self._network.resolve(self._url.host)
        except OSError as error:  # TimeoutError is one
            if not self._known:
                raise ConnectError(f"cannot resolve {self._url.host}: {error or 'no answer'}") from error
            return  # old addresses beat none: name servers are often unreachable just after a move
        self._known = _interleave(found)

    async def attempt(self, ip: str, via: int) -> Upgraded:
        """One connection, by one interface or by routing (0), and its upgrade. Raises OSError, RelayError."""
        self.attempts += 1
        tls = self._url.is_tls
        reader, writer = await self._network.connect_tcp(
            ip,
            self._url.port,
            ssl=self._ssl if tls else None,
            server_hostname=self._url.host if tls else None,
            via=via,
        )
        try:
            return await self._upgrade(reader, writer)
        except BaseException:
            writer.transport.abort()
            raise

    async def _upgrade(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Upgraded:
        asked = self._network.time()
        machine = self._new_machine()
        machine.request()
        writer.write(machine.data_to_send())
        early = await _read_until(reader, machine, Phase.UPGRADED)
        local = writer.get_extra_info("sockname")
        local_ip = str(local[0]).partition("%")[0] if local else ""
        return Upgraded(reader, writer, machine, early, self._network.time() - asked, local_ip)

    @property
    def changed(self) -> asyncio.Event:
        """Set when the network changed since the dial began."""
        return self._changed

    def now(self) -> float:
        """The event loop's clock, by which the plan runs."""
        return asyncio.get_running_loop().time()


class _Race:
    """One dial: its running attempts and what went wrong so far."""

    def __init__(self, dialer: RelayDialer, *, eager: bool) -> None:
        self._dialer = dialer
        self._eager = eager
        self._running: dict[asyncio.Task[Upgraded], int] = {}
        self._errors: list[str] = []
        #: How many attempts failed since the network changed during this dial; None: it did not, or names were
        #: looked up since.
        self._failed_since: int | None = None

    async def run(self) -> Upgraded:
        """The winner. Raises ConnectError when everything failed."""
        dialer = self._dialer
        addresses = await dialer.addresses()
        plan = self._plan(addresses)
        while True:
            if dialer.changed.is_set():
                dialer.changed.clear()
                self._eager = True
                self._failed_since = 0
                plan = self._plan(addresses)
            if self._failed_since is not None and self._failed_since >= len(addresses):
                # The name may have other addresses here, as behind a NAT64; and an older attempt that nobody
                # will answer any more would keep this dial, which knows the old ones, alive for seconds.
                self._failed_since = None
                addresses = await dialer.addresses_anew()
                plan = self._plan(addresses)
            self._start_due(plan)
            if not self._running and (plan.next_at() is None or dialer.now() >= plan.window_end):
                raise ConnectError("; ".join(self._errors[-len(addresses) :]) or "no address")
            await self._wait(plan)
            winner = self._collect(plan)
            if winner is not None:
                return winner

    def _plan(self, addresses: list[str]) -> _Plan:
        targets = [(ip, self._dialer.ways(ip)) for ip in addresses]
        return _Plan(targets, start=self._dialer.now(), eager=self._eager)

    async def close(self) -> None:
        """Give up all attempts and wait until they are gone."""
        for task in self._running:
            task.add_done_callback(_drop)  # also when we are cancelled while we wait
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)
        self._running.clear()

    def _start_due(self, plan: _Plan) -> None:
        while (step := plan.due(self._dialer.now())) is not None:
            if len(self._running) >= _MAX_ATTEMPTS:
                next(iter(self._running)).cancel()
            self._running[asyncio.create_task(self._dialer.attempt(step.ip, step.via))] = step.number

    async def _wait(self, plan: _Plan) -> None:
        next_at = plan.next_at()
        limit = None if next_at is None else max(0.0, next_at - self._dialer.now())
        changed = asyncio.create_task(self._dialer.changed.wait())
        try:
            await asyncio.wait({*self._running, changed}, timeout=limit, return_when=asyncio.FIRST_COMPLETED)
        finally:
            changed.cancel()

    def _collect(self, plan: _Plan) -> Upgraded | None:
        for task in [task for task in self._running if task.done()]:
            number = self._running[task]
            error = None if task.cancelled() else task.exception()
            if not task.cancelled() and error is None:
                del self._running[task]
                return task.result()
            del self._running[task]
            if isinstance(error, OSError | RelayError):
                self._errors = [*self._errors[-8:], str(error) or type(error).__name__]
                plan.handle_failure(number)
                if self._failed_since is not None:
                    self._failed_since += 1
            elif error is not None:
                raise error
        return None


def _drop(task: asyncio.Task[Upgraded]) -> None:
    """Drop what an attempt won that nobody wants any more."""
    if not task.cancelled() and task.exception() is None:
        task.result().abort()


async def login(upgraded: Upgraded) -> None:
    """Finish the login of 1.x, which takes a round trip. Raises ConnectError and closes when refused."""
    machine = upgraded.machine
    machine.authenticate()
    upgraded.writer.write(machine.data_to_send())
    try:
        async with asyncio.timeout(CONNECT_TIMEOUT):
            upgraded.early.extend(await _read_until(upgraded.reader, machine, Phase.READY, upgraded.writer))
    except (OSError, RelayError) as error:
        upgraded.abort()
        raise ConnectError(f"login at the relay failed: {error or 'no answer'}") from error
    except BaseException:
        upgraded.abort()
        raise


async def _read_until(
    reader: asyncio.StreamReader,
    machine: RelayMachine,
    phase: Phase,
    writer: asyncio.StreamWriter | None = None,
) -> list[V3Frame | V1Frame]:
    frames: list[V3Frame | V1Frame] = []
    while machine.phase not in (phase, Phase.READY):
        data = await reader.read(_READ_SIZE)
        if not data:
            raise ConnectionResetError("the relay closed the connection")
        frames += machine.receive(data)
        if machine.broken is not None:
            raise machine.broken
        if writer is not None:
            writer.write(machine.data_to_send())
    return frames


def _is_ip(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _interleave(addresses: list[str]) -> list[str]:
    """Families taking turns, the first one's first (RFC 8305 section 4)."""
    if not addresses:
        return []
    first = Family.of(addresses[0])
    ours = [ip for ip in addresses if Family.of(ip) is first]
    others = [ip for ip in addresses if Family.of(ip) is not first]
    mixed = []
    for position in range(max(len(ours), len(others))):
        mixed += ours[position : position + 1] + others[position : position + 1]
    return mixed
