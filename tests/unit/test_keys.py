"""Keys and node ids."""

from __future__ import annotations

import pickle
from collections.abc import Callable

import pytest
from nacl import bindings

from iroh_py.errors import TicketError
from iroh_py.keys import NodeId, PublicKey, SecretKey
from iroh_py.proto import base32

Vectors = Callable[[str], str]


@pytest.mark.parametrize("key", ["key1", "key2"])
def test_public_key_has_all_text_forms_of_the_vectors(vector: Vectors, key: str) -> None:
    """A seed gives the node id, and the id its hexadecimal, base32, z-base-32 and TLS forms."""
    node_id = SecretKey.parse(vector(f"{key}.seed")).node_id
    assert str(node_id) == vector(f"{key}.node_id (hex, 0.35 Display)")
    assert node_id.base32 == vector(f"{key}.base32 (0.28.1 Display / mDNS)")
    assert node_id.z32 == vector(f"{key}.z32 (DNS/pkarr)")
    assert f"{node_id.dnssec32}.iroh.invalid" == vector(f"{key}.sni (0.35)")


@pytest.mark.parametrize("key", ["key1", "key2"])
def test_x25519_halves_match_the_vectors(vector: Vectors, key: str) -> None:
    """The X25519 public key belongs to the published X25519 secret."""
    node_id = NodeId.parse(vector(f"{key}.node_id (hex, 0.35 Display)"))
    assert node_id.x25519().hex() == vector(f"{key}.x25519_pk")
    assert bindings.crypto_scalarmult_base(bytes.fromhex(vector(f"{key}.x25519_sk"))) == node_id.x25519()


def test_x25519_agreement_matches_the_vector(vector: Vectors) -> None:
    """The published secret of one node and the converted id of the other give the published shared point."""
    secret = bytes.fromhex(vector("key1.x25519_sk"))
    shared = bindings.crypto_scalarmult(secret, SecretKey(bytes([2]) * 32).node_id.x25519())
    assert shared.hex() == vector("shared.x25519(1,2)")


def test_box_key_is_the_same_from_both_sides(vector: Vectors) -> None:
    """Both nodes derive the published shared key."""
    one, two = SecretKey(bytes([1]) * 32), SecretKey(bytes([2]) * 32)
    assert one.box_key(two.node_id) == two.box_key(one.node_id)
    assert one.box_key(two.node_id).hex() == vector("shared.box_key K=HChaCha20(shared,0^16)")


def test_parse_accepts_hexadecimal_and_base32_in_any_case(vector: Vectors) -> None:
    """Ids of every iroh version can be pasted."""
    node_id = SecretKey(bytes([1]) * 32).node_id
    for text in (str(node_id), str(node_id).upper(), node_id.base32, node_id.base32.upper()):
        assert NodeId.parse(text) == node_id
    assert NodeId.from_z32(node_id.z32) == node_id


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "0 characters"),
        ("8a88", "4 characters"),
        ("x" * 64, "not hexadecimal"),
        ("8a 8" + "8" * 60, "not hexadecimal"),
        ("0" * 52, "'0' at 0 is not base32"),
        ("a" * 51 + "b", "bits set beyond"),
        ("é" * 52, "is not base32"),
    ],
)
def test_parse_of_bad_text_says_what_is_wrong(text: str, complaint: str) -> None:
    """The error names the problem."""
    with pytest.raises(TicketError, match=complaint):
        NodeId.parse(text)


@pytest.mark.parametrize(
    "raw",
    [
        bytes(31),
        bytes(33),
        bytes([2]) + bytes(31),
        bytes([1]) + bytes(31),
        bytes(32),
        b"\xff" * 32,
    ],
    ids=["short", "long", "no curve point", "neutral element", "small order", "not canonical"],
)
def test_node_id_from_bytes_that_are_no_key_is_refused(raw: bytes) -> None:
    """A NodeId in hand is always a usable public key."""
    with pytest.raises(TicketError):
        NodeId(raw)


def test_node_id_is_a_value() -> None:
    """Equal bytes are equal ids: in maps, in order, and after pickling; short in logs."""
    one, two = SecretKey(bytes([1]) * 32).node_id, SecretKey(bytes([2]) * 32).node_id
    assert {one: "x"}[NodeId(bytes(one.raw))] == "x"
    assert one != two
    assert sorted([one, two]) == [two, one]
    assert pickle.loads(pickle.dumps(one)) == one
    assert one.fmt_short() == "8a88e3dd74"
    assert repr(one) == "NodeId(8a88e3dd74)"
    assert PublicKey is NodeId
    with pytest.raises(AttributeError):
        one.raw = two.raw  # type: ignore[misc]


def test_signature_verifies_only_for_its_message_and_signer() -> None:
    """A signature of RFC 8032 test 2 is reproduced; any change breaks it."""
    seed = bytes.fromhex("4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb")
    signature = bytes.fromhex(
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da"
        "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00"
    )
    key = SecretKey(seed)
    assert key.sign(b"\x72") == signature
    assert key.node_id.verify(signature, b"\x72")
    assert not key.node_id.verify(signature, b"\x73")
    assert not key.node_id.verify(signature[:-1], b"\x72")
    assert not key.node_id.verify(bytes([signature[0] ^ 1]) + signature[1:], b"\x72")
    assert not SecretKey(bytes(32)).node_id.verify(signature, b"\x72")


def test_secret_key_text_is_only_given_on_request() -> None:
    """Neither repr nor str nor a parse error contains the secret."""
    key = SecretKey(bytes([1]) * 32)
    assert key.to_text() == "01" * 32
    assert "01" * 4 not in repr(key) + str(key)
    with pytest.raises(TicketError) as caught:
        SecretKey.parse("a" * 51 + "!")
    assert "!" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_secret_key_round_trips_and_compares() -> None:
    """Text, base32 and pickle give the same key; another seed is another key."""
    key = SecretKey.generate()
    assert SecretKey.parse(key.to_text()) == key
    assert SecretKey.parse(base32.encode(key.seed)) == key
    assert pickle.loads(pickle.dumps(key)) == key
    assert {key} == {SecretKey(key.seed)}
    assert key != SecretKey.generate()
    assert key != key.seed


@pytest.mark.parametrize("size", [0, 31, 33, 64])
def test_secret_key_of_another_size_is_refused(size: int) -> None:
    """A seed has 32 bytes."""
    with pytest.raises(TicketError, match=f"not {size}"):
        SecretKey(bytes(size))
