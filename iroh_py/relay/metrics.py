"""What a relay server counts, and how it tells (Prometheus text format 0.0.4)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from iroh_py.relay.qad import QadService

_PREFIX = "iroh_relay_"


@dataclass(slots=True)
class Counters:
    """Running totals of one server. The comments behind the fields are the help texts of the metrics."""

    accepted: int = 0  # TCP connections accepted
    rejected: int = 0  # TCP connections refused by a connection limit
    http_requests: int = 0  # HTTP requests answered, upgrades included
    bad_requests: int = 0  # HTTP requests that did not parse or came too slowly
    logins: int = 0  # clients that proved their identity
    login_failures: int = 0  # clients with a bad signature, a bad frame, a time-out or without access
    replaced: int = 0  # connections that ended or were parked because their node connected again
    packets_in: int = 0  # packets received from clients
    bytes_in: int = 0  # bytes received from clients after the login
    packets_out: int = 0  # packets handed to clients
    bytes_out: int = 0  # bytes written to clients after the upgrade
    dropped_no_destination: int = 0  # packets for nodes that are not connected
    dropped_queue_full: int = 0  # packets for clients that read too slowly
    dropped_untranslatable: int = 0  # packets that the destination's protocol generation cannot carry
    protocol_errors: int = 0  # clients closed because they broke the protocol
    write_timeouts: int = 0  # clients closed because they took no bytes
    ping_timeouts: int = 0  # clients closed because they answered no ping
    rate_limited: int = 0  # times that reading from a client stalled because of its rate limit
    stun_requests: int = 0  # STUN requests answered
    stun_bad: int = 0  # datagrams on the STUN port that were no valid request
    qad_accepted: int = 0  # clients of address discovery that began a handshake
    qad_finished: int = 0  # handshakes of address discovery that were completed
    qad_refused: int = 0  # clients of address discovery that there was no room or time for
    qad_retries: int = 0  # clients of address discovery that had to prove their address first
    qad_reports: int = 0  # addresses told to clients
    qad_bad_packets: int = 0  # datagrams on the QUIC port that were none of a client's


@dataclass(frozen=True, slots=True)
class RelayStats:
    """A snapshot: nodes, connections and clients of address discovery now, and every counter by name."""

    nodes: int
    connections: int
    qad_clients: int
    counters: dict[str, int]

    def __getitem__(self, name: str) -> int:
        """One counter."""
        return self.counters[name]


def snapshot(
    counters: Counters, qad: Sequence[QadService] = (), *, nodes: int, connections: int
) -> RelayStats:
    """Freeze the counters, with those of address discovery added up."""
    values = {field.name: getattr(counters, field.name) for field in fields(counters)}
    for service in qad:
        for field in fields(service.counters):
            values[f"qad_{field.name}"] += getattr(service.counters, field.name)
    return RelayStats(nodes, connections, sum(service.clients for service in qad), values)


def prometheus_text(stats: RelayStats) -> str:
    """The snapshot in Prometheus' text format."""
    lines = []
    gauges = ("nodes", "connections", "qad_clients")
    for name, value in ((name, getattr(stats, name)) for name in gauges):
        lines += [f"# TYPE {_PREFIX}{name} gauge", f"{_PREFIX}{name} {value}"]
    for name, value in stats.counters.items():
        lines += [f"# TYPE {_PREFIX}{name}_total counter", f"{_PREFIX}{name}_total {value}"]
    return "\n".join(lines) + "\n"
