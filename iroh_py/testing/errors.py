"""What the simulation raises when it is used in a way that it cannot carry out.

::

    IrohError
    `- SimulationError
       |- NothingToDoError    every task waits, and no timer or event can ever wake one
       |- TimeLimitError      (also TimeoutError) the run took more virtual time than allowed
       |- RealWaitError       a thread, an executor, a subprocess: virtual time cannot wait for it
       `- TopologyError       (also ValueError) a name twice, an address taken or malformed, a closed host

What a program under test must expect of a network stays an OSError, as on a real machine.
"""

from __future__ import annotations

from iroh_py.errors import IrohError


class SimulationError(IrohError):
    """The simulation cannot do what was asked, or cannot go on."""


class NothingToDoError(SimulationError):
    """Every task waits and nothing is scheduled: on a real clock this program would hang for ever."""


class TimeLimitError(SimulationError, TimeoutError):
    """The run needed more virtual seconds than its limit."""


class RealWaitError(SimulationError):
    """Work outside the event loop was asked for; virtual time would run past it."""


class TopologyError(SimulationError, ValueError):
    """The simulated network cannot be built or changed like this."""
