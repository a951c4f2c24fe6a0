"""What happened to a lease, in a person's words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from netns_fixtures.dhcp.steps import DhcpNews

if TYPE_CHECKING:
    from netns_fixtures.plug import Plug


def sentence(plug: Plug, news: DhcpNews, owners: Mapping[str, str]) -> str:
    """What follows the node's name. ``owners``: interfaces by hardware address."""
    ip, lease = news.data.get("ip", ""), news.lease
    if not news.state:
        who = owners.get(news.data.get("mac", ""), news.data.get("mac", "somebody"))
        match news.kind:
            case "nak":
                return f"refuses {ip} to {who} (DHCP NAK): {news.data['why']}"
            case "declined":
                return f"keeps {ip} from everybody: {who} says that it is taken"
            case "exhausted":
                return f"has no address left for {who}"
        return f"failed at DHCP: {news.data.get('why', '')}"
    said = {
        "nak": f"was refused {ip}: {news.data.get('why') or 'no reason given'}",
        "rebinding": f"could not renew {ip}, asks any server now",
        "expired": f"lost {ip}: its lease ended",
        "released": f"gave {ip} back",
        "declined": f"declined {ip}: somebody else has it",
        "unconfirmed": f"gave {ip} up: no server answers here",
        "failed": f"failed at DHCP: {news.data.get('why', '')}",
    }
    if lease is not None:
        time = "for ever" if lease.seconds == float("inf") else f"for {lease.seconds:g} s"
        said |= {
            "leased": f"leased {lease} from {lease.server} {time}",
            "renewed": f"keeps {lease} of {lease.server} {time}",
        }
    return f"{plug.name} {said[news.kind]}"
