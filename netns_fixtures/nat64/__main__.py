"""`python -m netns_fixtures.nat64 FD PREFIX POOL PARENT`: the translator of one router, FD being its TUN.

It ends when the agent kills it, when the agent (process PARENT) dies, and when its TUN is gone.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import signal
import sys
import time

from netns_fixtures.nat64.clients import Clients
from netns_fixtures.nat64.translator import Translator

# prctl(2): a signal when the thread that started us ends; the agent has one thread.
_PR_SET_PDEATHSIG = 1
#: A translator that waits for the processor adds a delay that nobody asked for. Only root may; without, it serves
#: all the same.
_NICENESS = -10
#: More than the largest IP packet.
_MAX_PACKET = 1 << 16


def main(argv: list[str]) -> int:
    """Translate until the TUN is gone; returns the exit status."""
    fd, prefix, pool, parent = int(argv[1]), argv[2], argv[3], int(argv[4])
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        return 0  # it died before we asked for the signal
    # Ctrl-C reaches the whole terminal group; the lab decides when its routers end.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with contextlib.suppress(OSError):  # not permitted, see above
        os.setpriority(os.PRIO_PROCESS, 0, _NICENESS)
    gc.disable()  # a packet makes no reference cycles
    pump(fd, Translator(prefix, Clients(pool)))
    return 0


def pump(fd: int, translator: Translator) -> None:
    """Read, translate, write; returns when the interface was deleted."""
    while True:
        try:
            data = os.read(fd, _MAX_PACKET)
        except OSError:
            return  # EBADFD: the namespace, and the interface with it, is gone
        for packet in translator.translate(time.monotonic(), data):
            try:
                os.write(fd, packet)
            except OSError:
                continue  # the interface is down: a router loses packets then


if __name__ == "__main__":
    sys.exit(main(sys.argv))
