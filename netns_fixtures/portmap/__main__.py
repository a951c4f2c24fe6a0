"""``python -m netns_fixtures.portmap NAME BEHAVIOUR PINHOLES``: started by a lab in a router, never by hand."""

from __future__ import annotations

import sys

from netns_fixtures.portmap.server import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
