"""The connections that a node's kernel tracks (ctnetlink), which is where its NAT keeps its mappings."""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from netns_fixtures.messages import DumpNetfilter

if TYPE_CHECKING:
    from netns_fixtures.lab import Lab
    from netns_fixtures.node import Node

# <linux/netfilter/nfnetlink_conntrack.h>, <linux/netlink.h>
_CT_GET, _CT_NEW = 1 << 8 | 1, 1 << 8
_HEADER = struct.Struct("=IHHII")
#: Flows that are read; a NAT table of a test is far smaller.
MAX_FLOWS = 20_000
_PROTOCOLS = {6: "tcp", 17: "udp", 1: "icmp", 58: "icmpv6"}


@dataclass(frozen=True, slots=True)
class TrackedFlow:
    """One tracked flow: whose packets go from ``source`` to ``target``, and answers from ``answer`` to ``back``.

    Without NAT, ``answer`` is ``target`` and ``back`` is ``source``; each is an address and a port (0 where the
    protocol has none). ``expires``: seconds until it is forgotten.
    ``zone`` keeps flows apart: a router that keeps mappings by itself has one for each (``nat/exact.py``).
    """

    protocol: str
    source: tuple[str, int]
    target: tuple[str, int]
    answer: tuple[str, int]
    back: tuple[str, int]
    expires: int
    zone: int = 0

    def __str__(self) -> str:
        there = f"{_text(self.source)} > {_text(self.target)}"
        back = f"{_text(self.answer)} > {_text(self.back)}"
        return f"{self.protocol:6} {there}, back {back}, forgotten in {self.expires} s"


def tracked(node: Node) -> list[TrackedFlow]:
    """Every flow that a node's kernel tracks now. Raises OSError, also where the kernel tracks nothing."""
    return tracked_flows(node.lab, node.number)


def tracked_flows(lab: Lab, node: int) -> list[TrackedFlow]:
    """The same by the number of a node. The lab agent asks: the right to is its own, where labs have no root."""
    from pyroute2.netlink.nfnetlink.nfctsocket import nfct_msg  # imported by few: it takes 20 ms

    parse: Callable[[bytes], Any] = nfct_msg  # pyroute2 has no types
    body = struct.pack("=BBH", socket.AF_UNSPEC, 0, 0)
    replies, _fds = lab.request(DumpNetfilter(lab.ready(), node, _CT_GET, body))
    found = []
    for reply in replies[:MAX_FLOWS]:
        message = parse(_HEADER.pack(_HEADER.size + len(reply), _CT_NEW, 0, 0, 0) + reply)
        message.decode()
        found.append(_flow(message))
    return found


def _flow(message: Any) -> TrackedFlow:
    there, back = message.get_attr("CTA_TUPLE_ORIG"), message.get_attr("CTA_TUPLE_REPLY")
    number = there.get_attr("CTA_TUPLE_PROTO").get_attr("CTA_PROTO_NUM")
    return TrackedFlow(
        _PROTOCOLS.get(number, str(number)),
        _end(there, "SRC"),
        _end(there, "DST"),
        _end(back, "SRC"),
        _end(back, "DST"),
        message.get_attr("CTA_TIMEOUT") or 0,
        message.get_attr("CTA_ZONE") or 0,
    )


def _end(tuple_: Any, side: str) -> tuple[str, int]:
    ip, ports = tuple_.get_attr("CTA_TUPLE_IP"), tuple_.get_attr("CTA_TUPLE_PROTO")
    address = ip.get_attr(f"CTA_IP_V4_{side}") or ip.get_attr(f"CTA_IP_V6_{side}")
    return str(address), int(ports.get_attr(f"CTA_PROTO_{side}_PORT") or 0)


def _text(end: tuple[str, int]) -> str:
    ip, port = end
    return ip if not port else f"[{ip}]:{port}" if ":" in ip else f"{ip}:{port}"
