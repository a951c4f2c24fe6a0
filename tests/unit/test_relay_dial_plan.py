"""When a dial tries which address by which interface."""

from __future__ import annotations

import asyncio
from typing import cast

from iroh_py.io.relay_dial import (
    EAGER_PASSES,
    LATER_WAYS_AFTER,
    PASSES,
    STAGGER,
    RelayDialer,
    Upgraded,
    _Plan,
)
from iroh_py.network import Network
from iroh_py.proto.netstate import Ways
from iroh_py.proto.relay.machine import RelayMachine
from iroh_py.relay_url import RelayUrl

V4, V6 = "198.51.100.1", "2001:db8::1"


def attempts(plan: _Plan) -> list[tuple[float, str, int]]:
    """All attempts: when, where to, by which interface."""
    found = []
    while (at := plan.next_at()) is not None:
        step = plan.due(at)
        assert step is not None
        found.append((round(at, 6), step.ip, step.via))
    return found


def test_kernel_route_looks_well_others_follow_later_and_in_every_late_pass() -> None:
    """The other uplink may cost money: it is asked when no answer came."""
    tried = attempts(_Plan([(V4, Ways((0,), (3,)))], start=0.0, eager=False))
    assert [at for at, _, via in tried if via == 0] == list(PASSES)
    assert [at for at, _, via in tried if via == 3] == [LATER_WAYS_AFTER, *PASSES[1:]]


def test_kernel_route_is_dead_all_others_start_at_once() -> None:
    """Nothing is sent into the dead link."""
    tried = attempts(_Plan([(V4, Ways((3, 4)))], start=5.0, eager=True))
    assert tried[:2] == [(5.0, V4, 3), (5.0, V4, 4)]
    assert {via for _, _, via in tried} == {3, 4}
    assert len(tried) == 2 * len(EAGER_PASSES)


def test_families_take_turns_and_a_late_one_holds_no_pass_up() -> None:
    """Steps are made in the order of their times, whatever pass they are of."""
    tried = attempts(_Plan([(V4, Ways()), (V6, Ways())], start=0.0, eager=True))
    assert tried[:4] == [(0.0, V4, 0), (0.1, V4, 0), (STAGGER, V6, 0), (0.3, V4, 0)]
    assert [at for at, _, _ in tried] == sorted(at for at, _, _ in tried)


def test_failed_attempt_brings_the_next_of_its_pass_forward() -> None:
    """A refusal needs no waiting: the other interface is asked now."""
    plan = _Plan([(V4, Ways((0,), (3,)))], start=0.0, eager=False)
    first = plan.due(0.0)
    assert first is not None
    assert plan.due(0.01) is None
    plan.handle_failure(first.number)
    second = plan.due(0.01)
    assert second is not None
    assert (second.ip, second.via) == (V4, 3)
    plan.handle_failure(second.number)
    assert plan.due(0.02) is None


class _Names:
    """A network of which only the name server is used; it answers for where we are."""

    def __init__(self) -> None:
        self.ip = V4

    async def resolve(self, _host: str) -> list[str]:
        return [self.ip]


class _Moving(RelayDialer):
    """Attempts in the old network are never answered; in the new one there is no IPv4."""

    def __init__(self, names: _Names) -> None:
        super().__init__(
            cast(Network, names), RelayUrl.parse("https://relay.example"), ssl_context=None, new_machine=_none
        )
        self.moved = False
        self.begun = asyncio.Event()

    async def attempt(self, ip: str, via: int) -> Upgraded:
        self.begun.set()
        if not self.moved:
            await asyncio.Event().wait()
        if ip == V4:
            raise OSError("Network is unreachable")
        return cast(Upgraded, ip)


def _none() -> RelayMachine:
    raise AssertionError("no attempt gets as far as a machine")


async def test_move_during_a_dial_to_a_network_where_the_name_has_other_addresses() -> None:
    """Onto IPv6 with NAT64: the old address is no way, and the attempt that hangs does not hold the dial up."""
    names = _Names()
    dialer = _Moving(names)
    dialer._known, dialer._known_good = [V4], True  # an earlier dial was a success
    dial = asyncio.create_task(dialer.dial(eager=False))
    async with asyncio.timeout(5):
        await dialer.begun.wait()
        dialer.moved, names.ip = True, V6
        dialer.handle_network_change()
        assert cast(str, await dial) == V6
