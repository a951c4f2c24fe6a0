"""`python -m netns_fixtures.wire FD`: the wire process, FD being its end of the control socket.

It ends at end of file of that socket, and when the thread that started it ends.
"""

from __future__ import annotations

import ctypes
import gc
import os
import signal
import socket
import sys

from netns_fixtures.wire.pump import Pump

# prctl(2): a signal when the parent dies. End of file says the same, unless some forked child of the lab
# holds the other end open.
_PR_SET_PDEATHSIG = 1

# A wire that waits for the processor adds a delay that nobody asked for. Only root may; without, it serves
# all the same.
_NICENESS = -10


def main(argv: list[str]) -> int:
    """Serve the control socket whose descriptor stands in the arguments; returns the exit status."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    # Ctrl-C reaches the whole terminal group; the lab decides when its links end.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        os.setpriority(os.PRIO_PROCESS, 0, _NICENESS)
    except OSError:
        pass  # not permitted, see above
    # The loop makes no reference cycles, and a collection over 50 000 waiting frames is a visible pause.
    gc.disable()
    Pump(socket.socket(fileno=int(argv[1]))).run()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
