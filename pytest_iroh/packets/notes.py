"""Packets in words: for failures, and for comments in capture files (Wireshark knows no disco)."""

from __future__ import annotations

from iroh_py.errors import DiscoError, StunError
from iroh_py.proto import disco, stun
from netns_fixtures.tap import Frame
from pytest_iroh.packets.keyring import KEYRING
from pytest_iroh.packets.views import View, view


def annotate(frame: Frame) -> str | None:
    """What a disco or STUN packet says; None for all others. For ``Capture.save(annotate=...)``."""
    seen = view(frame.data)
    return content_text(seen.payload, seen.content) if seen.content in ("disco", "stun") else None


def describe(frame: Frame) -> str:
    """A frame in half a line."""
    seen = view(frame.data)
    more = content_text(seen.payload, seen.content)
    direction = "sent" if frame.outgoing else "got"
    return f"{frame.where} {direction} {route(seen)}, {frame.length} bytes" + (f", {more}" if more else "")


def route(seen: View) -> str:
    """From where to where, "udp 192.168.1.10:4000 > 198.18.1.10:4000"."""
    if not seen.version:
        return seen.protocol
    if not seen.sport and not seen.dport:
        return f"{seen.protocol} {seen.src} > {seen.dst}"
    return f"{seen.protocol} {_addr(seen.src, seen.sport)} > {_addr(seen.dst, seen.dport)}"


def content_text(payload: bytes, content: str) -> str:
    """What a datagram says, as far as it can be read."""
    if content == "disco":
        return _disco(payload)
    if content == "stun":
        return _stun(payload)
    return content


def _disco(payload: bytes) -> str:
    try:
        sender = disco.parse_sender(payload).fmt_short()
    except DiscoError as error:
        return f"bad disco packet ({error})"
    plaintext = KEYRING.open(payload)
    if plaintext is None:
        return f"sealed disco packet from {sender}"
    try:
        return f"{_message(disco.decode(plaintext))} from {sender}"
    except DiscoError as error:
        return f"disco message that does not parse ({error}) from {sender}"


def _message(message: disco.Message) -> str:
    match message:
        case disco.Ping(tx_id=tx_id):
            return f"disco ping {tx_id[:4].hex()}"
        case disco.Pong(tx_id=tx_id, observed=observed):
            seen = _addr(*observed) if isinstance(observed, tuple) else str(observed)
            return f"disco pong {tx_id[:4].hex()}, seen from {seen},"
        case disco.CallMeMaybe(addresses=addresses):
            return "disco call-me-maybe " + ", ".join(_addr(*address) for address in addresses)


def _stun(payload: bytes) -> str:
    try:
        return f"STUN request {stun.parse_request(payload)[:4].hex()}"
    except StunError:
        pass  # then it is a response
    try:
        tx_id, mapped = stun.parse_response(payload)
    except StunError as error:
        return f"STUN message that does not parse ({error})"
    return f"STUN response {tx_id[:4].hex()}: you are {_addr(*mapped)}"


def _addr(ip: str, port: int) -> str:
    return f"[{ip}]:{port}" if ":" in ip else f"{ip}:{port}"
