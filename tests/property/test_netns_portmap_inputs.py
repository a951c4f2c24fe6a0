"""Whatever a client sends to a lab router's port mapping service: an answer, silence, or a fault."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from netns_fixtures.portmap import natpmp, pcp, soap, ssdp
from netns_fixtures.portmap.behaviour import PortMappingBehaviour
from netns_fixtures.portmap.datagrams import answer_datagram
from netns_fixtures.portmap.rules import change_text, elements
from netns_fixtures.portmap.service import MappingService
from netns_fixtures.portmap.upnp import Gateway
from netns_fixtures.portmap.wire import PortMapProtocolError

SOURCE, OUTSIDE = "192.168.1.10", "203.0.113.10"
#: Random bytes seldom get past the header: these do.
PCP_MAP = st.builds(
    lambda lifetime, rest: b"\x02\x01\0\0" + lifetime + bytes(10) + b"\xff\xff\xc0\xa8\x01\x0a" + rest,
    st.binary(min_size=4, max_size=4),
    st.binary(max_size=80),
)
NAT_PMP_MAP = st.builds(
    lambda opcode, rest: bytes((0, opcode, 0, 0)) + rest,
    st.sampled_from((1, 2)),
    st.binary(min_size=8, max_size=8),
)
TEXT = st.text(max_size=30)
NUMBER = st.integers(0, 70_000).map(str) | TEXT
ARGUMENTS = st.fixed_dictionaries(
    {},
    optional={
        "NewRemoteHost": st.just("") | TEXT,
        "NewExternalPort": NUMBER,
        "NewProtocol": st.sampled_from(("UDP", "TCP", "udp")),
        "NewInternalPort": NUMBER,
        "NewInternalClient": st.just(SOURCE) | TEXT,
        "NewPortMappingDescription": TEXT,
        "NewLeaseDuration": NUMBER,
        "NewPortMappingIndex": NUMBER,
    },
)
ACTIONS = st.sampled_from(
    (
        *("AddPortMapping", "AddAnyPortMapping", "DeletePortMapping", "GetSpecificPortMappingEntry"),
        *("GetGenericPortMappingEntry", "GetExternalIPAddress", "GetStatusInfo"),
    )
)


def a_service() -> MappingService:
    return MappingService(0.0, PortMappingBehaviour(max_mappings=3), lambda news: None)


@given(st.binary(max_size=1200))
def test_any_bytes_are_a_request_or_the_protocol_error(data: bytes) -> None:
    """Each parser raises nothing else."""
    for parse in (pcp.parse_request, natpmp.parse_request, ssdp.parse_search):
        try:
            parse(data)
        except PortMapProtocolError:
            pass


@given(st.lists(st.binary(max_size=1200) | PCP_MAP | NAT_PMP_MAP, max_size=12))
def test_any_datagrams_leave_a_table_that_can_be_loaded(datagrams: list[bytes]) -> None:
    """Answers are bounded, the table keeps its size, and no port leads to two places."""
    service = a_service()
    for now, data in enumerate(datagrams):
        answer = answer_datagram(service, float(now), data, SOURCE, OUTSIDE)
        assert answer is None or len(answer) <= pcp.MAX_SIZE
    assert len(service.table) <= 3
    installed = elements(service.table, OUTSIDE)
    ports = [element for name, element in installed if name == "udp_ports"]
    assert len(ports) == len(set(ports))
    assert change_text(set(), installed).count("add element") == len(installed)


@given(TEXT, st.binary(max_size=400))
def test_any_body_is_a_call_or_the_protocol_error(header: str, body: bytes) -> None:
    """Also behind a SOAPAction that is right."""
    for soap_action in (header, f'"{ssdp.CONNECTION}1#AddPortMapping"'):
        try:
            soap.parse_call(soap_action, body)
        except PortMapProtocolError:
            pass


@given(st.lists(st.tuples(ACTIONS, ARGUMENTS), max_size=8))
def test_any_calls_are_answered_or_a_fault(calls: list[tuple[str, dict[str, str]]]) -> None:
    """And what is answered is XML that can be sent."""
    service = a_service()
    for action, arguments in calls:
        call = soap.Call(f"{ssdp.CONNECTION}2", action, arguments)
        try:
            values = Gateway(service, 1.0, SOURCE, OUTSIDE).call(call)
        except soap.UpnpFault:
            continue
        assert values is not None
        assert soap.encode_answer(call, values)
    assert len(service.table) <= 3
