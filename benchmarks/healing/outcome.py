"""What one run gave, and how long a run may take."""

from __future__ import annotations

from dataclasses import dataclass

#: Seconds after which a run counts as dead: the official idle timeout is 30 s.
PATIENCE = 45.0
#: Seconds that a connection gets to go direct before the change, and again after it.
DIRECT_TIMEOUT = 5.0
DIRECT_AGAIN_TIMEOUT = 10.0
#: Seconds of undisturbed messages before the change: start-up reports and probes are over by then.
CALM = 2.0


@dataclass
class Outcome:
    """Seconds to the first byte (None: dead) and to the direct path (None: not within 10 s), and the path before.

    ``verb``: seconds that the lab needed for the last verb, contained in both.
    """

    first: float | None = None
    direct: float | None = None
    before: str = "none"
    verb: float = 0.0
