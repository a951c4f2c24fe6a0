"""Telling datagrams apart."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from iroh_py.proto.demux import Kind, classify

Vectors = Callable[[str], str]


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("disco.ping.packet 1->2 nonce 20..37", Kind.DISCO),
        ("disco.cmm.packet 1->2 nonce 20..37", Kind.DISCO),
        ("stun.request tx=01..0c", Kind.STUN),
        ("stun.response 192.0.2.7:51820", Kind.STUN),
        ("stun.response [2001:db8::1]:443", Kind.STUN),
    ],
)
def test_vectors_are_recognised(vector: Vectors, name: str, kind: Kind) -> None:
    """Every disco and STUN vector is taken for what it is."""
    assert classify(bytes.fromhex(vector(name))) is kind


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x54",
        b"\xc0\x00\x00\x00\x01" + bytes(1195),
        b"\x40" + bytes(50),
        b"\x54" + bytes(50),
        b"TS\xf0\x9f\x92\xad" + bytes(50),
        b"TS\xf0\x9f\x92\xac" + bytes(31),
        b"\x00\x01\x00\x00\x21\x12\xa4\x42" + bytes(11),
        b"\x00\x01\x00\x00\x21\x12\xa4\x43" + bytes(12),
        b"\x80\x01\x00\x00\x21\x12\xa4\x42" + bytes(12),
        b"\x40\x01\x00\x00\x21\x12\xa4\x42" + bytes(12),
    ],
)
def test_everything_else_is_quic(data: bytes) -> None:
    """Short, near-miss and unknown datagrams fall through to QUIC."""
    assert classify(data) is Kind.QUIC


def test_shortest_stun_and_disco_are_recognised() -> None:
    """A bare STUN header is STUN; magic and sender key alone are disco."""
    assert classify(b"\x00\x01\x00\x00\x21\x12\xa4\x42" + bytes(12)) is Kind.STUN
    assert classify(b"TS\xf0\x9f\x92\xac" + bytes(32)) is Kind.DISCO
