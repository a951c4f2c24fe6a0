"""Where evidence is linked from: JUnit files, and the table of pytest-html."""

from __future__ import annotations

import html
import json
import re
from pathlib import Path
from xml.etree import ElementTree

import pytest

TESTS = """
def test_fails(lab):
    lab.happen("down", "laptop", "laptop went down")
    assert False

def test_passes(lab):
    lab.happen("down", "laptop", "laptop went down")

def test_of_nothing(): pass
"""

pytestmark = pytest.mark.usefixtures("fake_labs")


@pytest.fixture
def project(pytester: pytest.Pytester) -> pytest.Pytester:
    """Three tests with a lab that needs no kernel."""
    pytester.makepyfile(TESTS)
    return pytester


def junit_properties(path: Path) -> dict[str, dict[str, str]]:
    """The properties of each test case of a JUnit file."""
    cases = ElementTree.parse(path).getroot().iter("testcase")
    return {
        case.attrib["name"]: {p.attrib["name"]: p.attrib["value"] for p in case.iter("property")}
        for case in cases
    }


@pytest.mark.parametrize("workers", [(), ("-n", "1")], ids=["alone", "xdist"])
def test_junit_names_seed_engine_and_evidence(pytester: pytest.Pytester, workers: tuple[str, ...]) -> None:
    """A dashboard can say how to run a test again, and where its evidence is."""
    # A virtual network needs no kernel, and unlike a fake one it is there in a worker.
    pytester.makepyfile(
        """
        import pytest
        pytestmark = pytest.mark.virtual_time(seed=3)

        async def test_fails(sim):
            sim.link(sim.host("laptop"), delay=0.1)
            assert False

        async def test_passes(sim):
            sim.link(sim.host("laptop"), delay=0.1)

        def test_of_nothing(): pass
        """
    )

    pytester.runpytest_subprocess("--junitxml=junit.xml", *workers).assert_outcomes(failed=1, passed=2)

    found = junit_properties(pytester.path / "junit.xml")
    assert found["test_passes"] == {"netns_seed": "3", "netns_engine": "simulation"}
    assert found["test_of_nothing"] == {}
    directory = Path(found["test_fails"].pop("netns_artifacts"))
    assert (directory / "report.html").exists()
    assert found["test_fails"] == {"netns_seed": "3", "netns_engine": "simulation"}


@pytest.mark.parametrize("place", ["report.html", "deep/er/report.html"])
def test_html_table_links_to_the_page(project: pytest.Pytester, place: str) -> None:
    """The link is relative, once per attempt, and leads to a file, wherever the table is written."""
    pytest.importorskip("pytest_html", reason="no pytest-html here: pip install pytest-html")

    project.runpytest(f"--html={place}").assert_outcomes(failed=1, passed=2)

    table = project.path / place
    blob = re.search(r'data-jsonblob="([^"]*)"', table.read_text())
    assert blob is not None
    tests = json.loads(html.unescape(blob.group(1)))["tests"]
    links = {name: [x for row in rows for x in row["extras"]] for name, rows in tests.items()}
    (link,) = next(found for name, found in links.items() if name.endswith("::test_fails"))
    assert link["name"] == "evidence attempt-1"
    assert (table.parent / link["content"]).resolve().name == "report.html"
    assert (table.parent / link["content"]).resolve().exists()
    assert not any(found for name, found in links.items() if not name.endswith("::test_fails"))


def test_without_pytest_html_nothing_is_missing(project: pytest.Pytester) -> None:
    """It is optional."""
    project.runpytest("-p", "no:html").assert_outcomes(failed=1, passed=2)
