"""What the agent tells of DHCP, in the test process: addresses that hosts have now, and events of the lab."""

from __future__ import annotations

import pickle
import select
import socket
import threading
import time
from typing import TYPE_CHECKING, Any

from netns_fixtures.dhcp.sentences import sentence
from netns_fixtures.dhcp.steps import DhcpNews
from netns_fixtures.errors import AgentDied, LabClosed
from netns_fixtures.messages import ListenDhcp
from netns_fixtures.plug import Assigned, Plug

if TYPE_CHECKING:
    from netns_fixtures.running_lab import RunningLab

#: Longer than any of the agent's news.
_MAX_NEWS = 1 << 16


class LabLeasing:
    """Hears the news of one lab, always with the lab's lock held: a verb reads them while it waits for a lease, a
    thread at all other times."""

    def __init__(self, lab: RunningLab) -> None:
        self._lab = lab
        self._socket: socket.socket | None = None
        self._plugs: dict[int, Plug] = {}
        self._wanted = False
        self._changed = threading.Condition()
        self._count = 0

    def want(self) -> None:
        """Somebody of this lab uses DHCP: listen as soon as it is built."""
        if not self._wanted:
            self._wanted = True
            self._lab.add_service(self, at_build=True)

    # -- called by the lab

    def start(self) -> None:
        """Listen from now on; does nothing while it does."""
        if self._socket is not None:
            return
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._lab.request(ListenDhcp(self._lab.number), [theirs.fileno()])
        ours.setblocking(False)
        self._socket = ours
        threading.Thread(target=self._run, args=(ours,), name="netns-fixtures-dhcp", daemon=True).start()

    def wait_started(self) -> None:
        """It needs no time."""

    def close(self) -> None:
        """The lab ends; the thread closes the socket."""
        if self._socket is not None:
            self._socket.shutdown(socket.SHUT_RDWR)

    # -- for verbs; the lab's lock is held

    def hear(self) -> None:
        """Hear what the agent has said so far."""
        self.start()
        self._take()

    def read(self, deadline: float) -> bool:
        """Wait for news and hear them; False at the deadline (``time.monotonic()``)."""
        self.start()
        assert self._socket is not None
        left = max(0.0, deadline - time.monotonic())
        if not select.select([self._socket], [], [], left)[0]:
            return False
        if not self._take():
            raise AgentDied("the lab agent ended while a host waited for its address")
        return True

    # -- for everybody else

    def wait(self, seen: int, timeout: float) -> bool:
        """Wait until there were more news than ``seen``, seconds at most."""
        with self._changed:
            return self._changed.wait_for(lambda: self._count != seen, timeout)

    @property
    def count(self) -> int:
        """How many news there were."""
        return self._count

    # -- inside

    def _run(self, sock: socket.socket) -> None:
        with sock:
            while True:
                select.select([sock], [], [])
                try:
                    with self._lab.describing():
                        if not self._take():
                            return
                except LabClosed:
                    return

    def _take(self) -> bool:
        """Hear what waits; False when there will be nothing more."""
        assert self._socket is not None
        while True:
            try:
                packet = self._socket.recv(_MAX_NEWS)
            except BlockingIOError:
                return True
            except ConnectionError:
                return False
            if not packet:
                return False
            news: Any = pickle.loads(packet)  # of our own agent
            self._hear(news)

    def _hear(self, news: DhcpNews) -> None:
        plug = self._plug(news.index)
        if news.state and plug.dhcp is not None:
            before, lease = plug.dhcp.lease, news.lease
            plug.dhcp.hear(news)
            mtu = lease.mtu if lease is not None else None
            if mtu != (before.mtu if before is not None else None):
                plug.mtu = mtu
            new = None if lease is None else Assigned(lease.ip, lease.prefixlen, leased=False, learnt=True)
            if new not in plug.addresses or new is None:
                plug.learn(new)
        with self._changed:
            self._count += 1
            self._changed.notify_all()
        if news.kind:
            owners = {plug.mac: f"{plug.owner} {plug.name}" for plug in self._lab.topology.plugs()}
            text = f"{plug.owner} {sentence(plug, news, owners)}"
            lease = news.lease
            about = {"ip": lease.ip, "lease": lease.seconds, "server": lease.server} if lease else {}
            data = {"interface": plug.name, **about, **news.data}
            self._lab.log_news(news.time, f"dhcp_{news.kind}", plug.owner, text, data)

    def _plug(self, index: int) -> Plug:
        if index not in self._plugs:
            self._plugs = {plug.index: plug for plug in self._lab.topology.plugs()}
        return self._plugs[index]
