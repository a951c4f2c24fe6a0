"""Programs that some tests need and a user of the project does not."""

from __future__ import annotations

import os
import shutil

import pytest


def needs(program: str, package: str) -> pytest.MarkDecorator:
    """Skip where a program is not installed, and say how it would be; in CI, which installs it, never."""
    missing = shutil.which(program) is None and os.environ.get("CI") != "true"
    return pytest.mark.skipif(missing, reason=f"no {program} here: apt-get install {package}")
