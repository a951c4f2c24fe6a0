"""Steps for the lab agent that are about DHCP, and what it tells, as plain data."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from netns_fixtures.dhcp.config import DhcpClient, DhcpConfig

if TYPE_CHECKING:
    from netns_fixtures.dhcp.lease import Granted

#: What a client is told: its link came up (or is another one), or went down; and verbs.
Event = Literal["up", "down", "renew", "release"]


@dataclass(frozen=True, slots=True)
class Service:
    """What a server serves now. ``kept``: addresses in its range that others have.

    ``preferred``: (hardware address, IP address) of hosts that get this one if it is free.
    ``state``: "on", or "silent" (as one that crashed). ``exhausted``: who has no address gets none.
    ``portal``: the URI of a captive portal, "" for none.
    """

    network: str
    address: str
    config: DhcpConfig
    kept: tuple[str, ...] = ()
    preferred: tuple[tuple[str, str], ...] = ()
    state: str = "on"
    exhausted: bool = False
    portal: str = ""


@dataclass(frozen=True, slots=True)
class ServeDhcp:
    """Serve DHCP on interface ``index`` of a router from now on, in this way.

    ``forget``: hardware addresses whose leases are nobody's any more; ``reset``: all leases are forgotten.
    """

    node: int
    index: int
    name: str
    mac: str
    service: Service
    forget: tuple[str, ...] = ()
    reset: bool = False


@dataclass(frozen=True, slots=True)
class RunDhcpClient:
    """A client for interface ``index`` of a host, or changes one: ``metric`` of its routes, None for no route.

    ``port_name``: the far end of its cable, in the fabric.
    """

    node: int
    index: int
    name: str
    mac: str
    port_name: str
    host: str
    settings: DhcpClient
    metric: int | None


@dataclass(frozen=True, slots=True)
class TellDhcpClient:
    """Something happens to a client. What it tells later carries ``epoch``, so that nobody waits for older news."""

    node: int
    index: int
    event: Event
    epoch: int


DhcpStep = ServeDhcp | RunDhcpClient | TellDhcpClient


@dataclass(frozen=True, slots=True)
class DhcpLease:
    """What a server granted: hardware address, IP address, seconds left (inf for ever), and who it is."""

    mac: str
    ip: str
    expires_in: float
    host_name: str = ""
    client_id: str = ""

    def __str__(self) -> str:
        return f"{self.ip} to {self.host_name or self.mac} for {self.expires_in:g} s"


@dataclass(frozen=True, slots=True)
class DhcpNews:
    """What the agent tells of interface ``index``: of a client with its state, of a server without.

    ``kind`` is "" where only the state changed; ``time`` is ``time.monotonic()``.
    """

    index: int
    kind: str
    time: float
    epoch: int = 0
    state: str = ""
    lease: Granted | None = None
    data: dict[str, Any] = field(default_factory=dict)
