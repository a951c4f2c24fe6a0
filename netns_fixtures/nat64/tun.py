"""Opening a TUN: a network interface whose other end is a file descriptor that gives and takes IP packets."""

from __future__ import annotations

import fcntl
import os
import struct

from netns_fixtures.errors import MissingCapability
from netns_fixtures.wire.tap import TUN_DEVICE

# <linux/if_tun.h>
_TUNSETIFF = 0x400454CA
_TUNSETIFINDEX = 0x400454DA
_TUNSETPERSIST = 0x400454CB
_IFF_TUN = 0x0001
_IFF_NO_PI = 0x1000


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
    try:
        fcntl.ioctl(fd, _TUNSETIFINDEX, struct.pack("I", index))
        fcntl.ioctl(fd, _TUNSETIFF, struct.pack("16sH22x", name.encode(), _IFF_TUN | _IFF_NO_PI))
        fcntl.ioctl(fd, _TUNSETPERSIST, 1)
    except OSError:
        os.close(fd)
        raise
    return fd
