"""An official iroh node in a process of its own, as a handle: listen, dial, echo, path now."""

from __future__ import annotations

import dataclasses
import logging
import queue
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import NewType, Self

from pytest_iroh.echoing import ECHO_ALPN
from pytest_iroh.official.aio import AsyncPeer
from pytest_iroh.official.channel import Channel, Message
from pytest_iroh.official.errors import OfficialError, OfficialTimeout
from pytest_iroh.official.messages import (
    AddressLike,
    Echo,
    OfficialAddr,
    PathNow,
    Stats,
    TickerLog,
    address_arguments,
)
from pytest_iroh.official.process import Popen, Process, Runner
from pytest_iroh.official.trust import OfficialRelay, stand_in, stand_in_names
from pytest_iroh.official.venv import official_python

logger = logging.getLogger(__name__)

START_TIME = 30.0
"""Seconds for a start: the library has 30 MB, and test machines are busy."""

CALL_TIME = 15.0
"""Seconds for one command unless said otherwise: enough for a 0.x peer to notice a silent change (10 s)."""

SHUTDOWN_TIME = 5.0
"""Seconds for an orderly end; after that the process is killed."""

TICKER_INTERVAL = 0.02
"""Seconds between the messages of a ticker."""

ConnectionId = NewType("ConnectionId", int)
"""One connection of one peer."""


@dataclasses.dataclass(slots=True, frozen=True)
class Accepted:
    """A connection that came in: its number, who dialled (hex), and when (``time.monotonic()``)."""

    conn: ConnectionId
    node_id: str
    at: float


class OfficialPeer:
    """A node of the official bindings, one subprocess each: make one with ``OfficialPeer.start``.

    Every method waits for its answer at most ``within`` seconds and raises OfficialTimeout then,
    OfficialCallFailed when the bindings refuse, OfficialDied when the process is gone. Methods may be called
    from any thread; ``peer.aio`` has them as coroutines. Usable as a context manager.
    """

    def __init__(self, version: str, name: str, runner: Runner) -> None:
        self.version = version
        self.name = name
        self.node_id = ""
        self._runner = runner
        self._accepted: queue.SimpleQueue[Message | None] = queue.SimpleQueue()
        self._close_reasons: dict[int, str] = {}
        self._closed = False
        self._channel = Channel(
            runner.connection,
            on_event=self._on_event,
            on_end=lambda: self._accepted.put(None),
            log_tail=runner.log_tail,
        )

    @classmethod
    def start(
        cls,
        version: str,
        *,
        popen: Popen | None = None,
        name: str = "",
        relay: OfficialRelay | None = None,
        relay_url: str | None = None,
        quic_port: int | None = None,
        alpn: str = ECHO_ALPN,
        secret_key: bytes | None = None,
        port: int = 0,
        log_level: str | None = None,
        python: Path | None = None,
        within: float = START_TIME,
    ) -> Self:
        """Start a node of ``iroh==version``, without any discovery, and with the given relay or none.

        ``relay``: one of the fixture ``relay``, with its token, its address discovery and its authority, which the
        node then trusts in place of one built-in root. Or ``relay_url`` for any other, and for 1.x
        ``quic_port``, where that relay has address discovery under a certificate that is publicly trusted.
        ``popen`` starts the process (a lab host's ``popen`` for one in a lab). ``secret_key`` is 32 bytes;
        ``port`` the UDP port (0.x: v4 and v6, 1.x: v4). 0.28-0.35 have no relay option: they stay connected
        to ``relay_url`` by dialling a node there that does not exist. ``log_level`` (such as "debug") makes
        the Rust side log. Raises OfficialUnavailable when that version cannot be installed.
        """
        python = python or official_python(version)
        runner = Runner(python, popen=popen or _plain_popen, within=within)
        peer = cls(version, name or f"official {version}", runner)
        try:
            result = peer._channel.call(
                "start",
                within=within,
                alpn=alpn,
                **_relay_arguments(version, relay, relay_url, quic_port),
                secret_key=secret_key.hex() if secret_key else None,
                port=port,
                log_level=log_level,
            )
        except BaseException:
            peer.kill()
            raise
        peer.node_id = result["node_id"]
        if not result["may_name"]:
            logger.warning(
                "%s may not have names of its own here, so it does not learn its public address from the relay: "
                "start it in a lab host, or as root",
                peer.name,
            )
        return peer

    @property
    def aio(self) -> AsyncPeer:
        """The same methods as coroutines."""
        return AsyncPeer(self)

    @property
    def process(self) -> Process:
        """The process that runs the bindings."""
        return self._runner.process

    @property
    def log_tail(self) -> str:
        """The end of what the runner and the Rust side printed."""
        return self._runner.log_tail()

    def addr(self, *, within: float = CALL_TIME) -> OfficialAddr:
        """Return where the node says to be reachable now."""
        result = self._channel.call("addr", within=within)
        return OfficialAddr(result["node_id"], result["relay_url"], tuple(result["direct_addresses"]))

    def add_addr(self, addr: AddressLike, *, within: float = CALL_TIME) -> None:
        """Tell the node where a peer is; on 1.x this counts for the next dial only."""
        self._channel.call("add_addr", within=within, **address_arguments(addr))

    def listen(self, *, within: float = CALL_TIME) -> OfficialAddr:
        """Accept connections from now on and echo what they bring; return the node's address.

        A bidirectional stream is echoed on itself, a unidirectional one as a new one from this side, a
        datagram as a datagram. Connections before the first ``listen`` are closed with code 1.
        """
        self._channel.call("listen", within=within)
        return self.addr(within=within)

    def accepted(self, *, within: float = CALL_TIME) -> Accepted:
        """Wait for the next incoming connection."""
        try:
            event = self._accepted.get(timeout=within)
        except queue.Empty:
            raise OfficialTimeout(
                f"nobody dialled {self.name} within {within} s", log_tail=self.log_tail
            ) from None
        if event is None:
            self._accepted.put(None)
            raise OfficialError(f"{self.name} is closed", log_tail=self.log_tail)
        return Accepted(ConnectionId(event["conn"]), event["node_id"], event["at"])

    def dial(self, addr: AddressLike, *, alpn: str | None = None, within: float = CALL_TIME) -> ConnectionId:
        """Connect to a node; ``alpn`` is the one given at the start unless another is given."""
        result = self._channel.call("dial", within=within, alpn=alpn, **address_arguments(addr))
        return ConnectionId(result["conn"])

    def echo(self, conn: ConnectionId, data: bytes, *, within: float = CALL_TIME) -> Echo:
        """Send bytes over a new stream and read until the peer ends its side; compare."""
        return Echo(**self._channel.call("echo", within=within, conn=conn, data=data.hex()))

    def bulk(self, conn: ConnectionId, size: int, *, seed: int = 0, within: float = 60.0) -> Echo:
        """Echo ``size`` pseudo-random bytes, made in the subprocess from ``seed``."""
        return Echo(**self._channel.call("bulk", within=within, conn=conn, bytes=size, seed=seed))

    def datagram(self, conn: ConnectionId, data: bytes, *, within: float = CALL_TIME) -> Echo:
        """Send a datagram over a dialled connection and wait for its echo; both may be lost."""
        return Echo(
            **self._channel.call("datagram", within=within, conn=conn, data=data.hex()), sent=len(data)
        )

    def uni(self, conn: ConnectionId, data: bytes, *, within: float = CALL_TIME) -> Echo:
        """Send over a new one-way stream of a dialled connection and read the peer's one-way answer."""
        return Echo(**self._channel.call("uni", within=within, conn=conn, data=data.hex()), sent=len(data))

    def start_ticker(
        self, conn: ConnectionId, interval: float = TICKER_INTERVAL, *, within: float = CALL_TIME
    ) -> None:
        """Begin to send a numbered 16 byte message each ``interval`` seconds over one new stream."""
        self._channel.call("ticker", within=within, conn=conn, interval=interval)

    def ticker_log(self, conn: ConnectionId, *, within: float = CALL_TIME) -> TickerLog:
        """Return what the ticker has sent and got back so far."""
        return _ticker_log(self._channel.call("ticker_log", within=within, conn=conn))

    def healed(self, conn: ConnectionId, event: float, *, within: float = CALL_TIME) -> float:
        """Wait for the echo of a ticker message sent at or after ``event`` (``time.monotonic()``).

        Returns the seconds from the event to the echo; raises OfficialTimeout if it does not come.
        """
        result = self._channel.call("ticker_echo", within=within, conn=conn, after=event)
        return float(result["at"]) - event

    def stop_ticker(self, conn: ConnectionId, *, within: float = CALL_TIME) -> TickerLog:
        """End the ticker and return its whole log."""
        return _ticker_log(self._channel.call("ticker_stop", within=within, conn=conn))

    def path(self, conn: ConnectionId, *, within: float = CALL_TIME) -> PathNow:
        """Return the path that the connection uses now, as far as this version can tell."""
        return PathNow(**self._channel.call("path", within=within, conn=conn))

    def until_direct(self, conn: ConnectionId, *, within: float = CALL_TIME) -> PathNow:
        """Wait until a connection's payload goes direct, by this node's own word, and return that path."""
        return PathNow(**self._channel.call("direct", within=within, conn=conn))

    def stats(self, *, within: float = CALL_TIME) -> Stats:
        """Return what the echo server has seen."""
        return Stats(**self._channel.call("stats", within=within))

    def close_reason(self, conn: ConnectionId) -> str | None:
        """Return why a connection ended, in the words of the bindings, or None while it lives."""
        return self._close_reasons.get(conn)

    def close_connection(
        self, conn: ConnectionId, *, code: int = 0, reason: str = "", within: float = CALL_TIME
    ) -> None:
        """Close one connection with an application code."""
        self._channel.call("close", within=within, conn=conn, code=code, reason=reason)

    def close(self) -> None:
        """Close every connection and the node, and end the process; killed after 5 s. Safe to call twice."""
        if self._closed:
            return
        try:
            self._channel.call("shutdown", within=SHUTDOWN_TIME)
        except OfficialError:
            pass  # It hangs or is gone already: kill() below is the answer to both.
        self._end()

    def kill(self) -> None:
        """End the process at once, as a crash would: the other side gets no close frame."""
        if not self._closed:
            self._runner.process.kill()
            self._end()

    def _end(self) -> None:
        self._closed = True
        self._channel.close()
        deadline = time.monotonic() + SHUTDOWN_TIME
        try:
            self._runner.process.wait(max(0.0, deadline - time.monotonic()))
        except (TimeoutError, subprocess.TimeoutExpired):
            self._runner.kill()
        self._runner.remove()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<OfficialPeer {self.name!r} iroh {self.version} {self.node_id[:10]}>"

    def _on_event(self, event: Message) -> None:
        if event["event"] == "accepted":
            self._accepted.put(event)
        elif event["event"] == "closed":
            self._close_reasons[event["conn"]] = event["reason"]


def _relay_arguments(
    version: str, relay: OfficialRelay | None, url: str | None, quic_port: int | None
) -> Message:
    if relay is None:
        return {"relay_url": url, "quic_port": quic_port, "relay_token": None, "trust": [], "names": {}}
    if url is not None or quic_port is not None:
        raise TypeError("relay says where it is: relay_url and quic_port are for one without it")
    trust = [] if relay.authority is None else stand_in(relay.authority)
    return {
        "relay_url": str(relay.url),
        "quic_port": relay.quic_port,
        "relay_token": relay.token,
        "trust": trust,
        "names": stand_in_names(relay) if version.startswith("0.") else {},
    }


def _plain_popen(argv: Sequence[str]) -> Process:
    return subprocess.Popen(argv, stdin=subprocess.DEVNULL)


def _ticker_log(result: Message) -> TickerLog:
    echoes = tuple((number, at) for number, at in result["echoes"])
    return TickerLog(tuple(result["sent"]), echoes, result["at"], result["error"])
