"""What a relay server counts, and how it tells (Prometheus text format 0.0.4)."""

from __future__ import annotations

from dataclasses import dataclass, fields

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


@dataclass(frozen=True, slots=True)
class RelayStats:
    """A snapshot: nodes and connections now, and every counter by name."""

    nodes: int
    connections: int
    counters: dict[str, int]

    def __getitem__(self, name: str) -> int:
        """One counter."""
        return self.counters[name]


def snapshot(counters: Counters, *, nodes: int, connections: int) -> RelayStats:
    """Freeze the counters."""
    values = {field.name: getattr(counters, field.name) for field in fields(counters)}
    return RelayStats(nodes, connections, values)


def prometheus_text(stats: RelayStats) -> str:
    """The snapshot in Prometheus' text format."""
    lines = []
    for name, value in (("nodes", stats.nodes), ("connections", stats.connections)):
        lines += [f"# TYPE {_PREFIX}{name} gauge", f"{_PREFIX}{name} {value}"]
    for name, value in stats.counters.items():
        lines += [f"# TYPE {_PREFIX}{name}_total counter", f"{_PREFIX}{name}_total {value}"]
    return "\n".join(lines) + "\n"
