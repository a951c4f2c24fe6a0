"""A bare network namespace for tests of the waiting edge: a thread in it opens sockets and changes links.

Deliberately not netns_fixtures: these tests must tell a fault of the monitor from a fault of the lab.
"""

from __future__ import annotations

import concurrent.futures
import ctypes
import os
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import pytest
from pyroute2.iproute.linux import IPRoute

Result = TypeVar("Result")
CLONE_NEWNET = 0x40000000

needs_root = pytest.mark.skipif(
    sys.platform != "linux" or os.geteuid() != 0,
    reason="makes network namespaces of its own: run as root (the lab's own tests need none)",
)


class RawNamespace:
    """A network namespace that lives as long as its thread; a socket factory with the verbs tests need."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._thread = concurrent.futures.ThreadPoolExecutor(max_workers=1, thread_name_prefix=name)
        self._ip: Any = self.run(self._enter)
        self.fd: int = self.run(lambda: os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC))
        self.link("lo", state="up")

    def run(self, function: Callable[[], Result]) -> Result:
        """Call it in the namespace."""
        return self._thread.submit(function).result(timeout=10)

    def socket(self, family: int, type: int, proto: int = 0) -> socket.socket:
        """A socket of the namespace."""
        return self.run(lambda: socket.socket(family, type, proto))

    def index(self, link: str) -> int:
        """The index of a link."""
        return int(self.run(lambda: self._ip.link_lookup(ifname=link))[0])

    def link(self, name: str, **change: Any) -> None:
        """Change a link, for example ``state="down"``."""
        index = self.index(name)
        self.run(lambda: self._ip.link("set", index=index, **change))

    def addr(self, verb: str, link: str, address: str, **more: Any) -> None:
        """Add or delete an address given as "ip/prefixlen"."""
        index, (ip, _, prefixlen) = self.index(link), address.partition("/")
        # IFA_F_NODAD: tests do not wait a second for duplicate address detection.
        flags = {"flags": 0x02} | more if ":" in ip and verb == "add" else more
        self.run(lambda: self._ip.addr(verb, index=index, address=ip, prefixlen=int(prefixlen), **flags))

    def route(self, verb: str, destination: str, link: str, **more: Any) -> None:
        """Add or delete a route."""
        index = self.index(link)
        self.run(lambda: self._ip.route(verb, dst=destination, oif=index, **more))

    def call(self, method: str, *arguments: Any, **more: Any) -> Any:
        """Any other request of pyroute2's IPRoute, in the namespace."""
        return self.run(lambda: getattr(self._ip, method)(*arguments, **more))

    def close(self) -> None:
        """Leave nothing behind."""
        self.run(self._ip.close)
        os.close(self.fd)
        self._thread.shutdown()

    @staticmethod
    def _enter() -> Any:
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.unshare(CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), "unshare(CLONE_NEWNET)")
        route: Any = IPRoute
        return route()


@contextmanager
def namespaces(*names: str) -> Iterator[list[RawNamespace]]:
    """Some namespaces, closed at the end."""
    made: list[RawNamespace] = []
    try:
        for name in names:
            made.append(RawNamespace(name))
        yield made
    finally:
        for namespace in made:
            namespace.close()


def cable(one: RawNamespace, name: str, other: RawNamespace, other_name: str) -> None:
    """A veth pair between two namespaces, both ends up."""
    one.call("link", "add", ifname=name, kind="veth", peer={"ifname": other_name, "net_ns_fd": other.fd})
    other.link(other_name, state="up")
    one.link(name, state="up")
