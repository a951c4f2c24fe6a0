"""The TLS 1.3 handshake between nodes: mutual authentication by node id on top of aioquic's TLS context.

aioquic knows neither raw public keys (RFC 7250) nor client certificates that a server insists on. Both are
added here by overriding the places where a message is handled; nothing of the key schedule is touched.

A server decides per client: a ClientHello that offers raw public keys is answered with one, a ClientHello
without the certificate type extensions with the X.509 certificate. So one listener serves iroh 0.28 and 0.35.
"""

from __future__ import annotations

from typing import Any, cast

from aioquic import tls
from aioquic._buffer import Buffer
from cryptography import x509

from iroh_py.errors import IdentityMismatchError, RemoteProtocolError
from iroh_py.keys import NodeId
from iroh_py.proto.tls import Credentials, TlsAuth, decode_certificate, decode_raw_public_key

#: RFC 7250 section 7.1.
CLIENT_CERTIFICATE_TYPE = 19
SERVER_CERTIFICATE_TYPE = 20
RAW_PUBLIC_KEY = 2
#: A ClientHello carries a list with its length before it, EncryptedExtensions the one type that was chosen.
OFFERED_TYPES = bytes((1, RAW_PUBLIC_KEY))
CHOSEN_TYPE = bytes((RAW_PUBLIC_KEY,))

#: The schemes of the original (PROTOCOL 8.1), in the order of what we sign with.
SIGNATURE_SCHEMES = [
    tls.SignatureAlgorithm.ED25519,
    tls.SignatureAlgorithm.ECDSA_SECP256R1_SHA256,
    tls.SignatureAlgorithm.ECDSA_SECP384R1_SHA384,
]


class AlertCertificateRequired(tls.Alert):
    """The client presented no certificate (RFC 8446 section 6.2)."""

    description = tls.AlertDescription.certificate_required


class AlertUnsupportedExtension(tls.Alert):
    """The server answered an extension that was not offered."""

    description = tls.AlertDescription.unsupported_extension


class NodeContext(tls.Context):
    """A TLS context that has to learn the peer's node id. Made by changing the class of aioquic's own
    context.

    ``peer_id`` is proven once the handshake is complete, not before.
    """

    credentials: Credentials
    auth: TlsAuth
    expected: NodeId | None
    peer_id: NodeId | None
    mismatch: IdentityMismatchError | None

    @classmethod
    def adopt(
        cls, context: tls.Context, credentials: Credentials, auth: TlsAuth, expected: NodeId | None
    ) -> NodeContext:
        """Turn a fresh aioquic context into one of these; ``expected`` is the node dialled, None for a
        server.
        """
        context.__class__ = cls
        node = cast(NodeContext, context)
        node.credentials = credentials
        node.expected = expected
        node.peer_id = None
        node.mismatch = None
        node._request_client_certificate = True
        # The other groups would cost three more key generations for every ClientHello.
        node._supported_groups = [tls.Group.X25519]
        node._signature_algorithms = list(SIGNATURE_SCHEMES)
        if expected is not None:
            node._present(auth)
            if auth is TlsAuth.RAW_PUBLIC_KEY:
                node._announce(OFFERED_TYPES)
        return node

    def _present(self, auth: TlsAuth) -> None:
        """Use the identity of this kind from now on."""
        self.auth = auth
        identity = self.credentials.identity(auth)
        self.certificate = cast(x509.Certificate, identity.certificate)
        self.certificate_private_key = identity.private_key

    def _announce(self, types: bytes) -> None:
        """Add both certificate type extensions to the message that this side sends."""
        self.handshake_extensions = [
            *self.handshake_extensions,
            (CLIENT_CERTIFICATE_TYPE, types),
            (SERVER_CERTIFICATE_TYPE, types),
        ]

    def _server_handle_hello(self, input_buf: Buffer, initial_buf: Buffer, handshake_buf: Buffer) -> None:
        # aioquic picks the signature scheme before any callback, so the choice is made on a look ahead.
        auth = _auth_of(tls.pull_client_hello(Buffer(data=input_buf.data_slice(0, input_buf.capacity))))
        self._present(auth)
        if auth is TlsAuth.RAW_PUBLIC_KEY:
            self._announce(CHOSEN_TYPE)
        super()._server_handle_hello(input_buf, initial_buf, handshake_buf)

    def _server_handle_certificate(self, input_buf: Buffer) -> None:
        super()._server_handle_certificate(input_buf)
        if self.peer_id is None:
            raise AlertCertificateRequired("a client has to prove its node id")

    def _client_handle_encrypted_extensions(self, input_buf: Buffer) -> None:
        super()._client_handle_encrypted_extensions(input_buf)
        received = dict(self.received_extensions or ())
        types = received.get(CLIENT_CERTIFICATE_TYPE), received.get(SERVER_CERTIFICATE_TYPE)
        if self.auth is TlsAuth.RAW_PUBLIC_KEY and types != (CHOSEN_TYPE, CHOSEN_TYPE):
            raise tls.AlertUnsupportedCertificate("the server does not use raw public keys")
        if self.auth is TlsAuth.X509 and types != (None, None):
            raise AlertUnsupportedExtension("the server chose a certificate type that was not offered")

    def _client_handle_certificate(self, input_buf: Buffer) -> None:
        if self._certificate_request is None:
            raise tls.AlertHandshakeFailure("the server does not ask who we are")
        super()._client_handle_certificate(input_buf)

    def _set_peer_certificate(self, certificate: tls.Certificate) -> None:
        if len(certificate.certificates) != 1:
            raise tls.AlertBadCertificate("not exactly one certificate")
        data = certificate.certificates[0][0]
        peer: Any
        try:
            if self.auth is TlsAuth.RAW_PUBLIC_KEY:
                peer = decode_raw_public_key(data)
                node_id = peer.node_id
            else:
                peer, node_id = decode_certificate(data)
        except RemoteProtocolError as error:
            raise tls.AlertBadCertificate(str(error)) from error
        if self.expected is not None and node_id != self.expected:
            self.mismatch = IdentityMismatchError(f"dialled {self.expected}, but {node_id} answered")
            raise tls.AlertBadCertificate("another node id than the one dialled")
        self._peer_certificate = peer
        self._peer_certificate_chain = []
        self.peer_id = node_id


def _auth_of(hello: tls.ClientHello) -> TlsAuth:
    """How the client wants both sides to authenticate. Raises an alert for a mixture."""
    offered = dict(hello.other_extensions)
    ours, theirs = offered.get(SERVER_CERTIFICATE_TYPE), offered.get(CLIENT_CERTIFICATE_TYPE)
    if ours is None and theirs is None:
        return TlsAuth.X509
    if _offers_raw_public_key(ours) and _offers_raw_public_key(theirs):
        return TlsAuth.RAW_PUBLIC_KEY
    raise tls.AlertUnsupportedCertificate("raw public keys have to be offered for both sides")


def _offers_raw_public_key(types: bytes | None) -> bool:
    return (
        types is not None and len(types) >= 2 and types[0] == len(types) - 1 and RAW_PUBLIC_KEY in types[1:]
    )
