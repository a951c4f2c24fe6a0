"""What does a NAT do to TCP? Behaviour discovery by real connections, after RFC 5382 and Guha and Francis (2005).

As ``nat_probe`` for UDP: a client behind the NAT, two servers outside. All sockets of one question are bound to one
port of the client (SO_REUSEPORT), so that they are one endpoint, and one of them listens. What was filtered is known
without waiting for it: packets that must arrive go there and back over an open connection after it.

::

    seen = tcp_behaviour(laptop, [server, other])
    assert (seen.mapping, seen.filtering, seen.unsolicited) == ("eim", "apdf", "drop")
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass
from socket import socket as Socket
from typing import Literal

from netns_fixtures.errors import LabError
from netns_fixtures.host import Host
from netns_fixtures.nat import NatFiltering, NatMapping
from netns_fixtures.nat_probe import PATIENCE, ROUNDS

Address = tuple[str, int]
#: Seconds for the answer to a SYN that the NAT may or may not let in, beside the packets that must arrive.
_GRACE = 0.2
#: Seconds until the kernel repeats a SYN (RFC 6298 section 2.1), and some: a NAT may lose the first one.
_SYN_AGAIN = 1.5
#: A port of the outside address that nobody was given: all choices of ports begin above.
_NOBODYS_PORT = 777


@dataclass(frozen=True, slots=True, kw_only=True)
class TcpBehaviour:
    """What was seen. ``outside`` is the client's first address there.

    ``simultaneous_open``: two connections that are opened towards each other become one, though the NAT has seen
    the SYN from outside first (RFC 5382 REQ-2 and REQ-4). ``unsolicited``: what a SYN gets that is let in nowhere:
    "drop" is silence, "reject" a RST or an ICMP error.
    """

    outside: Address
    translates: bool
    mapping: NatMapping
    filtering: NatFiltering
    simultaneous_open: bool
    unsolicited: Literal["drop", "reject"]


class TcpProbe:
    """Sockets of one discovery; a context manager that closes them."""

    def __init__(self) -> None:
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> TcpProbe:
        return self

    def __exit__(self, *exc: object) -> None:
        self._stack.close()

    def socket(self, host: Host, port: int = 0) -> Socket:
        """A bound IPv4 TCP socket of a host, on a port that others of the host may have, too."""
        sock = self._stack.enter_context(host.socket(socket.AF_INET, socket.SOCK_STREAM))
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.settimeout(PATIENCE)
        sock.bind(("", port))
        return sock

    def listener(self, host: Host, port: int = 0) -> Socket:
        """The same, listening."""
        sock = self.socket(host, port)
        sock.listen()
        return sock

    def connect(self, client: Socket, server: Socket, server_ip: str) -> Socket:
        """A connection from a socket to a listener; returns its far end. Raises LabError when there is none."""
        try:
            client.connect((server_ip, port_of(server)))
            accepted, _peer = server.accept()
        except OSError as error:
            where = f"{server_ip}:{port_of(server)}"
            raise LabError(f"no connection to {where}: {error}; is there a route?") from error
        self._stack.enter_context(accepted)
        accepted.settimeout(PATIENCE)
        return accepted

    def accepted(self, listener: Socket) -> list[Address]:
        """Who is connected and waits at a listener."""
        peers = []
        while select.select([listener], [], [], 0)[0]:
            sock, peer = listener.accept()
            self._stack.enter_context(sock)
            peers.append((peer[0], peer[1]))
        return peers


def tcp_behaviour(client: Host, servers: Sequence[Host]) -> TcpBehaviour:
    """Discover what the NATs between a client and two servers do to TCP over IPv4.

    ``servers`` are two hosts outside, with different addresses. Takes some 0.5 s, without a simultaneous open 1.5 s
    more. Raises LabError when a server cannot be reached, or is one only.
    """
    if len(servers) != 2 or servers[0].ip == servers[1].ip:
        raise LabError("tcp_behaviour() needs two servers with different addresses")
    with TcpProbe() as probe:
        mapping, outside, inside = _mapping(probe, client, servers)
        return TcpBehaviour(
            outside=outside,
            translates=outside != inside,
            mapping=mapping,
            filtering=_filtering(probe, client, servers),
            simultaneous_open=_simultaneous(probe, client, servers),
            unsolicited=_unsolicited(probe, client, servers, outside),
        )


def _mapping(probe: TcpProbe, client: Host, servers: Sequence[Host]) -> tuple[NatMapping, Address, Address]:
    """One port of the client, two addresses, two ports each, all connected at the same time."""
    port, seen = 0, list[Address]()
    for server in servers:
        for _ in range(2):
            sock = probe.socket(client, port)
            port = port_of(sock)
            seen.append(peer_of(probe.connect(sock, probe.listener(server), server.ip)))
    if len(set(seen)) == 1:
        mapping = NatMapping.EIM
    elif seen[0] == seen[1] and seen[2] == seen[3]:
        mapping = NatMapping.ADM
    else:
        mapping = NatMapping.APDM
    return mapping, seen[0], (client.ip, port)


def _filtering(probe: TcpProbe, client: Host, servers: Sequence[Host]) -> NatFiltering:
    """Strangers connect to a mapping that was made for one port of one server."""
    sock = probe.socket(client)
    listener = probe.listener(client, port_of(sock))
    far = probe.connect(sock, probe.listener(servers[0]), servers[0].ip)
    at = peer_of(far)
    strangers = [probe.socket(server) for server in (servers[1], servers[0])]
    for stranger in strangers:
        _begin(stranger, at)
    _round_trips(sock, far)
    other_address, other_port = servers[1].ip, (servers[0].ip, port_of(strangers[1]))
    came: list[Address] = []
    deadline = time.monotonic() + _GRACE
    while (left := deadline - time.monotonic()) > 0 and select.select([listener], [], [], left)[0]:
        came += probe.accepted(listener)
        if other_address in {ip for ip, _port in came}:
            return NatFiltering.EIF
    return NatFiltering.ADF if other_port in came else NatFiltering.APDF


def _simultaneous(probe: TcpProbe, client: Host, servers: Sequence[Host]) -> bool:
    """The outside end is learnt at one server; the other one's SYN is at the NAT before the client's."""
    sock = probe.socket(client)
    at = peer_of(probe.connect(sock, probe.listener(servers[0]), servers[0].ip))
    peer, ours = probe.socket(servers[1]), probe.socket(client, port_of(sock))
    probe.listener(client, port_of(sock))  # where the NAT lets anybody in, the first SYN must not be refused
    _begin(peer, at)
    _begin(ours, (servers[1].ip, port_of(peer)))
    return bool(select.select([], [peer], [], _SYN_AGAIN)[1]) and _error(peer) == 0


def _unsolicited(
    probe: TcpProbe, client: Host, servers: Sequence[Host], outside: Address
) -> Literal["drop", "reject"]:
    """A SYN for what was never mapped; the answer overtakes nothing that goes there and back after it."""
    sock, stranger = probe.socket(client), probe.socket(servers[0])
    far = probe.connect(sock, probe.listener(servers[0]), servers[0].ip)
    _begin(stranger, (outside[0], _NOBODYS_PORT))
    _round_trips(sock, far)
    refused = select.select([], [stranger], [], _GRACE)[1] and _error(stranger) != 0
    return "reject" if refused else "drop"


def _begin(sock: socket.socket, to: Address) -> None:
    """Send a SYN, and do not wait for what comes of it."""
    sock.setblocking(False)
    code = sock.connect_ex(to)
    if code not in (
        0,
        errno.EINPROGRESS,
        errno.EADDRNOTAVAIL,
    ):  # the last: the peer's SYN has opened it already
        raise LabError(f"no SYN to {to[0]}:{to[1]}: {os.strerror(code)}")


def _error(sock: socket.socket) -> int:
    return sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)


def _round_trips(near: socket.socket, far: socket.socket) -> None:
    for _ in range(ROUNDS):
        for one, other in ((far, near), (near, far)):
            one.sendall(b"?")
            other.recv(1)


def peer_of(sock: socket.socket) -> Address:
    """Who is at the other end."""
    ip, port = sock.getpeername()
    return ip, port


def port_of(sock: socket.socket) -> int:
    """The port that it is bound to."""
    port: int = sock.getsockname()[1]
    return port
