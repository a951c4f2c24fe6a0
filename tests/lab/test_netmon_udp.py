"""io/udp.py in network namespaces: one port leaves by any interface, whatever the kernel's routing says."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator

import pytest
from rawns import RawNamespace, cable, namespaces, needs_root

from iroh_py.io.netmon import NetworkMonitor
from iroh_py.io.udp import AsyncUdpSocket
from iroh_py.network import Addr, Family
from iroh_py.proto.netstate import kernel_choice, vias

pytestmark = needs_root
Host = tuple[RawNamespace, RawNamespace]
#: An address of the world behind both uplinks, by family.
WORLD = {Family.V4: "203.0.113.1", Family.V6: "2001:db8:ffff::1"}
ANY = {Family.V4: "0.0.0.0", Family.V6: "::"}


@pytest.fixture
def host() -> Iterator[Host]:
    """A host with wlan0 (preferred) and wwan0, both to a world with one address of its own per family."""
    with namespaces("host", "world") as (here, there):
        for number, name in enumerate(("wlan0", "wwan0")):
            cable(here, name, there, f"x{number}")
            here.addr("add", name, f"10.0.{number}.2/24")
            there.addr("add", f"x{number}", f"10.0.{number}.1/24")
            here.addr("add", name, f"2001:db8:{number + 1}::2/64")
            there.addr("add", f"x{number}", f"2001:db8:{number + 1}::1/64")
            here.route("add", "default", name, gateway=f"10.0.{number}.1", priority=10 + number)
            here.route(
                "add",
                "default",
                name,
                gateway=f"2001:db8:{number + 1}::1",
                priority=10 + number,
                family=Family.V6,
            )
        there.addr("add", "lo", WORLD[Family.V4] + "/32")
        there.addr("add", "lo", WORLD[Family.V6] + "/128")
        yield here, there


async def exchange(host: Host, family: Family, via: int) -> Addr:
    """Send from the host to the world; the source address that the world sees."""
    here, there = host
    seen: list[Addr] = []
    arrived = asyncio.Event()

    def receive(batch: list[tuple[bytes, Addr, int]]) -> None:
        seen.append(batch[0][1])
        arrived.set()

    receiver = AsyncUdpSocket(there.socket, family, ANY[family], 0, receive)
    sender = AsyncUdpSocket(here.socket, family, ANY[family], 0, lambda batch: None)
    try:
        async with asyncio.timeout(5):
            while (
                not seen
            ):  # a link that just came up may lose the first ones while neighbours find each other
                assert sender.send([b"x" * 100] * 3, (WORLD[family], receiver.local_addr[1]), via) == 3
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(arrived.wait(), 0.1)
            source = seen[0]
        assert source[1] == sender.local_addr[1]
        return source
    finally:
        sender.close()
        receiver.close()


@pytest.mark.parametrize("family", list(Family))
async def test_via_chooses_the_interface_and_its_source_address(host: Host, family: Family) -> None:
    """One port leaves by either interface, with that interface's address; 0 is the kernel's choice."""
    here, _ = host
    wlan, wwan = ("10.0.0.2", "10.0.1.2") if family is Family.V4 else ("2001:db8:1::2", "2001:db8:2::2")
    assert (await exchange(host, family, 0))[0] == wlan
    assert (await exchange(host, family, here.index("wwan0")))[0] == wwan
    assert (await exchange(host, family, here.index("wlan0")))[0] == wlan


@pytest.mark.parametrize("family", list(Family))
async def test_dead_default_route_is_passed_by(host: Host, family: Family) -> None:
    """The preferred link loses its carrier, keeps its default route; the other one is the way (issue A)."""
    here, there = host
    news = asyncio.Event()
    monitor = NetworkMonitor(here.socket, lambda state: news.set())
    there.link("x0", state="down")
    async with asyncio.timeout(5):
        while vias(monitor.state, WORLD[family]) != (here.index("wwan0"),):
            news.clear()
            await news.wait()
    assert kernel_choice(monitor.state, WORLD[family]) == here.index("wlan0")
    wwan = "10.0.1.2" if family is Family.V4 else "2001:db8:2::2"
    assert (await exchange(host, family, vias(monitor.state, WORLD[family])[0]))[0] == wwan
    monitor.close()


@pytest.mark.parametrize("family", list(Family))
async def test_datagram_above_the_mtu_is_refused_not_fragmented(host: Host, family: Family) -> None:
    """DF is set: a datagram larger than the link is an error for its sender, alone or in a run."""
    here, _ = host
    sender = AsyncUdpSocket(here.socket, family, ANY[family], 0, lambda batch: None)
    for count in (1, 5):
        with pytest.raises(OSError, match="too long"):
            sender.send([bytes(1600)] * count, (WORLD[family], 9))
    assert sender.send([bytes(1400)] * 5, (WORLD[family], 9)) == 5
    sender.close()


async def test_unknown_interface_is_an_error(host: Host) -> None:
    """An interface that is gone is told at the send, and the socket goes on."""
    here, _ = host
    sender = AsyncUdpSocket(here.socket, Family.V4, "0.0.0.0", 0, lambda batch: None)
    with pytest.raises(OSError, match="No such device"):
        sender.send([b"x"], (WORLD[Family.V4], 9), 4711)
    assert sender.send([b"x"], (WORLD[Family.V4], 9)) == 1
    sender.close()
