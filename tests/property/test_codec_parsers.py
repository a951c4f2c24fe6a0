"""Every parser of the codecs: any input gives a value or the protocol's own error, and nothing else."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from iroh_py.addr import NodeAddr, NodeTicket, RelayUrl, canonical_ip, parse_addr
from iroh_py.errors import (
    DiscoError,
    DiscoveryError,
    PortmapError,
    RemoteProtocolError,
    StunError,
    TicketError,
)
from iroh_py.keys import NodeId, SecretKey
from iroh_py.proto import base32, box, demux, disco, natpmp, pcp, stun
from iroh_py.proto.node_info import NodeInfo
from iroh_py.proto.pkarr import SignedPacket

KEY = SecretKey(bytes([1]) * 32)
NODE = KEY.node_id
BOX_KEY = KEY.box_key(NODE)
TX_ID = bytes(range(12))

PING = disco.encode(disco.Ping(TX_ID, NODE))
PACKET = disco.seal(BOX_KEY, NODE, bytes(24), PING)
INFO = NodeInfo(NODE, RelayUrl("https://relay.example./"), frozenset({("192.0.2.7", 1)}), "x")
TICKET = NodeTicket(INFO.node_addr)
SIGNED = SignedPacket.sign(KEY, INFO.to_dns_packet(), 1)
PCP_MAP = pcp.MapRequest("192.0.2.7", TX_ID, 1, 2)
NATPMP_MAP = natpmp.MapRequest(1, 2)

Parser = Callable[[bytes], object]

#: name: parser, the only error it may raise, and good inputs from which damaged ones are made.
PARSERS: dict[str, tuple[Parser, type[RemoteProtocolError], list[bytes]]] = {
    "node id": (NodeId, TicketError, [NODE.raw]),
    "ticket": (NodeTicket.from_bytes, TicketError, [TICKET.to_bytes()]),
    "disco message": (
        disco.decode,
        DiscoError,
        [
            PING,
            disco.encode(disco.Pong(TX_ID, ("192.0.2.7", 1))),
            disco.encode(disco.Pong(TX_ID, RelayUrl("http://a/"))),
            disco.encode(disco.CallMeMaybe((("::1", 1),))),
        ],
    ),
    "disco sender": (disco.parse_sender, DiscoError, [PACKET]),
    "disco packet": (lambda data: disco.open(BOX_KEY, data), DiscoError, [PACKET]),
    "stun request": (stun.parse_request, StunError, [stun.encode_request(TX_ID)]),
    "stun response": (
        stun.parse_response,
        StunError,
        [stun.encode_response(TX_ID, ("192.0.2.7", 1)), stun.encode_response(TX_ID, ("::1", 1))],
    ),
    "pkarr": (
        lambda data: SignedPacket.from_relay_payload(NODE, data),
        DiscoveryError,
        [SIGNED.to_relay_payload()],
    ),
    "node info": (
        lambda data: NodeInfo.from_dns_packet(NODE, data),
        DiscoveryError,
        [SIGNED.dns_packet],
    ),
    "pcp request": (
        pcp.parse_request,
        PortmapError,
        [pcp.encode_request(PCP_MAP), pcp.encode_request(pcp.AnnounceRequest("192.0.2.7"))],
    ),
    "pcp response": (
        pcp.parse_response,
        PortmapError,
        [
            pcp.encode_response(pcp.MapResponse(TX_ID, 1, 2, "192.0.2.7", 3, 4)),
            pcp.encode_response(pcp.AnnounceResponse(1)),
        ],
    ),
    "natpmp request": (natpmp.parse_request, PortmapError, [natpmp.encode_request(NATPMP_MAP)]),
    "natpmp response": (
        natpmp.parse_response,
        PortmapError,
        [
            natpmp.encode_response(natpmp.MapResponse(1, 2, 3, 4)),
            natpmp.encode_response(natpmp.ExternalAddressResponse("192.0.2.7", 1)),
        ],
    ),
}


@st.composite
def damaged(draw: st.DrawFn, good: list[bytes]) -> bytes:
    """A good message with some bytes replaced, then cut or lengthened: it reaches deeper than noise does."""
    data = bytearray(draw(st.sampled_from(good)))
    for _ in range(draw(st.integers(0, 3))):
        data[draw(st.integers(0, len(data) - 1))] = draw(st.integers(0, 255))
    end = draw(st.integers(0, len(data)) | st.just(len(data)))
    return bytes(data[:end]) + draw(st.just(b"") | st.binary(max_size=40))


@pytest.mark.parametrize("name", PARSERS)
@given(data=st.data())
def test_any_bytes_give_a_value_or_the_protocols_error(name: str, data: st.DataObject) -> None:
    """Noise and damaged messages raise the one promised exception, if any."""
    parser, error, good = PARSERS[name]
    for message in good:
        parser(message)
    try:
        parser(data.draw(st.binary(max_size=200) | damaged(good)))
    except error:
        pass  # The promised one; any other exception fails the test.


@given(data=st.binary(max_size=64))
@example(data=b"")
def test_any_datagram_is_classified(data: bytes) -> None:
    """Demultiplexing is total, and agrees with the rules when spelled out."""
    kind = demux.classify(data)
    is_stun = len(data) >= 20 and data[0] & 0xC0 == 0 and data[4:8] == stun.COOKIE
    is_disco = len(data) >= 38 and data[:6] == disco.MAGIC
    assert (kind is demux.Kind.STUN, kind is demux.Kind.DISCO) == (is_stun, is_disco)


URLISH = st.text("htps:/.[]@?#%abcA0139xé ", max_size=30).map(lambda text: "https://" + text)
TEXT_PARSERS: dict[str, Callable[[str], object]] = {
    "node id": NodeId.parse,
    "z32 id": NodeId.from_z32,
    "secret key": SecretKey.parse,
    "relay url": RelayUrl.parse,
    "ticket": NodeTicket.parse,
    "ip": canonical_ip,
    "addr": parse_addr,
    "base32": base32.decode,
}


@pytest.mark.parametrize("name", TEXT_PARSERS)
@given(
    text=st.text(max_size=80)
    | URLISH
    | st.text(base32.RFC4648, min_size=52, max_size=52)
    | st.text(base32.RFC4648, max_size=90).map(lambda body: "node" + body)
    | st.from_regex(r"\[?[0-9a-f:.]{1,20}\]?:[0-9]{1,6}")
)
def test_any_text_gives_a_value_or_a_ticket_error(name: str, text: str) -> None:
    """What people paste raises TicketError, if anything."""
    try:
        TEXT_PARSERS[name](text)
    except TicketError:
        pass  # The promised one; any other exception fails the test.


JSON = st.recursive(
    st.none() | st.integers() | st.text(max_size=20) | st.just(str(NODE)),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["node_id", "info", "relay_url", "direct_addresses"]), inner, max_size=4
        )
    ),
    max_leaves=12,
)


@given(value=JSON)
def test_any_json_gives_a_node_address_or_a_ticket_error(value: object) -> None:
    """JSON of any shape is safe to hand in."""
    try:
        NodeAddr.from_json(value)
    except TicketError:
        pass  # The promised one; any other exception fails the test.


@given(attributes=st.lists(st.text(max_size=60) | st.text(max_size=60).map(lambda value: f"addr={value}")))
def test_any_attributes_give_node_info(attributes: list[str]) -> None:
    """TXT attributes never raise: what is malformed is skipped, the rest survives being written again."""
    info = NodeInfo.from_txt(NODE, attributes)
    assert NodeInfo.from_txt(NODE, info.to_txt()) == info


@given(key=st.binary(min_size=32, max_size=32), nonce=st.binary(min_size=24, max_size=24), boxed=st.binary())
def test_box_opens_only_what_it_sealed(key: bytes, nonce: bytes, boxed: bytes) -> None:
    """Any plaintext comes back; any other bytes do not open."""
    assert box.unseal(key, nonce, box.seal(key, nonce, boxed)) == boxed
    assert box.unseal(key, nonce, boxed) is None
