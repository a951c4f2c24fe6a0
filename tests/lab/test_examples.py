"""Examples, and the snippets of the documents that need namespaces, do what they say."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from doc_kit import ROOT, Snippet, command_of, lines_of_code, promised_output, snippets, without_variables

from pytest_iroh.options import settings_of

pytestmark = pytest.mark.requires_netns

EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
PROGRAMS = [example for example in EXAMPLES if not example.name.startswith("test_")]
TESTS = [example for example in EXAMPLES if example.name.startswith("test_")]
SNIPPETS = [snippet for snippet in snippets() if snippet.needs_lab]
#: Where the official bindings are installed; pytester gives its runs another home directory.
CACHE = os.environ.get("XDG_CACHE_HOME", os.path.expanduser("~/.cache"))
#: Seconds for one program; the slowest takes two.
PATIENCE = 60
#: A project that uses pytest-asyncio and is strict about everything.
INI = """
[pytest]
addopts = --strict-markers --strict-config -p no:cacheprovider
filterwarnings = error
asyncio_mode = auto
asyncio_default_fixture_loop_scope = function
"""
#: An example shows one thing.
MAX_LINES = 40


def run(program: Path, directory: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run a program as a user would: with Python's own buffering, whatever this process was told."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    return subprocess.run(
        [sys.executable, "-W", "error", str(program)],
        env=environment,
        cwd=directory,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


@pytest.mark.parametrize("example", PROGRAMS, ids=lambda example: example.name)
def test_example_prints_what_its_first_lines_say(example: Path) -> None:
    """A program ends well and without a warning; its output is the documented one, up to times and ports."""
    done = run(example)
    assert (done.returncode, done.stderr) == (0, "")
    assert without_variables(done.stdout.splitlines()) == without_variables(promised_output(example))


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.name)
def test_example_is_short_and_listed(example: Path) -> None:
    """At most 40 lines of code, and a line in examples/README.md."""
    assert lines_of_code(example) <= MAX_LINES
    assert f"[{example.name}]({example.name})" in (ROOT / "examples" / "README.md").read_text()
    assert command_of(example) in example.read_text()


@pytest.mark.parametrize("snippet", [s for s in SNIPPETS if s.is_program], ids=str)
def test_program_of_a_document_runs(snippet: Snippet, tmp_path: Path) -> None:
    """What a document marks as a program ends well and without a warning."""
    program = tmp_path / "program.py"
    program.write_text(snippet.code)
    done = run(program, tmp_path)
    assert (done.returncode, done.stderr) == (0, "")


def test_tests_of_documents_and_examples_pass(
    request: pytest.FixtureRequest, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What README.md, the documents and examples/ show as a test file passes, in a project of its own."""
    monkeypatch.delenv("PYTHONUNBUFFERED", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", CACHE)
    pytester.makeini(INI)
    shown = [(str(snippet), snippet.code, snippet.conftest) for snippet in SNIPPETS if snippet.is_test]
    assert len([name for name, _code, _conftest in shown if name.startswith("README.md")]) >= 2
    shown += [(example.stem, example.read_text(), "") for example in TESTS]
    for name, code, conftest in shown:
        directory = pytester.mkdir(re.sub(r"\W", "_", name))
        (directory / f"test_{directory.name}.py").write_text(code)
        (directory / "conftest.py").write_text(conftest)

    strict = ["--netns-strict"] if settings_of(request.config).strict else []
    result = pytester.runpytest_subprocess("-q", "-rA", *strict, timeout=PATIENCE)

    tests = sum(len(re.findall(r"^(?:async )?def test_", code, re.MULTILINE)) for _name, code, _ in shown)
    # Labs run here; only the tests with the official bindings may be skipped, where PyPI is out of reach.
    official = sum(
        len(re.findall(r"^(?:async )?def test_.*official_iroh", code, re.MULTILINE)) for _, code, _ in shown
    )
    outcomes = result.parseoutcomes()
    assert outcomes.pop("skipped", 0) in (0, official)
    assert set(outcomes) == {"passed"}
    passed = {line.split()[1].partition("[")[0] for line in result.outlines if line.startswith("PASSED ")}
    assert len(passed) in (tests, tests - official)


@pytest.mark.parametrize("example", TESTS, ids=lambda example: example.name)
def test_example_test_promises_the_number_of_its_tests(example: Path) -> None:
    """The line that pytest ends with counts the tests of the file."""
    count = len(re.findall(r"^(?:async )?def test_", example.read_text(), re.MULTILINE))
    assert without_variables(promised_output(example)) == [f"{count} passed in <number>s"]
