"""A lab's life in the kernel: built by the first verb that needs it, changed under one lock, closed once."""

from __future__ import annotations

import contextlib
import os
import random
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from netns_fixtures.client import Agent, shared_agent
from netns_fixtures.dhcp.news import LabLeasing
from netns_fixtures.dhcp.waiting import await_leases
from netns_fixtures.errors import AgentDied, LabClosed
from netns_fixtures.events import EventLog, LabEvent
from netns_fixtures.features import Capabilities
from netns_fixtures.lab_services import LabService, LabServices
from netns_fixtures.link_engine import NETEM_FEATURES, LinkEngine
from netns_fixtures.messages import Apply, CloseLab, OpenLab, Request
from netns_fixtures.ops import Op, SetQdisc, Splice
from netns_fixtures.plug import Plug
from netns_fixtures.tape import Tape
from netns_fixtures.topology import Topology

if TYPE_CHECKING:
    from netns_fixtures.dns.handle import LabDns


class RunningLab:
    """What the handles of a lab (hosts, links, NATs, ...) do their work with. Use :class:`~netns_fixtures.Lab`."""

    #: Made by the lab, whose hosts it tells of; it hears of the building, and is closed with the lab.
    dns: LabDns

    def __init__(self, name: str, seed: int | None, link_engine: str | LinkEngine | None) -> None:
        self.name = name
        self._link_engine = LinkEngine.chosen(link_engine)
        # From the system's own source: a test that seeds `random` must not make all labs alike unasked.
        self.seed = int.from_bytes(os.urandom(4), "big") if seed is None else seed
        self.topology = Topology()
        self.number = 0
        #: What deadlines of the hosts' processes are multiplied by, for slow machines.
        self.timeout_scale = 1.0
        self.tape = Tape()
        self._log = EventLog()
        self._lock = threading.RLock()
        self._agent: Agent | None = None
        self._services = LabServices()
        self.leasing = LabLeasing(self)
        self._closed = False
        self._impaired = False
        #: The thread that carries out a verb now, and when it began.
        self._verb: tuple[int, float] | None = None

    def __repr__(self) -> str:
        state = "closed" if self._closed else "running" if self._agent else "described"
        return f"<Lab {self.name} {state}: {self._size}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        self.close()

    # -- looking

    @property
    def events(self) -> tuple[LabEvent, ...]:
        """What happened so far, in order."""
        return self._log.snapshot()

    def on_event(self, callback: Callable[[LabEvent], None]) -> Callable[[], None]:
        """Call ``callback`` at each later event, in the thread that caused it; returns how to unsubscribe."""
        return self._log.subscribe(callback)

    @property
    def closed(self) -> bool:
        """Whether the lab was closed."""
        return self._closed

    @property
    def link_engine(self) -> str:
        """What carries the links: "veth" while none is impaired, then "wire", or "netem" if asked for."""
        return self._link_engine.carrier if self._impaired else "veth"

    @property
    def engine_choice(self) -> LinkEngine:
        """The link engine that was asked for, by the lab's maker or by the environment."""
        return self._link_engine

    @property
    def uses_netem(self) -> bool:
        """Whether impaired links are the kernel's (``Lab(link_engine="netem")``)."""
        return self._link_engine is LinkEngine.NETEM

    @property
    def mode(self) -> str:
        """How the agent got its rights: "root" or "userns"; "" before the lab is built."""
        return self._agent.mode if self._agent else ""

    @property
    def agent_pid(self) -> int:
        """The process that holds the namespaces; 0 before the lab is built."""
        return self._agent.pid if self._agent else 0

    @property
    def capabilities(self) -> Capabilities:
        """What this machine can do."""
        from netns_fixtures.doctor import capabilities  # the probes cost time, and few ask

        return capabilities()

    # -- ending

    def close(self) -> None:
        """Kill every process of the hosts and let every namespace go; does nothing the second time."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            self._services.close()
            try:
                self.dns.close()
            finally:
                if self._agent is not None:
                    with contextlib.suppress(AgentDied):  # then there is nothing left to close
                        self._agent.request(CloseLab(self.number))
        self.log_event("lab_closed", "", f"lab {self.name} closed")

    # -- for the handles

    @contextlib.contextmanager
    def changing(self) -> Iterator[None]:
        """Hold the lab still for one verb: one thread at a time, steps and events in one order.

        Events recorded inside carry the time at which the verb began, before the kernel's work.
        """
        with self._lock:
            self._check_open()
            outer, self._verb = self._verb, self._verb or (threading.get_ident(), time.monotonic())
            try:
                yield
            finally:
                self._verb = outer

    @contextlib.contextmanager
    def describing(self) -> Iterator[None]:
        """Hold the lab still while something is described."""
        with self._lock:
            self._check_open()
            yield

    @property
    def is_built(self) -> bool:
        """Whether the kernel has a part in it already: what is described now is made at the next verb."""
        return self._agent is not None

    def apply(self, ops: Sequence[Op]) -> None:
        """Carry out steps, after what is not yet built. A lab that cannot be built is closed."""
        with self._lock:
            self._check_open()
            pending = self.topology.take_pending()
            derived = self.topology.derived_ops(changed=bool(pending or ops))
            steps = (*pending, *ops, *derived)
            if not steps:
                return
            first = self._agent is None
            try:
                self._started().request(Apply(self.number, steps))
            except BaseException:
                if pending:
                    self.close()
                raise
            self._impaired = self._impaired or any(isinstance(step, Splice | SetQdisc) for step in steps)
            if first:
                self.tape.begin(time.monotonic())
                text = f"lab {self.name} built: {self._size}, seed {self.seed}"
                self.log_event("lab_built", "", text, seed=self.seed, mode=self.mode)
                self.dns.lab_built()
            unconfigured, self.topology.unconfigured = self.topology.unconfigured, []
            self.await_configured(unconfigured)
            self._services.start()

    def await_configured(self, plugs: Iterable[Plug]) -> None:
        """Wait until those of these interfaces that configure themselves have done so. Raises LabError."""
        plugs = list(plugs)
        leasing = [plug for plug in plugs if plug.dhcp is not None]
        if leasing:
            await_leases(self, leasing)
        listening = [plug for plug in plugs if plug.slaac]
        if listening:
            from netns_fixtures.ra.waiting import (
                await_configured,  # it brings pyroute2, and most labs are static
            )

            await_configured(self, listening)

    def ready(self) -> int:
        """Build what is not yet built; returns the agent's number of this lab."""
        self.apply([])
        return self.number

    def add_service(self, service: LabService, *, at_build: bool = False) -> None:
        """Close this program of the lab's own with the lab; ``at_build`` also starts it after the next building."""
        with self._lock:
            self._services.add(service, at_build=at_build)

    def remove_service(self, service: LabService) -> None:
        """It has ended."""
        with self._lock:
            self._services.remove(service)

    def request(self, request: Request, fds: Sequence[int] = ()) -> tuple[Any, list[int]]:
        """One request to the agent. Raises LabClosed, AgentDied, and what the agent raised."""
        self._check_open()
        return self._started().request(request, fds)

    def log_event(self, kind: str, node: str, text: str, **data: Any) -> LabEvent:
        """Record an event, stamped now; inside a verb, with the time at which it began."""
        verb = self._verb  # of another thread, perhaps: that one's time is not ours
        began = verb[1] if verb is not None and verb[0] == threading.get_ident() else None
        return self._log.emit(kind, node, text, at=began, **data)

    def log_news(self, at: float, kind: str, node: str, text: str, data: Mapping[str, Any]) -> LabEvent:
        """Record what happened at a time (``time.monotonic()``), by itself or because of the verb that waits for it."""
        part = {"part_of_verb": True} if self._verb is not None else {}
        return self._log.emit(kind, node, text, at=at, **data, **part)

    def wire_seed(self, node: str, interface: str) -> int:
        """The seed of one link: the same lab seed and names give the same, whatever else is in the lab."""
        return random.Random(f"{self.seed}/{node}/{interface}").getrandbits(64)

    @property
    def _size(self) -> str:
        return f"{len(self.topology.hosts)} hosts, {len(self.topology.routers)} routers"

    def _started(self) -> Agent:
        if self._agent is None:
            if self.uses_netem:
                self.capabilities.require(*NETEM_FEATURES)
            self._agent = shared_agent()
            self.number, _fds = self._agent.request(OpenLab(self.name))
        return self._agent

    def _check_open(self) -> None:
        if self._closed:
            raise LabClosed(f"lab {self.name} is closed")
