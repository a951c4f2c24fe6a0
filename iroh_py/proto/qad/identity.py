"""The certificate of an address discovery server: the same one that the relay's HTTPS shows."""

from __future__ import annotations

from dataclasses import dataclass

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from iroh_py.errors import LocalProtocolError

PrivateKey = ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | rsa.RSAPrivateKey


@dataclass(frozen=True, slots=True)
class QadIdentity:
    """A certificate chain, the server's own first, and the key of its first certificate."""

    chain: tuple[x509.Certificate, ...]
    private_key: PrivateKey

    @classmethod
    def from_pem(cls, certificates: bytes, private_key: bytes) -> QadIdentity:
        """Out of two PEM files' contents; the key is not encrypted.

        Raises LocalProtocolError if they are none, or of a kind that TLS 1.3 servers do not use.
        """
        try:
            chain = x509.load_pem_x509_certificates(certificates)
            key = load_pem_private_key(private_key, None)
        except (ValueError, TypeError) as error:
            raise LocalProtocolError(f"no certificate and key in PEM: {error}") from error
        if not isinstance(key, ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | rsa.RSAPrivateKey):
            raise LocalProtocolError(f"a {type(key).__name__} cannot sign in TLS 1.3")
        if chain[0].public_key() != key.public_key():
            raise LocalProtocolError("the private key is not that of the first certificate")
        return cls(tuple(chain), key)
