"""The agent's hold on the translator of one router."""

from __future__ import annotations

import os
import subprocess
import sys

from netns_fixtures.agent.netns import NetworkNamespace
from netns_fixtures.nat64.tun import open_tun
from netns_fixtures.ops import AddNat64, SetLink

# Where this package is imported from, so that the translator finds the very same one.
_PACKAGE_ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


class Nat64Process:
    """A translator that runs; packets wait in its TUN until it serves."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process

    @classmethod
    def start(cls, namespace: NetworkNamespace, step: AddNat64) -> Nat64Process:
        """Make the TUN in a namespace that is entered, and start the process. Raises MissingCapability."""
        fd = open_tun(step.name, step.index)
        try:
            argv = [sys.executable, "-P", "-S", "-m", "netns_fixtures.nat64"]
            process = subprocess.Popen(
                [*argv, str(fd), step.prefix, step.pool, str(os.getpid())],
                env={**os.environ, "PYTHONPATH": _PACKAGE_ROOT},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=(fd,),
            )
        finally:
            os.close(fd)
        namespace.netlink.queue(SetLink(step.node, step.index, up=True))
        namespace.netlink.collect()
        return cls(process)

    def close(self) -> None:
        """End it; it holds nothing that an orderly end would save."""
        self._process.kill()
        self._process.wait()
