"""io/udp.py over loopback: batches, segmentation and its fallback, errors that must not hurt."""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iroh_py.io import udp
from iroh_py.io.udp import AsyncUdpSocket
from iroh_py.network import Addr, Family, UdpSocket

LOOPBACK = {Family.V4: "127.0.0.1", Family.V6: "::1"}


class Inbox:
    """Collects what a socket receives."""

    def __init__(self) -> None:
        self.batches: list[list[tuple[bytes, Addr, int]]] = []
        self._news = asyncio.Event()

    def __call__(self, batch: list[tuple[bytes, Addr, int]]) -> None:
        self.batches.append(batch)
        self._news.set()

    @property
    def payloads(self) -> list[bytes]:
        return [payload for batch in self.batches for payload, _, _ in batch]

    async def until(self, count: int) -> list[bytes]:
        """The payloads, once there are so many."""
        async with asyncio.timeout(5):
            while len(self.payloads) < count:
                self._news.clear()
                await self._news.wait()
        return self.payloads


class Refusing(socket.socket):
    """A socket whose calls fail with chosen errors first."""

    send_errors: Iterator[int]
    read_errors: Iterator[int]

    def sendmsg(self, *arguments: Any) -> int:
        self._maybe(self.send_errors)
        return super().sendmsg(*arguments)

    def sendto(self, *arguments: Any) -> int:
        self._maybe(self.send_errors)
        return super().sendto(*arguments)

    def recvmsg(self, *arguments: Any) -> Any:
        self._maybe(self.read_errors)
        return super().recvmsg(*arguments)

    @staticmethod
    def _maybe(errors: Iterator[int]) -> None:
        code = next(errors, 0)
        if code:
            raise OSError(code, "as the test wants")


def refusing(
    *, sends: list[int] | None = None, reads: list[int] | None = None
) -> Callable[..., socket.socket]:
    """An opener of sockets with these errors."""

    def opener(family: int, kind: int, proto: int) -> socket.socket:
        opened = Refusing(family, kind, proto)
        opened.send_errors = iter(sends or [])
        opened.read_errors = iter(reads or [])
        return opened

    return opener


def addr_of(receiver: AsyncUdpSocket) -> Addr:
    """Where to send to reach a socket on loopback."""
    return LOOPBACK[receiver.family], receiver.local_addr[1]


@pytest.fixture(params=[Family.V4, Family.V6])
async def pair(request: pytest.FixtureRequest) -> AsyncIterator[tuple[AsyncUdpSocket, AsyncUdpSocket, Inbox]]:
    """A sender, a receiver, and what the receiver got; both families."""
    family: Family = request.param
    inbox = Inbox()
    try:
        receiver = AsyncUdpSocket(socket.socket, family, LOOPBACK[family], 0, inbox)
    except OSError as error:
        pytest.skip(f"no {family.name} loopback here ({error}): enable it")
    sender = AsyncUdpSocket(socket.socket, family, LOOPBACK[family], 0, Inbox())
    yield sender, receiver, inbox
    sender.close()
    receiver.close()


Pair = tuple[AsyncUdpSocket, AsyncUdpSocket, Inbox]


async def test_datagrams_arrive_in_one_batch_with_their_source(pair: Pair) -> None:
    """What lies there at a wake-up is handed over in one call, as (payload, (ip, port), interface)."""
    sender, receiver, inbox = pair
    payloads = [bytes([n]) * 1200 for n in range(20)]
    assert sender.send(payloads, addr_of(receiver)) == 20
    assert await inbox.until(20) == payloads
    assert len(inbox.batches) == 1
    assert {source for _, source, _ in inbox.batches[0]} == {sender.local_addr}


async def test_uneven_datagrams_keep_their_borders(pair: Pair) -> None:
    """Runs of equal length, shorter ends, and empty datagrams come out as they went in."""
    sender, receiver, inbox = pair
    lengths = [100, 100, 100, 40, 40, 1200, 0, 0, 7, 8, 8, 8, 3, 1]
    payloads = [bytes([n]) * length for n, length in enumerate(lengths)]
    assert sender.send(payloads, addr_of(receiver)) == len(payloads)
    assert await inbox.until(len(payloads)) == payloads


async def test_many_datagrams_take_few_system_calls(pair: Pair) -> None:
    """Segmentation and coalescing are used where the kernel has them."""
    sender, receiver, inbox = pair
    if not sender.segments:
        pytest.skip("no UDP segmentation: needs Linux 4.18")
    assert sender.send([bytes(1000)] * 60, addr_of(receiver)) == 60
    await inbox.until(60)
    assert sender.counters.writes == 1


async def test_payload_of_several_segments_ends_at_64(pair: Pair) -> None:
    """More than the kernel segments at once goes out in several calls."""
    sender, receiver, inbox = pair
    payloads = [bytes([n % 256]) * 50 for n in range(200)]
    assert sender.send(payloads, addr_of(receiver)) == 200
    assert await inbox.until(200) == payloads


async def test_socket_satisfies_the_protocol_class(pair: Pair) -> None:
    """The endpoint needs no more than UdpSocket says."""
    sender: UdpSocket = pair[0]
    assert sender.family in Family
    assert sender.local_addr[1] > 0


@pytest.mark.parametrize("code", [errno.EIO, errno.EINVAL, errno.EMSGSIZE, errno.ENOPROTOOPT])
async def test_refused_segmentation_falls_back_to_single_sends(code: int) -> None:
    """A NIC that cannot segment costs one call, no datagram."""
    inbox = Inbox()
    receiver = AsyncUdpSocket(socket.socket, Family.V4, "127.0.0.1", 0, inbox)
    sender = AsyncUdpSocket(refusing(sends=[code]), Family.V4, "127.0.0.1", 0, Inbox())
    if not sender.segments:
        pytest.skip("no UDP segmentation: needs Linux 4.18")
    payloads = [bytes([n]) * 100 for n in range(5)]
    assert sender.send(payloads, addr_of(receiver)) == 5
    assert await inbox.until(5) == payloads
    assert sender.counters.refusals == 1
    # Only an inability lasts; a segment above the MTU says nothing of the next destination.
    assert sender.segments == (code in (errno.EINVAL, errno.EMSGSIZE))
    sender.close()
    receiver.close()


@pytest.mark.parametrize("code", [errno.EAGAIN, errno.ENOBUFS])
async def test_full_buffer_stops_early(code: int) -> None:
    """The count says what the system took; the rest is the caller's."""
    sender = AsyncUdpSocket(refusing(sends=[0, code]), Family.V4, "127.0.0.1", 0, Inbox())
    assert sender.send([b"one", b"a longer one"], ("127.0.0.1", 9)) == 1
    assert sender.counters.unsent == 1
    sender.close()


async def test_late_icmp_error_does_not_lose_a_datagram() -> None:
    """ECONNREFUSED on a send is about an earlier datagram: this one is sent all the same."""
    inbox = Inbox()
    receiver = AsyncUdpSocket(socket.socket, Family.V4, "127.0.0.1", 0, inbox)
    sender = AsyncUdpSocket(refusing(sends=[errno.ECONNREFUSED]), Family.V4, "127.0.0.1", 0, Inbox())
    assert sender.send([b"hello"], addr_of(receiver)) == 1
    assert await inbox.until(1) == [b"hello"]
    sender.close()
    receiver.close()


@pytest.mark.parametrize("code", [errno.ENETUNREACH, errno.EPERM, errno.EADDRNOTAVAIL, errno.ENODEV])
async def test_refused_send_raises_and_the_socket_lives(code: int) -> None:
    """Any errno at a send is told to the caller, and the next send works (Never 12)."""
    inbox = Inbox()
    receiver = AsyncUdpSocket(socket.socket, Family.V4, "127.0.0.1", 0, inbox)
    sender = AsyncUdpSocket(refusing(sends=[code, 0, code]), Family.V4, "127.0.0.1", 0, Inbox())
    with pytest.raises(OSError, match="as the test wants") as caught:
        sender.send([b"lost"], addr_of(receiver))
    assert caught.value.errno == code
    assert sender.send([b"first", b"and a longer one"], addr_of(receiver)) == 1
    assert await inbox.until(1) == [b"first"]
    sender.close()
    receiver.close()


async def test_read_errors_are_swallowed_and_counted() -> None:
    """Errors on read, even many in a row, neither end the socket nor spin the loop (Never 12)."""
    inbox = Inbox()
    errors = [errno.ECONNREFUSED] * (udp.MAX_READ_ERRORS + 3)
    receiver = AsyncUdpSocket(refusing(reads=errors), Family.V4, "127.0.0.1", 0, inbox)
    if not receiver.coalesces:
        pytest.skip("no UDP coalescing: needs Linux 5.0")
    sender = AsyncUdpSocket(socket.socket, Family.V4, "127.0.0.1", 0, Inbox())
    sender.send([b"hello"], addr_of(receiver))
    assert await inbox.until(1) == [b"hello"]
    assert receiver.counters.read_errors == len(errors)
    sender.close()
    receiver.close()


async def test_kernel_without_coalescing_is_read_plainly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Old kernels get plain reads and plain sends, and interface 0."""
    monkeypatch.setattr(udp, "UDP_GRO", 9999)
    monkeypatch.setattr(udp, "UDP_SEGMENT", 9999)
    inbox = Inbox()
    receiver = AsyncUdpSocket(socket.socket, Family.V4, "127.0.0.1", 0, inbox)
    assert not receiver.coalesces
    assert not receiver.segments
    payloads = [bytes([n]) * 10 for n in range(udp.MAX_READS + 10)]
    assert receiver.send(payloads, addr_of(receiver)) == len(payloads)
    assert await inbox.until(len(payloads)) == payloads
    assert {index for batch in inbox.batches for _, _, index in batch} == {0}
    receiver.close()


async def test_icmp_errors_do_not_surface(pair: Pair) -> None:
    """Sending to a port where nobody listens is silent, and does not break what follows."""
    sender, receiver, inbox = pair
    closed = AsyncUdpSocket(socket.socket, sender.family, LOOPBACK[sender.family], 0, Inbox())
    nobody = addr_of(closed)
    closed.close()
    for _ in range(5):
        assert sender.send([b"anybody?"], nobody) == 1
    assert sender.send([b"hello"], addr_of(receiver)) == 1
    assert await inbox.until(1) == [b"hello"]
    assert sender.counters.read_errors == 0


async def test_arrival_interface_is_told(pair: Pair) -> None:
    """Where the kernel coalesces, the interface of arrival comes along for free."""
    sender, receiver, inbox = pair
    if not receiver.coalesces:
        pytest.skip("no UDP coalescing: needs Linux 5.0")
    sender.send([b"hello"], addr_of(receiver))
    await inbox.until(1)
    assert inbox.batches[0][0][2] == socket.if_nametoindex("lo")


async def test_closed_socket_is_silent_and_says_so() -> None:
    """After close: no receiver call, a send fails with an OSError, closing again is fine."""
    inbox = Inbox()
    receiver = AsyncUdpSocket(socket.socket, Family.V4, "127.0.0.1", 0, inbox)
    addr = addr_of(receiver)
    receiver.send([b"late"], addr)
    receiver.close()
    receiver.close()
    assert receiver.closed
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert not inbox.batches
    with pytest.raises(OSError, match="Bad file descriptor"):
        receiver.send([b"gone"], addr)


async def test_busy_port_raises_and_leaves_nothing_open() -> None:
    """A bind that fails is an OSError for the caller, who may try again on the same port later."""
    first = AsyncUdpSocket(socket.socket, Family.V4, "127.0.0.1", 0, Inbox())
    port = first.local_addr[1]
    with pytest.raises(OSError, match="in use"):
        AsyncUdpSocket(socket.socket, Family.V4, "127.0.0.1", port, Inbox())
    first.close()
    again = AsyncUdpSocket(socket.socket, Family.V4, "127.0.0.1", port, Inbox())
    assert again.local_addr == ("127.0.0.1", port)
    again.close()


@given(st.lists(st.integers(0, 3).map(lambda n: bytes(n * 400)), min_size=1, max_size=150), st.data())
def test_equal_runs_are_what_the_kernel_segments(payloads: list[bytes], data: st.DataObject) -> None:
    """A run has equal lengths, only its last may be shorter but not empty, within the kernel's limits."""
    start = data.draw(st.integers(0, len(payloads) - 1))
    run = udp.equal_run(payloads, start)
    lengths = [len(payload) for payload in payloads[start : start + run]]
    assert 1 <= run <= udp.MAX_SEGMENTS
    assert sum(lengths) <= max(udp.MAX_SEGMENTED, lengths[0])
    assert len(set(lengths[:-1])) <= 1
    if run > 1:
        assert 0 < lengths[-1] <= lengths[0]
