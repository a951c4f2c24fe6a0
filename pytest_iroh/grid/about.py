"""About a run: what its results depend on, so that two of them can be compared."""

from __future__ import annotations

import datetime
import os
import platform
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest

from pytest_iroh.options import settings_of

#: Seconds for git, which answers in milliseconds; a repository on a disk that hangs must not hold the run.
GIT_TIMEOUT = 5.0


def about(config: pytest.Config) -> dict[str, Any]:
    """Commit, machine, kernel, versions, options and date of a run that begins now."""
    settings = settings_of(config)
    return {
        **commit(config.rootpath),
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "machine": platform.node(),
        "cpus": os.cpu_count(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "pytest": pytest.__version__,
        "command": shlex.join(["pytest", *map(str, config.invocation_params.args)]),
        "link_engine": settings.link_engine or "",
        "seed": settings.seed,
        "finished": False,
    }


def commit(directory: Path) -> dict[str, Any]:
    """The commit of a working tree, its branch or tag, and whether files differ from it; empty where git knows none."""
    found = _git(directory, "rev-parse", "HEAD")
    if not found:
        return {"commit": "", "ref": "", "dirty": False}
    ref = _git(directory, "describe", "--all", "--exact-match", "HEAD").removeprefix("heads/")
    dirty = bool(_git(directory, "status", "--porcelain", "--untracked-files=no"))
    return {"commit": found, "ref": ref, "dirty": dirty}


def _git(directory: Path, *words: str) -> str:
    try:
        done = subprocess.run(
            ["git", "-C", str(directory), *words],
            capture_output=True,
            text=True,
            timeout=GIT_TIMEOUT,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""  # no git here, or none that answers: the results say no commit
    return done.stdout.strip() if done.returncode == 0 else ""
