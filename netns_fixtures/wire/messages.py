"""What the lab and the wire process say to each other: one JSON object per packet of a socket pair.

Every request gets one reply: `{"ok": ...}` or `{"error": "a sentence"}`. `AddLink` carries two file
descriptors (SCM_RIGHTS), end a first. Both sides are ours and of one version; the checks here turn a mistake
into a sentence and are no defence against an enemy.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from netns_fixtures.errors import LinkEngineError
from netns_fixtures.link import LinkCondition

# Far above the largest message, a request with two full conditions (about 500 bytes).
MAX_MESSAGE = 16 * 1024
FDS_PER_LINK = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class AddLink:
    """Join the two TAPs whose descriptors come along."""

    link: int
    forward: LinkCondition
    backward: LinkCondition
    seed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SetCondition:
    """Change what both directions do; None leaves one as it is."""

    link: int
    forward: LinkCondition | None
    backward: LinkCondition | None


@dataclass(frozen=True, slots=True, kw_only=True)
class SetConnected:
    """Cut the link (frames under way are gone, all others are swallowed) or join it again."""

    link: int
    connected: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoveLink:
    """Close both descriptors and forget the link."""

    link: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadStats:
    """Ask for the counters of both directions."""

    link: int


Request = AddLink | SetCondition | SetConnected | RemoveLink | ReadStats

_REQUESTS: dict[str, type[Request]] = {
    kind.__name__: kind for kind in (AddLink, SetCondition, SetConnected, RemoveLink, ReadStats)
}
_CONDITIONS = ("forward", "backward")


def encode_request(request: Request) -> bytes:
    """The request as one packet."""
    return json.dumps([type(request).__name__, asdict(request)]).encode()


def decode_request(packet: bytes) -> Request:
    """The request in a packet; raises LinkEngineError for anything else."""
    try:
        name, values = json.loads(packet)
        for key in _CONDITIONS:
            if values.get(key) is not None:
                values[key] = LinkCondition(**values[key])
        request = _REQUESTS[name](**values)
        _check_values(request)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise LinkEngineError(f"the wire does not understand {packet[:200]!r}: {error!r}") from error
    return request


def _check_values(request: Request) -> None:
    if not isinstance(request.link, int):
        raise TypeError(f"a link is known by a number, not {request.link!r}")
    if isinstance(request, AddLink) and (request.forward is None or request.backward is None):
        raise TypeError("a new link needs both conditions")
    if isinstance(request, SetConnected) and not isinstance(request.connected, bool):
        raise TypeError(f"a link is connected or not, not {request.connected!r}")


def check_fds(request: Request, fds: Sequence[int]) -> None:
    """Raise LinkEngineError unless exactly the descriptors came along that the request needs."""
    expected = FDS_PER_LINK if isinstance(request, AddLink) else 0
    if len(fds) != expected:
        raise LinkEngineError(
            f"{type(request).__name__} needs {expected} descriptors and came with {len(fds)}"
        )
