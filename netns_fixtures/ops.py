"""The small steps that a lab is made of, as plain data: what the describing side sends to the lab agent.

A node is one network namespace, named by a number that is unique in its lab. Interfaces are named by kernel
index; every index is unique in the whole lab, on both ends of every cable. (That is more than tidiness: the
kernel reports a lost carrier at once only where an interface's index differs from its peer's; equal ones
wait up to 1 s.)
"""

from __future__ import annotations

from dataclasses import dataclass

from netns_fixtures.dhcp.steps import RunDhcpClient, ServeDhcp, TellDhcpClient
from netns_fixtures.link import LinkCondition


@dataclass(frozen=True, slots=True)
class AddNode:
    """A new network namespace with its loopback up. ``sysctls`` are (path below /proc/sys, value)."""

    node: int
    name: str
    sysctls: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class PrepareRing:
    """Begin to make a packet socket with a ring (see ``ring``), which ``TakeRing`` asks for when the rest is done."""

    node: int
    blocks: int
    flush_after: float


@dataclass(frozen=True, slots=True)
class AddBridge:
    """A bridge without addresses, up. One that does not learn who is where sends every frame to all its ports."""

    node: int
    index: int
    name: str
    learns: bool = True


@dataclass(frozen=True, slots=True)
class AddCable:
    """A veth pair, up at both ends: a bridge port in ``node``, and the interface ``name`` of ``far_node``."""

    node: int
    port: int
    port_name: str
    bridge: int
    far_node: int
    index: int
    name: str
    mac: str


@dataclass(frozen=True, slots=True)
class SetLink:
    """Change an interface: admin state, the bridge that it belongs to (0 = none), MTU; None leaves it."""

    node: int
    index: int
    up: bool | None = None
    master: int | None = None
    mtu: int | None = None


@dataclass(frozen=True, slots=True)
class AddAddress:
    """``ip`` with a prefix length; an address that is there already is no error."""

    node: int
    index: int
    ip: str
    prefixlen: int


@dataclass(frozen=True, slots=True)
class RemoveAddress:
    """The reverse; an address that is gone already is no error (a link that went down may have taken it)."""

    node: int
    index: int
    ip: str
    prefixlen: int


@dataclass(frozen=True, slots=True)
class AddRoute:
    """``destination`` is "10.0.0.0/8"; "0.0.0.0/0" and "::/0" are default routes; no gateway: on the link.

    ``mtu``: bytes of the largest packet that is sent this way; 0 is the interface's.
    """

    node: int
    destination: str
    gateway: str
    index: int
    metric: int = 0
    mtu: int = 0


@dataclass(frozen=True, slots=True)
class RemoveRoute:
    """The reverse; a route that is gone already is no error."""

    node: int
    destination: str
    gateway: str
    index: int
    metric: int = 0


@dataclass(frozen=True, slots=True)
class LoadRules:
    """nftables rule text, one transaction."""

    node: int
    text: str


@dataclass(frozen=True, slots=True)
class FlushConntrack:
    """Forget every tracked connection of the node, or those with a ``mark``."""

    node: int
    mark: int = 0


@dataclass(frozen=True, slots=True)
class SetSysctls:
    """Settings of a node that runs: (path below /proc/sys, value). One that this kernel lacks is an error if
    ``needed``, else skipped."""

    node: int
    sysctls: tuple[tuple[str, str], ...]
    needed: bool = False


@dataclass(frozen=True, slots=True)
class AddNat64:
    """A TUN interface of a router, with a process at its other end that translates (``netns_fixtures.nat64``)."""

    node: int
    index: int
    name: str
    prefix: str
    pool: str


@dataclass(frozen=True, slots=True)
class SplitFrames:
    """Hand only real frames to the far end of this interface, none that the kernel joined for speed (GSO).

    For who looks at their size: a joined one is many datagrams, and up to 64 KiB.
    """

    node: int
    name: str


@dataclass(frozen=True, slots=True)
class Advertise:
    """Send a router advertisement on interface ``index``: now, when solicited, and each ``interval`` seconds.

    ``packet`` is an ICMPv6 message without checksum; empty: say nothing any more. ``interval`` 0: once.
    """

    node: int
    index: int
    mac: str
    packet: bytes
    interval: float


@dataclass(frozen=True, slots=True)
class Splice:
    """Put a wire between a bridge port and its bridge: port - new bridge - end a ~ end b - old bridge.

    Nothing that the host can see changes. ``forward`` is what happens to frames from the host. The ``end_*``
    are indices of bridge ports, TAPs where possible; else veths, whose other ends are ``far_*``.
    """

    node: int
    link: int
    port: int
    bridge: int
    wire_bridge: int
    end_a: int
    far_a: int
    end_b: int
    far_b: int
    forward: LinkCondition
    backward: LinkCondition
    seed: int


@dataclass(frozen=True, slots=True)
class SetCondition:
    """Change what a spliced wire does; None leaves a direction."""

    link: int
    forward: LinkCondition | None
    backward: LinkCondition | None


@dataclass(frozen=True, slots=True)
class SetQdisc:
    """What an interface's queueing disciplines do to what it sends, see ``qdiscs``; ``fresh``: it has none."""

    node: int
    index: int
    condition: LinkCondition
    seed: int
    fresh: bool


Op = (
    AddNode
    | PrepareRing
    | AddBridge
    | AddCable
    | SetLink
    | AddAddress
    | RemoveAddress
    | AddRoute
    | RemoveRoute
    | LoadRules
    | FlushConntrack
    | SetSysctls
    | AddNat64
    | SplitFrames
    | Advertise
    | ServeDhcp
    | RunDhcpClient
    | TellDhcpClient
    | Splice
    | SetCondition
    | SetQdisc
)
