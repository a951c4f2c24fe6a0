"""The agent's machines with their sockets: one server per LAN, one client per interface of a host."""

from __future__ import annotations

import random
import socket
import time
from collections.abc import Callable
from typing import Any

from netns_fixtures.agent.netns import NetworkNamespace
from netns_fixtures.dhcp import server
from netns_fixtures.dhcp.applying import LeasedInterface
from netns_fixtures.dhcp.client import (
    Action,
    Configure,
    LeaseClient,
    Probe,
    Send,
    State,
    Tell,
    Unconfigure,
)
from netns_fixtures.dhcp.frame import (
    ANY_IP,
    BROADCAST_IP,
    BROADCAST_MAC,
    ETH_IP,
    arp_announcement,
    arp_claims,
    arp_probe,
    parse_udp,
    udp_frame,
)
from netns_fixtures.dhcp.options import DhcpMalformed
from netns_fixtures.dhcp.packet import CLIENT_PORT, SERVER_PORT, decode, encode
from netns_fixtures.dhcp.sockets import (
    arp_socket,
    control_socket,
    deaf_socket,
    frames,
    is_running,
    link_socket,
    packet_socket,
    udp_filter,
)
from netns_fixtures.dhcp.steps import DhcpNews, RunDhcpClient, ServeDhcp, TellDhcpClient
from netns_fixtures.errors import CommandFailed

Publish = Callable[[DhcpNews], None]
#: A link that was just switched on takes frames some milliseconds later; one that never comes is asked seldom.
_LOOK_AGAIN, _LOOK_AGAIN_AT_MOST = 0.001, 0.1


class ServerPort:
    """A server and its sockets; its node must be entered when it is made."""

    def __init__(self, step: ServeDhcp, publish: Publish) -> None:
        self.step = step
        self.due: float | None = None
        self._publish = publish
        self._mac = _bytes(step.mac)
        self.machine = server.DhcpServer(step.service, self._tell)
        self._raw = packet_socket(step.name, ETH_IP, udp_filter(SERVER_PORT))
        self._udp = deaf_socket(step.name, ANY_IP, SERVER_PORT)

    @property
    def sockets(self) -> tuple[socket.socket, ...]:
        """Those that are readable when there is something to do."""
        return (self._raw,)

    def change(self, step: ServeDhcp) -> None:
        """Serve in another way."""
        self.step = step
        if step.reset:
            self.machine.reset()
        for mac in step.forget:
            self.machine.forget(_bytes(mac))
        self.machine.change(step.service)

    def serve(self, now: float) -> None:
        """Answer what waits."""
        for frame in frames(self._raw):
            datagram = parse_udp(frame, SERVER_PORT)
            if datagram is None or datagram.source_mac == self._mac:
                continue
            try:
                message = decode(datagram.payload)
            except DhcpMalformed:
                continue  # noise
            answer = self.machine.receive(message, datagram.source_mac, now)
            if answer is not None:
                self._send(answer)

    def close(self) -> None:
        """Close the sockets."""
        self._raw.close()
        self._udp.close()

    def _send(self, answer: server.Answer) -> None:
        macs = self._mac, answer.mac if answer.to else BROADCAST_MAC
        ips = self.machine.service.address, answer.to or BROADCAST_IP
        _transmit(self._raw, udp_frame(macs, ips, (SERVER_PORT, CLIENT_PORT), encode(answer.message)))

    def _tell(self, news: server.News) -> None:
        data = {"mac": news.mac.hex(":"), **news.data}
        self._publish(DhcpNews(self.step.index, news.kind, time.monotonic(), data=data))


class ClientPort:
    """A client, its sockets and its interface; its node must be entered when it is made."""

    def __init__(
        self, step: RunDhcpClient, node: NetworkNamespace, fabric: NetworkNamespace, publish: Publish
    ) -> None:
        self.step = step
        self.frozen = False
        #: What happened to the link while the host stood still: the last of it.
        self._missed: TellDhcpClient | None = None
        self._node = node
        self._publish = publish
        self._mac = _bytes(step.mac)
        # Seeded by what is the same in every lab of this description.
        self.machine = LeaseClient(step.settings, self._mac, step.host, random.Random(f"dhcp/{step.mac}"))
        self._interface = LeasedInterface(node, fabric, step.index, step.port_name)
        self._interface.metric = step.metric
        self._epoch = 0
        self._raw = packet_socket(step.name, ETH_IP, udp_filter(CLIENT_PORT))
        self._link = link_socket()
        fabric.enter()
        self._far = control_socket()
        self._udp: socket.socket | None = None
        self._arp: socket.socket | None = None
        #: When to look again whether the link takes frames, and how long after that.
        self._look_at: float | None = None
        self._look_again = _LOOK_AGAIN
        self._shown: tuple[Any, ...] = ()

    @property
    def sockets(self) -> tuple[socket.socket, ...]:
        """Those that are readable when there is something to do; a frozen host reads none."""
        return () if self.frozen else tuple(s for s in (self._raw, self._link, self._arp) if s is not None)

    @property
    def due(self) -> float | None:
        """When ``serve`` wants to be called, if nothing comes before."""
        if self.frozen:
            return None
        return min((t for t in (self.machine.due, self._look_at) if t is not None), default=None)

    def change(self, step: RunDhcpClient) -> None:
        """Other settings; the node must be entered."""
        self.step = step
        self._interface.set_metric(step.metric, self.machine.lease)

    def happen(self, step: TellDhcpClient, now: float) -> None:
        """A verb of the lab. A host that stands still learns of it later."""
        if self.frozen:
            self._missed = step
            return
        self._epoch = step.epoch
        self._look_at = None
        match step.event:
            case "up":
                self._look_again = _LOOK_AGAIN
                self._look(now)
            case "down":
                self.machine.link_down(now)
            case "renew":
                self.machine.renew(now)
            case "release":
                self.machine.release(now)
        self._act()

    def serve(self, now: float) -> None:
        """Read what waits, do what is due."""
        if self.frozen:
            return
        self._pass_time(now)
        if frames(self._link):
            self._notice(now)
        for frame in frames(self._raw):
            datagram = parse_udp(frame, CLIENT_PORT)
            if datagram is None:
                continue
            try:
                self.machine.receive(decode(datagram.payload), now)
            except DhcpMalformed:
                continue  # noise
            self._act()
        if self._arp is not None:
            self._hear_arp(self._arp, now)

    def close(self) -> None:
        """Close the sockets; the interface stays as it is."""
        for sock in (self._raw, self._link, self._far, self._udp, self._arp):
            if sock is not None:
                sock.close()

    def thaw(self, now: float) -> None:
        """The host goes on: first with what has ended meanwhile, then with the link that it has now."""
        self.frozen = False
        self._pass_time(now)
        missed, self._missed = self._missed, None
        if missed is not None:
            self.happen(missed, now)

    def _pass_time(self, now: float) -> None:
        due = self.due
        if due is not None and due <= now:
            if self._look_at is not None and self._look_at <= now:
                self._look(now)
            self.machine.wake(now)
            self._act()

    def _notice(self, now: float) -> None:
        """A program of the host may have switched the interface, of which no verb tells."""
        running = self._is_running()
        if running != (self.machine.state is not State.OFF):
            self._look_again = _LOOK_AGAIN
            self._look(now)
            self._act()

    def _is_running(self) -> bool:
        return is_running(self._raw, self.step.name) and is_running(self._far, self.step.port_name)

    def _look(self, now: float) -> None:
        """Begin as soon as both ends take frames: a question that is lost costs a whole retry interval."""
        if self._is_running():
            self._look_at = None
            self.machine.link_up(now)
        else:
            self.machine.link_down(now)
            self._look_at = now + self._look_again
            self._look_again = min(2 * self._look_again, _LOOK_AGAIN_AT_MOST)

    def _hear_arp(self, sock: socket.socket, now: float) -> None:
        ip = self.machine.probing
        if ip and any(arp_claims(frame, ip, self._mac) for frame in frames(sock)):
            self.machine.conflict(now)
            self._act()

    # -- actions

    def _act(self) -> None:
        for action in self.machine.take():
            try:
                self._carry_out(action)
            except (OSError, CommandFailed) as error:
                self._tell(Tell("failed", {"why": str(error)}))
        if self._arm_arp() or self._shown != (self._epoch, self.machine.state, self.machine.lease):
            self._tell(Tell(""))

    def _carry_out(self, action: Action) -> None:
        match action:
            case Send():
                self._send(action)
            case Configure(lease, before):
                self._interface.configure(lease, before)
                if before is None or before.ip != lease.ip:
                    self._open_udp(lease.ip)
                    _transmit(self._raw, arp_announcement(self._mac, lease.ip))
            case Unconfigure(lease):
                self._close_udp()
                self._interface.unconfigure(lease)
            case Probe(ip):
                if self._arp is None:
                    self._node.enter()
                    self._arp = arp_socket(self.step.name)
                _transmit(self._raw, arp_probe(self._mac, ip))
            case Tell():
                self._tell(action)

    def _send(self, action: Send) -> None:
        data = encode(action.message)
        if action.to and self._udp is not None:
            try:
                self._udp.sendto(data, (action.to, SERVER_PORT))
            except OSError:
                return  # no way there at the moment: as good as lost
        else:
            ips = action.message.ciaddr or ANY_IP, BROADCAST_IP
            frame = udp_frame((self._mac, BROADCAST_MAC), ips, (CLIENT_PORT, SERVER_PORT), data)
            _transmit(self._raw, frame)

    def _open_udp(self, ip: str) -> None:
        self._close_udp()
        self._node.enter()
        self._udp = deaf_socket(self.step.name, ip, CLIENT_PORT)

    def _close_udp(self) -> None:
        udp, self._udp = self._udp, None
        if udp is not None:
            udp.close()

    def _arm_arp(self) -> bool:
        """Close the ARP socket where nothing is probed any more."""
        if self._arp is not None and self.machine.state is not State.CHECKING:
            self._arp.close()
            self._arp = None
            return True
        return False

    def _tell(self, told: Tell) -> None:
        now, state, lease = time.monotonic(), self.machine.state, self.machine.lease
        self._shown = (self._epoch, state, lease)
        data = dict(told.data)
        self._publish(DhcpNews(self.step.index, told.kind, now, self._epoch, str(state), lease, data))


def _transmit(sock: socket.socket, frame: bytes) -> None:
    try:
        sock.send(frame)
    except OSError:
        pass  # the link went down this moment: lost, as on any cable that is pulled


def _bytes(mac: str) -> bytes:
    return bytes.fromhex(mac.replace(":", ""))
