"""netns_fixtures.wire.messages: requests and replies of the wire process."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netns_fixtures.errors import LinkEngineError
from netns_fixtures.link import LinkCondition
from netns_fixtures.replies import decode_reply, encode_error, encode_reply
from netns_fixtures.wire.messages import (
    AddLink,
    ReadStats,
    RemoveLink,
    Request,
    SetCondition,
    SetConnected,
    check_fds,
    decode_request,
    encode_request,
)

SLOW = LinkCondition(delay=0.1, rate=1e6)
ADD = AddLink(link=3, forward=SLOW, backward=LinkCondition(), seed=2**63)


@pytest.mark.parametrize(
    "request_",
    [
        ADD,
        SetCondition(link=3, forward=None, backward=SLOW),
        SetConnected(link=3, connected=False),
        RemoveLink(link=3),
        ReadStats(link=3),
    ],
    ids=lambda request: type(request).__name__,
)
def test_request_survives_the_packet(request_: Request) -> None:
    """What is decoded is what was encoded."""
    assert decode_request(encode_request(request_)) == request_


def test_reply_survives_the_packet() -> None:
    """A good answer comes back as it was."""
    assert decode_reply(encode_reply({"frames": 3})) == {"frames": 3}


def test_refusal_becomes_the_exception() -> None:
    """A refusal raises with the sentence that the process gave."""
    with pytest.raises(LinkEngineError, match="no link 7"):
        decode_reply(encode_error("the wire has no link 7"), LinkEngineError)


@pytest.mark.parametrize(
    "message",
    [
        None,
        [],
        ["Nonsense", {}],
        [["AddLink"], {}],
        ["RemoveLink", {"link": "three"}],
        ["RemoveLink", {"link": 3, "more": 4}],
        ["SetConnected", {"link": 3, "connected": "yes"}],
        ["SetCondition", {"link": 3, "forward": {"loss": 7}, "backward": None}],
        ["AddLink", {"link": 3, "forward": None, "backward": None, "seed": 1}],
    ],
)
def test_wrong_request_is_refused_with_a_sentence(message: Any) -> None:
    """A mistake of the lab is an answer, and not the end of the process."""
    with pytest.raises(LinkEngineError, match="does not understand"):
        decode_request(json.dumps(message).encode())


@given(st.binary(max_size=100))
def test_any_bytes_are_refused_or_a_request(packet: bytes) -> None:
    """Nothing but LinkEngineError comes out of a packet that is no request."""
    try:
        decode_request(packet)
    except LinkEngineError:
        pass


@pytest.mark.parametrize(("request_", "fds"), [(ADD, [1]), (RemoveLink(link=1), [1, 2])], ids=["one", "two"])
def test_wrong_number_of_descriptors_is_refused(request_: Request, fds: list[int]) -> None:
    """A link needs two descriptors, and nothing else takes any."""
    with pytest.raises(LinkEngineError, match="descriptors"):
        check_fds(request_, fds)
