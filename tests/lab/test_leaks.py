"""Labs leave nothing behind, however many there are one after the other."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "leak.py"
TIMEOUT = 110


def test_a_hundred_labs_in_a_row_leak_nothing() -> None:
    """No descriptor, thread, namespace, process or byte of disk is left, in the test process or its agent."""
    argv = [sys.executable, str(BENCHMARK), "--json", "--labs", "100", "--full-every", "20"]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=TIMEOUT, env=dict(os.environ))
    assert done.returncode in (0, 1), done.stderr
    result = json.loads(done.stdout)
    assert result["after"] == result["before"]
    assert done.returncode == 0
