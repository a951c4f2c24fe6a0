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


# A processor that slept this long has gone to a deeper idle state, from which it wakes late: 0.15 to 0.2 ms
# on the virtual machines of our CI, against 0.03 to 0.05 ms after a shorter sleep.
_LONG_SLEEP = 0.001
_SHORT_SLEEP_LATENESS = 40e-6

# A busy machine wakes us later still, but then being early would be our error and being late is its own.
_MAX_LATENESS = 0.0005

# Of the last few long sleeps, so that one hiccup does not count and a change of the machine's load does.
_SMOOTHING = 1 / 8


class TimerFd:
    """One timer on the clock of `time.monotonic`, aimed so that the process is awake at the time asked for.

    It learns how late it wakes from a long sleep and sets the kernel's timer that much earlier. So it may
    fire early; the caller looks at the clock and arms it again, and the short rest is kept precisely.
    """

    def __init__(self) -> None:
        self._fd = _checked(
            _libc.timerfd_create(time.CLOCK_MONOTONIC, os.O_NONBLOCK | os.O_CLOEXEC), "timerfd_create"
        )
        self._spec = _TimerSpec()
        self._reference = ctypes.byref(self._spec)
        self._armed_for: float | None = None
        self._long_sleep_until: float | None = None
        self._lateness = 0.0

    def fileno(self) -> int:
        """The descriptor, for epoll."""
        return self._fd

    def arm(self, now: float, when: float) -> None:
        """Be awake at `when` (seconds), which may have passed; nothing happens if it is armed for it."""
        if when == self._armed_for:
            return
        self._armed_for = when
        if when - now > _LONG_SLEEP:
            target = self._long_sleep_until = when - self._lateness
        else:
            target = when - _SHORT_SLEEP_LATENESS
            self._long_sleep_until = None
        self._set(target)

    def acknowledge(self, now: float) -> None:
        """Take note that it fired, so that the descriptor is quiet until it is armed again."""
        self._armed_for = None
        if self._long_sleep_until is not None:
            late = min(max(0.0, now - self._long_sleep_until), _MAX_LATENESS)
            self._lateness += (late - self._lateness) * _SMOOTHING
        try:
            os.read(self._fd, 8)
        except BlockingIOError:
            # It was armed for another time between epoll's word and this read.
            pass

    def close(self) -> None:
        """Give the descriptor back."""
        os.close(self._fd)

    def _set(self, target: float) -> None:
        # Zero would disarm it; one nanosecond is in the past just as well.
        self._spec.value.seconds, self._spec.value.nanoseconds = divmod(max(1, round(target * 1e9)), 10**9)
        _checked(
            _libc.timerfd_settime(self._fd, _TFD_TIMER_ABSTIME, self._reference, None), "timerfd_settime"
        )


def _checked(result: int, what: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
    return result
