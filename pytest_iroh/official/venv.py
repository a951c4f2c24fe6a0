"""Virtual environments with the official bindings, one per version, made once per machine and user."""

from __future__ import annotations

import contextlib
import fcntl
import importlib.util
import logging
import os
import re
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import tenacity

from pytest_iroh.official.errors import OfficialUnavailable

logger = logging.getLogger(__name__)

DIRECTORY_VARIABLE = "IROH_PY_OFFICIAL_DIR"
"""Environment variable that names the directory of the virtual environments."""

PIP_ATTEMPTS = 3
"""A registry that fails three times in a row is down, not flaky."""

STEP_TIMEOUT = 300.0
"""Seconds for one pip run: the wheel has 13 MB, a slow mirror needs minutes."""

LOG_TAIL = 2000
"""Characters of a failed step that go into the error: pip's own conclusion is at the end."""

_VERSION = re.compile(r"\d+(\.\d+)*[0-9a-z.]*", re.ASCII)


class _StepFailed(Exception):
    """One attempt of one set-up step failed; the argument is what it printed."""


def official_python(version: str) -> Path:
    """Return the interpreter of a virtual environment that holds ``iroh==version`` from PyPI.

    The environment is made on the first call (10-20 s, needs the registry) under a file lock, so that
    pytest-xdist workers do not race; later calls return at once. Raises OfficialUnavailable with a remedy.
    """
    if not _VERSION.fullmatch(version):
        raise OfficialUnavailable(f"{version!r} is no version of iroh", remedy='use one like "0.35.0"')
    for directory in _directories():
        python = _interpreter(directory, version)
        if _is_trusted(directory) and python.exists():
            return python
    directory = _writable_directory()
    python = _interpreter(directory, version)
    with _locked(directory / f"{version}.lock"):
        if not python.exists():
            _make(python.parent.parent, version)
    return python


def _interpreter(directory: Path, version: str) -> Path:
    tag = sys.implementation.cache_tag or "python"
    return directory / f"{version}-{tag}" / "bin" / "python"


def _directories() -> list[Path]:
    """The places to look in, best first; a system-wide one may be readable and not writable."""
    named = os.environ.get(DIRECTORY_VARIABLE)
    if named:
        return [Path(named)]
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    # No usable HOME is common in CI and under setpriv: a directory of our own in the temporary one then.
    shared = Path(tempfile.gettempdir()) / f"iroh-py-official-{os.getuid()}"
    return [Path(cache) / "iroh-py" / "official", shared]


def _is_trusted(directory: Path) -> bool:
    """Whether only we or root can have put something there: what is in it gets executed."""
    try:
        status = directory.lstat()
    except OSError:
        return False
    return (
        stat.S_ISDIR(status.st_mode)
        and status.st_uid in (0, os.getuid())
        and not status.st_mode & stat.S_IWOTH
    )


def _writable_directory() -> Path:
    for directory in _directories():
        try:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            logger.debug("no virtual environments in %s: %s", directory, error)
            continue
        if _is_trusted(directory) and os.access(directory, os.W_OK | os.X_OK):
            return directory
    raise OfficialUnavailable(
        "no directory to keep virtual environments in",
        remedy=f"set {DIRECTORY_VARIABLE} to a directory that you can write to",
    )


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _make(directory: Path, version: str) -> None:
    """Make the environment beside its place and move it there when it works: never a half-made one."""
    partial = directory.with_name(f"{directory.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    python = partial / "bin" / "python"
    own_pip = importlib.util.find_spec("pip") is not None
    try:
        _step([sys.executable, "-m", "venv", *(["--without-pip"] if own_pip else []), str(partial)])
        pip = (
            [sys.executable, "-m", "pip", "--python", str(python)] if own_pip else [str(python), "-m", "pip"]
        )
        options = ["--quiet", "--disable-pip-version-check", "--no-input", "--only-binary", ":all:"]
        _retried([*pip, "install", *options, f"iroh=={version}"])
        _step([str(python), "-I", "-c", "import iroh"])
    except _StepFailed as error:
        shutil.rmtree(partial, ignore_errors=True)
        raise OfficialUnavailable(
            f"iroh=={version} could not be installed into {directory}",
            remedy=_remedy(str(error), version),
            log_tail=str(error)[-LOG_TAIL:],
        ) from error
    partial.rename(directory)


def _remedy(output: str, version: str) -> str:
    if "ensurepip" in output:
        return "install pip or the venv module (Debian: apt-get install python3-venv)"
    if "No matching distribution" in output:
        return f"PyPI is out of reach, or no wheel of {version} for {sys.platform} on {os.uname().machine}"
    return "make PyPI reachable (pip config list) and run: python -m pytest_iroh.official " + version


@tenacity.retry(
    stop=tenacity.stop_after_attempt(PIP_ATTEMPTS),
    wait=tenacity.wait_exponential(multiplier=0.5, max=4.0),
    retry=tenacity.retry_if_exception_type(_StepFailed),
    reraise=True,
)
def _retried(argv: list[str]) -> None:
    _step(argv)


def _step(argv: list[str]) -> None:
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=STEP_TIMEOUT, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise _StepFailed(str(error)) from error
    if done.returncode:
        raise _StepFailed(done.stdout + done.stderr)
