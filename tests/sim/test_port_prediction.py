"""Port prediction in whole endpoints, virtual clock: which pairs become direct, how soon, and for how many packets."""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest
from heal_kit import Scene
from netcheck_kit import Relay, relayed_scene

from iroh_py.events import HolePunched, PathChanged, StaysRelayed
from iroh_py.network import Addr, Family, Receiver
from iroh_py.proto.birthday import ATTEMPT, MAX_PROBES, MAX_TARGETS, SOCKETS
from iroh_py.testing import SimHost, SimNat, SimNet, run_virtual
from iroh_py.testing.udp import SimUdpSocket

#: From the connection: one second for plain hole punching, half a second for the sockets, then up to 4 s of probes.
DIRECT = 10.0
#: A ping without padding: what port prediction sends.
PING_SIZE = 124


class Counted:
    """IPv4 sockets of a host, and the pings that it sent: when, and where to."""

    def __init__(self, host: SimHost) -> None:
        self.host = host
        self.most_open = 0
        self.pings: list[tuple[float, Addr]] = []
        #: Those of extra sockets.
        self.extra = 0
        self._main: SimUdpSocket | None = None
        self._open: set[SimUdpSocket] = set()
        self._really = host.open_udp
        host.open_udp = self._open_udp  # type: ignore[method-assign]

    @property
    def open(self) -> int:
        """IPv4 sockets that are open now; one is the endpoint's main one."""
        self._open = {sock for sock in self._open if not sock._closed}
        return len(self._open)

    def to_ports(self, ip: str) -> int:
        """To how many ports of an address pings went."""
        return len({addr[1] for _, addr in self.pings if addr[0] == ip})

    def most_per_second(self) -> int:
        """The largest number of pings to public addresses within a second."""
        public = [at for at, addr in self.pings if ipaddress.ip_address(addr[0]) not in HOME]
        return max(sum(1 for at in public if begin <= at < begin + 1.0) for begin in public)

    def _open_udp(self, family: Family, ip: str, port: int, receiver: Receiver) -> SimUdpSocket:
        sock = self._really(family, ip, port, receiver)
        send = sock.send

        def counting(payloads: Sequence[bytes], addr: Addr, via: int = 0, ecn: int = 0) -> int:
            now = self.host.time()
            pings = [(now, addr) for payload in payloads if len(payload) == PING_SIZE]
            self.pings += pings
            self.extra += len(pings) if sock is not self._main and family is Family.V4 else 0
            return send(payloads, addr, via, ecn)

        sock.send = counting  # type: ignore[method-assign]
        if family is Family.V4:
            self._main = self._main or sock
            self._open.add(sock)
        self.most_open = max(self.most_open, self.open)
        return sock


HOME = ipaddress.ip_network("192.168.0.0/16")


class Pair(Scene):
    """A scene with what its hosts sent, and their NATs."""

    counted: dict[str, Counted]
    nats: dict[str, SimNat]
    net: SimNet


async def play(
    kinds: tuple[str, str],
    story: Callable[[Pair], Awaitable[None]],
    *,
    relays: int = 2,
    seed: int = 1,
    **options: Any,
) -> None:
    """Two hosts behind NATs of these kinds, connected over a relay."""
    net = SimNet(seed=seed)
    found = [await Relay(net, f"relay{n}", f"198.51.100.{n + 1}").start() for n in range(relays)]
    nats = {"client": net.nat("home", kinds[0]), "server": net.nat("office", kinds[1])}
    hosts = {who: net.host(who, nat=nat) for who, nat in nats.items()}
    counted = {host.name: Counted(host) for host in hosts.values()}
    options = {"port_prediction": True, "portmap": False, **options}
    async with relayed_scene(
        hosts["client"], hosts["server"], *found, seed=seed, settle=0.0, **options
    ) as scene:
        pair = Pair(scene.client, scene.server, scene.connection, scene.events)
        pair.counted, pair.nats, pair.net = counted, nats, net
        await story(pair)
    assert all(c.open == 0 for c in counted.values())
    for relay in found:
        await relay.kill()


def relayed(s: Scene) -> dict[str, bool]:
    """Whether each side's payload goes by the relay now."""
    return {who: e.relayed for who, e in s.events if isinstance(e, PathChanged)}


def told(s: Scene) -> list[tuple[str, StaysRelayed]]:
    """Who said that a pair stays relayed."""
    return [(who, e) for who, e in s.events if isinstance(e, StaysRelayed)]


DIRECTS = {"client": False, "server": False}
ORDERS = pytest.mark.parametrize("kinds", [("moderate", "strict"), ("strict", "moderate")], ids="-".join)


@ORDERS
@pytest.mark.parametrize("relays", [1, 2], ids=["one-stun-server", "two-stun-servers"])
@pytest.mark.parametrize("seed", [1, 2])
def test_one_strict_nat_is_passed(kinds: tuple[str, str], relays: int, seed: int) -> None:
    """Knowing that the own NAT is strict (two STUN servers) or not (one): direct, and not a byte lost."""

    async def story(s: Pair) -> None:
        began = asyncio.get_running_loop().time()
        pulse = asyncio.create_task(s.beat())
        await asyncio.sleep(DIRECT)
        assert relayed(s) == DIRECTS, s.story(began)
        punched = max(e.time for _, e in s.events if isinstance(e, HolePunched)) - began
        print(f"{'-'.join(kinds)} direct after {punched:.2f} s")
        strict = "client" if kinds[0] == "strict" else "server"
        assert s.counted[strict].open == 2, (
            "the socket that the path goes through stays, the others are closed"
        )
        await s.check_bytes(pulse)
        assert not told(s)

    run_virtual(lambda: play(kinds, story, relays=relays, seed=seed))


@ORDERS
def test_path_through_an_extra_socket_lasts_while_idle(kinds: tuple[str, str]) -> None:
    """The heartbeat keeps the mapping; nothing changes in two minutes, and no more sockets are opened."""

    async def story(s: Pair) -> None:
        await asyncio.sleep(DIRECT)
        before = len(s.events), {who: c.open for who, c in s.counted.items()}
        pings = sum(len(c.pings) for c in s.counted.values())
        await asyncio.sleep(120.0)
        changes = [e for _, e in s.events[before[0] :] if isinstance(e, PathChanged | HolePunched)]
        assert changes == []
        assert relayed(s) == DIRECTS
        assert {who: c.open for who, c in s.counted.items()} == before[1]
        assert sum(len(c.pings) for c in s.counted.values()) - pings < 4 * 120 / 4.5 * 2

    run_virtual(lambda: play(kinds, story))


def test_strict_side_changes_its_address_direct_again() -> None:
    """Its offers name another address, so there is another attempt; the old socket is closed."""

    async def story(s: Pair) -> None:
        await asyncio.sleep(DIRECT)
        assert relayed(s) == DIRECTS
        s.net.hosts["server"].interface().replug(s.net.nat("cafe", "strict"))
        pulse = asyncio.create_task(s.beat())
        moved = asyncio.get_running_loop().time()
        await s.first_answer(moved, 1.0)
        await asyncio.sleep(20.0)
        assert relayed(s) == DIRECTS, s.story(moved)
        assert s.counted["server"].open == 2
        await s.check_bytes(pulse)

    run_virtual(lambda: play(("moderate", "strict"), story))


@pytest.mark.parametrize("relays", [1, 2], ids=["one-stun-server", "two-stun-servers"])
def test_two_strict_nats_stay_relayed_and_say_so_once(relays: int) -> None:
    """Early, with a reason; attempts become rare, and each is bounded in sockets, packets and rate."""

    async def story(s: Pair) -> None:
        began = asyncio.get_running_loop().time()
        pulse = asyncio.create_task(s.beat())
        await asyncio.sleep(ATTEMPT + 3.0)
        assert {who for who, _ in told(s)} == {"client", "server"}, s.story(began)
        for who, counted in s.counted.items():
            peer = s.nats["server" if who == "client" else "client"]
            assert counted.open == 1
            assert counted.most_open <= SOCKETS + 1
            assert counted.to_ports(peer.outside_ip) <= MAX_TARGETS + (MAX_PROBES if relays == 1 else 0)
            # Beside those of port prediction there are the rounds of plain pings: about one per second and address.
            assert counted.most_per_second() <= 500 + 60
            assert len(counted.pings) <= SOCKETS * MAX_TARGETS + MAX_PROBES + 200
        await s.check_bytes(pulse)
        await asyncio.sleep(187.0)
        assert len(told(s)) == 2
        assert False not in relayed(s).values()
        for who, counted in s.counted.items():
            # The first attempt, then after pauses of 5, 30 and 60 s; the next pause is of five minutes.
            peer = s.nats["server" if who == "client" else "client"]
            assert counted.extra in (4 * SOCKETS, 4 * SOCKETS * MAX_TARGETS)
            assert counted.to_ports(peer.outside_ip) <= MAX_TARGETS + (4 * MAX_PROBES if relays == 1 else 0)

    run_virtual(lambda: play(("strict", "strict"), story, relays=relays))


def test_without_the_option_nothing_is_predicted() -> None:
    """It is off unless asked for."""

    async def story(s: Pair) -> None:
        await asyncio.sleep(DIRECT)
        assert False not in relayed(s).values()
        assert all(c.extra == 0 for c in s.counted.values())
        for who, counted in s.counted.items():
            peer = s.nats["server" if who == "client" else "client"]
            assert counted.to_ports(peer.outside_ip) <= MAX_TARGETS
        assert not told(s)

    run_virtual(lambda: play(("moderate", "strict"), story, port_prediction=False))


def test_system_refuses_most_sockets_the_rest_is_used() -> None:
    """Out of file descriptors: fewer sockets are a smaller chance, and nothing worse."""

    async def story(s: Pair) -> None:
        really, opened = s.net.hosts["server"].open_udp, 0

        def limited(family: Family, ip: str, port: int, receiver: Receiver) -> SimUdpSocket:
            nonlocal opened
            opened += 1
            if opened > 128:
                raise OSError(24, "Too many open files")
            return really(family, ip, port, receiver)

        s.net.hosts["server"].open_udp = limited  # type: ignore[method-assign]
        pulse = asyncio.create_task(s.beat())
        await asyncio.sleep(DIRECT)
        assert relayed(s) == DIRECTS
        await s.check_bytes(pulse)

    run_virtual(lambda: play(("moderate", "strict"), story))
