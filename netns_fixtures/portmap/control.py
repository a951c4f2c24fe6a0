"""What the test process and a router's server say to each other: JSON, one object per packet or line."""

from __future__ import annotations

import json
from typing import Any

#: Far above a full table of mappings in JSON (150 bytes each).
MAX_MESSAGE = 256 * 1024


def encode_request(verb: str, **arguments: Any) -> bytes:
    """A request."""
    return json.dumps({"verb": verb, "arguments": arguments}).encode()


def decode_request(packet: bytes) -> tuple[str, dict[str, Any]]:
    """Verb and arguments."""
    request = json.loads(packet)
    return request["verb"], request["arguments"]
