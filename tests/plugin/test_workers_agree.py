"""Eight workers on few cores give the same results as one: what a seed decides does not depend on the load."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.requires_netns

SUITE = """
import json
import os
import socket
from pathlib import Path

import pytest

#: What is sent: fewer than the link's queue holds, so that only the seed decides.
PACKETS = 60

def fates(lab, **condition):
    "Which of the numbered packets came through, in the order of their arrival."
    router = lab.router("centre", ipv6=False)
    sender, receiver = lab.host("sender", uplink=router), lab.host("receiver", uplink=router)
    with sender.socket(socket.AF_INET, socket.SOCK_DGRAM) as out, receiver.socket(
        socket.AF_INET, socket.SOCK_DGRAM
    ) as inside:
        inside.bind((receiver.ip, 7))
        inside.settimeout(20)
        out.sendto(b"first", (receiver.ip, 7))       # neighbours are known from here on
        inside.recv(10)
        sender.link.condition(direction="egress", **condition)
        for number in range(PACKETS):
            out.sendto(str(number).encode(), (receiver.ip, 7))
        inside.settimeout(0.2)
        found = []
        for _ in range(100):                         # nothing overtakes: after one of these no number comes
            out.sendto(b"last", (receiver.ip, 7))
            try:
                while (data := inside.recv(10)) != b"last":
                    found.append(int(data))
                return found
            except TimeoutError:
                continue                             # this one was lost, too
    pytest.fail("everything is lost")

@pytest.mark.parametrize("number", range(8))
def test_fates(lab, number, request):
    found = fates(lab, loss=0.1 + number * 0.08)
    assert 0 < len(found) < PACKETS
    Path(os.environ["FATES"], f"{number}.json").write_text(json.dumps([lab.seed, found]))
"""


def _fates(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, name: str, *workers: str
) -> dict[str, Any]:
    place = pytester.mkdir(name)
    monkeypatch.setenv("FATES", str(place))
    result = pytester.runpytest_subprocess("--netns-seed=5", "--netns-strict", *workers)
    result.assert_outcomes(passed=8)
    return {path.name: json.loads(path.read_text()) for path in Path(place).iterdir()}


@pytest.mark.timeout(300)  # nine interpreters start, and other work may run
def test_eight_workers_see_the_same_packets_lost_as_one(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same seed drops the same packets of the same test, alone and beside seven others."""
    pytester.makepyfile(SUITE)

    alone = _fates(pytester, monkeypatch, "alone")
    beside = _fates(pytester, monkeypatch, "beside", "-n", "8")

    assert len({str(found) for found in alone.values()}) == 8, "each test has losses of its own"
    assert beside == alone
