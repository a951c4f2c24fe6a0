"""How long an interface waits for its neighbours: the retry timers of ARP and neighbour discovery.

The kernel repeats an unanswered question after 1 s (RFC 4861 section 10, RETRANS_TIMER). A link that just came up
loses the first one now and then, and a test would then measure that timer instead of the program under test. So in a
lab the question is repeated soon, and for as long as before in all. Set by rtnetlink (RTM_SETNEIGHTBL), since the
sysctls are not there in a user namespace.
"""

from __future__ import annotations

import socket
import struct

from netns_fixtures.agent.netlink import NetlinkSocket

#: Seconds between two questions, and how many: 3 s in all, as the kernel's three questions of 1 s.
RETRY_INTERVAL = 0.05
QUESTIONS = 60

# <linux/neighbour.h>
_RTM_SETNEIGHTBL = 67
_NDTA_NAME, _NDTA_PARMS = 1, 6
_NDTPA_IFINDEX, _NDTPA_RETRANS_TIME, _NDTPA_MCAST_PROBES = 1, 5, 11
_NLA_F_NESTED = 0x8000
_TABLES = ((socket.AF_INET, b"arp_cache\0"), (socket.AF_INET6, b"ndisc_cache\0"))


def queue_patience(netlink: NetlinkSocket, index: int) -> None:
    """Queue the timers of one interface, for both families."""
    parameters = (
        _attribute(_NDTPA_IFINDEX, struct.pack("=I", index))
        + _attribute(_NDTPA_RETRANS_TIME, struct.pack("=Q", int(RETRY_INTERVAL * 1000)))
        + _attribute(_NDTPA_MCAST_PROBES, struct.pack("=I", QUESTIONS))
    )
    for family, table in _TABLES:
        body = struct.pack("=BxH", family, 0)
        body += _attribute(_NDTA_NAME, table) + _attribute(_NDTA_PARMS | _NLA_F_NESTED, parameters)
        netlink.queue_raw(_RTM_SETNEIGHTBL, 0, body, f"set the timers of {table[:-1].decode()} at {index}")


def _attribute(kind: int, value: bytes) -> bytes:
    return struct.pack("=HH", 4 + len(value), kind) + value + bytes(-len(value) % 4)
