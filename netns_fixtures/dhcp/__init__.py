"""DHCPv4 (RFC 2131, RFC 2132) with real packets: servers on lab routers, clients on lab hosts.

``packet``, ``options`` and ``frame`` are codecs; ``leases``, ``server`` and ``client`` are the machines, sans-IO:
packets and the time come in, actions come out. ``loop`` is the agent's side: sockets of all labs, served by the
agent's own loop, and ``applying`` what a lease does to an interface. ``plan`` is the description, ``news`` and
``waiting`` the test process's side; ``handle`` and ``host_handle`` are ``router.dhcp`` and ``host.dhcp``.
"""
