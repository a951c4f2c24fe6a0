"""Tests that need what this machine cannot do."""

from __future__ import annotations

import pytest

MISSING = """
import pytest
from netns_fixtures import MissingCapability

LACKING = MissingCapability("unprivileged user namespaces", "run: sudo sysctl -w user.max_user_namespaces=15000")

{how}
"""

IN_TEST = MISSING.format(how="def test_verb():\n    raise LACKING")
IN_FIXTURE = MISSING.format(
    how="""
@pytest.fixture
def net():
    raise LACKING

def test_fixture(net):
    pass
"""
)
IN_TASK = MISSING.format(
    how="""
import asyncio

async def fail():
    raise LACKING

async def test_task():
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(fail())
"""
)


@pytest.mark.parametrize("source", [IN_TEST, IN_FIXTURE, IN_TASK], ids=["test", "fixture", "task"])
def test_missing_capability_skips_with_feature_and_remedy(pytester: pytest.Pytester, source: str) -> None:
    """Wherever the lab finds out, the test is skipped, and the reason names feature and remedy."""
    pytester.makepyfile(source)

    result = pytester.runpytest("-rs")

    result.assert_outcomes(skipped=1)
    result.stdout.fnmatch_lines(
        [
            "*= netns =*",
            "1 skipped for want of unprivileged user namespaces: sudo sysctl -w user.max_user_namespaces=15000",
            "SKIPPED [[]1[]] test_missing*.py:*: this machine lacks unprivileged user namespaces; run: sudo *",
        ]
    )


@pytest.mark.parametrize("source", [IN_TEST, IN_FIXTURE], ids=["test", "fixture"])
def test_strict_turns_the_skip_into_a_failure(pytester: pytest.Pytester, source: str) -> None:
    """CI that must not be green by skipping fails, with the same words."""
    pytester.makepyfile(source)

    result = pytester.runpytest("--netns-strict")

    outcomes = result.parseoutcomes()
    assert outcomes.get("failed", 0) + outcomes.get("errors", 0) == 1
    result.stdout.fnmatch_lines(
        [
            "this machine lacks unprivileged user namespaces; run: sudo * (--netns-strict)",
            "1 failed for want of unprivileged user namespaces: *",
        ]
    )


def test_expected_missing_capability_is_the_tests_own_business(pytester: pytest.Pytester) -> None:
    """A test that catches the error passes, and other errors of the lab fail it."""
    pytester.makepyfile(
        MISSING.format(
            how="""
from netns_fixtures import LabError

def test_catches():
    with pytest.raises(MissingCapability):
        raise LACKING

def test_other():
    raise LabError("something else")
"""
        )
    )

    pytester.runpytest().assert_outcomes(passed=1, failed=1)


def test_run_without_skips_has_no_netns_section(pytester: pytest.Pytester) -> None:
    """Who misses nothing reads nothing."""
    pytester.makepyfile("def test_plain():\n    pass")

    assert "= netns =" not in pytester.runpytest().stdout.str()
