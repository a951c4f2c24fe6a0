"""Whatever goes wrong at the beginning or the end of an endpoint, no socket outlives it."""

from __future__ import annotations

import asyncio
import socket

import pytest

from iroh_py import BindError, Endpoint, EndpointConfig, RelayUrl
from iroh_py.io.netcheck import run_netcheck
from iroh_py.io.system import as_network
from iroh_py.network import Addr
from iroh_py.relay.sockets import bind_udp

LOOPBACK = ("127.0.0.1", 0)
#: Of the documentation (RFC 3849): no machine has it.
ELSEWHERE = ("2001:db8::1", 0)
Socket = socket.socket


class Counted:
    """The system's network; it remembers every socket, and refuses those of one family or behind a number."""

    name = "counted"

    def __init__(self, *, refused: int = 0, most: int = 1000) -> None:
        self.made: list[Socket] = []
        self._refused = refused
        self._most = most

    def socket(self, family: int, type: int, proto: int = 0) -> Socket:
        if family == self._refused:
            raise OSError("no such socket here")
        if len(self.made) >= self._most:
            raise RuntimeError("the lab is closed")
        self.made.append(socket.socket(family, type, proto))
        return self.made[-1]

    @property
    def open(self) -> list[Socket]:
        return [sock for sock in self.made if sock.fileno() >= 0]


@pytest.mark.parametrize(
    ("bind", "says"),
    [
        ([LOOPBACK, ELSEWHERE], "cannot bind a UDP socket to 2001:db8::1"),
        ([LOOPBACK, LOOPBACK], "one socket of a family"),
    ],
    ids=["an-address-of-another-machine", "two-of-a-family"],
)
async def test_endpoint_that_cannot_bind_keeps_no_socket(bind: list[Addr], says: str) -> None:
    """The first address was had, the second not: neither is held."""
    network = Counted()
    with pytest.raises(BindError, match=says):
        await Endpoint.bind(network=network, bind=bind)
    assert network.made
    assert not network.open


async def test_endpoint_that_cannot_watch_its_network_keeps_no_socket() -> None:
    """No netlink, no endpoint."""
    network = Counted(refused=socket.AF_NETLINK)
    with pytest.raises(OSError, match="no such socket here"):
        await Endpoint.bind(network=network, bind=[LOOPBACK])
    assert network.made
    assert not network.open


async def test_endpoint_whose_last_words_fail_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is said at the end may fail, as when its lab is gone: the sockets are closed all the same."""
    network = Counted()
    endpoint = await Endpoint.bind(network=network, bind=[LOOPBACK])

    def fail() -> None:
        raise RuntimeError("the lab is closed")

    monkeypatch.setattr(endpoint._driver, "_pump", fail)
    with pytest.raises(RuntimeError, match="the lab is closed"):
        await endpoint.close()
    assert network.made
    assert not network.open


async def test_endpoint_whose_close_is_cancelled_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A test's timeout in the middle of the goodbyes leaves no socket behind."""
    network = Counted()
    config = EndpointConfig(relays=(RelayUrl.parse("http://127.0.0.1:1"),), portmap=False)
    endpoint = await Endpoint.bind(network=network, bind=[LOOPBACK], config=config)
    relays = endpoint._driver.relays
    assert relays is not None
    goodbyes, close = asyncio.Event(), relays.close

    async def slow() -> None:
        goodbyes.set()
        await close()
        await asyncio.Event().wait()

    monkeypatch.setattr(relays, "close", slow)
    closing = asyncio.create_task(endpoint.close())
    await goodbyes.wait()
    closing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await closing
    assert not [sock for sock in network.open if sock.type == socket.SOCK_DGRAM]


async def test_netcheck_without_a_network_to_watch_keeps_no_socket() -> None:
    """A report has sockets of its own; without netlink there is no report."""
    network = Counted(refused=socket.AF_NETLINK)
    with pytest.raises(OSError, match="no such socket here"):
        await run_netcheck(as_network(network), [])
    assert network.made
    assert not network.open


def test_relay_whose_lab_ends_while_it_listens_keeps_no_socket() -> None:
    """The second socket is refused with an error that is not the system's: the first one is closed."""
    network = Counted(most=1)
    with pytest.raises(RuntimeError, match="the lab is closed"):
        bind_udp(network.socket, [LOOPBACK, LOOPBACK])
    assert network.made
    assert not network.open
