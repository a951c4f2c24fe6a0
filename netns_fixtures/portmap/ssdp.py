"""SSDP, how UPnP devices are found: searches in, answers out (UPnP Device Architecture 1.1, section 1.3)."""

from __future__ import annotations

from dataclasses import dataclass

from netns_fixtures.portmap.wire import PortMapProtocolError

GROUP = "239.255.255.250"
PORT = 1900

#: A search is a few lines.
_MAX_SIZE = 4096
_ALL = "ssdp:all"
ROOT = "upnp:rootdevice"
GATEWAY = "urn:schemas-upnp-org:device:InternetGatewayDevice:"
CONNECTION = "urn:schemas-upnp-org:service:WANIPConnection:"
#: What this device is. A version 2 device answers searches for version 1 as well (IGD:2, section 2.4).
TARGETS = (ROOT, f"{GATEWAY}1", f"{GATEWAY}2", f"{CONNECTION}1", f"{CONNECTION}2")
#: How long an answer may be believed, seconds; the device architecture asks for 1800 or more.
_MAX_AGE = 1800


@dataclass(frozen=True, slots=True)
class Search:
    """An M-SEARCH for a target."""

    target: str

    def answers(self) -> tuple[str, ...]:
        """Which of our targets it means."""
        if self.target == _ALL:
            return TARGETS
        return (self.target,) if self.target in TARGETS else ()


def parse_search(data: bytes) -> Search:
    """A search. Raises PortMapProtocolError for anything else."""
    if len(data) > _MAX_SIZE:
        raise PortMapProtocolError(f"an SSDP message of {len(data)} bytes")
    lines = data.decode("latin-1").split("\r\n")
    if lines[0].split() != ["M-SEARCH", "*", "HTTP/1.1"]:
        raise PortMapProtocolError("no search")
    fields = {
        name.strip().upper(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])
    }
    if fields.get("MAN") != '"ssdp:discover"' or not fields.get("ST"):
        raise PortMapProtocolError("a search without MAN or ST")
    return Search(fields["ST"])


def encode_answer(target: str, location: str, uuid: str) -> bytes:
    """Where the description of this device is."""
    lines = (
        "HTTP/1.1 200 OK",
        f"CACHE-CONTROL: max-age={_MAX_AGE}",
        "EXT:",
        f"LOCATION: {location}",
        "SERVER: Linux UPnP/1.1 netns-fixtures/1",
        f"ST: {target}",
        f"USN: uuid:{uuid}::{target}",
        "",
        "",
    )
    return "\r\n".join(lines).encode()
