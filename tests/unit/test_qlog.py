"""The traces of endpoints: bounded, and out of the way of a transfer."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from iroh_py import EndpointConfig
from pytest_iroh.qlog import BURST, MAX_ENTRIES, MAX_TRACES, RATE, REST, EndpointLogs, Logger, Trace


def log(trace: Trace, count: int) -> None:
    for _ in range(count):
        trace.log_event(category="transport", event="packet_sent", data={})


def test_a_quiet_connection_is_logged_whole() -> None:
    """A message every 20 ms never ends a trace."""
    trace = Trace(is_client=True, odcid=b"x")
    for number in range(10_000):
        assert trace.wanted(number * 0.01)
        log(trace, 4)


def test_in_a_flood_the_trace_stands_back_and_says_so() -> None:
    """A burst is logged, and another one every time it looks again."""
    trace = Trace(is_client=True, odcid=b"x")
    now, logged = 0.0, 0
    while now < 5 * REST:
        if trace.wanted(now):
            log(trace, 10)
            logged += 10
        now += 0.001
    assert BURST < logged < 6 * 2 * BURST
    names = [event["name"] for event in trace.to_dict()["events"]]
    assert names.count("generic:recording_paused") == 5


def test_after_a_flood_everything_is_logged_again() -> None:
    """A moment of calm ends the rest."""
    trace = Trace(is_client=True, odcid=b"x")
    assert trace.wanted(1.0)
    log(trace, 2 * BURST)
    assert not trace.wanted(1.01)
    assert not trace.wanted(1.02)
    assert trace.wanted(1.02 + 2 * BURST / RATE)
    assert trace.wanted(2.0)


def test_memory_is_bounded() -> None:
    """The newest entries and the newest connections stay."""
    trace = Trace(is_client=True, odcid=b"x")
    log(trace, MAX_ENTRIES + 10)
    assert len(trace.to_dict()["events"]) == MAX_ENTRIES
    logger = Logger()
    for number in range(MAX_TRACES + 5):
        logger.end_trace(logger.start_trace(True, bytes([number])))
    assert len(logger.to_dict()["traces"]) == MAX_TRACES
    assert logger.to_dict()["traces"][-1]["common_fields"]["ODCID"] == f"{MAX_TRACES + 4:02x}"


def test_files_are_named_after_endpoints(tmp_path: Path) -> None:
    """Whatever their names are."""
    logs = EndpointLogs()
    for name in ("laptop", "a/../b"):
        config = logs.attach(EndpointConfig(), name)
        assert config.qlog is not None
        config.qlog.start_trace(True, b"x")
    logs.save(tmp_path)
    assert {path.name for path in (tmp_path / "qlog").iterdir()} == {"laptop-1.qlog", "a-..-b-1.qlog"}
    assert not (tmp_path / "keys.log").exists()


def test_logs_that_a_test_brought_stay() -> None:
    """Only what is empty is filled in."""
    mine = Logger()
    config = EndpointLogs().attach(EndpointConfig(qlog=mine), "laptop")
    assert config.qlog is mine
    assert dataclasses.replace(config, key_log=None, qlog=None) == EndpointConfig()
