"""Tests that are run again: evidence per attempt, and a count of those that passed only then."""

from __future__ import annotations

import pytest

#: What pytest-rerunfailures, pytest-retry and flaky all do: run the phases of the same item again.
CONFTEST = """
from _pytest.runner import runtestprotocol

def pytest_runtest_protocol(item, nextitem):
    item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
    for last in (False, True):
        reports = runtestprotocol(item, nextitem=nextitem, log=False)
        if last or not any(report.failed for report in reports):
            break
    for report in reports:
        item.ihook.pytest_runtest_logreport(report=report)
    item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
    return True
"""

TESTS = """
tries = []

def test_flaky(lab):
    tries.append(lab)
    lab.happen("down", "laptop", f"try {len(tries)}")
    assert len(tries) == 2

def test_broken(lab):
    lab.happen("down", "laptop", "laptop went down")
    assert False

def test_sound(lab):
    lab.happen("down", "laptop", "laptop went down")
"""


@pytest.mark.usefixtures("fake_labs")
def test_each_attempt_has_a_directory_and_flaky_tests_are_counted(pytester: pytest.Pytester) -> None:
    """The evidence of the failed first attempt stays, although the test passed in the end."""
    pytester.makeconftest(CONFTEST)
    pytester.makepyfile(TESTS)

    result = pytester.runpytest()

    result.assert_outcomes(passed=2, failed=1)
    result.stdout.fnmatch_lines(
        ["1 flaky", "flaky: *::test_flaky passed at attempt 2; what happened before: *test_flaky/attempt-1"]
    )
    kept = {path.parent.name[-11:] + "/" + path.name for path in pytester.path.glob("test-results/*/*")}
    assert kept == {"-test_flaky/attempt-1", "test_broken/attempt-1", "test_broken/attempt-2"}
    (story,) = pytester.path.glob("test-results/*test_flaky/attempt-1/story.txt")
    assert "try 1" in story.read_text()


@pytest.mark.usefixtures("fake_labs")
def test_rerunfailures_makes_attempts(pytester: pytest.Pytester) -> None:
    """The real plugin, where it is installed."""
    pytest.importorskip("pytest_rerunfailures", reason="not here: pip install pytest-rerunfailures")
    pytester.makepyfile(TESTS)

    result = pytester.runpytest("--reruns", "1")

    result.stdout.fnmatch_lines(["flaky: *::test_flaky passed at attempt 2; *test_flaky/attempt-1"])
