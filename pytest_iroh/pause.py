"""``--netns-pause-on-failure``: the lab of a failed test stands still until a person has looked around in it."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

from pytest_iroh.attempt import Attempt
from pytest_iroh.evidence import describe_lab
from pytest_iroh.options import settings_of

if TYPE_CHECKING:
    from netns_fixtures.door import Door

#: The terminal that a person sits at, whatever pytest does with standard input and output.
TERMINAL = "/dev/tty"
OPTION = "--netns-pause-on-failure"


def check(config: pytest.Config) -> None:
    """Refuse a run in which nobody could go on. Raises UsageError."""
    if not settings_of(config).pause_on_failure:
        return
    if hasattr(config, "workerinput") or config.getoption("dist", "no") != "no":
        raise pytest.UsageError(
            f"{OPTION} waits for you, and workers of pytest-xdist have no terminal: run without -n"
        )
    try:
        os.close(os.open(TERMINAL, os.O_RDWR | os.O_CLOEXEC))
    except OSError:
        raise pytest.UsageError(f"{OPTION} waits for you at a terminal, and this run has none") from None


def hold(item: pytest.Item) -> None:
    """Say how to enter each node of the labs that still stand, and wait. Does nothing where none does."""
    attempt = Attempt.of(item)
    if attempt is None or not settings_of(item.config).pause_on_failure:
        return
    labs = [lab for lab in attempt.recorder.labs if getattr(lab, "mode", "") and not lab.closed]
    if not labs:
        return
    from netns_fixtures.door import Door

    with contextlib.ExitStack() as doors:
        lines = [f"netns: {item.nodeid} failed, and its lab stands still"]
        for lab in labs:
            lines.append(describe_lab(lab))
            found = [doors.enter_context(Door(node)) for node in (lab.hosts | lab.routers).values()]
            lines += _ways(found)
        if attempt.evidence.directory is not None:
            lines.append(f"artifacts: {attempt.evidence.directory}")
        _wait(lines)


def _ways(doors: list[Door]) -> list[str]:
    width = max((len(door.name) for door in doors), default=0)
    return [f"  {door.name:{width}}  {door.command()}" for door in doors]


def _wait(lines: list[str]) -> None:
    """Write to the terminal and wait for Enter there, its end, or the signal."""
    prompt = f"Press Enter to go on (from elsewhere: kill -USR1 {os.getpid()})"
    fd = os.open(TERMINAL, os.O_RDWR | os.O_CLOEXEC | os.O_NOCTTY)
    try:
        with _signalled() as wake:
            os.write(fd, "\r\n".join(["", *lines, prompt, ""]).encode())
            poll = select.poll()
            poll.register(fd, select.POLLIN)
            poll.register(wake, select.POLLIN)
            if any(ready == fd for ready, _events in poll.poll()):
                os.read(fd, 4096)  # the line, which must not go to a shell afterwards
    finally:
        os.close(fd)


@contextlib.contextmanager
def _signalled() -> Iterator[int]:
    """A descriptor that becomes readable at SIGUSR1, while the block runs."""
    wake = os.eventfd(0, os.EFD_CLOEXEC)
    here = threading.current_thread() is threading.main_thread()  # only there may signals be handled

    def tell(_number: int, _frame: Any) -> None:
        os.eventfd_write(wake, 1)

    before = signal.signal(signal.SIGUSR1, tell) if here else None
    try:
        yield wake
    finally:
        if here:
            signal.signal(signal.SIGUSR1, before)
        os.close(wake)
