"""The thread that answers DNS questions, at sockets that were opened at the lab's exchange.

A thread of its own, with an event loop of its own: a test that blocks does not hold up the name server of its
lab, and neither ends the other.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import Callable, Coroutine, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from netns_fixtures.dns.answering import Answer, Passed, Responder

#: Opens a socket at the exchange: family, kind.
Opener = Callable[[int, int], socket.socket]

#: Connections served at once, and questions on their way (slow or passed on); more are dropped.
MAX_CONNECTIONS = 256
MAX_UNDER_WAY = 10_000
#: Seconds that a TCP connection may be idle (RFC 7766 section 6.2.3 wants some).
IDLE_TIMEOUT = 10.0
#: Questions read from one UDP socket at a time.
_BURST = 64
_MAX_UDP = 65535
#: Seconds until the thread is up, or gone: it has nothing to wait for.
_THREAD_TIMEOUT = 10.0

Responders = Callable[[], "Responder"]


class DnsServer:
    """A running name server; it owns the sockets. ``responder`` is called at the first question."""

    def __init__(
        self,
        name: str,
        responder: Responders,
        opener: Opener,
        udp: Sequence[socket.socket],
        tcp: Sequence[socket.socket],
    ) -> None:
        self._responder = responder
        self._opener = opener
        self._udp, self._tcp = udp, tcp
        self._loop = asyncio.new_event_loop()
        self._tasks: set[asyncio.Task[None]] = set()
        #: Accepted; a task that is cancelled before it began closes nothing.
        self._connections: set[socket.socket] = set()
        self._failed: Exception | None = None
        ready = threading.Event()
        self._thread = threading.Thread(target=self._main, args=(ready,), name=f"dns of {name}", daemon=True)
        self._thread.start()
        ready.wait(_THREAD_TIMEOUT)

    def close(self) -> None:
        """Stop, and close all sockets. Raises what ended the server before, if anything did."""
        if not self._loop.is_closed():
            with contextlib.suppress(RuntimeError):  # it ended this moment
                self._loop.call_soon_threadsafe(self._stop)
            self._thread.join(_THREAD_TIMEOUT)
        if self._failed is not None:
            raise self._failed

    # -- in the thread

    def _main(self, ready: threading.Event) -> None:
        self._stopping = asyncio.Event()
        try:
            self._loop.run_until_complete(self._serve(ready))
        except Exception as error:  # raised by close(): a thread has nobody to tell
            self._failed = error
        finally:
            for sock in (*self._udp, *self._tcp, *self._connections):
                sock.close()
            self._loop.close()
            ready.set()

    def _stop(self) -> None:
        self._stopping.set()

    async def _serve(self, ready: threading.Event) -> None:
        for sock in self._udp:
            sock.setblocking(False)
            self._loop.add_reader(sock, self._receive, sock)
        for sock in self._tcp:
            sock.setblocking(False)
            self._loop.add_reader(sock, self._accept, sock)
        ready.set()
        await self._stopping.wait()
        for sock in (*self._udp, *self._tcp):
            self._loop.remove_reader(sock)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _receive(self, sock: socket.socket) -> None:
        """Some questions at one UDP socket, so that those at the others get their turn, too."""
        for _ in range(_BURST):
            try:
                data, address = sock.recvfrom(_MAX_UDP)
            except OSError:
                return  # none left; or an answer could not be delivered, whose client asks again
            try:
                self._take_datagram(data, address, sock)
            except Exception as error:
                self._failed = self._failed or error
                return

    def _accept(self, listener: socket.socket) -> None:
        # Not sock_accept(): cancelled at the wrong moment, that loses the connection without closing it.
        try:
            sock, address = listener.accept()
        except OSError:
            return  # the client left before we came
        if len(self._connections) >= MAX_CONNECTIONS:
            sock.close()
            return
        sock.setblocking(False)
        self._connections.add(sock)
        self._keep(self._converse(sock, str(address[0])))

    async def _converse(self, sock: socket.socket, client: str) -> None:
        """One TCP connection: questions one after the other, each answered before the next is read."""
        try:
            while True:
                async with asyncio.timeout(IDLE_TIMEOUT):
                    length = int.from_bytes(await self._read(sock, 2), "big")
                    data = await self._read(sock, length)
                answer = await self._answer(data, client, tcp=True)
                if answer is not None:
                    async with asyncio.timeout(IDLE_TIMEOUT):
                        await self._loop.sock_sendall(sock, len(answer).to_bytes(2, "big") + answer)
        except (OSError, EOFError):
            pass  # it left, or was idle for too long
        finally:
            self._connections.discard(sock)
            sock.close()

    async def _read(self, sock: socket.socket, size: int) -> bytes:
        data = b""
        while len(data) < size:
            part = await self._loop.sock_recv(sock, size - len(data))
            if not part:
                raise EOFError
            data += part
        return data

    async def _answer(self, data: bytes, client: str, *, tcp: bool) -> bytes | None:
        answer = self._responder().respond(data, client, tcp=tcp)
        return await self._wait(answer, tcp=tcp)

    async def _wait(self, answer: Answer | Passed, *, tcp: bool) -> bytes | None:
        from netns_fixtures.dns.answering import Passed
        from netns_fixtures.dns.passing import ask_other

        if isinstance(answer, Passed):
            answer = answer.finish(await ask_other(self._opener, answer.query, answer.server, tcp=tcp))
        if answer.delay:
            await asyncio.sleep(answer.delay)
        return answer.data

    def _take_datagram(self, data: bytes, address: tuple[Any, ...], sock: socket.socket) -> None:
        """A question over UDP: answered at once where it can be."""
        from netns_fixtures.dns.answering import Answer

        answer = self._responder().respond(data, str(address[0]), tcp=False)
        if isinstance(answer, Answer) and not answer.delay:
            _send(sock, answer.data, address)
        elif len(self._tasks) < MAX_UNDER_WAY:
            self._keep(self._answer_later(answer, address, sock))

    async def _answer_later(
        self, answer: Answer | Passed, address: tuple[Any, ...], sock: socket.socket
    ) -> None:
        _send(sock, await self._wait(answer, tcp=False), address)

    def _keep(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            # A bug of ours; the test must see it, and not only a resolver that waits in vain.
            error = task.exception()
            self._failed = error if isinstance(error, Exception) else RuntimeError(repr(error))


def _send(sock: socket.socket, data: bytes | None, address: tuple[Any, ...]) -> None:
    if data is not None:
        with contextlib.suppress(OSError):  # no way to the client, or no room: it asks again
            sock.sendto(data, address)
