"""What users read is true: snippets work, tables name what exists, links lead somewhere."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from doc_kit import ROOT, Snippet, documents, name_of, snippets

from iroh_py import testing
from iroh_py.testing.nat_table import KINDS
from netns_fixtures import (
    Balancer,
    CaptivePortal,
    Host,
    Interface,
    Lab,
    LabError,
    Nat,
    NatKind,
    NodeFirewall,
    Router,
)
from netns_fixtures import errors as lab_errors
from netns_fixtures.presets import LINKS
from netns_fixtures.process import HostProcess
from pytest_iroh import plugin
from pytest_iroh.official.peer import OfficialPeer
from pytest_iroh.options import OPTIONS

SNIPPETS = snippets()
#: Seconds for a program of the simulation; it takes two.
PATIENCE = 60


def doc(name: str) -> str:
    return (ROOT / "docs" / name).read_text()


def public_names(*kinds: type) -> list[str]:
    """Methods and properties that a class adds itself."""
    return sorted({name for kind in kinds for name in vars(kind) if not name.startswith("_")})


@pytest.mark.parametrize("snippet", SNIPPETS, ids=str)
def test_snippet_compiles(snippet: Snippet) -> None:
    """No snippet has a syntax error."""
    snippet.compile()


@pytest.mark.parametrize("snippet", [s for s in SNIPPETS if s.is_program and not s.needs_lab], ids=str)
def test_simulated_program_runs(snippet: Snippet, tmp_path: Path) -> None:
    """A program that needs no lab ends well, without a warning."""
    program = tmp_path / "program.py"
    program.write_text(snippet.code)
    done = subprocess.run(
        [sys.executable, "-W", "error", str(program)],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("snippet", [s for s in SNIPPETS if s.is_test and not s.needs_lab], ids=str)
def test_simulated_tests_pass(pytester: pytest.Pytester, snippet: Snippet) -> None:
    """A test that needs no lab passes, under virtual time."""
    pytester.makeini("[pytest]\naddopts = --strict-markers -p no:cacheprovider\nfilterwarnings = error")
    pytester.makepyfile(snippet.code)
    result = pytester.runpytest("-p", "no:asyncio")
    assert set(result.parseoutcomes()) == {"passed"}


@pytest.mark.parametrize("document", documents(), ids=name_of)
def test_links_inside_the_repository_lead_somewhere(document: Path) -> None:
    """A relative link names a file, and a heading where it has a fragment."""
    text = re.sub(r"^```.*?^```$", "", document.read_text(), flags=re.MULTILINE | re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if "://" in target:
            continue
        name, _hash, fragment = target.partition("#")
        path = document.parent / name if name else document
        assert path.exists(), f"{document.name} links to {target}"
        if fragment:
            assert fragment in headings(path), f"{document.name} links to {target}"


def headings(path: Path) -> set[str]:
    """The anchors that GitHub makes of headings."""
    found = re.findall(r"^#+ (.+)$", path.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-") for text in found}


# --- docs/lab.md ---


def test_lab_page_names_every_handle_and_verb() -> None:
    """Whatever a user can call on a host, a router or an interface is explained somewhere on the page."""
    inner = {
        "plan",
        "plug",
        "apply_condition",
        "describe_condition",
        "describe_mtu",
        "describe",
        "describe_portal",
        "set_portal",
        "start",
        "wait_started",
        "close",
        "spawn",
        "host",
    }  # not for users; "host" is in each example
    names = (
        set(public_names(Host, Interface, Router, Nat, NodeFirewall, CaptivePortal, Balancer, HostProcess))
        - inner
    )
    page = doc("lab.md")
    missing = {name for name in names if not re.search(rf"\b{name}\b", page)}
    # They feed the object from the pump's thread, or say again what a documented name says.
    assert missing <= {"take_output", "take_end", "output_bytes", "stdout", "stderr", "kind"}


def test_lab_page_has_the_presets_as_they_are() -> None:
    """The table of presets is that of the code."""
    page = doc("lab.md")
    for preset in LINKS.values():
        c = preset.condition
        rate = "" if c.rate is None else f"{c.rate / 1e6:g} "
        row = f"| `{preset.name}` | {c.delay * 1e3:g} | {c.jitter * 1e3:g} | {c.loss * 100:g} | {c.burst:g} "
        assert f"{row}| {rate}| {c.queue * 1e3:g} |" in page


def test_lab_page_names_every_nat_kind_and_error() -> None:
    """NAT kinds and errors are complete."""
    page = doc("lab.md")
    assert all(f'| `"{kind}"` |' in page for kind in NatKind)
    errors = [
        name
        for name, value in vars(lab_errors).items()
        if isinstance(value, type) and issubclass(value, LabError)
    ]
    assert [name for name in errors if f"`{name}`" not in page and f".{name}`" not in page] == []


def test_signatures_on_the_lab_page_are_those_of_the_code() -> None:
    """Parameters and defaults of router() and host() are as written."""
    page = doc("lab.md")
    for function, start in (
        (Lab.router, 'lab.router(name, nat="none", upstream=None, *, '),
        (Lab.host, "lab.host(name, uplink, *, "),
    ):
        keywords = ", ".join(f"{name}={value!r}" for name, value in (function.__kwdefaults__ or {}).items())
        assert " ".join(f"{start}{keywords})".split()) in " ".join(page.split())


# --- docs/pytest.md ---


def test_pytest_page_names_every_option_in_each_place() -> None:
    """The table of options has command line, environment and ini of each."""
    page = doc("pytest.md")
    for option in OPTIONS:
        row = next(line for line in page.splitlines() if line.startswith(f"| `{option.flag}"))
        assert f"`{option.env}`" in row
        assert f"`{option.ini}`" in row


def test_pytest_page_names_every_fixture_and_marker() -> None:
    """Fixtures and markers are complete."""
    page = doc("pytest.md")
    names = [
        name for name, value in vars(plugin).items() if type(value).__name__ == "FixtureFunctionDefinition"
    ]
    assert {"lab", "heals", "official_iroh"} <= set(names)
    assert [name for name in names if f"| `{name}` |" not in page] == []
    for marker in plugin.MARKERS:
        assert f"@pytest.mark.{marker.partition('(')[0]}" in page


def test_pytest_page_names_every_method_of_an_official_peer() -> None:
    """What an official peer can do is listed."""
    page = doc("pytest.md")
    left_out = {
        "start",
        "start_ticker",
        "aio",
        "process",
        "log_tail",
        "add_addr",
        "ticker_log",
        "close_reason",
    }
    names = set(public_names(OfficialPeer)) - left_out
    assert [name for name in names if f"`{name}()`" not in page] == []


# --- docs/testing.md ---


def test_testing_page_names_everything_public() -> None:
    """Each public name of iroh_py.testing is explained."""
    page = doc("testing.md")
    plain = {
        "SimInterface",
        "SimListener",
        "SimNat",
        "TraceEvent",
        "VirtualClockLoop",
    }  # types of documented things
    assert [n for n in testing.__all__ if n not in plain and not re.search(rf"\b{n}\b", page)] == []
    assert all(f"| `{kind}` |" in page for kind in KINDS)
