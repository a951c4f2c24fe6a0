"""What a failing test tells."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

FAILING = """
import threading

def test_service(lab, heals):
    up = threading.Event()
    up.set()
    with heals(up.is_set, within=0.1):
        up.clear()
        lab.happen("link_down", "laptop", "laptop eth0 went down")
"""


@pytest.mark.usefixtures("fake_labs")
def test_failing_heals_tells_the_story_once(pytester: pytest.Pytester) -> None:
    """The terminal shows the change, the silence after it, the seed and the artifacts; each line one time."""
    pytester.makepyfile(FAILING)

    result = pytester.runpytest()

    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            ">       with heals(up.is_set, within=0.1):",
            "E *DidNotHeal: heals: no byte within 0.1 s after laptop eth0 went down   (veth engine, *",
            "E       it returned false",
            "E          +0.000  lab      laptop eth0 went down",
            "E          +0.1*  payload  no answer within 0.1 s",
            "* netns story *",
            'lab "test_service", veth engine, seed 8723 (the same again: --netns-seed 8723)',
            "artifacts: test-results/test_*-test_service/attempt-1",
        ]
    )
    assert result.stdout.str().count("+0.000  lab      laptop eth0 went down") == 1


@pytest.mark.usefixtures("fake_labs")
def test_other_failure_gets_the_story_as_a_section(pytester: pytest.Pytester) -> None:
    """Any failing test that has a lab shows what the lab did."""
    pytester.makepyfile(
        """
        def test_other(lab):
            lab.happen("link_down", "laptop", "laptop eth0 went down")
            assert 1 + 1 == 3
        """
    )

    result = pytester.runpytest()

    result.stdout.fnmatch_lines(["* netns story *", "*lab      laptop eth0 went down"])


def test_failure_without_network_is_left_alone(pytester: pytest.Pytester) -> None:
    """A project that does not use labs sees nothing of us and finds no new directory."""
    pytester.makepyfile("def test_plain():\n    assert 1 + 1 == 3")

    result = pytester.runpytest("--netns-artifacts=on")

    assert "netns story" not in result.stdout.str()
    assert not (pytester.path / "test-results").exists()


def _artifacts(pytester: pytest.Pytester) -> list[Path]:
    return sorted((pytester.path / "test-results").glob("*/attempt-*"))


@pytest.mark.usefixtures("fake_labs")
@pytest.mark.parametrize(
    ("policy", "kept"), [("on", 2), ("off", 0), ("retain-on-failure", 1)], ids=["on", "off", "retain"]
)
def test_policy_decides_what_is_kept(pytester: pytest.Pytester, policy: str, kept: int) -> None:
    """on keeps the evidence of every test, off none, retain-on-failure that of the failed ones."""
    pytester.makepyfile(
        FAILING + "\ndef test_good(lab):\n    lab.happen('link_up', 'laptop', 'laptop eth0 went up')"
    )

    pytester.runpytest(f"--netns-artifacts={policy}").assert_outcomes(failed=1, passed=1)

    assert len(_artifacts(pytester)) == kept


@pytest.mark.usefixtures("fake_labs")
def test_artifacts_hold_timeline_story_and_logs(pytester: pytest.Pytester) -> None:
    """A failed attempt leaves its timeline for programs and people, and the log of each host."""
    pytester.makepyfile(FAILING.replace("lab.happen", "lab.host('laptop'); lab.happen"))

    pytester.runpytest()

    (directory,) = _artifacts(pytester)
    lines = [json.loads(line) for line in (directory / "timeline.jsonl").read_text().splitlines()]
    assert [line["text"] for line in lines] == ["laptop eth0 went down", "no answer within 0.1 s"]
    assert lines[0]["data"] == {"kind": "link_down"}
    assert "laptop eth0 went down" in (directory / "story.txt").read_text()
    assert (directory / "logs" / "test_service-laptop.log").read_text() == "laptop says hello\n"


@pytest.mark.usefixtures("fake_labs")
def test_second_run_has_a_directory_of_its_own(pytester: pytest.Pytester) -> None:
    """No attempt overwrites the evidence of another."""
    pytester.makepyfile(FAILING)

    pytester.runpytest()
    pytester.runpytest()

    assert [directory.name for directory in _artifacts(pytester)] == ["attempt-1", "attempt-2"]


@pytest.mark.usefixtures("fake_labs")
def test_junit_file_names_the_artifacts(pytester: pytest.Pytester) -> None:
    """CI finds the evidence of a failed test through the JUnit report."""
    pytester.makepyfile(FAILING)

    pytester.runpytest("--junit-xml=junit.xml", "-o", "junit_family=xunit1")

    (directory,) = _artifacts(pytester)
    assert f'name="netns_artifacts" value="{directory}"' in (pytester.path / "junit.xml").read_text()


@pytest.mark.usefixtures("fake_labs")
def test_broken_collector_does_not_hide_the_failure(pytester: pytest.Pytester) -> None:
    """Evidence that cannot be saved is mentioned beside the failure; the rest is saved."""
    pytester.makeconftest(
        """
        from pytest_iroh import evidence

        class Broken(evidence.Collector):
            name = "the broken one"

            def save(self, evidence, directory):
                raise OSError("disk full")

        unregister = evidence.register(Broken())

        def pytest_unconfigure():
            unregister()
        """
    )
    pytester.makepyfile(FAILING)

    result = pytester.runpytest()

    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["the broken one could not be saved: OSError: disk full"])
    assert (_artifacts(pytester)[0] / "timeline.jsonl").exists()


@pytest.mark.usefixtures("fake_labs")
def test_lab_of_a_wider_scope_is_on_the_timeline(pytester: pytest.Pytester) -> None:
    """A module's lab is made once and shows up in the story of each test that changes it."""
    pytester.makepyfile(
        """
        import pytest

        @pytest.fixture(scope="module")
        def net(lab_factory):
            return lab_factory("shared")

        def test_first(net):
            net.happen("link_down", "laptop", "laptop went down")

        def test_second(net):
            net.happen("link_up", "laptop", "laptop went up")
            assert 1 + 1 == 3
        """
    )

    result = pytester.runpytest()

    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(['lab "shared", *', "*lab      laptop went up"])
    assert "laptop went down" not in result.stdout.str().split("netns story")[1]


@pytest.mark.usefixtures("fake_labs")
def test_repeated_test_has_an_attempt_each_time(pytester: pytest.Pytester) -> None:
    """A plugin that runs failed tests again leaves the evidence of each run, and only of that run."""
    pytester.makeconftest(
        """
        import pytest
        from _pytest.runner import runtestprotocol

        @pytest.hookimpl(tryfirst=True)
        def pytest_runtest_protocol(item, nextitem):
            for _ in range(2):
                reports = runtestprotocol(item, nextitem=nextitem, log=False)
            for report in reports:
                item.ihook.pytest_runtest_logreport(report=report)
            return True
        """
    )
    pytester.makepyfile(FAILING)

    pytester.runpytest()

    first, second = _artifacts(pytester)
    for directory in (first, second):
        assert len((directory / "timeline.jsonl").read_text().splitlines()) == 2


@pytest.mark.usefixtures("fake_labs")
def test_failing_tear_down_is_evidence(pytester: pytest.Pytester) -> None:
    """An error after the test has passed leaves its timeline, too."""
    pytester.makepyfile(
        """
        import pytest

        @pytest.fixture
        def broken(lab):
            yield lab
            lab.happen("link_down", "laptop", "laptop eth0 went down")
            raise RuntimeError("no end")

        def test_passes(broken):
            pass
        """
    )

    result = pytester.runpytest()

    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines(["* netns story *", "*laptop eth0 went down"])
    assert len(_artifacts(pytester)) == 1


def test_labs_are_closed_after_the_endpoints(pytester: pytest.Pytester, fake_labs: list[Any]) -> None:
    """Whatever the order of a test's arguments, its endpoints go before their lab."""
    pytester.makepyfile(
        """
        import pytest
        from pytest_iroh.endpoints import Endpoints

        @pytest.fixture(autouse=True)
        def order(monkeypatch, request):
            def close(endpoints):
                assert not request.getfixturevalue("lab").closed
            monkeypatch.setattr(Endpoints, "close", close)

        def test_order(endpoints, lab):
            pass

        def test_factory(lab_factory):
            lab_factory("left open")
        """
    )

    pytester.runpytest().assert_outcomes(passed=2)

    assert [lab.name for lab in fake_labs if lab.closed] == ["test_order", "left open"]
