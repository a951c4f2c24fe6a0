"""Every exception of pytest_iroh.official.

::

    OfficialError
    |- OfficialUnavailable     the bindings cannot be had on this machine; ``remedy`` says what helps
    |- OfficialTimeout         (also TimeoutError) no answer in time
    |- OfficialCallFailed      the bindings said no; the message is theirs
    `- OfficialDied            the subprocess ended while it was needed
"""

from __future__ import annotations


class OfficialError(Exception):
    """The root of what goes wrong with an official peer; ``log_tail`` is the end of its stderr."""

    def __init__(self, message: str, *, log_tail: str = "") -> None:
        super().__init__(f"{message}\n--- its stderr ends with ---\n{log_tail}" if log_tail else message)
        self.log_tail = log_tail


class OfficialUnavailable(OfficialError):
    """That version of the bindings cannot be installed here; ``remedy`` is one sentence that helps."""

    def __init__(self, message: str, *, remedy: str, log_tail: str = "") -> None:
        super().__init__(f"{message}: {remedy}", log_tail=log_tail)
        self.remedy = remedy


class OfficialTimeout(OfficialError, TimeoutError):
    """The official peer did not do in time what it was asked for."""


class OfficialCallFailed(OfficialError):
    """The bindings refused or failed a call."""


class OfficialDied(OfficialError):
    """The subprocess that runs the bindings has ended."""
