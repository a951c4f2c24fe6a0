"""The STUN service beside the relay."""

from __future__ import annotations

import asyncio
import socket

import pytest
from relay_kit import PATIENCE, eventually, relay

from iroh_py.errors import StunError
from iroh_py.proto import stun
from iroh_py.relay.stun import answer_stun

_TX = bytes(range(1, 13))


async def _ask(ip: str, port: int, payload: bytes) -> tuple[bytes, tuple[str, int], tuple[str, int]]:
    """Answer, its source, and our own address."""
    loop = asyncio.get_running_loop()
    with socket.socket(socket.AF_INET6 if ":" in ip else socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.setblocking(False)
        sock.bind(("::1" if ":" in ip else "127.0.0.1", 0))
        await loop.sock_sendto(sock, payload, (ip, port))
        async with asyncio.timeout(PATIENCE):
            data, source = await loop.sock_recvfrom(sock, 1500)
        return data, source[:2], sock.getsockname()[:2]


@pytest.mark.parametrize("ip", ["127.0.0.1", "::1"])
async def test_request_is_answered_with_the_senders_address(ip: str) -> None:
    """A client learns the address and port that the server saw."""
    async with relay(stun_bind=((ip, 0),)) as server:
        assert server.stun_addr is not None
        data, _, ours = await _ask(*server.stun_addr, stun.encode_request(_TX))
        assert stun.parse_response(data) == (_TX, ours)
        assert server.stats()["stun_requests"] == 1


async def test_answer_comes_from_the_address_that_was_asked() -> None:
    """A server on a wildcard with several addresses answers from the right one."""
    async with relay(stun_bind=(("0.0.0.0", 0),)) as server:
        assert server.stun_addr is not None
        port = server.stun_addr[1]
        _, source, _ = await _ask("127.0.0.2", port, stun.encode_request(_TX))
        assert source == ("127.0.0.2", port)


async def test_what_is_no_request_gets_no_answer() -> None:
    """Garbage, responses and bad fingerprints are ignored and counted; the service goes on."""
    request = stun.encode_request(_TX)
    bad = [b"", b"x" * 40, request[:-1] + bytes([request[-1] ^ 1]), stun.encode_response(_TX, ("1.2.3.4", 5))]
    async with relay(stun_bind=(("127.0.0.1", 0),)) as server:
        assert server.stun_addr is not None
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            for payload in bad:
                sock.sendto(payload, server.stun_addr)
        await eventually(lambda: server.stats()["stun_bad"] == len(bad), "all of them are counted")
        await _ask(*server.stun_addr, request)


def test_answer_is_a_pure_function() -> None:
    """A simulated network can answer without any socket."""
    assert stun.parse_response(answer_stun(stun.encode_request(_TX), ("192.0.2.1", 5))) == (
        _TX,
        ("192.0.2.1", 5),
    )
    with pytest.raises(StunError):
        answer_stun(b"nonsense", ("192.0.2.1", 5))
