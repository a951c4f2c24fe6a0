"""The lab's name server: real DNS over UDP and TCP at the exchange, with records and failures set by tests.

``records`` and ``rdata`` hold what tests set, ``nodes`` what the lab itself has names for, ``zone`` finds
answers, ``dns64`` makes IPv6 addresses of IPv4 ones, ``faults`` spoils answers, ``answering`` turns bytes into
bytes; ``server`` is the thread that listens. ``stub`` is the client's side (``host.resolve``), ``files`` what
the programs of a host read (/etc/resolv.conf), ``handle`` is ``lab.dns``.

Nothing of it is imported before a lab's name server is used: dnspython takes a tenth of a second.
"""
