"""The story of a test as one self-contained HTML page: topology, swim lanes, payload gaps, every event.

``render`` makes the page, ``TopologyLog`` records what the drawing shows at each moment. The page needs no network, and
works from a file, in dark and light, on paper, and with a keyboard.
"""

from __future__ import annotations

from pytest_iroh.page.render import Payload, Result, render
from pytest_iroh.page.topology import TopologyLog

__all__ = ["Payload", "Result", "TopologyLog", "render"]
