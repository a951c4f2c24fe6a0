"""What a host's process sees of the file system: the machine's files, but /proc and a few of its own.

The files of its own live in a tmpfs that only this process and its children see; it is gone with the last of
them, also after ``kill -9``. Nothing is ever written to the machine's disk.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

from netns_fixtures.agent.syscalls import (
    CLONE_NEWNS,
    MS_BIND,
    MS_NODEV,
    MS_NOEXEC,
    MS_NOSUID,
    mount,
    umount,
    unshare,
)

#: A place that exists everywhere and is about to be covered anyway.
_SCRATCH = "/proc"
_QUIET = MS_NOSUID | MS_NODEV | MS_NOEXEC
#: Where name service caches of the machine listen: glibc would ask them instead of the lab's name server.
_CACHES = ("/run/nscd", "/var/run/nscd")


def make_own_mounts(files: Sequence[tuple[str, str]]) -> None:
    """A mount namespace for the calling process with its own /proc and these (path, content) files.

    Raises OSError where a file cannot be put there.
    """
    unshare(CLONE_NEWNS)
    if files:
        mount("tmpfs", _SCRATCH, "tmpfs", _QUIET, "mode=755,size=1m")
        _cover(files)
    try:
        # The process sees its own numbers in /proc.
        mount("proc", "/proc", "proc", _QUIET)
    except OSError:
        # Containers that mask parts of /proc forbid it; then /proc/self still works, which is what programs look
        # at. What was bound elsewhere stays. (Only here: unmounting waits for the kernel, some milliseconds.)
        if files:
            umount(_SCRATCH)


def _cover(files: Sequence[tuple[str, str]]) -> None:
    for number, directory in enumerate(dict.fromkeys(os.path.dirname(path) for path, _content in files)):
        inside = [(path, content) for path, content in files if os.path.dirname(path) == directory]
        own = f"{_SCRATCH}/{number}"
        os.mkdir(own, 0o755)
        for path, content in inside:
            _write(f"{own}/{os.path.basename(path)}", content)
        # Also through a link, such as systemd-resolved's.
        if all(os.path.exists(path) for path, _content in inside):
            for path, _content in inside:
                mount(f"{own}/{os.path.basename(path)}", path, "", MS_BIND)
        else:
            _lay_over(directory, own)
    for cache in filter(os.path.isdir, _CACHES):
        empty = f"{_SCRATCH}/empty"
        os.makedirs(empty, exist_ok=True)
        mount(empty, cache, "", MS_BIND)


def _lay_over(directory: str, upper: str) -> None:
    """For files that the machine does not have, or whose links lead nowhere: there is nothing to mount them on."""
    work = f"{upper}-work"
    os.mkdir(work, 0o755)
    mount("overlay", directory, "overlay", _QUIET, f"lowerdir={directory},upperdir={upper},workdir={work}")


def _write(path: str, content: str) -> None:
    with open(path, "w") as file:
        os.fchmod(file.fileno(), 0o644)  # whatever the umask of the caller
        file.write(content)
