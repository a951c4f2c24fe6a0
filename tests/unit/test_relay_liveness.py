"""When a relay connection is pinged, suspected and given up."""

from __future__ import annotations

from iroh_py.proto.relay.liveness import Liveness, Verdict

_DATA = b"12345678"


def _answered(now: float = 100.0, rtt: float = 0.02) -> Liveness:
    """A connection whose first ping was answered at ``now + rtt``."""
    live = Liveness(now, rtt)
    live.handle_ping_sent(now, _DATA)
    live.handle_received(now + rtt)
    live.handle_pong(now + rtt, _DATA)
    return live


def test_new_connection_is_pinged_at_once() -> None:
    """The first thing is to find out whether the relay answers."""
    live = Liveness(100.0, 0.02)
    assert live.poll(100.0) is Verdict.PING
    live.handle_ping_sent(100.0, _DATA)
    assert live.poll(100.0) is Verdict.FINE


def test_pong_measures_the_round_trip() -> None:
    """Latency is the time from our ping to its pong; other pongs mean nothing."""
    live = Liveness(100.0, 0.5)
    live.handle_ping_sent(100.0, _DATA)
    live.handle_pong(100.01, b"somebody")
    assert live.latency is None
    live.handle_pong(100.03, _DATA)
    assert live.latency is not None
    assert abs(live.latency - 0.03) < 1e-9
    assert live.confirmed == 100.0


def test_silent_connection_is_pinged_after_15_seconds() -> None:
    """An idle connection costs one ping per 15 s."""
    live = _answered()
    assert live.poll(115.0) is Verdict.FINE
    assert live.poll_timeout(110.0) == 115.02
    assert live.poll(115.02) is Verdict.PING


def test_unanswered_data_causes_an_early_ping() -> None:
    """Half a second after data without any sign of life we ask; data that was answered causes nothing."""
    live = _answered()
    live.handle_sent(103.0)
    live.handle_sent(103.4)
    assert live.poll_timeout(103.4) == 103.5
    assert live.poll(103.5) is Verdict.PING
    live.handle_received(103.45)
    assert live.poll(103.5) is Verdict.FINE


def test_unanswered_ping_makes_suspect_then_dead() -> None:
    """Half a second without an answer is suspect on a short path, five seconds are the end."""
    live = _answered()
    live.handle_ping_sent(110.0, _DATA)
    assert live.poll(110.49) is Verdict.FINE
    assert live.poll_timeout(110.0) == 110.5
    assert live.poll(110.5) is Verdict.SUSPECT
    assert live.suspect(110.5)
    assert live.poll(114.99) is Verdict.SUSPECT
    assert live.poll(115.0) is Verdict.DEAD


def test_any_byte_clears_the_suspicion() -> None:
    """Whatever the relay sends shows that it lives."""
    live = _answered()
    live.handle_ping_sent(110.0, _DATA)
    assert live.suspect(111.0)
    live.handle_received(111.0)
    assert not live.suspect(111.0)
    assert live.poll(111.0) is Verdict.FINE


def test_acknowledgements_postpone_but_not_for_ever() -> None:
    """A relay process that hangs is dead after 15 s although its kernel acknowledges."""
    live = _answered()
    live.handle_ping_sent(110.0, _DATA)
    for step in range(1, 50):
        live.handle_proof(110.0 + step * 0.3)
        assert live.poll(110.0 + step * 0.3) is Verdict.FINE
    assert live.poll(125.0) is Verdict.DEAD


def test_long_paths_get_more_time() -> None:
    """A ping may take three round trips, and five seconds at most."""
    assert abs(_answered(rtt=1.0).ping_timeout - 3.0) < 1e-6
    assert _answered(rtt=4.0).ping_timeout == 5.0
    assert _answered(rtt=0.001).ping_timeout == 0.5


def test_probe_asks_at_once_and_wants_a_quick_answer() -> None:
    """After a network change the connection has to prove itself within the time given."""
    live = _answered()
    live.probe(105.0, 0.1)
    assert live.poll(105.0) is Verdict.PING
    live.handle_ping_sent(105.0, _DATA)
    assert live.poll(105.1) is Verdict.SUSPECT


def test_probe_shortens_the_wait_for_a_ping_that_is_out() -> None:
    """A ping sent before the change may answer for it, but not take its whole time."""
    live = _answered()
    live.handle_ping_sent(110.0, _DATA)
    live.probe(110.1, 0.05)
    assert live.poll(110.1) is Verdict.FINE
    assert live.poll(110.15) is Verdict.SUSPECT
