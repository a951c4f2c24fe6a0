"""The two halves of a QUIC stream as asyncio handles."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING

from iroh_py.errors import ClosedError, IrohError, LocalProtocolError, StreamResetError, StreamStoppedError

if TYPE_CHECKING:
    from iroh_py.connection import Connection

#: Bytes handed to QUIC at once by a large write: a few flights, so that other streams get their turn in between.
WRITE_CHUNK = 256 * 1024


class _Waiting:
    """Something that one coroutine at a time waits for."""

    def __init__(self) -> None:
        self._waiter: asyncio.Future[None] | None = None

    async def wait(self, what: str) -> None:
        if self._waiter is not None:
            raise LocalProtocolError(f"two coroutines {what} the same stream at once")
        self._waiter = asyncio.get_running_loop().create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


class SendStream:
    """The sending half of a stream."""

    def __init__(self, connection: Connection, stream_id: int) -> None:
        self._connection = connection
        self._id = stream_id
        self._waiting = _Waiting()
        self._stopped: int | None = None
        self._finished = False

    @property
    def id(self) -> int:
        """The QUIC stream id (RFC 9000 section 2.1)."""
        return self._id

    async def write(self, data: bytes | bytearray | memoryview) -> None:
        """Send bytes; waits while too much is unsent.

        Raises StreamStoppedError if the peer does not want them, ClosedError after finish() or reset(), and the
        connection's ConnectionLostError.
        """
        view = memoryview(data)
        if not view:
            self._check()
        while view:
            await self._wait_writable()
            self._connection._write(self._id, bytes(view[:WRITE_CHUNK]))
            view = view[WRITE_CHUNK:]

    def finish(self) -> None:
        """Say that no more bytes follow. What was written is still delivered."""
        self._check()
        self._finished = True
        self._connection._write(self._id, b"", fin=True)

    def reset(self, code: int = 0) -> None:
        """Abandon the stream: what was not delivered yet is dropped."""
        if self._finished:
            return
        self._finished = True
        self._connection._reset(self._id, code)

    async def drain(self) -> None:
        """Wait until the peer has acknowledged everything. Raises as ``write`` does."""
        while self._connection._backlog(self._id) > 0:
            self._raise_broken()
            self._connection._block(self)
            await self._waiting.wait("wait on")
        self._raise_broken()

    async def _wait_writable(self) -> None:
        self._check()
        while self._connection._backlog(self._id) >= self._connection._send_buffer:
            self._connection._block(self)
            await self._waiting.wait("write to")
            self._check()

    def _check(self) -> None:
        self._raise_broken()
        if self._finished:
            raise ClosedError("this stream was finished or reset before")

    def _raise_broken(self) -> None:
        if self._stopped is not None:
            raise StreamStoppedError("the peer does not want to read this stream", code=self._stopped)
        self._connection._raise_if_over()

    def _handle_stopped(self, code: int) -> None:
        self._stopped = code
        self._waiting.wake()

    def _wake(self) -> None:
        self._waiting.wake()

    async def __aenter__(self) -> SendStream:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            self.reset()
        elif not self._finished and self._stopped is None:
            self.finish()


class RecvStream:
    """The receiving half of a stream. Bytes that arrived before a loss of the connection can still be read."""

    def __init__(self, connection: Connection, stream_id: int) -> None:
        self._connection = connection
        self._id = stream_id
        self._chunks: deque[bytes] = deque()
        self._size = 0
        self._finished = False
        self._error: IrohError | None = None
        self._waiting = _Waiting()

    @property
    def id(self) -> int:
        """The QUIC stream id (RFC 9000 section 2.1)."""
        return self._id

    async def read(self, limit: int = 64 * 1024) -> bytes:
        """Up to ``limit`` bytes as soon as there are some; ``b""`` at the end of the stream.

        Raises StreamResetError if the peer gave up, and the connection's ConnectionLostError.
        """
        if limit <= 0:
            raise LocalProtocolError(f"read() wants a positive number of bytes, not {limit}")
        while not self._chunks:
            if self._error is not None:
                raise self._error
            if self._finished:
                return b""
            self._connection._raise_if_over()
            await self._waiting.wait("read")
        return self._take(limit)

    async def read_exact(self, size: int) -> bytes:
        """Exactly ``size`` bytes. Raises asyncio.IncompleteReadError if the stream ends before."""
        parts: list[bytes] = []
        missing = size
        while missing > 0:
            part = await self.read(missing)
            if not part:
                raise asyncio.IncompleteReadError(b"".join(parts), size)
            parts.append(part)
            missing -= len(part)
        return b"".join(parts)

    async def read_to_end(self, limit: int = 16 * 1024 * 1024) -> bytes:
        """All bytes up to the end. Raises LocalProtocolError if there are more than ``limit``."""
        parts: list[bytes] = []
        size = 0
        while part := await self.read(256 * 1024):
            size += len(part)
            if size > limit:
                raise LocalProtocolError(
                    f"the stream is longer than the {limit} bytes that read_to_end() was allowed"
                )
            parts.append(part)
        return b"".join(parts)

    def stop(self, code: int = 0) -> None:
        """Tell the peer that this stream is not read any more."""
        if not self._finished and self._error is None:
            self._connection._stop(self._id, code)
            self._error = ClosedError("reading this stream was stopped before")

    def _take(self, limit: int) -> bytes:
        chunk = self._chunks.popleft()
        if len(chunk) > limit:
            self._chunks.appendleft(chunk[limit:])
            chunk = chunk[:limit]
        self._size -= len(chunk)
        self._connection._consumed(self._id, len(chunk))
        return chunk

    def _handle_data(self, data: bytes, fin: bool) -> None:
        if data:
            self._chunks.append(data)
            self._size += len(data)
        self._finished = self._finished or fin
        self._waiting.wake()

    def _handle_reset(self, code: int) -> None:
        self._error = StreamResetError("the peer abandoned this stream", code=code)
        self._waiting.wake()

    def _wake(self) -> None:
        self._waiting.wake()

    def __aiter__(self) -> RecvStream:
        return self

    async def __anext__(self) -> bytes:
        part = await self.read()
        if not part:
            raise StopAsyncIteration
        return part
