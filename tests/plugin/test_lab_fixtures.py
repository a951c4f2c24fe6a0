"""``lab_fixture`` and ``lab_factory`` in a downstream conftest: networks with names, in every scope."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.requires_netns

CONFTEST = """
from pytest_iroh import lab_fixture

def build(lab):
    \"\"\"Two homes and a server.\"\"\"
    home, office = lab.router("home", nat="moderate"), lab.router("office", nat="strict")
    lab.host("laptop", uplink=home)
    lab.host("desk-top", uplink=office)

two_homes = lab_fixture("two_homes", build, scope={scope!r}, seed=7)
"""

TESTS = """
import pytest

SEEN = []

@pytest.mark.parametrize("number", range(2))
def test_nodes(two_homes, number):
    SEEN.append(two_homes.lab)
    assert two_homes.lab.seed == 7 and two_homes.lab.mode       # built at set-up
    assert two_homes.laptop.ip == "192.168.1.10"
    assert two_homes.desk_top.lab is two_homes.lab
    assert two_homes.home.nat.kind == "moderate"
    assert {"laptop", "desk_top", "home", "office", "lab"} <= set(dir(two_homes))

def test_scope():
    same = SEEN[0] is SEEN[1]
    assert same == (%r != "function" and %r != "class")
    assert SEEN[0].closed == (not same)
"""


@pytest.mark.parametrize("scope", ["function", "class", "module", "package", "session"])
def test_a_network_lives_as_long_as_its_scope(pytester: pytest.Pytester, scope: str) -> None:
    """In every scope of pytest: made once per scope, closed at its end, nodes as attributes."""
    pytester.makeconftest(CONFTEST.format(scope=scope))
    pytester.makepyfile(TESTS % (scope, scope))

    pytester.runpytest("--netns-strict").assert_outcomes(passed=3)


def test_a_builder_returns_what_tests_get(pytester: pytest.Pytester) -> None:
    """A dataclass of its hosts, for tests with types; its docstring is the fixture's."""
    pytester.makeconftest(
        """
        from dataclasses import dataclass
        from netns_fixtures import Host, Lab
        from pytest_iroh import lab_fixture

        @dataclass
        class Cafe:
            laptop: Host
            server: Host

        def build(lab: Lab) -> Cafe:
            '''A laptop in a cafe.'''
            laptop = lab.host("laptop", uplink=lab.router("cafe", nat="moderate"))
            return Cafe(laptop, lab.host("server", uplink=lab.router("centre")))

        made_under_another_name = lab_fixture("cafe", build)
        """
    )
    pytester.makepyfile("def test_it(cafe): assert cafe.laptop.ip and cafe.server.ip")

    pytester.runpytest("--netns-strict").assert_outcomes(passed=1)
    pytester.runpytest("--fixtures").stdout.fnmatch_lines(
        ["cafe -- *conftest.py:*", "    A laptop in a cafe."]
    )


def test_an_unknown_node_is_named_with_those_that_exist(pytester: pytest.Pytester) -> None:
    """A typing mistake in a test says which nodes the network has."""
    pytester.makeconftest(CONFTEST.format(scope="function"))
    pytester.makepyfile("def test_it(two_homes): two_homes.labtop")

    result = pytester.runpytest()

    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        ["E*lab two_homes has no node 'labtop'; it has home, office, laptop, desk_top"]
    )


@pytest.mark.parametrize(
    ("call", "words"),
    [
        ('lab_fixture("two_homes", print, scope="file")', "*scope='file'): it is one of session, package*"),
        ('lab_fixture("two homes", print)', "*a fixture's name is a Python name*"),
    ],
)
def test_impossible_fixtures_are_usage_errors(pytester: pytest.Pytester, call: str, words: str) -> None:
    """Mistakes in a conftest end the run with one sentence."""
    pytester.makeconftest(f"from pytest_iroh import lab_fixture\nx = {call}")

    result = pytester.runpytest()

    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([words])


@pytest.mark.parametrize("scope", ["function", "class", "module", "package", "session"])
def test_lab_factory_serves_fixtures_of_any_scope(pytester: pytest.Pytester, scope: str) -> None:
    """A fixture of any scope makes a lab; its events are on the timeline of the test that runs."""
    pytester.makeconftest(
        f"""
        import pytest

        @pytest.fixture(scope={scope!r})
        def office(lab_factory):
            with lab_factory("office") as lab:
                yield lab.host("desk", uplink=lab.router("office", nat="strict"))
        """
    )
    pytester.makepyfile(
        """
        import pytest

        @pytest.mark.parametrize("number", range(2))
        def test_it(office, recorder, number):
            office.renumber()
            assert [e.text for e in recorder.entries if "renumbered" in e.text]
        """
    )

    pytester.runpytest("--netns-strict").assert_outcomes(passed=2)
