"""Disco messages and packets."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from iroh_py.addr import RelayUrl
from iroh_py.errors import DiscoError
from iroh_py.keys import SecretKey
from iroh_py.proto import disco
from iroh_py.proto.disco import CallMeMaybe, Message, Ping, Pong

Vectors = Callable[[str], str]
KEY1, KEY2 = SecretKey(bytes([1]) * 32), SecretKey(bytes([2]) * 32)
TX_ID = bytes(range(1, 13))
NONCE = bytes(range(0x20, 0x38))
BOX_KEY = KEY1.box_key(KEY2.node_id)
PING = Ping(TX_ID, KEY1.node_id)
PACKET = disco.seal(BOX_KEY, KEY1.node_id, NONCE, disco.encode(PING))

V4, V6 = ("192.0.2.7", 51820), ("2001:db8::1", 443)
MESSAGES: dict[str, Message] = {
    "disco.ping": PING,
    "disco.pong v4": Pong(TX_ID, V4),
    "disco.pong relay": Pong(TX_ID, RelayUrl("https://relay.example./")),
    "disco.cmm": CallMeMaybe((V4, V6)),
}
PUBLISHED: dict[str, Message] = {
    "published.pong to 2.3.4.5:1234": Pong(TX_ID, ("2.3.4.5", 1234)),
    "published.pong to [fed0::12]:6666": Pong(TX_ID, ("fed0::12", 6666)),
    "published.call-me-maybe empty": CallMeMaybe(()),
    "published.call-me-maybe 1.2.3.4:567 [2001::3456]:789": CallMeMaybe(
        (("1.2.3.4", 567), ("2001::3456", 789))
    ),
}


@pytest.mark.parametrize("name", MESSAGES)
def test_message_is_sealed_and_opened_as_in_the_vectors(vector: Vectors, name: str) -> None:
    """Plaintext and packet are the published bytes, and the receiver reads the message out of them."""
    plaintext = disco.encode(MESSAGES[name])
    assert plaintext.hex() == vector(f"{name}.plain")
    packet = disco.seal(BOX_KEY, KEY1.node_id, NONCE, plaintext)
    assert packet.hex() == vector(f"{name}.packet 1->2 nonce 20..37")
    sender = disco.parse_sender(packet)
    assert sender == KEY1.node_id
    assert disco.decode(disco.open(KEY2.box_key(sender), packet)) == MESSAGES[name]


@pytest.mark.parametrize("name", PUBLISHED)
def test_plaintext_of_iroh_itself_is_read_and_written(vector: Vectors, name: str) -> None:
    """The unit test vectors of the original hold here too."""
    assert disco.encode(PUBLISHED[name]).hex() == vector(name)
    assert disco.decode(bytes.fromhex(vector(name))) == PUBLISHED[name]


def test_padded_ping_is_larger_and_still_the_same_ping() -> None:
    """Padding makes a ping fill a path's MTU; a receiver ignores it but can count it."""
    plaintext = disco.encode(Ping(TX_ID, KEY1.node_id, padding=1000))
    assert len(plaintext) == 46 + 1000
    message = disco.decode(plaintext)
    assert message == Ping(TX_ID, KEY1.node_id, 1000)
    assert disco.decode(disco.encode(PING) + b"\x01") == Ping(TX_ID, KEY1.node_id, 1)


@pytest.mark.parametrize("at", [38, 53, 54, len(PACKET) - 25, len(PACKET) - 24, len(PACKET) - 1])
def test_packet_with_a_flipped_bit_does_not_open(at: int) -> None:
    """Tag, ciphertext and nonce are all protected."""
    damaged = bytearray(PACKET)
    damaged[at] ^= 1
    with pytest.raises(DiscoError, match="does not open"):
        disco.open(BOX_KEY, bytes(damaged))


def test_packet_for_somebody_else_does_not_open() -> None:
    """The key decides."""
    with pytest.raises(DiscoError, match="does not open"):
        disco.open(KEY1.box_key(KEY1.node_id), PACKET)


@pytest.mark.parametrize(
    "packet",
    [b"", disco.MAGIC, PACKET[: disco.OVERHEAD - 1], b"X" + PACKET[1:]],
    ids=["empty", "magic only", "too short", "other magic"],
)
def test_what_is_no_packet_is_an_error(packet: bytes) -> None:
    """Nothing of another form is taken for disco."""
    with pytest.raises(DiscoError, match="no disco packet"):
        disco.parse_sender(packet)
    with pytest.raises(DiscoError, match="no disco packet"):
        disco.open(BOX_KEY, packet)


def test_sender_that_is_no_key_is_an_error() -> None:
    """A packet cannot come from a point off the curve."""
    with pytest.raises(DiscoError, match="no Ed25519"):
        disco.parse_sender(disco.MAGIC + bytes([2]) + bytes(31) + PACKET[38:])


@pytest.mark.parametrize(
    ("plaintext", "complaint"),
    [
        ("", "truncated"),
        ("01", "truncated"),
        ("0101", "version 1"),
        ("0400", "type 4"),
        ("0100" + "00" * 43, "truncated"),
        ("0100" + "00" * 12 + "02" + "00" * 31, "no Ed25519"),
        ("0200" + "00" * 12, "known kind"),
        ("0200" + "00" * 12 + "02", "known kind"),
        ("0200" + "00" * 12 + "00" + "00" * 17, "17 bytes"),
        ("0200" + "00" * 12 + "00" + "00" * 19, "19 bytes"),
        ("0200" + "00" * 12 + "01", "no relay URL"),
        ("0200" + "00" * 12 + "01ff", "no relay URL"),
        ("0300" + "00" * 17, "whole number"),
        ("0300" + "00" * 18 * 101, "more than 100"),
    ],
)
def test_malformed_plaintext_says_what_is_wrong(plaintext: str, complaint: str) -> None:
    """Only DiscoError comes out, with the reason."""
    with pytest.raises(DiscoError, match=complaint):
        disco.decode(bytes.fromhex(plaintext))


def test_call_me_maybe_may_carry_a_hundred_addresses() -> None:
    """The limit itself is allowed."""
    message = CallMeMaybe(tuple(("10.0.0.1", port) for port in range(disco.MAX_CALL_ME_MAYBE)))
    assert disco.decode(disco.encode(message)) == message
