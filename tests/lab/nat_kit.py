"""A NAT between two clients and two servers, for tests of NATs."""

from __future__ import annotations

import itertools
import select
import time
from collections.abc import Callable

from udp_kit import PATIENCE

from netns_fixtures import Host, Lab, NatConfig, Router
from netns_fixtures.nat_probe import NatBehaviour, behaviour

_numbers = itertools.count()


def until(condition: Callable[[], bool]) -> None:
    """Wait for what the kernel tells nobody about. Raises TimeoutError."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError("that never came true")
        select.select([], [], [], 0.01)


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
