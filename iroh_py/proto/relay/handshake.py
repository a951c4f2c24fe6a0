"""How a relay client proves who it is, in both generations (PROTOCOL.md 7.3 and 11.3).

Generation 3 signs a constant and gets no reply; 1.x signs a challenge. The TLS exporter shortcut of 1.x is
not offered: Python's ssl has no exporter, and the original accepts the challenge everywhere.
"""

from __future__ import annotations

import blake3

from iroh_py.errors import RelayError, TicketError
from iroh_py.keys import NodeId, SecretKey
from iroh_py.proto.relay.frames import ClientAuth, ClientInfo
from iroh_py.proto.relay.v3 import CLIENT_MESSAGE

_CHALLENGE_CONTEXT = "iroh-relay handshake v1 challenge signature"
#: What a generation 3 client that the access policy refuses is told in a Health frame.
V3_DENIED = "not authenticated"
V1_SIGNATURE_INVALID = "signature invalid"
V1_DENIED = "not authorized"


def client_info(secret: SecretKey) -> ClientInfo:
    """The first frame of a generation 3 client."""
    return ClientInfo(secret.node_id.raw, secret.sign(CLIENT_MESSAGE), CLIENT_MESSAGE)


def verify_client_info(info: ClientInfo) -> NodeId:
    """Who sent this. Raises RelayError for a bad key, signature or version."""
    node_id = _node_id(info.node_id)
    if not node_id.verify(info.signature, info.message):
        raise RelayError("ClientInfo with an invalid signature")
    if info.message != CLIENT_MESSAGE:
        raise RelayError("ClientInfo of an unsupported protocol version")
    return node_id


def challenge_message(challenge: bytes) -> bytes:
    """The 32 bytes that a 1.x client signs for a challenge of 16 bytes."""
    return blake3.blake3(challenge, derive_key_context=_CHALLENGE_CONTEXT).digest()


def client_auth(secret: SecretKey, challenge: bytes) -> ClientAuth:
    """The answer of a 1.x client to a challenge."""
    return ClientAuth(secret.node_id.raw, secret.sign(challenge_message(challenge)))


def verify_client_auth(auth: ClientAuth, challenge: bytes) -> NodeId:
    """Who answered this challenge. Raises RelayError for a bad key or signature."""
    node_id = _node_id(auth.node_id)
    if not node_id.verify(auth.signature, challenge_message(challenge)):
        raise RelayError(V1_SIGNATURE_INVALID)
    return node_id


def _node_id(raw: bytes) -> NodeId:
    try:
        return NodeId(raw)
    except TicketError as error:
        raise RelayError("the node id of a relay client is not a public key") from error
