"""A NAT between two clients and two servers, for tests of NATs."""

from __future__ import annotations

import itertools

from netns_fixtures import Host, Lab, NatConfig, Router
from netns_fixtures.nat_probe import NatBehaviour, behaviour

_numbers = itertools.count()


class World:
    """Two clients behind one NAT, two servers outside; several worlds fit into one lab."""

    def __init__(self, lab: Lab, nat: str | NatConfig, upstream: Router | None = None) -> None:
        number = next(_numbers)
        self.router = lab.router(f"home{number}", nat=nat, upstream=upstream)
        centre = lab.routers.get("centre") or lab.router("centre")
        self.first, self.second = (
            lab.host(f"{name}{number}", uplink=self.router) for name in ("first", "second")
        )
        self.servers: list[Host] = [
            lab.hosts.get(f"server{n}") or lab.host(f"server{n}", uplink=centre) for n in range(2)
        ]

    def discover(self) -> NatBehaviour:
        return behaviour(self.first, self.servers, self.second)
