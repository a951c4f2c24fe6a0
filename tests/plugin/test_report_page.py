"""The page in a real browser."""

from __future__ import annotations

import dataclasses
import json
from html import unescape
from pathlib import Path
from typing import Any

from chromium import Visit, needs_chromium, screenshot, visit
from page_kit import HOSTILE, entries, page

from netns_fixtures import Lab
from pytest_iroh.page import Result, TopologyLog, render
from pytest_iroh.timeline import Entry

pytestmark = needs_chromium

#: Leaves what a probe found in the body, where --dump-dom shows it.
REPORT = "const report = (value) => document.body.setAttribute('data-found', JSON.stringify(value));"


def found(visited: Visit) -> Any:
    return json.loads(unescape(visited.attribute("data-found")))


def test_the_page_shows_topology_lanes_and_entries(tmp_path: Path) -> None:
    """Every node, lane and entry is there, and the console is silent."""
    visited = visit(
        page(),
        tmp_path,
        REPORT
        + """
        const texts = (selector) => [...document.querySelectorAll(selector)].map((node) => node.textContent);
        report({
          drawing: texts("#drawings text"), lanes: texts("#lanes .lane-name"), rows: texts("#rows tr").length,
          gaps: texts("#lanes .gap-text"), ribbons: texts("#lanes .ribbon-text"), causes: texts("#lanes .cause"),
          worst: texts("#worst dd"), marks: document.querySelectorAll("#lanes .disco").length,
        });""",
    )
    assert visited.console == []
    seen = found(visited)
    assert {
        "internet",
        "home",
        "NAT moderate",
        "hotspot-carrier",
        "laptop",
        "server",
        "20 ms",
        "✕ down",
    } <= set(seen["drawing"])
    assert seen["lanes"][:4] == ["the lab", "payload", "laptop", "server"]
    assert seen["rows"] == 9
    assert seen["gaps"] == ["420 ms", "520 ms"]
    assert seen["worst"] == ["520 ms"]
    assert seen["ribbons"] == ["direct 1.2.3.4:5", "relay relay"]
    assert "laptop wlan0 replugged home -> hotspot" in seen["causes"]
    assert seen["marks"] == 1


def test_hostile_names_stay_text(tmp_path: Path) -> None:
    """A node or a test whose name is markup changes nothing but the words on the page."""
    visited = visit(
        page(),
        tmp_path,
        REPORT
        + """
        report({ title: document.title, scripts: document.scripts.length, last: rows.lastElementChild.textContent,
                 reason: document.querySelector(".reason pre").textContent });""",
    )
    assert visited.console == []
    seen = found(visited)
    assert seen["title"].startswith("failed: tests/test_x.py")
    assert seen["scripts"] == 3  # data, page, probe
    assert HOSTILE in seen["last"]
    assert seen["reason"] == f"why: {HOSTILE}"


def test_the_drawing_follows_the_chosen_moment(tmp_path: Path) -> None:
    """Before the replug the interface hangs at home; a click on a later entry moves it."""
    visited = visit(
        page(),
        tmp_path,
        REPORT
        + """
        const edges = () => [...document.querySelectorAll("#drawings .edge title")].map((t) => t.textContent)
          .filter((text) => text.startsWith("laptop"));
        const at = (index) => { document.querySelectorAll("#rows tr")[index].click(); return edges(); };
        const early = at(1), late = at(8);
        document.getElementById("before").click();
        report({ early, late, now: document.getElementById("now").textContent,
                 details: document.querySelectorAll("#rows .details").length,
                 current: document.querySelector("#rows tr[aria-current]").textContent });""",
    )
    assert visited.console == []
    seen = found(visited)
    assert seen["early"] == ["laptop wlan0 plugged into home", "laptop wwan0 plugged into hotspot"]
    assert seen["late"] == ["laptop wlan0 plugged into hotspot", "laptop wwan0 plugged into hotspot, down"]
    assert seen["now"] == "+1.000 s"
    assert seen["details"] == 2
    assert "replugged home -> hotspot" in seen["current"]


def test_filter_and_zoom_change_what_is_shown(tmp_path: Path) -> None:
    """Parts, nodes and words hide entries; zoom hides lanes' marks, and the table's rows where asked."""
    visited = visit(
        page(),
        tmp_path,
        REPORT
        + """
        const rows = () => document.querySelectorAll("#rows tr").length;
        const $ = (id) => document.getElementById(id);
        const fire = (node, name) => node.dispatchEvent(new Event(name, { bubbles: true }));
        const counts = { all: rows() };
        document.querySelector(".chip.lab").click(); counts.withoutLab = rows();
        counts.pressed = document.querySelector(".chip.lab").getAttribute("aria-pressed");
        document.querySelector(".chip.lab").click();
        $("find").value = "REPLUGGED home"; fire($("find"), "input"); counts.found = rows();
        $("find").value = ""; fire($("find"), "input");
        $("node").value = "server"; fire($("node"), "change"); counts.server = rows();
        $("node").value = ""; fire($("node"), "change");
        $("last").click(); $("within").checked = true; fire($("within"), "change"); counts.last = rows();
        $("whole").click(); counts.again = rows();
        counts.shown = $("shown").textContent;
        report(counts);""",
    )
    assert visited.console == []
    assert found(visited) == {
        "all": 9,
        "withoutLab": 7,
        "pressed": "false",
        "found": 1,
        "server": 1,
        "last": 7,
        "again": 9,
        "shown": "9",
    }


def test_the_page_is_a_picture(tmp_path: Path) -> None:
    """A screenshot is more than an empty window."""
    path = tmp_path / "page.html"
    path.write_text(page())
    screenshot(path, tmp_path / "page.png")
    picture = (tmp_path / "page.png").read_bytes()
    assert picture.startswith(b"\x89PNG")
    assert len(picture) > 30_000


def test_the_failure_is_one_line_and_files_are_linked(tmp_path: Path) -> None:
    """What went wrong stands on top, and the rest of the evidence is a click away."""
    result = Result("t", "failed", "\n".join(["source"] * 60 + ["E  boom"]), headline="it went BOOM")
    result = dataclasses.replace(result, files=["story.txt", "packets/a b&c-eth0.pcapng"])
    visited = visit(
        render(entries(), [], result),
        tmp_path,
        REPORT
        + """
        const scrolled = document.getElementById("reason").scrollTop;
        report({ headline: document.querySelector(".headline").textContent, scrolled,
                 files: [...document.querySelectorAll(".files a")].map((a) => a.getAttribute("href")) });""",
    )
    assert visited.console == []
    seen = found(visited)
    assert seen["headline"] == "it went BOOM"
    assert seen["files"] == ["story.txt", "packets/a%20b%26c-eth0.pcapng"]
    assert seen["scrolled"] > 0


def test_twenty_hosts_fit_a_window(tmp_path: Path) -> None:
    """Hosts of one router stand below each other where there are many, and no box covers another."""
    lab = Lab("many", seed=1)
    routers = [lab.router(f"site-{n}", nat="moderate") for n in range(6)]
    for number in range(20):
        lab.host(f"host-{number}", uplink=routers[number % 6])
    visited = visit(
        render(entries(), [TopologyLog(lab)]),
        tmp_path,
        REPORT
        + """
        const boxes = [...document.querySelectorAll("#drawings .box")].map((b) => b.getBoundingClientRect());
        const meet = (a, b) => a.left < b.right && b.left < a.right && a.top < b.bottom && b.top < a.bottom;
        report({ width: document.querySelector("#drawings svg").getBoundingClientRect().width, boxes: boxes.length,
                 scale: boxes[1].width / 158, edges: document.querySelectorAll("#drawings .edge").length,
                 covered: boxes.filter((a, i) => boxes.some((b, j) => i < j && meet(a, b))).length });""",
    )
    assert visited.console == []
    seen = found(visited)
    assert (seen["boxes"], seen["edges"], seen["covered"]) == (27, 26, 0)
    assert seen["width"] <= 1400
    assert seen["scale"] > 0.8


def test_fifty_nodes_with_five_thousand_events_stay_usable(tmp_path: Path) -> None:
    """A page of bounded size that shows something within seconds, with lines that do not hatch it over."""
    lab = Lab("fifty", seed=1)
    routers = [lab.router(f"site-{n}", nat="moderate") for n in range(8)]
    for number in range(42):
        lab.host(f"host-{number}", uplink=routers[number % 8])
    parts = ("lab", "netmon", "disco", "relay")
    many = [
        Entry(1000 + n / 100, parts[n % 4], f"host-{n % 42}", f"event {n}", {"kind": parts[n % 4]})
        for n in range(5000)
    ]
    made = render(many, [TopologyLog(lab)])
    assert len(made) < 1_500_000
    visited = visit(
        made,
        tmp_path,
        REPORT
        + """
        const box = document.getElementById("lanes").getBoundingClientRect();
        report({ drawn: performance.now(), guides: document.querySelectorAll("#lanes .guide").length,
                 rows: document.querySelectorAll("#rows tr").length, wide: box.width });""",
    )
    assert visited.console == []
    seen = found(visited)
    assert seen["drawn"] < 15_000  # 1.3 s on a busy machine of two cores
    assert 10 <= seen["guides"] <= seen["wide"] / 12
    assert seen["rows"] == 500
