"""What a program of ours answers on its control socket: a value, or a refusal in one sentence. JSON."""

from __future__ import annotations

import json
from typing import Any

from netns_fixtures.errors import LabError


def encode_reply(value: Any = None) -> bytes:
    """A good answer as one packet."""
    return json.dumps({"ok": value}).encode()


def encode_error(sentence: str) -> bytes:
    """A refusal as one packet."""
    return json.dumps({"error": sentence}).encode()


def decode_reply(packet: bytes, error: type[LabError] = LabError) -> Any:
    """The answer in a packet; raises ``error`` if it is a refusal."""
    reply = json.loads(packet)
    if "error" in reply:
        raise error(reply["error"])
    return reply["ok"]
