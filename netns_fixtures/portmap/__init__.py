"""Port mapping on lab routers: PCP (RFC 6887), NAT-PMP (RFC 6886), UPnP IGD, with real rules behind them.

``pcp``, ``natpmp``, ``ssdp``, ``soap`` are codecs; ``table`` holds what is mapped, ``behaviour`` how the router
answers, ``service`` decides; all of them pure. ``server`` is the process in the router's namespace that waits on
sockets and loads the rules of ``rules``; ``handle`` is what a test holds.
"""
