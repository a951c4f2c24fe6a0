"""Opening a TAP: a network interface whose cable is a file descriptor."""

from __future__ import annotations

import fcntl
import os
import struct

TUN_DEVICE = "/dev/net/tun"

# <linux/if_tun.h>: frames with Ethernet header, and without the four bytes of packet information.
_TUNSETIFF = 0x400454CA
_IFF_TAP = 0x0002
_IFF_NO_PI = 0x1000
_IFNAMSIZ = 16


def open_tap(name: str) -> int:
    """Make the TAP interface in the calling thread's network namespace; returns its descriptor.

    The descriptor is non-blocking and not inherited; the interface ends when the last copy is closed. It
    is made down. Raises OSError (EPERM without the rights, EBUSY for a name taken, ENOENT without
    /dev/net/tun) and ValueError for a name that the kernel would cut short.
    """
    if not 0 < len(name.encode()) < _IFNAMSIZ:
        raise ValueError(f"{name!r}: an interface name has 1 to {_IFNAMSIZ - 1} bytes")
    fd = os.open(TUN_DEVICE, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        fcntl.ioctl(fd, _TUNSETIFF, struct.pack("16sH22x", name.encode(), _IFF_TAP | _IFF_NO_PI))
    except OSError:
        os.close(fd)
        raise
    return fd
