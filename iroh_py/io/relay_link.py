"""One live connection to a relay: reads frames, writes datagrams, watches whether the relay still answers."""

from __future__ import annotations

import asyncio
import logging
import socket
import struct
from collections.abc import Callable
from typing import Protocol

from iroh_py.errors import LocalProtocolError, TicketError
from iroh_py.io.relay_dial import Upgraded
from iroh_py.io.relay_queue import DatagramQueue
from iroh_py.keys import NodeId
from iroh_py.network import Network
from iroh_py.proto.relay.frames import (
    Health,
    NodeGone,
    Ping,
    Pong,
    RecvDatagrams,
    RecvPacket,
    Restarting,
    Status,
    V1Frame,
    V3Frame,
)
from iroh_py.proto.relay.liveness import Liveness, Verdict
from iroh_py.proto.relay.machine import received_datagrams

log = logging.getLogger("iroh_py.relay")

_READ_SIZE = 256 * 1024
#: Bytes per write: a few full packets. Control frames never wait behind more than this plus the socket's
#: buffer.
_WRITE_SIZE = 64 * 1024
#: Unsent bytes in the kernel: what waits there is old when it leaves, and delays our pings.
_NOTSENT_LOWAT = 64 * 1024
#: Shortest timer: one that fires a rounding error too early must not be set to the same moment again.
_TICK = 0.001
#: Node ids seen on this link; checking one costs far more than looking it up.
_KNOWN_NODES = 1024
#: Offset of tcpi_last_ack_recv, in milliseconds, in struct tcp_info (linux/tcp.h).
_LAST_ACK_RECV = struct.Struct("=I")
_LAST_ACK_RECV_AT = 56
_TCP_INFO_SIZE = 104


class RandomBytes(Protocol):
    """The part of random.Random that is needed here."""

    def randbytes(self, n: int, /) -> bytes:
        """So many random bytes."""
        ...


class RelayLink:
    """Owns the connection from its login until it is lost.

    ``on_datagrams(node_id, datagrams)`` gets what arrives, ``on_gone(node_id)`` notices of nodes that left,
    ``on_change()`` is called when ``lost`` or ``suspect`` changed, ``on_answer()`` with the first pong.
    """

    def __init__(
        self,
        network: Network,
        upgraded: Upgraded,
        queue: DatagramQueue,
        *,
        rng: RandomBytes,
        on_datagrams: Callable[[NodeId, list[bytes]], None],
        on_gone: Callable[[NodeId], None],
        on_change: Callable[[], None],
        on_answer: Callable[[], None],
    ) -> None:
        self._network = network
        self._upgraded = upgraded
        self._machine = upgraded.machine
        self._queue = queue
        self._rng = rng
        self._on_datagrams = on_datagrams
        self._on_gone = on_gone
        self._on_change = on_change
        self._on_answer = on_answer
        self._live = Liveness(network.time(), upgraded.rtt)
        self._nodes: dict[bytes, NodeId] = {}
        self._wake = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0
        self._was_suspect = False
        self.since = network.time()
        #: Why the connection is over, None while it is not.
        self.lost: str | None = None
        #: What the relay last said about this connection; empty: nothing wrong.
        self.health = ""
        #: Frames that made no sense to us although they parsed.
        self.ignored = 0

    @property
    def local_ip(self) -> str:
        """Our address of this TCP connection."""
        return self._upgraded.local_ip

    @property
    def latency(self) -> float | None:
        """Seconds of the last ping's round trip, None before the first pong."""
        return self._live.latency

    @property
    def suspect(self) -> bool:
        """Whether the relay owes us an answer for longer than it should."""
        return self._live.suspect(self._network.time())

    @property
    def confirmed(self) -> float:
        """Everything sent before this time certainly arrived."""
        return self._live.confirmed

    def start(self) -> None:
        """Begin to read, write and ping."""
        _tune(self._upgraded.writer)
        self._tasks = [
            asyncio.create_task(self._read(), name="relay-read"),
            asyncio.create_task(self._write(), name="relay-write"),
        ]
        self._wake.set()
        self._poll()

    def wake(self) -> None:
        """The queue has something to send."""
        self._wake.set()

    def probe(self, within: float) -> None:
        """Find out quickly whether the connection still works."""
        now = self._network.time()
        self._live.probe(now, max(within, 1.5 * self._live.rtt))
        self._poll()

    def lose(self, reason: str) -> None:
        """The connection is over."""
        if self.lost is None:
            self.lost = reason
            self._upgraded.abort()
            self._on_change()

    async def close(self) -> None:
        """Drop the connection and wait for the tasks."""
        if self.lost is None:
            self.lost = "closed"
        if self._timer is not None:
            self._timer.cancel()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._upgraded.abort()

    async def _read(self) -> None:
        machine, live = self._machine, self._live
        reader = self._upgraded.reader
        try:
            self._handle(self._upgraded.early)
            while self.lost is None:
                data = await reader.read(_READ_SIZE)
                if not data:
                    self.lose("the relay closed the connection")
                    return
                live.handle_received(self._network.time())
                self._handle(machine.receive(data))
                if machine.broken is not None:
                    self.lose(str(machine.broken))
                    return
                if self._was_suspect:
                    self._poll()
        except OSError as error:
            self.lose(f"reading failed: {error}")
        except Exception:
            # A bug of ours in whatever handles datagrams; a link that ends and reconnects beats a silent one.
            log.exception("handling frames of relay %s failed", machine.url)
            self.lose("internal error")

    async def _write(self) -> None:
        writer, queue = self._upgraded.writer, self._queue
        try:
            while self.lost is None:
                await self._wake.wait()
                self._wake.clear()
                self._fill()
                data = self._machine.data_to_send()
                if data:
                    writer.write(data)
                    await writer.drain()
                if queue:
                    self._wake.set()
        except OSError as error:
            self.lose(f"writing failed: {error}")

    def _fill(self) -> None:
        now = self._network.time()
        batches = self._queue.take(now, _WRITE_SIZE)
        for node_id, datagrams in batches:
            try:
                self._machine.send_datagrams(node_id, datagrams)
            except LocalProtocolError:
                self._queue.dropped += len(datagrams)
        if batches:
            self._live.handle_sent(now)
            self._arm(now)

    def _handle(self, frames: list[V3Frame | V1Frame]) -> None:
        source, datagrams = b"", list[bytes]()
        for frame in frames:
            if isinstance(frame, RecvPacket | RecvDatagrams):
                if frame.node_id != source and datagrams:
                    self._deliver(source, datagrams)
                    datagrams = []
                source = frame.node_id
                datagrams += received_datagrams(frame)
            else:
                self._handle_control(frame)
        if datagrams:
            self._deliver(source, datagrams)
        if self._machine.has_data_to_send:
            self._wake.set()

    def _deliver(self, source: bytes, datagrams: list[bytes]) -> None:
        node_id = self._node(source)
        if node_id is not None:
            self._on_datagrams(node_id, datagrams)

    def _handle_control(self, frame: V3Frame | V1Frame) -> None:
        match frame:
            case Ping():
                self._machine.send_pong(frame.data)
            case Pong():
                first = self._live.latency is None
                self._live.handle_pong(self._network.time(), frame.data)
                if first and self._live.latency is not None:
                    self._on_answer()
            case NodeGone():
                node_id = self._node(frame.node_id)
                if node_id is not None:
                    self._on_gone(node_id)
            case Health():
                self.health = frame.text
            case Status():
                self.health = f"status {frame.code}" if frame.code else ""
            case Restarting():
                log.info("relay %s restarts in %g s", self._machine.url, frame.reconnect_in)

    def _node(self, raw: bytes) -> NodeId | None:
        node_id = self._nodes.get(raw)
        if node_id is None:
            try:
                node_id = NodeId(raw)
            except TicketError:
                self.ignored += 1
                return None
            if len(self._nodes) >= _KNOWN_NODES:
                del self._nodes[next(iter(self._nodes))]
            self._nodes[raw] = node_id
        return node_id

    def _poll(self) -> None:
        now = self._network.time()
        if self.lost is not None:
            return
        verdict = self._live.poll(now)
        if verdict is Verdict.PING:
            data = self._rng.randbytes(8)
            self._machine.send_ping(data)
            self._live.handle_ping_sent(now, data)
            self._wake.set()
        elif verdict in (Verdict.SUSPECT, Verdict.DEAD):
            self._ask_kernel(now)
            if self._live.poll(now) is Verdict.DEAD:
                self.lose(f"no answer for {now - self._live.last_received:.1f} s")
                return
        suspect = self._live.suspect(now)
        if suspect is not self._was_suspect:
            self._was_suspect = suspect
            self._on_change()
        self._arm(now)

    def _ask_kernel(self, now: float) -> None:
        """An acknowledgement after our ping means a slow relay or link, not a dead one."""
        age = _last_ack_age(self._upgraded.writer)
        asked = self._live.waiting_since
        if age is not None and asked is not None and now - age > asked:
            self._live.handle_proof(now - age)

    def _arm(self, now: float) -> None:
        at = self._live.poll_timeout(now)
        if self._live.suspect(now) is not self._was_suspect:
            at = now  # it became suspect just now, and a timer that is due must not be moved past it
        if self._timer is not None:
            if not self._timer.cancelled() and now < self._timer_at <= at:
                return  # it fires early and is set anew then: cheaper than moving it per datagram
            self._timer.cancel()
        self._timer_at = at
        self._timer = asyncio.get_running_loop().call_later(max(_TICK, at - now), self._poll)


def _tune(writer: asyncio.StreamWriter) -> None:
    sock = writer.get_extra_info("socket")
    if sock is not None and hasattr(socket, "TCP_NOTSENT_LOWAT"):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, _NOTSENT_LOWAT)


def _last_ack_age(writer: asyncio.StreamWriter) -> float | None:
    """Seconds since the relay's TCP last acknowledged anything; None where no kernel knows (simulation)."""
    sock = writer.get_extra_info("socket")
    if sock is None or not hasattr(socket, "TCP_INFO"):
        return None
    try:
        info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO_SIZE)
    except OSError:  # closed meanwhile
        return None
    if len(info) < _LAST_ACK_RECV_AT + _LAST_ACK_RECV.size:
        return None
    milliseconds: int = _LAST_ACK_RECV.unpack_from(info, _LAST_ACK_RECV_AT)[0]
    return milliseconds / 1000
