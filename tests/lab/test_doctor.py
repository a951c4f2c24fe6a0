"""The doctor: what this machine can do, and what helps where it cannot."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from netns_fixtures import doctor
from netns_fixtures.cli import main
from netns_fixtures.errors import MissingCapability
from netns_fixtures.features import Capabilities, Feature


@pytest.fixture
def nothing_works(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> None:
        raise MissingCapability("no unprivileged user namespaces here", "run: sudo sysctl -w x=1")

    doctor._capabilities.cache_clear()
    monkeypatch.setattr(doctor, "shared_agent", refuse)


@pytest.fixture(autouse=True)
def _forget() -> None:
    doctor._capabilities.cache_clear()


def test_doctor_and_labs_agree() -> None:
    """What the doctor calls possible is what this suite's labs do; each missing thing has a remedy."""
    found = doctor.capabilities()
    assert found.ok
    assert found.mode in ("root", "userns")
    assert all(found.has(name) for name in ("netns", "veth", "bridge", "nft_nat", "conntrack_flush", "wire"))
    assert all(feature.remedy for feature in found.missing)
    assert doctor.capabilities() is found


def test_report_as_json_has_every_feature() -> None:
    """`netns-lab doctor --json` is one object, exit status 0 where labs run."""
    done = CliRunner().invoke(main, ["doctor", "--json"])
    report = json.loads(done.output)
    assert done.exit_code == 0
    assert report["ok"] is True
    assert {"netem", "tun", "bind_to_device", "ping_socket"} <= {f["name"] for f in report["features"]}


def test_report_as_table_ends_with_the_verdict() -> None:
    """For people: one line each, the verdict last."""
    done = CliRunner().invoke(main, ["doctor"])
    assert "labs run here" in done.output.splitlines()[-1]


@pytest.mark.usefixtures("nothing_works")
def test_machine_without_rights_is_told_the_command() -> None:
    """No traceback: the sentence, the command that helps, exit status 1."""
    done = CliRunner().invoke(main, ["doctor"])
    assert done.exit_code == 1
    assert "sysctl" in done.output
    assert "do not run here" in done.output
    with pytest.raises(MissingCapability, match=r"user namespaces here; run: sudo sysctl -w x=1"):
        doctor.capabilities().require("nft_nat")


def test_required_feature_that_is_missing_raises_with_its_remedy() -> None:
    """The sentence with which tests are skipped."""
    features = (Feature("netem", False, "impair links in the kernel", "no netem", "run: modprobe sch_netem"),)
    found = Capabilities("root", "6.18", features)
    assert found.ok
    assert found.line() == "root, netem no"
    with pytest.raises(
        MissingCapability, match=r"impair links in the kernel: no netem; run: modprobe sch_netem"
    ):
        found.require("netem")
