"""io/system.py: the networks of real sockets, over loopback."""

from __future__ import annotations

import asyncio
import errno
import socket
import threading

import pytest

from iroh_py.errors import LocalProtocolError
from iroh_py.io import names
from iroh_py.io.system import SocketNetwork, SystemNetwork, as_network
from iroh_py.network import Addr, Family, Network


class Factory:
    """The least that a lab host must be."""

    name = "laptop"

    def __init__(self) -> None:
        self.opened: list[tuple[int, int, int]] = []

    def socket(self, family: int, type: int, proto: int = 0) -> socket.socket:
        self.opened.append((family, type, proto))
        return socket.socket(family, type, proto)


class Resolving(Factory):
    """A factory with a blocking resolver."""

    def resolve(self, host: str) -> list[str]:
        assert threading.current_thread() is not threading.main_thread()
        return {"server": ["198.51.100.7", "2001:DB8::7"]}.get(host, [])


class ResolvingAsync(Factory):
    """A factory with a resolver that is a coroutine."""

    async def resolve(self, host: str) -> list[str]:
        await asyncio.sleep(0)
        return ["::ffff:198.51.100.8"]


def test_networks_are_known_by_what_they_can_do() -> None:
    """None is the system's network, a Network is itself, a socket factory is wrapped."""
    system = as_network(None)
    assert isinstance(system, SystemNetwork)
    assert as_network(system) is system
    wrapped = as_network(Factory())
    assert isinstance(wrapped, SocketNetwork)
    assert isinstance(wrapped, Network)
    assert wrapped.name == "laptop"


@pytest.mark.parametrize("wrong", [5, "eth0", object(), []])
def test_anything_else_is_one_clear_error(wrong: object) -> None:
    """The error says what is accepted."""
    with pytest.raises(LocalProtocolError, match="is no network: give None"):
        as_network(wrong)


async def test_factory_that_returns_no_socket_is_a_clear_error() -> None:
    """A factory's mistake is named, not an AttributeError from within."""

    class Wrong(Factory):
        def socket(self, family: int, type: int, proto: int = 0) -> socket.socket:
            return 5  # type: ignore[return-value]

    with pytest.raises(LocalProtocolError, match=r"laptop\.socket\(\) must return a socket"):
        SocketNetwork(Wrong()).open_udp(Family.V4, "127.0.0.1", 0, lambda batch: None)


async def test_udp_opens_through_the_factory() -> None:
    """Every socket is the factory's, so that it belongs to its network."""
    factory = Factory()
    received: asyncio.Queue[list[tuple[bytes, Addr, int]]] = asyncio.Queue()
    opened = SocketNetwork(factory).open_udp(Family.V4, "127.0.0.1", 0, received.put_nowait)
    opened.send([b"hello"], opened.local_addr)
    async with asyncio.timeout(5):
        [(payload, source, _)] = await received.get()
    assert (payload, source) == (b"hello", opened.local_addr)
    assert len(factory.opened) == 1
    opened.close()


async def test_watch_tells_this_machine_s_loopback() -> None:
    """The system's monitor works without rights."""
    watch = SystemNetwork().watch(lambda state: None)
    assert any(interface.loopback for interface in watch.state.interfaces)
    watch.close()


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("2001:DB8:0::1", "2001:db8::1"),
        ("[::1]", "::1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
    ],
)
async def test_addresses_resolve_to_themselves(host: str, expected: str) -> None:
    """No name server is asked about an address, and its text becomes canonical."""
    assert await SystemNetwork().resolve(host) == [expected]
    assert await SocketNetwork(Factory()).resolve(host) == [expected]


async def test_names_are_resolved_by_the_factory() -> None:
    """A lab host's names are those of its lab, by a sync resolver (off the event loop) or an async one."""
    assert await SocketNetwork(Resolving()).resolve("server") == ["198.51.100.7", "2001:db8::7"]
    assert await SocketNetwork(ResolvingAsync()).resolve("anything") == ["198.51.100.8"]


async def test_unknown_names_are_an_oserror() -> None:
    """No address, or no way to resolve: a gaierror that names the host."""
    with pytest.raises(socket.gaierror, match="nobody has no address"):
        await SocketNetwork(Resolving()).resolve("nobody")
    with pytest.raises(socket.gaierror, match="laptop has no resolve method"):
        await SocketNetwork(Factory()).resolve("server")


async def test_system_resolves_localhost() -> None:
    """The system's resolver is asked in a thread."""
    assert set(await SystemNetwork().resolve("localhost")) & {"127.0.0.1", "::1"}


async def test_abandoned_look_up_does_no_harm() -> None:
    """A look-up that outlives its caller ends silently, and its slot is free again."""
    release = threading.Event()
    ended = threading.Event()

    def slow() -> None:
        release.wait(5)
        ended.set()

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await names.in_daemon_thread(slow)
    release.set()
    assert await asyncio.to_thread(ended.wait, 5)
    for _ in range(2 * names.MAX_LOOKUPS):
        assert await names.in_daemon_thread(lambda: 1) == 1


async def test_look_ups_are_bounded() -> None:
    """A dead name server cannot make threads without end (Never 10)."""
    release = threading.Event()
    waiting = [
        asyncio.ensure_future(names.in_daemon_thread(lambda: release.wait(5)))
        for _ in range(names.MAX_LOOKUPS)
    ]
    await asyncio.sleep(0)
    with pytest.raises(OSError, match="under way already"):
        await names.in_daemon_thread(lambda: 1)
    release.set()
    assert await asyncio.gather(*waiting) == [True] * names.MAX_LOOKUPS


async def test_tcp_connects_with_nodelay() -> None:
    """A connection carries bytes both ways; small frames are not held back."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write((await reader.readexactly(5)).upper())
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    factory = Factory()
    reader, writer = await SocketNetwork(factory).connect_tcp("127.0.0.1", port)
    assert writer.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
    writer.write(b"hello")
    assert await reader.readexactly(5) == b"HELLO"
    writer.close()
    await writer.wait_closed()
    server.close()
    await server.wait_closed()
    assert len(factory.opened) == 1


async def test_refused_tcp_is_an_oserror_and_leaves_nothing_open() -> None:
    """Nobody listens: ConnectionRefusedError, and the socket is closed."""
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    opened: list[socket.socket] = []

    class Keeping(Factory):
        def socket(self, family: int, type: int, proto: int = 0) -> socket.socket:
            opened.append(super().socket(family, type, proto))
            return opened[-1]

    with pytest.raises(ConnectionRefusedError):
        await SocketNetwork(Keeping()).connect_tcp("127.0.0.1", port)
    assert [sock.fileno() for sock in opened] == [-1]


async def test_cancelled_tcp_leaves_nothing_open() -> None:
    """A connection attempt that is given up closes its socket."""
    opened: list[socket.socket] = []

    class Keeping(Factory):
        def socket(self, family: int, type: int, proto: int = 0) -> socket.socket:
            opened.append(super().socket(family, type, proto))
            return opened[-1]

    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(0)
    addr = listener.getsockname()
    fillers = []
    # A full backlog leaves later attempts waiting for the handshake.
    for _ in range(3):
        filler = socket.socket()
        filler.setblocking(False)
        filler.connect_ex(addr)
        fillers.append(filler)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await SocketNetwork(Keeping()).connect_tcp("127.0.0.1", addr[1])
    assert [sock.fileno() for sock in opened] == [-1]
    for filler in fillers:
        filler.close()
    listener.close()


async def test_clocks_run() -> None:
    """Boot time is not behind monotonic time."""
    network = SystemNetwork()
    assert network.time() > 0
    assert network.boottime() >= network.time() - 0.001


async def test_ping_without_rights_is_a_permission_error() -> None:
    """The report of a missing right is an error to catch, not a hang."""

    class Poor(Factory):
        def socket(self, family: int, type: int, proto: int = 0) -> socket.socket:
            raise PermissionError(errno.EACCES, "no")

    with pytest.raises(PermissionError, match="ping_group_range"):
        await SocketNetwork(Poor()).icmp_ping("127.0.0.1", 1.0)
