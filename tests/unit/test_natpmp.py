"""NAT-PMP requests and responses."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from iroh_py.errors import PortmapError
from iroh_py.proto import natpmp
from iroh_py.proto.natpmp import (
    ExternalAddressRequest,
    ExternalAddressResponse,
    MapRequest,
    MapResponse,
    Protocol,
    Result,
)

Vectors = Callable[[str], str]
REQUEST = MapRequest(51820, 7200)
RESPONSE = MapResponse(51820, 40000, 3600, 77)
EXTERNAL = ExternalAddressResponse("192.0.2.7", 77)


def test_requests_are_the_vectors(vector: Vectors) -> None:
    """External address and map requests as the original sends them."""
    assert natpmp.encode_request(ExternalAddressRequest()).hex() == vector("natpmp.ext_addr_req")
    assert natpmp.encode_request(REQUEST).hex() == vector("natpmp.map_udp 51820 lifetime 7200")
    for request in (ExternalAddressRequest(), REQUEST, MapRequest(1, 2, 3, Protocol.TCP)):
        assert natpmp.parse_request(natpmp.encode_request(request)) == request


def test_responses_have_the_layout_of_the_rfc() -> None:
    """RFC 6886 3.2 and 3.3, spelled out."""
    assert natpmp.encode_response(EXTERNAL).hex() == "00800000" + "0000004d" + "c0000207"
    assert natpmp.encode_response(RESPONSE).hex() == "00810000" + "0000004d" + "ca6c9c40" + "00000e10"
    for response in (EXTERNAL, RESPONSE, replace(RESPONSE, protocol=Protocol.TCP, result=4)):
        assert natpmp.parse_response(natpmp.encode_response(response)) == response


def test_mapping_is_the_external_address() -> None:
    """Both answers together give where we can be reached."""
    assert RESPONSE.mapping_for(REQUEST, EXTERNAL.checked_ip()) == ("192.0.2.7", 40000)


@pytest.mark.parametrize(
    ("response", "complaint"),
    [
        (replace(RESPONSE, internal_port=1), "another request"),
        (replace(RESPONSE, protocol=Protocol.TCP), "another request"),
        (replace(RESPONSE, result=Result.OUT_OF_RESOURCES), "OUT_OF_RESOURCES"),
        (replace(RESPONSE, result=99), "result 99"),
        (replace(RESPONSE, external_port=0), "port 0"),
    ],
)
def test_answer_that_is_no_mapping_says_why(response: MapResponse, complaint: str) -> None:
    """A refusal and a stranger's answer are told apart."""
    with pytest.raises(PortmapError, match=complaint):
        response.mapping_for(REQUEST, "192.0.2.7")


def test_router_without_a_public_address_says_so() -> None:
    """0.0.0.0 and an error are both no address."""
    with pytest.raises(PortmapError, match="no public address"):
        replace(EXTERNAL, external_ip="0.0.0.0").checked_ip()
    with pytest.raises(PortmapError, match="NETWORK_FAILURE"):
        replace(EXTERNAL, result=Result.NETWORK_FAILURE).checked_ip()


def test_refusal_may_end_after_the_epoch() -> None:
    """Short error answers of real routers are refusals, not garbage."""
    answer = natpmp.parse_response(bytes.fromhex("0081000200000005"))
    assert isinstance(answer, MapResponse)
    with pytest.raises(PortmapError, match="NOT_AUTHORIZED"):
        answer.mapping_for(REQUEST, "192.0.2.7")
    answer = natpmp.parse_response(bytes.fromhex("0080000300000005"))
    assert answer == ExternalAddressResponse("0.0.0.0", 5, Result.NETWORK_FAILURE)


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        ("", "truncated"),
        ("02800000", "version 2"),
        ("0000", "no response"),
        ("008000000000004dc00002", "truncated"),
        ("008000000000004dc000020700", "surplus"),
        ("008100000000004d", "truncated"),
        ("008300000000004d", "not known"),
    ],
)
def test_malformed_response_says_what_is_wrong(data: str, complaint: str) -> None:
    """Only PortmapError comes out, with the reason."""
    with pytest.raises(PortmapError, match=complaint):
        natpmp.parse_response(bytes.fromhex(data))


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        ("", "truncated"),
        ("00", "truncated"),
        ("0003", "not known"),
        ("000000", "surplus"),
        ("0001", "truncated"),
    ],
)
def test_malformed_request_says_what_is_wrong(data: str, complaint: str) -> None:
    """A router stays up whatever a client sends."""
    with pytest.raises(PortmapError, match=complaint):
        natpmp.parse_request(bytes.fromhex(data))
