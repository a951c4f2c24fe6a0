"""rtnetlink and ctnetlink, batched: many messages per system call, acknowledgements read together.

The kernel carries a message out inside ``send``, in order; only the acknowledgements are queued. So steps
that concern several namespaces are simply sent in order, each on the socket of its namespace, and the
acknowledgements are collected at the end. Messages are encoded by pyroute2's classes; its IPRoute objects
are not used (an event loop each, and per-thread sockets that silently act on the wrong namespace, LAB.md
4.2).
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Iterable
from typing import Any

from pyroute2.netlink.rtnl.ifaddrmsg import ifaddrmsg
from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg
from pyroute2.netlink.rtnl.rtmsg import rtmsg

from netns_fixtures.errors import CommandFailed
from netns_fixtures.ops import (
    AddAddress,
    AddBridge,
    AddCable,
    AddRoute,
    RemoveAddress,
    RemoveRoute,
    SetLink,
    SetQdisc,
)
from netns_fixtures.qdiscs import ROOT, RTM_NEWQDISC, QdiscMessage, qdisc_messages, sorting_messages

# <linux/netlink.h>; Python 3.11 has no name for this one
NETLINK_NETFILTER = 12
_NLM_F_REQUEST, _NLM_F_ACK, _NLM_F_REPLACE, _NLM_F_EXCL, _NLM_F_CREATE = 1, 4, 0x100, 0x200, 0x400
_NLM_F_DUMP = 0x300
_NLMSG_ERROR, _NLMSG_DONE = 2, 3
_SOL_NETLINK, _NETLINK_CAP_ACK, _NETLINK_EXT_ACK = 270, 10, 11
_NLMSGERR_ATTR_MSG = 1
_NLM_F_CAPPED, _NLM_F_ACK_TLVS = 0x100, 0x200
# <linux/rtnetlink.h>
_RTM_NEWLINK, _RTM_NEWADDR, _RTM_DELADDR, _RTM_NEWROUTE, _RTM_DELROUTE = 16, 20, 21, 24, 25
_IFF_UP = 1
_TCA_KIND = 1
# No duplicate address detection: in a lab every address is ours, and a tentative address is unusable for 1 s.
_IFA_F_NODAD = 0x02
_RT_TABLE_MAIN, _RTPROT_STATIC, _RTN_UNICAST, _RT_SCOPE_LINK, _RTAX_MTU = 254, 4, 1, 253, 2
# <linux/netfilter/nfnetlink_conntrack.h>
_CTNETLINK_DELETE = 1 << 8 | 2
_CTA_MARK, _CTA_MARK_MASK = 8, 21

# Keeps one system call below the socket's send buffer, and its acknowledgements below the receive buffer.
_BATCH_BYTES = 64 * 1024
_RECEIVE_BUFFER = 4 << 20
#: The kernel answers at once; this only ends a wait for an acknowledgement that will never come.
_ACK_TIMEOUT = 10.0

Step = AddBridge | AddCable | SetLink | AddAddress | RemoveAddress | AddRoute | RemoveRoute


class NetlinkSocket:
    """One netlink socket of one namespace; it must be made while that namespace is entered."""

    def __init__(self, node: str, protocol: int = socket.NETLINK_ROUTE) -> None:
        self.node = node
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, protocol)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER)
        self._socket.setsockopt(_SOL_NETLINK, _NETLINK_CAP_ACK, 1)
        self._socket.setsockopt(_SOL_NETLINK, _NETLINK_EXT_ACK, 1)
        self._socket.settimeout(_ACK_TIMEOUT)
        self._socket.bind((0, 0))
        self._batch = bytearray()
        self._sequence = 0
        #: Sequence numbers without acknowledgement, with what to say and which errors to accept.
        self._pending: dict[int, tuple[str, frozenset[int]]] = {}

    def queue(self, step: Step, far: int = -1) -> None:
        """Encode a step, for the next :meth:`flush`. ``far`` is a cable's other namespace."""
        kind, flags, message, accepted = _message(step, far)
        message["header"]["type"] = kind
        message["header"]["flags"] = flags | _NLM_F_REQUEST | _NLM_F_ACK
        message["header"]["sequence_number"] = self._number(step, accepted)
        message.encode()
        self._append(bytes(message.data))

    def queue_conntrack_flush(self, mark: int = 0) -> None:
        """Forget all tracked connections of this namespace (a NETLINK_NETFILTER socket), or those with a mark."""
        body = struct.pack("=BBH", socket.AF_UNSPEC, 0, 0)
        if mark:
            body += struct.pack("=HH", 8, _CTA_MARK) + struct.pack("!I", mark)
            body += struct.pack("=HH", 8, _CTA_MARK_MASK) + struct.pack("!I", 0xFFFF_FFFF)
        self.queue_raw(_CTNETLINK_DELETE, 0, body, "flush conntrack")

    def queue_raw(
        self, kind: int, flags: int, body: bytes, text: str, accepted: frozenset[int] = frozenset()
    ) -> None:
        """Queue a message that is encoded already; ``text`` names it in an error, ``accepted`` errors are none."""
        sequence = self._number(text, accepted)
        header = struct.pack("=IHHII", 16 + len(body), kind, flags | _NLM_F_REQUEST | _NLM_F_ACK, sequence, 0)
        self._append(header + body)

    def flush(self) -> None:
        """Send what is queued: after this call the kernel has done it, or has an error waiting."""
        if self._batch:
            data, self._batch = self._batch, bytearray()
            self._socket.send(data)

    def collect(self) -> None:
        """Read all acknowledgements. Raises CommandFailed for the first refusal, after reading all."""
        self.flush()
        failure: CommandFailed | None = None
        while self._pending:
            for error in self._read():
                failure = failure or error
        if failure:
            raise failure

    def dump(self, kind: int, body: bytes) -> list[bytes]:
        """The bodies of all messages that list something. Raises OSError as the kernel refuses."""
        self.collect()
        self._sequence += 1
        header = struct.pack("=IHHII", 16 + len(body), kind, _NLM_F_REQUEST | _NLM_F_DUMP, self._sequence, 0)
        self._socket.send(header + body)
        found: list[bytes] = []
        while True:
            data = self._socket.recv(1 << 20)
            offset = 0
            while offset + 16 <= len(data):
                length, answer, _flags, sequence = struct.unpack_from("=IHHI", data, offset)
                if sequence == self._sequence and answer == _NLMSG_DONE:
                    return found
                if sequence == self._sequence and answer == _NLMSG_ERROR:
                    (code,) = struct.unpack_from("=i", data, offset + 16)
                    raise OSError(-code, os.strerror(-code))
                if sequence == self._sequence:
                    found.append(data[offset + 16 : offset + length])
                offset += max(16, length + 3 & ~3)

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def _number(self, step: object, accepted: frozenset[int]) -> int:
        self._sequence += 1
        self._pending[self._sequence] = (str(step), accepted)
        return self._sequence

    def _append(self, data: bytes) -> None:
        if len(self._batch) + len(data) > _BATCH_BYTES:
            self.flush()
        self._batch += data + bytes(-len(data) % 4)

    def _read(self) -> list[CommandFailed]:
        try:
            data = self._socket.recv(1 << 20)
        except TimeoutError:
            lost = [text for text, _accepted in self._pending.values()]
            self._pending.clear()
            return [CommandFailed(("netlink", lost[0]), errno.ETIMEDOUT, "no acknowledgement", self.node)]
        errors = []
        offset = 0
        while offset + 16 <= len(data):
            length, kind, flags, sequence = struct.unpack_from("=IHHI", data, offset)
            if kind == _NLMSG_ERROR and sequence in self._pending:
                text, accepted = self._pending.pop(sequence)
                (code,) = struct.unpack_from("=i", data, offset + 16)
                if code and -code not in accepted:
                    reason = _reason(data[offset : offset + length], flags) or os.strerror(-code)
                    errors.append(CommandFailed(("netlink", text), -code, reason, self.node))
            offset += max(16, length + 3 & ~3)
        return errors


def set_qdisc(netlink: NetlinkSocket, step: SetQdisc) -> None:
    """Make an interface send as a condition says. Raises CommandFailed, LinkEngineError."""
    _send_qdiscs(netlink, qdisc_messages(step.index, step.condition, step.seed, fresh=step.fresh))


def set_sorting(netlink: NetlinkSocket, index: int) -> None:
    """Make the queues that tell an interface's packets from what keeps its link going. Raises CommandFailed."""
    _send_qdiscs(netlink, sorting_messages(index))


def _send_qdiscs(netlink: NetlinkSocket, messages: Iterable[QdiscMessage]) -> None:
    for message in messages:
        # A filter that is replaced would have to be named; each is made once.
        flags = _NLM_F_CREATE | (_NLM_F_REPLACE if message.kind == RTM_NEWQDISC else 0)
        netlink.queue_raw(message.kind, flags, message.body, message.text)
    netlink.collect()


def qdisc_exists(netlink: NetlinkSocket, index: int, kind: str) -> bool:
    """Whether this kernel knows a queueing discipline. It is asked to make one without options: a known one
    may refuse that (EINVAL), an unknown one is ENOENT."""
    name = kind.encode() + b"\0"
    attribute = struct.pack("=HH", 4 + len(name), _TCA_KIND) + name
    body = struct.pack("=BxxxiIII", socket.AF_UNSPEC, index, 0, ROOT, 0) + attribute
    try:
        netlink.queue_raw(RTM_NEWQDISC, _NLM_F_CREATE, body, f"make a {kind} qdisc")
        netlink.collect()
    except CommandFailed as failure:
        return failure.returncode != errno.ENOENT
    return True


def _reason(message: bytes, flags: int) -> str:
    """The kernel's own sentence (NLMSGERR_ATTR_MSG), where it gave one."""
    if not flags & _NLM_F_ACK_TLVS:
        return ""
    offset = 16 + 4 + 16  # header, error code, the request's header (its body is capped)
    while offset + 4 <= len(message):
        length, kind = struct.unpack_from("=HH", message, offset)
        if kind == _NLMSGERR_ATTR_MSG:
            return message[offset + 4 : offset + length].rstrip(b"\0").decode(errors="replace")
        offset += max(4, length + 3 & ~3)
    return ""


def _message(step: Step, far: int) -> tuple[int, int, Any, frozenset[int]]:
    match step:
        case AddBridge():
            return _RTM_NEWLINK, _NLM_F_CREATE | _NLM_F_EXCL, _bridge(step), frozenset()
        case AddCable():
            return _RTM_NEWLINK, _NLM_F_CREATE | _NLM_F_EXCL, _cable(step, far), frozenset()
        case SetLink():
            return _RTM_NEWLINK, 0, _link(step), frozenset()
        case AddAddress():
            return _RTM_NEWADDR, _NLM_F_CREATE | _NLM_F_REPLACE, _address(step), frozenset()
        case RemoveAddress():
            return _RTM_DELADDR, 0, _address(step), frozenset({errno.EADDRNOTAVAIL})
        case AddRoute():
            return _RTM_NEWROUTE, _NLM_F_CREATE | _NLM_F_EXCL, _route(step), frozenset({errno.EEXIST})
        case RemoveRoute():
            return _RTM_DELROUTE, 0, _route(step), frozenset({errno.ESRCH})


def _new(kind: Any) -> Any:
    """An empty message; pyroute2 has no types."""
    return kind()


def _bridge(step: AddBridge) -> Any:
    message = _new(ifinfmsg)
    message["index"] = step.index
    message["flags"] = message["change"] = _IFF_UP
    # Without snooping every multicast is flooded, as on a home switch; neighbour discovery needs no querier
    # then.
    options: list[list[Any]] = [["IFLA_BR_MCAST_SNOOPING", 0]]
    if not step.learns:
        options.append(["IFLA_BR_AGEING_TIME", 0])
    kind = {"attrs": [["IFLA_INFO_KIND", "bridge"], ["IFLA_INFO_DATA", {"attrs": options}]]}
    message["attrs"] = [["IFLA_IFNAME", step.name], ["IFLA_LINKINFO", kind]]
    return message


def _cable(step: AddCable, far: int) -> Any:
    message = _new(ifinfmsg)
    message["index"] = step.port
    message["flags"] = message["change"] = _IFF_UP
    peer = {
        "index": step.index,
        "attrs": [["IFLA_IFNAME", step.name], ["IFLA_ADDRESS", step.mac], ["IFLA_NET_NS_FD", far]],
    }
    kind = {"attrs": [["IFLA_INFO_KIND", "veth"], ["IFLA_INFO_DATA", {"attrs": [["VETH_INFO_PEER", peer]]}]]}
    message["attrs"] = [
        ["IFLA_IFNAME", step.port_name],
        ["IFLA_MASTER", step.bridge],
        ["IFLA_LINKINFO", kind],
    ]
    return message


def _link(step: SetLink) -> Any:
    message = _new(ifinfmsg)
    message["index"] = step.index
    if step.up is not None:
        message["flags"] = _IFF_UP if step.up else 0
        message["change"] = _IFF_UP
    attributes: list[list[Any]] = []
    if step.master is not None:
        attributes.append(["IFLA_MASTER", step.master])
    if step.mtu is not None:
        attributes.append(["IFLA_MTU", step.mtu])
    message["attrs"] = attributes
    return message


def _address(step: AddAddress | RemoveAddress) -> Any:
    message = _new(ifaddrmsg)
    v6 = ":" in step.ip
    message["family"] = socket.AF_INET6 if v6 else socket.AF_INET
    message["index"] = step.index
    message["prefixlen"] = step.prefixlen
    message["flags"] = _IFA_F_NODAD if v6 else 0
    message["attrs"] = [["IFA_LOCAL", step.ip], ["IFA_ADDRESS", step.ip]]
    return message


def _route(step: AddRoute | RemoveRoute) -> Any:
    destination, _, prefixlen = step.destination.partition("/")
    message = _new(rtmsg)
    message["family"] = socket.AF_INET6 if ":" in destination else socket.AF_INET
    message["dst_len"] = int(prefixlen)
    message["table"] = _RT_TABLE_MAIN
    message["proto"] = _RTPROT_STATIC
    message["type"] = _RTN_UNICAST
    attributes: list[list[Any]] = [["RTA_OIF", step.index]]
    if message["dst_len"]:
        attributes.append(["RTA_DST", destination])
    if step.gateway:
        attributes.append(["RTA_GATEWAY", step.gateway])
    elif message["family"] == socket.AF_INET:
        message["scope"] = _RT_SCOPE_LINK
    if step.metric:
        attributes.append(["RTA_PRIORITY", step.metric])
    if isinstance(step, AddRoute) and step.mtu:
        # Locked, or a router would not apply it to what it forwards.
        metrics = [["RTAX_LOCK", 1 << _RTAX_MTU], ["RTAX_MTU", step.mtu]]
        attributes.append(["RTA_METRICS", {"attrs": metrics}])
    message["attrs"] = attributes
    return message
