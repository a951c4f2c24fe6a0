"""What the sans-IO core asks its surroundings to do; handlers return these, drivers act on them."""

from __future__ import annotations

from typing import NamedTuple

from iroh_py.proto.disco import CallMeMaybe, Ping, Pong
from iroh_py.proto.paths import Path


class SendDisco(NamedTuple):
    """Seal a disco message for the node and send it over a path."""

    path: Path
    message: Ping | Pong | CallMeMaybe


class OfferAddresses(NamedTuple):
    """Tell the node our direct addresses over its relay, once they are known to be fresh."""


class Kick(NamedTuple):
    """Tell QUIC that a path works (again): send what is due now, forget the back-off.

    ``reset``: the path is another one, so round-trip time and congestion state start afresh.
    """

    reset: bool


class SetMtu(NamedTuple):
    """UDP payloads of this many bytes fit the path in use."""

    size: int


Action = SendDisco | OfferAddresses | Kick | SetMtu
