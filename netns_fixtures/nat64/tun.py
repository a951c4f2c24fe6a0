"""Opening a TUN: a network interface whose other end is a file descriptor that gives and takes IP packets."""

from __future__ import annotations

import os

from netns_fixtures.errors import MissingCapability
from netns_fixtures.wire.tap import TUN_DEVICE, make_interface

# <linux/if_tun.h>
_IFF_TUN = 0x0001


def open_tun(name: str, index: int) -> int:
    """Make the TUN interface, down, in the calling thread's network namespace; returns its descriptor.

    Reads wait. As with a TAP the interface ends with its namespace (see ``wire.tap``). Raises MissingCapability
    where the machine allows none.
    """
    try:
        fd = os.open(TUN_DEVICE, os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        raise MissingCapability(
            f"NAT64 needs TUN interfaces, and {TUN_DEVICE} cannot be opened ({error.strerror})",
            f"run: sudo modprobe tun; sudo chmod 666 {TUN_DEVICE}",
        ) from None
    make_interface(fd, name, index, _IFF_TUN)
    return fd
