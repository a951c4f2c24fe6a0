"""Where evidence is linked from: properties of reports (JUnit files), and pytest-html's table."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

#: The properties of a report; they travel through xdist and into JUnit files. The directory of the evidence:
ARTIFACTS = "netns_artifacts"
#: The seed and the link engine of each lab of the test:
SEED = "netns_seed"
ENGINE = "netns_engine"
#: How often the test had been run when this report was made; only from the second time on:
ATTEMPT = "netns_attempt"
#: The page in the directory of an attempt.
PAGE = "report.html"


def add_property(item: pytest.Item, report: pytest.TestReport, name: str, value: object) -> None:
    """Add a property to a report and to those of the test's later phases, once."""
    entry = (name, str(value))
    for properties in (item.user_properties, report.user_properties):
        if entry not in properties:
            properties.append(entry)


def artifact_directories(report: Any) -> list[str]:
    """The directories of evidence that a report names, oldest attempt first."""
    return [str(value) for name, value in getattr(report, "user_properties", ()) if name == ARTIFACTS]


class HtmlLinks:
    """Gives pytest-html a link to the evidence of each test; registered where pytest-html writes a report."""

    def __init__(self, html: str) -> None:
        # As pytest-html finds its own file: relative to where pytest was started.
        self._base = Path(os.path.expandvars(html)).expanduser().absolute().parent
        #: It joins the phases of a test, and the later ones name the directory again.
        self._linked: set[tuple[str, str]] = set()

    @classmethod
    def register(cls, config: pytest.Config) -> None:
        """Register them in the process that writes the report, if there is to be one."""
        html = config.getoption("htmlpath", None)
        if html and not hasattr(config, "workerinput"):
            config.pluginmanager.register(cls(html), "netns-html-links")

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logreport(self, report: Any) -> None:
        """Add them before pytest-html looks at the report."""
        directories = [d for d in artifact_directories(report) if (report.nodeid, d) not in self._linked]
        self._linked.update((report.nodeid, directory) for directory in directories)
        links = [_link(Path(directory), self._base) for directory in directories]
        if links:
            report.extras = [*getattr(report, "extras", []), *links]


def _link(directory: Path, base: Path) -> dict[str, str | None]:
    """What ``pytest_html.extras.url`` makes; writing it here keeps pytest-html optional."""
    page = directory / PAGE
    target = os.path.relpath(page if page.exists() else directory, base)
    name = f"evidence {directory.name}"
    return {"name": name, "format_type": "url", "content": target, "mime_type": None, "extension": None}
