"""docs/ci.md and .github/workflows: files of CI services that parse, and whose commands exist and do what they say."""

from __future__ import annotations

import importlib.util
import os
import re
import shlex
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from netns_fixtures.agent import rights
from netns_fixtures.cli import main as netns_lab
from pytest_iroh.options import OPTIONS

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "ci.md").read_text()
OWN = (ROOT / ".github" / "workflows" / "test.yml").read_text()
#: Where programs of a virtual environment, and of administrators, are.
PLACES = os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", ""), "/usr/sbin:/sbin"))
#: On machines of these services, and perhaps not on this one.
OF_THE_SERVICE = ("sudo", "apt-get", "sysctl")


def block(word: str) -> str:
    """A fenced YAML block of the page."""
    found = re.search(rf"^```yaml {word}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    assert found is not None
    return found[1]


def parsed(text: str) -> Any:
    """Its values; all are text, so that GitHub's key ``on`` is no boolean."""
    return yaml.load(text, Loader=yaml.BaseLoader)


def steps(workflow: Any) -> list[dict[str, Any]]:
    """The steps of the only job of a GitHub workflow."""
    (job,) = workflow["jobs"].values()
    found: list[dict[str, Any]] = job["steps"]
    return found


def github_commands(text: str) -> Iterator[str]:
    """The lines that a GitHub workflow runs."""
    for step in steps(parsed(text)):
        yield from step.get("run", "").splitlines()


def gitlab_commands(text: str) -> Iterator[str]:
    """The lines that a GitLab job runs."""
    (job,) = parsed(text).values()
    yield from (*job["before_script"], *job["script"])


COMMANDS = [
    *(("github", line) for line in github_commands(block("github"))),
    *(("gitlab", line) for line in gitlab_commands(block("gitlab"))),
    *(("own", line) for line in github_commands(OWN)),
]


@pytest.mark.parametrize(("where", "line"), COMMANDS, ids=str)
def test_command_of_a_job_exists(where: str, line: str) -> None:
    """Programs, modules, options and settings: none is made up."""
    program, *arguments = [word for word in shlex.split(line) if word != "sudo"]
    if program.startswith("./"):
        assert os.access(ROOT / program, os.X_OK)
        return
    assert program in OF_THE_SERVICE or shutil.which(program, path=PLACES), f"{where}: no program {program}"
    if program == "python":
        assert importlib.util.find_spec(arguments[arguments.index("-m") + 1]) is not None
    elif program == "netns-lab":
        assert arguments[0] in netns_lab.list_commands(None)  # type: ignore[arg-type]
    elif program == "sysctl":
        (setting,) = (word for word in arguments if "=" in word)
        assert f"sudo {program} -w {setting}" in Path(rights.__file__).read_text()


@pytest.mark.parametrize("text", [block("github"), OWN], ids=["example", "own"])
def test_workflow_has_what_github_asks_for(text: str) -> None:
    """A trigger, a machine, steps that run something or use a pinned action; evidence is kept where tests failed."""
    workflow = parsed(text)
    assert {"name", "on", "jobs"} <= workflow.keys()
    (job,) = workflow["jobs"].values()
    assert job["runs-on"] == "ubuntu-24.04"
    for step in steps(workflow):
        assert ("run" in step) != ("uses" in step)
        assert "uses" not in step or re.fullmatch(r"[\w-]+/[\w-]+@v\d+", step["uses"])
    kept = steps(workflow)[-1]
    assert (kept["if"], kept["with"]["path"]) == ("failure()", "test-results")
    assert any("apparmor_restrict_unprivileged_userns=0" in step.get("run", "") for step in steps(workflow))


def test_job_of_gitlab_keeps_evidence_of_failures() -> None:
    """The directory and the JUnit file that its pytest line writes."""
    (job,) = parsed(block("gitlab")).values()
    assert job["artifacts"] == {
        "when": "on_failure",
        "paths": ["test-results"],
        "reports": {"junit": "test-results/junit.xml"},
    }


def test_own_workflow_calls_the_script_of_ci() -> None:
    """What CI does is in the tree, and runs on any machine."""
    assert "./.ci/run" in list(github_commands(OWN))


def test_no_file_names_a_registry() -> None:
    """Where packages and images come from is the reader's choice."""
    for text in (PAGE, OWN):
        assert not re.search(r"https?://|\b(ghcr|docker|quay|registry|pypi)\.\w+|--(extra-)?index-url", text)


@pytest.mark.usefixtures("fake_labs")
@pytest.mark.parametrize("where", ["github", "gitlab"])
def test_pytest_line_of_a_job_leaves_evidence_where_the_job_takes_it(
    pytester: pytest.Pytester, where: str
) -> None:
    """Run as it stands: the failing test's story and the JUnit file are below the directory that is kept."""
    (line,) = (line for place, line in COMMANDS if place == where and shlex.split(line)[0] == "pytest")
    known = {f"--netns-{option.name}" for option in OPTIONS}
    _program, *arguments = shlex.split(line)
    assert {word for word in arguments if word.startswith("--netns-")} <= known
    assert arguments[:2] == ["-n", "2"]
    pytester.makepyfile(
        """
        def test_fails(lab):
            lab.happen("down", "laptop", "laptop went down")
            assert False
        """
    )
    pytester.runpytest(*arguments[2:]).assert_outcomes(failed=1)
    results = pytester.path / "test-results"
    assert (results / "junit.xml").is_file()
    (story,) = results.glob("*/attempt-1/story.txt")
    assert "laptop went down" in story.read_text()
