"""Tests that need what this machine cannot do."""

from __future__ import annotations

import pytest

from netns_fixtures import doctor
from netns_fixtures.features import Capabilities, Feature

MISSING = """
import pytest
from netns_fixtures import MissingCapability

LACKING = MissingCapability("unprivileged user namespaces", "run: sudo sysctl -w a=b")

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
            "1 skipped, not possible here: unprivileged user namespaces; run: sudo sysctl *",
            "SKIPPED [[]1[]] test_missing*.py:*: not possible here: unprivileged user namespaces; run: *",
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
            "not possible here: unprivileged user namespaces; run: * (skipped without --netns-strict)",
            "1 failed, not possible here: unprivileged user namespaces; run: *",
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


# --- requires_netns and the header ---

CAPABILITIES = Capabilities(
    "root",
    "6.18",
    (
        Feature("netns", True, "make network namespaces", needed=True),
        Feature("nft", True, "load packet filter rules", needed=True),
        Feature("wire", True, "impair links in userspace"),
        Feature("tun", True, "impair links through TAPs"),
        Feature(
            "netem",
            False,
            "impair links in the kernel",
            "this kernel has no netem",
            "run: modprobe sch_netem",
        ),
    ),
)
NO_LABS = Capabilities(
    "", "6.18", (Feature("namespaces", False, "make namespaces", "forbidden", "run as root", needed=True),)
)


@pytest.fixture
def probes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Let the doctor find CAPABILITIES; the list grows with each time that it is asked."""
    asked: list[int] = []

    def capabilities() -> Capabilities:
        asked.append(1)
        return CAPABILITIES

    monkeypatch.setattr(doctor, "capabilities", capabilities)
    return asked


NEEDS = "import pytest\n\n@pytest.mark.requires_netns({arguments})\ndef test_needs():\n    pass"


@pytest.mark.usefixtures("probes")
def test_required_feature_that_is_missing_skips(pytester: pytest.Pytester) -> None:
    """The marker skips with the feature's name, what was found, and the remedy."""
    pytester.makepyfile(NEEDS.format(arguments="'nft', 'netem'"))

    result = pytester.runpytest("-rs")

    result.assert_outcomes(skipped=1)
    result.stdout.fnmatch_lines(
        ["*not possible here: netem (this kernel has no netem); run: modprobe sch_netem"]
    )


@pytest.mark.usefixtures("probes")
def test_required_features_that_are_there_run(pytester: pytest.Pytester) -> None:
    """The marker does nothing where everything is there; without arguments it asks for labs at all."""
    pytester.makepyfile(test_named=NEEDS.format(arguments="'wire'"), test_any=NEEDS.format(arguments=""))

    pytester.runpytest("--netns-strict").assert_outcomes(passed=2)


@pytest.mark.usefixtures("probes")
def test_unknown_feature_is_a_usage_error(pytester: pytest.Pytester) -> None:
    """A misspelt feature is no reason to skip."""
    pytester.makepyfile(NEEDS.format(arguments="'nettem'"))

    result = pytester.runpytest()

    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*requires_netns('nettem'): the features are netem, netns, nft, tun, wire"])


def test_machine_without_namespaces_skips_every_requirement(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where no lab runs, that is the reason, whatever else the test wants."""
    monkeypatch.setattr(doctor, "capabilities", lambda: NO_LABS)
    pytester.makepyfile(NEEDS.format(arguments="'netem'"))

    result = pytester.runpytest("-rs", "--netns-artifacts=off")

    result.assert_outcomes(skipped=1)
    result.stdout.fnmatch_lines(
        [
            "netns: Linux *, no labs here: forbidden; run as root; no artifacts",
            "*not possible here: make namespaces (forbidden); run as root",
        ]
    )


def test_header_does_not_probe_unasked(pytester: pytest.Pytester, probes: list[int]) -> None:
    """A project that says nothing about labs gets what is known for free."""
    pytester.makepyfile("def test_plain():\n    pass")

    result = pytester.runpytest()

    result.stdout.fnmatch_lines(
        ["netns: Linux *(for more: netns-lab doctor); artifacts retain-on-failure in test-results"]
    )
    assert not probes


def test_header_shows_the_findings(pytester: pytest.Pytester, probes: list[int]) -> None:
    """A run that is told anything about labs shows what this machine can do."""
    result = pytester.runpytest("--netns-artifacts=on")

    result.stdout.fnmatch_lines(
        ["netns: Linux *, root, nft yes, netem no (userspace wire), tun yes; artifacts on in test-results"]
    )
    assert len(probes) == 1


def test_findings_are_remembered_for_later_headers(pytester: pytest.Pytester, probes: list[int]) -> None:
    """Once a test has asked, later headers know without probing."""
    pytester.makeini("[pytest]\nasyncio_default_fixture_loop_scope = function")
    pytester.makepyfile("def test_asks(netns_capabilities):\n    assert netns_capabilities.has('wire')")
    pytester.runpytest().assert_outcomes(passed=1)
    asked = len(probes)

    result = pytester.runpytest("-k", "nothing")

    result.stdout.fnmatch_lines(["netns: Linux *, root, nft yes, netem no (userspace wire), tun yes; *"])
    assert len(probes) == asked


def test_engine_that_the_kernel_lacks_ends_the_run(pytester: pytest.Pytester, probes: list[int]) -> None:
    """With its name and the remedy, before any test: nothing falls back to another engine, nothing is skipped."""
    pytester.makepyfile("def test_plain():\n    pass")

    result = pytester.runpytest("--netns-link-engine=netem")

    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(
        ["ERROR: --netns-link-engine netem: *: this kernel has no netem; run: modprobe sch_netem"]
    )
    assert probes


@pytest.mark.usefixtures("probes")
def test_engine_of_the_run_is_in_the_header_and_in_labs(pytester: pytest.Pytester) -> None:
    """Labs of fixtures have it, unless the test names another."""
    pytester.makepyfile(
        "def test_engine(lab, lab_factory):\n"
        "    assert lab.engine_choice == 'wire'\n"
        "    assert lab_factory(link_engine='netem').engine_choice == 'netem'"
    )

    result = pytester.runpytest("--netns-link-engine=wire")

    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["netns: *; links by wire"])
