"""``iroh-py``: endpoints, relays and reports from a terminal; plain text in a pipe."""

from iroh_py.cli.main import main as main

__all__ = ["main"]
