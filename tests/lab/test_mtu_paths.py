"""A transfer goes on when the path's MTU falls, whether or not a router says so, and no byte is lost."""

from __future__ import annotations

import pytest
from transfer_kit import Transfer

from netns_fixtures import Firewall, Host, Lab, Router
from pytest_iroh import Endpoints

BOTH_ROLES = pytest.mark.parametrize("narrow", ["client", "server"])
#: Each role, each family, each kind of router once.
ROLES_AND_FAMILIES = pytest.mark.parametrize(
    ("narrow", "family", "told"),
    [
        ("client", "v4", True),
        ("server", "v6", False),
    ],
    ids=["client-v4-icmp", "server-v6-black-hole"],
)
#: What a path is tried with (EndpointConfig.max_mtu), and the least that every path carries.
LARGE, BASE = 1452, 1200
#: Bytes that come back before the change, and after it.
SOME = 200_000
#: Seconds for them after the path shrank; it takes one or two, where the machine has nothing else to do.
WITHIN = 20.0


class Shrinking:
    """A client and a server; the one that was asked for is behind a router that will carry less."""

    def __init__(self, lab: Lab, narrow: str, family: str | None = None) -> None:
        # There is no relay by which a server behind a NAT could be reached.
        nat = "moderate" if narrow == "client" else "none"
        self.router: Router = lab.router("narrow", nat=nat, family=family)
        plain = lab.router("plain", delay=0.005, family=family)
        self.hosts: dict[str, Host] = {}
        for role in ("client", "server"):
            self.hosts[role] = lab.host(role, uplink=self.router if role == narrow else plain)


@ROLES_AND_FAMILIES
async def test_mtu_falls_mid_transfer_data_flows_on(
    lab: Lab, endpoints: Endpoints, narrow: str, family: str, told: bool
) -> None:
    """From 1500 to 1280 bytes under a running transfer, with and without ICMP, on either side."""
    net = Shrinking(lab, narrow, family)
    async with endpoints.connect(net.hosts["client"], net.hosts["server"]) as connection:
        async with Transfer(connection) as transfer:
            await transfer.until(lambda: connection.stats().mtu == LARGE, WITHIN, "the path was not tried")
            await transfer.more(SOME, WITHIN)
            if not told:
                net.router.pmtu_blackhole()
            net.router.uplink.mtu(1280)
            await transfer.more(SOME, WITHIN)
            assert connection.stats().mtu == BASE
        assert not connection.path.relayed


@BOTH_ROLES
async def test_large_packets_vanish_mid_transfer_data_flows_on(
    lab: Lab, endpoints: Endpoints, narrow: str
) -> None:
    """A firewall that drops by size, in one direction only."""
    net = Shrinking(lab, narrow)
    async with endpoints.connect(net.hosts["client"], net.hosts["server"]) as connection:
        async with Transfer(connection) as transfer:
            await transfer.until(lambda: connection.stats().mtu == LARGE, WITHIN, "the path was not tried")
            await transfer.more(SOME, WITHIN)
            net.router.firewall.set(Firewall.longer_than(1300, "out"))
            await transfer.more(SOME, WITHIN)
            net.router.firewall.clear()
            await transfer.more(SOME, WITHIN)
