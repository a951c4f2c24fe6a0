"""Who a node is: Ed25519 key pairs, and the public key as the node's id (PROTOCOL 1.1, 1.2)."""

from __future__ import annotations

import functools
import hmac
import os
import re
from dataclasses import dataclass

from nacl import bindings
from nacl.exceptions import BadSignatureError

from iroh_py.errors import TicketError
from iroh_py.proto import base32
from iroh_py.proto.box import hchacha20

KEY_SIZE = 32
SIGNATURE_SIZE = 64

_HEX = re.compile(r"[0-9a-fA-F]{64}", re.ASCII)
#: 32 bytes in any base-32 alphabet.
_BASE32_LENGTH = 52
#: Checking a point costs about 100 us and strangers choose the keys that we look at, so the memory is
#: bounded.
_CACHED_KEYS = 4096


@functools.lru_cache(maxsize=_CACHED_KEYS)
def _is_point(raw: bytes) -> bool:
    return bindings.crypto_core_ed25519_is_valid_point(raw)


@functools.lru_cache(maxsize=_CACHED_KEYS)
def _montgomery(raw: bytes) -> bytes:
    return bindings.crypto_sign_ed25519_pk_to_curve25519(raw)


def _bytes_of(text: str, what: str) -> bytes:
    """The 32 bytes of a key written as 64 hex digits or 52 base32 characters, in any letter case."""
    if len(text) == 2 * KEY_SIZE:
        if not _HEX.fullmatch(text):
            raise TicketError(f"{what} of 64 characters is not hexadecimal")
        return bytes.fromhex(text)
    if len(text) != _BASE32_LENGTH:
        raise TicketError(f"{what} has {len(text)} characters, not 64 (hexadecimal) or 52 (base32)")
    return base32.decode(text)


@dataclass(frozen=True, slots=True, order=True, repr=False)
class NodeId:
    """A node's identity: its Ed25519 public key, 32 bytes in ``raw``.

    Raises TicketError for bytes that are no point of the prime-order group: nobody can hold the secret key of
    such an id, and a signature by it proves nothing.
    """

    raw: bytes

    def __post_init__(self) -> None:
        if len(self.raw) != KEY_SIZE:
            raise TicketError(f"a node id has {KEY_SIZE} bytes, not {len(self.raw)}")
        if not _is_point(self.raw):
            raise TicketError(f"{self.raw.hex()[:10]}... is no Ed25519 public key")

    @classmethod
    def parse(cls, text: str) -> NodeId:
        """Read 64 hex digits (iroh 0.30 and later) or 52 base32 characters (before). Raises TicketError."""
        return cls(_bytes_of(text, "a node id"))

    @classmethod
    def from_z32(cls, text: str) -> NodeId:
        """Read the z-base-32 form of DNS names and pkarr paths. Raises TicketError."""
        if len(text) != _BASE32_LENGTH:
            raise TicketError(f"a z-base-32 node id has {_BASE32_LENGTH} characters, not {len(text)}")
        return cls(base32.decode(text, base32.ZBASE32))

    # Node ids are keys of nearly every map; the hash of bytes is computed once per object.
    def __hash__(self) -> int:
        return hash(self.raw)

    def __str__(self) -> str:
        return self.raw.hex()

    def __repr__(self) -> str:
        return f"NodeId({self.fmt_short()})"

    @property
    def base32(self) -> str:
        """52 characters of RFC 4648 base32: the text form of iroh before 0.30, and of mDNS labels."""
        return base32.encode(self.raw)

    @property
    def z32(self) -> str:
        """52 characters of z-base-32: the form in DNS names and pkarr paths."""
        return base32.encode(self.raw, base32.ZBASE32)

    @property
    def dnssec32(self) -> str:
        """52 characters of base32hex: the form in TLS server names."""
        return base32.encode(self.raw, base32.DNSSEC)

    def fmt_short(self) -> str:
        """The first 10 hex digits, for logs and people."""
        return self.raw[:5].hex()

    def verify(self, signature: bytes, message: bytes) -> bool:
        """Whether this node signed ``message`` (64-byte Ed25519 signature, strict rules, RFC 8032)."""
        if len(signature) != SIGNATURE_SIZE:
            return False
        try:
            bindings.crypto_sign_open(signature + message, self.raw)
        except BadSignatureError:
            return False
        return True

    def x25519(self) -> bytes:
        """The same key as an X25519 public key, 32 bytes (PROTOCOL 1.2)."""
        return _montgomery(self.raw)


PublicKey = NodeId


class SecretKey:
    """A node's secret: the 32-byte Ed25519 seed of RFC 8032. It appears in no ``repr`` and no ``str``.

    Raises TicketError unless the seed has 32 bytes.
    """

    __slots__ = ("_scalar", "_signing", "node_id", "seed")

    def __init__(self, seed: bytes) -> None:
        if len(seed) != KEY_SIZE:
            raise TicketError(f"a secret key has {KEY_SIZE} bytes, not {len(seed)}")
        public, self._signing = bindings.crypto_sign_seed_keypair(seed)
        self._scalar = bindings.crypto_sign_ed25519_sk_to_curve25519(self._signing)
        self.seed = seed
        self.node_id = NodeId(public)

    @classmethod
    def generate(cls) -> SecretKey:
        """A new key from the operating system's random numbers."""
        return cls(os.urandom(KEY_SIZE))

    @classmethod
    def parse(cls, text: str) -> SecretKey:
        """Read 64 hex digits or 52 base32 characters. Raises TicketError."""
        try:
            seed = _bytes_of(text, "a secret key")
        except TicketError:
            # The cause would name a character and its place; nothing of a secret may leak into a log.
            raise TicketError("a secret key is 64 hexadecimal digits or 52 base32 characters") from None
        return cls(seed)

    def to_text(self) -> str:
        """The secret as 64 hex digits; keep it to yourself."""
        return self.seed.hex()

    def __repr__(self) -> str:
        return f"SecretKey(of {self.node_id.fmt_short()})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SecretKey) and hmac.compare_digest(self.seed, other.seed)

    def __hash__(self) -> int:
        return hash(self.node_id)

    def __reduce__(self) -> tuple[type[SecretKey], tuple[bytes]]:
        return SecretKey, (self.seed,)

    def sign(self, message: bytes) -> bytes:
        """The 64-byte Ed25519 signature of a message (RFC 8032, no prehash, no context)."""
        return bindings.crypto_sign(message, self._signing)[:SIGNATURE_SIZE]

    def box_key(self, node_id: NodeId) -> bytes:
        """The 32-byte key shared with a node, which seals disco packets in both directions (PROTOCOL 2.2).

        Costs about 60 us: keep it per peer.
        """
        shared = bindings.crypto_scalarmult(self._scalar, node_id.x25519())
        return hchacha20(shared, bytes(16))
