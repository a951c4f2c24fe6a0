"""Router advertisements (RFC 4861) and what hosts make of them (SLAAC, RFC 4862), with real packets.

A router's advertisement is described (``config``), encoded (``packet``) and handed to the lab agent, whose loop
sends it: at once, when a host solicits, and periodically (``sender``). Hosts with ``slaac=True`` are configured by
their own kernel; ``kernel`` reads and awaits what it did. ``handle`` is ``router.ra``.
"""
