"""What happens to a test that needs what this machine cannot do: skipped, or failed when strict."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any, NoReturn

import pytest

from pytest_iroh.options import settings_of

#: The property of a report that names the missing feature and the remedy; it travels through xdist and into
#: JUnit.
PROPERTY = "netns_missing"
_ERROR = "netns_fixtures.errors.MissingCapability"


def give_up(item: pytest.Item, what: str, remedy: str) -> NoReturn:
    """Skip a test for want of a feature, or fail it under ``--netns-strict``."""
    reason = f"{what}; {remedy}" if remedy else what
    item.user_properties.append((PROPERTY, reason))
    if settings_of(item.config).strict:
        pytest.fail(f"not possible here: {reason} (skipped without --netns-strict)", pytrace=False)
    raise pytest.skip.Exception(f"not possible here: {reason}", _use_item_location=True)


def missing_capability(error: BaseException) -> Any:
    """The MissingCapability that an exception is, or is made of; None if it is about something else."""
    # By name: importing the lab only to look at every failure of every project would cost time for nothing.
    if any(f"{kind.__module__}.{kind.__name__}" == _ERROR for kind in type(error).__mro__):
        return error
    if isinstance(error, BaseExceptionGroup):
        parts = [missing_capability(part) for part in error.exceptions]
        return parts[0] if parts and all(parts) else None
    return None


def summary(reports: Iterable[Any]) -> list[str]:
    """One line per missing feature: how many tests it kept from running, and what helps."""
    counts = Counter(
        (str(value), report.outcome)
        for report in reports
        for name, value in getattr(report, "user_properties", ())
        if name == PROPERTY and getattr(report, "outcome", "passed") != "passed"
    )
    return [
        f"{count} {outcome}, not possible here: {reason}"
        for (reason, outcome), count in sorted(counts.items())
    ]


@contextlib.contextmanager
def gives_up(item: pytest.Item) -> Iterator[None]:
    """Turn a MissingCapability that a test or its fixtures raise into a skip (or failure) of the test."""
    try:
        yield
    except Exception as error:
        found = missing_capability(error)
        if found is None:
            raise
        give_up(item, found.what, found.remedy)
