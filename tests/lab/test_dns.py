"""The lab's name server on the wire: what hosts resolve, from their own network, while it fails and changes."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator

import dns.message
import dns.query
import dns.rcode
import pytest

from netns_fixtures import Host, Lab, LabEvent, TopologyError

#: For answers that come in milliseconds; more than that is for the machine.
PATIENCE = 10.0


class Net:
    """A laptop behind a NAT and a server, in one lab for the whole module."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.home = lab.router("home", nat="moderate")
        self.laptop = lab.host("laptop", uplink=self.home)
        self.server = lab.host("server", uplink=lab.router("centre"))

    def ask(self, name: str, kind: str, *, server: str = "", tcp: bool = False) -> dns.message.Message:
        """A question from the laptop, by dnspython's own client."""
        where = server or self.lab.dns.ip
        family = socket.AF_INET6 if ":" in where else socket.AF_INET
        query = dns.message.make_query(name, kind)
        with self.laptop.socket(family, socket.SOCK_STREAM if tcp else socket.SOCK_DGRAM) as sock:
            if tcp:
                sock.settimeout(PATIENCE)
                sock.connect((where, 53))
            sock.setblocking(False)
            if tcp:
                return dns.query.tcp(query, where, PATIENCE, sock=sock)
            return dns.query.udp(query, where, PATIENCE, sock=sock)


@pytest.fixture(scope="module")
def module_net() -> Iterator[Net]:
    with Lab(name="names") as lab:
        yield Net(lab)


@pytest.fixture
def net(module_net: Net) -> Iterator[Net]:
    """The module's lab, without failures."""
    yield module_net
    module_net.lab.dns.heal()
    module_net.laptop.link.up()


@pytest.mark.parametrize("tcp", [False, True], ids=["udp", "tcp"])
@pytest.mark.parametrize("family", ["ip", "ip6"])
def test_name_server_answers_over_each_family_and_transport(net: Net, family: str, tcp: bool) -> None:
    """To a client behind a NAT, that asks with packets of its own."""
    net.lab.dns.set("wire.example", "A", "198.18.9.9")
    answer = net.ask("wire.example.", "A", server=getattr(net.lab.dns, family), tcp=tcp)
    assert [record.to_text() for records in answer.answer for record in records] == ["198.18.9.9"]


def test_host_resolves_nodes_names_that_were_set_and_literals(net: Net) -> None:
    """By the name alone, below the search domain, with a dot at the end; IPv4 comes first."""
    both = [net.server.ip, net.server.ip6]
    assert [net.laptop.resolve(name) for name in ("server", "server.lab", "SERVER.lab.")] == [both] * 3
    net.lab.dns.set("www.example", "CNAME", "server")
    assert net.laptop.resolve("www.example") == both
    assert net.laptop.resolve("2001:DB8::1") == ["2001:db8::1"]
    assert net.laptop.resolve("localhost") == ["127.0.0.1", "::1"]
    assert net.home.resolve("server") == both
    with pytest.raises(socket.gaierror) as caught:
        net.laptop.resolve("nowhere.example")
    assert caught.value.errno == socket.EAI_NONAME


def test_record_that_changes_is_another_answer_at_once(net: Net) -> None:
    """Set, set again, deleted."""
    dns = net.lab.dns
    dns.set("changing.example", "A", "198.18.9.1")
    assert net.laptop.resolve("changing.example") == ["198.18.9.1"]
    dns.set("changing.example", "A", "198.18.9.2")
    assert net.laptop.resolve("changing.example") == ["198.18.9.2"]
    dns.delete("changing.example")
    with pytest.raises(socket.gaierror):
        net.laptop.resolve("changing.example")


def test_name_of_a_host_follows_it(net: Net) -> None:
    """A renumbered host is found at its new address, also through an alias."""
    net.lab.dns.set("alias.example", "CNAME", "server")
    before = net.laptop.resolve("alias.example")
    net.server.renumber()
    after = net.laptop.resolve("alias.example")
    assert after == [net.server.ip, net.server.ip6]
    assert not set(before) & set(after)


def test_long_answer_comes_over_tcp(net: Net) -> None:
    """200 addresses do not fit into a datagram."""
    many = [f"198.18.77.{number}" for number in range(1, 201)]
    net.lab.dns.set("many.example", "A", many)
    assert sorted(net.laptop.resolve("many.example")) == sorted(many)
    assert {q.transport for q in net.lab.dns.queries if q.name == "many.example" and q.record == "A"} == {
        "udp",
        "tcp",
    }


def test_truncated_answer_sends_the_resolver_to_tcp(net: Net) -> None:
    """Also one that would have fitted."""
    net.lab.dns.fail("server", "truncate", record="A")
    assert net.laptop.resolve("server")[0] == net.server.ip
    assert net.lab.dns.faults[0].hits == 1
    asked = [
        (q.transport, q.result) for q in net.lab.dns.queries if q.name == "server.lab" and q.record == "A"
    ]
    assert asked[-2:] == [("udp", "TRUNCATED"), ("tcp", "NOERROR")]


@pytest.mark.parametrize("kind", ["servfail", "refused", "garbage", "wrong-id", "timeout"])
def test_failure_that_passes_is_survived(net: Net, kind: str) -> None:
    """The resolver asks again: the first two questions (A and AAAA) fail, the next do not."""
    net.lab.dns.fail("server", kind, times=2)
    assert net.laptop.resolve("server") == [net.server.ip, net.server.ip6]
    assert net.lab.dns.faults == ()


@pytest.mark.parametrize("kind", ["servfail", "refused"])
def test_failure_that_stays_is_try_again_later(net: Net, kind: str) -> None:
    """And not "no such name": that the program must not remember."""
    net.lab.dns.fail("server", kind)
    with pytest.raises(socket.gaierror, match=kind.upper()) as caught:
        net.laptop.resolve("server")
    assert caught.value.errno == socket.EAI_AGAIN
    net.lab.dns.heal("server")
    assert net.laptop.resolve("server")


@pytest.mark.parametrize("kind", ["nxdomain", "nodata"])
def test_denied_name_is_no_name(net: Net, kind: str) -> None:
    """Although it is there."""
    net.lab.dns.fail("*", kind)
    with pytest.raises(socket.gaierror) as caught:
        net.laptop.resolve("server")
    assert caught.value.errno == socket.EAI_NONAME


def test_slow_answer_takes_its_time(net: Net) -> None:
    """And is the right one."""
    net.lab.dns.set("slow.example", "A", "198.18.9.9")
    net.lab.dns.fail("slow.example", "slow", seconds=0.2)
    began = time.monotonic()
    assert net.ask("slow.example.", "A").answer
    assert time.monotonic() - began >= 0.2


def test_others_do_not_wait_for_a_slow_answer(net: Net) -> None:
    """The delay is that of the question, not of the server."""
    net.lab.dns.fail("slower.example", "slow", seconds=60)
    query = dns.message.make_query("slower.example", "A").to_wire()
    with net.laptop.socket(socket.AF_INET, socket.SOCK_DGRAM) as waiting:
        waiting.sendto(query, (net.lab.dns.ip, 53))
        net.lab.dns.wait_for_query("slower.example", within=PATIENCE)
        assert net.ask("server.lab.", "A").answer
        waiting.setblocking(False)
        with pytest.raises(BlockingIOError):
            waiting.recv(2000)


def test_dead_link_is_felt(net: Net) -> None:
    """A host without a link resolves nothing, at once; with its link it does again."""
    net.laptop.link.down()
    began = time.monotonic()
    with pytest.raises(socket.gaierror) as caught:
        net.laptop.resolve("server")
    assert caught.value.errno == socket.EAI_AGAIN
    assert time.monotonic() - began < 3.0  # that is before the last try would end
    net.laptop.link.up()
    assert net.laptop.resolve("server") == [net.server.ip, net.server.ip6]


def test_questions_are_logged_and_are_events(net: Net) -> None:
    """Who (by its outside address), for what, by what, and what was said; also on the lab's timeline."""
    heard: list[LabEvent] = []
    end = net.lab.on_event(heard.append)
    net.lab.dns.set("logged.example", "TXT", "hello")
    net.lab.dns.fail("logged.example", "refused", times=1)
    codes = [net.ask("logged.example.", "TXT").rcode() for _ in range(2)]
    assert codes == [dns.rcode.REFUSED, dns.rcode.NOERROR]
    query = net.lab.dns.wait_for_query("logged.example", "TXT", within=PATIENCE)
    end()
    refused, told = [q for q in net.lab.dns.queries if q.name == "logged.example"]
    assert query == refused
    assert (refused.client, refused.node, refused.transport) == (net.home.ip, "home", "udp")
    assert (refused.result, refused.answers, refused.fault) == ("REFUSED", (), "refused")
    assert (told.result, told.answers, told.fault) == ("NOERROR", ('"hello"',), "")
    assert [event.kind for event in heard] == ["dns_set", "dns_fault", "dns_query", "dns_query"]
    assert heard[2].text == "home asked for logged.example TXT over udp: REFUSED (refused)"
    with pytest.raises(TimeoutError):
        net.lab.dns.wait_for_query("logged.example", after=told.number, within=0)


def test_zone_of_another_server_is_asked_there(net: Net) -> None:
    """As a packet to that host, so that its silence is felt, too."""
    seen: list[dns.message.Message] = []
    with net.server.socket(socket.AF_INET, socket.SOCK_DGRAM) as there:
        there.bind(("", 5300))
        there.settimeout(PATIENCE)

        def serve() -> None:
            data, client = there.recvfrom(2000)
            query = dns.message.from_wire(data)
            seen.append(query)
            answer = dns.message.make_response(query)
            answer.answer = [dns.rrset.from_text(query.question[0].name, 5, "IN", "TXT", '"from there"')]
            there.sendto(answer.to_wire(), client)

        thread = threading.Thread(target=serve)
        net.lab.dns.delegate("zone.example", net.server, port=5300)
        thread.start()
        answer = net.ask("deep.zone.example.", "TXT")
        thread.join(PATIENCE)
    assert answer.answer[0][0].to_text() == '"from there"'
    assert len(seen) == 1
    # The socket is closed: the name server finds nobody there.
    assert net.ask("deep.zone.example.", "TXT").rcode() == dns.rcode.SERVFAIL
    net.lab.dns.undelegate("zone.example")
    assert net.ask("deep.zone.example.", "TXT").rcode() == dns.rcode.NXDOMAIN


def test_network_with_dns64_gets_ipv6_addresses_of_ipv4_hosts(net: Net) -> None:
    """Only that network, for as long as it has it."""
    net.lab.dns.set("four.example", "A", "198.18.9.9")
    net.lab.dns.dns64(net.home)
    answer = net.ask("four.example.", "AAAA", server=net.lab.dns.ip6)
    assert answer.answer[0][0].to_text() == "64:ff9b::c612:909"
    assert net.server.resolve("four.example") == ["198.18.9.9"]
    net.lab.dns.dns64(net.home, None)
    assert net.ask("four.example.", "AAAA", server=net.lab.dns.ip6).answer == []


def test_wrong_use_is_refused_before_anything_changes(net: Net) -> None:
    """With what would be right."""
    dns = net.lab.dns
    with Lab(name="other") as other:
        stranger = other.router("stranger")
        with pytest.raises(TopologyError, match="no router of this lab"):
            dns.dns64(stranger)
    with pytest.raises(TopologyError, match="no host"):
        dns.delegate("x.example", "nobody")
    with pytest.raises(TopologyError, match="port"):
        dns.delegate("x.example", net.server, port=0)
    with pytest.raises(TopologyError, match="root"):
        dns.delegate(".", net.server)
    with pytest.raises(TopologyError, match="not delegated"):
        dns.undelegate("x.example")
    with pytest.raises(TopologyError, match="were set"):
        dns.delete("never-set.example")


def test_name_server_ends_with_its_lab() -> None:
    """Its thread and its sockets are gone; a look-up in flight fails as OSError."""
    before = set(threading.enumerate())
    with Lab(name="short") as lab:
        host = lab.host("host", uplink=lab.router("router"))
        assert host.resolve("host") == [host.ip, host.ip6]
        assert len([thread for thread in threading.enumerate() if thread.name == "dns of short"]) == 1
    assert not [thread for thread in threading.enumerate() if thread not in before]
    with pytest.raises(socket.gaierror):
        host.resolve("host")


def test_labs_have_name_servers_of_their_own(net: Net) -> None:
    """At the same address, with other records."""
    with Lab(name="second") as second:
        host: Host = second.host("laptop", uplink=second.router("home"))
        second.dns.set("mine.example", "A", "198.18.5.5")
        assert host.resolve("mine.example") == ["198.18.5.5"]
        with pytest.raises(socket.gaierror):
            net.laptop.resolve("mine.example")


def test_name_server_that_cannot_start_keeps_no_socket(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its sockets are bound already when it fails: all are closed, and the lab goes on."""
    opened: list[socket.socket] = []

    def fail(*arguments: object) -> None:
        raise RuntimeError("no thread left")

    with Lab() as lab:
        lab.host("laptop", uplink=lab.router("home"))
        lab.build()
        really = lab.dns._open

        def remembered(family: int, kind: int) -> socket.socket:
            opened.append(really(family, kind))
            return opened[-1]

        monkeypatch.setattr(lab.dns, "_open", remembered)
        with monkeypatch.context() as patch:
            patch.setattr("netns_fixtures.dns.server.DnsServer", fail)
            with pytest.raises(RuntimeError, match="no thread left"):
                lab.dns.start()
        assert len(opened) == 4
        assert all(sock.fileno() == -1 for sock in opened)
        assert lab.hosts["laptop"].resolve("home") == [lab.routers["home"].ip, lab.routers["home"].ip6]
