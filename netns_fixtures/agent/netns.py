"""Network namespaces: anonymous, held by a descriptor, entered by the agent's only thread."""

from __future__ import annotations

import os

from netns_fixtures.agent.netlink import NETLINK_NETFILTER, NetlinkSocket
from netns_fixtures.agent.syscalls import CLONE_NEWNET, setns, unshare
from netns_fixtures.errors import MissingCapability


class NetworkNamespace:
    """A network namespace with its own rtnetlink socket; both keep it alive until :meth:`close`."""

    def __init__(self, name: str) -> None:
        unshare(CLONE_NEWNET)
        self.name = name
        self.fd = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        self.netlink = NetlinkSocket(name)
        self._conntrack: NetlinkSocket | None = None

    def enter(self) -> None:
        """Make it the calling thread's; every later call of this thread acts in it."""
        setns(self.fd, CLONE_NEWNET)

    def write_sysctls(self, settings: tuple[tuple[str, str], ...], *, needed: bool = False) -> None:
        """Write below /proc/sys; the namespace must be entered (net.* follows the thread, not the mount)."""
        for path, value in settings:
            write_sysctl(path, value, needed=needed)

    @property
    def conntrack(self) -> NetlinkSocket:
        """A netfilter netlink socket; the namespace must be entered when it is first used."""
        if self._conntrack is None:
            self._conntrack = NetlinkSocket(self.name, NETLINK_NETFILTER)
        return self._conntrack

    def close(self) -> None:
        """Let it go; the kernel tears it down in the background once nothing else holds it."""
        self.netlink.close()
        if self._conntrack is not None:
            self._conntrack.close()
        os.close(self.fd)


def write_sysctl(path: str, value: str, *, needed: bool = False) -> None:
    """Write one setting. One that this kernel lacks is skipped (nothing to switch off there), unless ``needed``:
    then it raises MissingCapability."""
    try:
        fd = os.open(f"/proc/sys/{path}", os.O_WRONLY | os.O_CLOEXEC)
    except OSError as error:
        if needed:
            raise MissingCapability(f"cannot set {path}: {error.strerror}", "use another kernel") from error
        if isinstance(error, FileNotFoundError):
            return
        raise
    try:
        os.write(fd, value.encode())
    finally:
        os.close(fd)
