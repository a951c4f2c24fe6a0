"""Programs of the lab's own that run in its nodes: started with the building of the lab, closed with it."""

from __future__ import annotations

from typing import Protocol


class LabService(Protocol):
    """A program of the lab's own in one of its nodes."""

    def start(self) -> None: ...

    def wait_started(self) -> None: ...

    def close(self) -> None: ...


class LabServices:
    """All of one lab. Not safe by itself: the lab's lock is held."""

    def __init__(self) -> None:
        self._running: list[LabService] = []
        #: Those that start with the next building.
        self._starting: list[LabService] = []

    def add(self, service: LabService, *, at_build: bool) -> None:
        """Close it with the lab; ``at_build`` also starts it after the next building."""
        self._running.append(service)
        if at_build:
            self._starting.append(service)

    def remove(self, service: LabService) -> None:
        """It has ended."""
        self._running.remove(service)

    def start(self) -> None:
        """Start those that wait for it."""
        starting, self._starting = self._starting, []
        for service in starting:
            service.start()
        for service in starting:  # they start side by side
            service.wait_started()

    def close(self) -> None:
        """Close all."""
        for service in self._running:
            service.close()
