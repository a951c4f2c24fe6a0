"""The socket pair between test process and agent."""

from __future__ import annotations

import os
import socket
import threading

import pytest

from netns_fixtures.errors import CommandFailed, LabError, MissingCapability
from netns_fixtures.messages import Apply, Reply, receive, send
from netns_fixtures.ops import AddNode


def test_request_and_descriptors_cross() -> None:
    """A message arrives equal, with its descriptors, which are not inherited."""
    ours, theirs = socket.socketpair()
    with ours, theirs, open(os.devnull) as file:
        request = Apply(1, (AddNode(0, "fabric", (("a", "b"),)),))
        send(ours, request, [file.fileno()])
        received, fds = receive(theirs)
        assert received == request
        assert len(fds) == 1
        assert not os.get_inheritable(fds[0])
        os.close(fds[0])


def test_large_message_crosses_whole() -> None:
    """A topology of any size is one message."""
    ours, theirs = socket.socketpair()
    payload = os.urandom(3_000_000)
    with ours, theirs:
        sender = threading.Thread(target=send, args=(ours, Reply(payload)))
        sender.start()
        reply, _fds = receive(theirs)
        sender.join()
    assert reply == Reply(payload)


def test_closed_end_is_end_of_file() -> None:
    """Both sides learn of the other's death by end of file."""
    ours, theirs = socket.socketpair()
    ours.close()
    with theirs, pytest.raises(EOFError):
        receive(theirs)


@pytest.mark.parametrize(
    "error",
    [MissingCapability("no TAPs", "run: modprobe tun"), CommandFailed(["nft", "-f"], 1, "syntax\n", "home")],
)
def test_errors_keep_their_fields_on_the_way(error: LabError) -> None:
    """What the agent raised is raised in the test, with its sentence."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        send(ours, Reply(error=error))
        reply, _fds = receive(theirs)
    assert type(reply.error) is type(error)
    assert str(reply.error) == str(error)
    assert vars(reply.error) == vars(error)


def test_error_texts_say_what_to_do() -> None:
    """A missing capability ends with its remedy, a failed command names its place and its words."""
    assert str(MissingCapability("no TAPs", "run: modprobe tun")) == "no TAPs; run: modprobe tun"
    assert (
        str(CommandFailed(["nft", "-f"], 1, "syntax\n", "home"))
        == "'nft -f' in home failed with status 1: syntax"
    )
