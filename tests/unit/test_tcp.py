"""TCP and TLS connections: a cancelled attempt leaves nothing behind."""

from __future__ import annotations

import asyncio
import gc
import socket
import warnings

import pytest

from iroh_py.io import tcp
from pytest_iroh.ca import CertificateAuthority


def test_tls_connection_cancelled_after_its_handshake_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The handshake ended, and nobody wants it any more: the socket is gone, with no goodbye to wait for."""
    address: tuple[str, int] = ("", 0)
    made = asyncio.StreamReaderProtocol.connection_made
    tasks: list[asyncio.Task[object]] = []
    opened: list[socket.socket] = []

    def cancel(self: asyncio.StreamReaderProtocol, transport: asyncio.BaseTransport) -> None:
        made(self, transport)
        if transport.get_extra_info("peername") == address:
            tasks[0].cancel()

    def opener(family: int, kind: int, proto: int) -> socket.socket:
        opened.append(socket.socket(family, kind, proto))
        return opened[-1]

    async def run() -> None:
        nonlocal address
        writers: list[asyncio.StreamWriter] = []
        server = await asyncio.start_server(
            lambda _reader, writer: writers.append(writer),
            "127.0.0.1",
            ssl=authority.server_context(["127.0.0.1"]),
        )
        address = server.sockets[0].getsockname()
        trust = authority.client_context()
        tasks.append(asyncio.create_task(tcp.connect(opener, *address, ssl=trust)))
        with pytest.raises(asyncio.CancelledError):
            await tasks[0]
        server.close()
        for writer in writers:
            writer.transport.abort()
        for _ in range(3):  # what is to be called soon has been called
            await asyncio.sleep(0)

    authority = CertificateAuthority("test")
    monkeypatch.setattr(asyncio.StreamReaderProtocol, "connection_made", cancel)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        asyncio.run(run())
        tasks.clear()
        gc.collect()
    assert opened[0].fileno() == -1
    assert [str(warning.message) for warning in caught] == []
