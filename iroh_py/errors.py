"""Every exception of iroh_py.

::

    IrohError
    |- ProtocolError                  (abstract: catch it, never raise it)
    |  |- LocalProtocolError          you asked for something the protocol cannot do
    |  `- RemoteProtocolError         the peer, or a stranger, sent bytes that break the rules
    |     |- DiscoError  StunError  RelayError  TicketError  DiscoveryError  PortmapError
    |- ConnectError                   no connection came to be
    |  |- NoAddressError              nothing known of where the node is
    |  |- ConnectTimeoutError         (also TimeoutError) nobody answered in time
    |  |- IdentityMismatchError       somebody else answered
    |  |- AlpnMismatchError           the peer speaks no protocol that we offered
    |  `- SelfConnectError            a node cannot dial itself
    |- ConnectionLostError            it was there and is gone
    |  |- TimedOutError               (also TimeoutError) nothing arrived for the idle timeout
    |  |- PeerClosedError             the peer closed it, with its code and reason
    |  `- TransportError              QUIC failed, with code and reason
    |- StreamError
    |  |- StreamResetError            the peer gave up sending (code)
    |  `- StreamStoppedError          the peer does not want to receive (code)
    |- BindError                      no UDP socket could be opened
    `- ClosedError                    you closed it yourself
"""

from __future__ import annotations


class IrohError(Exception):
    """The root of every exception that iroh_py raises on purpose."""


class ProtocolError(IrohError):
    """A rule of a protocol was broken; raised only as one of its two subclasses."""

    def __init__(self, message: str = "") -> None:
        if type(self) is ProtocolError:
            raise TypeError("raise LocalProtocolError or RemoteProtocolError, not ProtocolError")
        super().__init__(message)


class LocalProtocolError(ProtocolError):
    """The caller asked for something that the protocol cannot do."""


class RemoteProtocolError(ProtocolError):
    """Bytes from outside broke the rules; the only exception a decoder of untrusted bytes raises."""


class DiscoError(RemoteProtocolError):
    """A disco packet does not open, or its content does not parse."""


class StunError(RemoteProtocolError):
    """A STUN message does not parse."""


class RelayError(RemoteProtocolError):
    """A relay frame or handshake breaks the relay protocol."""


class TicketError(RemoteProtocolError, ValueError):
    """A ticket, node id, relay URL or address text does not parse."""


class DiscoveryError(RemoteProtocolError):
    """A discovery record (DNS TXT, pkarr packet, local announcement) does not parse or verify."""


class PortmapError(RemoteProtocolError):
    """A PCP, NAT-PMP or UPnP answer does not parse."""


class ConnectError(IrohError):
    """No connection came to be."""


class NoAddressError(ConnectError):
    """Nothing is known of where the node is: no relay URL, no address, no discovery result."""


class ConnectTimeoutError(ConnectError, TimeoutError):
    """Nobody answered within the time given to connect."""


class IdentityMismatchError(ConnectError):
    """A node answered, but it could not prove to be the node id that was dialled."""


class AlpnMismatchError(ConnectError):
    """The peer does not speak the application protocol (ALPN) that was asked for."""


class SelfConnectError(ConnectError):
    """A node cannot dial itself."""


class ConnectionLostError(IrohError):
    """The connection existed and is gone.

    ``code`` is the QUIC error or application close code (None for a timeout), ``reason`` a sentence,
    ``by_peer`` whether the peer ended it.
    """

    def __init__(self, reason: str, *, code: int | None = None, by_peer: bool = False) -> None:
        super().__init__(reason if code is None else f"{reason} (code {code})")
        self.reason = reason
        self.code = code
        self.by_peer = by_peer


class TimedOutError(ConnectionLostError, TimeoutError):
    """Nothing arrived from the peer for the whole idle timeout, over any path."""


class PeerClosedError(ConnectionLostError):
    """The peer's application closed the connection; ``code`` and ``reason`` are what it gave."""


class TransportError(ConnectionLostError):
    """QUIC itself failed; ``code`` is its transport error code (RFC 9000 section 20)."""


class StreamError(IrohError):
    """One direction of a stream ended before its end."""

    def __init__(self, message: str, *, code: int) -> None:
        super().__init__(f"{message} (code {code})")
        self.code = code


class StreamResetError(StreamError):
    """The peer abandoned sending on this stream (RESET_STREAM)."""


class StreamStoppedError(StreamError):
    """The peer no longer reads this stream (STOP_SENDING)."""


class BindError(IrohError):
    """No UDP socket could be opened at the address asked for."""


class ClosedError(IrohError):
    """The endpoint, connection or stream was closed by this side before."""
