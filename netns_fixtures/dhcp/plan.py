"""The DHCP server of one LAN as a description: what is served now, as a step for the agent. Pure."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal

from netns_fixtures.addressing import AddressPool
from netns_fixtures.dhcp.config import DhcpConfig
from netns_fixtures.dhcp.steps import ServeDhcp, Service
from netns_fixtures.errors import TopologyError

if TYPE_CHECKING:
    from netns_fixtures.ops import Op
    from netns_fixtures.plug import Plug, Segment

#: Stands for the router's address in the URI of its captive portal.
ROUTER_ADDRESS = "{router}"
#: "off": nobody asked for it yet; "never": there is none, on purpose; "on"; "silent": it stopped, like a crash.
State = Literal["off", "never", "on", "silent"]


@dataclass(slots=True, eq=False)
class DhcpPlan:
    """Who serves: the LAN interface ``index`` of ``node``, with hardware address ``mac``.

    ``places``: which host gets which address of the range if it is free, by number: in the order in which they
    were described or plugged in, so that the same description gives the same addresses.
    ``retired``: subnets of earlier renumberings that are still routed.
    """

    node: int
    index: int
    name: str
    mac: str
    config: DhcpConfig = field(default_factory=DhcpConfig)
    state: State = "off"
    exhausted: bool = False
    _next_place: int = 0
    portal: str = ""
    places: dict[str, int] = field(default_factory=dict)
    retired: list[ipaddress.IPv4Network] = field(default_factory=list)

    @property
    def serves(self) -> bool:
        """Whether a client that asks is answered with an address."""
        return self.state == "on" and not self.exhausted

    def begin(self, pool: AddressPool) -> list[Op]:
        """Serve from now on, unless that began before (or is not wanted)."""
        if self.state != "off":
            return []
        self.state = "on"
        return self.ops(pool)

    def expect(self, plug: Plug) -> list[Op]:
        """A host that will ask here: begin to serve, and know its place."""
        if plug.mac in self.places or self.state == "never" or plug.segment.v4 is None:
            return []
        self._place(plug)
        return self.begin(plug.segment.v4) or self.ops(plug.segment.v4)

    def _place(self, plug: Plug) -> None:
        self.places[plug.mac] = self._next_place
        self._next_place += 1

    def ops(self, pool: AddressPool | None, *, forget: Sequence[str] = (), reset: bool = False) -> list[Op]:
        """Serve this from now on. Raises TopologyError for a range that the subnet does not have."""
        if pool is None or self.state in ("off", "never"):
            return []
        network = pool.network
        assert isinstance(network, ipaddress.IPv4Network)
        first, last = self.config.numbers(network)
        pool.served = range(first, last + 1)
        service = Service(
            network=str(network),
            address=pool.gateway,
            config=self.config,
            preferred=tuple(
                (mac, pool.address(first + place % (last + 1 - first))) for mac, place in self.places.items()
            ),
            kept=tuple(pool.address(n) for n in sorted(pool.used)),
            state=self.state,
            exhausted=self.exhausted,
            portal=self.portal.replace(ROUTER_ADDRESS, pool.gateway),
        )
        return [ServeDhcp(self.node, self.index, self.name, self.mac, service, tuple(forget), reset)]

    def let_anew_ops(self, plug: Plug, address: str | None) -> list[Op]:
        """A client loses its address, and is given another one, or this very one. Raises TopologyError."""
        pool = plug.segment.v4
        if self.state in ("off", "never") or pool is None:
            return []
        self._place(plug)
        if address is not None:
            others = {mac: ip for mac, ip in self.config.reservations.items() if mac != plug.mac}
            parsed = ipaddress.ip_address(address)
            if parsed not in pool.network or address in others.values() or address == pool.gateway:
                raise TopologyError(
                    f"{plug.segment.name} cannot let {address}: outside of its subnet, or taken"
                )
            self.config = replace(self.config, reservations={**others, plug.mac: str(parsed)})
        return self.ops(pool, forget=[plug.mac])


def serving(segment: Segment) -> DhcpPlan | None:
    """The server of a segment, if it has one that grants addresses now."""
    plan = segment.dhcp
    return plan if plan is not None and plan.serves and segment.v4 is not None else None
