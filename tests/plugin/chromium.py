"""A headless Chromium for tests of pages: what it makes of a file, and what it complains about."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from programs import needs

#: Seconds for a page; the browser itself takes about one.
TIMEOUT = 90
_PROGRAM = next((name for name in ("chromium", "google-chrome") if shutil.which(name)), "chromium")
_FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--enable-logging=stderr",
    "--window-size=1400,1000",
)

needs_chromium = needs(_PROGRAM, "chromium")


@dataclass(frozen=True, slots=True)
class Visit:
    """The document after its scripts ran, and the lines of its console."""

    dom: str
    console: list[str]

    def attribute(self, name: str) -> str:
        """The value that a probe left in an attribute of the body."""
        found = re.search(rf'<body[^>]* {name}="([^"]*)"', self.dom)
        assert found is not None, f"the probe left no {name}; console: {self.console}"
        return found.group(1)


def visit(page: str, directory: Path, probe: str = "", *flags: str) -> Visit:
    """Open a page; ``probe`` is script that runs after the page's own."""
    path = directory / "page.html"
    path.write_text(page.replace("</body>", f"<script>{probe}</script></body>"))
    argv = [
        _PROGRAM,
        *_FLAGS,
        f"--user-data-dir={directory / 'profile'}",
        *flags,
        "--dump-dom",
        f"file://{path}",
    ]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=TIMEOUT, check=True)
    console = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    return Visit(done.stdout, console)


def screenshot(page: Path, picture: Path) -> None:
    """A picture of a page."""
    profile = picture.parent / "profile-picture"
    argv = [_PROGRAM, *_FLAGS, f"--user-data-dir={profile}", f"--screenshot={picture}", f"file://{page}"]
    subprocess.run(argv, capture_output=True, timeout=TIMEOUT, check=True)
