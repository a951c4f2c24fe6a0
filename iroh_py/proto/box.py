"""The authenticated encryption of disco: NaCl's crypto_box construction over XChaCha20 and Poly1305.

PROTOCOL 2.2. This is libsodium's ``crypto_box_curve25519xchacha20poly1305`` after its key agreement, which
PyNaCl does not bind; it is *not* the IETF AEAD of a similar name (no padding, no length block, the message
starts in the first block). So it is put together here from the ChaCha20 and Poly1305 of ``cryptography``.
"""

from __future__ import annotations

import hmac
import struct

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms
from cryptography.hazmat.primitives.poly1305 import Poly1305

KEY_SIZE = 32
NONCE_SIZE = 24
TAG_SIZE = 16

_WORDS = struct.Struct("<4I")
_KEY = struct.Struct("<8I")
#: The words "expand 32-byte k" that ChaCha20 puts in front of its state.
_SIGMA = _WORDS.unpack(b"expand 32-byte k")
_ZERO_BLOCK = bytes(64)
_ZERO_COUNTER = bytes(8)
_ZERO_OTK = bytes(32)


def hchacha20(key: bytes, block: bytes) -> bytes:
    """Derive a 32-byte key from a 32-byte key and a 16-byte input (draft-irtf-cfrg-xchacha section 2.2).

    A ChaCha20 block is the permuted state plus the first state; HChaCha20 wants the permuted state alone,
    so the first state is subtracted again from the eight words that are kept.
    """
    stream = Cipher(algorithms.ChaCha20(key, block), None).encryptor().update(_ZERO_BLOCK)
    head, tail, first = _WORDS.unpack_from(stream, 0), _WORDS.unpack_from(stream, 48), _WORDS.unpack(block)
    words = [(a - b) & 0xFFFFFFFF for a, b in zip(head + tail, _SIGMA + first, strict=True)]
    return _KEY.pack(*words)


def _stream(key: bytes, nonce: bytes, data: bytes) -> tuple[bytes, bytes]:
    """The one-time Poly1305 key, and ``data`` under the key stream that follows it."""
    counter_and_nonce = _ZERO_COUNTER + nonce[16:]
    cipher = Cipher(algorithms.ChaCha20(hchacha20(key, nonce[:16]), counter_and_nonce), None)
    output = cipher.encryptor().update(_ZERO_OTK + data)
    return output[:32], output[32:]


def seal(key: bytes, nonce: bytes, plaintext: bytes) -> bytes:
    """Encrypt.

    The 16-byte tag, then the ciphertext. A nonce (24 bytes) must never come twice under one key.
    """
    one_time_key, ciphertext = _stream(key, nonce, plaintext)
    return Poly1305.generate_tag(one_time_key, ciphertext) + ciphertext


def unseal(key: bytes, nonce: bytes, boxed: bytes) -> bytes | None:
    """Decrypt what :func:`seal` made; None if the key is another one or a bit was changed."""
    ciphertext = boxed[TAG_SIZE:]
    one_time_key, plaintext = _stream(key, nonce, ciphertext)
    if not hmac.compare_digest(Poly1305.generate_tag(one_time_key, ciphertext), boxed[:TAG_SIZE]):
        return None
    return plaintext
