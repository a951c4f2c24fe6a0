"""``python -m netns_fixtures.agent FD PID``: started by ``netns_fixtures.client``, never by hand."""

from __future__ import annotations

import sys

from netns_fixtures.agent.server import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
