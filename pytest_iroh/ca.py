"""A certificate authority of a test's own: relays get certificates, and endpoints trust it by option."""

from __future__ import annotations

import datetime
import ipaddress
import ssl
import tempfile
from collections.abc import Iterable
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

#: Valid from a day before, for hosts whose clocks differ; nothing of a test lives longer than a month.
_BEFORE = datetime.timedelta(days=1)
_AFTER = datetime.timedelta(days=30)
#: A common name has at most 64 characters (X.520).
_MAX_COMMON_NAME = 64
#: Every authority's name has this length, so that it can take the place of a built-in root of the official
#: bindings in their memory (``official/trust.py``). A DER name of one common name has 11 bytes more.
_AUTHORITY_NAME = 46
#: What comes before the content of a short DER sequence.
_DER_HEAD = 2


class CertificateAuthority:
    """Issues server certificates. Its own key exists in memory only (P-256, made in under a millisecond)."""

    def __init__(self, name: str = "pytest-iroh lab") -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._subject = _name(_authority_name(name))
        public = self._key.public_key()
        self._certificate = (
            _builder(self._subject, self._subject, public)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_usage(authority=True), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
            .sign(self._key, hashes.SHA256())
        )

    @property
    def pem(self) -> str:
        """The authority's certificate, for programs that want it in a file."""
        return self._certificate.public_bytes(serialization.Encoding.PEM).decode()

    @property
    def subject(self) -> bytes:
        """Its name in DER, without the outer SEQUENCE (57 bytes)."""
        return self._subject.public_bytes()[_DER_HEAD:]

    @property
    def public_point(self) -> bytes:
        """Its public key: an uncompressed point of P-256 (65 bytes)."""
        return self._key.public_key().public_bytes(
            serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint
        )

    def client_context(self) -> ssl.SSLContext:
        """A TLS context that trusts this authority, and no other."""
        return ssl.create_default_context(cadata=self.pem)

    def server_context(self, names: Iterable[str]) -> ssl.SSLContext:
        """A TLS context with a fresh certificate for these host names and IP addresses."""
        return server_context(*self.issue_pem(names))

    def issue(self, names: Iterable[str], folder: Path) -> tuple[Path, Path]:
        """Write a fresh certificate for these names and its key into a folder; returns both paths (PEM)."""
        certificate_path, key_path = folder / "server.crt", folder / "server.key"
        certificate, key = self.issue_pem(names)
        certificate_path.write_bytes(certificate)
        key_path.touch(mode=0o600)
        key_path.write_bytes(key)
        return certificate_path, key_path

    def issue_pem(self, names: Iterable[str]) -> tuple[bytes, bytes]:
        """A fresh certificate for these names, and its key, in PEM."""
        alternatives = [_general_name(name) for name in names]
        key = ec.generate_private_key(ec.SECP256R1())
        public = key.public_key()
        certificate = (
            _builder(_name(str(alternatives[0].value)), self._subject, public)
            .add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(authority=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False
            )
            .sign(self._key, hashes.SHA256())
        )
        private = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        return certificate.public_bytes(serialization.Encoding.PEM), private


def server_context(certificate: bytes, key: bytes) -> ssl.SSLContext:
    """A TLS context of a server that shows this certificate (both PEM)."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    with tempfile.TemporaryDirectory(prefix="pytest-iroh-") as folder:  # OpenSSL reads files only
        path = Path(folder, "server.pem")
        path.touch(mode=0o600)
        path.write_bytes(key + certificate)
        context.load_cert_chain(path)
    return context


def _builder(
    subject: x509.Name, issuer: x509.Name, public: ec.EllipticCurvePublicKey
) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _BEFORE)
        .not_valid_after(now + _AFTER)
    )


def _authority_name(name: str) -> str:
    """A name of the length that every authority has; the end of the name given is the first to go."""
    suffix = " authority"
    plain = name.encode("ascii", "replace").decode()
    return f"{plain[: _AUTHORITY_NAME - len(suffix)]}{suffix}".ljust(_AUTHORITY_NAME, ".")


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text[:_MAX_COMMON_NAME])])


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name.removesuffix("."))


def _usage(*, authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=authority,
        crl_sign=authority,
        encipher_only=False,
        decipher_only=False,
    )
