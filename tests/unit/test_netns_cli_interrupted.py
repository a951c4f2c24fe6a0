"""netns-lab and Ctrl-C: 130 as in a shell, whatever fails on the way out."""

from __future__ import annotations

import click
import pytest
from click.testing import CliRunner

from netns_fixtures.cli.main import Group
from netns_fixtures.errors import AgentDied


def commands(*, interrupted: bool) -> Group:
    """A command line whose only command fails, perhaps while it ends because of Ctrl-C."""

    @click.command("work")
    def work() -> None:
        try:
            if interrupted:
                raise KeyboardInterrupt
        finally:
            raise AgentDied("the lab agent is gone")

    return Group(commands=[work])


@pytest.mark.parametrize(("interrupted", "status"), [(True, 130), (False, 125)])
def test_status_is_that_of_the_cause(interrupted: bool, status: int) -> None:
    """What is cut short may fail once more: Ctrl-C is still the reason, and no error is shown."""
    result = CliRunner().invoke(commands(interrupted=interrupted), ["work"])
    assert result.exit_code == status
    assert ("agent is gone" in result.output) is not interrupted
