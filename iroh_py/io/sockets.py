"""The UDP sockets of an endpoint: one per family, opened again whenever that may help."""

from __future__ import annotations

import errno
from collections.abc import Callable, Sequence

from iroh_py.errors import BindError
from iroh_py.io.extra_sockets import ExtraSockets
from iroh_py.network import Addr, Family, MarkedReceiver, Network, NetworkState, Receiver, UdpSocket
from iroh_py.proto.port_prediction import CloseSocket, OpenSocket

#: Errors of send that say something about the path and nothing about the socket.
PATH_ERRORS = frozenset(
    {
        errno.ENETUNREACH,
        errno.EHOSTUNREACH,
        errno.ENETDOWN,
        errno.EHOSTDOWN,
        errno.EADDRNOTAVAIL,
        errno.ENODEV,
        errno.ENXIO,
        errno.EMSGSIZE,
        errno.EPERM,
        errno.EACCES,
        errno.ECONNREFUSED,
        errno.EINVAL,
        errno.ENOBUFS,
        errno.EAGAIN,
    }
)
_WILDCARD = {Family.V4: "0.0.0.0", Family.V6: "::"}


class SocketSet:
    """The endpoint's sockets by family. Sending never raises: errors are counted, and broken sockets come back."""

    def __init__(
        self,
        network: Network,
        receiver: Receiver,
        on_rebind: Callable[[Family, str, str], None],
        on_marked: MarkedReceiver | None = None,
    ) -> None:
        self._on_marked = on_marked
        self._network = network
        self._receiver = receiver
        self._on_rebind = on_rebind
        self._sockets: dict[Family, UdpSocket] = {}
        self._wanted: dict[Family, Addr] = {}
        #: Those of port prediction, which a negative ``via`` names.
        self.extra = ExtraSockets(network, receiver)
        self.send_errors = 0
        self.dropped = 0

    def open(self, bind: Sequence[Addr]) -> None:
        """Open what was asked for. IPv6 is optional if only wildcard addresses were given.

        Raises BindError if no socket, or not the address that was asked for, can be had; close() is due then, too.
        """
        problems: list[str] = []
        for ip, port in bind:
            family = Family.of(ip)
            if family in self._sockets:
                raise BindError(f"cannot bind {ip}, too: an endpoint has one socket of a family")
            port = port or self._sibling_port(family)
            try:
                self._open(family, ip, port)
            except OSError as error:
                problems.append(f"{ip} port {port}: {error.strerror or error}")
                if ip != "::":
                    raise BindError(f"cannot bind a UDP socket to {problems[-1]}") from error
        if not self._sockets:
            raise BindError("cannot bind any UDP socket: " + "; ".join(problems))

    def _sibling_port(self, family: Family) -> int:
        """IPv6 takes the port after IPv4's if it is free (PROTOCOL 3.13), so that people recognise the pair."""
        other = self._sockets.get(Family.V4)
        if family is Family.V4 or other is None:
            return 0
        port = other.local_addr[1]
        return port - 1 if port == 65535 else port + 1

    def _open(self, family: Family, ip: str, port: int) -> None:
        try:
            socket = self._network.open_udp(family, ip, port, self._receiver)
        except OSError:
            if port == 0:
                raise
            socket = self._network.open_udp(family, ip, 0, self._receiver)
        socket.on_marked = self._on_marked
        self._sockets[family] = socket
        self._wanted[family] = (ip, socket.local_addr[1])

    def __contains__(self, family: Family) -> bool:
        return family in self._sockets

    def port(self, family: Family) -> int | None:
        """The local port of a family, or None if it has no socket."""
        socket = self._sockets.get(family)
        return None if socket is None else socket.local_addr[1]

    @property
    def local_addrs(self) -> tuple[Addr, ...]:
        """The bound addresses."""
        return tuple(s.local_addr for s in self._sockets.values())

    def send(self, payloads: Sequence[bytes], addr: Addr, via: int, ecn: int = 0) -> None:
        """Send datagrams with an ECN codepoint; what cannot be sent is lost, as on any network."""
        if via < 0:
            self.dropped += len(payloads) - self.extra.send(-via, payloads, addr)
            return
        family = Family.V6 if ":" in addr[0] else Family.V4
        socket = self._sockets.get(family)
        if socket is None:
            self.dropped += len(payloads)
            return
        try:
            taken = socket.send(payloads, addr, via, ecn)
        except OSError as error:
            self.send_errors += 1
            if error.errno not in PATH_ERRORS:
                self.rebind(family, error.strerror or str(error))
            return
        self.dropped += len(payloads) - taken

    def follow(self, order: OpenSocket | CloseSocket) -> None:
        """Open or close an extra socket, at the local address that was asked for."""
        self.extra.follow(order, self._wanted.get(Family.V4, (_WILDCARD[Family.V4], 0))[0])

    def heal(self, state: NetworkState) -> None:
        """After a change of network: open again what is missing, or bound to an address that is gone."""
        present = {a.ip for i in state.interfaces for a in i.addresses}
        for family, (ip, _port) in list(self._wanted.items()):
            if family not in self._sockets:
                self.rebind(family, "was missing")
            elif ip != _WILDCARD[family] and ip not in present:
                self.rebind(family, f"{ip} is gone", ip=_WILDCARD[family])

    def rebind(self, family: Family, why: str, *, ip: str | None = None) -> None:
        """Close a socket and open it anew, at its old port if that is free; on failure try again at the next change."""
        wanted = self._wanted.get(family)
        if wanted is None:
            return
        old = self._sockets.pop(family, None)
        if old is not None:
            old.close()
        try:
            self._open(family, ip or wanted[0], wanted[1])
        except OSError:
            self.send_errors += 1  # the next change of network, or the next send's failure, tries again
            return
        host, port = self._sockets[family].local_addr
        self._on_rebind(family, f"{host}:{port}", why)

    def close(self) -> None:
        """Close all sockets; they stay closed."""
        self._wanted.clear()
        self.extra.close()
        for socket in self._sockets.values():
            socket.close()
        self._sockets.clear()
