"""What QUIC costs without sockets: both ends in one process, CPU per megabyte, per datagram, per handshake.

Run: ``python benchmarks/quic.py [--mtu 1452] [--megabytes 50] [--profile]``.
"""

from __future__ import annotations

import argparse
import cProfile
import json
import pstats
import statistics
import time

from iroh_py.keys import SecretKey
from iroh_py.proto.quic import DatagramReceived, QuicConfig, Session, SessionTable, StreamData, TlsAuth

ALPN = "bench/1"
#: Drained from a socket between two looks at the sending side; what a driver does too.
BATCH = 64


class Loop:
    """Two tables whose datagrams go straight to the other side."""

    def __init__(self, mtu: int, auth: TlsAuth = TlsAuth.RAW_PUBLIC_KEY) -> None:
        config = QuicConfig(alpns=(ALPN,), mtu=1200)
        self.server_table = SessionTable(SecretKey.generate(), config)
        self.client_table = SessionTable(SecretKey.generate(), config)
        node_id = self.server_table.credentials.secret_key.node_id
        self.client = self.client_table.dial(time.monotonic(), node_id, ALPN, auth)
        self.server: Session | None = None
        self.packets = 0
        while not (self.client.handshake_done and self.server and self.server.handshake_done):
            self.turn()
        for session in (self.client, self.server):
            session.set_mtu(mtu)

    def turn(self) -> None:
        """One look at both sides."""
        now = time.monotonic()
        due = self.client.next_timeout()
        if due is not None and due <= now:
            self.client.handle_timeout(now)
        for datagram in self.client.transmit(now):
            self.packets += 1
            session, _ = self.server_table.receive(now, datagram, accept=True)
            self.server = self.server or session
        if self.server is None:
            return
        due = self.server.next_timeout()
        if due is not None and due <= now:
            self.server.handle_timeout(now)
        for datagram in self.server.transmit(now):
            self.packets += 1
            self.client_table.receive(now, datagram, accept=False)
        while self.client.poll_event() is not None:
            pass


def bulk(mtu: int, megabytes: int, idle_streams: int = 0) -> dict[str, float]:
    """One stream from client to server."""
    loop = Loop(mtu)
    for _ in range(idle_streams):
        loop.client.write(loop.client.open_stream(True), b"x")
    stream = loop.client.open_stream(False)
    chunk, left, got, want = bytes(1 << 16), megabytes * 1_000_000, 0, megabytes * 1_000_000
    start, packets, wall = time.process_time(), loop.packets, time.monotonic()
    server = loop.server
    assert server is not None
    while got < want:
        while left and loop.client.backlog(stream) < 1 << 20:
            size = min(left, len(chunk))
            loop.client.write(stream, chunk[:size])
            left -= size
        loop.turn()
        while (event := server.poll_event()) is not None:
            if isinstance(event, StreamData):
                server.consume(event.stream_id, len(event.data))
                got += len(event.data) if event.stream_id == stream else 0
    seconds = time.process_time() - start
    return {
        "cpu_ms_per_mb": 1000 * seconds / megabytes,
        "mb_per_s": megabytes / (time.monotonic() - wall),
        "packets_per_mb": (loop.packets - packets) / megabytes,
    }


def datagrams(count: int) -> dict[str, float]:
    """RFC 9221 datagrams of 1000 bytes."""
    loop = Loop(1200)
    server = loop.server
    assert server is not None
    start, got, sent = time.process_time(), 0, 0
    while got < count - 100 and sent < 2 * count:
        for _ in range(16):
            loop.client.send_datagram(bytes(1000))
            sent += 1
        loop.turn()
        while (event := server.poll_event()) is not None:
            got += isinstance(event, DatagramReceived)
    return {"datagram_cpu_us": 1e6 * (time.process_time() - start) / max(got, 1)}


def requests(count: int) -> dict[str, float]:
    """64 bytes and back, each on a new stream."""
    loop = Loop(1200)
    server, client = loop.server, loop.client
    assert server is not None
    start = time.process_time()
    for _ in range(count):
        stream = client.open_stream(True)
        client.write(stream, bytes(64), True)
        answered = False
        while not answered:
            now = time.monotonic()
            for datagram in client.transmit(now):
                loop.server_table.receive(now, datagram, accept=False)
            while (event := server.poll_event()) is not None:
                if isinstance(event, StreamData):
                    server.consume(stream, len(event.data))
                    server.write(stream, event.data, True)
            for datagram in server.transmit(now):
                loop.client_table.receive(now, datagram, accept=False)
            while (event := client.poll_event()) is not None:
                answered |= isinstance(event, StreamData) and event.fin
    return {"request_cpu_us": 1e6 * (time.process_time() - start) / count}


def handshakes(count: int, auth: TlsAuth) -> dict[str, float]:
    """Complete handshakes, both sides."""
    start = time.process_time()
    for _ in range(count):
        Loop(1200, auth)
    return {f"handshake_{auth.value}_cpu_ms": 1000 * (time.process_time() - start) / count}


def main() -> None:
    """Print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mtu", type=int, default=1452)
    parser.add_argument("--megabytes", type=int, default=30)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--profile", action="store_true")
    arguments = parser.parse_args()
    if arguments.profile:
        with cProfile.Profile() as profile:
            bulk(arguments.mtu, arguments.megabytes)
        pstats.Stats(profile).sort_stats("tottime").print_stats(45)
        return
    runs = [bulk(arguments.mtu, arguments.megabytes) for _ in range(arguments.repeat)]
    result = {key: statistics.median(run[key] for run in runs) for key in runs[0]}
    result["idle_90_cpu_ms_per_mb"] = bulk(arguments.mtu, arguments.megabytes, 90)["cpu_ms_per_mb"]
    result |= datagrams(5000) | requests(1000)
    for auth in TlsAuth:
        result |= handshakes(50, auth)
    print(json.dumps({"mtu": arguments.mtu, **{key: round(value, 2) for key, value in result.items()}}))


if __name__ == "__main__":
    main()
