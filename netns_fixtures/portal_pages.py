"""What a captive portal's web server answers. Pure."""

from __future__ import annotations

import html
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus

#: Redirect to the log-in page, as most portals do; or RFC 6585 section 6.
STATUSES = (302, 511)
_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title></head>
<body><h1>{title}</h1><p>{text}</p></body></html>
"""


@dataclass(frozen=True, slots=True)
class PortalPage:
    """A complete answer."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes

    @property
    def reason(self) -> str:
        """The status in words."""
        return HTTPStatus(self.status).phrase


def portal_page(headers: Mapping[str, str], own: str, location: str, status: int) -> PortalPage:
    """The answer to a request with these headers (names in lower case).

    ``own`` is the server's address as a URL has it ("[2001:db8::1]"): a request for that is for the log-in
    page itself, all others are somebody else's. ``location`` "": the page is there.
    """
    where = location or f"http://{own}/"
    host = headers.get("host", "").removesuffix(":80")
    if host and host in (own, _authority(location)):
        return _page(200, "Log in", "Here a guest would agree to the terms. The test does: portal.release().")
    link = f'Please <a href="{html.escape(where)}">log in</a> first.'
    if status == 511:
        return _page(511, "Network Authentication Required", link)
    return _page(302, "Log in first", link, ("Location", where))


def _page(status: int, title: str, text: str, *more: tuple[str, str]) -> PortalPage:
    body = _PAGE.format(title=title, text=text).encode()
    headers = (
        *more,
        ("Content-Type", "text/html; charset=utf-8"),
        ("Content-Length", str(len(body))),
        # RFC 6585 section 6: the answer is not that of the site that was asked.
        ("Cache-Control", "no-store"),
        ("Connection", "close"),
    )
    return PortalPage(status, headers, body)


def _authority(url: str) -> str:
    """The host of a URL as a Host field names it."""
    return url.partition("://")[2].partition("/")[0].removesuffix(":80")
