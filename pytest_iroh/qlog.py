"""qlog and TLS secrets of a test's endpoints, kept in memory until somebody wants them.

A qlog entry costs as much as a packet. That is nothing for a connection that is watched over, and too much for a
transfer: a trace that gets many entries at once stands back for a while, and says so (``recording_paused``).
"""

from __future__ import annotations

import dataclasses
import io
import json
from collections import deque
from pathlib import Path
from typing import Any

from aioquic.quic.logger import QuicLogger, QuicLoggerTrace

from iroh_py import EndpointConfig
from pytest_iroh.evidence import slug
from pytest_iroh.timeline import epoch_offset, now

#: Entries of a connection that are kept, the newest; at 400 bytes each, 4 MB at most.
MAX_ENTRIES = 10_000
#: Entries per second that a trace may have for long: a message every 20 ms makes some 400.
RATE = 500
#: Entries at once beyond that: a handshake makes 60.
BURST = 200
#: Seconds without sending after which a transfer counts as over, and logging begins again.
CALM = 0.05
#: Seconds after which it looks in any case. (What is logged takes another way through the engine, in smaller steps:
#: a transfer that is logged now and then is slower than the entries alone would make it.)
REST = 2.0
#: Connections whose traces are kept per endpoint, the newest.
MAX_TRACES = 50
#: Characters of TLS secrets: some thousand connections.
MAX_SECRETS = 4 << 20


class Trace(QuicLoggerTrace):
    """The trace of one connection; times are those of the test's timeline."""

    def __init__(self, *, is_client: bool, odcid: bytes) -> None:
        super().__init__(is_client=is_client, odcid=odcid)
        #: (time, category, event, data): most are thrown away with a test that passed, so they become dictionaries
        #: only in ``to_dict``.
        self._entries: deque[tuple[float, str, str, dict[str, Any]]] = deque(maxlen=MAX_ENTRIES)
        self._credit = float(BURST)
        self._asked: float | None = None
        self._until = 0.0

    def wanted(self, now: float) -> bool:
        """Asked by the engine before it sends: whether to log. ``now``: seconds of the engine's clock."""
        passed = 0.0 if self._asked is None else now - self._asked
        self._asked = now
        self._credit = min(BURST, self._credit + passed * RATE)
        if now < self._until:
            if passed < CALM:
                return False
            self._until = 0.0
        if self._credit < 0:
            self._until = now + REST
            reason = f"more than {RATE} entries per second; until it is calm, or {REST:g} s"
            self.log_event(category="generic", event="recording_paused", data={"reason": reason})
            return False
        return True

    def log_event(self, *, category: str, event: str, data: dict[str, Any]) -> None:
        """Keep an entry, stamped now."""
        self._credit -= 1
        self._entries.append((now(), category, event, data))

    def to_dict(self) -> dict[str, Any]:
        """The trace as it is written; times in ms since 1970."""
        offset = epoch_offset()
        self._events = deque(
            {"data": data, "name": f"{category}:{event}", "time": round((time + offset) * 1000, 3)}
            for time, category, event, data in self._entries
        )
        return super().to_dict()


class Logger(QuicLogger):
    """The traces of one endpoint's connections."""

    def __init__(self) -> None:
        super().__init__()
        self._traces: deque[QuicLoggerTrace] = deque(maxlen=MAX_TRACES)  # type: ignore[assignment]

    def start_trace(self, is_client: bool, odcid: bytes) -> Trace:
        """A connection begins."""
        trace = Trace(is_client=is_client, odcid=odcid)
        self._traces.append(trace)
        return trace

    def end_trace(self, trace: QuicLoggerTrace) -> None:
        """A connection is over; its trace stays."""


class EndpointLogs:
    """What the endpoints of one test reveal."""

    def __init__(self) -> None:
        self._secrets = io.StringIO()
        self._loggers: list[tuple[str, Logger]] = []

    def attach(self, config: EndpointConfig, name: str) -> EndpointConfig:
        """The configuration with our logs in it; logs that a test brought itself stay."""
        changes: dict[str, Any] = {}
        if config.key_log is None and self._secrets.tell() < MAX_SECRETS:
            changes["key_log"] = self._secrets
        if config.qlog is None:
            logger = Logger()
            self._loggers.append((name, logger))
            changes["qlog"] = logger
        return dataclasses.replace(config, **changes)

    @property
    def secrets(self) -> str:
        """The text of an SSLKEYLOGFILE."""
        return self._secrets.getvalue()

    def save(self, directory: Path) -> None:
        """Write ``keys.log``, and ``qlog/<endpoint>-<number>.qlog`` for each connection. Raises OSError."""
        if self.secrets:
            (directory / "keys.log").write_text(self.secrets)
        counts: dict[str, int] = {}
        for name, logger in self._loggers:
            for trace in logger.to_dict()["traces"]:
                counts[name] = counts.get(name, 0) + 1
                place = directory / "qlog" / f"{slug(name)}-{counts[name]}.qlog"
                place.parent.mkdir(exist_ok=True)
                head = {"qlog_format": "JSON", "qlog_version": "0.3", "title": name}
                place.write_text(json.dumps({**head, "traces": [trace]}, separators=(",", ":")))
