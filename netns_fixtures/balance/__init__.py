"""Load balancers on lab routers: one address and port, several hosts behind it.

``rules`` is what they are and the nftables text that does it (pure), ``handle`` what a test holds.
"""
