"""Retry tokens: a client shows that it receives at its address, before it costs memory (RFC 9000 8.1.2).

Layout: seconds u32, length u8 and the client's first destination id, HMAC-SHA256 (32) over these, the id that the
Retry gave itself, and the client's address.
"""

from __future__ import annotations

import hashlib
import hmac
import struct

from iroh_py.network import Addr

#: Seconds that a token is good for: a round trip and a few repeats (the original's value, PROTOCOL.md 8.5).
LIFETIME = 15
_HEAD = struct.Struct(">IB")
_TAG = 32


class RetryTokens:
    """Makes and checks the tokens of one server; ``key`` is 32 secret bytes."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    def make(self, now: float, addr: Addr, original_cid: bytes, retry_cid: bytes) -> bytes:
        """A token for a client at this address."""
        head = _HEAD.pack(int(now) & 0xFFFFFFFF, len(original_cid)) + original_cid
        return head + self._tag(head, addr, retry_cid)

    def open(self, now: float, addr: Addr, token: bytes, retry_cid: bytes) -> bytes | None:
        """The client's first destination id, None for a token that is not ours, not the client's, or old."""
        head, tag = token[:-_TAG], token[-_TAG:]
        if len(head) < _HEAD.size or not hmac.compare_digest(tag, self._tag(head, addr, retry_cid)):
            return None
        made_at, length = _HEAD.unpack_from(head)
        original = head[_HEAD.size :]
        fresh = 0 <= (int(now) - made_at) & 0xFFFFFFFF <= LIFETIME
        return original if fresh and len(original) == length else None

    def _tag(self, head: bytes, addr: Addr, retry_cid: bytes) -> bytes:
        source = f"{addr[0]} {addr[1]}".encode()
        # The head says how long its id is, and the retry id's length stands before it: no two inputs join alike.
        text = b"%b%c%b%b" % (head, len(retry_cid), retry_cid, source)
        return hmac.new(self._key, text, hashlib.sha256).digest()
