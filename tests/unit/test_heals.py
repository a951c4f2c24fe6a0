"""``heals``: what it accepts, what it measures, what it says."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest

import iroh_py
from iroh_py.testing import SimNet
from pytest_iroh import DidNotHeal, Endpoints, Recorder, assertion
from pytest_iroh.assertion import heals
from pytest_iroh.timeline import SimChange, now


class Lab:
    """A lab in which something happens when it is told."""

    name, link_engine, seed = "lab", "veth", 8723

    def __init__(self) -> None:
        self._callbacks: list[Callable[[Any], None]] = []
        self.events: list[str] = []

    def on_event(self, callback: Callable[[Any], None]) -> Callable[[], None]:
        """As a lab's."""
        self._callbacks.append(callback)
        return lambda: self._callbacks.remove(callback)

    def happen(self, text: str, kind: str = "link_down", began: float | None = None) -> None:
        """Report an event that ends now; it began then, or now."""
        self.events.append(text)
        for callback in self._callbacks:
            callback(SimChange(began or now(), "laptop", text, kind))


@pytest.fixture
def net_lab(recorder: Recorder) -> Lab:
    """A lab on the timeline of this test."""
    lab = Lab()
    recorder.watch_lab(lab)
    return lab


# --- plain callables ---


def test_service_that_comes_back_has_healed(net_lab: Lab) -> None:
    """The time from the change to the first answer to a later call is measured."""
    up = threading.Event()
    up.set()

    with heals(up.is_set, within=5, interval=0.001) as healing:
        up.clear()
        net_lab.happen("laptop eth0 went down")
        threading.Timer(0.05, up.set).start()

    assert healing.healed
    assert healing.seconds is not None
    assert 0.03 < healing.seconds < 5
    assert healing.gap is not None
    assert healing.gap >= healing.seconds * 0.9
    assert (healing.cause, healing.link_engine, healing.seed) == ("laptop eth0 went down", "veth", 8723)


def test_last_change_in_the_block_counts(net_lab: Lab) -> None:
    """Healing is measured from the last change, and what is no change of the network does not count."""
    with heals(lambda: True, within=5, interval=0.001) as healing:
        net_lab.happen("laptop eth0 went down")
        net_lab.happen("laptop eth0 went up", "link_up")
        net_lab.happen("ping ended", "process_ended")

    assert healing.cause == "laptop eth0 went up"


def test_message_sent_during_the_verb_does_not_count(net_lab: Lab) -> None:
    """While the kernel works, a message may still go the old way: only later ones prove something."""
    asked: list[float] = []

    with heals(lambda: asked.append(now()), within=5, interval=0.001) as healing:
        began = now()
        count = len(asked)
        while len(asked) < count + 5:
            threading.Event().wait(0.001)
        net_lab.happen("laptop eth0 replugged", began=began)
        done = now()

    assert healing.changed_at == began
    assert healing.seconds is not None
    assert began + healing.seconds > done
    assert healing.first_byte is not None
    assert began + healing.first_byte < done


def test_changes_of_another_lab_do_not_count(net_lab: Lab) -> None:
    """With lab= only that lab's events are changes."""
    other = Lab()

    with heals(lambda: True, within=5, interval=0.001, lab=other) as healing:
        other.happen("other went down")
        net_lab.happen("laptop eth0 went down")

    assert healing.cause == "other went down"


def test_service_that_stays_away_fails_with_the_story(net_lab: Lab) -> None:
    """The message has the change, the deadline, the reason and the timeline."""
    up = threading.Event()
    up.set()

    def ask() -> None:
        if not up.is_set():
            raise ConnectionRefusedError("port 9000")

    with pytest.raises(DidNotHeal) as caught, heals(ask, within=0.1, interval=0.001) as healing:  # noqa: PT012
        up.clear()
        net_lab.happen("laptop eth0 went down")

    text = str(caught.value)
    assert text.startswith(
        "heals: no byte within 0.1 s after laptop eth0 went down   (veth engine, seed 8723)\n"
    )
    assert "the last call failed with ConnectionRefusedError: port 9000" in text
    assert "+0.000  lab      laptop eth0 went down" in text
    assert not healing.healed
    assert healing.seconds is None


def test_hanging_callable_fails_at_the_deadline(net_lab: Lab) -> None:
    """A call that never returns is a service that does not answer."""
    hang, release = threading.Event(), threading.Event()

    def ask() -> None:
        if hang.is_set():
            release.wait(10)

    watch = heals(ask, within=0.1, interval=0.001)
    watch.__enter__()
    hang.set()
    net_lab.happen("laptop eth0 went down")
    threading.Timer(0.2, release.set).start()

    with pytest.raises(DidNotHeal, match=r"the call begun .* s ago has not returned"):
        watch.__exit__(None, None, None)


def test_answer_after_the_deadline_is_too_late(net_lab: Lab) -> None:
    """An answer that comes while the block still runs, but too late, does not heal."""
    up = threading.Event()
    up.set()

    back = threading.Semaphore(0)

    def ask() -> bool:
        if up.is_set() and net_lab.events:
            back.release()
        return up.is_set()

    watch = heals(ask, within=0.05, interval=0.001)
    watch.__enter__()
    up.clear()
    net_lab.happen("laptop eth0 went down")
    threading.Timer(0.1, up.set).start()
    assert all(back.acquire(timeout=5) for _ in range(2))

    with pytest.raises(DidNotHeal, match=r"s until the first answer, more than 0\.05 s, after laptop"):
        watch.__exit__(None, None, None)


def test_dead_service_fails_before_the_change(monkeypatch: pytest.MonkeyPatch) -> None:
    """What does not work before the change would prove nothing after it."""
    monkeypatch.setattr(assertion, "START_TIMEOUT", 0.05)

    def ask() -> None:
        raise ConnectionRefusedError("port 9000")

    with pytest.raises(DidNotHeal, match="does not even work before the change: the last call failed"):
        heals(ask, interval=0.001).__enter__()


def test_error_in_the_block_is_the_error() -> None:
    """What the block raises is raised, and the pulse ends."""
    before = threading.active_count()

    with pytest.raises(KeyError, match="mine"), heals(lambda: True, interval=0.001):
        raise KeyError("mine")

    assert threading.active_count() == before


# --- misuse ---


#: Mistakes that a type checker would see.
NUMBER: Any = 3
TEXT: Any = "5"


async def _answer() -> bool:
    return True


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: heals(NUMBER), "wants a Connection or a callable"),
        (lambda: heals(lambda: True, within=TEXT), "within is a number of seconds, not '5'"),
        (lambda: heals(lambda: True, within=0), "within is a positive number"),
        (lambda: heals(lambda: True, within=float("inf")), "within is a positive number"),
        (lambda: heals(lambda: True, interval=-1), "interval is a positive number"),
        (lambda: heals(_answer).__enter__(), "async callable needs an event loop"),
    ],
    ids=["number", "text", "zero", "infinite", "negative", "async"],
)
def test_misuse_is_one_clear_error(make: Callable[[], Any], words: str) -> None:
    """What heals() cannot watch over is refused before anything starts."""
    with pytest.raises((TypeError, ValueError), match=words):
        make()


def test_called_function_is_refused() -> None:
    """The result of an async function is not the function."""
    coroutine = _answer()

    with pytest.raises(TypeError, match="give it the function itself"):
        heals(coroutine)  # type: ignore[arg-type]  # the mistake under test
    coroutine.close()


def test_one_object_watches_over_one_block() -> None:
    """A used heals() cannot be used again."""
    watch = heals(lambda: True, interval=0.001)
    with watch:
        pass

    with pytest.raises(TypeError, match="write a new one"):
        watch.__enter__()


@pytest.mark.virtual_time
async def test_endpoint_is_refused(sim: SimNet, endpoints: Endpoints) -> None:
    """An endpoint has no payload; its connections do."""
    endpoint = await endpoints.bind(sim.host("laptop"))

    with pytest.raises(TypeError, match="not an endpoint"):
        heals(endpoint)  # type: ignore[arg-type]  # the mistake under test


@pytest.mark.virtual_time
async def test_connection_needs_async_with(sim: SimNet, endpoints: Endpoints) -> None:
    """The wrong kind of with says which one is right."""
    async with endpoints.connect(sim.host("laptop"), sim.host("server")) as connection:
        with pytest.raises(TypeError, match="write 'async with heals"):
            heals(connection).__enter__()


# --- connections, in a simulated network ---


async def _pair(sim: SimNet, endpoints: Endpoints, delay: float) -> iroh_py.Connection:
    laptop, server = sim.host("laptop"), sim.host("server")
    sim.link(laptop, delay=delay)
    return await endpoints.connect(laptop, server).__aenter__()


@pytest.mark.virtual_time
async def test_echo_under_way_does_not_heal(sim: SimNet, endpoints: Endpoints) -> None:
    """An echo that was in flight at the change is a first byte, but no healing."""
    connection = await _pair(sim, endpoints, delay=0.1)

    async with heals(connection, within=5) as healing:
        await asyncio.sleep(1)
        sim.link(sim.hosts["laptop"], loss=0.0)

    assert healing.first_byte is not None
    assert healing.seconds is not None
    assert healing.first_byte < 0.1
    assert 0.2 <= healing.seconds < 0.25


@pytest.mark.virtual_time
async def test_echo_under_way_is_named_in_the_failure(sim: SimNet, endpoints: Endpoints) -> None:
    """When only bytes from before the change came in, the failure says so."""
    connection = await _pair(sim, endpoints, delay=0.1)

    with pytest.raises(DidNotHeal) as caught:  # noqa: PT012 - the block is what heals() judges
        async with heals(connection, within=1.5):
            await asyncio.sleep(1)
            sim.link(sim.hosts["laptop"], direction="up", loss=1.0)

    assert "no round trip within 1.5 s after laptop link loss=1.0" in str(caught.value)
    assert "only bytes under way before came in" in str(caught.value)


@pytest.mark.virtual_time
async def test_moved_connection_heals_and_loses_nothing(sim: SimNet, endpoints: Endpoints) -> None:
    """A laptop that changes its network is back within a round trip, every byte included."""
    home, hotspot = sim.nat("home", "moderate"), sim.nat("hotspot", "cgnat")
    laptop = sim.host("laptop", nat=home)
    sim.link(laptop, delay=0.02)
    async with endpoints.connect(laptop, sim.host("server")) as connection, heals(connection) as healing:
        laptop.interface().replug(hotspot)
        await asyncio.sleep(1)

    assert healing.direct
    assert healing.bytes_lost == 0
    assert healing.seconds is not None
    assert healing.seconds < 0.2
    assert healing.path_before != healing.path_after
    assert healing.as_dict()["heal_ms"] == round(healing.seconds * 1000, 1)


@pytest.mark.virtual_time
async def test_closed_connection_fails_with_the_reason(sim: SimNet, endpoints: Endpoints) -> None:
    """A connection that ends inside the block has not healed, and the failure says how it ended."""
    connection = await _pair(sim, endpoints, delay=0.01)

    with pytest.raises(DidNotHeal, match=r"heals: the connection ended: .*closed by this side, after"):
        async with heals(connection):
            connection.close()


@pytest.mark.virtual_time
async def test_peer_that_does_not_echo_is_no_pulse(sim: SimNet, endpoints: Endpoints) -> None:
    """A peer that ends the stream is found out at once."""
    server = await endpoints.bind(sim.host("server"))
    client = await endpoints.bind(sim.host("laptop"))

    async def finish_streams() -> None:
        connection = await server.accept()
        send, _recv = await connection.accept_bi()
        send.finish()

    service = asyncio.create_task(finish_streams())
    connection = await client.connect(server.node_addr, "iroh-py/echo/0")

    with pytest.raises(DidNotHeal, match="the peer ended the stream after 0 messages"):
        async with heals(connection):
            pass
    await service


@pytest.mark.virtual_time
async def test_async_callable_is_watched_over(sim: SimNet, recorder: Recorder) -> None:
    """An async callable heals like a plain one, under virtual time as well."""
    up = asyncio.Event()
    up.set()

    async def ask() -> bool:
        return up.is_set()

    async with heals(ask, within=30) as healing:
        up.clear()
        sim.link(sim.host("laptop"), delay=0.1)
        asyncio.get_running_loop().call_later(20, up.set)

    assert healing.seconds == pytest.approx(20, abs=0.05)
