"""The agent's loop: read a request, carry it out, reply; until the test process is gone."""

from __future__ import annotations

import os
import select
import signal
import socket
import traceback
from collections import deque
from collections.abc import Sequence
from typing import Any

from netns_fixtures.agent import rights
from netns_fixtures.agent.child import raise_file_limit
from netns_fixtures.agent.labs import AgentLab
from netns_fixtures.agent.leasing import Leasing
from netns_fixtures.agent.wires import Wires
from netns_fixtures.errors import LabError
from netns_fixtures.messages import (
    Apply,
    CloseLab,
    DhcpLeases,
    DumpNetfilter,
    Freeze,
    Hello,
    ListenDhcp,
    OpenLab,
    OpenNamespace,
    OpenSocket,
    Probe,
    Reap,
    Reply,
    Request,
    Spawn,
    TakeRing,
    WireStats,
    receive,
    send,
)
from netns_fixtures.ra.sender import Advertisers

#: gids that may open ICMP ping sockets: as root all; in a user namespace only ours exists.
_ALL_GROUPS = "0 2147483647"
#: Giving a lab back costs the kernel about 5 ms per cable (bridge ports wait for RCU one by one) under its
#: one networking lock: 75 ms for 10 nodes, in which the next lab cannot be built. So closed labs, cut off
#: and without processes, wait until no lab is open for a moment; then they go one by one, oldest first, so that
#: whoever comes next waits for one at most. A node takes 0.4 MB of the kernel: this many are 80 MB.
_MAX_STOPPED_NODES = 200
_IDLE_MS = 250
#: Between two that go: about what the kernel needs for one.
_NEXT_MS = 100


class Server:
    """Serves one test process. ``parent`` is its pidfd."""

    def __init__(self, channel: socket.socket, parent: int) -> None:
        self._channel = channel
        self._parent = parent
        self._labs: dict[int, AgentLab] = {}
        #: Closed labs whose namespaces are not yet given back, see _MAX_STOPPED.
        self._stopped: deque[AgentLab] = deque()
        self._opened = 0
        self._wires = Wires()
        self._advertisers = Advertisers()
        self._leasing = Leasing()
        self._mode = ""

    def run(self) -> None:
        """Serve until the other end closes or dies."""
        try:
            self._mode = rights.acquire()
        except LabError as error:
            send(self._channel, Hello(os.getpid(), "", error))
            return
        send(self._channel, Hello(os.getpid(), self._mode))
        try:
            while self._wait():
                request, fds = receive(self._channel)
                self._serve(request, fds)
        except (EOFError, ConnectionError):
            pass  # the test process is done, or dead
        finally:
            self._close()

    def _wait(self) -> bool:
        """True when a request is there, False when the test process is gone."""
        # Its end of file is not enough: a forked child of it may keep the socket open.
        poll = select.poll()
        poll.register(self._channel, select.POLLIN)
        poll.register(self._parent, select.POLLIN)
        poll.register(self._advertisers, select.POLLIN)
        self._leasing.register(poll)
        patience = _IDLE_MS
        while True:
            idle = bool(self._stopped) and not self._labs
            # Without a lab nobody advertises, and nobody asks for an address.
            ready = {fd for fd, _events in poll.poll(patience if idle else self._wait_ms())}
            self._advertisers.serve()
            ready.discard(self._advertisers.fileno())
            self._leasing.serve(ready)
            if ready:
                return self._parent not in ready
            if idle:
                self._stopped.popleft().release()
                patience = _NEXT_MS

    def _wait_ms(self) -> int | None:
        times = (self._advertisers.wait_ms(), self._leasing.wait_ms())
        return min((each for each in times if each is not None), default=None)

    def _serve(self, request: Request, fds: list[int]) -> None:
        out: list[int] = []
        try:
            value, out = self._carry_out(request, fds)
            reply = Reply(value)
        except (LabError, OSError) as error:
            reply = Reply(error=error)
        except Exception:  # a bug of ours must fail one verb, not every lab of the session
            reply = Reply(error=LabError(f"the lab agent failed at {request}:\n{traceback.format_exc()}"))
        finally:
            _close_all(fds)
        try:
            send(self._channel, reply, out)
        finally:
            _close_all(out)
        if sum(lab.size for lab in self._stopped) > _MAX_STOPPED_NODES:
            self._stopped.popleft().release()

    def _carry_out(self, request: Request, fds: list[int]) -> tuple[Any, list[int]]:
        match request:
            case OpenLab():
                return self._open_lab(request), []
            case CloseLab():
                lab = self._labs.pop(request.lab, None)
                if lab is not None:
                    lab.stop()
                    self._stopped.append(lab)
                return None, []
            case Apply():
                self._lab(request.lab).apply(request.ops)
                return None, []
            case OpenSocket():
                lab = self._lab(request.lab)
                return None, [lab.socket(request.node, request.family, request.type, request.proto)]
            case TakeRing():
                return None, [self._lab(request.lab).take_ring(request.node)]
            case OpenNamespace():
                return None, [self._lab(request.lab).namespace_fd(request.node)]
            case Spawn():
                pid, pidfd = self._lab(request.lab).spawn(request, fds)
                return pid, [pidfd]
            case Reap():
                return self._lab(request.lab).status(request.pid), []
            case Freeze():
                return self._lab(request.lab).freeze(request.node, frozen=request.frozen), []
            case WireStats():
                return self._wires.stats(request.lab, request.link), []
            case DumpNetfilter():
                return self._lab(request.lab).dump_netfilter(request.node, request.kind, request.body), []
            case ListenDhcp():
                self._leasing.listen(request.lab, fds[0])
                return None, []
            case DhcpLeases():
                return self._leasing.leases(request.lab, request.index), []
            case Probe():
                from netns_fixtures.agent import probes  # only the doctor needs it

                return probes.probe_all(self._mode), []

    def _open_lab(self, request: OpenLab) -> int:
        self._opened += 1
        groups = _ALL_GROUPS if self._mode == "root" else f"{os.getegid()} {os.getegid()}"
        self._labs[self._opened] = AgentLab(
            self._opened, request.name, self._wires, self._advertisers, self._leasing, groups
        )
        return self._opened

    def _lab(self, number: int) -> AgentLab:
        try:
            return self._labs[number]
        except KeyError:
            raise LabError(f"the agent has no lab {number}") from None

    def _close(self) -> None:
        for lab in self._labs.values():
            lab.stop()
        self._wires.close()


def main(argv: Sequence[str]) -> int:
    """``FD PID``: our end of the socket pair, and the test process."""
    channel = socket.socket(fileno=int(argv[0]))
    channel.set_inheritable(False)
    parent = os.pidfd_open(int(argv[1]))
    # Ctrl-C reaches the whole terminal group; the test process decides when its labs end.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if os.getppid() != int(argv[1]):
        return 1  # it died before we looked, and its number may be somebody else's
    raise_file_limit()
    Server(channel, parent).run()
    return 0


def _close_all(fds: Sequence[int]) -> None:
    for fd in fds:
        os.close(fd)
