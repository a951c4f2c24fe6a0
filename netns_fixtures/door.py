"""The command with which a person enters a node from another terminal.

A node's namespace has no name and no process of its own. A door keeps a descriptor of it open in this process, and
``nsenter`` of another terminal goes in through ``/proc``: as root directly, without root through the agent's user
namespace, which belongs to the same user.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from types import TracebackType

from netns_fixtures.errors import LabClosed
from netns_fixtures.messages import OpenNamespace
from netns_fixtures.node import Node

#: What a person gets without a command of their own.
DEFAULT_COMMAND = ("sh",)


class Door:
    """A way into a node for programs outside of the lab; open until :meth:`close`, or the end of ``with``.

    What enters keeps its own files, processes and user; only its network is the node's. It is none of the lab's
    processes: whoever leaves it running keeps the namespace alive. Raises LabClosed, AgentDied, MissingCapability.
    """

    def __init__(self, node: Node) -> None:
        lab = node.lab
        if lab.closed:
            raise LabClosed(f"lab {lab.name} is closed, so nobody can enter {node.name}")
        self.name = node.name
        _value, (self._fd,) = lab.request(OpenNamespace(lab.ready(), node.number))
        self._user = [] if lab.mode == "root" else _user_namespace(lab.agent_pid)

    def __repr__(self) -> str:
        return f"<Door into {self.name}: {self.command()}>"

    def __enter__(self) -> Door:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        self.close()

    def argv(self, command: Sequence[str] = DEFAULT_COMMAND) -> list[str]:
        """The program and arguments that run ``command`` in the node. Valid while the door is open."""
        return ["nsenter", *self._user, f"--net=/proc/{os.getpid()}/fd/{self._fd}", "--", *command]

    def command(self, command: Sequence[str] = DEFAULT_COMMAND) -> str:
        """The same as one line for a shell."""
        return shlex.join(self.argv(command))

    def close(self) -> None:
        """Close it; does nothing the second time. Who is inside stays inside."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def _user_namespace(agent: int) -> list[str]:
    # Our uid is mapped to itself in there, so there are no credentials to change (and setgroups is denied).
    return [f"--user=/proc/{agent}/ns/user", "--preserve-credentials"]
