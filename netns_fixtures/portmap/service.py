"""A router's port mapping service, sans-IO: requests and the time come in, answers and news go out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from netns_fixtures.portmap.behaviour import Failure, PortMappingBehaviour
from netns_fixtures.portmap.table import Mapping, MappingTable, renewed

#: More than a test ever plans; the oldest plans come first.
MAX_PLANNED_FAILURES = 1000


@dataclass(frozen=True, slots=True)
class Ask:
    """A request for a mapping, in the words that all protocols share. ``external_port`` 0: any."""

    by: str
    transport: str
    internal_ip: str
    internal_port: int
    external_port: int
    lifetime: int
    nonce: bytes = b""
    description: str = ""
    #: Refuse rather than give another outside port.
    exact: bool = False


@dataclass(frozen=True, slots=True)
class News:
    """Something changed, or was refused: ``kind`` is mapped, renewed, released, expired, refused."""

    kind: str
    mapping: Mapping | None
    why: str = ""


class MappingRefused(Exception):
    """No mapping. ``failure`` says why."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.value)
        self.failure = failure


class MappingService:
    """Grants, renews, releases and expires mappings. ``on_news`` is called at each change of ``table``."""

    def __init__(
        self,
        now: float,
        behaviour: PortMappingBehaviour,
        on_news: Callable[[News], None],
        *,
        pinholes: bool = True,
        holder: Callable[[str, int], tuple[str, int] | None] = lambda _transport, _port: None,
    ) -> None:
        self.behaviour = behaviour
        #: Whether IPv6 passes as it is, so that a mapping is an opening in the firewall.
        self.pinholes = pinholes
        #: The inside end whose flow of its own has an outside port of a transport now.
        self._holder = holder
        self.table = MappingTable()
        self._started = now
        self._on_news = on_news
        self._failures: list[Failure] = []

    def epoch(self, now: float) -> int:
        """Seconds since the table was empty: what tells clients that their mappings were lost."""
        return int(now - self._started)

    def restart(self, now: float) -> None:
        """Forget everything, as a router without permanent memory does."""
        gone = tuple(self.table)
        self.table.clear()
        self._started = now
        self._failures.clear()
        for mapping in gone:
            self._on_news(News("lost", mapping))

    def fail_next(self, failure: Failure, count: int) -> None:
        """Refuse the next ``count`` requests for a mapping. Raises ValueError beyond MAX_PLANNED_FAILURES."""
        if len(self._failures) + count > MAX_PLANNED_FAILURES:
            raise ValueError(f"at most {MAX_PLANNED_FAILURES} failures can be planned")
        self._failures += [failure] * count

    def map(self, now: float, ask: Ask) -> Mapping:
        """Grant a mapping, or renew it. Raises MappingRefused."""
        self._check_failures(ask)
        lifetime = self._lifetime(ask.lifetime)
        expires = self._expiry(now, lifetime)
        known = self._known(ask)
        if known is not None:
            mapping = renewed(known, lifetime, expires)
            self.table.put(mapping)
            self._on_news(News("renewed", mapping))
            return mapping
        port = self._port(ask)
        mapping = Mapping(
            ask.transport,
            port,
            ask.internal_ip,
            ask.internal_port,
            lifetime,
            ask.by,
            expires,
            ask.nonce,
            ask.description,
        )
        self.table.put(mapping)
        self._on_news(News("mapped", mapping))
        return mapping

    def release(self, mapping: Mapping) -> None:
        """End a mapping at its owner's wish."""
        self.table.remove(mapping)
        self._on_news(News("released", mapping))

    def expire(self, now: float) -> None:
        """End what has expired."""
        for mapping in self.table.expire(now):
            self._on_news(News("expired", mapping))

    def refuse(self, failure: Failure, why: str = "") -> MappingRefused:
        """The exception for a refusal, which is news."""
        self._on_news(News("refused", None, why or failure.value))
        return MappingRefused(failure)

    def _check_failures(self, ask: Ask) -> None:
        failure = self._failures.pop(0) if self._failures else self.behaviour.refuse
        if failure is not None:
            raise self.refuse(failure, f"{ask.by} {ask.internal_ip}:{ask.internal_port}: {failure}")

    def _lifetime(self, asked: int) -> int:
        """Whole seconds; 0 stays 0, which is for ever (UPnP). Others end, and ask with 0 for the end only."""
        if self.behaviour.lifetime is not None:
            return max(1, int(self.behaviour.lifetime))
        low, high = self.behaviour.lifetimes
        return asked and int(min(max(asked, low), high))

    def _expiry(self, now: float, lifetime: int) -> float | None:
        really = self.behaviour.forget_after or lifetime
        return now + really if really else None

    def _known(self, ask: Ask) -> Mapping | None:
        """What this request renews: the mapping of the same inside, for UPnP also at the same outside."""
        if ask.by == "upnp":
            at = self.table.at(ask.transport, ask.external_port)
            same = at is not None and at.inside == (ask.transport, ask.internal_ip, ask.internal_port)
            return at if same else None
        known = self.table.of(ask.transport, ask.internal_ip, ask.internal_port)
        # RFC 6887 section 11.3: with another nonce it is somebody else's.
        if known is not None and known.nonce != ask.nonce and ask.by == known.by == "pcp":
            raise self.refuse(Failure.NOT_AUTHORIZED, f"another nonce for {ask.internal_ip}")
        return known

    def _port(self, ask: Ask) -> int:
        if len(self.table) >= self.behaviour.max_mappings:
            raise self.refuse(Failure.OUT_OF_RESOURCES)
        if ":" in ask.internal_ip:
            if ask.exact and ask.external_port not in (0, ask.internal_port):
                raise self.refuse(Failure.CONFLICT, "a pinhole has the port of the inside")
            return ask.internal_port
        if ask.exact and not (ask.external_port and self._is_free(ask, ask.external_port)):
            raise self.refuse(Failure.CONFLICT, f"{ask.transport} port {ask.external_port} is taken")
        inside = ask.internal_port if self.behaviour.keep_ports else 0
        port = self.table.free_port((ask.external_port, inside), lambda port: self._is_free(ask, port))
        if port is None:
            raise self.refuse(Failure.OUT_OF_RESOURCES)
        return port

    def _is_free(self, ask: Ask, port: int) -> bool:
        """Neither mapped, nor that of another's flow."""
        if self.table.at(ask.transport, port) is not None:
            return False
        return self._holder(ask.transport, port) in (None, (ask.internal_ip, ask.internal_port))
