"""Address discovery beside the relay, over real sockets."""

from __future__ import annotations

import asyncio
import socket

import pytest
from relay_kit import PATIENCE, eventually, relay

from iroh_py.errors import BindError, LocalProtocolError
from iroh_py.network import Addr
from iroh_py.proto.qad import QadClient, QadIdentity, QadLimits
from iroh_py.relay import RelayConfig, RelayServer
from pytest_iroh.ca import CertificateAuthority

AUTHORITY = CertificateAuthority("address discovery")
IDENTITY = QadIdentity.from_pem(*AUTHORITY.issue_pem(["127.0.0.1", "127.0.0.2", "::1"]))


class Asker:
    """A client on a socket of its own; it can move to another one."""

    def __init__(self, relay_addr: Addr) -> None:
        self.loop = asyncio.get_running_loop()
        self.relay_addr = relay_addr
        self.sock = self._open()
        self.client = QadClient(
            self.loop.time(), relay_addr, relay_addr[0], cadata=AUTHORITY.pem.encode(), keep_alive=0.1
        )

    def _open(self) -> socket.socket:
        ip = self.relay_addr[0]
        sock = socket.socket(socket.AF_INET6 if ":" in ip else socket.AF_INET, socket.SOCK_DGRAM)
        sock.setblocking(False)
        sock.bind(("::1" if ":" in ip else "127.0.0.1", 0))
        # A connected socket takes answers from the address that was asked only.
        sock.connect(self.relay_addr)
        return sock

    @property
    def addr(self) -> Addr:
        """Where we are."""
        ip, port = self.sock.getsockname()[:2]
        return ip, port

    def move(self) -> None:
        """Another port, as a NAT gives that forgot us."""
        self.sock.close()
        self.sock = self._open()

    async def until_told(self, addr: Addr) -> None:
        """Wait until the relay says that we are there."""
        async with asyncio.timeout(PATIENCE):
            while self.client.observed != addr:
                assert self.client.error is None
                for data in self.client.transmit(self.loop.time()):
                    self.sock.send(data)
                at = self.client.next_timeout()
                assert at is not None, "the client has ended"
                try:
                    async with asyncio.timeout_at(at):
                        answer = await self.loop.sock_recv(self.sock, 1500)
                except TimeoutError:
                    self.client.handle_timeout(self.loop.time())
                else:
                    self.client.receive(self.loop.time(), answer)


@pytest.mark.parametrize("ip", ["127.0.0.1", "::1"])
async def test_client_is_told_its_address_now_and_after_a_move(ip: str) -> None:
    """The keep-alive from the new port is enough."""
    async with relay(quic_bind=((ip, 0),), quic_identity=IDENTITY) as server:
        assert server.quic_addr is not None
        asker = Asker(server.quic_addr)
        await asker.until_told(asker.addr)
        asker.move()
        await asker.until_told(asker.addr)
        asker.sock.close()
        stats = server.stats()
        assert (stats.qad_clients, stats["qad_finished"]) == (1, 1)
        assert stats["qad_reports"] >= 2  # a report that seems lost is sent again


async def test_answer_comes_from_the_address_that_was_asked() -> None:
    """A server on a wildcard with several addresses answers from the right one."""
    async with relay(quic_bind=(("0.0.0.0", 0),), quic_identity=IDENTITY) as server:
        assert server.quic_addr is not None
        asker = Asker(("127.0.0.2", server.quic_addr[1]))
        await asker.until_told(asker.addr)
        asker.sock.close()


async def test_unfinished_handshake_is_forgotten_by_a_timer() -> None:
    """Nothing has to arrive for it."""
    limits = QadLimits(handshake_timeout=0.1)
    async with relay(quic_bind=(("127.0.0.1", 0),), quic_identity=IDENTITY, quic_limits=limits) as server:
        assert server.quic_addr is not None
        asker = Asker(server.quic_addr)
        for data in asker.client.transmit(asker.loop.time()):
            asker.sock.send(data)
        await eventually(lambda: server.stats()["qad_accepted"] == 1, "it came")
        await eventually(lambda: server.stats().qad_clients == 0, "it is forgotten")
        asker.sock.close()


async def test_garbage_is_counted_and_the_service_goes_on() -> None:
    """Also what looks like QUIC."""
    async with relay(quic_bind=(("127.0.0.1", 0),), quic_identity=IDENTITY) as server:
        assert server.quic_addr is not None
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            for payload in (b"", b"x" * 40, bytes.fromhex("c00000000108") + bytes(1300)):
                sock.sendto(payload, server.quic_addr)
        await eventually(lambda: server.stats()["qad_bad_packets"] == 3, "all of them are counted")
        asker = Asker(server.quic_addr)
        await asker.until_told(asker.addr)
        asker.sock.close()


async def test_counters_are_in_the_metrics() -> None:
    """Under the relay's prefix, with the number of clients now."""
    async with relay(quic_bind=(("127.0.0.1", 0),), quic_identity=IDENTITY) as server:
        names = {
            f"qad_{name}" for name in ("accepted", "finished", "refused", "retries", "reports", "bad_packets")
        }
        assert names <= server.stats().counters.keys()
        assert server.stats().qad_clients == 0


async def test_port_that_is_taken_is_one_clear_error() -> None:
    """And nothing of the relay goes on listening."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        config = RelayConfig(
            bind=(("127.0.0.1", 0),), stun_bind=(), quic_bind=(taken.getsockname(),), quic_identity=IDENTITY
        )
        server = RelayServer(config)
        with pytest.raises(BindError, match="cannot listen on"):
            await server.start()
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", server.url.port)


def test_address_discovery_needs_a_certificate() -> None:
    """Said when the configuration is made."""
    with pytest.raises(LocalProtocolError, match="needs certificate and private_key"):
        RelayConfig(bind=(("127.0.0.1", 0),), quic_bind=(("127.0.0.1", 0),))


async def test_without_it_nothing_listens() -> None:
    """It is off by default: the original's is, too."""
    async with RelayServer(RelayConfig(bind=(("127.0.0.1", 0),), stun_bind=())) as server:
        assert server.quic_addr is None
