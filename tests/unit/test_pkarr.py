"""Signed DNS packets."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from iroh_py.errors import DiscoveryError, LocalProtocolError
from iroh_py.keys import SecretKey
from iroh_py.proto.pkarr import MAX_DNS_PACKET, SignedPacket, signable

Vectors = Callable[[str], str]
KEY = SecretKey(bytes([1]) * 32)
TIME = 1_700_000_000_000_000


def test_packet_is_signed_as_in_the_vectors(vector: Vectors) -> None:
    """Signable bytes and relay payload are the published ones."""
    dns_packet = bytes.fromhex(vector("pkarr.dns_packet"))
    assert signable(dns_packet, TIME).hex() == vector("pkarr.signable")
    packet = SignedPacket.sign(KEY, dns_packet, TIME)
    assert packet.to_relay_payload().hex() == vector("pkarr.relay_payload")


def test_relay_payload_verifies_and_round_trips(vector: Vectors) -> None:
    """What a relay stores is what the node signed."""
    payload = bytes.fromhex(vector("pkarr.relay_payload"))
    packet = SignedPacket.from_relay_payload(KEY.node_id, payload)
    assert packet.timestamp_us == TIME
    assert packet.dns_packet.hex() == vector("pkarr.dns_packet")
    assert packet.to_relay_payload() == payload


@pytest.mark.parametrize("at", [0, 63, 64, 71, 72, -1])
def test_changed_payload_is_refused(vector: Vectors, at: int) -> None:
    """Signature, time and content are all protected."""
    payload = bytearray.fromhex(vector("pkarr.relay_payload"))
    payload[at] ^= 1
    with pytest.raises(DiscoveryError, match="not signed by 8a88e3dd74"):
        SignedPacket.from_relay_payload(KEY.node_id, bytes(payload))


def test_payload_of_another_node_is_refused(vector: Vectors) -> None:
    """The name under which a packet is looked up is the name that must have signed."""
    with pytest.raises(DiscoveryError, match="not signed"):
        SignedPacket.from_relay_payload(
            SecretKey(bytes(32)).node_id, bytes.fromhex(vector("pkarr.relay_payload"))
        )


@pytest.mark.parametrize("size", [0, 71, 1073])
def test_payload_of_impossible_size_is_refused(size: int) -> None:
    """Sizes are checked before the signature."""
    with pytest.raises(DiscoveryError, match=f"{size} bytes"):
        SignedPacket.from_relay_payload(KEY.node_id, bytes(size))


def test_largest_packet_passes_and_a_larger_one_is_our_own_fault() -> None:
    """1000 bytes is the limit, and the signer hears about it."""
    packet = SignedPacket.sign(KEY, bytes(MAX_DNS_PACKET), 0)
    assert SignedPacket.from_relay_payload(KEY.node_id, packet.to_relay_payload()) == packet
    with pytest.raises(LocalProtocolError, match="1001 bytes"):
        SignedPacket.sign(KEY, bytes(MAX_DNS_PACKET + 1), 0)


@pytest.mark.parametrize("timestamp", [-1, 1 << 64])
def test_timestamp_that_does_not_fit_is_our_own_fault(timestamp: int) -> None:
    """Eight bytes, from 1970 on."""
    with pytest.raises(LocalProtocolError, match="timestamp"):
        SignedPacket.sign(KEY, b"", timestamp)


def test_newer_is_later_or_else_larger() -> None:
    """A total order, so that all stores end with the same packet."""
    first = SignedPacket.sign(KEY, b"b", 1)
    later = SignedPacket.sign(KEY, b"a", 2)
    larger = SignedPacket.sign(KEY, b"c", 1)
    assert later.is_newer_than(first)
    assert not first.is_newer_than(later)
    assert larger.is_newer_than(first)
    assert not first.is_newer_than(first)
