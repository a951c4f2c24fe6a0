"""What the kernel is told for each kind of node (sysctls), and why. Pure."""

from __future__ import annotations

HOST = (
    # No duplicate address detection: in a lab every address is ours, and it makes IPv6 unusable for a second.
    ("net/ipv6/conf/default/accept_dad", "0"),
    # Linux drops IPv6 addresses with the link; NetworkManager and systemd-networkd set this, too.
    ("net/ipv6/conf/all/keep_addr_on_down", "1"),
    # Addresses are configured, nobody sends router advertisements.
    ("net/ipv6/conf/default/accept_ra", "0"),
    ("net/ipv6/conf/default/router_solicitations", "0"),
    # A second address of a subnet survives the removal of the first.
    ("net/ipv4/conf/all/promote_secondaries", "1"),
    # Distributions differ in this one; a multi-homed host answers on the interface that it was asked on.
    ("net/ipv4/conf/all/rp_filter", "0"),
    ("net/ipv4/conf/default/rp_filter", "0"),
    # Programs in hosts run unprivileged where the test does.
    ("net/ipv4/ip_unprivileged_port_start", "0"),
)
#: For the interfaces to come; the loopback is there already, and keeps ::1 as on a host that was set up so.
V4_ONLY = (("net/ipv6/conf/default/disable_ipv6", "1"),)
ROUTER = (
    *HOST,
    ("net/ipv4/ip_forward", "1"),
    ("net/ipv6/conf/all/forwarding", "1"),
    # A lab's paths are what its description says, not what a helpful router suggests.
    ("net/ipv4/conf/all/send_redirects", "0"),
    ("net/ipv4/conf/default/send_redirects", "0"),
)
FABRIC = (
    # Frames between ports are not the packet filter's business, even where Docker has loaded br_netfilter.
    ("net/bridge/bridge-nf-call-iptables", "0"),
    ("net/bridge/bridge-nf-call-ip6tables", "0"),
    ("net/bridge/bridge-nf-call-arptables", "0"),
    ("net/ipv6/conf/default/disable_ipv6", "1"),
)
