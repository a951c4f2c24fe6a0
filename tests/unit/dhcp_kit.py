"""A DHCP server and clients on an imaginary Ethernet, under a virtual clock."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from netns_fixtures.dhcp.client import Action, LeaseClient, Send, Tell
from netns_fixtures.dhcp.config import DhcpClient, DhcpConfig
from netns_fixtures.dhcp.packet import Kind, Message
from netns_fixtures.dhcp.server import DhcpServer, News
from netns_fixtures.dhcp.steps import Service


@dataclass
class Guest:
    """A client on the network: what it sent, what it told, what else it did."""

    name: str
    mac: bytes
    machine: LeaseClient
    sent: list[tuple[float, Message, str]] = field(default_factory=list)
    told: list[str] = field(default_factory=list)
    done: list[Action] = field(default_factory=list)

    @property
    def kinds(self) -> list[Kind]:
        return [message.kind for _now, message, _to in self.sent]

    @property
    def ip(self) -> str:
        return self.machine.lease.ip if self.machine.lease else ""


class Ethernet:
    """``deaf``: the server hears nothing."""

    def __init__(self, config: DhcpConfig | None = None, network: str = "192.168.1") -> None:
        self.news: list[News] = []
        self.now = 1000.0
        self.deaf = False
        self.service = Service(f"{network}.0/24", f"{network}.1", config or DhcpConfig())
        self.server = DhcpServer(self.service, self._tell)
        self.guests: list[Guest] = []

    def guest(self, settings: DhcpClient | None = None) -> Guest:
        number = len(self.guests) + 1
        mac = bytes((2, 0, 0, 0, 0, number))
        name = f"h{number}"
        machine = LeaseClient(settings or DhcpClient(), mac, name, random.Random(number))
        guest = Guest(name, mac, machine)
        self.guests.append(guest)
        return guest

    def leased(self, settings: DhcpClient | None = None) -> Guest:
        """A new guest with an address."""
        guest = self.guest(settings)
        guest.machine.link_up(self.now)
        self.settle()
        return guest

    def settle(self) -> None:
        """Deliver what was sent, and the answers, until nobody says anything more."""
        for guest in self.guests:
            while actions := guest.machine.take():
                for action in actions:
                    self._do(guest, action)

    def run(self, seconds: float) -> None:
        """Let time pass, from one thing that is due to the next."""
        end = self.now + seconds
        self.settle()
        while due := [
            g.machine.due for g in self.guests if g.machine.due is not None and g.machine.due <= end
        ]:
            self.now = max(self.now, min(due))
            for guest in self.guests:
                guest.machine.wake(self.now)
            self.settle()
        self.now = end

    def _tell(self, news: News) -> None:
        if news.kind:
            self.news.append(news)

    def _do(self, guest: Guest, action: Action) -> None:
        if isinstance(action, Send):
            guest.sent.append((self.now, action.message, action.to))
            answer = None if self.deaf else self.server.receive(action.message, guest.mac, self.now)
            if answer is not None:
                guest.machine.receive(answer.message, self.now)
        elif isinstance(action, Tell):
            guest.told.append(action.kind)
        else:
            guest.done.append(action)
