"""``repro.yaml`` in the evidence of a test: its networks, seeds and verbs, as a scenario file.

Nothing of the lab is imported before a test has one: this module is loaded in every pytest run.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from pytest_iroh.evidence import Collector, Evidence, register

#: The file of the first lab; those of further ones are repro-2.yaml, repro-3.yaml.
FILE = "repro.yaml"


class ReproCollector(Collector):
    """A scenario file per lab, with the test, the seeds of all its labs, and the versions of what ran."""

    name = "the repro file"

    def save(self, evidence: Evidence, directory: Path) -> None:
        labs = evidence.recorder.labs
        if not labs:
            return
        from netns_fixtures.repro import versions
        from netns_fixtures.scenario import Scenario

        about = {
            "test": evidence.nodeid,
            "outcome": evidence.outcome,
            "labs": [{"name": lab.name, "seed": lab.seed} for lab in labs],
            "versions": {**versions(), "pytest": pytest.__version__},
        }
        for number, lab in enumerate(labs, 1):
            scenario = Scenario.of(lab) if _is_lab(lab) else Scenario(name=lab.name, seed=lab.seed)
            path = directory / (FILE if number == 1 else f"repro-{number}.yaml")
            scenario.with_test(**about).save(path)


def _is_lab(lab: Any) -> bool:
    """Whether it is a lab of namespaces, whose module then is loaded already."""
    module = sys.modules.get("netns_fixtures.lab")
    return module is not None and isinstance(lab, module.Lab)


register(ReproCollector())
