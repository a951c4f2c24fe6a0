"""A translator is given whatever the network carries."""

from __future__ import annotations

from hypothesis import example, given
from hypothesis import strategies as st

from netns_fixtures.nat64.clients import Clients
from netns_fixtures.nat64.header import read_v4, read_v6
from netns_fixtures.nat64.plan import POOL, PREFIX, synthesize
from netns_fixtures.nat64.translator import Translator

PREFIX_BYTES = bytes.fromhex("0064ff9b") + bytes(8)
CLIENT = bytes.fromhex("20010db800010000000000000000000a")
SERVER = bytes((198, 18, 1, 10))


def v6_header(kind: int, length: int, source: bytes, destination: bytes) -> bytes:
    return b"\x60\0\0\0" + length.to_bytes(2, "big") + bytes((kind, 64)) + source + destination


def v4_header(kind: int, length: int, fragment: int) -> bytes:
    """With a right checksum, so that what follows is looked at."""
    head = b"\x45\0" + (20 + length).to_bytes(2, "big") + b"\0\1" + fragment.to_bytes(2, "big")
    head += bytes((64, kind)) + b"\0\0" + SERVER + bytes((100, 127, 0, 1))
    checksum = 0xFFFF - int.from_bytes(head, "big") % 0xFFFF
    return head[:10] + checksum.to_bytes(2, "big") + head[12:]


def fresh() -> Translator:
    clients = Clients(POOL)
    clients.v4(0.0, CLIENT, 17)
    return Translator(PREFIX, clients)


def is_packet(data: bytes) -> bool:
    """Whether it is one that would be read again."""
    return (read_v6(data) if data[0] >> 4 == 6 else read_v4(data)) is not None


@given(st.binary(max_size=200))
def test_any_bytes_give_packets_or_nothing(data: bytes) -> None:
    """Nothing raises, and what comes out is a packet."""
    assert all(is_packet(packet) for packet in fresh().translate(0.0, data))


@given(st.sampled_from([0, 6, 17, 43, 44, 58, 60]), st.binary(max_size=1600))
@example(58, bytes.fromhex("0200") + bytes(6))
def test_any_payload_from_a_client_gives_packets_or_nothing(kind: int, payload: bytes) -> None:
    """Also extension headers, fragments and errors about anything."""
    data = v6_header(kind, len(payload), CLIENT, PREFIX_BYTES + SERVER) + payload
    assert all(packet[0] >> 4 == 4 and is_packet(packet) for packet in fresh().translate(0.0, data))


@given(st.sampled_from([1, 6, 17]), st.integers(0, 0xFFFF), st.binary(max_size=3000))
@example(1, 0, bytes.fromhex("0304") + bytes(6))
def test_any_payload_from_outside_gives_packets_or_nothing(kind: int, fragment: int, payload: bytes) -> None:
    """The same from the IPv4 side."""
    data = v4_header(kind, len(payload), fragment) + payload
    packets = fresh().translate(0.0, data)
    assert all(packet[0] >> 4 == 6 and is_packet(packet) for packet in packets)
    assert len(packets) <= 4


@given(st.ip_addresses(v=4), st.binary(max_size=1400))
def test_udp_to_any_address_is_translated_or_refused_and_comes_back_the_same(
    ip: object, payload: bytes
) -> None:
    """Out and back in gives the payload again, under the address that was asked for."""
    there = synthesize(str(ip))
    body = b"\x10\0\x20\0" + (8 + len(payload)).to_bytes(2, "big") + b"\xab\xcd" + payload
    destination = PREFIX_BYTES + int(str(ip).split(".")[0]).to_bytes(1, "big")
    destination += bytes(int(part) for part in str(ip).split(".")[1:])
    by = fresh()
    for out in by.translate(0.0, v6_header(17, len(body), CLIENT, destination) + body):
        turned = out[:12] + out[16:20] + out[12:16] + out[20:]
        (back,) = by.translate(0.0, turned)
        packet = read_v6(back)
        assert packet is not None
        assert (packet.source, packet.destination) == (destination, CLIENT), there
        assert packet.payload[8:] == payload
