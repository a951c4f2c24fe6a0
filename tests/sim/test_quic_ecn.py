"""ECN of QUIC connections: marks slow a transfer down without a loss, and broken paths do no harm (RFC 9000 13.4)."""

from __future__ import annotations

from typing import Any

import pytest
from quic_pair import Pair

from iroh_py.proto.quic import Session
from iroh_py.proto.quic.ecn import CE, ECT_0, CountedRanges, EcnCounts, EcnState


class MarkedPair(Pair):
    """A pair whose client sends over one path; ``network(codepoint)`` says what arrives there, None: nothing."""

    path: Any = "a"

    def __init__(self, **options: Any) -> None:
        self.network: Any = lambda codepoint: codepoint
        self._codepoints: dict[bytes, int] = {}
        super().__init__(**options)

    def pump(self) -> None:
        """As before, with the path said and the marks remembered."""
        session = self.client.session
        if session is not None:
            session.use_path(self.path)
        super().pump()

    def _send(self, datagram: bytes, to_server: bool) -> None:
        if to_server:
            sent = self.client.quic.sent_ecn
            arriving = self.network(sent)
            if arriving is None:
                return
            self._codepoints[datagram] = arriving
        super()._send(datagram, to_server)

    def _deliver(self, side: Any, datagrams: list[bytes]) -> None:
        if side is not self.server or side.session is None:
            super()._deliver(side, datagrams)
            return
        for datagram in datagrams:
            codepoint = self._codepoints.pop(datagram, 0)
            side.news += len(datagram) if side.session.receive(self.now, datagram, codepoint) else 0


def upload(pair: Pair, size: int, within: float = 60.0) -> float:
    """Send bytes to the server; the virtual seconds that it took."""
    stream = pair.client.quic.open_stream(False)
    pair.client.quic.write(stream, bytes(size), True)
    return pair.run(lambda: stream in pair.server.finished, within)


def server_queue(session: Session) -> CountedRanges:
    """The received 1-RTT packets."""
    queue = session._engine.app_space.ack_queue
    assert isinstance(queue, CountedRanges)
    return queue


def test_marks_are_reported_and_the_path_is_capable() -> None:
    """Handshake packets carry none; each 1-RTT packet of the client does, and the server counts it."""
    pair = MarkedPair.connected()
    upload(pair, 200_000)
    assert pair.client.quic.ecn is EcnState.CAPABLE
    counts = server_queue(pair.server.quic).counts
    assert counts is not None
    assert counts.ect0 > 150
    assert pair.server.quic.ecn is EcnState.OFF  # nobody said anything of its path


def test_marked_transfer_slows_down_and_loses_nothing() -> None:
    """Every 50th packet has CE: the window halves as for losses, but each packet is sent once."""
    smooth, marked = MarkedPair.connected(), MarkedPair.connected()
    numbers = iter(range(1_000_000))
    marked.network = lambda codepoint: CE if codepoint == ECT_0 and next(numbers) % 50 == 49 else codepoint
    free, slowed = upload(smooth, 3_000_000), upload(marked, 3_000_000)
    assert slowed > 1.5 * free
    assert marked.client.quic.congestion_window < smooth.client.quic.congestion_window / 2
    assert marked.client.quic.ecn is EcnState.CAPABLE
    # A smaller window fills fewer batches; a loss of each marked packet would be more than this.
    assert marked.client.sent <= smooth.client.sent * 1.1


def test_bleached_path_is_given_up_and_data_flows_on() -> None:
    """The peer reports nothing of what was marked."""
    pair = MarkedPair.connected()
    pair.network = lambda codepoint: 0
    took = upload(pair, 200_000)
    assert pair.client.quic.ecn is EcnState.FAILED
    assert took == pytest.approx(upload(MarkedPair.connected(), 200_000), abs=0.05)


def test_path_that_eats_marked_packets_costs_one_probe_timeout() -> None:
    """Silence during the test is blamed on the marks."""
    pair = MarkedPair.connected()
    pair.path = "b"
    pair.network = lambda codepoint: None if codepoint else 0
    assert upload(pair, 200_000) < 1.0
    assert pair.client.quic.ecn is EcnState.FAILED


def test_another_path_is_tested_anew() -> None:
    """One fails, the next one is capable, and none is marked while several are in use."""
    pair = MarkedPair.connected()
    pair.network = lambda codepoint: 0
    upload(pair, 50_000)
    assert pair.client.quic.ecn is EcnState.FAILED
    pair.path, pair.network = None, lambda codepoint: codepoint
    upload(pair, 50_000)
    assert (pair.client.quic.ecn, pair.client.quic.sent_ecn) == (EcnState.OFF, 0)
    pair.path = "b"
    upload(pair, 50_000)
    pair.run(lambda: pair.client.quic.ecn is EcnState.CAPABLE, within=1.0)


@pytest.mark.parametrize(
    "lie",
    [
        EcnCounts(ce=(1 << 62) - 1),
        EcnCounts(ect0=1),
        EcnCounts(ect1=100),
        EcnCounts(ect0=(1 << 62) - 1, ect1=(1 << 62) - 1, ce=(1 << 62) - 1),
    ],
)
def test_peer_that_lies_about_marks_only_ends_them(monkeypatch: pytest.MonkeyPatch, lie: EcnCounts) -> None:
    """No count does harm to the window or to the connection."""
    pair = MarkedPair.connected()
    window = pair.client.quic.congestion_window
    monkeypatch.setattr(CountedRanges, "counts", property(lambda _self: lie))
    upload(pair, 200_000)
    assert pair.client.quic.ecn is EcnState.FAILED
    assert pair.client.quic.congestion_window >= window
    assert pair.client.closed is None


def test_mark_of_congestion_is_acknowledged_at_once() -> None:
    """A lone packet waits for its acknowledgement; one with CE does not (section 13.2.1)."""
    pair = MarkedPair.connected()
    upload(pair, 20_000)
    engine = pair.server.quic._engine
    pair.advance(1.0)
    pair.network = lambda codepoint: CE if codepoint else codepoint
    pair.client.quic.probe(pair.now)
    pair.pump()
    sent = pair.server.sent
    pair.run(lambda: pair.server.sent > sent, within=pair.delay * 1.1)
    assert engine.app_space.ack_at is None
