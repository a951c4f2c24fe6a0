"""Secret keys that tests know, and disco packets opened with them."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from iroh_py.errors import DiscoError
from iroh_py.keys import NodeId, SecretKey
from iroh_py.proto import disco

#: Keys of one test; the oldest is forgotten beyond.
MAX_KEYS = 1024
#: Node ids seen as senders: strangers choose them.
MAX_SENDERS = 1024
#: Shared keys; each costs 60 us to make again.
MAX_SHARED = 16_384


class Keyring:
    """Opens disco packets between nodes of which at least one secret key is known. Safe to use from
    threads.
    """

    def __init__(self) -> None:
        self._secrets: OrderedDict[NodeId, SecretKey] = OrderedDict()
        self._senders: OrderedDict[NodeId, None] = OrderedDict()
        self._shared: OrderedDict[tuple[NodeId, NodeId], bytes] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._secrets)

    def add(self, *keys: SecretKey) -> None:
        """Know these keys from now on."""
        with self._lock:
            for key in keys:
                self._secrets[key.node_id] = key
                _trim(self._secrets, MAX_KEYS)

    def remove(self, *keys: SecretKey) -> None:
        """Forget these keys."""
        with self._lock:
            for key in keys:
                self._secrets.pop(key.node_id, None)
            self._shared.clear()

    def open(self, packet: bytes) -> bytes | None:
        """The plaintext of a disco packet; None if it is none, or no key that we know opens it."""
        try:
            sender = disco.parse_sender(packet)
        except DiscoError:
            return None
        with self._lock:
            self._senders[sender] = None
            _trim(self._senders, MAX_SENDERS)
            for secret, peer in self._candidates(sender):
                try:
                    return disco.open(self._shared_key(secret, peer), packet)
                except DiscoError:
                    continue  # it was sealed for somebody else
        return None

    def _candidates(self, sender: NodeId) -> list[tuple[SecretKey, NodeId]]:
        """Who may have sealed it for whom: the sender's key opens it with any receiver's id, and vice
        versa.
        """
        found = [(secret, sender) for node, secret in self._secrets.items() if node != sender]
        own = self._secrets.get(sender)
        if own is not None:
            found += [(own, peer) for peer in self._senders if peer != sender and peer not in self._secrets]
        return found

    def _shared_key(self, secret: SecretKey, peer: NodeId) -> bytes:
        pair = (secret.node_id, peer)
        key = self._shared.get(pair)
        if key is None:
            key = self._shared[pair] = secret.box_key(peer)
            _trim(self._shared, MAX_SHARED)
        return key


#: What ``Disco`` layers, filters and annotations open packets with.
KEYRING = Keyring()


def register_keys(*keys: SecretKey) -> Callable[[], None]:
    """Open disco packets of these nodes from now on; returns what forgets the keys again."""
    KEYRING.add(*keys)
    return lambda: KEYRING.remove(*keys)


def _trim(table: OrderedDict[Any, Any], limit: int) -> None:
    while len(table) > limit:
        table.popitem(last=False)
