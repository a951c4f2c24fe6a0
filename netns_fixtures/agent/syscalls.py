"""System calls that Python 3.11 does not offer. Each raises OSError."""

from __future__ import annotations

import ctypes
import os

_libc = ctypes.CDLL(None, use_errno=True)

# <linux/sched.h>
CLONE_NEWNS = 0x0002_0000
CLONE_NEWUSER = 0x1000_0000
CLONE_NEWPID = 0x2000_0000
CLONE_NEWNET = 0x4000_0000

# <sys/mount.h>
MS_NOSUID, MS_NODEV, MS_NOEXEC = 2, 4, 8
MS_BIND, MS_REC, MS_PRIVATE = 0x1000, 0x4000, 1 << 18
MNT_DETACH = 2

# <linux/prctl.h>
_PR_SET_PDEATHSIG = 1
_PR_SET_NAME = 15
_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE = 47, 2
# capset(2): version 3 takes two 32-bit words of each set.
_CAPABILITY_VERSION_3 = 0x2008_0522


def unshare(flags: int) -> None:
    """unshare(2) for the calling thread."""
    _check(_libc.unshare(flags), "unshare")


def setns(fd: int, kind: int) -> None:
    """setns(2) for the calling thread; ``kind`` is the CLONE_NEW* constant that the descriptor must be of."""
    _check(_libc.setns(fd, kind), "setns")


def mount(source: str, target: str, kind: str, flags: int, data: str = "") -> None:
    """mount(2)."""
    result = _libc.mount(source.encode(), target.encode(), kind.encode(), flags, data.encode() or None)
    _check(result, f"mount {target}")


def umount(target: str) -> None:
    """umount2(2), at once; what is open there or bound elsewhere lives on."""
    _check(_libc.umount2(target.encode(), MNT_DETACH), f"umount {target}")


def die_with_parent(signal_number: int) -> None:
    """Ask for a signal when the thread that made this process ends (PR_SET_PDEATHSIG)."""
    _check(_libc.prctl(_PR_SET_PDEATHSIG, signal_number), "prctl")


def set_process_name(name: str) -> None:
    """The name that ps shows; the kernel cuts it after 15 bytes."""
    _check(_libc.prctl(_PR_SET_NAME, name.encode()), "prctl")


def raise_ambient_capabilities() -> None:
    """Make every permitted capability inheritable and ambient: programs of the same uid keep them."""
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    sets = (ctypes.c_uint32 * 6)()  # effective, permitted, inheritable: low words, then high words
    _check(_libc.capget(header, sets), "capget")
    sets[2], sets[5] = sets[1], sets[4]
    _check(_libc.capset(header, sets), "capset")
    permitted = sets[1] | sets[4] << 32
    for capability in range(64):
        if permitted >> capability & 1:
            _check(_libc.prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE, capability, 0, 0), "prctl")


def _check(result: int, call: str) -> None:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{call}: {os.strerror(number)}")
