"""The few constants that ``lab.dns`` needs before dnspython is imported."""

from __future__ import annotations

#: What names without a dot are below, and what the hosts' programs search.
SEARCH = "lab"
#: The name server's own name, unless a node has it.
OWN_NAME = "dns"
#: Every name, for failures.
ALL = "*"
PORT = 53
#: Seconds: short, since tests change records and few programs can be told to forget.
DEFAULT_TTL = 1
#: The well-known prefix of NAT64s (RFC 6052 section 2.1).
WELL_KNOWN_PREFIX = "64:ff9b::/96"
