"""What happens to a connection, and what is promised then (the table of issue B)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from healing.world import World

#: Seconds in which a loop reads what the kernel had before the change; below the 20 ms between two messages.
STALE = 0.005


@dataclass(frozen=True)
class Moment:
    """When the last verb of a change began and was done, and from when on a byte at the client counts."""

    began: float
    done: float
    since: float


Change = Callable[[World], Awaitable[Moment]]


@dataclass(frozen=True)
class Scenario:
    """A named change, what is promised (round trips, seconds), and what the issue says of 1.2.0 at 0 and 40 ms.

    ``change`` None: the connection itself is measured.
    """

    name: str
    change: Change | None
    trips: float
    extra: float
    direct: tuple[float, float] | None = (2.0, 2.0)
    nat: str = "moderate"
    client_uplinks: int = 1
    outage: bool = False
    issue: str = "-"


def verb(act: Callable[[World], None], *, wire: bool = False) -> Change:
    """A change that is one call; with ``wire`` the client's own link still delivers what is on it."""

    async def change(w: World) -> Moment:
        began = time.monotonic()
        await asyncio.to_thread(act, w)
        done = time.monotonic()
        return Moment(began, done, done + STALE + (w.rtt / 4 if wire else 0.0))

    return change


def gap(break_it: Callable[[World], None], seconds: float, mend: Callable[[World], None]) -> Change:
    """A change with an outage; measured from the beginning of its end."""

    async def change(w: World) -> Moment:
        await asyncio.to_thread(break_it, w)
        await asyncio.sleep(seconds)
        began = time.monotonic()
        await asyncio.to_thread(mend, w)
        return Moment(began, time.monotonic(), since=began)

    return change


def _unplug(w: World) -> None:
    w.client.link.down()
    w.client.replug(w.other_home)


def _both_move(w: World) -> None:
    w.client.replug(w.other_home)
    w.server.replug(w.other_office)


def _link_down(seconds: float) -> Change:
    return gap(lambda w: w.client.link.down(), seconds, lambda w: w.client.link.up())


def _relay_gone(seconds: float) -> Change:
    return gap(lambda w: w.relay.kill(), seconds, lambda w: w.relay.start())


SCENARIOS = [
    Scenario("first connection through the relay", None, 5, 0.1, (3.0, 1.0)),
    Scenario(
        "client moves to another NAT uplink",
        verb(lambda w: w.client.replug(w.other_home)),
        4,
        0.15,
        issue="340 / 2,100",
    ),
    Scenario(
        "client's first of two uplinks goes down",
        verb(lambda w: w.client.interface("wlan0").down()),
        4,
        0.15,
        client_uplinks=2,
        issue="340 / 2,100",
    ),
    Scenario(
        "new uplink comes up 1 s later",
        gap(_unplug, 1.0, lambda w: w.client.link.up()),
        4,
        0.15,
        issue="4,500",
    ),
    Scenario("both sides renumber at once", verb(_both_move), 5, 0.15, issue="340 / 2,000"),
    Scenario(
        "client link down 10 s", _link_down(10), 4, 0.2, outage=True, issue="8,800 / 11,000, 2 of 5 die"
    ),
    Scenario(
        "client link down 30 s", _link_down(30), 4, 0.2, outage=True, issue="8,800 / 11,000, 2 of 5 die"
    ),
    Scenario(
        "silent NAT rebind while sending",
        verb(lambda w: w.home.nat.rebind(), wire=True),
        2,
        0.1,
        issue="20 to 9,000",
    ),
    *(
        Scenario(
            f"relay gone for {seconds} s, both strict",
            _relay_gone(seconds),
            3,
            1.0,
            None,
            nat="strict",
            outage=True,
            issue="several s",
        )
        for seconds in (2, 10)
    ),
]
