"""The queueing disciplines that impair what an interface sends, as netlink messages. Pure bytes.

::

    1: prio ── 1:1, IP ── 2: tbf ── 3: netem ── 4: tbf
            └─ 1:2, the rest: a plain queue

``prio`` and its filters send ARP, IGMP, MLD and neighbour discovery past all impairments, as the wire does: a link that
loses everything is silent, and its ends still know each other. The first tbf limits nothing; it takes apart frames that
the kernel joined (GSO), which netem would lose or delay as one. Then chance and delay, then the rate with its queue.

All is made once; later conditions change netem and the last tbf where they stand, so that no frame under way is lost.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass

from netns_fixtures.link import LinkCondition
from netns_fixtures.netem import (
    MIN_BURST,
    TbfParameters,
    attribute,
    encode_netem,
    encode_tbf,
    netem_parameters,
    tbf_parameters,
)

# <linux/rtnetlink.h>
RTM_NEWQDISC, RTM_NEWTFILTER = 36, 44
_TCA_KIND, _TCA_OPTIONS = 1, 2
# <linux/pkt_cls.h>
_U32_CLASSID, _U32_SEL, _U32_TERMINAL = 1, 5, 1
# <linux/if_ether.h>
_ETH_P_IP, _ETH_P_IPV6 = 0x0800, 0x86DD

ROOT = 0xFFFF_FFFF
_PRIO, _SPLIT, _NETEM, _TBF = 0x0001_0000, 0x0002_0000, 0x0003_0000, 0x0004_0000
_IMPAIRED, _SPARED = _PRIO | 1, _PRIO | 2
#: Two bands, and by default the second.
_PRIO_OPTIONS = struct.pack("=i16B", 2, *(1,) * 16)
#: So fast (bytes per second) that the bucket is full again after a nanosecond; but no frame larger than it passes
#: whole. No queue of its own: netem stands in its place.
_SPLITTER = TbfParameters(rate=10**12, burst=MIN_BURST, limit=0)

#: Words of a header, (offset, mask, value) each; and whether what has them is impaired. The first that fits decides.
_Keys = tuple[tuple[int, int, int], ...]
_ICMPV6 = (4, 0xFF00, 58 << 8)
_RULES4: tuple[tuple[_Keys, bool], ...] = (
    (((8, 0xFF_0000, 2 << 16),), False),  # IGMP
    ((), True),
)
_RULES6: tuple[tuple[_Keys, bool], ...] = (
    *(
        ((_ICMPV6, (40, 0xFE00_0000, kind << 24)), False) for kind in (130, 132, 134, 136)
    ),  # MLD, ND: 130 to 137
    ((_ICMPV6, (40, 0xFF00_0000, 143 << 24)), False),  # MLDv2
    (((4, 0xFF00, 0), (40, 0xFF00_0000, 58 << 24)), False),  # MLD behind a hop-by-hop router alert
    ((), True),
)


@dataclass(frozen=True, slots=True)
class QdiscMessage:
    """A netlink message: its type, what follows the header, and its name in an error."""

    kind: int
    body: bytes
    text: str


def qdisc_messages(index: int, condition: LinkCondition, seed: int, *, fresh: bool) -> list[QdiscMessage]:
    """What makes an interface send like this; ``fresh``: for the first time. Raises LinkEngineError."""
    netem = encode_netem(netem_parameters(condition, seed))
    tbf = encode_tbf(tbf_parameters(condition))
    base = [*sorting_messages(index), _tbf(index, _SPLIT, _IMPAIRED, encode_tbf(_SPLITTER))] if fresh else []
    return [
        *base,
        _qdisc(index, _NETEM, _SPLIT | 1, "netem", netem),
        _tbf(index, _TBF, _NETEM | 1, tbf),
    ]


def sorting_messages(index: int) -> list[QdiscMessage]:
    """The prio at the root, and its filters."""
    return [_qdisc(index, _PRIO, ROOT, "prio", _PRIO_OPTIONS), *_filters(index)]


def _filters(index: int) -> Iterator[QdiscMessage]:
    for rank, (protocol, rules) in enumerate(((_ETH_P_IP, _RULES4), (_ETH_P_IPV6, _RULES6)), 1):
        for keys, impaired in rules:
            info = rank << 16 | socket.htons(protocol)
            options = attribute(_U32_CLASSID, struct.pack("=I", _IMPAIRED if impaired else _SPARED))
            options += attribute(_U32_SEL, _selector(keys))
            body = _tcmsg(index, 0, _PRIO, info) + _named("u32", options)
            yield QdiscMessage(RTM_NEWTFILTER, body, "make a u32 filter")


def _selector(keys: _Keys) -> bytes:
    """``struct tc_u32_sel``: words at offsets from the network header; none fits every packet."""
    keys = keys or ((0, 0, 0),)
    head = struct.pack("=BBBxHHhhI", _U32_TERMINAL, 0, len(keys), 0, 0, 0, 0, 0)
    return head + b"".join(
        struct.pack(">II", mask, value) + struct.pack("=ii", offset, 0) for offset, mask, value in keys
    )


def _tbf(index: int, handle: int, parent: int, options: bytes) -> QdiscMessage:
    return _qdisc(index, handle, parent, "tbf", options)


def _qdisc(index: int, handle: int, parent: int, name: str, options: bytes) -> QdiscMessage:
    body = _tcmsg(index, handle, parent, 0) + _named(name, options)
    return QdiscMessage(RTM_NEWQDISC, body, f"make a {name} qdisc")


def _named(name: str, options: bytes) -> bytes:
    return attribute(_TCA_KIND, name.encode() + b"\0") + attribute(_TCA_OPTIONS, options)


def _tcmsg(index: int, handle: int, parent: int, info: int) -> bytes:
    return struct.pack("=BxxxiIII", socket.AF_UNSPEC, index, handle, parent, info)
