"""One run of one test: what was recorded during it. A test that is run again has another attempt."""

from __future__ import annotations

import pytest

from pytest_iroh.evidence import Evidence
from pytest_iroh.labs import OPEN_LABS
from pytest_iroh.options import Settings, settings_of
from pytest_iroh.timeline import Recorder

ATTEMPT = pytest.StashKey["Attempt"]()
#: How often a test was begun: plugins that run failed tests again keep the item.
COUNT = pytest.StashKey[int]()


class Attempt:
    """From the set-up of a test to its tear-down."""

    def __init__(self, nodeid: str, settings: Settings, number: int = 1) -> None:
        self.nodeid = nodeid
        #: 1, and more where a test is run again.
        self.number = number
        self.settings = settings
        self.recorder = Recorder(settings.timeout_scale)
        self.evidence = Evidence(nodeid, settings, self.recorder)
        self.failed = False

    @classmethod
    def begin(cls, item: pytest.Item) -> Attempt:
        """Begin to record for a test; labs that outlive tests are recorded, too."""
        cls.end(item)
        number = item.stash[COUNT] = item.stash.get(COUNT, 0) + 1
        attempt = item.stash[ATTEMPT] = cls(item.nodeid, settings_of(item.config), number)
        attempt.recorder.__enter__()
        for lab in OPEN_LABS:
            attempt.recorder.watch_lab(lab)
        return attempt

    @classmethod
    def of(cls, item: pytest.Item) -> Attempt | None:
        """The attempt of a test that runs now."""
        return item.stash.get(ATTEMPT, None)

    @classmethod
    def end(cls, item: pytest.Item) -> None:
        """Stop recording for a test, and forget what was recorded."""
        attempt = item.stash.get(ATTEMPT, None)
        if attempt is not None:
            del item.stash[ATTEMPT]
            attempt.recorder.__exit__()
            attempt.evidence.end()
