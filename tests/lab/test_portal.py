"""A captive portal: guests see its page and nothing else, until they are released; and our endpoints notice."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator

import pytest
from parity_kit import Side
from udp_kit import PATIENCE, SILENCE, close_all, hear, is_silent, outside_of, port_of, udp

from netns_fixtures import Host, Lab, TopologyError
from pytest_iroh import ECHO_ALPN, Endpoints, echo
from pytest_iroh.relays import Relays

#: Seconds for a netcheck that nothing answers (it gives up after 3), and for all that follows a release: who was
#: caught looks again after some seconds.
NOTICED, RELEASED = 15.0, 30.0


class Hotel:
    """Two guests behind a portal, and a web server that answers its name."""

    def __init__(self, lab: Lab, *, from_start: bool = True) -> None:
        self.lab = lab
        self.router = lab.router("hotel", nat="strict", firewall="captive-portal" if from_start else None)
        self.portal = self.router.portal
        self.guest, self.other = (lab.host(name, uplink=self.router) for name in ("guest", "other"))
        self.server = lab.host("server", uplink=lab.router("centre"))
        self._web = [self._listen(family) for family in (socket.AF_INET, socket.AF_INET6)]

    def _listen(self, family: int) -> socket.socket:
        sock = self.server.socket(family, socket.SOCK_STREAM)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind(("", 80))
        sock.listen()
        return sock

    def close(self) -> None:
        for sock in self._web:
            sock.close()


@pytest.fixture(scope="module")
def building() -> Iterator[Hotel]:
    """One lab for most tests: each portal is a process to start."""
    with Lab("portal") as lab:
        made = Hotel(lab)
        lab.build()
        yield made
        made.close()


@pytest.fixture
def hotel(building: Hotel) -> Iterator[Hotel]:
    """As from the start: nobody is released."""
    building.portal.enforce()
    yield building
    close_all()


def get(host: Host, ip: str, name: str = "example.org", patience: float = PATIENCE) -> dict[str, str] | None:
    """What a web server says to a request: status and headers; None: the connection stays open, unanswered."""
    family = socket.AF_INET6 if ":" in ip else socket.AF_INET
    with host.socket(family, socket.SOCK_STREAM) as sock:
        sock.settimeout(patience)
        try:
            sock.connect((ip, 80))
            sock.sendall(f"GET /news HTTP/1.1\r\nHost: {name}\r\n\r\n".encode())
            sock.settimeout(SILENCE if patience < PATIENCE else patience)
            answer = b""
            while part := sock.recv(4096):
                answer += part
        except TimeoutError:
            return None
    head, _, body = answer.decode().partition("\r\n\r\n")
    status, *lines = head.split("\r\n")
    fields = dict(line.split(": ", 1) for line in lines)
    return {"status": status.split()[1], "body": body, **{key.lower(): fields[key] for key in fields}}


def is_caught(hotel: Hotel, host: Host) -> bool:
    """Whether the portal answers in place of the web server (which never says a word)."""
    return get(host, hotel.server.ip, patience=SILENCE * 4) is not None


@pytest.mark.parametrize("version", [4, 6], ids=["ipv4", "ipv6"])
def test_guest_is_redirected_to_the_log_in_page(hotel: Hotel, version: int) -> None:
    """Whatever web server is asked, the portal answers, over both families; its own page is not redirected."""
    ip = hotel.server.ip if version == 4 else hotel.server.ip6 or ""
    answer = get(hotel.guest, ip)
    assert answer is not None
    assert (answer["status"], answer["cache-control"]) == ("302", "no-store")
    name = answer["location"].removeprefix("http://").removesuffix("/")
    page = get(hotel.guest, name.strip("[]"), name)
    assert page is not None
    assert page["status"] == "200"
    assert "Log in" in page["body"]


def test_guest_reaches_name_servers_and_nothing_else(hotel: Hotel) -> None:
    """DNS over UDP is answered; other UDP and HTTPS stay silent, both ways."""
    name_server = udp(hotel.server, 53)
    asking = udp(hotel.guest)
    seen = outside_of(asking, name_server, hotel.server.ip)
    name_server.sendto(b"answer", seen)
    assert hear(asking)[1] == 53
    other = udp(hotel.server)
    asking.sendto(b"hello?", (hotel.server.ip, port_of(other)))
    assert is_silent(other)
    with hotel.guest.socket(socket.AF_INET, socket.SOCK_STREAM) as sock:
        sock.settimeout(SILENCE)
        with pytest.raises(TimeoutError):
            sock.connect((hotel.server.ip, 443))


def test_released_guest_passes_and_others_do_not(hotel: Hotel) -> None:
    """By its addresses, of both families; taken back, it is caught again, and its flows are cut."""
    hotel.portal.release(hotel.guest)
    assert hotel.portal.released == (hotel.guest.ip, hotel.guest.ip6)
    assert not is_caught(hotel, hotel.guest)
    assert is_caught(hotel, hotel.other)
    here, there = udp(hotel.guest), udp(hotel.server)
    seen = outside_of(here, there, hotel.server.ip)
    hotel.portal.enforce(hotel.guest)
    here.sendto(b"hello?", (hotel.server.ip, port_of(there)))
    there.sendto(b"hello?", seen)
    assert is_silent(there)
    assert is_silent(here)
    assert is_caught(hotel, hotel.guest)


def test_everybody_is_released_and_caught_again(hotel: Hotel) -> None:
    """Without a name it is for all."""
    hotel.portal.release()
    assert not is_caught(hotel, hotel.guest)
    assert not is_caught(hotel, hotel.other)
    hotel.portal.enforce()
    assert is_caught(hotel, hotel.other)


def test_portal_comes_and_goes_while_the_lab_runs() -> None:
    """With a page elsewhere, with status 511, and then none; firewall and NAT stay as they are."""
    with Lab("portal") as lab:
        hotel = Hotel(lab, from_start=False)
        try:
            hotel.router.firewall.set("no-udp")
            assert not is_caught(hotel, hotel.guest)
            portal = hotel.router.captive_portal(location="http://portal.example/", status=302)
            answer = get(hotel.guest, hotel.server.ip)
            assert answer is not None
            assert answer["location"] == "http://portal.example/"
            portal.enable(status=511)
            answer = get(hotel.guest, hotel.server.ip)
            assert answer is not None
            assert answer["status"] == "511"
            assert hotel.router.lan.removesuffix("0/24") in answer["body"]
            portal.disable()
            assert not is_caught(hotel, hotel.guest)
            assert str(hotel.router.firewall) == "no-udp"
        finally:
            hotel.close()
            close_all()


def test_portal_is_in_the_events_and_its_server_dies_with_the_lab() -> None:
    """Who asked for what, and who was let go; nothing is left behind."""
    with Lab("portal") as lab:
        hotel = Hotel(lab)
        get(hotel.guest, hotel.server.ip)
        hotel.portal.release(hotel.guest)
        hotel.portal.disable()  # returns when the server has ended, and said all that it had to say
        told = {event.text for event in lab.events if event.node == "hotel"}
        # In any order: the guest may have its answer before we are told of it.
        assert told == {
            f"hotel's portal answered {hotel.guest.ip} with 302 for http://example.org/news",
            "hotel released guest from its portal",
            "hotel has no captive portal any more",
        }
        hotel.router.captive_portal()
        process = hotel.portal.process
        assert process is not None
        os.kill(process.pid, 0)
        hotel.close()
    with pytest.raises(ProcessLookupError):
        os.kill(process.pid, 0)


def test_impossible_wishes_of_a_portal_are_refused() -> None:
    """No status but 302 and 511; no release where there is none; no portal as a mere firewall."""
    with Lab("portal") as lab:
        router = lab.router("plain")
        with pytest.raises(TopologyError, match="302 or 511"):
            router.captive_portal(status=200)
        with pytest.raises(TopologyError, match="has no captive portal"):
            router.portal.release()
        with pytest.raises(TopologyError, match=r"router\.captive_portal"):
            router.firewall.set("captive-portal")
        assert not router.portal.enabled


async def test_endpoint_notices_the_portal_and_goes_direct_after_release(
    lab: Lab, relay: Relays, endpoints: Endpoints
) -> None:
    """Netcheck reports the portal; released, the node gets online by itself, and its connection goes direct."""
    hotel = lab.router("hotel", nat="moderate", firewall="captive-portal")
    laptop = lab.host("laptop", uplink=hotel)
    desktop = lab.host("desktop", uplink=lab.router("home", nat="moderate"))
    server = relay(lab.host("relay", uplink=lab.router("dc")), tls=True, by_name=True, captive=True)
    config = server.config()
    far = Side(await endpoints.bind_echo(desktop, config=config), "desktop")
    near = Side(await endpoints.bind(laptop, config=config), "laptop")
    await near.until(lambda side: any(r.captive_portal for r in side.reports), NOTICED, "captive portal")
    assert near.endpoint.node_addr.relay_url is None
    hotel.portal.release(laptop)
    await near.endpoint.online(RELEASED)
    connection = await near.endpoint.connect(await far.endpoint.online(), ECHO_ALPN, timeout=RELEASED)
    assert await echo(connection, b"out") == b"out"
    await near.until(lambda side: side.direct, RELEASED, "direct path")
