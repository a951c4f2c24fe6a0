"""Why a connection ended, as one of our exceptions."""

from __future__ import annotations

from aioquic import tls
from aioquic.quic.packet import QuicErrorCode

from iroh_py.errors import AlpnMismatchError, IrohError, PeerClosedError, TransportError
from iroh_py.proto.quic.engine import Engine

#: TLS alerts travel as transport errors of this range (RFC 9001 section 4.8).
NO_APPLICATION_PROTOCOL = QuicErrorCode.CRYPTO_ERROR + tls.AlertDescription.no_application_protocol


def closing_error(engine: Engine) -> IrohError:
    """The error of a connection that was ended by the peer, or by us because the peer broke a rule."""
    context = engine.node_context
    if context is not None and context.mismatch is not None:
        return context.mismatch
    event = engine._close_event
    assert event is not None, "asked only once the connection is over"
    code, reason = int(event.error_code), event.reason_phrase
    by_peer = engine.closed_by_peer
    if code == NO_APPLICATION_PROTOCOL and event.frame_type is not None:
        offered = ", ".join(engine.configuration.alpn_protocols or ())
        return AlpnMismatchError(f"no common application protocol; this side speaks: {offered}")
    if by_peer and (event.frame_type is None or code == QuicErrorCode.NO_ERROR):
        return PeerClosedError(reason or "the peer closed the connection", code=code, by_peer=True)
    return TransportError(reason or _name(code), code=code, by_peer=by_peer)


def _name(code: int) -> str:
    """The name of a transport error code (RFC 9000 section 20.1)."""
    if QuicErrorCode.CRYPTO_ERROR <= code < QuicErrorCode.CRYPTO_ERROR + 256:
        alert = code - QuicErrorCode.CRYPTO_ERROR
        known = {int(item): item.name for item in tls.AlertDescription}
        return f"TLS alert {known.get(alert, alert)}"
    try:
        return QuicErrorCode(code).name
    except ValueError:
        return f"QUIC error 0x{code:x}"
