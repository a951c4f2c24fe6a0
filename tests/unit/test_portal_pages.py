"""What a captive portal answers: its own page to whom asks for that, the way there to everybody else."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netns_fixtures.portal_pages import portal_page

OWN = "192.168.1.1"


@pytest.mark.parametrize("host", ["example.org", "relay.:80", "", "192.168.1.1:8080"])
def test_strangers_page_is_redirected(host: str) -> None:
    """Also where a request has no host, or another port of the portal's address."""
    page = portal_page({"host": host}, OWN, "", 302)
    assert page.status == 302
    assert dict(page.headers)["Location"] == f"http://{OWN}/"


@pytest.mark.parametrize("host", [OWN, f"{OWN}:80"])
def test_portals_own_page_is_shown(host: str) -> None:
    """No redirect to itself."""
    page = portal_page({"host": host}, OWN, "", 302)
    assert (page.status, page.reason) == (200, "OK")
    assert "Location" not in dict(page.headers)


def test_page_elsewhere_is_shown_under_its_name() -> None:
    """The name that the redirect leads to is not redirected again; the server's address then is."""
    location = "http://portal.example:80/login?from=1"
    assert dict(portal_page({"host": "a"}, OWN, location, 302).headers)["Location"] == location
    assert portal_page({"host": "portal.example"}, OWN, location, 302).status == 200


def test_status_511_has_a_link_instead_of_a_redirect() -> None:
    """RFC 6585 section 6: no Location, a link in the page, not to be stored; text of the URL cannot break out."""
    page = portal_page({"host": "a"}, OWN, 'http://x/"><script>', 511)
    headers = dict(page.headers)
    assert (page.status, headers["Cache-Control"]) == (511, "no-store")
    assert "Location" not in headers
    assert b"<script>" not in page.body
    assert int(headers["Content-Length"]) == len(page.body)


@given(st.dictionaries(st.text(), st.text()), st.text(), st.sampled_from([302, 511]))
def test_any_headers_get_an_answer(headers: dict[str, str], own: str, status: int) -> None:
    """Whatever a guest's browser sends."""
    assert portal_page(headers, own, "", status).status in (200, status)
