"""Every codec: what one side writes is what the other side reads."""

from __future__ import annotations

import ipaddress

from hypothesis import given
from hypothesis import strategies as st

from iroh_py.addr import (
    NodeAddr,
    NodeTicket,
    RelayUrl,
    addr_order,
    canonical_ip,
    format_addr,
    pack_ip,
    pack_ip16,
    parse_addr,
    unpack_ip,
)
from iroh_py.errors import TicketError
from iroh_py.keys import NodeId, SecretKey
from iroh_py.network import Addr
from iroh_py.proto import base32, disco, natpmp, pcp, stun
from iroh_py.proto.node_info import NodeInfo
from iroh_py.proto.pkarr import SignedPacket
from iroh_py.proto.wire import Reader, Writer

U16, U32, U64 = (st.integers(0, 2**bits - 1) for bits in (16, 32, 64))
KEYS = st.binary(min_size=32, max_size=32).map(SecretKey)
NODES = KEYS.map(lambda key: key.node_id)
IPS = st.ip_addresses().map(lambda ip: canonical_ip(str(ip)))
IPV4 = st.ip_addresses(v=4).map(str)
ADDRS: st.SearchStrategy[Addr] = st.tuples(IPS, U16)
TX_IDS = st.binary(min_size=12, max_size=12)
RELAYS = st.builds(
    lambda scheme, host, port, path: RelayUrl(f"{scheme}://{host}:{port}/{path}"),
    st.sampled_from(["http", "https"]),
    st.from_regex(r"[a-z][a-z0-9]{0,9}(\.[a-z]{2,5})?", fullmatch=True) | IPV4,
    U16,
    st.text("abc=/é%20", max_size=12),
)
NODE_ADDRS = st.builds(NodeAddr, NODES, st.none() | RELAYS, st.frozensets(ADDRS, max_size=5))
MESSAGES: st.SearchStrategy[disco.Message] = st.one_of(
    st.builds(disco.Ping, TX_IDS, NODES, st.integers(0, 1400)),
    st.builds(disco.Pong, TX_IDS, ADDRS | RELAYS),
    st.builds(disco.CallMeMaybe, st.lists(ADDRS, max_size=100).map(tuple)),
)


@given(node=NODES)
def test_node_id_reads_all_its_text_forms(node: NodeId) -> None:
    """Hexadecimal, base32 and z-base-32 lead back to the id."""
    assert NodeId.parse(str(node)) == NodeId.parse(node.base32) == NodeId.from_z32(node.z32) == node


@given(one=KEYS, two=KEYS, message=st.binary(max_size=64))
def test_keys_agree_and_sign(one: SecretKey, two: SecretKey, message: bytes) -> None:
    """Two nodes derive the same box key, and only the signer's id verifies."""
    assert one.box_key(two.node_id) == two.box_key(one.node_id)
    assert one.node_id.verify(one.sign(message), message)
    assert two.node_id.verify(one.sign(message), message) == (one == two)


@given(data=st.binary(max_size=70))
def test_base32_round_trips_in_every_alphabet(data: bytes) -> None:
    """Any bytes, any length, any letter case."""
    for alphabet in (base32.RFC4648, base32.ZBASE32, base32.DNSSEC):
        text = base32.encode(data, alphabet)
        assert base32.decode(text, alphabet) == base32.decode(text.upper(), alphabet) == data


@given(text=st.text(base32.RFC4648, max_size=20))
def test_base32_has_one_text_for_each_value(text: str) -> None:
    """What decodes is exactly what encoding would have written."""
    try:
        data = base32.decode(text)
    except TicketError:
        return
    assert base32.encode(data) == text


@given(addr=ADDRS)
def test_address_text_and_bytes_round_trip(addr: Addr) -> None:
    """Canonical text, packed bytes in both sizes, and ip:port text agree."""
    assert parse_addr(format_addr(addr)) == addr
    assert unpack_ip(pack_ip(addr[0])) == unpack_ip(pack_ip16(addr[0])) == canonical_ip(addr[0]) == addr[0]


@given(one=st.ip_addresses(v=4), two=st.ip_addresses(v=4), six=st.ip_addresses(v=6), port=U16)
def test_address_order_is_that_of_the_wire(
    one: ipaddress.IPv4Address, two: ipaddress.IPv4Address, six: ipaddress.IPv6Address, port: int
) -> None:
    """IPv4 by number, and all of it before IPv6."""
    assert (addr_order((str(one), port)) < addr_order((str(two), port))) == (one < two)
    if six.ipv4_mapped is None:
        assert addr_order((str(one), port)) < addr_order((canonical_ip(str(six)), 0))


@given(text=st.text("hH.[]:@?#%a1A0é-_/İß。．１", max_size=12).map(lambda tail: "https://" + tail))
def test_relay_url_normalisation_is_stable(text: str) -> None:
    """Normalising twice is normalising once, or two nodes would disagree."""
    try:
        url = RelayUrl(text)
    except TicketError:
        return
    again = RelayUrl(str(url))
    assert (again, again.host, again.port) == (url, url.host, url.port)


@given(addr=NODE_ADDRS)
def test_node_address_round_trips(addr: NodeAddr) -> None:
    """As ticket and as JSON."""
    assert NodeTicket.parse(str(NodeTicket(addr))).addr == addr
    assert NodeAddr.from_json(addr.to_json()) == addr


@given(message=MESSAGES, one=KEYS, two=KEYS, nonce=st.binary(min_size=24, max_size=24))
def test_disco_message_travels(message: disco.Message, one: SecretKey, two: SecretKey, nonce: bytes) -> None:
    """Sealed by one node and opened by the other, it is the same message."""
    packet = disco.seal(one.box_key(two.node_id), one.node_id, nonce, disco.encode(message))
    assert len(packet) == disco.OVERHEAD + len(disco.encode(message))
    assert disco.decode(disco.open(two.box_key(disco.parse_sender(packet)), packet)) == message


@given(tx_id=TX_IDS, addr=ADDRS)
def test_stun_travels(tx_id: bytes, addr: Addr) -> None:
    """Request and response, either family."""
    assert stun.parse_request(stun.encode_request(tx_id)) == tx_id
    assert stun.parse_response(stun.encode_response(tx_id, addr)) == (tx_id, addr)


@given(
    key=KEYS,
    relay=st.none() | RELAYS,
    addrs=st.frozensets(ADDRS, min_size=1, max_size=5),
    data=st.none() | st.text(max_size=60),
    time=U64,
)
def test_node_info_travels_signed(
    key: SecretKey, relay: RelayUrl | None, addrs: frozenset[Addr], data: str | None, time: int
) -> None:
    """Published over pkarr and resolved again, it is the same node info."""
    info = NodeInfo(key.node_id, relay, addrs, data)
    payload = SignedPacket.sign(key, info.to_dns_packet(), time).to_relay_payload()
    packet = SignedPacket.from_relay_payload(key.node_id, payload)
    assert packet.timestamp_us == time
    assert NodeInfo.from_dns_packet(key.node_id, packet.dns_packet) == info


@given(request=st.builds(pcp.MapRequest, IPS, TX_IDS, U16, U32, U16, IPS), epoch=U32)
def test_pcp_travels(request: pcp.MapRequest, epoch: int) -> None:
    """Request and response, and the response fits its request."""
    assert pcp.parse_request(pcp.encode_request(request)) == request
    response = pcp.MapResponse(request.nonce, request.internal_port, 1, "192.0.2.7", request.lifetime, epoch)
    received = pcp.parse_response(pcp.encode_response(response))
    assert received == response
    assert response.mapping_for(request) == ("192.0.2.7", 1)


@given(
    request=st.builds(natpmp.MapRequest, U16, U32, U16, st.sampled_from(natpmp.Protocol)), epoch=U32, ip=IPV4
)
def test_natpmp_travels(request: natpmp.MapRequest, epoch: int, ip: str) -> None:
    """Request and both responses."""
    assert natpmp.parse_request(natpmp.encode_request(request)) == request
    mapped = natpmp.MapResponse(request.internal_port, 1, request.lifetime, epoch, protocol=request.protocol)
    for response in (mapped, natpmp.ExternalAddressResponse(ip, epoch)):
        assert natpmp.parse_response(natpmp.encode_response(response)) == response


@given(value=U64, small=U16, rest=st.binary(max_size=8))
def test_wire_integers_round_trip(value: int, small: int, rest: bytes) -> None:
    """Every integer form reads back, and the cursor ends where the writer ended."""
    written = Writer().leb128(value).leb128(small).u8(small & 0xFF).u16be(small).u16le(small)
    written.u32be(value & 0xFFFFFFFF).u64be(value).raw(rest)
    reader = Reader(bytes(written), TicketError)
    assert (reader.leb128(), reader.leb128(16), reader.u8()) == (value, small, small & 0xFF)
    assert (reader.u16be(), reader.u16le()) == (small, small)
    assert (reader.u32be(), reader.u64be(), reader.rest()) == (value & 0xFFFFFFFF, value, rest)
    reader.end()
