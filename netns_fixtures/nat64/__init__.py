"""NAT64 (RFC 6146): hosts without IPv4 reach servers that have nothing else.

::

      LAN (IPv6)        TUN "nat64"                      WAN (IPv4)
    2001:db8:1::a ---> | 64:ff9b::/96 | translator ---> 100.127.0.1 ---> kernel NAT ---> 203.0.113.10
                                      (a process)       (one per client)

The kernel has no NAT64, but a NAT of IPv4. So a process at a TUN of the router translates packet by packet
between IPv6 and IPv4 (RFC 7915, ``translate``), giving each IPv6 client an IPv4 address of its own out of a pool
(``clients``), and the router's ordinary NAT rules do the rest: ports, mapping, filtering, timeouts.
"""
