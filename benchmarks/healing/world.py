"""The lab of one run: two peers behind NATs, a relay near, and a second uplink for each peer."""

from __future__ import annotations

from dataclasses import dataclass

from netns_fixtures import Host, Lab, Router
from pytest_iroh.relays import Relays, RunningRelay


@dataclass
class World:
    """One lab with a client, a server, a relay, and a second uplink for each peer."""

    lab: Lab
    client: Host
    server: Host
    home: Router
    other_home: Router
    other_office: Router
    relays: Relays
    relay: RunningRelay
    rtt: float

    def close(self) -> None:
        """End the relay, then the lab."""
        self.relays.close()
        self.lab.close()


def build(nat: str, client_uplinks: int, rtt: float) -> World:
    """A lab with a running relay for one run; RTT in seconds."""
    lab = Lab(name="bench")
    names = ("home", "other_home", "office", "other_office")
    home, other_home, office, other_office = (
        lab.router(name.replace("_", "-"), nat=nat, ipv6=False) for name in names
    )
    near = lab.host("relay", uplink=lab.router("dc", ipv6=False))
    uplinks = {"wlan0": home} if client_uplinks == 1 else {"wlan0": home, "wwan0": other_home}
    client = lab.host("client", uplink=uplinks, delay=rtt / 4)
    server = lab.host("server", uplink=office, delay=rtt / 4)
    relays = Relays()
    try:
        lab.build()
        relay = relays(near)
    except BaseException:
        relays.close()
        lab.close()
        raise
    return World(lab, client, server, home, other_home, other_office, relays, relay, rtt)
