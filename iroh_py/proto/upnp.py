"""UPnP IGD, the part that maps a UDP port: SSDP search, device description, SOAP calls (PROTOCOL.md 10.5).

Everything a router sends is untrusted: sizes are bounded, and XML with a document type (which is where entity
bombs live) is refused.
"""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urljoin, urlsplit
from xml.parsers import expat
from xml.sax.saxutils import escape

from iroh_py.errors import PortmapError
from iroh_py.network import Addr

#: Where routers listen for searches (UPnP Device Architecture 1.1, section 1.2).
MULTICAST: Addr = ("239.255.255.250", 1900)
PORT = 1900
#: What we look for: any of these maps ports (IGD 1 and 2; PPP for old modems).
SEARCH_TARGET = "urn:schemas-upnp-org:device:InternetGatewayDevice:1"
SERVICES = (
    "urn:schemas-upnp-org:service:WANIPConnection:2",
    "urn:schemas-upnp-org:service:WANIPConnection:1",
    "urn:schemas-upnp-org:service:WANPPPConnection:1",
)
DESCRIPTION = "iroh-portmap"

_MAX_XML = 256 * 1024
_MAX_DATAGRAM = 4096
_MAX_DEPTH = 32
_MAX_TEXT = 4096


@dataclass(frozen=True, slots=True)
class Service:
    """The router's port mapping service: its type and the URL for calls."""

    type: str
    control_url: str


def search_request(target: str = SEARCH_TARGET) -> bytes:
    """An SSDP search, answered within a second."""
    lines = (
        "M-SEARCH * HTTP/1.1",
        f"HOST: {MULTICAST[0]}:{MULTICAST[1]}",
        'MAN: "ssdp:discover"',
        "MX: 1",
        f"ST: {target}",
        "",
        "",
    )
    return "\r\n".join(lines).encode()


def parse_search_response(data: bytes, source_ip: str) -> str:
    """The URL of the device description.

    It has to be on the host that answered, over plain HTTP: else anybody on the network could make us fetch
    any URL. Raises PortmapError.
    """
    if len(data) > _MAX_DATAGRAM:
        raise PortmapError(f"an SSDP answer of {len(data)} bytes")
    lines = data.decode("latin-1").split("\r\n")
    if not lines[0].startswith("HTTP/1.") or " 200" not in lines[0]:
        raise PortmapError("no SSDP answer")
    fields = {
        name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])
    }
    location = fields.get("location", "")
    _check_url(location, source_ip)
    return location


def parse_description(data: bytes, location: str) -> Service:
    """The port mapping service in a device description. Raises PortmapError."""
    found: dict[str, str] = {}
    base = location
    service: dict[str, str] = {}
    for path, text in _elements(data):
        name = path[-1]
        if name == "URLBase" and text:
            base = text
        elif len(path) > 1 and path[-2] == "service":
            service[name] = text
        elif name == "service":
            found.setdefault(service.get("serviceType", ""), service.get("controlURL", ""))
            service = {}
    for kind in SERVICES:
        if found.get(kind):
            url = urljoin(base, found[kind])
            _check_url(url, urlsplit(location).hostname or "")
            return Service(kind, url)
    raise PortmapError("the router describes no port mapping service")


def soap_call(service: Service, action: str, arguments: dict[str, str]) -> tuple[dict[str, str], bytes]:
    """Header fields and body of a call."""
    inner = "".join(f"<{name}>{escape(value)}</{name}>" for name, value in arguments.items())
    body = (
        '<?xml version="1.0"?>'
        '<s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/"'
        ' s:encodingStyle="http://schemas.xmlsoap.org/soap/encoding/">'
        f'<s:Body><u:{action} xmlns:u="{service.type}">{inner}</u:{action}></s:Body></s:Envelope>'
    )
    headers = {
        "Content-Type": 'text/xml; charset="utf-8"',
        "SOAPAction": f'"{service.type}#{action}"',
    }
    return headers, body.encode()


def parse_soap_answer(status: int, data: bytes) -> dict[str, str]:
    """The values of an answer by name. Raises PortmapError with the router's error code and text."""
    values = {path[-1]: text for path, text in _elements(data)}
    if status == 200:
        return values
    code, text = values.get("errorCode", str(status)), values.get("errorDescription", "")
    raise PortmapError(f"the router refuses: error {code} {text[:100]}".rstrip())


def add_mapping(external_port: int, internal: Addr, lease: int) -> dict[str, str]:
    """The arguments of AddPortMapping for UDP; ``lease`` in seconds, 0 for ever."""
    return {
        "NewRemoteHost": "",
        "NewExternalPort": str(external_port),
        "NewProtocol": "UDP",
        "NewInternalPort": str(internal[1]),
        "NewInternalClient": internal[0],
        "NewEnabled": "1",
        "NewPortMappingDescription": DESCRIPTION,
        "NewLeaseDuration": str(lease),
    }


def delete_mapping(external_port: int) -> dict[str, str]:
    """The arguments of DeletePortMapping for UDP."""
    return {"NewRemoteHost": "", "NewExternalPort": str(external_port), "NewProtocol": "UDP"}


def _check_url(url: str, ip: str) -> None:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise PortmapError(f"{url[:100]!r} is no URL") from error
    if parts.scheme != "http" or parts.hostname != ip or port == 0:
        raise PortmapError(f"{url[:100]!r} does not lead to the router {ip}")


def _elements(data: bytes) -> list[tuple[tuple[str, ...], str]]:
    """Paths (names without namespace) and texts of all elements, inner ones first. Raises PortmapError."""
    if len(data) > _MAX_XML:
        raise PortmapError(f"an XML document of {len(data)} bytes")
    parser = expat.ParserCreate()
    parser.buffer_text = True
    path: list[str] = []
    texts: list[list[str]] = []
    out: list[tuple[tuple[str, ...], str]] = []

    def start(name: str, attributes: dict[str, str]) -> None:
        if len(path) >= _MAX_DEPTH:
            raise PortmapError("XML is nested too deeply")
        path.append(name.rpartition(":")[2])
        texts.append([])

    def end(name: str) -> None:
        out.append((tuple(path), "".join(texts.pop()).strip()[:_MAX_TEXT]))
        path.pop()

    def text(part: str) -> None:
        texts[-1].append(part)

    def refuse(*arguments: object) -> None:
        raise PortmapError("XML with a document type is refused")

    parser.StartElementHandler = start
    parser.EndElementHandler = end
    parser.CharacterDataHandler = text
    parser.StartDoctypeDeclHandler = refuse
    parser.EntityDeclHandler = refuse
    try:
        parser.Parse(data, True)
    except (expat.ExpatError, ValueError, LookupError) as error:  # the last two: encodings it does not know
        raise PortmapError(f"no well-formed XML: {error}") from error
    return out
