"""Every exception of the lab.

::

    LabError
    |- MissingCapability   the machine cannot do it (a kernel feature, a right, a program); says what helps
    |- CommandFailed       a program or function that ran in a host failed
    |- TopologyError       the description is impossible (also a ValueError): a name twice, a full subnet
    |  `- ScenarioError    the same in a scenario file: names the place in it
    |- TimelineError       a step of a timeline failed; says which
    |- HostFrozen          a program cannot start in a host that is frozen
    |- LabClosed           a verb on a lab that you closed
    |- AgentDied           the process that owns the namespaces is gone, and every namespace with it
    `- LinkEngineError     a link cannot be impaired; never silently unimpaired
"""

from __future__ import annotations

from collections.abc import Sequence


class LabError(Exception):
    """Root of all errors of ``netns_fixtures``."""


class MissingCapability(LabError):
    """The machine lacks a feature or a right. ``what`` names it, ``remedy`` is what helps."""

    def __init__(self, what: str, remedy: str) -> None:
        super().__init__(what, remedy)
        self.what = what
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.what}; {self.remedy}" if self.remedy else self.what


class CommandFailed(LabError):
    """A command in a node ended with an error. ``stderr`` is what it said, ``node`` where it ran."""

    def __init__(self, argv: Sequence[str], returncode: int, stderr: str = "", node: str = "") -> None:
        super().__init__(tuple(argv), returncode, stderr, node)
        self.argv = tuple(argv)
        self.returncode = returncode
        self.stderr = stderr
        self.node = node

    def __str__(self) -> str:
        where = f" in {self.node}" if self.node else ""
        said = f": {self.stderr.strip()}" if self.stderr.strip() else ""
        return f"{' '.join(self.argv)!r}{where} failed with status {self.returncode}{said}"


class TopologyError(LabError, ValueError):
    """The network as described cannot exist."""


class HostFrozen(LabError):
    """The host is suspended: nothing starts there before ``host.thaw()``."""


class LabClosed(LabError):
    """You closed the lab; its namespaces are gone."""


class AgentDied(LabError):
    """The lab agent is gone, and with it every namespace and process of its labs."""


class LinkEngineError(LabError):
    """No engine can impair this link here."""


class TimelineError(LabError):
    """A step of a timeline failed; ``step`` is its number from 1, ``text`` what it was, ``at`` when it was due.

    The cause (``__cause__``) is what the step raised. Steps after it were not done.
    """

    def __init__(self, step: int, text: str, at: float, reason: str) -> None:
        super().__init__(step, text, at, reason)
        self.step = step
        self.text = text
        self.at = at
        self.reason = reason

    def __str__(self) -> str:
        return f"step {self.step} of the timeline, at {self.at:g} s, {self.text}: {self.reason}"


class ScenarioError(TopologyError):
    """A scenario file cannot be meant: says where in the file, and what would be right."""


class ResultsError(LabError, ValueError):
    """Results of tests cannot be read or compared: says which, and what is wrong with them."""
