"""Evidence of endpoints: ``keys.log`` (TLS secrets) and ``qlog/`` (what QUIC did), for Wireshark and qvis."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pytest_iroh.evidence import Collector, Evidence

if TYPE_CHECKING:
    from pytest_iroh.qlog import EndpointLogs

#: A collector may leave the text of an SSLKEYLOGFILE here: it goes into the capture files, and Wireshark decrypts.
KEY_LOG = "key log"
NAME = "the logs of endpoints"


class EndpointCollector(Collector):
    """Before the packets are saved, so that their files hold the secrets."""

    name = NAME

    def save(self, evidence: Evidence, directory: Path) -> None:
        logs: EndpointLogs | None = evidence.kept.get(NAME)
        if logs is not None:
            evidence.kept[KEY_LOG] = logs.secrets
            logs.save(directory)

    def end(self, evidence: Evidence) -> None:
        evidence.kept.pop(NAME, None)


def logs_of(evidence: Evidence) -> EndpointLogs | None:
    """Where endpoints of this attempt write their logs, made at first use; None where no evidence is kept."""
    if evidence.settings.artifacts == "off":
        return None
    from pytest_iroh.qlog import EndpointLogs

    found: EndpointLogs = evidence.kept.setdefault(NAME, EndpointLogs())
    return found
