"""A captive portal in a router: guests reach its log-in page and nothing else, until they are released."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING

from netns_fixtures.dhcp.plan import ROUTER_ADDRESS
from netns_fixtures.errors import TopologyError
from netns_fixtures.node_firewall import NodeFirewall
from netns_fixtures.ops import Op
from netns_fixtures.portal_pages import STATUSES
from netns_fixtures.portal_rules import PORT, PortalRules
from netns_fixtures.service import ServiceProcess
from netns_fixtures.sight import seen_addresses
from netns_fixtures.verbs import handle

if TYPE_CHECKING:
    from netns_fixtures.node import Node

_MODULE = "netns_fixtures.portal_server"


@handle(but=("describe", "start", "wait_started", "close"))
class CaptivePortal:
    """The captive portal of one router: ``router.portal``. Off unless it was asked for.

    While it is on, a guest's web requests (TCP port 80, any address) are answered by the portal's server:
    302 to its log-in page, or 511. Names can be asked for (port 53), all else is dropped, flows under way
    too. Guests are known by their addresses. Each verb is an event of the lab, and so is each answer
    (portal_answered).
    """

    def __init__(self, node: Node, firewall: NodeFirewall) -> None:
        self._node = node
        self._lab = node.lab
        self._firewall = firewall
        self._rules: PortalRules | None = None
        self._status, self._location = STATUSES[0], ""
        self._process: ServiceProcess | None = None

    def __repr__(self) -> str:
        return f"<CaptivePortal {self._node.name}: {self}>"

    def __str__(self) -> str:
        if self._rules is None:
            return "off"
        if self._rules.everybody:
            return "everybody released"
        return f"on, released {', '.join(self._rules.released) or 'nobody'}"

    @property
    def enabled(self) -> bool:
        """Whether there is one (or will be, once the lab is built)."""
        return self._rules is not None

    @property
    def released(self) -> tuple[str, ...]:
        """The addresses that pass."""
        return self._rules.released if self._rules is not None else ()

    @property
    def process(self) -> ServiceProcess | None:
        """Its web server, while it runs."""
        return self._process

    def enable(self, *, status: int = 302, location: str = "", reject: bool = False) -> None:
        """Switch it on, with nobody released. ``status`` is 302 or 511.

        ``location`` is the URL of the log-in page; "" is one at the router's own address. ``reject``: what
        is blocked is told so, instead of silence. Raises TopologyError.
        """
        self._check(status)
        with self._lab.changing():
            self._lab.ready()
            self._stop()
            self._status, self._location = status, location
            self._lab.add_service(self)
            self.start()
            self.wait_started()
            self._set(PortalRules(reject=reject))
            self._lab.apply(self._announce_ops())
            page = f" at {location}" if location else ""
            text = f"{self._node.name} has a captive portal now ({status}{page})"
            self._tell("portal_on", text, status=status, location=location)

    def disable(self) -> None:
        """Switch it off: everybody passes, as the firewall lets them, and port 80 is the web again."""
        with self._lab.changing():
            self._lab.ready()
            self._firewall.set_portal(None)
            self._rules = None
            self._stop()
            self._lab.apply(self._announce_ops())
            self._tell("portal_off", f"{self._node.name} has no captive portal any more")

    def release(self, guest: Node | str | None = None) -> None:
        """Let a guest pass, a node by the addresses that it has now or an address; None: everybody.

        Raises TopologyError where there is no portal.
        """
        rules = self._require()
        with self._lab.changing():
            if guest is None:
                self._set(replace(rules, everybody=True))
            else:
                self._set(replace(rules, released=_with(rules.released, seen_addresses(self._node, guest))))
            self._tell("portal_released", f"{self._node.name} released {_name(guest)} from its portal")

    def enforce(self, guest: Node | str | None = None) -> None:
        """Take a release back, of one guest or of everybody: they have to log in again. Flows are cut.

        Raises TopologyError where there is no portal, and for one guest while everybody is released.
        """
        rules = self._require()
        if guest is not None and rules.everybody:
            raise TopologyError(f"{self._node.name} released everybody; enforce() takes that back")
        with self._lab.changing():
            gone = None if guest is None else seen_addresses(self._node, guest)
            left = () if gone is None else tuple(ip for ip in rules.released if ip not in gone)
            self._set(replace(rules, released=left, everybody=False))
            self._tell("portal_enforced", f"{self._node.name} caught {_name(guest)} in its portal again")

    # -- called by the lab

    def describe(self) -> None:
        """From the start of a lab that is not built yet."""
        self._rules = PortalRules()
        self._firewall.describe_portal(self._rules)
        self._lab.topology.pending += self._announce_ops()
        self._lab.add_service(self, at_build=True)

    def start(self) -> None:
        """Start the server; :meth:`wait_started` must follow."""
        arguments = (str(PORT), str(self._status), self._location)
        self._process = ServiceProcess(self._node, _MODULE, arguments, self._take_line)

    def wait_started(self) -> None:
        """Wait until it serves."""
        assert self._process is not None
        self._process.wait_ready()

    def close(self) -> None:
        """The lab ends."""
        if self._process is not None:
            self._process.close()

    # -- inside

    def _announce_ops(self) -> list[Op]:
        """Let DHCP say where it is (RFC 8910), from the next lease or renewal on."""
        segment = self._lab.topology.routers[self._node.name].lan.segment
        if segment.dhcp is None:
            return []
        page = self._location or f"http://{ROUTER_ADDRESS}/"
        segment.dhcp.portal = page if self._rules is not None else ""
        return segment.dhcp_ops()

    def _set(self, rules: PortalRules) -> None:
        self._firewall.set_portal(rules)
        self._rules = rules

    def _stop(self) -> None:
        """End the server, if there is one; another one takes its port."""
        process, self._process = self._process, None
        if process is not None:
            process.hang_up()
            process.wait_end()
            self._lab.remove_service(self)

    def _take_line(self, line: str) -> None:
        name = self._node.name
        try:
            told = json.loads(line)
            text = f"{name}'s portal answered {told['client']} with {told['status']} for {told['url']}"
        except (ValueError, TypeError, KeyError):
            # A traceback: it belongs into the timeline.
            self._lab.log_event("portal_said", name, f"{name}'s portal says: {line}")
            return
        self._lab.log_event("portal_answered", name, text, **told)

    def _require(self) -> PortalRules:
        if self._rules is None:
            raise TopologyError(f"{self._node.name} has no captive portal; see router.captive_portal()")
        return self._rules

    def _check(self, status: int) -> None:
        if status not in STATUSES:
            raise TopologyError(f"status={status!r}: a portal answers 302 or 511 (RFC 6585 section 6)")

    def _tell(self, kind: str, text: str, **data: object) -> None:
        self._lab.log_event(kind, self._node.name, text, **data)


def _with(addresses: tuple[str, ...], new: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys((*addresses, *new)))


def _name(guest: Node | str | None) -> str:
    return "everybody" if guest is None else guest if isinstance(guest, str) else guest.name
