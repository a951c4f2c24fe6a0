"""What a failed test says about its network: a section of the report, properties, and files."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterable
from typing import Any

import pytest

from pytest_iroh import links, repro
from pytest_iroh.attempt import Attempt
from pytest_iroh.evidence import describe_lab
from pytest_iroh.timeline import SimEvents

SECTION = "netns story"


def add_story(item: pytest.Item, call: pytest.CallInfo[None], report: pytest.TestReport) -> None:
    """Save the evidence of a finished phase as the policy says, and tell the story of a failed one."""
    attempt = Attempt.of(item)
    if attempt is None:
        return
    attempt.failed = attempt.failed or report.failed
    evidence = attempt.evidence
    if report.when == "call" or report.failed:
        evidence.outcome, evidence.duration = report.outcome, call.duration
        evidence.reason = evidence.reason or report.longreprtext
        evidence.headline = evidence.headline or _headline(report)
        _describe(item, attempt, report)
    # The labs still stand after "setup" and "call"; after "teardown" only a failed tear-down has news.
    due = report.failed or (report.when == "call" and evidence.wanted(attempt.failed))
    if due and evidence.wanted(attempt.failed) and evidence.save() is not None:
        links.add_property(item, report, links.ARTIFACTS, evidence.directory)
    if report.failed and not evidence.empty:
        report.sections.append((SECTION, _story(attempt, call)))


def flaky(reports: Iterable[Any]) -> list[str]:
    """A line per test that failed at first and passed when it was run again, and one with their number."""
    lines = []
    for report in reports:
        properties = dict(getattr(report, "user_properties", ()))
        if getattr(report, "when", "") == "call" and report.passed and links.ATTEMPT in properties:
            kept = [os.path.relpath(directory) for directory in links.artifact_directories(report)]
            where = f"; what happened before: {', '.join(kept)}" if kept else ""
            lines.append(f"flaky: {report.nodeid} passed at attempt {properties[links.ATTEMPT]}{where}")
    return [f"{len(lines)} flaky", *lines] if lines else []


def _headline(report: pytest.TestReport) -> str:
    """The first line of what was raised."""
    crash = getattr(report.longrepr, "reprcrash", None)
    return str(crash.message).strip().partition("\n")[0] if report.failed and crash is not None else ""


def _describe(item: pytest.Item, attempt: Attempt, report: pytest.TestReport) -> None:
    """The properties by which a run can be repeated, also of tests that passed."""
    for lab in attempt.recorder.labs:
        if lab.seed is not None:
            links.add_property(item, report, links.SEED, lab.seed)
        if engine := getattr(lab, "link_engine", ""):
            links.add_property(item, report, links.ENGINE, engine)
    if attempt.number > 1:
        links.add_property(item, report, links.ATTEMPT, attempt.number)


def _story(attempt: Attempt, call: pytest.CallInfo[None]) -> str:
    evidence = attempt.evidence
    labs = evidence.recorder.labs
    lines = [describe_lab(lab) for lab in labs]
    if len(labs) == 1 and not isinstance(labs[0], SimEvents):
        engine = " --netns-link-engine netem" if getattr(labs[0], "uses_netem", False) else ""
        lines[-1] += f" (the same again: --netns-seed {labs[0].seed}{engine})"
    if not _told(call):
        lines.append(evidence.recorder.story())
    if evidence.directory is not None:
        lines.append(f"artifacts: {os.path.relpath(evidence.directory)}")
        if (evidence.directory / repro.FILE).exists():
            again = shlex.quote(os.path.relpath(evidence.directory / repro.FILE))
            lines.append(f"again: pytest --netns-replay {again}")
    return "\n".join(filter(None, [*lines, *evidence.troubles]))


def _told(call: pytest.CallInfo[Any]) -> bool:
    """Whether the failure itself is a story, which is not told twice."""
    from pytest_iroh.healing import DidNotHeal

    return call.excinfo is not None and call.excinfo.errisinstance(DidNotHeal)
