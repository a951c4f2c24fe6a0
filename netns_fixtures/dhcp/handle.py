"""``router.dhcp``: the DHCP server of a router's LAN, and what can go wrong with it."""

from __future__ import annotations

import ipaddress
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Unpack

from netns_fixtures.addressing import parse_ip
from netns_fixtures.dhcp.config import DhcpConfig, DhcpFields, changed_fields
from netns_fixtures.dhcp.plan import DhcpPlan, State
from netns_fixtures.dhcp.renumbering import OldSubnet, renumber_by_dhcp_ops, retire_subnets_ops
from netns_fixtures.dhcp.steps import DhcpLease
from netns_fixtures.errors import TopologyError
from netns_fixtures.messages import DhcpLeases
from netns_fixtures.verbs import handle

if TYPE_CHECKING:
    from netns_fixtures.addressing import AddressPool
    from netns_fixtures.lab import Lab
    from netns_fixtures.node import Node
    from netns_fixtures.plug import Plug
    from netns_fixtures.topology import RouterPlan


@handle(but=("describe",))
class DhcpService:
    """Begins with ``lab.router(dhcp=True)``, or with the first host that has ``dhcp``; off until then.

    Each verb takes effect before it returns and is an event of the lab, and so is what happens to leases:
    dhcp_leased, dhcp_renewed, dhcp_rebinding, dhcp_nak, dhcp_expired, dhcp_released, dhcp_declined,
    dhcp_unconfirmed, dhcp_exhausted.
    """

    def __init__(self, lab: Lab, plan: RouterPlan) -> None:
        self._lab = lab
        self._router = plan

    def __repr__(self) -> str:
        return f"<DhcpService of {self._router.name} {self.state}>"

    @property
    def state(self) -> State:
        """off (not begun), never (the LAN has none), on, silent."""
        plan = self._router.lan.segment.dhcp
        return plan.state if plan is not None else "never"

    @property
    def config(self) -> DhcpConfig:
        """What it grants. Raises TopologyError where the LAN has no IPv4."""
        return self._plan.config

    @property
    def range(self) -> tuple[str, str]:
        """The first and the last address that it gives out, besides reserved ones."""
        network = self._network
        first, last = self._plan.config.numbers(network)
        return str(network[first]), str(network[last])

    def leases(self) -> list[DhcpLease]:
        """Who has which address, in order of address; also of clients that are gone without a word."""
        number = self._lab.ready()
        found, _fds = self._lab.request(DhcpLeases(number, self._router.lan.index))
        leases: list[DhcpLease] = found
        return leases

    def wait(self, count: int = 1, timeout: float = 10.0) -> list[DhcpLease]:
        """Wait until exactly ``count`` clients have an address, seconds at most. Raises TimeoutError."""
        deadline = time.monotonic() + timeout
        while True:
            seen = self._lab.leasing.count
            found = self.leases()
            if len(found) == count:
                return found
            left = deadline - time.monotonic()
            # The end of a lease is no news: the server is asked again when the next one ends.
            first = min((lease.expires_in for lease in found), default=left)
            self._lab.leasing.wait(seen, max(0.0, min(left, first)))
            if time.monotonic() >= deadline:
                said = ", ".join(map(str, found)) or "nothing"
                raise TimeoutError(f"{self._router.name} leases {said} after {timeout:g} s, not {count}")

    # -- what it grants

    def describe(self, dhcp: bool | DhcpConfig) -> None:
        """From the start of a lab that is not built yet; False: never. Raises TopologyError."""
        if dhcp is False:
            if self._router.lan.segment.dhcp is not None:
                self._plan.state = "never"
            return
        if isinstance(dhcp, DhcpConfig):
            self._plan.config = dhcp
        self._lab.leasing.want()
        self._lab.topology.pending += self._plan.begin(self._pool)

    def change(self, **fields: Unpack[DhcpFields]) -> None:
        """Grant something else from now on; fields as of :class:`DhcpConfig`. Clients hear of it when they renew.

        Switches the server on. Raises TopologyError.
        """
        config = replace(self._plan.config, **changed_fields(fields))
        config.numbers(self._network)
        said = ", ".join(f"{name}={value}" for name, value in fields.items()) or "the same"
        with self._lab.changing():
            self._plan.config = config
            self._begin()
            self._say("dhcp_changed", f"grants {said} by DHCP now", **fields)

    def reserve(self, host: Node | str, address: str) -> None:
        """Give a host, or a hardware address, this address and nobody else; from its next request on.

        Raises TopologyError for an address outside of the subnet, or reserved already.
        """
        macs = [host] if isinstance(host, str) else [p.mac for p in self._plugs_of(host.name)]
        if len(macs) != 1:
            raise TopologyError(
                f"{host!r} has {len(macs)} interfaces at {self._router.name}: name one by MAC"
            )
        with self._lab.changing():
            others = {mac: ip for mac, ip in self._plan.config.reservations.items() if mac != macs[0]}
            config = replace(self._plan.config, reservations={**others, macs[0]: address})
            if address == self._pool.gateway or parse_ip(address) not in self._pool.network:
                raise TopologyError(f"{address} is no address of {self._pool.network} for a host")
            self._plan.config = config
            self._begin()
            who = host if isinstance(host, str) else host.name
            self._say("dhcp_reserved", f"reserves {address} for {who}", mac=macs[0], address=address)

    # -- what goes wrong

    def silence(self) -> None:
        """The server crashes: nobody is answered. Hosts keep their addresses until their leases end."""
        with self._lab.changing():
            self._begin()
            self._plan.state = "silent"
            self._say("dhcp_silenced", "answers no DHCP any more")

    def resume(self) -> None:
        """Answer again, and let everybody have an address again after :meth:`exhaust`; leases are as before."""
        with self._lab.changing():
            self._begin()
            self._plan.state, self._plan.exhausted = "on", False
            self._say("dhcp_resumed", "answers DHCP again")

    def exhaust(self) -> None:
        """No address is left for who has none; leases are renewed. :meth:`resume` ends it."""
        with self._lab.changing():
            self._begin()
            self._plan.exhausted = True
            self._say("dhcp_full", "has no addresses left to lease")

    def restart(self) -> None:
        """Forget every lease, as a router without a disk: renewals are refused, and two hosts may meet."""
        with self._lab.changing():
            self._begin()
            self._say("dhcp_restarted", "restarted its DHCP server without its leases", reset=True)

    def renumber(self, subnet: str | None = None, old: OldSubnet = "routed") -> None:
        """A new subnet (or the next free one), of which clients hear when they renew: NAK, and a new address.

        ``old``, the subnet so far: "routed": it works until :meth:`retire`; "dead": at once not. Hosts without
        DHCP move at once. For all at once see ``router.renumber``. Raises TopologyError.
        """
        with self._lab.changing():
            before = str(self._pool.network)
            self._lab.apply(renumber_by_dhcp_ops(self._lab.topology, self._router, subnet, old))
            after = str(self._pool.network)
            text = f"{self._router.name} renumbered its LAN by DHCP {before} -> {after} (the old one: {old})"
            self._lab.log_event(
                "dhcp_renumbered", self._router.name, text, before=before, after=after, old=old
            )

    def retire(self) -> None:
        """Subnets of earlier renumberings are no longer routed. Raises TopologyError where there are none."""
        with self._lab.changing():
            self._lab.apply(retire_subnets_ops(self._lab.topology, self._router))
            text = f"{self._router.name} retired its old subnets"
            self._lab.log_event("dhcp_retired", self._router.name, text)

    # -- inside

    @property
    def _plan(self) -> DhcpPlan:
        plan = self._router.lan.segment.dhcp
        if plan is None:
            raise self._has_no_ipv4()
        return plan

    @property
    def _pool(self) -> AddressPool:
        pool = self._router.lan.segment.v4
        if pool is None:
            raise self._has_no_ipv4()
        return pool

    def _has_no_ipv4(self) -> TopologyError:
        return TopologyError(f"the LAN of {self._router.name} has no IPv4, so it can have no DHCP server")

    @property
    def _network(self) -> ipaddress.IPv4Network:
        network = self._pool.network
        assert isinstance(network, ipaddress.IPv4Network)
        return network

    def _plugs_of(self, name: str) -> list[Plug]:
        segment = self._router.lan.segment
        return [p for p in self._lab.topology.plugs() if p.owner == name and p.segment is segment]

    def _begin(self) -> None:
        if self._plan.state in ("off", "never"):
            self._lab.leasing.want()
            self._plan.state = "on"

    def _say(self, kind: str, what: str, *, reset: bool = False, **data: object) -> None:
        self._lab.apply(self._plan.ops(self._pool, reset=reset))
        self._lab.log_event(kind, self._router.name, f"{self._router.name} {what}", **data)
