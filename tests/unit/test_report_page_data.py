"""The page's data: topology, gaps, paths, and JSON that cannot break out of its element."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netns_fixtures import Lab
from pytest_iroh.page import Payload, Result, TopologyLog, render
from pytest_iroh.page.render import MAX_ENTRIES, embed, page_data
from pytest_iroh.page.topology import layout
from pytest_iroh.timeline import Entry


def data(entries: list[Entry], *payloads: Payload, logs: tuple[TopologyLog, ...] = ()) -> dict[str, Any]:
    return page_data(entries, 0.0, logs, payloads)


@given(st.text())
def test_embedded_json_never_ends_its_element(text: str) -> None:
    """No character that HTML gives a meaning to remains, and the value comes back whole."""
    found = embed({"text": text})
    assert not set(found) & set("<>&\u2028\u2029")
    assert json.loads(found) == {"text": text}


def test_a_page_names_no_other_place() -> None:
    """Nothing is loaded from anywhere, and the page's own policy forbids it."""
    page = render([Entry(1.0, "lab", "a", "b")], result=Result("x::y"))
    assert "default-src 'none'" in page
    links = [word for word in ("http://", "https://", "src=", "@import", "url(") if word in page]
    assert links == ["http://", "url("]  # the SVG namespace, and a clip path inside the page
    assert page.count("http://") == page.count("http://www.w3.org/2000/svg")
    assert page.count("url(") == page.count("url(#inside)")


def test_a_page_without_anything_still_opens() -> None:
    """A test that fails before its first event has a page, too."""
    assert "nothing was recorded" in render([])


def test_a_page_keeps_its_newest_entries() -> None:
    """A soak run does not make a page that no browser opens."""
    page = render([Entry(float(i), "lab", "", f"<{i}>") for i in range(MAX_ENTRIES + 5)])
    assert "\\u003c4\\u003e" not in page
    assert f"\\u003c{MAX_ENTRIES + 4}\\u003e" in page


def test_silence_is_a_gap() -> None:
    """Longer than 0.1 s, also up to the end of the pulse; each gap lies between two runs."""
    (lane,) = data([], Payload("p", [1.0, 1.02, 1.5, 1.52], end=3.0))["payloads"]
    assert lane["runs"] == [[1.0, 1.02], [1.5, 1.52]]
    assert lane["gaps"] == [[1.02, 1.5], [1.52, 3.0]]


def test_pulses_share_a_lane_unless_they_overlap() -> None:
    """One after the other in one lane; two at a time in two; none without bytes."""
    lanes = data(
        [], Payload("p", [4.0, 4.5]), Payload("p", [1.0, 2.0]), Payload("p", [1.5, 2.5]), Payload("p", [])
    )
    assert [lane["runs"] for lane in lanes["payloads"]] == [
        [[1.0, 1.0], [2.0, 2.0], [4.0, 4.0], [4.5, 4.5]],
        [[1.5, 1.5], [2.5, 2.5]],
    ]


def test_paths_are_read_off_the_endpoints_events() -> None:
    """Each change of path with its time; a closed connection has none."""
    entries = [
        Entry(1.0, "path", "a", "x", {"kind": "path", "path": "1.2.3.4:5", "relayed": False}),
        Entry(2.0, "path", "a", "y", {"kind": "path", "path": "https://r/", "relayed": True}),
        Entry(3.0, "path", "a", "z", {"kind": "closed"}),
    ]
    assert data(entries)["paths"] == {
        "a": [[1.0, "1.2.3.4:5", False], [2.0, "https://r/", True], [3.0, "", False]]
    }


def test_nodes_are_laid_out_as_a_tree() -> None:
    """Routers under their upstream, hosts under their first router, nobody on top of somebody else."""
    lab = Lab()
    home = lab.router("home", nat="strict")
    inner = lab.router("inner", nat="open", upstream=home)
    lab.router("hotspot", nat="cgnat")
    for number in range(3):
        lab.host(f"h{number}", uplink=inner)
    spots = layout(lab)
    assert {name: spot.parent for name, spot in spots.items()} == {
        "exchange": "",
        "home": "exchange",
        "inner": "home",
        "hotspot-carrier": "exchange",
        "hotspot": "hotspot-carrier",
        "h0": "inner",
        "h1": "inner",
        "h2": "inner",
    }
    assert {(spot.x, spot.level) for spot in spots.values()} == {
        (2.0, 0),
        (1.5, 1),
        (1.5, 2),
        (0.5, 3),
        (1.5, 3),
        (2.5, 3),
        (3.5, 1),
        (3.5, 2),
    }


def test_the_log_keeps_what_each_interface_was() -> None:
    """The state at the start, and each later difference, on the timeline's clock."""
    lab = Lab()
    home, other = lab.router("home"), lab.router("other")
    host = lab.host("laptop", uplink=home, delay=0.02)
    log = TopologyLog(lab)
    host.link.plug.replug_ops(other.plan.lan.segment)  # what replug does to the description, without a kernel
    event = lab.log_event("replugged", "laptop", "laptop replugged")
    lab.log_event("mark", "", "nothing changed")
    plain = log.plain(event.time - 2.0)
    assert plain["start"]["laptop/eth0"][0] == "home"
    assert plain["start"]["laptop/eth0"][4] == "20 ms"
    ((at, states),) = plain["changes"]
    assert at == pytest.approx(2.0)
    assert list(states) == ["laptop/eth0"]
    assert states["laptop/eth0"][:2] == ["other", [str(a) for a in host.link.plug.addresses]]
    log.close()
    host.link.plug.up = False
    lab.log_event("link_down", "laptop", "down")
    assert len(log.plain(0.0)["changes"]) == 1


def test_a_lab_without_namespaces_is_not_drawn() -> None:
    """A simulated network has events, but no nodes that we could look at."""

    class Sim:
        name = "sim"

        def on_event(self, callback: Any) -> Any:
            return lambda: None

    assert TopologyLog(Sim()).plain(0.0) == {"nodes": [], "start": {}, "changes": []}
