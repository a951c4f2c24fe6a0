"""The servers of one test, of one kind (relays, discovery services): their event loop, their authority, their end."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar, Generic, Protocol, TypeVar

from pytest_iroh.ca import CertificateAuthority
from pytest_iroh.sync import Portal
from pytest_iroh.timeline import Recorder


class Server(Protocol):
    """What a test can have running."""

    @property
    def running(self) -> bool: ...


_S = TypeVar("_S", bound=Server)


class Servers(ABC, Generic[_S]):
    """Made by a factory that inherits from this; ``close`` ends them, newest first. ``name``: the authority's."""

    #: What an error calls all of them.
    plural: ClassVar[str]

    def __init__(self, name: str) -> None:
        self._name = name
        self._portal: Portal | None = None
        self._authority: CertificateAuthority | None = None
        self._made: list[_S] = []

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {sum(server.running for server in self._made)} running>"

    @property
    def authority(self) -> CertificateAuthority:
        """The certificate authority of this test's servers, made at first use."""
        if self._authority is None:
            self._authority = CertificateAuthority(self._name)
        return self._authority

    @property
    def portal(self) -> Portal:
        """The event loop of this test's servers, made at first use."""
        if self._portal is None:
            self._portal = Portal()
        return self._portal

    def close(self) -> None:
        """End all, newest first. Raises ExceptionGroup with what went wrong."""
        errors: list[Exception] = []
        while self._made:
            try:
                self._end(self._made.pop())
            except Exception as error:
                errors.append(error)  # the others must be stopped, too
        if self._portal is not None:
            self._portal.close()
            self._portal = None
        if errors:
            raise ExceptionGroup(f"{self.plural} did not stop well", errors)

    @abstractmethod
    def _end(self, server: _S) -> None:
        """End one for good."""


def tell(host: Any, kind: str, text: str, url: str) -> None:
    """On the timeline; where the host (None: this machine) is a lab's, as an event of the lab, from which ``heals``
    measures."""
    lab = getattr(host, "lab", None)
    recorder = Recorder.current()
    name = "localhost" if host is None else host.name
    if lab is not None:
        lab.log_event(kind, name, text, url=url)
    elif recorder is not None:
        recorder.note("lab", name, text, kind=kind, url=url)
