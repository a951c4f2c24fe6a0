"""The actions of WANIPConnection (IGD:1 and IGD:2): a call in, its values out. Pure."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable

from netns_fixtures.portmap.behaviour import Failure
from netns_fixtures.portmap.service import Ask, MappingRefused, MappingService
from netns_fixtures.portmap.soap import Call, Fault, UpnpFault
from netns_fixtures.portmap.table import Mapping

#: The longest lease of IGD:2, one week (WANIPConnection:2 section 2.3.4).
_MAX_LEASE = 604_800
_TRANSPORTS = ("UDP", "TCP")


class Gateway:
    """One call at a time, of the inside address ``source``, at the time ``now``."""

    def __init__(self, service: MappingService, now: float, source: str, external_ip: str | None) -> None:
        self._service = service
        self._now = now
        self._source = source
        self._external_ip = external_ip

    def call(self, call: Call) -> dict[str, str] | None:
        """The values that the action returns; None where the service keeps silent. Raises UpnpFault."""
        actions: dict[str, Callable[[Call], dict[str, str]]] = {
            "GetExternalIPAddress": self._external_address,
            "AddPortMapping": self._add,
            "AddAnyPortMapping": self._add_any,
            "DeletePortMapping": self._delete,
            "GetSpecificPortMappingEntry": self._entry,
            "GetGenericPortMappingEntry": self._entry_at,
            "GetStatusInfo": self._status,
        }
        action = actions.get(call.action)
        if action is None or (call.action == "AddAnyPortMapping" and call.service.endswith(":1")):
            raise UpnpFault(Fault.InvalidAction, call.action)
        try:
            return action(call)
        except MappingRefused as refusal:
            if refusal.failure is Failure.SILENCE:
                return None
            raise UpnpFault(refusal.failure.upnp) from refusal

    def _external_address(self, _call: Call) -> dict[str, str]:
        return {"NewExternalIPAddress": self._external_ip or ""}

    def _status(self, _call: Call) -> dict[str, str]:
        state = "Connected" if self._external_ip else "Disconnected"
        uptime = str(self._service.epoch(self._now))
        return {"NewConnectionStatus": state, "NewLastConnectionError": "ERROR_NONE", "NewUptime": uptime}

    def _add(self, call: Call) -> dict[str, str]:
        ask = self._ask(call)
        if not ask.external_port:
            raise UpnpFault(Fault.WildCardNotPermittedInExtPort)
        holder = self._service.table.at(ask.transport, ask.external_port)
        if holder is not None and holder.internal_ip != ask.internal_ip:
            raise UpnpFault(Fault.ConflictInMappingEntry)
        if holder is not None and holder.internal_port != ask.internal_port:
            self._service.release(holder)  # IGD:2 2.5.16: the same client overwrites its own
        self._service.map(self._now, ask)
        return {}

    def _add_any(self, call: Call) -> dict[str, str]:
        ask = self._ask(call, exact=False)
        return {"NewReservedPort": str(self._service.map(self._now, ask).external_port)}

    def _ask(self, call: Call, *, exact: bool = True) -> Ask:
        client = call.text("NewInternalClient")
        try:
            ip = str(ipaddress.IPv4Address(client))
        except ValueError:
            raise UpnpFault(Fault.InvalidArgs, f"NewInternalClient is {client[:40]!r}") from None
        if ip != self._source:  # IGD:2 2.5.16: a client without a user's consent maps for itself only
            raise UpnpFault(Fault.ActionNotAuthorized, f"{self._source} asks for {ip}")
        lease = call.number("NewLeaseDuration", _MAX_LEASE)
        if lease and self._service.behaviour.permanent_only:
            raise UpnpFault(Fault.OnlyPermanentLeasesSupported)
        if call.text("NewRemoteHost"):
            raise UpnpFault(Fault.InvalidArgs, "a mapping for one remote host")
        internal_port = call.number("NewInternalPort")
        if not internal_port:
            raise UpnpFault(Fault.InvalidArgs, "NewInternalPort is 0")
        return Ask(
            "upnp",
            _transport(call),
            ip,
            internal_port,
            call.number("NewExternalPort"),
            lease,
            description=call.text("NewPortMappingDescription")[:200],
            exact=exact,
        )

    def _delete(self, call: Call) -> dict[str, str]:
        mapping = self._find(call)
        if mapping.internal_ip != self._source:
            raise UpnpFault(Fault.ActionNotAuthorized)
        self._service.release(mapping)
        return {}

    def _entry(self, call: Call) -> dict[str, str]:
        return self._describe(self._find(call))

    def _entry_at(self, call: Call) -> dict[str, str]:
        index, mappings = (
            call.number("NewPortMappingIndex"),
            [m for m in self._service.table if not m.is_pinhole],
        )
        if index >= len(mappings):
            raise UpnpFault(Fault.SpecifiedArrayIndexInvalid)
        mapping = mappings[index]
        key = {
            "NewRemoteHost": "",
            "NewExternalPort": str(mapping.external_port),
            "NewProtocol": mapping.transport.upper(),
        }
        return key | self._describe(mapping)

    def _find(self, call: Call) -> Mapping:
        mapping = self._service.table.at(_transport(call), call.number("NewExternalPort"))
        if mapping is None:
            raise UpnpFault(Fault.NoSuchEntryInArray)
        return mapping

    def _describe(self, mapping: Mapping) -> dict[str, str]:
        left = 0 if mapping.expires is None else max(1, round(mapping.expires - self._now))
        return {
            "NewInternalPort": str(mapping.internal_port),
            "NewInternalClient": mapping.internal_ip,
            "NewEnabled": "1",
            "NewPortMappingDescription": mapping.description or mapping.by,
            "NewLeaseDuration": str(left),
        }


def _transport(call: Call) -> str:
    transport = call.text("NewProtocol")
    if transport not in _TRANSPORTS:
        raise UpnpFault(Fault.InvalidArgs, f"NewProtocol is {transport[:40]!r}")
    return transport.lower()
