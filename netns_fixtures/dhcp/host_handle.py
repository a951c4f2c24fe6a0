"""``host.dhcp``: the DHCP clients of a host."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from netns_fixtures.dhcp.steps import Event
from netns_fixtures.errors import HostFrozen, TopologyError
from netns_fixtures.interface import Interface
from netns_fixtures.verbs import handle

if TYPE_CHECKING:
    from netns_fixtures.dhcp.lease import Granted
    from netns_fixtures.lab import Lab
    from netns_fixtures.plug import Plug
    from netns_fixtures.topology import HostPlan


@handle(but=("wait",))
class HostDhcp:
    """One client for each interface of a host with ``dhcp``. Where ``interface`` is None, the first one is meant."""

    def __init__(self, lab: Lab, plan: HostPlan) -> None:
        self._lab = lab
        self._plan = plan

    def __repr__(self) -> str:
        states = " ".join(f"{name}={self._state(plug)}" for name, plug in self._plan.plugs.items())
        return f"<HostDhcp of {self._plan.name} {states}>"

    @property
    def enabled(self) -> bool:
        """Whether the host gets its IPv4 addresses by DHCP."""
        return self._plan.dhcp is not None

    def state(self, interface: str | Interface | None = None) -> str:
        """off (no link), selecting, requesting, rebooting, checking, resting, bound, renewing, rebinding, stopped.

        Names of RFC 2131 figure 5. Raises TopologyError for a host without DHCP.
        """
        return self._state(self._plug(interface))

    def lease(self, interface: str | Interface | None = None) -> Granted | None:
        """What was granted, with its times; None where there is no lease. Raises TopologyError without DHCP."""
        client = self._plug(interface).dhcp
        assert client is not None
        return client.lease

    def wait(
        self, state: str = "bound", interface: str | Interface | None = None, timeout: float = 10.0
    ) -> None:
        """Wait until the client is in a state, seconds at most. Raises TimeoutError, TopologyError."""
        plug = self._plug(interface)
        self._lab.ready()
        deadline = time.monotonic() + timeout
        while True:
            seen = self._lab.leasing.count
            if self._state(plug) == state:
                return
            if not self._lab.leasing.wait(seen, deadline - time.monotonic()):
                raise TimeoutError(
                    f"{plug.owner} {plug.name} is {self._state(plug)} after {timeout:g} s, not {state}"
                )

    def renew(self, interface: str | Interface | None = None) -> None:
        """Ask for more time now, by unicast; without a lease, ask for one. Raises TopologyError without DHCP.

        Returns when the server has answered, if it is one that does.
        """
        self._tell(interface, "renew", "dhcp_renewing", "asks for its lease again")

    def release(self, interface: str | Interface | None = None) -> None:
        """Give the lease back: address and routes go, and come again with :meth:`renew` or a new link.

        Raises TopologyError for a host without DHCP.
        """
        self._tell(interface, "release", "dhcp_releasing", "gives its lease back")

    def _tell(self, interface: str | Interface | None, event: Event, kind: str, what: str) -> None:
        plug = self._plug(interface)
        with self._lab.changing():
            self._lab.ready()
            assert plug.dhcp is not None
            if plug.dhcp.frozen:
                raise HostFrozen(
                    f"{plug.owner} is frozen, and its DHCP client with it, until {plug.owner}.thaw()"
                )
            self._lab.apply(plug.dhcp.tell_ops(plug, event))
            text = f"{plug.owner} {plug.name} {what}"
            self._lab.log_event(kind, plug.owner, text, interface=plug.name)
            if event == "renew":
                self._lab.await_configured([plug])
            else:
                self._lab.leasing.hear()

    def _plug(self, interface: str | Interface | None) -> Plug:
        host = self._lab.hosts[self._plan.name]
        found = interface if isinstance(interface, Interface) else host.interface(interface)
        if found.plug.dhcp is None:
            raise TopologyError(
                f"{self._plan.name} gets its addresses from the lab; describe it with dhcp=True"
            )
        return found.plug

    def _state(self, plug: Plug) -> str:
        return plug.dhcp.state if plug.dhcp is not None else "without"
