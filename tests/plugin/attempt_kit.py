"""A pytest of its own with one test that fails, and what that leaves."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

#: Seconds for a pytest with a lab or two, on a busy machine.
RUN_TIMEOUT = 100


def failed_attempt(place: Path, test: str, outcome: str) -> Path:
    """Run this text as a test file in an empty folder; the directory of the failing test's only attempt."""
    (place / "test_it.py").write_text(textwrap.dedent(test))
    (place / "pytest.ini").write_text("[pytest]\nasyncio_mode = auto\n")
    argv = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    done = subprocess.run(argv, cwd=place, capture_output=True, text=True, timeout=RUN_TIMEOUT)
    assert outcome in done.stdout, done.stdout
    assert "could not be saved" not in done.stdout
    (directory,) = (place / "test-results").glob("*/attempt-*")
    return directory
