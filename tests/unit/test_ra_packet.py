"""Router advertisements as bytes; scapy reads them."""

from __future__ import annotations

import ipaddress
from typing import Any

import pytest
from scapy.layers.inet6 import (
    ICMPv6ND_RA,
    ICMPv6NDOptMTU,
    ICMPv6NDOptPrefixInfo,
    ICMPv6NDOptRDNSS,
    ICMPv6NDOptSrcLLAddr,
)

from netns_fixtures import Ra, Slaac, TopologyError
from netns_fixtures.ra.config import secret_of
from netns_fixtures.ra.packet import Prefix, encode
from netns_fixtures.ra.sender import link_local

MAC = "02:00:00:00:03:ef"
NETWORK = ipaddress.IPv6Network("2001:db8:1::/64")


def test_advertisement_says_what_it_was_told_to() -> None:
    """Router, prefixes with their lifetimes, MTU, DNS servers, hardware address: as a dissector reads them."""
    config = Ra(router_lifetime=90, mtu=1400, rdnss=("2001:db8::53", "fd00::53"), preference="high")
    old = ipaddress.IPv6Network("2001:db8:9::/64")
    packet = ICMPv6ND_RA(encode(config, MAC, [Prefix(NETWORK, 60, 120), Prefix(old, 0, 30)]))
    assert (packet.routerlifetime, packet.chlim, packet.prf, packet.M, packet.O) == (90, 64, 1, 0, 0)
    assert packet[ICMPv6NDOptSrcLLAddr].lladdr == MAC
    assert packet[ICMPv6NDOptMTU].mtu == 1400
    prefixes: list[Any] = [packet[ICMPv6NDOptPrefixInfo], packet.getlayer(ICMPv6NDOptPrefixInfo, 2)]
    assert [(p.prefix, p.prefixlen, p.L, p.A) for p in prefixes] == [
        ("2001:db8:1::", 64, 1, 1),
        ("2001:db8:9::", 64, 1, 1),
    ]
    assert [(p.preferredlifetime, p.validlifetime) for p in prefixes] == [(60, 120), (0, 30)]
    assert (packet[ICMPv6NDOptRDNSS].dns, packet[ICMPv6NDOptRDNSS].lifetime) == (
        ["2001:db8::53", "fd00::53"],
        90,
    )


def test_withdrawal_has_lifetime_zero_and_keeps_the_prefixes() -> None:
    """Not a default router any more; the addresses stay. RFC 4191: no preference then."""
    packet = ICMPv6ND_RA(encode(Ra(preference="low"), MAC, [Prefix(NETWORK, 60, 120)], default_router=False))
    assert (packet.routerlifetime, packet.prf) == (0, 0)
    assert packet[ICMPv6NDOptPrefixInfo].validlifetime == 120
    assert ICMPv6NDOptMTU not in packet


def test_link_local_address_is_that_of_the_kernel() -> None:
    """The universal bit is flipped (RFC 4291, appendix A)."""
    assert str(link_local(MAC)) == "fe80::ff:fe00:3ef"


@pytest.mark.parametrize(
    "fields",
    [
        {"interval": 0.001},
        {"router_lifetime": -1},
        {"router_lifetime": 100_000},
        {"preferred_lifetime": 10, "valid_lifetime": 5},
        {"mtu": 1279},
        {"preference": "best"},
        {"rdnss": ("192.0.2.1",)},
        {"rdnss": ("ns",)},
    ],
)
def test_what_cannot_be_advertised_is_refused(fields: dict[str, Any]) -> None:
    """In words, when it is described."""
    with pytest.raises(TopologyError, match=next(iter(fields)).split("_")[0]):
        Ra(**fields)


def test_how_a_host_listens_is_checked_and_reproducible() -> None:
    """The same host name makes the same stable addresses, another name others."""
    with pytest.raises(TopologyError, match="10 s or more"):
        Slaac(temporary_lifetime=1)
    with pytest.raises(TopologyError, match="optimistic"):
        Slaac(dad="maybe")  # type: ignore[arg-type]  # what a file might say
    assert secret_of("laptop") == secret_of("laptop") != secret_of("phone")
    assert not any("stable_secret" in path for path, _value in Slaac(stable=False).sysctls("::1"))
