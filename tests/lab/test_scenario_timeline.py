"""Timelines on a real lab: each step at its time, told as an event, and what happens when one fails."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator

import pytest

from netns_fixtures import Lab, LabError, LabEvent, Scenario, TimelineError, TopologyError

pytestmark = pytest.mark.requires_netns
#: A busy machine may wake a thread late; a step is never early.
LATE = 1.0


@pytest.fixture
def net() -> Iterator[Lab]:
    with Lab("timeline", seed=7) as lab:
        lab.host("laptop", uplink=lab.router("home", nat="moderate"))
        lab.router("hotspot", nat="moderate")
        yield lab


def test_steps_happen_at_their_times_and_are_events(net: Lab) -> None:
    """No step is early; times do not drift, and each is an event of the lab with the verb's sentence."""
    laptop, hotspot = net.hosts["laptop"], net.routers["hotspot"]
    timeline = net.timeline().every(0.02, net.routers["home"].nat.flush, times=5)
    timeline.at(0.05, laptop.link.down).at(0.08, laptop.link.up).at(0.11, laptop.replug, hotspot)
    done = timeline.run()
    assert [step.due for step in done] == pytest.approx([0.02, 0.04, 0.05, 0.06, 0.08, 0.08, 0.10, 0.11])
    assert all(step.due <= step.began < step.due + LATE for step in done)
    kinds = [event.kind for event in net.events if event.kind != "lab_built"]
    assert [k for k in kinds if k != "nat_flush"] == ["link_down", "link_up", "replugged"]
    assert laptop.link.router is hotspot


def test_block_goes_on_while_the_timeline_runs(net: Lab) -> None:
    """``with timeline.running()`` does not wait at its beginning, and waits for the last step at its end."""
    laptop = net.hosts["laptop"]
    went_down = threading.Event()
    net.on_event(lambda event: went_down.set() if event.kind == "link_down" else None)
    timeline = net.timeline().at(0.01, laptop.link.down).at(0.05, laptop.link.up)
    with timeline.running() as playing:
        assert went_down.wait(10)
    assert laptop.link.admin_up
    assert playing.over
    assert [step.text for step in playing.done] == ["laptop.eth0.down()", "laptop.eth0.up()"]
    timeline.run()  # again


def test_failing_step_ends_the_timeline_with_one_error(net: Lab) -> None:
    """The error names the step, its time and the reason; nothing after it is done."""
    laptop = net.hosts["laptop"]
    timeline = net.timeline().at(0, laptop.link.down).at(0.01, laptop.renumber, address="1.2.3.4")
    timeline.at(0.02, laptop.link.up)
    with pytest.raises(TimelineError) as caught, timeline.running():
        pass
    assert (caught.value.step, caught.value.at) == (2, 0.01)
    assert isinstance(caught.value.__cause__, TopologyError)
    assert str(caught.value) == (
        "step 2 of the timeline, at 0.01 s, laptop.renumber(address='1.2.3.4'): "
        "TopologyError: 1.2.3.4 is outside of 192.168.1.0/24"
    )
    assert not laptop.link.admin_up


def test_exception_in_the_block_cancels_what_is_left(net: Lab) -> None:
    """It comes through unchanged, at once."""
    timeline = net.timeline().at(3600, net.hosts["laptop"].link.down)
    with pytest.raises(ZeroDivisionError), timeline.running() as playing:
        raise ZeroDivisionError
    assert playing.over
    assert playing.done == ()


def test_cancelled_run_ends_without_an_error(net: Lab) -> None:
    """What was done stays done; a run is started once."""
    timeline = net.timeline().at(0, net.hosts["laptop"].link.down).at(3600, net.hosts["laptop"].link.up)
    playing = timeline.running().start()
    with pytest.raises(LabError, match="another one"):
        playing.start()
    net.on_event(lambda _event: playing.cancel())
    playing.cancel()
    assert len(playing.finish()) <= 1


def test_function_that_is_no_verb_is_told_as_a_step(net: Lab) -> None:
    """Whatever a timeline does is in the story."""
    called: list[int] = []
    net.timeline().at(0, called.append, 5).run()
    assert called == [5]
    assert [(e.kind, e.text) for e in net.events[1:]] == [("step", "step 1: list.append(5)")]


async def test_event_loop_runs_on_while_verbs_are_done(net: Lab) -> None:
    """Verbs block, and are done off the loop; awaiting the end blocks nobody."""
    laptop = net.hosts["laptop"]
    beats = 0

    async def beat() -> None:
        nonlocal beats
        while True:
            await asyncio.sleep(0.005)
            beats += 1

    heart = asyncio.create_task(beat())
    done = await net.timeline().at(0.05, laptop.link.down).at(0.1, laptop.link.up).play()
    heart.cancel()
    assert len(done) == 2
    assert beats >= 2
    async with net.timeline().at(0, laptop.renumber).running():
        pass
    assert laptop.ip == "192.168.1.11"


async def test_cancelled_task_cancels_its_timeline(net: Lab) -> None:
    """A test that is given up leaves no thread that goes on changing the network."""
    began = asyncio.Event()
    loop = asyncio.get_running_loop()

    def look(event: LabEvent) -> None:
        if event.kind == "link_down":
            loop.call_soon_threadsafe(began.set)

    net.on_event(look)
    timeline = net.timeline().at(0, net.hosts["laptop"].link.down).at(3600, net.hosts["laptop"].link.up)
    task = asyncio.create_task(timeline.play())
    await asyncio.wait_for(began.wait(), 10)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not [t for t in threading.enumerate() if t.name == "netns-fixtures-timeline"]


def test_recorded_verbs_do_the_same_to_another_lab(net: Lab) -> None:
    """A lab, its verbs and their times are a scenario; built and played again, all ends the same."""
    laptop, home, hotspot = net.hosts["laptop"], net.routers["home"], net.routers["hotspot"]
    timeline = net.timeline().at(0.02, laptop.replug, hotspot).at(0.04, laptop.link.condition, loss=0.5)
    timeline.at(0.06, home.nat.rebind, address=True).run()
    laptop.add_address("192.168.2.77", interface=laptop.link)
    net.host("late", uplink=home)
    hotspot.renumber("10.9.0.0/24")
    written = Scenario.of(net)
    assert [(a.at, a.path) for a in written.actions[:3]] == [
        (0.02, "laptop.replug"),
        (0.04, "laptop.eth0.condition"),
        (0.06, "home.nat.rebind"),
    ]
    again = Scenario.parse(str(written))
    with again.build() as twin:
        again.timeline(twin).run()
        for name, host in net.hosts.items():
            assert host.link.addresses == twin.hosts[name].link.addresses
            assert host.link.egress_condition == twin.hosts[name].link.egress_condition
        assert home.ip == twin.routers["home"].ip
        assert Scenario.of(twin).nodes == written.nodes
        for interface in (*net.hosts["laptop"].interfaces.values(), home.uplink):
            seed = net.wire_seed(interface.host, interface.name)
            assert seed == twin.wire_seed(interface.host, interface.name)


def test_scenario_runs_programs_before_its_timeline(net: Lab) -> None:
    """``setup`` is done, and each program of ``run`` is ready, before time begins."""
    scenario = Scenario.parse(
        """
        routers: {home: {nat: moderate}}
        hosts: {laptop: {uplink: home, condition: {delay: 0.01}}}
        setup: [{do: laptop.add_address, args: [192.168.1.77]}]
        run: [{on: laptop, command: 'sh -c "echo ready; exec cat /proc/net/route; sleep 1"', ready: '^ready$'}]
        timeline: [{at: 0, do: laptop.link.down}]
        """
    )
    with scenario.build() as lab:
        assert lab.hosts["laptop"].link.egress_condition.delay == 0.01
        assert "192.168.1.77/24" in lab.hosts["laptop"].link.addresses
        (program,) = scenario.start(lab)
        assert "eth0" in program.check(10)
        scenario.timeline(lab).run()
    kinds = [event.kind for event in lab.events]
    assert kinds.index("process_started") < kinds.index("link_down")
