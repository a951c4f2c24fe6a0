"""The transport parameter and the frame of address discovery, byte by byte (PROTOCOL.md 8.6 and 13)."""

from __future__ import annotations

import pytest
from aioquic._buffer import Buffer

from iroh_py.errors import LocalProtocolError, RemoteProtocolError
from iroh_py.proto.qad import QadIdentity
from iroh_py.proto.qad.tokens import LIFETIME, RetryTokens
from iroh_py.proto.qad.wire import Role, encode_observed, encode_parameter, find_role, pull_observed
from pytest_iroh.ca import CertificateAuthority

_ADDR = ("192.0.2.7", 51820)


@pytest.mark.parametrize(
    ("role", "wire"), [(Role.SEND, "c00000009f81a1760100"), (Role.RECEIVE, "c00000009f81a1760101")]
)
def test_parameter_is_that_of_the_original(role: Role, wire: str) -> None:
    """A relay only sends, a client only receives."""
    assert encode_parameter(role).hex() == wire
    assert find_role(bytes.fromhex("0f0101" + wire + "0102ffff")) is role


def test_parameter_says_which_way_reports_go() -> None:
    """Both directions can be on."""
    assert [(role.sends, role.receives) for role in Role] == [(True, False), (False, True), (True, True)]


def test_absent_parameter_means_that_the_peer_takes_no_part() -> None:
    """A QUIC client without the extension is served, and told nothing."""
    assert find_role(b"") is None
    assert find_role(bytes.fromhex("0f0101")) is None


@pytest.mark.parametrize(
    "wire",
    [
        "c00000009f81a1760103",  # a fourth role
        "c00000009f81a17600",  # no role
        "c00000009f81a176020000",  # bytes behind the role
        "c00000009f81a1760100c00000009f81a1760100",  # twice
        "c00000009f81a17605",  # cut off
    ],
)
def test_bad_parameter_is_the_peers_error(wire: str) -> None:
    """Nothing is guessed."""
    with pytest.raises(RemoteProtocolError):
        find_role(bytes.fromhex(wire))


@pytest.mark.parametrize(
    ("sequence", "addr", "wire"),
    [
        (0, _ADDR, "809f81a600c0000207ca6c"),
        (1, ("2001:db8::1", 443), "809f81a70120010db800000000000000000000000101bb"),
    ],
)
def test_frame_is_that_of_the_original(sequence: int, addr: tuple[str, int], wire: str) -> None:
    """Type, sequence number, address, port."""
    assert encode_observed(sequence, addr).hex() == wire
    buf = Buffer(data=bytes.fromhex(wire))
    assert pull_observed(buf, buf.pull_uint_var()) == (sequence, addr)


def test_mapped_address_is_read_as_ipv4() -> None:
    """A dual-stack relay reports IPv4 clients so."""
    buf = Buffer(data=bytes.fromhex("00" + "00" * 10 + "ffff" + "c0000207" + "ca6c"))
    assert pull_observed(buf, 0x9F81A7) == (0, _ADDR)


def test_token_is_good_for_its_client_and_its_time_only() -> None:
    """Another address, another retry, another server, an old or a changed one: all refused."""
    tokens = RetryTokens(bytes(32))
    token = tokens.make(100.0, _ADDR, b"original", b"retrycid")
    assert tokens.open(100.5, _ADDR, token, b"retrycid") == b"original"
    assert tokens.open(101.0 + LIFETIME, _ADDR, token, b"retrycid") is None
    assert tokens.open(100.5, ("192.0.2.8", 51820), token, b"retrycid") is None
    assert tokens.open(100.5, _ADDR, token, b"other id") is None
    assert RetryTokens(bytes(31) + b"\1").open(100.5, _ADDR, token, b"retrycid") is None
    for index in range(len(token)):
        changed = bytes([*token[:index], token[index] ^ 1, *token[index + 1 :]])
        assert tokens.open(100.5, _ADDR, changed, b"retrycid") is None
        assert tokens.open(100.5, _ADDR, token[:index], b"retrycid") is None


def test_identity_wants_the_key_of_its_certificate() -> None:
    """A mixed-up pair of files is said at the start, not to the first client."""
    authority = CertificateAuthority()
    certificate, key = authority.issue_pem(["relay.test"])
    assert len(QadIdentity.from_pem(certificate, key).chain) == 1
    with pytest.raises(LocalProtocolError, match="not that of the first certificate"):
        QadIdentity.from_pem(certificate, authority.issue_pem(["relay.test"])[1])
    with pytest.raises(LocalProtocolError, match="no certificate and key"):
        QadIdentity.from_pem(key, certificate)
