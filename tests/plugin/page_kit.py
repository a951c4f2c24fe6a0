"""A timeline and a lab for tests of the page; the lab is only described, so no kernel is needed."""

from __future__ import annotations

from netns_fixtures import Lab
from pytest_iroh.page import Payload, Result, TopologyLog, render
from pytest_iroh.timeline import Entry

HOSTILE = '</script><script>document.title="owned"</script><!--<b>&\u2028'
ZERO = 1000.0


def two_homes() -> tuple[Lab, TopologyLog]:
    """A laptop at home, a hotspot behind a carrier, a server."""
    lab = Lab("two_homes", seed=7)
    home = lab.router("home", nat="moderate")
    hotspot = lab.router("hotspot", nat="cgnat")
    lab.host("laptop", uplink={"wlan0": home, "wwan0": hotspot})
    lab.host("server", uplink=lab.router("centre"), delay=0.02)
    return lab, TopologyLog(lab)


def entries() -> list[Entry]:
    """A replug, what followed, and words that want to break out."""
    return [
        Entry(ZERO, "lab", "", "lab two_homes built", {"kind": "lab_built"}),
        Entry(ZERO + 0.1, "path", "laptop", "path none -> 1.2.3.4:5", {"kind": "path", "path": "1.2.3.4:5"}),
        Entry(ZERO + 1.0, "lab", "laptop", "laptop wlan0 replugged home -> hotspot", {"kind": "replugged"}),
        Entry(
            ZERO + 1.01, "netmon", "laptop", "wlan0 was down in between", {"kind": "netmon", "major": True}
        ),
        Entry(ZERO + 1.02, "disco", "laptop", "pings to 1.2.3.4:5", {"kind": "ping.sent"}),
        Entry(ZERO + 1.3, "relay", "server", "relay connected", {"kind": "relay"}),
        Entry(
            ZERO + 1.4, "path", "laptop", "path to relay", {"kind": "path", "path": "relay", "relayed": True}
        ),
        Entry(ZERO + 1.5, "payload", "", "first answer after 400.0 ms"),
        Entry(ZERO + 1.6, "odd", HOSTILE, HOSTILE, {"kind": HOSTILE, "value": HOSTILE}),
    ]


def payload() -> Payload:
    """Bytes every 20 ms, but for 0.4 s after the replug, and none in the last half second."""
    times = [ZERO + 0.2 + i * 0.02 for i in range(40)] + [ZERO + 1.4 + i * 0.02 for i in range(10)]
    return Payload("payload", times, end=ZERO + 2.1)


def page() -> str:
    """All of it."""
    lab, log = two_homes()
    lab.log_event("mark", "", "nothing changed")
    log.changes.append((ZERO + 1.0, {"laptop/wlan0": ["hotspot", ["192.168.2.77/24"], True, True, ""]}))
    log.changes.append((ZERO + 1.2, {"laptop/wwan0": ["hotspot", ["192.168.2.10/24"], False, True, ""]}))
    result = Result(f"tests/test_x.py::test_y[{HOSTILE}]", "failed", f"why: {HOSTILE}", 2.5, "pytest -k y")
    return render(entries(), [log], result, [payload()])
