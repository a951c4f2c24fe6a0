"""discovery/dns.py, dns_client.py: questions to our own server, and to one that lies, over loopback."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from pathlib import Path

import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdataclass
import dns.rdatatype
import dns.rrset
import pytest
from discovery_kit import PATIENCE, RELAY, ask, info, key, site
from hypothesis import given
from hypothesis import strategies as st

from iroh_py.discovery import DiscoveryServer, DnsDiscovery, Found
from iroh_py.discovery.dns import DnsService, read_nameservers
from iroh_py.discovery.dns_client import answers, new_query
from iroh_py.discovery.pkarr import fitting_packet
from iroh_py.errors import DiscoveryError, LocalProtocolError
from iroh_py.io.system import SocketNetwork, SystemNetwork
from iroh_py.network import Addr, Family, UdpSocket
from iroh_py.proto.node_info import NodeInfo, dns_name
from iroh_py.proto.pkarr import SignedPacket

HERE = ("192.0.2.1", 4433)
ORIGIN = "irohdns.example"
NODE = key(2).node_id
Script = Callable[[dns.message.Message, int], list[bytes]]


class FakeServer:
    """A name server over UDP whose answers a test writes: a function of the question and its number."""

    def __init__(self, script: Script) -> None:
        self.asked: list[dns.message.Message] = []
        self._script = script
        self._udp: UdpSocket = SystemNetwork().open_udp(Family.V4, "127.0.0.1", 0, self._receive)

    @property
    def addr(self) -> Addr:
        return self._udp.local_addr

    def _receive(self, batch: list[tuple[bytes, Addr, int]]) -> None:
        for data, source, _ in batch:
            query = dns.message.from_wire(data)
            self.asked.append(query)
            for answer in self._script(query, len(self.asked)):
                self._udp.send([answer], source)

    def close(self) -> None:
        self._udp.close()


def reply(query: dns.message.Message, *strings: str, owner: str = "", code: int = 0) -> dns.message.Message:
    """An answer with TXT records."""
    message = dns.message.make_response(query)
    message.set_rcode(dns.rcode.Rcode(code))
    name = dns.name.from_text(owner) if owner else query.question[0].name
    for text in strings:
        rrset = dns.rrset.from_text(name, 30, dns.rdataclass.IN, dns.rdatatype.TXT, f'"{text}"')
        message.answer.append(rrset)
    return message


async def start(*servers: Addr) -> DnsService:
    return await DnsDiscovery(ORIGIN, nameservers=servers).start(site())


async def with_fake(script: Script) -> tuple[DnsService, FakeServer]:
    fake = FakeServer(script)
    return await start(fake.addr), fake


async def test_published_record_is_found_by_dns() -> None:
    """What pkarr stored comes back as TXT, whole: relay with '=', every address, user data (trap 19)."""
    content = info(2, HERE, ("2001:db8::1", 5), relay=RELAY, user_data="x=y=z")
    async with DiscoveryServer() as server:
        server.store.put(SignedPacket.sign(key(2), fitting_packet(content), 1))
        service = await start(server.dns_addr)
        assert await ask(service, NODE) == [Found(content, "dns")]
        assert await ask(service, key(3).node_id) == []
        assert (service.counters.asked, service.counters.found, service.counters.failed) == (2, 1, 0)


async def test_long_record_comes_by_tcp() -> None:
    """An answer that UDP cuts is fetched again by TCP."""
    content = info(2, *((f"2001:db8:1:2:3:4:5:{n:x}", 60000 + n) for n in range(1, 17)), user_data="u" * 200)
    async with DiscoveryServer(origins=["a" * 60 + "." + "b" * 60 + "." + ORIGIN]) as server:
        server.store.put(SignedPacket.sign(key(2), fitting_packet(content), 1))
        service = await DnsDiscovery(server.origin, nameservers=[server.dns_addr]).start(site())
        found = await ask(service, NODE)
        plain = server._zone.answer(
            new_query(dns_name(NODE, server.origin), random.Random()).to_wire(), udp=False
        )
    assert plain is not None
    assert len(plain) > 512
    assert len(found) == 1
    assert found[0].info.user_data == "u" * 200


async def test_cut_answer_leads_to_tcp(monkeypatch: pytest.MonkeyPatch) -> None:
    """The TC flag alone is no answer: the same question goes by TCP, and that answer counts."""
    monkeypatch.setattr("iroh_py.discovery.zone.MAX_PAYLOAD", 0)
    many = info(2, *((f"192.0.2.{n}", 4433) for n in range(1, 21)))
    async with DiscoveryServer() as server:
        server.store.put(SignedPacket.sign(key(2), fitting_packet(many), 1))
        found = await ask(await start(server.dns_addr), NODE)
    assert [f.info for f in found] == [many]


async def test_lost_question_is_asked_again_with_another_id() -> None:
    """Three tries at 0, 200, 300 ms, each with an id of its own; the first answer counts."""
    service, fake = await with_fake(
        lambda query, number: [reply(query, "addr=192.0.2.1:4433").to_wire()] if number == 3 else []
    )
    loop = asyncio.get_running_loop()
    begun = loop.time()
    try:
        assert [f.info for f in await ask(service, NODE)] == [info(2, HERE)]
    finally:
        fake.close()
    assert 0.29 <= loop.time() - begun < 1.0
    assert len({query.id for query in fake.asked}) == 3


async def test_second_name_server_answers_for_a_dead_first() -> None:
    """The tries take turns on the configured servers."""
    dead = FakeServer(lambda query, number: [])
    async with DiscoveryServer() as server:
        server.store.put(SignedPacket.sign(key(2), fitting_packet(info(2, HERE)), 1))
        service = await start(dead.addr, server.dns_addr)
        assert len(await ask(service, NODE)) == 1
    dead.close()


async def test_silence_is_a_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody answers: TimeoutError after the last try's time, counted as failed."""
    monkeypatch.setattr("iroh_py.discovery.dns_client.TRY_TIMEOUT", 0.1)
    service, fake = await with_fake(lambda query, number: [])
    try:
        with pytest.raises(TimeoutError, match=r"127\.0\.0\.1 did not answer within 0\.1 s"):
            await ask(service, NODE)
    finally:
        fake.close()
    assert service.counters.failed == 1


def wrong_id(query: dns.message.Message) -> bytes:
    message = reply(query, "addr=198.51.100.66:1")
    message.id = query.id ^ 1
    return message.to_wire()


def wrong_question(query: dns.message.Message) -> bytes:
    other = dns.message.make_query(dns_name(key(3).node_id, ORIGIN), "TXT", id=query.id)
    return reply(other, "addr=198.51.100.66:1").to_wire()


@pytest.mark.parametrize(
    "forged",
    [wrong_id, wrong_question, lambda query: query.to_wire(), lambda query: b"\x00" * 12, lambda query: b"x"],
)
async def test_forged_answer_is_counted_and_waited_past(
    forged: Callable[[dns.message.Message], bytes],
) -> None:
    """A datagram with another id or question, a question, or garbage does not end the try."""
    service, fake = await with_fake(
        lambda query, number: [forged(query), reply(query, "addr=192.0.2.1:4433").to_wire()]
    )
    try:
        assert [f.info for f in await ask(service, NODE)] == [info(2, HERE)]
    finally:
        fake.close()
    assert service.counters.malformed == 1
    assert len(fake.asked) == 1


async def test_answer_from_another_port_is_not_believed() -> None:
    """Only the server that was asked may answer."""
    stranger = SystemNetwork().open_udp(Family.V4, "127.0.0.1", 0, lambda batch: None)
    sources: list[Addr] = []

    class Spy(FakeServer):
        def _receive(self, batch: list[tuple[bytes, Addr, int]]) -> None:
            for data, source, _ in batch:
                sources.append(source)
                query = dns.message.from_wire(data)
                stranger.send([reply(query, "addr=198.51.100.66:1").to_wire()], source)
                self._udp.send([reply(query, "addr=192.0.2.1:4433").to_wire()], source)

    fake = Spy(lambda query, number: [])
    service = await start(fake.addr)
    try:
        assert [f.info for f in await ask(service, NODE)] == [info(2, HERE)]
    finally:
        fake.close()
        stranger.close()
    assert service.counters.malformed == 1


async def test_refusal_of_the_server_is_an_error_that_names_it() -> None:
    """SERVFAIL and its like are no statement about the node."""
    service, fake = await with_fake(lambda query, number: [reply(query, code=dns.rcode.SERVFAIL).to_wire()])
    try:
        with pytest.raises(DiscoveryError, match="SERVFAIL"):
            await ask(service, NODE)
    finally:
        fake.close()
    assert len(fake.asked) == 3


async def test_records_of_another_node_do_not_count() -> None:
    """An answer whose records carry another node's name is malformed, whatever the question says."""
    service, fake = await with_fake(
        lambda query, number: [
            reply(query, "addr=198.51.100.66:1", owner=dns_name(key(3).node_id, ORIGIN)).to_wire()
        ]
    )
    try:
        with pytest.raises(DiscoveryError, match="no TXT record"):
            await ask(service, NODE)
    finally:
        fake.close()
    assert service.counters.malformed == 1


async def test_malformed_strings_are_skipped_beside_good_ones() -> None:
    """Unknown keys, bad addresses and strings without '=' do not spoil a record set."""
    strings = ["addr=nonsense", "noise", "colour=blue", "addr=192.0.2.1:4433", "addr=1.2.3.4:99999"]
    service, fake = await with_fake(lambda query, number: [reply(query, *strings).to_wire()])
    try:
        assert [f.info for f in await ask(service, NODE)] == [info(2, HERE)]
    finally:
        fake.close()


def test_name_servers_are_read_from_a_file(tmp_path: Path) -> None:
    """As resolv.conf(5) has them; a file without any, or none, is an OSError."""
    path = tmp_path / "resolv.conf"
    path.write_text("# a comment\nsearch example.org\nnameserver 192.0.2.53\nnameserver 2001:db8::53\n")
    assert read_nameservers(str(path)) == (("192.0.2.53", 53), ("2001:db8::53", 53))
    path.write_text("nameserver fe80::1%eth0\n")
    with pytest.raises(OSError, match="has no name server"):
        read_nameservers(str(path))
    with pytest.raises(OSError, match="has no name server"):
        read_nameservers(str(tmp_path / "missing"))


async def test_file_is_read_anew_for_each_question(tmp_path: Path) -> None:
    """A network change that rewrites the file needs no restart."""
    path = tmp_path / "resolv.conf"
    service = await DnsDiscovery(ORIGIN, resolv_conf=str(path)).start(site())
    with pytest.raises(OSError, match="has no name server"):
        await ask(service, NODE)
    path.write_text("nameserver 192.0.2.53\n")
    assert read_nameservers(str(path)) == (("192.0.2.53", 53),)


async def test_other_network_needs_its_name_servers_given() -> None:
    """The system's resolv.conf says nothing about a lab host's network."""

    class Host:
        name = "laptop"

        def socket(self, family: int, type: int, proto: int = 0) -> object:
            raise AssertionError("nothing is sent")

    network = SocketNetwork(Host())
    with pytest.raises(LocalProtocolError, match=r"nameservers=\[\.\.\.\] on laptop"):
        await DnsDiscovery(ORIGIN).start(site(network=network))
    assert await DnsDiscovery(ORIGIN, nameservers=["192.0.2.53"]).start(site(network=network))


async def test_other_network_may_tell_its_name_servers(tmp_path: Path) -> None:
    """As a lab host does; what was given to the discovery counts more."""

    class Host:
        name = "laptop"
        nameservers = ("192.0.2.53", "2001:db8::53")

        def socket(self, family: int, type: int, proto: int = 0) -> object:
            raise AssertionError("nothing is sent")

    network = SocketNetwork(Host())
    assert await DnsDiscovery(ORIGIN).start(site(network=network))
    assert DnsDiscovery(ORIGIN).servers(network) == (("192.0.2.53", 53), ("2001:db8::53", 53))
    assert DnsDiscovery(ORIGIN, nameservers=["192.0.2.9"]).servers(network) == (("192.0.2.9", 53),)
    assert DnsDiscovery(ORIGIN, resolv_conf=str(tmp_path / "mine")).servers(network) == ()


def test_name_server_must_be_an_address() -> None:
    """A host name would need a name server."""
    with pytest.raises(LocalProtocolError, match=r"'dns\.example' is no IP address"):
        DnsDiscovery(nameservers=["dns.example"])


@given(st.binary(max_size=300))
def test_any_bytes_are_an_answer_or_not(data: bytes) -> None:
    """Whatever arrives at the port is judged without raising."""
    query = new_query(dns_name(NODE, ORIGIN), random.Random(1))
    assert not answers(query, data)
    assert not answers(query, query.to_wire()[:2] + data)


@given(st.binary(max_size=300))
def test_any_answer_section_gives_info_or_the_discovery_error(tail: bytes) -> None:
    """A record set from the network parses, or raises DiscoveryError."""
    packet = b"\x00\x00\x84\x00\x00\x00\x00\x01\x00\x00\x00\x00" + tail
    try:
        assert NodeInfo.from_dns_packet(NODE, packet).node_id == NODE
    except DiscoveryError:
        pass


async def test_question_leaves_no_socket_and_no_task() -> None:
    """Tries that lost the race are gone when the answer is there."""
    async with DiscoveryServer() as server:
        service = await start(server.dns_addr)
        before = asyncio.all_tasks()
        async with asyncio.timeout(PATIENCE):
            await ask(service, NODE)
        assert asyncio.all_tasks() == before
