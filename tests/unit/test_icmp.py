"""io/icmp.py: echo packets."""

from __future__ import annotations

import errno
import os
import socket
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iroh_py.io import icmp
from iroh_py.network import Family

COOKIE = bytes(range(16))


class Silent(socket.socket):
    """A connected UDP socket that sends to its peer, whatever the address says."""

    def sendto(self, *arguments: Any) -> int:
        return self.send(arguments[0])


def test_echo_request_has_a_valid_checksum() -> None:
    """The checksum over a correct packet, its own included, is zero (RFC 1071)."""
    request = icmp.echo_request(Family.V4, COOKIE)
    assert request[:2] == b"\x08\x00"
    assert icmp.internet_checksum(request) == 0


def test_checksum_of_the_example_in_rfc_1071() -> None:
    """RFC 1071 section 3 sums these bytes to 0xddf2."""
    assert icmp.internet_checksum(bytes.fromhex("0001f203f4f5f6f7")) == ~0xDDF2 & 0xFFFF


@pytest.mark.parametrize("family", list(Family))
def test_reply_is_known_by_its_cookie(family: Family) -> None:
    """Another's reply, or our own request coming by, is none."""
    kind = icmp.TYPES[family][1]
    reply = icmp.ECHO.pack(kind, 0, 0, 77, 1) + COOKIE
    assert icmp.is_reply(reply, family, COOKIE, raw=False)
    assert not icmp.is_reply(icmp.ECHO.pack(kind, 0, 0, 77, 1) + bytes(16), family, COOKIE, raw=False)
    assert not icmp.is_reply(icmp.echo_request(family, COOKIE), family, COOKIE, raw=False)
    if family is Family.V4:
        assert icmp.is_reply(b"\x45" + bytes(19) + reply, family, COOKIE, raw=True)


@given(st.binary(max_size=64), st.sampled_from(Family), st.booleans())
def test_any_bytes_are_a_reply_or_not(packet: bytes, family: Family, raw: bool) -> None:
    """Whatever arrives gives an answer, never an exception."""
    assert icmp.is_reply(packet, family, COOKIE, raw=raw) in (True, False)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs CAP_NET_RAW or net.ipv4.ping_group_range")
async def test_loopback_answers() -> None:
    """One echo over loopback takes some positive time."""
    assert 0 < await icmp.ping(socket.socket, "127.0.0.1", 5.0) < 5.0


async def test_silence_is_a_timeout_and_closes_the_socket() -> None:
    """Nobody answers: TimeoutError after the time given, and nothing stays open."""
    listener = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    listener.bind(("127.0.0.1", 0))
    opened: list[socket.socket] = []

    def opener(family: int, kind: int, proto: int) -> socket.socket:
        opened.append(Silent(socket.AF_INET, socket.SOCK_DGRAM))
        opened[-1].connect(listener.getsockname())
        return opened[-1]

    with pytest.raises(TimeoutError):
        await icmp.ping(opener, "127.0.0.1", 0.01)
    assert opened[-1].fileno() == -1
    listener.close()


async def test_no_rights_is_one_clear_error() -> None:
    """Neither kind of socket allowed: PermissionError that says what is missing."""

    def opener(family: int, kind: int, proto: int) -> socket.socket:
        raise PermissionError(errno.EPERM, "no")

    with pytest.raises(PermissionError, match="ping_group_range"):
        await icmp.ping(opener, "127.0.0.1", 1.0)
