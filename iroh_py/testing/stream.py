"""One end of an in-memory TCP connection, as an asyncio transport."""

from __future__ import annotations

import asyncio
import errno
import os
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from iroh_py.network import Addr

if TYPE_CHECKING:
    from iroh_py.testing.tcp import Wire

#: Bytes under way or not yet read by the other end: a receive window of a usual size.
_WINDOW = 256 * 1024

#: Bytes that the "kernel" takes before a writer feels anything (net.ipv4.tcp_wmem allows more; libraries must
#: cope).
_KERNEL_BUFFER = 128 * 1024

#: asyncio's own default water marks, in bytes above the kernel's buffer.
_HIGH_WATER, _LOW_WATER = 64 * 1024, 16 * 1024

#: Bytes per chunk: small enough to interleave, large enough to be fast.
_CHUNK = 16 * 1024

#: Seconds until the first retry and the longest between two, and the number of tries (Linux: TCP_RTO_MIN,
#: TCP_RTO_MAX, tcp_retries2), about 15 minutes in all.
_FIRST_RTO, _LONGEST_RTO, _RETRIES = 0.2, 120.0, 15

#: Stands for the end of the stream among the chunks.
_FIN = b""


class SimTransport(asyncio.Transport):
    """Writes into the network, feeds the protocol with what arrives. ``tcp.connect`` makes both ends."""

    def __init__(self, wire: Wire, *, from_client: bool, sockname: Addr, peername: Addr) -> None:
        super().__init__({"sockname": sockname, "peername": peername})
        self.peer: SimTransport
        self.when_lost: Callable[[], None] | None = None
        self._wire = wire
        self._from_client = from_client
        self._host = wire.client if from_client else wire.server
        self._protocol: asyncio.BaseProtocol = asyncio.Protocol()
        self._out = bytearray()
        self._under_way: deque[bytes] = deque()
        self._under_way_bytes = 0
        self._held: deque[bytes] = deque()
        self._held_bytes = 0
        #: Counts the times that chunks under way were taken back: arrivals of an older number mean nothing.
        self._attempt = 0
        self._last_arrival = 0.0
        self._retry: asyncio.TimerHandle | None = None
        self._retries = 0
        self._ending = False
        self._fin_sent = False
        self._closing = False
        self._lost = False
        self._reading = True
        self._writing_paused = False
        self._high, self._low = _HIGH_WATER, _LOW_WATER

    def __repr__(self) -> str:
        return f"<SimTransport {self.get_extra_info('sockname')} -> {self.get_extra_info('peername')}>"

    def start(self, protocol: asyncio.BaseProtocol) -> None:
        """Connect the protocol."""
        self._protocol = protocol
        protocol.connection_made(self)

    # --- asyncio.Transport: writing -------------------------------------------------------------------------

    def write(self, data: bytes | bytearray | memoryview[Any]) -> None:
        """Queue bytes. After the connection was lost they are ignored, as asyncio does it."""
        if self._ending:
            raise RuntimeError("cannot write after write_eof() or close()")
        if self._lost or not data:
            return
        self._out += data
        self._pump()
        if not self._writing_paused and self.get_write_buffer_size() > self._high:
            self._writing_paused = True
            self._protocol.pause_writing()

    def write_eof(self) -> None:
        """Send the end of the stream after what is queued."""
        if not self._ending:
            self._ending = True
            self._pump()

    def can_write_eof(self) -> bool:
        """TCP can close one direction."""
        return True

    def get_write_buffer_size(self) -> int:
        """Bytes that the kernel has not taken yet."""
        return max(0, len(self._out) - _KERNEL_BUFFER)

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Set the water marks of flow control, in bytes."""
        self._high = (_HIGH_WATER if low is None else 4 * low) if high is None else high
        self._low = self._high // 4 if low is None else low
        if not self._high >= self._low >= 0:
            raise ValueError(f"high ({high}) must be >= low ({low}) must be >= 0")

    def get_write_buffer_limits(self) -> tuple[int, int]:
        """The low and the high water mark."""
        return self._low, self._high

    def close(self) -> None:
        """Close as soon as the kernel has taken everything; it goes on delivering that."""
        if not self._closing:
            self._closing = True
            if not self._lost:
                self.write_eof()
                self._lose_when_taken()

    def abort(self) -> None:
        """Drop everything and reset the other end."""
        if not self._lost:
            self._send_reset()
            self._lose(None)

    def is_closing(self) -> bool:
        """Whether it was closed or lost."""
        return self._closing or self._lost

    # --- asyncio.Transport: reading -------------------------------------------------------------------------

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Feed another protocol from now on."""
        self._protocol = protocol

    def get_protocol(self) -> asyncio.BaseProtocol:
        """The protocol that is fed."""
        return self._protocol

    def is_reading(self) -> bool:
        """Whether data are handed over."""
        return self._reading and not self._closing

    def pause_reading(self) -> None:
        """Hand over nothing until ``resume_reading``; the other end is slowed down by it."""
        self._reading = False

    def resume_reading(self) -> None:
        """Hand over again, first what has waited."""
        if not self._reading:
            self._reading = True
            self._host.net.loop.call_soon(self._read_held)

    # --- the way out ----------------------------------------------------------------------------------------

    def _pump(self) -> None:
        while self._retry is None and not self._fin_sent and (self._out or self._ending):
            if self._under_way_bytes + self.peer._held_bytes >= _WINDOW:
                return
            lanes = self._wire.lanes(from_client=self._from_client)
            if lanes is None:
                self._wait_for_the_way()
                return
            chunk = bytes(self._out[:_CHUNK])
            del self._out[: len(chunk)]
            self._fin_sent = chunk == _FIN
            self._launch(chunk, self._wire.arrival(self._host.time(), lanes, len(chunk)))

    def _launch(self, chunk: bytes, arrival: float) -> None:
        self._under_way.append(chunk)
        self._under_way_bytes += len(chunk)
        # One direction stays in order, whatever jitter and loss did to its parts.
        self._last_arrival = max(arrival, self._last_arrival)
        self._host.net.schedule.call_at(self._last_arrival, self._arrive, self._attempt)

    def _arrive(self, attempt: int) -> None:
        if attempt != self._attempt:
            return
        if self._wire.lanes(from_client=self._from_client) is None:
            self._take_back()
            self._wait_for_the_way()
            return
        chunk = self._under_way.popleft()
        self._under_way_bytes -= len(chunk)
        self._retries = 0
        self._note(len(chunk), "delivered")
        self.peer._receive(chunk)
        self._pump()
        self._buffer_shrank()

    def _take_back(self) -> None:
        self._attempt += 1
        self._out[:0] = b"".join(self._under_way)
        self._fin_sent = False
        self._under_way.clear()
        self._under_way_bytes = 0

    def _wait_for_the_way(self) -> None:
        if self._retries >= _RETRIES:
            self._note(len(self._out), "timed-out")
            self._lose(TimeoutError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT)))
            return
        delay = min(_FIRST_RTO * 2**self._retries, _LONGEST_RTO)
        self._retries += 1
        self._note(len(self._out), "stalled")
        self._retry = self._host.net.loop.call_later(delay, self._try_again)

    def _try_again(self) -> None:
        self._retry = None
        self._pump()
        self._buffer_shrank()

    def _buffer_shrank(self) -> None:
        if self._writing_paused and self.get_write_buffer_size() <= self._low:
            self._writing_paused = False
            self._protocol.resume_writing()
        if self._closing:
            self._lose_when_taken()

    # --- the way in -----------------------------------------------------------------------------------------

    def _receive(self, chunk: bytes) -> None:
        if self._lost:
            # Nobody reads any more: data are answered by a reset, the end of the stream is fine.
            if chunk != _FIN:
                self._send_reset()
        elif self._reading:
            self._feed(chunk)
        else:
            self._held.append(chunk)
            self._held_bytes += len(chunk)

    def _read_held(self) -> None:
        while self._held and self._reading and not self._lost:
            chunk = self._held.popleft()
            self._held_bytes -= len(chunk)
            self._feed(chunk)
        self.peer._pump()
        self.peer._buffer_shrank()

    def _feed(self, chunk: bytes) -> None:
        protocol = self._protocol
        assert isinstance(protocol, asyncio.Protocol), "streams and the relay use plain protocols"
        if chunk != _FIN:
            protocol.data_received(chunk)
        elif not protocol.eof_received():
            self.close()

    # --- the end --------------------------------------------------------------------------------------------

    def _send_reset(self) -> None:
        lanes = self._wire.lanes(from_client=self._from_client)
        if lanes is not None:
            arrival = self._wire.arrival(self._host.time(), lanes, 1)
            self._host.net.schedule.call_at(arrival, self.peer._reset)

    def _reset(self) -> None:
        if not self._lost:
            self._lose(ConnectionResetError(errno.ECONNRESET, os.strerror(errno.ECONNRESET)))
        self._forget()

    def _lose_when_taken(self) -> None:
        if not self._lost and self.get_write_buffer_size() == 0:
            self._lose(None, keep_sending=True)

    def _lose(self, error: Exception | None, *, keep_sending: bool = False) -> None:
        if self._lost:
            return
        self._lost = self._closing = True
        if not keep_sending:
            self._forget()
        self._held.clear()
        self._held_bytes = 0
        if self.when_lost is not None:
            self.when_lost()
        self._host.net.loop.call_soon(self._protocol.connection_lost, error)

    def _forget(self) -> None:
        self._take_back()
        self._out.clear()
        self._ending = self._fin_sent = True
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None

    def _note(self, size: int, fate: str) -> None:
        src, dst = self.get_extra_info("sockname"), self.get_extra_info("peername")
        self._host.net.record("tcp", self._host.name, src, dst, size, fate)
