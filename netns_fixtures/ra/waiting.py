"""A verb that changes what routers say is done when the hosts have understood: waiting for that, by netlink events."""

from __future__ import annotations

import contextlib
import ipaddress
import socket
import time
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from netns_fixtures.errors import LabError
from netns_fixtures.messages import OpenSocket
from netns_fixtures.ra.kernel import RTMGRP_IPV6_IFADDR, Address6, await_change, read_addresses

if TYPE_CHECKING:
    from netns_fixtures.plug import Plug, Segment
    from netns_fixtures.running_lab import RunningLab

#: Milliseconds are usual; real duplicate address detection takes 1 to 2 s, a lost advertisement another second.
CONFIGURED_WITHIN = 10.0
#: Linux makes no temporary address that would be preferred for less than regen_min_advance and 3 s more.
_MIN_TEMPORARY = 10.0


@contextlib.contextmanager
def watching(lab: RunningLab, plug: Plug) -> Iterator[socket.socket]:
    """A netlink socket of the plug's node that hears of every change of an IPv6 address."""
    request = OpenSocket(lab.number, plug.node, socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
    _value, (fd,) = lab.request(request)
    with socket.socket(fileno=fd) as sock:
        sock.bind((0, RTMGRP_IPV6_IFADDR))
        yield sock


def look(lab: RunningLab, plug: Plug) -> list[Address6]:
    """The global IPv6 addresses that the kernel has on an interface now, best first."""
    with watching(lab, plug) as sock:
        return read_addresses(sock, plug.index)


def await_configured(lab: RunningLab, plugs: Iterable[Plug]) -> None:
    """Wait until interfaces have what their routers advertise, and tell what they got. Raises LabError."""
    deadline = time.monotonic() + CONFIGURED_WITHIN * lab.timeout_scale
    for plug in plugs:
        networks = _expected(plug)
        if not networks:
            continue
        with watching(lab, plug) as sock:
            while not is_configured(lab, plug, networks, found := read_addresses(sock, plug.index)):
                if not await_change(sock, deadline):
                    raise LabError(_complaint(plug, networks, found))
        got = " ".join(map(str, found))
        text = f"{plug.owner} {plug.name} configured itself: {got}"
        lab.log_event("configured", plug.owner, text, interface=plug.name, addresses=[str(a) for a in found])


def await_segment(lab: RunningLab, segment: Segment) -> None:
    """The same for everybody on a LAN."""
    await_configured(lab, [plug for plug in lab.topology.plugs() if plug.segment is segment])


def is_configured(
    lab: RunningLab, plug: Plug, networks: Iterable[ipaddress.IPv6Network], found: list[Address6]
) -> bool:
    """Whether there is a usable address of each prefix, and none of an old one that is preferred still."""
    usable = [address for address in found if not address.tentative]
    ra, host = plug.segment.ra, lab.topology.hosts.get(plug.owner)
    assert ra is not None
    kinds = {False}
    if host is not None and host.slaac is not None and host.slaac.privacy:
        kinds = {False, True} if ra.config.preferred_lifetime > _MIN_TEMPORARY else {False}
    old = [retired.network for retired in ra.retired if retired.announced]
    return all(
        any(a.temporary is kind and a.inside(network) for a in usable)
        for network in networks
        for kind in kinds
    ) and all(a.deprecated for a in usable if any(a.inside(network) for network in old))


def _expected(plug: Plug) -> tuple[ipaddress.IPv6Network, ...]:
    ra = plug.segment.ra
    speaks = ra is not None and ra.state == "on" and ra.config.valid_lifetime > 0
    return plug.segment.prefixes if plug.slaac and plug.up and plug.carrier and speaks else ()


def _complaint(plug: Plug, networks: Iterable[ipaddress.IPv6Network], found: list[Address6]) -> str:
    has = " ".join(map(str, found)) or "nothing"
    wanted = " ".join(map(str, networks))
    return (
        f"{plug.owner} {plug.name} did not configure itself within {CONFIGURED_WITHIN:g} s: the router"
        f" {plug.segment.name} advertises {wanted}, the host has {has}; is its link lossy, or slower than that?"
    )
