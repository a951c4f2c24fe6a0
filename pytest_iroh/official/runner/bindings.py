"""What the rest of the runner needs of any version of the bindings, and the choice of the right one."""

from __future__ import annotations

import dataclasses
import importlib
import importlib.metadata
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

iroh: Any = importlib.import_module("iroh")
"""The official bindings: untyped here, because their API differs per version."""

IrohError: type[Exception] = iroh.IrohError
VERSION = importlib.metadata.version("iroh")


@dataclasses.dataclass(slots=True, frozen=True)
class NodeConfig:
    """How to start a node: ``port`` 0 lets the kernel choose, ``relay_url`` None means no relay.

    ``quic_port``: where the relay has address discovery, None: it has none. ``relay_token``: its bearer token.
    Both are for 1.x only.
    """

    alpn: bytes
    secret_key: bytes | None
    port: int
    relay_url: str | None
    quic_port: int | None
    relay_token: str | None


@dataclasses.dataclass(slots=True, frozen=True)
class Address:
    """Where a node is: its id as 64 hex digits, its relay, and addresses as ``ip:port``."""

    node_id: str
    relay_url: str | None
    direct_addresses: list[str]


class Connection:
    """One QUIC connection; every version has these calls under the same names."""

    def __init__(self, raw: Any, node_id: str) -> None:
        self.raw = raw
        self.node_id = node_id

    async def open_bi(self) -> tuple[Any, Any]:
        """Open a stream; return its sending and its receiving half."""
        stream = await self.raw.open_bi()
        return stream.send(), stream.recv()

    async def accept_bi(self) -> tuple[Any, Any]:
        """Wait for the peer's next stream; return its sending and its receiving half."""
        stream = await self.raw.accept_bi()
        return stream.send(), stream.recv()

    def close(self, code: int, reason: bytes) -> None:
        """Close with an application code."""
        self.raw.close(code, reason)

    async def closed(self) -> str:
        """Wait for the end; return its reason in the bindings' words."""
        return str(await self.raw.closed())


OnConnection = Callable[[Connection], Awaitable[None]]
"""Is given every accepted connection; the connection lives at least as long as the call."""


class Node(Protocol):
    """One running node of some version."""

    node_id: str

    async def addr(self) -> Address:
        """Where the node is reachable now."""

    async def add_addr(self, address: Address) -> None:
        """Tell the node where a peer is."""

    async def dial(self, address: Address, alpn: bytes) -> Connection:
        """Connect to a peer."""

    async def path(self, connection: Connection) -> dict[str, Any]:
        """The path now: ``kind`` (direct, relay, mixed, none), ``address``, ``relay_url``, ``rtt`` (s)."""

    async def shutdown(self) -> None:
        """Close everything."""


async def start_node(config: NodeConfig, on_connection: OnConnection) -> Node:
    """Start a node of the installed version; it listens at once."""
    # Imported here: each module defines subclasses of what only its versions of the bindings have.
    name = "iroh1" if hasattr(iroh, "EndpointAddr") else "iroh0"
    module = importlib.import_module(f"{__package__}.{name}")
    node: Node = await module.start(config, on_connection)
    return node


def plain_message(error: BaseException) -> str:
    """The sentence in an error of the bindings: theirs carry a stack trace of a hundred lines."""
    message = getattr(error, "message", None)
    text = str(message() if callable(message) else message or error or type(error).__name__)
    return text.partition("\n\nStack backtrace")[0].strip()
