"""The port mapping service of lab routers, without a kernel: what it grants, refuses, and loads."""

from __future__ import annotations

import pytest

from iroh_py.errors import PortmapError
from iroh_py.proto import natpmp as client_natpmp
from iroh_py.proto import pcp as client_pcp
from iroh_py.proto import upnp as client_upnp
from netns_fixtures import TopologyError
from netns_fixtures.portmap import natpmp, pcp, rules, soap, ssdp
from netns_fixtures.portmap.behaviour import Failure, PortMappingBehaviour
from netns_fixtures.portmap.datagrams import announcements, answer_datagram
from netns_fixtures.portmap.service import Ask, MappingRefused, MappingService, News
from netns_fixtures.portmap.table import Mapping
from netns_fixtures.portmap.upnp import Gateway
from netns_fixtures.portmap.wire import PortMapProtocolError, pack_ip16

LAPTOP, OUTSIDE = "192.168.1.10", "203.0.113.10"
NONCE = bytes(range(12))


def third_party(ip: str) -> bytes:
    """The option THIRD_PARTY (RFC 6887 section 13.1)."""
    return bytes((1, 0, 0, 16)) + pack_ip16(ip)


class Router:
    """A service, and what it told."""

    def __init__(self, **behaviour: object) -> None:
        self.news: list[News] = []
        self.service = MappingService(100.0, PortMappingBehaviour.of(behaviour), self.news.append)

    def datagram(self, data: bytes, now: float = 100.0, outside: str | None = OUTSIDE) -> bytes | None:
        return answer_datagram(self.service, now, data, LAPTOP, outside)

    def map_pcp(self, now: float = 100.0, **fields: object) -> client_pcp.MapResponse:
        values = {"client_ip": LAPTOP, "nonce": NONCE, "internal_port": 4444, "lifetime": 3600} | fields
        answer = self.datagram(client_pcp.encode_request(client_pcp.MapRequest(**values)), now)  # type: ignore[arg-type]
        assert answer is not None
        response = client_pcp.parse_response(answer)
        assert isinstance(response, client_pcp.MapResponse)
        return response

    def map_nat_pmp(self, internal: int, lifetime: int, external: int = 0) -> client_natpmp.MapResponse:
        request = client_natpmp.MapRequest(internal, lifetime, external)
        answer = self.datagram(client_natpmp.encode_request(request))
        assert answer is not None
        response = client_natpmp.parse_response(answer)
        assert isinstance(response, client_natpmp.MapResponse)
        return response

    def call(self, action: str, arguments: dict[str, str], *, source: str = LAPTOP) -> dict[str, str]:
        """Through both codecs, there and back. Raises PortmapError, as the client does."""
        service = client_upnp.Service(f"{ssdp.CONNECTION}1", "http://192.168.1.1:5000/control")
        headers, body = client_upnp.soap_call(service, action, arguments)
        status = 200
        try:
            call = soap.parse_call(headers["SOAPAction"], body)
            values = Gateway(self.service, 100.0, source, OUTSIDE).call(call)
            assert values is not None
            answer = soap.encode_answer(call, values)
        except soap.UpnpFault as fault:
            status, answer = 500, soap.encode_fault(fault.fault)
        return client_upnp.parse_soap_answer(status, answer)


def add(external: int, internal: int = 4444, lease: int = 60, client: str = LAPTOP) -> dict[str, str]:
    return client_upnp.add_mapping(external, (client, internal), lease)


def test_granted_lifetime_lies_between_the_limits() -> None:
    """What is asked for is brought into the router's range, in whole seconds."""
    router = Router(lifetimes=(60, 600))
    assert [router.map_pcp(lifetime=n).lifetime for n in (1, 100, 9999)] == [60, 100, 600]


def test_stubborn_router_ignores_the_lifetime_asked_for() -> None:
    """``lifetime``: this and nothing else, and the mapping ends then."""
    router = Router(lifetime=7)
    assert router.map_pcp(lifetime=3600).lifetime == 7
    router.service.expire(106.9)
    assert len(router.service.table) == 1
    router.service.expire(107.0)
    assert [news.kind for news in router.news] == ["mapped", "expired"]


def test_renewal_keeps_the_port_and_moves_the_end() -> None:
    """The same inside port is the same mapping, whatever outside port is suggested then."""
    router = Router(keep_ports=False)
    first = router.map_pcp()
    again = router.map_pcp(110.0, external_port=7777)
    assert again.external_port == first.external_port != 4444
    assert [m.expires for m in router.service.table] == [3710.0]
    assert [news.kind for news in router.news] == ["mapped", "renewed"]


def test_taken_port_is_replaced_unless_the_client_prefers_failure() -> None:
    """PREFER_FAILURE (RFC 6887 13.2) is the difference between another port and an error."""
    router = Router()
    router.map_nat_pmp(1, 60, 5000)
    assert router.map_pcp(external_port=5000).external_port == 4444
    request = client_pcp.encode_request(client_pcp.MapRequest(LAPTOP, NONCE, 4445, 60, 5000))
    answer = router.datagram(request + bytes((pcp.Option.PREFER_FAILURE, 0, 0, 0)))
    assert answer is not None
    assert client_pcp.parse_response(answer).result == pcp.Result.CANNOT_PROVIDE_EXTERNAL


def test_full_table_is_out_of_resources_in_every_language() -> None:
    """Each protocol has its own number for it."""
    router = Router(max_mappings=0)
    assert router.map_pcp().result == pcp.Result.NO_RESOURCES
    assert router.map_nat_pmp(1, 60).result == natpmp.Result.OUT_OF_RESOURCES
    with pytest.raises(PortmapError, match="728"):
        router.call("AddPortMapping", add(5000))


def test_restart_loses_mappings_and_the_epoch() -> None:
    """Clients tell by the epoch that they must ask again."""
    router = Router()
    assert router.map_pcp(150.0).epoch == 50
    router.service.restart(160.0)
    assert len(router.service.table) == 0
    assert [client_pcp.parse_response(m).epoch for m in announcements(router.service, 161.0, None)] == [1]


@pytest.mark.parametrize(
    ("protocols", "request_", "answer"),
    [
        (("nat-pmp",), bytes((2, 1)) + bytes(58), "0081000100000000"),
        (("pcp",), bytes((0, 1)) + bytes(10), "0281000100000000"),
        (("nat-pmp",), bytes((0, 9)), "0089000500000000"),
        (("upnp",), bytes((0, 0)), ""),
        (("pcp", "nat-pmp"), bytes((0, 0x80)) + bytes(10), ""),
        (("pcp", "nat-pmp"), b"", ""),
    ],
)
def test_foreign_version_or_opcode_is_answered_as_its_rfc_says(
    protocols: tuple[str, ...], request_: bytes, answer: str
) -> None:
    """A client learns what the server does not speak; responses and noise get no answer."""
    reply = Router(protocols=protocols).datagram(request_)
    assert (reply or b"")[:8].hex() == answer


@pytest.mark.parametrize(
    ("fields", "tail", "result"),
    [
        ({"client_ip": "192.168.1.99"}, b"", pcp.Result.ADDRESS_MISMATCH),
        ({"protocol": 132}, b"", pcp.Result.UNSUPP_PROTOCOL),
        ({}, bytes((3, 0, 0, 0)), pcp.Result.UNSUPP_OPTION),
        ({}, bytes((1, 0, 0, 0)), pcp.Result.MALFORMED_OPTION),
        ({}, third_party("192.168.1.77"), pcp.Result.UNSUPP_OPTION),
        ({}, bytes((2, 0, 0, 9)), pcp.Result.MALFORMED_OPTION),
        ({}, bytes((200, 0, 0, 0)), pcp.Result.SUCCESS),
        ({}, b"x", pcp.Result.MALFORMED_REQUEST),
    ],
)
def test_bad_pcp_request_gets_the_code_of_its_fault(
    fields: dict[str, object], tail: bytes, result: pcp.Result
) -> None:
    """RFC 6887 sections 7.4 and 8.3; options above 127 may be ignored."""
    values = {"client_ip": LAPTOP, "nonce": NONCE, "internal_port": 4444, "lifetime": 60} | fields
    request = client_pcp.encode_request(client_pcp.MapRequest(**values)) + tail  # type: ignore[arg-type]
    answer = Router().datagram(request)
    assert answer is not None
    assert answer[3] == result


def test_third_party_is_mapped_where_that_is_allowed() -> None:
    """The mapping is the other host's, and the answer names it; the client itself is no third party."""
    router, request = Router(third_party=True), client_pcp.MapRequest(LAPTOP, NONCE, 4444, 60)
    answer = router.datagram(client_pcp.encode_request(request) + third_party("192.168.1.77"))
    assert answer is not None
    assert answer[3] == pcp.Result.SUCCESS
    assert answer.endswith(third_party("192.168.1.77"))
    assert [m.internal_ip for m in router.service.table] == ["192.168.1.77"]
    answer = router.datagram(client_pcp.encode_request(request) + third_party(LAPTOP))
    assert answer is not None
    assert answer[3] == pcp.Result.MALFORMED_REQUEST


def test_pinholes_keep_their_address_and_port() -> None:
    """IPv6 is not translated: two hosts may have one port, and nobody gets another address."""
    router = Router()
    for client in ("2001:db8:1::a", "2001:db8:1::b"):
        request = client_pcp.encode_request(client_pcp.MapRequest(client, NONCE, 4444, 60))
        answer = answer_datagram(router.service, 100.0, request, client, OUTSIDE)
        assert answer is not None
        response = client_pcp.parse_response(answer)
        assert isinstance(response, client_pcp.MapResponse)
        assert (response.external_ip, response.external_port) == (client, 4444)
    assert router.map_pcp().external_port == 4444
    assert rules.elements(router.service.table, None) == {
        ("udp_pinholes", "2001:db8:1::a . 4444"),
        ("udp_pinholes", "2001:db8:1::b . 4444"),
        ("udp_ports", "4444"),
        ("udp_in", f"4444 : {LAPTOP} . 4444"),
    }


@pytest.mark.parametrize(("client", "pinholes"), [("fe80::1", True), ("fd00:db8:1::a", False)])
def test_address_that_is_nothing_outside_gets_no_pinhole(client: str, pinholes: bool) -> None:
    """Link-local ones, and all where the router translates IPv6."""
    service = MappingService(100.0, PortMappingBehaviour(), lambda _news: None, pinholes=pinholes)
    request = client_pcp.encode_request(client_pcp.MapRequest(client, NONCE, 4444, 60))
    answer = answer_datagram(service, 100.0, request, client, OUTSIDE)
    assert answer is not None
    assert answer[3] == pcp.Result.NETWORK_FAILURE


def test_nat_pmp_is_ipv4_only() -> None:
    """RFC 6886: a request over IPv6 gets no answer of NAT-PMP, but that the version is not spoken."""
    answer = answer_datagram(Router().service, 100.0, b"\0\0", "2001:db8:1::a", OUTSIDE)
    assert answer is not None
    assert answer[3] == pcp.Result.UNSUPP_VERSION


def test_nat_pmp_client_deletes_all_its_ports_at_once() -> None:
    """Inside port 0 with lifetime 0 (RFC 6886 3.4); another client's and TCP's stay."""
    router = Router()
    router.map_nat_pmp(1, 60)
    router.map_nat_pmp(2, 60)
    router.service.map(100.0, Ask("pcp", "udp", "192.168.1.11", 3, 0, 60))
    router.service.map(100.0, Ask("pcp", "tcp", LAPTOP, 4, 0, 60))
    assert router.map_nat_pmp(0, 0).result == natpmp.Result.SUCCESS
    assert [m.internal_port for m in router.service.table] == [3, 4]


def test_router_without_outside_address_says_network_failure() -> None:
    """Nothing can be mapped while the uplink has no address."""
    answer = Router().datagram(
        client_natpmp.encode_request(client_natpmp.ExternalAddressRequest()), outside=None
    )
    assert answer is not None
    assert answer[3] == natpmp.Result.NETWORK_FAILURE


@pytest.mark.parametrize(
    ("action", "arguments", "code"),
    [
        ("AddPortMapping", add(0), 716),
        ("AddPortMapping", add(5000, internal=0), 402),
        ("AddPortMapping", add(5000, client="192.168.1.77"), 606),
        ("AddPortMapping", add(4000), 718),
        ("AddPortMapping", add(99999), 402),
        ("AddPortMapping", {}, 402),
        ("DeletePortMapping", client_upnp.delete_mapping(4999), 714),
        ("DeletePortMapping", client_upnp.delete_mapping(4000), 606),
        ("GetGenericPortMappingEntry", {"NewPortMappingIndex": "1"}, 713),
        ("AddAnyPortMapping", add(5000), 401),
        ("Reboot", {}, 401),
    ],
)
def test_wrong_call_is_a_fault_with_its_code(action: str, arguments: dict[str, str], code: int) -> None:
    """Port 4000 belongs to another client; AddAnyPortMapping is not in version 1 of the service."""
    router = Router()
    router.service.map(100.0, Ask("upnp", "udp", "192.168.1.99", 1, 4000, 60))
    with pytest.raises(PortmapError, match=f"error {code} "):
        router.call(action, arguments)


def test_upnp_lease_of_zero_never_ends_and_some_want_no_other() -> None:
    """Error 725 is what old routers say to a lease."""
    router = Router(permanent_only=True)
    with pytest.raises(PortmapError, match="725"):
        router.call("AddPortMapping", add(5000))
    router.call("AddPortMapping", add(5000, lease=0))
    assert [m.expires for m in router.service.table] == [None]
    entry = router.call("GetSpecificPortMappingEntry", client_upnp.delete_mapping(5000))
    assert (entry["NewInternalClient"], entry["NewLeaseDuration"]) == (LAPTOP, "0")


def test_any_port_is_another_one_when_the_wanted_is_taken() -> None:
    """AddAnyPortMapping of version 2 of the service."""
    router = Router()
    router.service.map(100.0, Ask("upnp", "udp", "192.168.1.99", 1, 5000, 60))
    call = soap.Call(f"{ssdp.CONNECTION}2", "AddAnyPortMapping", add(5000))
    assert Gateway(router.service, 100.0, LAPTOP, OUTSIDE).call(call) == {"NewReservedPort": "4444"}


def test_description_and_search_are_what_the_client_looks_for() -> None:
    """Both codecs agree on where the service is."""
    search = ssdp.parse_search(client_upnp.search_request())
    (target,) = search.answers()
    location = "http://192.168.1.1:5000/description.xml"
    answer = ssdp.encode_answer(target, location, "u-u")
    assert client_upnp.parse_search_response(answer, "192.168.1.1") == location
    service = client_upnp.parse_description(soap.encode_description("u-u", 'a "<lab>" & \x01'), location)
    assert service == client_upnp.Service(f"{ssdp.CONNECTION}2", "http://192.168.1.1:5000/control")


def test_planned_failures_come_first_and_in_order() -> None:
    """Then the standing behaviour."""
    router = Router(refuse="network_failure")
    router.service.fail_next(Failure.OUT_OF_RESOURCES, 1)
    router.service.fail_next(Failure.SILENCE, 1)
    assert router.map_nat_pmp(1, 60).result == natpmp.Result.OUT_OF_RESOURCES
    assert router.datagram(client_natpmp.encode_request(client_natpmp.MapRequest(1, 60))) is None
    assert router.map_nat_pmp(1, 60).result == natpmp.Result.NETWORK_FAILURE
    with pytest.raises(ValueError, match="at most"):
        router.service.fail_next(Failure.SILENCE, 2000)


def test_service_refuses_with_one_exception() -> None:
    """MappingRefused carries the failure."""
    router = Router(refuse="conflict")
    with pytest.raises(MappingRefused) as refused:
        router.service.map(100.0, Ask("pcp", "udp", LAPTOP, 1, 0, 60))
    assert refused.value.failure is Failure.CONFLICT


def test_rules_lead_in_and_out_and_mark() -> None:
    """Only the difference between two tables is loaded; of two outside ports one is where packets come from."""
    first = Mapping("udp", 5000, LAPTOP, 4444, 60, "upnp")
    second = Mapping("udp", 5001, LAPTOP, 4444, 60, "upnp")
    both = rules.elements([first, second], OUTSIDE)
    assert both == {
        ("outside", OUTSIDE),
        ("udp_ports", "5000"),
        ("udp_in", f"5000 : {LAPTOP} . 4444"),
        ("udp_inside", f"{LAPTOP} . 4444"),
        ("udp_out", f"{LAPTOP} . 4444 : {OUTSIDE} . 5000"),
        ("udp_ports", "5001"),
        ("udp_in", f"5001 : {LAPTOP} . 4444"),
    }
    assert rules.change_text(both, both) == ""
    change = rules.change_text(both, rules.elements([second], OUTSIDE)).splitlines()
    assert f"add element ip portmap udp_out {{ {LAPTOP} . 4444 : {OUTSIDE} . 5001 }}" in change
    assert "delete element ip portmap udp_ports { 5000 }" in change
    assert "udp dport @udp_ports meta mark set meta mark | 0x10000000" in rules.table_text(512)
    assert not [e for e in rules.elements([first], None) if e[0] == "udp_out"]


@pytest.mark.parametrize(
    "fields",
    [
        {"protocols": ["igd"]},
        {"lifetimes": (10, 1)},
        {"lifetime": 0},
        {"forget_after": -1},
        {"max_mappings": 70000},
        {"refuse": "maybe"},
        {"external_ip": "2001:db8::1"},
        {"colour": "blue"},
    ],
)
def test_senseless_behaviour_is_a_topology_error(fields: dict[str, object]) -> None:
    """Before any router hears of it."""
    with pytest.raises(TopologyError):
        PortMappingBehaviour.of(fields)


def test_xml_with_a_document_type_is_refused() -> None:
    """Where entity bombs live."""
    bomb = b'<!DOCTYPE x [<!ENTITY a "aaaa">]><x>&a;</x>'
    with pytest.raises(PortMapProtocolError, match="document type"):
        soap.parse_call(f'"{ssdp.CONNECTION}1#GetExternalIPAddress"', bomb)
