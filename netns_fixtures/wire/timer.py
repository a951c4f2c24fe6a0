"""A timer of the kernel as a file descriptor: microseconds, where epoll's own timeout knows milliseconds.

`os.timerfd_create` exists from Python 3.13 on; until then libc is asked through ctypes.
"""

from __future__ import annotations

import ctypes
import os
import time

_libc = ctypes.CDLL(None, use_errno=True)

# timerfd_settime(2): the value is a time on the clock, not a span. The create flags equal those of open(2).
_TFD_TIMER_ABSTIME = 1


class _TimeSpec(ctypes.Structure):
    _fields_ = (("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long))


class _TimerSpec(ctypes.Structure):
    _fields_ = (("interval", _TimeSpec), ("value", _TimeSpec))


class TimerFd:
    """One absolute timer on the clock of `time.monotonic`; its descriptor is readable from then on."""

    def __init__(self) -> None:
        self._fd = _checked(
            _libc.timerfd_create(time.CLOCK_MONOTONIC, os.O_NONBLOCK | os.O_CLOEXEC), "timerfd_create"
        )
        self._spec = _TimerSpec()
        self._reference = ctypes.byref(self._spec)
        self._armed_at: float | None = None

    def fileno(self) -> int:
        """The descriptor, for epoll."""
        return self._fd

    def arm(self, when: float) -> None:
        """Wake at that time (seconds), which may have passed; nothing happens if it is set to it already."""
        if when == self._armed_at:
            return
        self._armed_at = when
        # Zero would disarm it; one nanosecond is in the past just as well.
        self._spec.value.seconds, self._spec.value.nanoseconds = divmod(max(1, round(when * 1e9)), 10**9)
        _checked(
            _libc.timerfd_settime(self._fd, _TFD_TIMER_ABSTIME, self._reference, None), "timerfd_settime"
        )

    def acknowledge(self) -> None:
        """Take note that it fired, so that the descriptor is quiet until it is armed again."""
        self._armed_at = None
        try:
            os.read(self._fd, 8)
        except BlockingIOError:
            # It was armed for another time between epoll's word and this read.
            pass

    def close(self) -> None:
        """Give the descriptor back."""
        os.close(self._fd)


def _checked(result: int, what: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
    return result
