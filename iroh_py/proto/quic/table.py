"""All QUIC sessions of one endpoint, found by the destination connection id of a datagram.

Sans-IO like the sessions. Addresses play no part: a packet from anywhere reaches its session if it carries
one of the session's ids, and whether it is genuine is decided by decrypting it.
"""

from __future__ import annotations

from collections.abc import Collection

from iroh_py.keys import NodeId, SecretKey
from iroh_py.proto.quic.config import MIN_MTU, QuicConfig
from iroh_py.proto.quic.engine import CID_LENGTH
from iroh_py.proto.quic.session import Session
from iroh_py.proto.tls import Credentials, TlsAuth

#: First byte of a long header: form and fixed bit, which is never greased (PROTOCOL 2.4), and the packet
#: type.
LONG_HEADER = 0x80
FIXED_BIT = 0x40
INITIAL_MASK = 0xF0
INITIAL = 0xC0
VERSION_1 = b"\x00\x00\x00\x01"
#: RFC 9000 section 7.2: what a client invents as the server's first id.
MIN_ORIGINAL_CID, MAX_CID = 8, 20


class SessionTable:
    """Routes datagrams to sessions and makes server sessions for clients.

    ``refused`` counts valid first packets that came while ``max_handshakes`` clients were still unproven.
    """

    def __init__(self, secret_key: SecretKey, config: QuicConfig) -> None:
        self.credentials = Credentials(secret_key)
        self.config = config
        self.refused = 0
        self._secret_key = secret_key
        self._routes: dict[bytes, Session] = {}
        self._ids: dict[Session, set[bytes]] = {}
        self._unproven: set[Session] = set()

    @property
    def sessions(self) -> Collection[Session]:
        """Every session that was not removed."""
        return self._ids.keys()

    def dial(
        self,
        now: float,
        node_id: NodeId,
        alpn: str,
        auth: TlsAuth = TlsAuth.RAW_PUBLIC_KEY,
        config: QuicConfig | None = None,
    ) -> Session:
        """A client session; its first packets are due in ``transmit``.

        Raises LocalProtocolError (bad ALPN).
        """
        session = Session.dial(
            now, self._secret_key, node_id, alpn, config or self.config, auth, credentials=self.credentials
        )
        self._add(session, ())
        return session

    def receive(self, now: float, datagram: bytes, accept: bool, ecn: int = 0) -> tuple[Session | None, bool]:
        """Hand a datagram to its session; with ``accept``, a client's first packet makes a new one.

        Returns the session (None for garbage) and what ``Session.receive`` said. Never raises.
        """
        cid = destination_cid(datagram)
        session = self._routes.get(cid)
        if session is not None:
            return session, session.receive(now, datagram, ecn)
        if accept and looks_like_first_packet(datagram):
            return self._accept(now, cid, datagram, ecn), False
        return None, False

    def find(self, datagram: bytes) -> Session | None:
        """The session that a datagram is for, if there is one."""
        return self._routes.get(destination_cid(datagram))

    def remove(self, session: Session) -> None:
        """Forget a session, best once it is ``drained``. Harmless if it is not here."""
        session.on_cids = None
        self._unproven.discard(session)
        for cid in self._ids.pop(session, ()):
            self._routes.pop(cid, None)

    def _accept(self, now: float, original_cid: bytes, datagram: bytes, ecn: int) -> Session | None:
        """A server session if the packet decrypts and there is room for one more handshake."""
        if not self.config.alpns or not self._has_room():
            self.refused += 1
            return None
        session = Session.accept(now, self.credentials, original_cid, self.config)
        session.receive(now, datagram, ecn)
        if not session.authenticated:
            return None
        self._add(session, (original_cid,))
        self._unproven.add(session)
        return session

    def _has_room(self) -> bool:
        if len(self._unproven) >= self.config.max_handshakes:
            self._unproven = {item for item in self._unproven if not (item.handshake_done or item.closed)}
        return len(self._unproven) < self.config.max_handshakes

    def _add(self, session: Session, extra: tuple[bytes, ...]) -> None:
        self._ids[session] = set()
        session.on_cids = lambda: self._update(session, extra)
        self._update(session, extra)

    def _update(self, session: Session, extra: tuple[bytes, ...]) -> None:
        """Make the routes of a session those of its present connection ids.

        The id that a client invented stays as long as the session: repeated first packets must not open
        another.
        """
        known = self._ids[session]
        current = {*session.cids(), *extra}
        for cid in known - current:
            self._routes.pop(cid, None)
        for cid in current - known:
            self._routes[cid] = session
        self._ids[session] = current


def destination_cid(datagram: bytes) -> bytes:
    """The destination connection id of a datagram's first packet; empty if it has none."""
    if not datagram:
        return b""
    if not datagram[0] & LONG_HEADER:
        return datagram[1 : 1 + CID_LENGTH]
    if len(datagram) < 6:
        return b""
    return datagram[6 : 6 + datagram[5]]


def looks_like_first_packet(datagram: bytes) -> bool:
    """Whether this may be a client's first Initial of QUIC version 1 (RFC 9000 sections 14.1, 17.2.2)."""
    return (
        len(datagram) >= MIN_MTU
        and datagram[0] & INITIAL_MASK == INITIAL
        and datagram[1:5] == VERSION_1
        and MIN_ORIGINAL_CID <= datagram[5] <= MAX_CID
    )
