"""The relay's side: any number of clients on one UDP socket, each told the address that it is seen at, sans-IO.

The owner feeds ``receive`` and ``handle_timeout``, then drains ``transmit``, and calls again at ``next_timeout``.
Datagrams are routed by connection id, so a client keeps its connection when its address changes, and is told the
new one with the next packet (that is how iroh 1.x notices a NAT that forgot it).
"""

from __future__ import annotations

import heapq
import itertools
import random
from dataclasses import dataclass, field
from typing import NamedTuple

from aioquic import tls
from aioquic._buffer import Buffer
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.events import HandshakeCompleted
from aioquic.quic.packet import QuicHeader, encode_quic_retry, pull_quic_header

from iroh_py.network import Addr
from iroh_py.proto.qad.engine import QadEngine
from iroh_py.proto.qad.identity import QadIdentity
from iroh_py.proto.qad.limits import QadCounters, QadLimits
from iroh_py.proto.qad.tokens import RetryTokens
from iroh_py.proto.qad.wire import ALPN, CLOSE_CODE, CLOSE_REASON, Role
from iroh_py.proto.quic.engine import CID_LENGTH
from iroh_py.proto.quic.table import VERSION_1, destination_cid, looks_like_first_packet
from iroh_py.proto.relay.token_bucket import TokenBucket

#: Bytes of the secret behind the retry tokens: those of the hash.
_KEY_LENGTH = 32
#: QUIC's name for version 1 as a number (RFC 9000 section 15).
_VERSION = int.from_bytes(VERSION_1)


class Source(NamedTuple):
    """Where a datagram came from. ``via`` is the owner's: it comes back with what is sent there."""

    ip: str
    port: int
    via: object = None

    @property
    def addr(self) -> Addr:
        """Address and port."""
        return self.ip, self.port


class Outgoing(NamedTuple):
    """One UDP payload and where it has to go."""

    data: bytes
    to: Source


@dataclass(slots=True, eq=False)
class _Client:
    engine: QadEngine
    expires_at: float
    original_cid: bytes
    cids: set[bytes] = field(default_factory=set)
    established: bool = False
    #: When its entry in the heap is due; None: it has none.
    wake_at: float | None = None


class QadServer:
    """All address discovery clients of a relay. ``rng`` makes the retry ids and the key of the tokens.

    Nothing that arrives makes it raise. ``counters`` are running totals.
    """

    def __init__(self, identity: QadIdentity, *, rng: random.Random, limits: QadLimits | None = None) -> None:
        self.limits = limits or QadLimits()
        self.counters = QadCounters()
        self._identity = identity
        self._rng = rng
        self._tokens = RetryTokens(rng.randbytes(_KEY_LENGTH))
        self._clients: set[_Client] = set()
        self._handshaking: set[_Client] = set()
        self._routes: dict[bytes, _Client] = {}
        self._timers: list[tuple[float, int, _Client]] = []
        self._timer_numbers = itertools.count()
        self._out: list[Outgoing] = []
        self._rate: TokenBucket | None = None

    def __len__(self) -> int:
        """How many clients there are, unfinished handshakes included."""
        return len(self._clients)

    # In

    def receive(self, now: float, datagram: bytes, source: Source) -> None:
        """Handle one UDP payload; garbage is counted and dropped."""
        client = self._routes.get(destination_cid(datagram))
        if client is None:
            client = self._accept(now, datagram, source)
        if client is None:
            return
        try:
            client.engine.receive_datagram(datagram, source, now)
        except ValueError:
            # aioquic has let parse errors of hostile bytes escape before. The packet counts as lost.
            self.counters.bad_packets += 1
        if not client.engine.authenticated:  # the first packet was forged: it decides nothing
            self.counters.bad_packets += 1
            self._remove(client)
            return
        self._advance(now, client)

    def handle_timeout(self, now: float) -> None:
        """Do what is due; harmless when nothing is."""
        while self._timers and self._timers[0][0] <= now:
            at, _, client = heapq.heappop(self._timers)
            if client.wake_at != at or client not in self._clients:
                continue  # it was moved, or is gone
            client.wake_at = None
            if not client.established and now >= client.expires_at:
                self._remove(client)
                continue
            engine = client.engine
            timer = engine.get_timer()
            if timer is not None and timer <= now:
                engine.handle_timer(now)
            self._advance(now, client)

    def close(self, now: float) -> None:
        """Say goodbye to every client; what that takes is in ``transmit``."""
        for client in list(self._clients):
            client.engine.close(error_code=CLOSE_CODE, reason_phrase=CLOSE_REASON)
            self._send(now, client.engine)
            self._remove(client)

    # Out

    def transmit(self) -> list[Outgoing]:
        """What to send now; each datagram is handed out once."""
        out, self._out = self._out, []
        return out

    def next_timeout(self) -> float | None:
        """When ``handle_timeout`` is due, None if never. It may be early, which is harmless."""
        return self._timers[0][0] if self._timers else None

    # One client

    def _accept(self, now: float, datagram: bytes, source: Source) -> _Client | None:
        """A new client, if this is a first packet and there is room; a Retry may be the answer instead."""
        header = _first_header(datagram)
        if header is None:
            self.counters.bad_packets += 1
            return None
        # A token that is not ours counts as none (RFC 9000 section 8.1.3): it may be one of the relay before us.
        original = self._tokens.open(now, source.addr, header.token, header.destination_cid)
        if original is None and len(self._handshaking) >= self.limits.retry_above:
            self._retry(now, header, source)
            return None
        if not self._has_room(now):
            self.counters.refused += 1
            return None
        if original is None:
            return self._add(now, header.destination_cid, None)
        return self._add(now, original, header.destination_cid)

    def _add(self, now: float, original: bytes, retry_cid: bytes | None) -> _Client:
        engine = QadEngine(
            configuration=self._configuration(),
            role=Role.SEND,
            original_destination_connection_id=original,
            retry_source_connection_id=retry_cid,
        )
        # Repeated first packets carry the id that the client invented, or got with the Retry.
        client = _Client(engine, now + self.limits.handshake_timeout, retry_cid or original)
        self._clients.add(client)
        self._handshaking.add(client)
        self._update_routes(client)
        engine.on_cids = lambda: self._update_routes(client)
        self.counters.accepted += 1
        return client

    def _has_room(self, now: float) -> bool:
        if len(self._clients) >= self.limits.connections or len(self._handshaking) >= self.limits.handshakes:
            return False
        if self._rate is None:
            self._rate = TokenBucket(now, self.limits.handshake_rate, self.limits.handshake_burst)
        return self._rate.try_take(now, 1)

    def _retry(self, now: float, header: QuicHeader, source: Source) -> None:
        retry_cid = self._rng.randbytes(CID_LENGTH)
        self.counters.retries += 1
        packet = encode_quic_retry(
            version=_VERSION,
            source_cid=retry_cid,
            destination_cid=header.source_cid,
            original_destination_cid=header.destination_cid,
            retry_token=self._tokens.make(now, source.addr, header.destination_cid, retry_cid),
        )
        self._out.append(Outgoing(packet, source))

    def _advance(self, now: float, client: _Client) -> None:
        """Send what the client is owed, and see how it stands."""
        engine = client.engine
        while (event := engine.next_event()) is not None:
            if isinstance(event, HandshakeCompleted):
                client.established = True
                self._handshaking.discard(client)
                self.counters.finished += 1
        self._send(now, engine)
        if engine.over:
            # No closing period: a late packet of this client finds nobody and is dropped, which it survives.
            self._remove(client)
            return
        timer = engine.get_timer()
        wake = client.expires_at if not client.established else None
        if timer is not None:
            wake = timer if wake is None else min(wake, timer)
        if wake is not None and (client.wake_at is None or wake < client.wake_at):
            client.wake_at = wake
            heapq.heappush(self._timers, (wake, next(self._timer_numbers), client))

    def _send(self, now: float, engine: QadEngine) -> None:
        before = engine.reports
        for data, to in engine.datagrams_to_send(now) if engine._network_paths else ():
            assert isinstance(to, Source), "every path is one that we gave"
            self._out.append(Outgoing(data, to))
        self.counters.reports += engine.reports - before

    def _remove(self, client: _Client) -> None:
        client.engine.on_cids = None
        self._clients.discard(client)
        self._handshaking.discard(client)
        for cid in client.cids:
            self._routes.pop(cid, None)

    def _update_routes(self, client: _Client) -> None:
        current = {*client.engine.local_cids(), client.original_cid}
        for cid in client.cids - current:
            self._routes.pop(cid, None)
        for cid in current - client.cids:
            self._routes[cid] = client
        client.cids = current

    def _configuration(self) -> QuicConfiguration:
        first, *rest = self._identity.chain
        return QuicConfiguration(
            is_client=False,
            alpn_protocols=[ALPN],
            certificate=first,
            certificate_chain=rest,
            private_key=self._identity.private_key,
            connection_id_length=CID_LENGTH,
            idle_timeout=self.limits.idle_timeout,
            # Reports and acknowledgements only: a client has nothing to send.
            max_data=0,
            max_stream_data=0,
            cipher_suites=[tls.CipherSuite.AES_128_GCM_SHA256],
            supported_versions=[_VERSION],
        )


def _first_header(datagram: bytes) -> QuicHeader | None:
    """The header of a client's first Initial packet, None if it is none."""
    if not looks_like_first_packet(datagram):
        return None
    try:
        return pull_quic_header(Buffer(data=datagram), host_cid_length=CID_LENGTH)
    except ValueError:
        return None
