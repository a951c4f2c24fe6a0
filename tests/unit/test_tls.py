"""iroh_py.proto.tls: node ids in certificates and raw public keys."""

from __future__ import annotations

import datetime

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given, settings
from hypothesis import strategies as st

from iroh_py.errors import RemoteProtocolError
from iroh_py.keys import SecretKey
from iroh_py.proto.tls import (
    LIBP2P_OID,
    LIBP2P_PREFIX,
    Credentials,
    TlsAuth,
    decode_certificate,
    decode_raw_public_key,
    encode_raw_public_key,
    make_certificate,
    server_name,
)

KEY, OTHER = SecretKey(bytes(32)), SecretKey(bytes(31) + b"\x01")


def certificate(
    *,
    vouched_by: SecretKey = KEY,
    named: SecretKey = KEY,
    extra_critical: bool = False,
    prefix: bytes = LIBP2P_PREFIX,
    libp2p: bool = True,
    signed_by: ec.EllipticCurvePrivateKey | None = None,
    trailing: bytes = b"",
) -> bytes:
    """A certificate that may be wrong in one way."""
    private = ec.generate_private_key(ec.SECP256R1())
    spki = private.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    value = b"\x30\x64\x04\x20" + named.node_id.raw + b"\x04\x40" + vouched_by.sign(prefix + spki) + trailing
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "x")])
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(private.public_key())
        .serial_number(7)
        .not_valid_before(datetime.datetime(2000, 1, 1))
        .not_valid_after(datetime.datetime(2001, 1, 1))
    )
    if libp2p:
        builder = builder.add_extension(x509.UnrecognizedExtension(LIBP2P_OID, value), critical=True)
    if extra_critical:
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    return builder.sign(signed_by or private, hashes.SHA256()).public_bytes(Encoding.DER)


def test_server_name_of_zero_seed_is_the_vector() -> None:
    """The SNI of raw public keys is base32hex of the node id (PROTOCOL 8.4)."""
    assert (
        server_name(TlsAuth.RAW_PUBLIC_KEY, KEY.node_id)
        == "7dl2ff6emqi2qol3l382krodedij45bn3nh479hqo14a32qpr8kg.iroh.invalid"
    )
    assert server_name(TlsAuth.X509, KEY.node_id) == "localhost"


def test_raw_public_key_is_44_bytes_and_comes_back() -> None:
    """The SubjectPublicKeyInfo names the node id."""
    data = encode_raw_public_key(KEY.node_id)
    assert data == bytes.fromhex("302a300506032b6570032100") + KEY.node_id.raw
    assert decode_raw_public_key(data).node_id == KEY.node_id


def test_certificate_made_here_names_its_node() -> None:
    """The 0.28 identity verifies and yields the node id."""
    private = ec.generate_private_key(ec.SECP256R1())
    data = make_certificate(KEY, private).public_bytes(Encoding.DER)
    assert decode_certificate(data)[1] == KEY.node_id


def test_certificate_out_of_its_dates_is_accepted() -> None:
    """Validity dates are not looked at: a peer's clock may be anything."""
    assert decode_certificate(certificate())[1] == KEY.node_id


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(certificate(vouched_by=OTHER), id="vouched-by-another"),
        pytest.param(certificate(named=OTHER), id="names-another"),
        pytest.param(certificate(prefix=b"libp2p-tls-handshake;"), id="signature-for-another-purpose"),
        pytest.param(certificate(extra_critical=True), id="unknown-critical-extension"),
        pytest.param(certificate(libp2p=False), id="no-extension"),
        pytest.param(certificate(trailing=b"x"), id="extension-too-long"),
        pytest.param(certificate(signed_by=ec.generate_private_key(ec.SECP256R1())), id="not-self-signed"),
        pytest.param(certificate() + b"x", id="trailing-byte"),
        pytest.param(b"\x30" * 5000, id="too-long"),
        pytest.param(b"", id="empty"),
    ],
)
def test_certificate_that_proves_nothing_is_refused(data: bytes) -> None:
    """Anything but a self-signed certificate that its node vouches for is the peer's fault."""
    with pytest.raises(RemoteProtocolError):
        decode_certificate(data)


def test_credentials_make_one_certificate() -> None:
    """The X.509 key pair is made once per node."""
    credentials = Credentials(KEY)
    assert credentials.identity(TlsAuth.X509) is credentials.identity(TlsAuth.X509)
    assert credentials.identity(TlsAuth.RAW_PUBLIC_KEY) is credentials.raw_public_key


GENUINE = certificate()


@given(st.binary(max_size=200))
def test_any_bytes_are_no_certificate(data: bytes) -> None:
    """Random bytes give a protocol error and nothing else."""
    with pytest.raises(RemoteProtocolError):
        decode_certificate(data)
    with pytest.raises(RemoteProtocolError):
        decode_raw_public_key(data)


@settings(max_examples=200, deadline=None)
@given(st.integers(0, len(GENUINE) - 1), st.integers(1, 255))
def test_no_changed_byte_of_a_certificate_makes_it_another_nodes(position: int, flip: int) -> None:
    """The node id is bound by its own signature: a changed certificate is refused, or still the same node's."""
    data = bytearray(GENUINE)
    data[position] ^= flip
    try:
        _certificate, node_id = decode_certificate(bytes(data))
    except RemoteProtocolError:
        return
    assert node_id == KEY.node_id


@given(st.binary(min_size=32, max_size=32))
def test_any_32_bytes_are_a_key_or_a_protocol_error(raw: bytes) -> None:
    """A raw public key that is no point of the curve is the peer's fault."""
    try:
        assert decode_raw_public_key(encode_raw_public_key(KEY.node_id)[:12] + raw).node_id.raw == raw
    except RemoteProtocolError:
        pass
