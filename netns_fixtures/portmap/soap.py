"""UPnP's calls: the device description, SOAP actions in, answers and faults out (UPnP IGD:1 and IGD:2)."""

from __future__ import annotations

import enum
import re
from dataclasses import dataclass, field
from html import escape
from xml.parsers import expat

from netns_fixtures.portmap.ssdp import CONNECTION, GATEWAY
from netns_fixtures.portmap.wire import PortMapProtocolError

DESCRIPTION_PATH = "/description.xml"
CONTROL_PATH = "/control"

#: A call has ten short values.
MAX_BODY = 16 * 1024
_MAX_DEPTH = 8
_SERVICE = re.compile(rf'"?({re.escape(CONNECTION)}[12])#(\w{{1,64}})"?')
#: What XML 1.0 cannot say even escaped.
_UNSPEAKABLE = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


class Fault(enum.IntEnum):
    """Error codes of the device architecture (4xx, 5xx) and of WANIPConnection (7xx)."""

    InvalidAction = 401
    InvalidArgs = 402
    ActionFailed = 501
    ActionNotAuthorized = 606
    SpecifiedArrayIndexInvalid = 713
    NoSuchEntryInArray = 714
    WildCardNotPermittedInExtPort = 716
    ConflictInMappingEntry = 718
    OnlyPermanentLeasesSupported = 725
    NoPortMapsAvailable = 728


class UpnpFault(PortMapProtocolError):
    """A call that must be answered with a fault."""

    def __init__(self, fault: Fault, why: str = "") -> None:
        super().__init__(f"{fault.name}: {why}" if why else fault.name)
        self.fault = fault


@dataclass(frozen=True, slots=True)
class Call:
    """An action of the service with its arguments by name."""

    service: str
    action: str
    arguments: dict[str, str] = field(default_factory=dict)

    def text(self, name: str) -> str:
        """An argument. Raises UpnpFault where it is missing."""
        try:
            return self.arguments[name]
        except KeyError:
            raise UpnpFault(Fault.InvalidArgs, f"no {name}") from None

    def number(self, name: str, most: int = 65535) -> int:
        """A number from 0 to ``most``. Raises UpnpFault."""
        text = self.text(name)
        if not (text.isascii() and text.isdigit() and len(text) <= 10 and int(text) <= most):
            raise UpnpFault(Fault.InvalidArgs, f"{name} is {text[:40]!r}")
        return int(text)


def parse_call(soap_action: str, body: bytes) -> Call:
    """A call from its header field and body. Raises UpnpFault for an action, PortMapProtocolError for rubbish."""
    match = _SERVICE.fullmatch(soap_action.strip())
    if match is None:
        raise UpnpFault(Fault.InvalidAction, f"SOAPAction {soap_action[:100]!r}")
    service, action = match.groups()
    arguments: dict[str, str] = {}
    for path, text in _elements(body):
        if len(path) >= 2 and path[-2] == action:
            arguments[path[-1]] = text
    return Call(service, action, arguments)


def encode_answer(call: Call, values: dict[str, str]) -> bytes:
    """What an action returns."""
    inner = "".join(f"<{name}>{_escape(value)}</{name}>" for name, value in values.items())
    return _envelope(f'<u:{call.action}Response xmlns:u="{call.service}">{inner}</u:{call.action}Response>')


def encode_fault(fault: Fault) -> bytes:
    """A refusal; it goes out with status 500."""
    return _envelope(
        "<s:Fault><faultcode>s:Client</faultcode><faultstring>UPnPError</faultstring><detail>"
        '<UPnPError xmlns="urn:schemas-upnp-org:control-1-0">'
        f"<errorCode>{int(fault)}</errorCode><errorDescription>{fault.name}</errorDescription>"
        "</UPnPError></detail></s:Fault>"
    )


def encode_description(uuid: str, name: str) -> bytes:
    """The device: gateway, WAN device, WAN connection, and its one service."""
    service = (
        f"<service><serviceType>{CONNECTION}2</serviceType>"
        "<serviceId>urn:upnp-org:serviceId:WANIPConn1</serviceId>"
        f"<controlURL>{CONTROL_PATH}</controlURL><eventSubURL></eventSubURL><SCPDURL>/scpd.xml</SCPDURL></service>"
    )
    connection = _device("WANConnectionDevice:2", name, f"{uuid}-2", f"<serviceList>{service}</serviceList>")
    wan = _device("WANDevice:2", name, f"{uuid}-1", f"<deviceList>{connection}</deviceList>")
    root = _device(GATEWAY.split(":")[-2] + ":2", name, uuid, f"<deviceList>{wan}</deviceList>")
    text = (
        '<?xml version="1.0"?><root xmlns="urn:schemas-upnp-org:device-1-0">'
        f"<specVersion><major>1</major><minor>1</minor></specVersion>{root}</root>"
    )
    return text.encode()


def _device(kind: str, name: str, uuid: str, inner: str) -> str:
    return (
        f"<device><deviceType>urn:schemas-upnp-org:device:{kind}</deviceType>"
        f"<friendlyName>{_escape(name)}</friendlyName><manufacturer>netns-fixtures</manufacturer>"
        f"<modelName>lab router</modelName><UDN>uuid:{uuid}</UDN>{inner}</device>"
    )


def _envelope(body: str) -> bytes:
    text = (
        '<?xml version="1.0"?><s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/"'
        f' s:encodingStyle="http://schemas.xmlsoap.org/soap/encoding/"><s:Body>{body}</s:Body></s:Envelope>'
    )
    return text.encode()


def _escape(text: str) -> str:
    return escape(_UNSPEAKABLE.sub("?", text))


def _elements(body: bytes) -> list[tuple[tuple[str, ...], str]]:
    """Paths (names without prefix) and texts of all elements. Raises PortMapProtocolError."""
    if len(body) > MAX_BODY:
        raise PortMapProtocolError(f"a call of {len(body)} bytes")
    parser = expat.ParserCreate()
    parser.buffer_text = True
    path: list[str] = []
    texts: list[list[str]] = []
    found: list[tuple[tuple[str, ...], str]] = []

    def start(name: str, _attributes: dict[str, str]) -> None:
        if len(path) >= _MAX_DEPTH:
            raise PortMapProtocolError("XML is nested too deeply")
        path.append(name.rpartition(":")[2])
        texts.append([])

    def end(_name: str) -> None:
        found.append((tuple(path), "".join(texts.pop()).strip()))
        path.pop()

    def refuse(*_arguments: object) -> None:
        raise PortMapProtocolError("XML with a document type is refused")  # where entity bombs live

    parser.StartElementHandler = start
    parser.EndElementHandler = end
    parser.CharacterDataHandler = lambda text: texts[-1].append(text)
    parser.StartDoctypeDeclHandler = refuse
    try:
        parser.Parse(body, True)
    except (expat.ExpatError, ValueError, LookupError) as error:  # the last two: encodings it does not know
        raise PortMapProtocolError(f"no well-formed XML: {error}") from error
    return found
