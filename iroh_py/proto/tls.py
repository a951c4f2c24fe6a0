"""Who speaks: node ids bound to TLS 1.3, as raw public keys (iroh 0.34 and later) or X.509 (iroh 0.28 to
0.33).

Nothing here reads a clock; certificates are valid from 1975 to 4096, like those of the original's generator.
The X.509 key pair is fresh per :class:`Credentials` and drawn from the system's randomness by
``cryptography``.

Layouts (PROTOCOL chapter 8):

* raw public key (RFC 7250, RFC 8410): ``30 2a 30 05 06 03 2b 65 70 03 21 00`` and the 32 bytes of the node
id;
* X.509: a self-signed certificate with the critical extension 1.3.6.1.4.1.53594.1.1, whose value is
  ``30 64 04 20 <node id 32> 04 40 <signature 64>``. The node id signs ``libp2p-tls-handshake:`` and the DER
  SubjectPublicKeyInfo of the certificate.
"""

from __future__ import annotations

import datetime
import enum
import functools
import warnings
from dataclasses import dataclass

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.utils import CryptographyDeprecationWarning

from iroh_py.errors import RemoteProtocolError
from iroh_py.keys import NodeId, SecretKey

#: DER of an Ed25519 SubjectPublicKeyInfo up to the key itself (RFC 8410 section 4).
SPKI_PREFIX = bytes.fromhex("302a300506032b6570032100")
#: The libp2p extension that binds a certificate to a host key.
LIBP2P_OID = x509.ObjectIdentifier("1.3.6.1.4.1.53594.1.1")
#: What the host key signs before the SubjectPublicKeyInfo, so that the signature is of no use elsewhere.
LIBP2P_PREFIX = b"libp2p-tls-handshake:"
#: A certificate of either implementation has about 400 bytes; a longer one is not worth parsing.
MAX_CERTIFICATE_SIZE = 4096
#: 0.28 sends this server name and checks none.
X509_SERVER_NAME = "localhost"

_NOT_BEFORE = datetime.datetime(1975, 1, 1, tzinfo=datetime.UTC)
_NOT_AFTER = datetime.datetime(4096, 1, 1, tzinfo=datetime.UTC)


_CERTIFICATE_ERRORS = (
    x509.DuplicateExtension,
    x509.UnsupportedGeneralNameType,
    x509.InvalidVersion,
    CryptographyDeprecationWarning,
)


class TlsAuth(enum.Enum):
    """How a node proves its id; the two do not interoperate, so a client has to know what the peer speaks."""

    RAW_PUBLIC_KEY = "raw-public-key"
    X509 = "x509"


class RawKeyCertificate:
    """A raw public key in the place where aioquic expects a certificate object."""

    def __init__(self, node_id: NodeId) -> None:
        self.node_id = node_id

    def public_bytes(self, encoding: Encoding) -> bytes:
        """The 44 bytes that travel in the Certificate message; there is one encoding only."""
        return encode_raw_public_key(self.node_id)

    def public_key(self) -> ed25519.Ed25519PublicKey:
        """The key that CertificateVerify must be signed with."""
        return ed25519.Ed25519PublicKey.from_public_bytes(self.node_id.raw)


PeerCertificate = RawKeyCertificate | x509.Certificate


@dataclass(frozen=True, slots=True)
class Identity:
    """What one side presents in the handshake: a certificate (or raw key) and the key that signs for it."""

    certificate: PeerCertificate
    private_key: ed25519.Ed25519PrivateKey | ec.EllipticCurvePrivateKey


class Credentials:
    """The two identities of one node; the X.509 one is made when it is first needed (about 0.2 ms)."""

    def __init__(self, secret_key: SecretKey) -> None:
        self.secret_key = secret_key
        self.raw_public_key = Identity(
            RawKeyCertificate(secret_key.node_id),
            ed25519.Ed25519PrivateKey.from_private_bytes(secret_key.seed),
        )

    @functools.cached_property
    def x509(self) -> Identity:
        """The libp2p-style certificate with its P-256 key."""
        private_key = ec.generate_private_key(ec.SECP256R1())
        return Identity(make_certificate(self.secret_key, private_key), private_key)

    def identity(self, auth: TlsAuth) -> Identity:
        """The identity to present when ``auth`` was chosen."""
        return self.x509 if auth is TlsAuth.X509 else self.raw_public_key


def server_name(auth: TlsAuth, node_id: NodeId) -> str:
    """The name a client sends (SNI) when it dials ``node_id`` (PROTOCOL 8.4)."""
    if auth is TlsAuth.X509:
        return X509_SERVER_NAME
    return node_id.dnssec32 + ".iroh.invalid"


def encode_raw_public_key(node_id: NodeId) -> bytes:
    """The SubjectPublicKeyInfo of a node id, 44 bytes."""
    return SPKI_PREFIX + node_id.raw


def decode_raw_public_key(data: bytes) -> RawKeyCertificate:
    """The raw public key in ``data``. Raises RemoteProtocolError for anything but an Ed25519 key."""
    if len(data) != len(SPKI_PREFIX) + 32 or not data.startswith(SPKI_PREFIX):
        raise RemoteProtocolError("not an Ed25519 raw public key")
    return RawKeyCertificate(_node_id(data[len(SPKI_PREFIX) :]))


def make_certificate(secret_key: SecretKey, private_key: ec.EllipticCurvePrivateKey) -> x509.Certificate:
    """A self-signed certificate for ``private_key`` that ``secret_key`` vouches for."""
    spki = private_key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    signature = secret_key.sign(LIBP2P_PREFIX + spki)
    extension = b"\x30\x64\x04\x20" + secret_key.node_id.raw + b"\x04\x40" + signature
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "iroh")])
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(private_key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(_NOT_BEFORE)
        .not_valid_after(_NOT_AFTER)
        .add_extension(x509.UnrecognizedExtension(LIBP2P_OID, extension), critical=True)
    )
    return builder.sign(private_key, hashes.SHA256())


def decode_certificate(data: bytes) -> tuple[x509.Certificate, NodeId]:
    """The certificate in ``data`` and the node id that vouches for it; validity dates are not looked at.

    Raises RemoteProtocolError for a certificate that does not parse, is not signed by itself, has another
    critical extension, or whose libp2p extension is missing or does not verify.
    """
    if len(data) > MAX_CERTIFICATE_SIZE:
        raise RemoteProtocolError(f"a certificate of {len(data)} bytes")
    try:
        with warnings.catch_warnings():
            # What cryptography only deprecates, such as a negative serial number, is the peer's fault too.
            warnings.simplefilter("error", CryptographyDeprecationWarning)
            certificate = x509.load_der_x509_certificate(data)
            certificate.verify_directly_issued_by(certificate)
            extension = _libp2p_extension(certificate)
            public_key = certificate.public_key()
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm) as error:
        raise RemoteProtocolError("the certificate does not parse or is not self-signed") from error
    except _CERTIFICATE_ERRORS as error:
        raise RemoteProtocolError("the certificate has extensions or a version that do not parse") from error
    if not isinstance(public_key, ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey):
        raise RemoteProtocolError("the certificate is for a kind of key that iroh does not use")
    node_id = _node_id(extension[4:36])
    spki = public_key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    if not node_id.verify(extension[38:], LIBP2P_PREFIX + spki):
        raise RemoteProtocolError("the node id did not sign this certificate")
    return certificate, node_id


def _libp2p_extension(certificate: x509.Certificate) -> bytes:
    """The value of the libp2p extension, checked for its shape."""
    value = b""
    for extension in certificate.extensions:
        if extension.oid == LIBP2P_OID and isinstance(extension.value, x509.UnrecognizedExtension):
            value = extension.value.value
        elif extension.critical:
            raise RemoteProtocolError(f"an unknown critical extension {extension.oid.dotted_string}")
    if len(value) != 102 or value[:4] != b"\x30\x64\x04\x20" or value[36:38] != b"\x04\x40":
        raise RemoteProtocolError("the libp2p extension is missing or malformed")
    return value


def _node_id(raw: bytes) -> NodeId:
    """A node id from bytes of a peer."""
    try:
        return NodeId(raw)
    except ValueError as error:
        raise RemoteProtocolError("not an Ed25519 public key") from error
