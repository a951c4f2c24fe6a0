"""What holds for the whole suite. Where a test goes and what it may cost: tests/README.md."""

from __future__ import annotations

from hypothesis import settings

pytest_plugins = ["pytester"]

# Two busy cores make any one example slow now and then; the suite's own time limit is what counts.
settings.register_profile("suite", deadline=None, print_blob=True)
settings.load_profile("suite")
