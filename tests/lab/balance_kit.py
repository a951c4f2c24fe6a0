"""Servers that say who they are, for tests of load balancers."""

from __future__ import annotations

import selectors
import socket
import threading
from contextlib import ExitStack

from netns_fixtures import Host

#: What must arrive has this long, on a busy machine; what does not arrive is waited for a moment.
PATIENCE, SILENCE = 5.0, 0.15


def serve_names(stack: ExitStack, *hosts: Host, port: int = 7000) -> None:
    """In each host a UDP server of each family, and one of TCP, that answer with the host's name."""
    servers = Servers()
    stack.callback(servers.close)
    for host in hosts:
        for family in (socket.AF_INET, socket.AF_INET6):
            for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM):
                sock = host.socket(family, kind)
                if family == socket.AF_INET6:
                    sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                sock.bind(("", port))
                servers.add(sock, host.name.encode())
    servers.start()


class Servers:
    """Sockets that one thread serves."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._ours, theirs = socket.socketpair()
        self._selector.register(theirs, selectors.EVENT_READ)
        self._end = theirs
        self._thread = threading.Thread(target=self._run)

    def add(self, sock: socket.socket, name: bytes) -> None:
        """Answer with this name."""
        if sock.type == socket.SOCK_STREAM:
            sock.listen(16)
        sock.setblocking(False)
        self._selector.register(sock, selectors.EVENT_READ, name)

    def start(self) -> None:
        """Serve until closed."""
        self._thread.start()

    def close(self) -> None:
        """End the thread and every socket."""
        self._ours.close()
        self._thread.join()
        for key in list(self._selector.get_map().values()):
            key.fileobj.close()  # type: ignore[union-attr]
        self._selector.close()

    def _run(self) -> None:
        while True:
            for key, _events in self._selector.select():
                sock = key.fileobj
                assert isinstance(sock, socket.socket)
                if sock is self._end:
                    return
                self._serve(sock, key.data)

    def _serve(self, sock: socket.socket, name: bytes) -> None:
        try:
            if sock.type == socket.SOCK_DGRAM:
                sock.sendto(name, sock.recvfrom(2000)[1])
            elif sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                connection = sock.accept()[0]
                connection.setblocking(False)
                self._selector.register(connection, selectors.EVENT_READ, name)
            elif sock.recv(100):
                sock.sendall(name)
            else:
                self._forget(sock)
        except BlockingIOError:
            pass  # a packet with a wrong checksum, or a connection that is gone again
        except ConnectionError:
            self._forget(sock)

    def _forget(self, sock: socket.socket) -> None:
        self._selector.unregister(sock)
        sock.close()


def ask(client: socket.socket, ip: str, port: int = 7000, *, answers: bool = True) -> str | None:
    """Who answers a UDP socket; None where nobody does."""
    client.settimeout(PATIENCE if answers else SILENCE)
    client.sendto(b"who?", (ip, port))
    try:
        name, source = client.recvfrom(100)
    except TimeoutError:
        return None
    assert (source[0], source[1]) == (ip, port)
    return name.decode()


def dial(host: Host, ip: str, port: int = 7000) -> socket.socket:
    """A TCP connection to an address."""
    sock = host.socket(socket.AF_INET6 if ":" in ip else socket.AF_INET, socket.SOCK_STREAM)
    sock.settimeout(PATIENCE)
    sock.connect((ip, port))
    return sock
