"""A failing test leaves a repro file, and the file runs it again: alone, with the seeds that it had."""

from __future__ import annotations

from pathlib import Path

import pytest

from netns_fixtures import load_scenario

pytestmark = pytest.mark.requires_netns

TESTS = """
import pytest
from netns_fixtures import LinkCondition

@pytest.fixture(scope="module")
def office(lab_factory):
    with lab_factory("office") as lab:
        lab.host("desk", uplink=lab.router("office", nat="strict"))
        yield lab

def test_passes(lab):
    lab.build()

def test_storm(lab, office):
    home, hotspot = lab.router("home", nat="moderate"), lab.router("hotspot", nat="cgnat")
    laptop = lab.host("laptop", uplink=home, delay=0.001)
    timeline = lab.timeline().at(0.02, laptop.link.down).at(0.03, laptop.link.up)
    timeline.at(0.04, laptop.replug, hotspot).run()
    office.hosts["desk"].renumber()
    print("seeds", lab.seed, office.seed)
    assert laptop.link.router is home
"""


@pytest.fixture
def project(pytester: pytest.Pytester) -> pytest.Pytester:
    pytester.makepyfile(test_storm=TESTS)
    return pytester


def repro_of(project: pytest.Pytester, attempt: int = 1) -> Path:
    return project.path / f"test-results/test_storm-test_storm/attempt-{attempt}/repro.yaml"


def seeds_of(result: pytest.RunResult) -> str:
    (line,) = [line for line in result.outlines if line.startswith("seeds ")]
    return line


def test_failing_test_leaves_its_network_its_verbs_and_its_name(project: pytest.Pytester) -> None:
    """A file per lab; steps of a timeline have the times that they were given."""
    result = project.runpytest("--netns-strict")
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(
        ["again: pytest --netns-replay test-results/test_storm-test_storm/*/repro.yaml"]
    )
    directory = repro_of(project).parent
    files = [load_scenario(directory / name) for name in ("repro.yaml", "repro-2.yaml")]
    scenario = next(each for each in files if each.name == "test_storm")
    assert scenario.test["test"] == "test_storm.py::test_storm"
    assert {lab["name"] for lab in scenario.test["labs"]} == {"office", "test_storm"}
    assert {"python", "kernel", "iroh-py", "pytest"} <= set(scenario.test["versions"])
    assert [node.name for node in scenario.nodes] == ["home", "hotspot", "laptop"]
    assert [(a.at, a.path) for a in scenario.actions] == [
        (0.02, "laptop.eth0.down"),
        (0.03, "laptop.eth0.up"),
        (0.04, "laptop.replug"),
    ]
    (other,) = [each for each in files if each.name == "office"]
    assert [a.path for a in other.actions] == ["desk.renumber"]
    with scenario.build() as twin:
        scenario.timeline(twin).run()
        assert twin.hosts["laptop"].link.router is twin.routers["hotspot"]


def test_replay_runs_that_test_alone_with_its_seeds(project: pytest.Pytester) -> None:
    """Nothing else is collected, and each lab has the seed that it had, also those of a wider scope."""
    first = project.runpytest("--netns-strict")
    again = project.runpytest("--netns-strict", "--netns-replay", str(repro_of(project)))
    again.assert_outcomes(failed=1)
    assert seeds_of(again) == seeds_of(first)
    assert load_scenario(repro_of(project, 2)).actions == load_scenario(repro_of(project)).actions


def test_replay_has_the_link_engine_of_the_file(project: pytest.Pytester) -> None:
    """What was asked for then is asked for again, unless the command line asks for something else."""
    project.runpytest("--netns-strict", "--netns-link-engine=wire").assert_outcomes(passed=1, failed=1)
    assert load_scenario(repro_of(project)).link_engine == "wire"

    again = project.runpytest(f"--netns-replay={repro_of(project)}")
    again.stdout.fnmatch_lines(["netns: *; links by wire"])
    other = project.runpytest(f"--netns-replay={repro_of(project)}", "--netns-link-engine=auto")
    other.stdout.fnmatch_lines(["netns: *; links by auto"])


def test_named_tests_and_seeds_beat_the_file(project: pytest.Pytester) -> None:
    """What stands on the command line is meant: another test runs, with the file's seed for what has no name in it."""
    project.runpytest("--netns-strict")
    file = str(repro_of(project))
    other = project.runpytest("--netns-replay", file, "test_storm.py::test_passes")
    other.assert_outcomes(passed=1)
    seeded = project.runpytest("--netns-replay", file, "--netns-seed", "5")
    assert seeds_of(seeded) == "seeds 5 5"


def test_replay_in_parallel_is_the_same(project: pytest.Pytester) -> None:
    """Workers of pytest-xdist know the file, too."""
    pytest.importorskip("xdist")
    first = project.runpytest("--netns-strict")
    again = project.runpytest_subprocess(
        "-n", "1", "--netns-strict", "--netns-replay", str(repro_of(project))
    )
    again.assert_outcomes(failed=1)
    assert seeds_of(again) == seeds_of(first)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (None, "*--netns-replay: *No such file*none.yaml*"),
        ("routers: {a: {nat: x}}", "*--netns-replay: *none.yaml, line 1 (routers.a): nat='x'*"),
        ("routers: {a: {}}", "*--netns-replay: none.yaml names no test*"),
        ("test: {test: x, labs: [{name: 5}]}", "*--netns-replay: none.yaml names no test*"),
    ],
)
def test_file_that_is_no_repro_file_is_a_usage_error(
    project: pytest.Pytester, text: str | None, says: str
) -> None:
    """The run ends before it begins, with one sentence."""
    if text is not None:
        (project.path / "none.yaml").write_text(text)
    result = project.runpytest("--netns-replay", "none.yaml")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([says])
