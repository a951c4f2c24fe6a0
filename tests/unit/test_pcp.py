"""PCP requests and responses."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from iroh_py.errors import PortmapError
from iroh_py.proto import pcp
from iroh_py.proto.pcp import AnnounceRequest, AnnounceResponse, MapRequest, MapResponse, Result

Vectors = Callable[[str], str]
NONCE = bytes(range(1, 13))
REQUEST = MapRequest("192.168.1.20", NONCE, 51820, 3600)
RESPONSE = MapResponse(NONCE, 51820, 40000, "192.0.2.7", 1800, 77)


def test_requests_are_the_vectors(vector: Vectors) -> None:
    """Announce and map requests as the original sends them."""
    announce = AnnounceRequest("192.168.1.20")
    assert pcp.encode_request(announce).hex() == vector("pcp.announce from 192.168.1.20")
    assert pcp.encode_request(REQUEST).hex() == vector("pcp.map_udp 51820 nonce 01..0c lifetime 3600")
    assert pcp.parse_request(pcp.encode_request(announce)) == announce
    assert pcp.parse_request(pcp.encode_request(REQUEST)) == REQUEST


def test_responses_have_the_layout_of_the_rfc() -> None:
    """RFC 6887 7.2 and 11.1, spelled out."""
    assert pcp.encode_response(RESPONSE).hex() == (
        "02810000"
        + "00000708"
        + "0000004d"
        + "00" * 12
        + "0102030405060708090a0b0c"
        + "11000000"
        + "ca6c9c40"
        + "00" * 10
        + "ffffc0000207"
    )
    assert pcp.encode_response(AnnounceResponse(77)).hex() == "02800000" + "00" * 4 + "0000004d" + "00" * 12
    for response in (RESPONSE, AnnounceResponse(77, Result.NOT_AUTHORIZED, 5)):
        assert pcp.parse_response(pcp.encode_response(response)) == response


def test_mapping_is_the_external_address() -> None:
    """A matching successful answer gives where we can be reached."""
    assert RESPONSE.mapping_for(REQUEST) == ("192.0.2.7", 40000)


@pytest.mark.parametrize(
    ("response", "complaint"),
    [
        (replace(RESPONSE, nonce=bytes(12)), "another request"),
        (replace(RESPONSE, protocol=6), "another request"),
        (replace(RESPONSE, internal_port=1), "another request"),
        (replace(RESPONSE, result=Result.NO_RESOURCES), "NO_RESOURCES"),
        (replace(RESPONSE, result=99), "result 99"),
        (replace(RESPONSE, external_port=0), "no usable mapping"),
        (replace(RESPONSE, external_ip="2001:db8::1"), "no usable mapping"),
        (replace(RESPONSE, external_ip="0.0.0.0"), "no usable mapping"),
    ],
)
def test_answer_that_is_no_mapping_says_why(response: MapResponse, complaint: str) -> None:
    """A refusal, a stranger's answer and an unusable address are told apart."""
    with pytest.raises(PortmapError, match=complaint):
        response.mapping_for(REQUEST)


def test_options_after_the_data_are_ignored() -> None:
    """An answer with an option is read like one without."""
    assert pcp.parse_response(pcp.encode_response(RESPONSE) + bytes.fromhex("02000000")) == RESPONSE


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        (b"", "truncated"),
        (b"\x02\x80\x00", "3 bytes"),
        (bytes(1104), "1104 bytes"),
        (bytes.fromhex("0080000100000000"), "version 0"),
        (bytes.fromhex("02810000") + bytes(20), "truncated"),
        (bytes.fromhex("02010000") + bytes(56), "no response"),
    ],
)
def test_malformed_response_says_what_is_wrong(data: bytes, complaint: str) -> None:
    """Only PortmapError comes out, with the reason."""
    with pytest.raises(PortmapError, match=complaint):
        pcp.parse_response(data)


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        (bytes.fromhex("02020000") + bytes(56), "no request"),
        (bytes.fromhex("02810000") + bytes(56), "no request"),
        (bytes.fromhex("02010000") + bytes(52), "truncated"),
        (bytes.fromhex("01010000") + bytes(56), "version 1"),
    ],
)
def test_malformed_request_says_what_is_wrong(data: bytes, complaint: str) -> None:
    """A router stays up whatever a client sends."""
    with pytest.raises(PortmapError, match=complaint):
        pcp.parse_request(data)
