"""``python -m netns_fixtures.cli``."""

from __future__ import annotations

from netns_fixtures.cli.main import main

if __name__ == "__main__":
    main(prog_name="netns-lab")
