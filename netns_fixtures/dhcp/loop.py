"""The agent's side: all DHCP servers and clients of all labs, served by the agent's own loop."""

from __future__ import annotations

import os
import pickle
import select
import socket
import time
import traceback
from collections import deque

from netns_fixtures.agent.netns import NetworkNamespace
from netns_fixtures.dhcp.ports import ClientPort, ServerPort
from netns_fixtures.dhcp.server import held
from netns_fixtures.dhcp.steps import (
    DhcpLease,
    DhcpNews,
    DhcpStep,
    RunDhcpClient,
    ServeDhcp,
    TellDhcpClient,
)
from netns_fixtures.errors import LabError

#: News that wait while the test process does not read; beyond, the oldest are forgotten.
_MAX_BACKLOG = 10_000
#: Seconds between two attempts to hand over news that wait.
_FLUSH_INTERVAL = 0.02

Key = tuple[int, int]


class _Channel:
    """Where the news of one lab go; they wait until somebody listens."""

    def __init__(self) -> None:
        self.socket: socket.socket | None = None
        self._backlog: deque[bytes] = deque(maxlen=_MAX_BACKLOG)

    @property
    def is_waiting(self) -> bool:
        """Whether news wait that somebody would like to have."""
        return bool(self._backlog) and self.socket is not None

    def put(self, news: DhcpNews) -> None:
        """Hand over, or keep."""
        self._backlog.append(pickle.dumps(news, pickle.HIGHEST_PROTOCOL))
        self.flush()

    def flush(self) -> None:
        """Hand over what waits, as far as the other end has room."""
        while self._backlog and self.socket is not None:
            try:
                self.socket.send(self._backlog[0])
            except BlockingIOError:
                return
            except OSError:  # nobody reads any more
                self.close()
                return
            self._backlog.popleft()

    def close(self) -> None:
        """Hang up."""
        if self.socket is not None:
            self.socket.close()
        self.socket = None


class DhcpLoop:
    """Everything about DHCP in one agent. ``fileno`` is readable when a packet came."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._ports: dict[Key, ServerPort | ClientPort] = {}
        self._by_fd: dict[int, Key] = {}
        self._nodes: dict[Key, int] = {}
        self._channels: dict[int, _Channel] = {}

    def fileno(self) -> int:
        """For a poll of the agent's loop."""
        return self._epoll.fileno()

    # -- requests

    def change(self, lab: int, node: NetworkNamespace, fabric: NetworkNamespace, step: DhcpStep) -> None:
        """Carry a step out; its node must be entered. Raises OSError, LabError."""
        key = lab, step.index
        port = self._ports.get(key)
        match step:
            case ServeDhcp() if isinstance(port, ServerPort):
                port.change(step)
            case ServeDhcp():
                self._ports[key] = ServerPort(step, self._channel(lab).put)
            case RunDhcpClient() if isinstance(port, ClientPort):
                port.change(step)
            case RunDhcpClient():
                self._ports[key] = ClientPort(step, node, fabric, self._channel(lab).put)
            case TellDhcpClient() if isinstance(port, ClientPort):
                port.happen(step, time.monotonic())
            case _:
                raise LabError(f"there is no DHCP client at interface {step.index}")
        self._nodes[key] = step.node
        self._watch(key)

    def listen(self, lab: int, fd: int) -> None:
        """Tell the news of a lab to this socket from now on, and what was to be told before."""
        sock = socket.socket(fileno=os.dup(fd))
        sock.setblocking(False)
        channel = self._channel(lab)
        channel.close()
        channel.socket = sock
        channel.flush()

    def leases(self, lab: int, index: int) -> list[DhcpLease]:
        """What the server at an interface has granted."""
        port = self._ports.get((lab, index))
        if not isinstance(port, ServerPort):
            return []
        now = time.monotonic()
        return [
            DhcpLease(x.mac.hex(":"), x.ip, x.expires - now, x.host_name, x.client.hex())
            for x in held(port.machine.table, now)
        ]

    def freeze(self, lab: int, node: int, *, frozen: bool) -> None:
        """The clients of a host stand still, or go on."""
        for key, port in self._ports.items():
            if key[0] == lab and self._nodes[key] == node and isinstance(port, ClientPort):
                if frozen:
                    port.frozen = True
                else:
                    port.thaw(time.monotonic())
                self._watch(key)

    def remove(self, lab: int) -> None:
        """Forget a lab that is closed."""
        for key in [key for key in self._ports if key[0] == lab]:
            self._unwatch(key)
            self._ports.pop(key).close()
            self._nodes.pop(key, None)
        channel = self._channels.pop(lab, None)
        if channel is not None:
            channel.close()

    # -- serving

    def wait_ms(self) -> int | None:
        """Milliseconds until something is due; None: nothing is."""
        due = [port.due for port in self._ports.values() if port.due is not None]
        now = time.monotonic()
        if any(channel.is_waiting for channel in self._channels.values()):
            due.append(now + _FLUSH_INTERVAL)
        return max(0, int((min(due) - now) * 1000) + 1) if due else None

    def serve(self) -> None:
        """Read what came, do what is due, hand over news."""
        now = time.monotonic()
        keys = {self._by_fd[fd] for fd, _events in self._epoll.poll(0) if fd in self._by_fd}
        keys |= {key for key, port in self._ports.items() if port.due is not None and port.due <= now}
        for key in sorted(keys):
            self._serve(key, now)
        for channel in self._channels.values():
            channel.flush()

    def _serve(self, key: Key, now: float) -> None:
        port = self._ports[key]
        try:
            port.serve(now)
        except Exception:  # a bug of ours must not end the agent, and every lab with it
            why = traceback.format_exc()
            self._channel(key[0]).put(DhcpNews(key[1], "failed", now, data={"why": why}))
        self._watch(key)

    def _watch(self, key: Key) -> None:
        """Hear of exactly the sockets that the port has now."""
        wanted = {sock.fileno() for sock in self._ports[key].sockets}
        known = {fd for fd, of in self._by_fd.items() if of == key}
        if wanted != known:
            self._unwatch(key)
            for fd in wanted:
                self._epoll.register(fd, select.EPOLLIN)
                self._by_fd[fd] = key

    def _unwatch(self, key: Key) -> None:
        for fd in [fd for fd, of in self._by_fd.items() if of == key]:
            del self._by_fd[fd]
            try:
                self._epoll.unregister(fd)
            except OSError:
                pass  # closed already: the kernel has forgotten it by itself

    def _channel(self, lab: int) -> _Channel:
        return self._channels.setdefault(lab, _Channel())
