"""STUN requests and responses."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from iroh_py.errors import StunError
from iroh_py.network import Addr
from iroh_py.proto import stun

Vectors = Callable[[str], str]
TX_ID = bytes(range(1, 13))
#: A recorded answer of a Google server, the sample that PROTOCOL 6.3 mentions.
GOOGLE = "0101000c2112a4422360b11e3ec68ffa93e08007" + "002000080001c7866957856f"
COOKIE = "2112a442"


def response(attributes: str) -> bytes:
    return bytes.fromhex(f"0101{len(attributes) // 2:04x}{COOKIE}") + TX_ID + bytes.fromhex(attributes)


def test_request_is_the_vector_and_is_understood(vector: Vectors) -> None:
    """28 bytes with a fingerprint, as iroh sends them."""
    request = stun.encode_request(TX_ID)
    assert request.hex() == vector("stun.request tx=01..0c")
    assert stun.parse_request(request) == TX_ID


@pytest.mark.parametrize(
    ("name", "addr"),
    [
        ("stun.response 192.0.2.7:51820", ("192.0.2.7", 51820)),
        ("stun.response [2001:db8::1]:443", ("2001:db8::1", 443)),
    ],
)
def test_response_is_the_vector_and_is_understood(vector: Vectors, name: str, addr: Addr) -> None:
    """One XOR-MAPPED-ADDRESS and nothing else."""
    assert stun.encode_response(TX_ID, addr).hex() == vector(name)
    assert stun.parse_response(bytes.fromhex(vector(name))) == (TX_ID, addr)


def test_response_of_a_public_server_is_understood() -> None:
    """A real server's recorded bytes give the address that they gave then."""
    _, addr = stun.parse_response(bytes.fromhex(GOOGLE))
    assert addr == ("72.69.33.45", 59028)


@pytest.mark.parametrize(
    ("attributes", "addr"),
    [
        ("00010008" + "0001ca6cc0000207", ("192.0.2.7", 51820)),
        ("00010008" + "0001000101010101" + "00200008" + "0001eb7ee112a645", ("192.0.2.7", 51820)),
        ("00200008" + "0001eb7ee112a645" + "00010008" + "0001000101010101", ("192.0.2.7", 51820)),
        ("80220005" + "68656c6c6f000000" + "00200008" + "0001eb7ee112a645", ("192.0.2.7", 51820)),
        ("00010014" + "0002ca6c" + "00" * 10 + "ffff" + "c0000207", ("192.0.2.7", 51820)),
    ],
    ids=["mapped", "mapped first", "xor first", "padded software", "v4-mapped"],
)
def test_xor_mapped_address_is_preferred(attributes: str, addr: Addr) -> None:
    """MAPPED-ADDRESS counts only without XOR-MAPPED-ADDRESS, and IPv4 in IPv6 is IPv4."""
    assert stun.parse_response(response(attributes)) == (TX_ID, addr)


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        (b"", "truncated"),
        (response("")[:19], "truncated"),
        (response(""), "without an address"),
        (response("00200008" + "0001eb7ee112a645")[:-4], "a length of 12"),
        (response("00200008" + "0001eb7ee112a645") + b"\0", "a length of 12"),
        (response("002000ff" + "0001eb7ee112a645"), "attribute 0x0020 of 255"),
        (response("00200008" + "0003eb7ee112a645"), "no address"),
        (response("00200004" + "0001eb7e"), "no address"),
        (response("00200000"), "no address"),
        (bytes.fromhex("010100002112a443") + TX_ID, "cookie"),
        (bytes.fromhex("010100012112a44201") + TX_ID, "a length of 1"),
        (bytes.fromhex("000100002112a442") + TX_ID, "no Binding success"),
        (bytes.fromhex("011100002112a442") + TX_ID, "no Binding success"),
    ],
)
def test_malformed_response_says_what_is_wrong(data: bytes, complaint: str) -> None:
    """Only StunError comes out, with the reason."""
    with pytest.raises(StunError, match=complaint):
        stun.parse_response(data)


def test_request_without_attributes_is_answered() -> None:
    """The plainest client of RFC 8489 sends a bare header."""
    assert stun.parse_request(bytes.fromhex("000100002112a442") + TX_ID) == TX_ID


@pytest.mark.parametrize("at", [3, 19, 20, 21, 27])
def test_request_with_a_wrong_fingerprint_is_refused(at: int) -> None:
    """If there are attributes, the last one vouches for the message."""
    damaged = bytearray(stun.encode_request(TX_ID))
    damaged[at] ^= 0x10
    with pytest.raises(StunError):
        stun.parse_request(bytes(damaged))


def test_response_is_no_request() -> None:
    """A server does not answer answers."""
    with pytest.raises(StunError, match="no Binding request"):
        stun.parse_request(stun.encode_response(TX_ID, ("192.0.2.7", 1)))
