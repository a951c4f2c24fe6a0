"""Telling our addresses: what interfaces, relays and the port mapping say of them, and when that is told to peers."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from iroh_py.network import Addr, Family, NetworkState
from iroh_py.proto.netcheck.addresses import OwnAddresses, Publication
from iroh_py.proto.netcheck.report import Report
from iroh_py.proto.netcheck.run import NetcheckRun

if TYPE_CHECKING:
    from iroh_py.io.driver import Driver


class Publishing:
    """Our addresses as peers are told them. ``mapped()`` is the port mapping's, None without one."""

    def __init__(self, driver: Driver, mapped: Callable[[], Addr | None]) -> None:
        self._driver = driver
        self._mapped = mapped
        self._addresses = OwnAddresses()
        self._publication: Publication | None = None
        self._published: tuple[Addr, ...] | None = None
        self._run: NetcheckRun | None = None

    def handle_network(self, state: NetworkState) -> None:
        """Our network may be another one."""
        self._addresses.handle_network(state)

    def hold(self) -> None:
        """Tell nothing until the next run begins: what is known now is of the old network."""
        self._publication = None

    def handle_run(self, now: float, run: NetcheckRun, families: Iterable[Family]) -> None:
        """A run makes progress; ``families`` are those in use when it begins."""
        if run is not self._run:
            self._run = run
            self._publication = Publication(now, families)

    def handle_answer(self, now: float, report: Report) -> None:
        """Some probes of the run were answered."""
        self._addresses.handle_answer(report)
        self.look(now)

    def handle_report(self, report: Report) -> None:
        """The run is finished; ``publish`` is due."""
        self._addresses.handle_report(report)

    def handle_mapping(self) -> None:
        """The port mapping came or went; a run under way tells it with its answers."""
        if self._publication is None or self._publication.done:
            self.publish(self._driver.now())

    def due(self) -> float | None:
        """When ``look`` has something to tell, if it waits for that."""
        publication = self._publication
        if publication is None or publication.done or self._run is None:
            return None
        return publication.due(self._run)

    def look(self, now: float) -> None:
        """Tell our addresses if that is due, or if they are others than those that were told."""
        publication, run = self._publication, self._run
        if publication is None or run is None:
            return
        if publication.done:
            if self._assemble() != self._published:
                self.publish(now)
        elif now >= publication.due(run):
            publication.done = True
            self.publish(now)

    def publish(self, now: float) -> None:
        """Tell them now, whatever they are."""
        driver = self._driver
        self._published = self._assemble()
        driver.core.shared.mapping_varies = self._addresses.mapping_varies(
            driver.local_direct_addresses(), driver.sockets.port(Family.V4)
        )
        driver.core.magic.handle_own_addresses(now, self._published)
        driver.pump_soon()

    def _assemble(self) -> tuple[Addr, ...]:
        return self._addresses.assemble(
            mapped=self._mapped(),
            local=self._driver.local_direct_addresses(),
            local_port=self._driver.sockets.port(Family.V4),
        )
