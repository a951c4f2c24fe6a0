"""How much does a relay carry? Throughput with 2, 20 and 200 clients, and memory per client.

    python benchmarks/relay.py [--seconds 1] [--rounds 5] [--json FILE]

The server runs in a process of its own; this process makes the load. Half of the clients send to the other
half, each with a bounded number of bytes under way, and every run checks that exactly what was sent arrived.
Beside the relay runs the limit of what Python can do: a plain asyncio TCP forwarder that connects the same
pairs and looks at nothing.

How to read it: rates per second of the *server's* CPU time compare the two; they hold whoever else uses the
machine. Wall-clock rates depend on that, so they are given with their range and with the share of a core that
the server got: below about 95 % the relay was not what limited the run. Rounds of relay and forwarder
alternate; medians are shown.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from iroh_py.keys import SecretKey
from iroh_py.proto.relay import v3
from iroh_py.proto.relay.frames import Ping, SendPacket
from iroh_py.proto.relay.handshake import client_info
from iroh_py.relay import RelayConfig, RelayServer

#: (name, bytes of a datagram, datagrams per packet): single QUIC packets, and what a bulk transfer packs
#: together.
SHAPES = (("single", 1200, 1), ("packed", 1200, 20))
CLIENTS = (2, 20, 200)
#: Bytes under way per pair: below the relay's queue of 512 packets, above any socket buffer's latency.
WINDOW = 256 * 1024
#: Bytes per write of a sender.
CHUNK = 48 * 1024
UPGRADE = b"GET /relay HTTP/1.1\r\nupgrade: iroh derp http\r\nhost: localhost\r\n\r\n"
_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Result:
    """One run."""

    server: str
    shape: str
    clients: int
    megabytes_per_second: float
    datagrams_per_second: float
    megabytes_per_cpu_second: float
    #: Share of one core that the server used.
    server_cpu: float


class Server:
    """A server in a child process."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._process = subprocess.Popen(
            [sys.executable, __file__, "--serve", kind],
            stdout=subprocess.PIPE,
            stdin=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        self.port = int(self._process.stdout.readline())

    def cpu_seconds(self) -> float:
        """CPU time used so far."""
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS

    def resident_bytes(self) -> int:
        """Memory in use."""
        pages = Path(f"/proc/{self._process.pid}/statm").read_text().split()[1]
        return int(pages) * os.sysconf("SC_PAGE_SIZE")

    def close(self) -> None:
        """End the child by closing its input."""
        self._process.communicate()


class Client(asyncio.Protocol):
    """One end: logs in where the server is a relay, then counts what arrives."""

    def __init__(self, number: int, *, logs_in: bool) -> None:
        self.secret = SecretKey(number.to_bytes(4, "big") * 8)
        self.received = 0
        self.arrived = asyncio.Event()
        self._logs_in = logs_in
        self._phase = "upgrade" if logs_in else "ready"
        self.ready = asyncio.Event()
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        if self._logs_in:
            transport.write(UPGRADE)
        else:
            self.ready.set()

    def data_received(self, data: bytes) -> None:
        assert self.transport is not None
        if self._phase == "ready":
            self.received += len(data)
            self.arrived.set()
        elif self._phase == "upgrade":
            self.transport.write(v3.encode(client_info(self.secret)) + v3.encode(Ping(bytes(8))))
            self._phase = "login"
        else:
            self._phase = "ready"
            self.ready.set()


async def connect(server: Server, count: int) -> list[Client]:
    """Connected, logged-in clients; client i and i + 1 belong together."""
    loop = asyncio.get_running_loop()
    clients = []
    for number in range(count):
        client = Client(number + 1, logs_in=server.kind == "relay")
        await loop.create_connection(lambda c=client: c, "127.0.0.1", server.port)  # type: ignore[misc]
        await client.ready.wait()
        clients.append(client)
    return clients


async def push(sender: Client, receiver: Client, unit: bytes, until: float) -> None:
    """Send units to the receiver, never more than WINDOW ahead of it; all of them, and nothing else, arrive."""
    assert sender.transport is not None
    chunk = unit * max(1, CHUNK // len(unit))
    sent = 0
    while time.perf_counter() < until:
        if sent - receiver.received < WINDOW:
            sender.transport.write(chunk)
            sent += len(chunk)
            await asyncio.sleep(0)
        else:
            receiver.arrived.clear()
            await receiver.arrived.wait()
    while receiver.received < sent:
        receiver.arrived.clear()
        async with asyncio.timeout(10):
            await receiver.arrived.wait()
    if receiver.received != sent:
        raise RuntimeError(f"{receiver.received} bytes arrived of {sent}")


async def measure(server: Server, shape: tuple[str, int, int], count: int, seconds: float) -> Result:
    """One run on fresh connections."""
    name, size, per_packet = shape
    clients = await connect(server, count)
    pairs = list(zip(clients[::2], clients[1::2], strict=True))
    [data] = v3.pack_datagrams([bytes(size)] * per_packet)
    cpu, start = server.cpu_seconds(), time.perf_counter()
    units = [v3.encode(SendPacket(receiver.secret.node_id.raw, data)) for _, receiver in pairs]
    await asyncio.gather(
        *(push(a, b, unit, start + seconds) for (a, b), unit in zip(pairs, units, strict=True))
    )
    elapsed, used = time.perf_counter() - start, server.cpu_seconds() - cpu
    datagrams = sum(b.received // len(units[0]) for _, b in pairs) * per_packet
    for client in clients:
        assert client.transport is not None
        client.transport.abort()
    megabytes = datagrams * size / 1e6
    return Result(
        server.kind,
        name,
        count,
        megabytes / elapsed,
        datagrams / elapsed,
        megabytes / max(used, 1 / _TICKS),
        used / elapsed,
    )


async def memory_per_client(server: Server, count: int = 200) -> float:
    """Resident bytes that one idle, logged-in client costs; a first round warms the allocator."""
    for client in await connect(server, count):
        assert client.transport is not None
        client.transport.abort()
    await asyncio.sleep(0.2)
    before = server.resident_bytes()
    clients = await connect(server, 5 * count)
    used = server.resident_bytes() - before
    for client in clients:
        assert client.transport is not None
        client.transport.abort()
    return used / (4 * count)  # the first round's memory is used again


class Forward(asyncio.Protocol):
    """Joins each two connections that come one after the other."""

    waiting: Forward | None = None

    def __init__(self) -> None:
        self.peer: Forward | None = None
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        if Forward.waiting is None:
            Forward.waiting = self
            transport.pause_reading()  # what comes before the other end is there has nowhere to go
        else:
            self.peer, Forward.waiting = Forward.waiting, None
            self.peer.peer = self
            if self.peer.transport is not None:
                self.peer.transport.resume_reading()

    def data_received(self, data: bytes) -> None:
        if self.peer is not None and self.peer.transport is not None:
            self.peer.transport.write(data)


async def serve(kind: str) -> None:
    """The child process: print the port, run until the input ends."""
    loop = asyncio.get_running_loop()
    if kind == "relay":
        server = RelayServer(RelayConfig(bind=(("127.0.0.1", 0),), stun_bind=()))
        await server.start()
        print(server.url.port, flush=True)
    else:
        forwarder = await loop.create_server(Forward, "127.0.0.1", 0)
        print(forwarder.sockets[0].getsockname()[1], flush=True)
    await loop.run_in_executor(None, sys.stdin.read)


async def run(seconds: float, clients: tuple[int, ...], rounds: int) -> tuple[list[Result], float]:
    """Every combination, relay and forwarder in turn, then memory."""
    results: list[Result] = []
    for shape in SHAPES:
        for count in clients:
            cell = [
                await _one(kind, shape, count, seconds)
                for _ in range(rounds)
                for kind in ("relay", "forwarder")
            ]
            results += cell
            _print_cell(cell)
    server = Server("relay")
    try:
        memory = await memory_per_client(server)
    finally:
        server.close()
    print(f"memory: {memory / 1024:.1f} KiB per idle client (resident, without the kernel's buffers)")
    return results, memory


async def _one(kind: str, shape: tuple[str, int, int], count: int, seconds: float) -> Result:
    server = Server(kind)
    try:
        return await measure(server, shape, count, seconds)
    finally:
        server.close()


def _print_cell(cell: list[Result]) -> None:
    per_cpu = {}
    for kind in ("relay", "forwarder"):
        runs = [result for result in cell if result.server == kind]
        cpu = [result.megabytes_per_cpu_second for result in runs]
        wall = [result.megabytes_per_second for result in runs]
        per_cpu[kind] = statistics.median(cpu)
        print(
            f"{kind:9} {runs[0].shape:6} {runs[0].clients:4} clients  per CPU second: "
            f"{per_cpu[kind]:6.0f} MB ({min(cpu):.0f}..{max(cpu):.0f}), "
            f"{per_cpu[kind] * 1e6 / SHAPES[0][1]:8.0f} datagrams   wall: {statistics.median(wall):6.0f} MB/s "
            f"({min(wall):.0f}..{max(wall):.0f}) at {statistics.median(r.server_cpu for r in runs):.0%} CPU"
        )
    ratio = per_cpu["relay"] / per_cpu["forwarder"]
    print(
        f"          relay / forwarder per CPU: {ratio:.2f}   load average {os.getloadavg()[0]:.1f}",
        flush=True,
    )


def main() -> None:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--serve", choices=["relay", "forwarder"], help=argparse.SUPPRESS)
    parser.add_argument("--seconds", type=float, default=1.0, help="length of each run")
    parser.add_argument("--rounds", type=int, default=5, help="runs of each kind, alternating")
    parser.add_argument("--clients", type=int, nargs="+", default=list(CLIENTS), help="even numbers")
    parser.add_argument("--json", type=Path, help="also write the results here")
    options = parser.parse_args()
    if options.serve:
        asyncio.run(serve(options.serve))
        return
    results, memory = asyncio.run(run(options.seconds, tuple(options.clients), options.rounds))
    if options.json:
        report = {
            "results": [asdict(result) for result in results],
            "memory_per_client": memory,
            "load": os.getloadavg()[0],
        }
        options.json.write_text(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
