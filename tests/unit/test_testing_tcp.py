"""iroh_py.testing: TCP between simulated hosts, its half-open connections above all."""

from __future__ import annotations

import asyncio
import errno
import ssl
from collections.abc import Awaitable, Callable

import pytest

from iroh_py.errors import LocalProtocolError
from iroh_py.testing import SimListener, SimNet, virtual

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]
SERVER = "198.51.100.1"


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Send back what comes, until the end."""
    try:
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()
    except OSError:
        # The other end was reset: nothing to answer.
        return
    finally:
        writer.close()


class Scene:
    """A laptop with two uplinks behind NATs and a server that echoes."""

    def __init__(self, on_client: Callable[..., Awaitable[None]] = echo) -> None:
        self.net = SimNet()
        self.home, self.hotspot = self.net.nat("home"), self.net.nat("hotspot", "strict")
        self.laptop = self.net.host("laptop", interfaces={"wlan0": self.home, "wwan0": self.hotspot})
        self.wlan = self.laptop.interface("wlan0")
        self.server = self.net.host("server", SERVER)
        self.listener: SimListener = self.server.listen_tcp(443, on_client)

    async def dial(self) -> Streams:
        return await self.laptop.connect_tcp(SERVER, 443)


async def answered(streams: Streams, data: bytes, within: float = 1.0) -> bool:
    """Whether the echo comes back in time."""
    reader, writer = streams
    writer.write(data)
    try:
        return await asyncio.wait_for(reader.readexactly(len(data)), within) == data
    except TimeoutError:
        return False


@virtual()
async def test_connection_bound_to_an_interface_ignores_the_default_route() -> None:
    """Whoever asks for an uplink gets it, while the kernel would take the one that lost its carrier."""
    scene = Scene()
    index = scene.laptop.interface("wwan0").snapshot().index
    scene.wlan.carrier(False)
    streams = await asyncio.wait_for(scene.laptop.connect_tcp(SERVER, 443, via=index), 1.0)
    assert streams[1].get_extra_info("sockname")[0] == scene.laptop.interface("wwan0").ip
    assert await answered(streams, b"by the other one")
    scene.laptop.interface("wwan0").carrier(False)
    scene.wlan.carrier(True)
    assert not await answered(streams, b"bound is bound")
    streams[1].transport.abort()
    with pytest.raises(OSError, match="No such device"):
        await scene.laptop.connect_tcp(SERVER, 443, via=99)


@virtual()
async def test_bytes_arrive_in_order_after_the_delay() -> None:
    """A megabyte comes back exact; connecting and an echo take a round trip each."""
    scene = Scene()
    start = scene.laptop.time()
    streams = await scene.dial()
    # Four links of 5 ms: Wi-Fi, router, server, and back.
    assert scene.laptop.time() - start == pytest.approx(0.03)
    assert await answered(streams, b"ping")
    assert scene.laptop.time() - start == pytest.approx(0.06)
    reader, writer = streams
    blob = bytes(range(256)) * 4096

    async def send() -> None:
        writer.write(blob)
        await writer.drain()
        writer.write_eof()

    async with asyncio.TaskGroup() as group:
        group.create_task(send())
        got = group.create_task(reader.read(-1))
    assert got.result() == blob
    writer.close()
    await writer.wait_closed()
    assert scene.listener.connections == []


@virtual()
async def test_the_server_sees_the_nats_address() -> None:
    """Both ends know the names of a connection; behind a NAT the server sees the router."""
    peers: list[object] = []

    async def note(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peers.append(writer.get_extra_info("peername"))
        writer.close()

    scene = Scene(note)
    reader, writer = await scene.dial()
    assert await reader.read() == b""
    assert writer.get_extra_info("peername") == (SERVER, 443)
    assert writer.get_extra_info("sockname")[0] == scene.wlan.ip
    assert peers == [(scene.home.outside_ip, writer.get_extra_info("sockname")[1])]
    writer.close()


@virtual()
async def test_a_closed_port_refuses() -> None:
    """Connecting where nobody listens, or no longer, is refused after a round trip."""
    scene = Scene()
    with pytest.raises(ConnectionRefusedError) as caught:
        await scene.laptop.connect_tcp(SERVER, 444)
    assert caught.value.errno == errno.ECONNREFUSED
    streams = await scene.dial()
    scene.listener.close()
    with pytest.raises(ConnectionRefusedError):
        await scene.dial()
    assert await answered(streams, b"the open one lives on")
    streams[1].close()


@virtual()
async def test_no_route_fails_at_once_and_silence_after_127_seconds() -> None:
    """Dialling without a route is ENETUNREACH, into a black hole 127 s of tries, of which one may succeed."""
    scene = Scene()
    scene.server.blackhole()
    start = scene.laptop.time()
    with pytest.raises(TimeoutError) as caught:
        await scene.dial()
    assert caught.value.errno == errno.ETIMEDOUT
    assert scene.laptop.time() - start == pytest.approx(127)
    dialling = asyncio.create_task(scene.dial())
    await asyncio.sleep(2)
    scene.server.blackhole(False)
    start = scene.laptop.time()
    (await dialling)[1].close()
    assert scene.laptop.time() - start == pytest.approx(1.03)
    scene.wlan.down()
    scene.laptop.interface("wwan0").down()
    with pytest.raises(OSError, match="unreachable") as unreachable:
        await scene.dial()
    assert unreachable.value.errno == errno.ENETUNREACH


@virtual()
async def test_a_short_outage_loses_nothing() -> None:
    """What is written while the way is gone arrives when it is back, after TCP's back-off, in order."""
    scene = Scene()
    reader, writer = await scene.dial()
    writer.write(b"one ")
    scene.wlan.carrier(False)
    writer.write(b"two ")
    await asyncio.sleep(5)
    writer.write(b"three")
    scene.wlan.carrier(True)
    assert await asyncio.wait_for(reader.readexactly(13), 10) == b"one two three"
    assert scene.net.counts["tcp", "stalled"] > 0
    writer.close()


@pytest.mark.parametrize("change", ["renumber", "default-route", "rebind", "server-blackhole", "replug"])
def test_a_broken_way_is_half_open(change: str) -> None:
    """When address, route, mapping or peer is gone, no error comes and nothing arrives."""

    @virtual()
    async def story() -> None:
        scene = Scene()
        reader, writer = await scene.dial()
        assert await answered((reader, writer), b"before")
        if change == "renumber":
            scene.wlan.renumber("192.168.1.99")
        elif change == "default-route":
            scene.laptop.set_default("wwan0")
        elif change == "rebind":
            scene.home.rebind()
        elif change == "replug":
            scene.wlan.replug(scene.hotspot)
        else:
            scene.server.blackhole()
        assert not await answered((reader, writer), b"after", within=60)
        assert not reader.at_eof()
        assert reader.exception() is None
        # A fresh connection works where there is a way at all.
        if change != "server-blackhole":
            fresh = await scene.dial()
            assert await answered(fresh, b"fresh")
            fresh[1].close()
        writer.transport.abort()

    story()


@virtual()
async def test_an_idle_half_open_connection_is_never_noticed() -> None:
    """Without data neither end learns that the other is gone, as without TCP keepalive."""
    scene = Scene()
    reader, writer = await scene.dial()
    scene.server.blackhole()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(reader.read(1), 3000)
    writer.close()
    await writer.wait_closed()


@virtual()
async def test_data_into_silence_time_out_like_linux() -> None:
    """After 15 tries, a quarter of an hour, the connection is lost with ETIMEDOUT."""
    scene = Scene()
    reader, writer = await scene.dial()
    scene.server.blackhole()
    start = scene.laptop.time()
    writer.write(b"hello?")
    with pytest.raises(TimeoutError) as caught:
        await reader.read(1)
    assert caught.value.errno == errno.ETIMEDOUT
    assert 600 < scene.laptop.time() - start < 1200
    writer.close()


@virtual()
async def test_a_killed_server_resets() -> None:
    """Closing a listener with abort resets its connections, and the client reads a reset."""
    scene = Scene()
    reader, writer = await scene.dial()
    assert await answered((reader, writer), b"up")
    scene.listener.close(abort=True)
    with pytest.raises(ConnectionResetError):
        await reader.read(1)
    assert scene.listener.connections == []
    writer.close()


@virtual()
async def test_a_reset_that_cannot_pass_leaves_the_peer_half_open() -> None:
    """A server killed behind a black hole says nothing, and the client does not know (M11)."""
    scene = Scene()
    reader, writer = await scene.dial()
    scene.server.blackhole()
    scene.listener.close(abort=True)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(reader.read(1), 60)
    writer.close()


@virtual()
async def test_writing_to_a_reader_who_left_is_reset() -> None:
    """Data for an end that was closed are answered by a reset."""

    async def leave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    scene = Scene(leave)
    reader, writer = await scene.dial()
    assert await reader.read() == b""
    writer.write(b"too late")
    await asyncio.sleep(1)
    assert writer.transport.is_closing()
    with pytest.raises(ConnectionResetError):
        await writer.drain()
    writer.close()


@virtual()
async def test_a_reader_who_is_slow_slows_the_writer() -> None:
    """With nobody reading, drain waits and what is buffered stays bounded; reading lets it go on."""
    held: list[Streams] = []

    async def hold(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        held.append((reader, writer))

    scene = Scene(hold)
    _, writer = await scene.dial()
    blob = bytes(4 * 1024 * 1024)
    writer.write(blob)
    draining = asyncio.create_task(writer.drain())
    await asyncio.sleep(60)
    assert not draining.done()
    assert writer.transport.get_write_buffer_size() > 3 * 1024 * 1024
    assert await held[0][0].readexactly(len(blob)) == blob
    await draining
    for each in (writer, held[0][1]):
        each.transport.abort()


@virtual()
async def test_closing_with_a_full_buffer_waits_for_the_kernel() -> None:
    """close() of a connection whose way is gone ends only with abort once the kernel's buffer is full."""
    scene = Scene()
    _, writer = await scene.dial()
    scene.server.blackhole()
    writer.write(bytes(1024 * 1024))
    writer.close()
    closing = asyncio.create_task(writer.wait_closed())
    await asyncio.sleep(60)
    assert not closing.done()
    writer.transport.abort()
    await closing


@virtual()
async def test_loss_and_rate_slow_a_stream_but_keep_it_exact() -> None:
    """Over a bad link the bytes come late and whole."""
    scene = Scene()
    scene.net.link(scene.wlan, loss=0.05, rate=125_000.0, jitter=0.01)
    reader, writer = await scene.dial()
    blob = bytes(range(256)) * 1000
    start = scene.laptop.time()
    writer.write(blob)
    assert await reader.readexactly(len(blob)) == blob
    assert scene.laptop.time() - start > len(blob) / 125_000
    writer.close()


@virtual()
async def test_a_host_dials_itself() -> None:
    """Loopback connections work without a link."""
    host = SimNet().host("host", interfaces={"eth0": None})
    host.listen_tcp(80, echo, ip="127.0.0.1")
    streams = await host.connect_tcp("127.0.0.1", 80)
    assert await answered(streams, b"me")
    streams[1].close()


@virtual()
async def test_nobody_dials_into_a_nat() -> None:
    """A connection to a NAT's outside address finds no listener behind it."""
    net = SimNet()
    home = net.nat("home", "open")
    net.host("inside", nat=home).listen_tcp(80, echo)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(net.host("outside").connect_tcp(home.outside_ip, 80), 30)


@virtual()
async def test_tls_is_refused_with_the_way_out() -> None:
    """Asking for TLS is a clear error that says what to use."""
    scene = Scene()
    with pytest.raises(LocalProtocolError, match="http://"):
        await scene.laptop.connect_tcp(SERVER, 443, ssl=ssl.create_default_context())


@virtual()
async def test_a_taken_port_is_refused() -> None:
    """Two listeners on one port conflict."""
    scene = Scene()
    with pytest.raises(OSError, match="443") as caught:
        scene.server.listen_tcp(443, echo)
    assert caught.value.errno == errno.EADDRINUSE
