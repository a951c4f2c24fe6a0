"""Where the virtual environments are, and what happens when one cannot be made."""

from __future__ import annotations

import os
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from pytest_iroh.official import __main__ as command
from pytest_iroh.official import venv
from pytest_iroh.official.errors import OfficialUnavailable

Step = Callable[[list[str]], None]


@pytest.fixture(autouse=True)
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty directory for the environments."""
    monkeypatch.setenv(venv.DIRECTORY_VARIABLE, str(tmp_path / "official"))
    return tmp_path / "official"


def played(monkeypatch: pytest.MonkeyPatch, *, fail: str | None = None) -> list[list[str]]:
    """Play the set-up steps: make what ``python -m venv`` makes, install nothing."""
    steps: list[list[str]] = []

    def step(argv: list[str]) -> None:
        steps.append(argv)
        if "venv" in argv:
            (Path(argv[-1]) / "bin").mkdir(parents=True)
            (Path(argv[-1]) / "bin" / "python").touch()
        if fail is not None and "install" in argv:
            raise venv._StepFailed(fail)

    monkeypatch.setattr(venv, "_step", step)
    return steps


def test_environment_is_made_once(monkeypatch: pytest.MonkeyPatch, directory: Path) -> None:
    """The second call finds what the first made."""
    steps = played(monkeypatch)
    first = venv.official_python("0.35.0")
    count = len(steps)
    assert venv.official_python("0.35.0") == first
    assert len(steps) == count
    assert first.is_relative_to(directory)
    assert any("iroh==0.35.0" in argv for argv in steps)


def test_workers_that_race_make_it_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The file lock lets one make it and the others wait."""
    steps = played(monkeypatch)
    barrier = threading.Barrier(4)

    def work() -> None:
        barrier.wait()
        venv.official_python("0.35.0")

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum("install" in argv for argv in steps) == 1


@pytest.mark.parametrize(
    ("output", "remedy"),
    [
        ("ERROR: No matching distribution found for iroh==0.35.0", "no wheel"),
        ("The virtual environment was not created: ensurepip is not available", "python3-venv"),
        ("Read timed out", "make PyPI reachable"),
    ],
)
def test_pip_that_fails_is_retried_and_names_a_remedy(
    monkeypatch: pytest.MonkeyPatch, directory: Path, output: str, remedy: str
) -> None:
    """Three attempts, one error with a remedy, and no half-made environment."""
    monkeypatch.setattr(venv._retried.retry, "wait", lambda state: 0.0)
    steps = played(monkeypatch, fail=output)
    with pytest.raises(OfficialUnavailable) as caught:
        venv.official_python("0.35.0")
    assert remedy in caught.value.remedy
    assert output in caught.value.log_tail
    assert sum("install" in argv for argv in steps) == venv.PIP_ATTEMPTS
    assert [path.name for path in directory.iterdir()] == ["0.35.0.lock"]


@pytest.mark.parametrize("version", ["../../etc", "0.35.0; rm", "", "-r x"])
def test_text_that_is_no_version_is_refused(version: str) -> None:
    """Nothing but a version gets into a path or onto pip's command line."""
    with pytest.raises(OfficialUnavailable, match="no version"):
        venv.official_python(version)


def test_home_that_cannot_be_written_falls_back_to_the_temporary_directory(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Without a usable HOME a directory of our own in the temporary one is used."""
    monkeypatch.delenv(venv.DIRECTORY_VARIABLE)
    in_the_way = tmp_path / "file"
    in_the_way.touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(in_the_way))
    monkeypatch.setattr(tempfile, "gettempdir", lambda: str(tmp_path))
    played(monkeypatch)
    assert venv.official_python("0.35.0").is_relative_to(next(tmp_path.glob("iroh-py-official-*")))


def test_directory_that_others_can_write_to_is_not_trusted(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """We never execute what somebody else may have put into the temporary directory."""
    shared = tmp_path / f"iroh-py-official-{os.getuid()}"
    shared.mkdir()
    shared.chmod(0o777)
    assert not venv._is_trusted(shared)


def test_command_prepares_every_version(monkeypatch: pytest.MonkeyPatch) -> None:
    """``python -m pytest_iroh.official`` names each interpreter, and fails with the remedy."""
    played(monkeypatch)
    done = CliRunner().invoke(command.main, ["0.35.0", "0.28.1"])
    assert done.exit_code == 0
    assert done.output.count("bin/python") == 2
    assert CliRunner().invoke(command.main, ["nonsense"]).exit_code == 1
