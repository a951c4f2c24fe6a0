"""What a test holds of a router's port mapping service."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from netns_fixtures.errors import TopologyError
from netns_fixtures.node_options import no_ports
from netns_fixtures.portmap import control
from netns_fixtures.portmap.behaviour import PortMappingBehaviour, failure_of, protocols_of
from netns_fixtures.replies import decode_reply
from netns_fixtures.service import ServiceProcess
from netns_fixtures.verbs import handle

if TYPE_CHECKING:
    from netns_fixtures.lab import Lab
    from netns_fixtures.topology import RouterPlan

_MODULE = "netns_fixtures.portmap"
#: How each change of a mapping is told, by what the server calls it.
_EVENTS = {
    "mapped": ("port_mapped", "mapped"),
    "renewed": ("port_renewed", "renewed"),
    "released": ("port_released", "released"),
    "expired": ("port_expired", "let expire"),
    "lost": ("port_lost", "forgot"),
}


@dataclass(frozen=True, slots=True)
class PortMap:
    """One mapped port. ``expires_in`` seconds from when it was asked for, None for ever; ``by`` is the protocol."""

    transport: str
    external_ip: str | None
    external_port: int
    internal_ip: str
    internal_port: int
    expires_in: float | None
    by: str
    description: str = ""

    def __str__(self) -> str:
        outside, inside = (
            f"[{ip}]:{port}" if ip is not None and ":" in ip else f"{ip}:{port}"
            for ip, port in (
                (self.external_ip, self.external_port),
                (self.internal_ip, self.internal_port),
            )
        )
        return f"{self.transport} {outside} -> {inside} by {self.by}"


@handle(but=("describe", "start", "wait_started", "close"))
class PortMapping:
    """The port mapping service of one router: ``router.port_mapping``. Off unless it was asked for.

    Each verb takes effect before it returns and is an event of the lab, and so is what clients obtain:
    port_mapped, port_renewed, port_released, port_expired, port_lost, port_refused.
    """

    def __init__(self, lab: Lab, plan: RouterPlan) -> None:
        self._lab = lab
        self._plan = plan
        self._behaviour = PortMappingBehaviour()
        self._process: ServiceProcess | None = None
        self._described = False
        self._changed = threading.Condition()
        self._news = 0

    def __repr__(self) -> str:
        state = ", ".join(self._behaviour.protocols) if self.enabled else "off"
        return f"<PortMapping {self._plan.name}: {state}>"

    @property
    def enabled(self) -> bool:
        """Whether the router answers (or will, once the lab is built)."""
        return self._process is not None or self._described

    @property
    def behaviour(self) -> PortMappingBehaviour:
        """What it speaks and grants."""
        return self._behaviour

    def describe(self, protocols: str | Iterable[str]) -> None:
        """Switch it on when the lab is built. Raises TopologyError."""
        self._check()
        self._behaviour = PortMappingBehaviour(protocols=protocols_of(protocols))
        self._described = True
        self._lab.add_service(self, at_build=True)

    def enable(self, protocols: str | Sequence[str] = "all", **behaviour: Any) -> None:
        """Switch it on, or change how it answers: ``protocols`` of "pcp", "nat-pmp", "upnp", or "all";
        ``behaviour`` are fields of PortMappingBehaviour; those not given are as at first.

        Mappings stay. Raises TopologyError for a router without NAT, or a value that makes no sense.
        """
        self._check()
        wanted = PortMappingBehaviour.of({"protocols": protocols_of(protocols), **behaviour})
        with self._lab.changing():
            self._lab.ready()
            self._behaviour = wanted
            if self._process is None:
                self._lab.add_service(self)
                self.start()
                self.wait_started()
            else:
                self._ask("behave", **wanted.as_dict())
            text = f"{self._plan.name} maps ports by {', '.join(wanted.protocols)}"
            self._tell("port_mapping_on", text, behaviour=wanted.as_dict())

    def disable(self) -> None:
        """Switch it off: requests are answered by nobody, mappings are gone. Flows under way go on."""
        with self._lab.changing():
            self._lab.ready()
            process, self._process = self._process, None
            if process is not None:
                decode_reply(process.request(control.encode_request("stop")))
                process.wait_end()
                self._lab.remove_service(self)
            self._tell("port_mapping_off", f"{self._plan.name} maps no ports any more")

    def restart(self) -> None:
        """Lose all mappings and begin the epoch at 0, as a router without permanent memory does when it restarts.

        It announces itself by multicast (RFC 6886 3.2.1, RFC 6887 14.1). Flows under way are the NAT's: see
        ``router.nat.flush()``. Raises TopologyError where it is off.
        """
        with self._lab.changing():
            self._ask("restart")
            self._tell("port_mapping_restart", f"{self._plan.name} restarted its port mapping")

    def fail_next(self, failure: str, count: int = 1) -> None:
        """Refuse the next ``count`` requests for a mapping: "not_authorized", "network_failure",
        "out_of_resources", "conflict", or "silence". Raises TopologyError."""
        wanted = failure_of(failure)
        if not isinstance(count, int) or count < 1:
            raise TopologyError(f"count={count!r}: it is a number of requests, 1 or more")
        with self._lab.changing():
            self._ask("fail_next", failure=wanted, count=count)
            times = f"next {count} requests" if count > 1 else "next request"
            self._tell("port_mapping_fails", f"{self._plan.name} refuses the {times} for a port: {wanted}")

    def mappings(self) -> list[PortMap]:
        """What is mapped now; empty where the service is off."""
        self._lab.ready()
        return [PortMap(**m) for m in self._ask("mappings")] if self._process is not None else []

    def wait(self, count: int = 1, timeout: float = 10.0) -> list[PortMap]:
        """Wait until exactly ``count`` ports are mapped, seconds at most; returns them. Raises TimeoutError."""
        deadline = time.monotonic() + timeout
        while True:
            with self._changed:
                seen = self._news
            mapped = self.mappings()
            if len(mapped) == count:
                return mapped
            with self._changed:
                left = deadline - time.monotonic()
                if not self._changed.wait_for(lambda seen=seen: self._news != seen, max(0.0, left)):  # type: ignore[misc]
                    said = ", ".join(map(str, mapped)) or "nothing"
                    raise TimeoutError(
                        f"{self._plan.name} maps {said} after {timeout:g} s, not {count} ports"
                    )

    # -- called by the lab

    def start(self) -> None:
        """Start the process; :meth:`wait_started` must follow."""
        self._described = False
        node = self._lab.routers[self._plan.name]
        pinholes = self._plan.prefixes is not None and self._plan.prefixes.nat is None
        arguments = (
            self._plan.name,
            json.dumps(self._behaviour.as_dict()),
            "yes" if pinholes else "no",
        )
        self._process = ServiceProcess(node, _MODULE, arguments, self._take_news)

    def wait_started(self) -> None:
        """Wait until it serves."""
        assert self._process is not None
        decode_reply(self._process.wait_ready())

    def close(self) -> None:
        """The lab ends."""
        if self._process is not None:
            self._process.close()

    # -- inside

    def _ask(self, verb: str, **arguments: Any) -> Any:
        self._lab.ready()
        if self._process is None:
            raise TopologyError(f"router {self._plan.name} maps no ports; see router.port_mapping.enable()")
        return decode_reply(self._process.request(control.encode_request(verb, **arguments)))

    def _take_news(self, line: str) -> None:
        try:
            told = json.loads(line)
        except ValueError:
            told = {"kind": "said", "why": line}  # a traceback: it belongs into the timeline
        name, kind = self._plan.name, told.pop("kind")
        why = told.pop("why")
        if kind in _EVENTS:
            lifetime = told.pop("lifetime")
            mapping = PortMap(**told)
            event, verb = _EVENTS[kind]
            data = {"mapping": str(mapping), "lifetime": lifetime, **told}
            self._lab.log_event(event, name, f"{name} {verb} {mapping}", **data)
        elif kind == "refused":
            self._lab.log_event("port_refused", name, f"{name} refused to map a port: {why}", why=why)
        else:
            self._lab.log_event("port_mapping_said", name, f"{name}'s port mapping says: {why}")
        with self._changed:
            self._news += 1
            self._changed.notify_all()

    def _tell(self, kind: str, text: str, **data: Any) -> None:
        self._lab.log_event(kind, self._plan.name, text, **data)

    def _check(self) -> None:
        if not self._plan.nat.translates:
            raise no_ports(self._plan.name)
