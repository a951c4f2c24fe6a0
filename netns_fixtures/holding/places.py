"""Where labs that are up are registered: a directory of the user's own, a file and a socket per lab.

The file is locked by the process that holds the lab, for as long as it lives. So a file that is not locked is
the trace of one that was killed, whatever it says.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import socket
import stat
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from netns_fixtures.errors import LabError, TopologyError

#: Overrides the place, for tests and for machines where both usual ones do not work.
VARIABLE = "NETNS_LAB_STATE"
#: Names are file names, and part of a terminal's prompt.
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,39}")
_FILE, _SOCKET = ".json", ".sock"
#: What a detached holder wrote.
LOG = ".log"
_PRIVATE = 0o700


@dataclass(frozen=True, slots=True)
class Held:
    """A lab that is up: its name, the process that holds it, since when (seconds since the epoch), what it has."""

    name: str
    pid: int
    since: float
    file: str
    hosts: tuple[str, ...]
    routers: tuple[str, ...]
    seed: int


def directory() -> Path:
    """The directory of this user, made where it is missing. Raises LabError if it may be somebody else's."""
    place = _place()
    try:
        place.mkdir(mode=_PRIVATE, parents=VARIABLE in os.environ)
    except FileExistsError:
        pass  # of an earlier command
    except OSError as error:
        raise LabError(f"{place} cannot be made ({error.strerror}); set {VARIABLE} to a directory") from None
    found = place.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o077:
        raise LabError(
            f"{place} is not a directory of yours alone; remove it, or set {VARIABLE} to another one"
        )
    return place


def _place() -> Path:
    if VARIABLE in os.environ:
        return Path(os.environ[VARIABLE])
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    if runtime and os.access(runtime, os.W_OK):
        return Path(runtime) / "netns-lab"
    return Path("/tmp") / f"netns-lab-{os.geteuid()}"


def check_name(name: str) -> str:
    """A name for a lab that is up. Raises TopologyError."""
    if not _NAME.fullmatch(name):
        raise TopologyError(f"{name!r} is no name for a lab: letters, digits, '_', '-' and '.', 40 at most")
    return name


def labs() -> list[Held]:
    """The labs that are up, by name; traces of processes that were killed are removed."""
    return [held for path in sorted(directory().glob(f"*{_FILE}")) if (held := _look(path)) is not None]


def find(name: str | None) -> Held:
    """The lab of that name; the only one where None. Raises LabError saying what there is."""
    there = labs()
    names = ", ".join(held.name for held in there) or "none; netns-lab up FILE brings one up"
    if name is None and len(there) == 1:
        return there[0]
    if name is None:
        raise LabError(f"which lab? There is {names}" if not there else f"which lab? There are {names}")
    for held in there:
        if held.name == name:
            return held
    raise LabError(f"no lab named {name!r} is up; there is {names}")


def is_up_already(name: str) -> LabError:
    """The error for a name that is taken."""
    return LabError(f"a lab named {name!r} is up already; --name gives another name")


class Claim:
    """A name that this process holds until ``release``; kill -9 releases it, too."""

    def __init__(self, name: str) -> None:
        self._directory = directory()
        self._path = self._directory / (check_name(name) + _FILE)
        self._fd = self._lock()

    def _lock(self) -> int:
        while True:
            fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(fd)
                raise is_up_already(self._path.stem) from None
            if _is(fd, self._path):
                return fd
            os.close(fd)  # somebody removed the trace of an earlier one meanwhile

    def publish(self, held: Held) -> None:
        """Say what is held; from now on it is in the list."""
        os.ftruncate(self._fd, 0)
        os.pwrite(self._fd, json.dumps(asdict(held)).encode(), 0)

    def listen(self) -> socket.socket:
        """The socket of this lab."""
        with _short(self._directory) as place:
            name = f"{place}/{self._path.stem}{_SOCKET}"
            with contextlib.suppress(FileNotFoundError):
                os.unlink(name)  # of one that was killed
            listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            listening.bind(name)
        listening.listen()
        return listening

    def release(self) -> None:
        """Give the name up."""
        _remove(self._path)
        os.close(self._fd)


def connect(held: Held) -> socket.socket:
    """A connection to the process that holds a lab. Raises LabError when it is gone."""
    channel = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with _short(directory()) as place:
            channel.connect(f"{place}/{held.name}{_SOCKET}")
    except OSError:
        channel.close()
        raise LabError(f"lab {held.name} went down this moment") from None
    return channel


def _look(path: Path) -> Held | None:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return None  # it went down this moment
    try:
        if not _is_held(fd):
            if _is(fd, path):
                _remove(path)
            return None
        data = json.loads(os.pread(fd, 1 << 20, 0) or b"null")
    except ValueError:
        return None  # it is being written
    finally:
        os.close(fd)
    if data is None:
        return None  # it is being built
    return Held(**{**data, "hosts": tuple(data["hosts"]), "routers": tuple(data["routers"])})


def _is_held(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    return False


def _is(fd: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(fd), path.lstat())
    except FileNotFoundError:
        return False


def _remove(path: Path) -> None:
    # The name itself last: whoever takes it must find nothing of us.
    for each in (path.with_name(path.stem + _SOCKET), path.with_name(path.stem + LOG), path):
        with contextlib.suppress(FileNotFoundError):
            each.unlink()


@contextlib.contextmanager
def _short(place: Path) -> Iterator[str]:
    """A name of a directory that fits into a socket's address, however long its path is (sun_path has 108 bytes)."""
    fd = os.open(place, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{fd}"
    finally:
        os.close(fd)
