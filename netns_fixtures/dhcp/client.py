"""A DHCP client for one interface (RFC 2131 section 4.4), sans-IO: what happens and the time come in, actions go out.

::

    OFF --link up--> SELECTING --offer--> REQUESTING --ack--> (CHECKING) --> BOUND
     `--link up, with a lease--> REBOOTING --ack--> BOUND;  nak, or no answer --> SELECTING
    BOUND --T1--> RENEWING --T2--> REBINDING --end of the lease--> SELECTING, without an address

The lease outlives a link that goes down, until its time is over. ``due`` is when ``wake`` wants to be called.
"""

from __future__ import annotations

import enum
import random
from dataclasses import dataclass, field
from typing import Any

from netns_fixtures.dhcp.config import DhcpClient
from netns_fixtures.dhcp.lease import Granted, granted
from netns_fixtures.dhcp.options import DhcpMalformed, Option, packed, text
from netns_fixtures.dhcp.packet import BOOTREPLY, BOOTREQUEST, ETHERNET, Kind, Message

#: Delays double this often: 4, 8, 16, 32, 64 s in RFC 2131 section 4.1.
_DOUBLINGS = 4
#: Requests that nobody answers before it begins anew (RFC 2131 section 3.1 point 5 has four in 60 s).
_TRIES, _REBOOT_TRIES = 4, 2
#: Of the retry interval: what is added or taken at random (1 s of 4 s), and the rest after a DECLINE (10 s of 4 s).
_JITTER, _REST = 0.25, 2.5
#: RFC 2131 section 4.4.5 repeats a renewal each minute at least, 15 times the first retry.
_RENEWAL = 15
_PROBES = 3
_MAX_SIZE = 1500
_WANTED = (
    Option.SUBNET_MASK,
    Option.ROUTES,
    Option.ROUTER,
    Option.DNS,
    Option.DOMAIN,
    Option.MTU,
    Option.LEASE_TIME,
    Option.SERVER_ID,
    Option.T1,
    Option.T2,
    Option.CAPTIVE_PORTAL,
)


class State(enum.StrEnum):
    """States of RFC 2131 figure 5. OFF: the link is down; STOPPED: it gave its lease back; RESTING: it declined."""

    OFF = "off"
    STOPPED = "stopped"
    SELECTING = "selecting"
    REQUESTING = "requesting"
    REBOOTING = "rebooting"
    CHECKING = "checking"
    RESTING = "resting"
    BOUND = "bound"
    RENEWING = "renewing"
    REBINDING = "rebinding"


@dataclass(frozen=True, slots=True)
class Send:
    """Send a message: to an IP address by way of the kernel, or with "" by broadcast without one."""

    message: Message
    to: str = ""


@dataclass(frozen=True, slots=True)
class Configure:
    """Make the interface what a lease says; ``before`` is what it was, None for nothing."""

    lease: Granted
    before: Granted | None


@dataclass(frozen=True, slots=True)
class Unconfigure:
    """Take address and routes of a lease away."""

    lease: Granted


@dataclass(frozen=True, slots=True)
class Probe:
    """Ask by ARP whether somebody has this address; ``conflict`` is to be called if so."""

    ip: str


@dataclass(frozen=True, slots=True)
class Tell:
    """Something that a person would tell: leased, renewed, rebinding, nak, expired, released, declined,
    unconfirmed."""

    kind: str
    data: dict[str, Any] = field(default_factory=dict)


Action = Send | Configure | Unconfigure | Probe | Tell
_HAVE_ADDRESS = (State.BOUND, State.RENEWING, State.REBINDING)


class LeaseClient:
    """One interface's client. Each method that happens returns nothing; ``take`` gives what is to be done."""

    def __init__(self, settings: DhcpClient, mac: bytes, host_name: str, rng: random.Random) -> None:
        self.settings = settings
        self.state = State.OFF
        self.lease: Granted | None = None
        self.due: float | None = None
        self._mac = mac
        self._host_name = settings.host_name or host_name
        self._rng = rng
        self._actions: list[Action] = []
        self._xid = 0
        self._began = 0.0
        self._sent = 0.0
        self._tries = 0
        self._retry_at: float | None = None
        self._offer: Granted | None = None
        self._probes = 0

    @property
    def is_bound(self) -> bool:
        """Whether its address is usable, and confirmed for this link."""
        return self.state in _HAVE_ADDRESS

    @property
    def probing(self) -> str:
        """The address that it looks for conflicts of; "" for none."""
        return self._offer.ip if self.state is State.CHECKING and self._offer is not None else ""

    def take(self) -> list[Action]:
        """What is to be done, in order."""
        actions, self._actions = self._actions, []
        return actions

    # -- what happens

    def link_up(self, now: float) -> None:
        """The link came up, or may be another one: ask whether the lease is good here, or for one."""
        self._expire(now)
        if self.lease is not None:
            self._begin(State.REBOOTING, now)
        else:
            self._begin(State.SELECTING, now)

    def link_down(self, now: float) -> None:
        """Nobody can be asked; the lease stays until its end."""
        self._expire(now)
        self._offer = None
        self._enter(State.OFF, None)

    def renew(self, now: float) -> None:
        """Ask for more time now; without a lease, ask for one."""
        self._expire(now)
        if self.lease is None or self.state is State.REBOOTING:
            self.link_up(now)
        elif self.state is not State.OFF:
            self._begin(State.RENEWING, now)

    def release(self, now: float) -> None:
        """Give the lease back, and ask for none until ``renew`` or the next link."""
        lease = self.lease
        if lease is not None:
            if self.is_bound:
                self._new_transaction(now)
                self._send(Kind.RELEASE, now, ciaddr=lease.ip, to=lease.server, server=lease.server)
            self._lose("released")
        self._offer = None
        self._enter(State.STOPPED, None)

    def conflict(self, now: float) -> None:
        """Somebody else has the address that was probed."""
        if self.state is not State.CHECKING or self._offer is None:
            return
        offer, self._offer = self._offer, None
        self._new_transaction(now)
        self._send(Kind.DECLINE, now, wanted=offer.ip, server=offer.server)
        self._actions.append(Tell("declined", {"ip": offer.ip}))
        self._enter(State.RESTING, now + _REST * self.settings.retry_interval)

    def wake(self, now: float) -> None:
        """Do what is due by now."""
        if self.due is None or now < self.due:
            return
        if self._expire(now):
            if self.state is not State.OFF:
                self._begin(State.SELECTING, now)
            return
        match self.state:
            case State.SELECTING:
                self._repeat(now)
            case State.REQUESTING:
                self._retry_or(State.SELECTING, _TRIES, now)
            case State.REBOOTING:
                self._retry_or(State.SELECTING, _REBOOT_TRIES, now)
            case State.CHECKING:
                self._check(now)
            case State.RESTING:
                self._begin(State.SELECTING, now)
            case State.BOUND:
                self._begin(State.RENEWING, now)
            case State.RENEWING | State.REBINDING:
                self._renewal(now)
            case State.OFF | State.STOPPED:
                self._arm(None)

    def receive(self, message: Message, now: float) -> None:
        """A message of some server. Anything that is not an answer to this client is ignored."""
        if message.op != BOOTREPLY or message.chaddr != self._mac or message.xid != self._xid:
            return
        try:
            match message.kind:
                case Kind.OFFER if self.state is State.SELECTING:
                    self._offer = granted(message, self._sent)
                    self._enter(State.REQUESTING, now)
                    self._tries = 0
                    self._repeat(now)
                case Kind.ACK if self._expects_ack(message):
                    self._acknowledged(granted(message, self._sent), now)
                case Kind.NAK if self.state in _ASKING:
                    self._refused(message, now)
        except DhcpMalformed:
            pass  # as if it had been lost: another one may come

    # -- transitions

    def _begin(self, state: State, now: float) -> None:
        """Enter a state that asks something, and ask."""
        if state is State.SELECTING and self.lease is not None:
            self._lose("")
        self._offer = None
        self._new_transaction(now)
        self._began = now
        self._tries = 0
        self._enter(state, now)
        if state is State.RENEWING:
            self._renewal(now)
        else:
            self._repeat(now)

    def _repeat(self, now: float) -> None:
        """Ask what the state asks, and when to ask again."""
        offer, lease = self._offer, self.lease
        match self.state:
            case State.SELECTING:
                self._send(Kind.DISCOVER, now)
            case State.REQUESTING if offer is not None:
                self._send(Kind.REQUEST, now, wanted=offer.ip, server=offer.server)
            case State.REBOOTING if lease is not None:
                self._send(Kind.REQUEST, now, wanted=lease.ip)
        delay = self.settings.retry_interval * 2 ** min(self._tries, _DOUBLINGS)
        delay += self.settings.retry_interval * self._rng.uniform(-_JITTER, _JITTER)
        self._tries += 1
        self._arm(now + delay)

    def _retry_or(self, otherwise: State, tries: int, now: float) -> None:
        if self._tries < tries:
            self._repeat(now)
            return
        if self.lease is not None:
            self._lose("unconfirmed")
        self._begin(otherwise, now)

    def _renewal(self, now: float) -> None:
        """Ask for more time: the server that gave the lease, after T2 anybody (RFC 2131 section 4.4.5)."""
        lease = self.lease
        assert lease is not None
        if self.state is State.RENEWING and now >= lease.since + lease.t2:
            self._new_transaction(now)
            self._actions.append(Tell("rebinding", {"ip": lease.ip}))
            self._enter(State.REBINDING, now)
        rebinding = self.state is State.REBINDING
        to = "" if rebinding else lease.server
        self._send(Kind.REQUEST, now, ciaddr=lease.ip, to=to)
        end = lease.expires if rebinding else lease.since + lease.t2
        # Half of what is left, but not too often; the RFC's minute would be longer than a lab's lease.
        wait = max((end - now) / 2, self.settings.retry_interval)
        self._arm(min(now + min(wait, _RENEWAL * self.settings.retry_interval), end) if end > now else end)

    def _expects_ack(self, message: Message) -> bool:
        if self.state is State.SELECTING:
            return self.settings.rapid_commit and Option.RAPID_COMMIT in message.options
        return self.state in _ASKING

    def _acknowledged(self, lease: Granted, now: float) -> None:
        before = self.lease
        known = before is not None and before.ip == lease.ip
        if self.settings.check and not known:
            self._offer = lease
            self._probes = 0
            self._enter(State.CHECKING, now)
            self._check(now)
        else:
            self._bind(lease, now)

    def _check(self, now: float) -> None:
        """Three probes over the time of the check, then the address is ours (RFC 5227 section 2.1.1)."""
        offer = self._offer
        assert offer is not None
        if self._probes == _PROBES:
            self._offer = None
            self._bind(offer, now)
            return
        self._probes += 1
        self._actions.append(Probe(offer.ip))
        self._arm(now + self.settings.check / _PROBES)

    def _bind(self, lease: Granted, now: float) -> None:
        before, asked = self.lease, self.state
        self.lease, self._offer = lease, None
        self._actions.append(Configure(lease, before))
        known = before is not None and before.ip == lease.ip
        self._actions.append(Tell("renewed" if known else "leased", {"by": str(asked)}))
        self._enter(State.BOUND, lease.since + lease.t1)

    def _refused(self, message: Message, now: float) -> None:
        lease = self._offer if self.state is State.REQUESTING else self.lease
        why = text(message.options.get(Option.MESSAGE, b""))
        self._actions.append(Tell("nak", {"ip": lease.ip if lease else "", "why": why}))
        self._begin(State.SELECTING, now)

    def _expire(self, now: float) -> bool:
        """Whether the lease has ended: then the address is gone."""
        if self.lease is None or now < self.lease.expires:
            return False
        self._lose("expired")
        return True

    def _lose(self, kind: str) -> None:
        lease, self.lease = self.lease, None
        assert lease is not None
        self._actions.append(Unconfigure(lease))
        if kind:
            self._actions.append(Tell(kind, {"ip": lease.ip}))

    def _enter(self, state: State, due: float | None) -> None:
        self.state = state
        self._arm(due)

    def _arm(self, at: float | None) -> None:
        """Wake then, or at the end of the lease if that is earlier."""
        end = self.lease.expires if self.lease is not None else None
        times = [moment for moment in (at, end) if moment is not None and moment != float("inf")]
        self.due = min(times, default=None)

    # -- messages

    def _new_transaction(self, now: float) -> None:
        self._xid = self._rng.getrandbits(32)
        self._began = now

    def _send(
        self, kind: Kind, now: float, *, ciaddr: str = "", wanted: str = "", server: str = "", to: str = ""
    ) -> None:
        options = {Option.CLIENT_ID: bytes((ETHERNET,)) + self._mac}
        if wanted:
            options[Option.REQUESTED_IP] = packed((wanted,))
        if server:
            options[Option.SERVER_ID] = packed((server,))
        if kind in (Kind.DISCOVER, Kind.REQUEST):
            options[Option.MAX_SIZE] = _MAX_SIZE.to_bytes(2, "big")
            options[Option.HOST_NAME] = self._host_name.encode()[:63]
            options[Option.WANTED] = bytes(_WANTED)
            if kind is Kind.DISCOVER and self.settings.rapid_commit:
                options[Option.RAPID_COMMIT] = b""
        self._sent = now
        message = Message(
            op=BOOTREQUEST,
            kind=kind,
            xid=self._xid,
            chaddr=self._mac,
            secs=int(now - self._began),
            ciaddr=ciaddr,
            options={int(code): value for code, value in options.items()},
        )
        self._actions.append(Send(message, to))


_ASKING = (State.REQUESTING, State.REBOOTING, State.RENEWING, State.REBINDING)
