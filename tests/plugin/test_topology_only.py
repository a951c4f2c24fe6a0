"""``--netns-topology-only``: networks are built, tests are not run, and nobody takes that for a pass."""

from __future__ import annotations

import pytest

PROJECT = """
import unittest
import pytest
from pytest_iroh import lab_fixture

def build(lab):
    lab.host("laptop", uplink=lab.router("home", nat="moderate"))

two_homes = lab_fixture("two_homes", build, scope="module", seed=3, build=False)

def test_first():
    pytest.fail("the body ran")

@pytest.fixture
def cafe(lab):
    lab.host("phone", uplink=lab.router("cafe"))
    yield lab
    assert lab.mode, "it was built"

def test_plain(two_homes):
    pytest.fail("the body ran")

async def test_async(cafe, two_homes):
    pytest.fail("the body ran")

@pytest.mark.virtual_time
async def test_virtual():
    pytest.fail("the body ran")

class TestOld(unittest.TestCase):
    def test_unittest(self):
        self.fail("the body ran")
"""


@pytest.mark.requires_netns
@pytest.mark.parametrize("workers", [(), ("-n", "1")], ids=["alone", "xdist"])
def test_every_lab_is_built_and_no_body_runs(pytester: pytest.Pytester, workers: tuple[str, ...]) -> None:
    """Plain, async, virtual and unittest tests alike are skipped, with what was built as the reason."""
    pytester.makepyfile(PROJECT)

    result = pytester.runpytest_subprocess("--netns-topology-only", "--netns-strict", "-rs", *workers)

    result.assert_outcomes(skipped=5)
    result.stdout.fnmatch_lines(["netns: Linux *; topology only, no test body runs"])
    result.stdout.fnmatch_lines(
        [
            "SKIPPED * topology only: no lab is described by the fixtures",
            'SKIPPED * topology only: built lab "two_homes" (1 hosts, 1 routers, seed 3)',
        ]
    )
    result.stdout.fnmatch_lines(["topology only: 2 labs built, no test body ran"])


@pytest.mark.requires_netns
def test_with_artifacts_on_each_topology_is_drawn(pytester: pytest.Pytester) -> None:
    """The page of a network that nobody has tested yet."""
    pytester.makepyfile(PROJECT)

    result = pytester.runpytest("--netns-topology-only", "--netns-artifacts=on", "-k", "test_plain")

    result.assert_outcomes(skipped=1)

    (page,) = pytester.path.glob("test-results/*test_plain/attempt-1/report.html")
    assert "laptop" in page.read_text()


@pytest.mark.requires_netns
def test_a_network_that_cannot_be_built_fails(pytester: pytest.Pytester) -> None:
    """What the run is for: mistakes in networks are errors of their tests."""
    pytester.makepyfile(
        """
        import pytest
        from netns_fixtures import CommandFailed

        @pytest.fixture
        def broken(lab, monkeypatch):
            lab.host("laptop", uplink=lab.router("home"))
            def refuse():
                raise CommandFailed(("ip", "link"), 2, "no", "laptop")
            monkeypatch.setattr(lab, "build", refuse)

        def test_it(broken): pass
        """
    )

    pytester.runpytest("--netns-topology-only").assert_outcomes(failed=1)
