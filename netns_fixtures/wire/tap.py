"""Opening a TAP: a network interface whose cable is a file descriptor."""

from __future__ import annotations

import fcntl
import os
import struct

TUN_DEVICE = "/dev/net/tun"

# <linux/if_tun.h>: frames (or packets) without the four bytes of packet information.
_TUNSETIFF = 0x400454CA
_TUNSETIFINDEX = 0x400454DA
_TUNSETPERSIST = 0x400454CB
_IFF_TAP = 0x0002
_IFF_NO_PI = 0x1000
_IFNAMSIZ = 16


def open_tap(name: str, index: int = 0) -> int:
    """Make the TAP interface, down, in the calling thread's network namespace; returns its descriptor.

    The descriptor is non-blocking and not inherited. The interface ends with the namespace and not with the
    descriptor: the kernel would wait 16 ms for each one that goes alone (also for those of a killed process),
    and it does not wait for a namespace. Without its descriptor it has no carrier.

    Raises OSError (EPERM without the rights, EBUSY for a name in use, ENOENT without /dev/net/tun) and
    ValueError for a name that the kernel would cut short.
    """
    if not 0 < len(name.encode()) < _IFNAMSIZ:
        raise ValueError(f"{name!r}: an interface name has 1 to {_IFNAMSIZ - 1} bytes")
    fd = os.open(TUN_DEVICE, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    make_interface(fd, name, index, _IFF_TAP)
    return fd


def make_interface(fd: int, name: str, index: int, kind: int) -> None:
    """Make an interface of the opened device, a TAP or a TUN; closes it where that fails. Raises OSError."""
    try:
        if index:
            fcntl.ioctl(fd, _TUNSETIFINDEX, struct.pack("I", index))
        fcntl.ioctl(fd, _TUNSETIFF, struct.pack("16sH22x", name.encode(), kind | _IFF_NO_PI))
        fcntl.ioctl(fd, _TUNSETPERSIST, 1)
    except OSError:
        os.close(fd)
        raise
