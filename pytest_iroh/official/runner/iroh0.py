"""A node of iroh 0.28 to 0.35: ``iroh.Iroh`` with a protocol handler."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from .bindings import Address, Connection, IrohError, NodeConfig, OnConnection, iroh, plain_message

logger = logging.getLogger(__name__)

PHANTOM = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"
"""A valid id that no node has (public key of RFC 8032, test 1): dialling it keeps a relay connected."""

REDIAL_INTERVAL = 1.0
"""Seconds after a failed dial of the phantom; the dial itself lasts until the 30 s idle timeout."""

SHUTDOWN_TIME = 0.3
"""Seconds: 0.28.1 may never return from shutdown when its relays are out of reach, 0.35.0 takes over 1 s."""


async def start(config: NodeConfig, on_connection: OnConnection) -> Iroh0Node:
    """Start an in-memory node without discovery; its built-in relays do not resolve in a lab."""
    options = iroh.NodeOptions(
        node_discovery=iroh.NodeDiscoveryConfig.NONE,
        gc_interval_millis=0,
        ipv4_addr=f"0.0.0.0:{config.port}",
        ipv6_addr=f"[::]:{config.port}",
        secret_key=config.secret_key,
        protocols={config.alpn: _Creator(on_connection)},
    )
    node = await iroh.Iroh.memory_with_options(options)
    return Iroh0Node(node, await node.net().node_id(), config)


class Iroh0Node:
    """One ``iroh.Iroh``."""

    def __init__(self, node: Any, node_id: str, config: NodeConfig) -> None:
        self.node_id = _hex(iroh.PublicKey.from_string(node_id))
        self._node = node
        self._config = config
        self._relay_task = (
            asyncio.create_task(self._stay_connected(config.relay_url)) if config.relay_url else None
        )

    async def addr(self) -> Address:
        """Ids, our relay (never the built-in one, which nobody reaches in a lab), addresses now."""
        addr = await self._node.net().node_addr()
        return Address(self.node_id, self._config.relay_url, list(addr.direct_addresses()))

    async def add_addr(self, address: Address) -> None:
        """Put the address into the node map."""
        await self._node.net().add_node_addr(_node_addr(address))

    async def dial(self, address: Address, alpn: bytes) -> Connection:
        """Connect to a peer."""
        raw = await self._node.node().endpoint().connect(_node_addr(address), alpn)
        return Connection(raw, address.node_id)

    async def path(self, connection: Connection) -> dict[str, Any]:
        """What the node map says of the peer; a relay stays "mixed" until a direct path is proven."""
        info = await self._node.net().remote_info(iroh.PublicKey.from_string(connection.node_id))
        if info is None:
            return {"kind": "none", "address": None, "relay_url": None, "rtt": None}
        kind = info.conn_type.type().name.lower()
        address, relay_url = _ends(kind, info.conn_type)
        rtt = info.latency.total_seconds() if info.latency is not None else None
        return {"kind": kind, "address": address, "relay_url": relay_url, "rtt": rtt}

    async def shutdown(self) -> None:
        """Shut the node down, as far as it gets in that time; the process ends anyway."""
        if self._relay_task is not None:
            self._relay_task.cancel()
        node = self._node.node()
        # 0.28 wants to be told whether to wait for its tasks.
        arguments = [True] if hasattr(node, "my_rpc_addr") else []
        try:
            await asyncio.wait_for(node.shutdown(*arguments), SHUTDOWN_TIME)
        except TimeoutError:
            logger.debug("shutdown of the node takes too long: leaving without it")

    async def _stay_connected(self, relay_url: str) -> None:
        """Keep a relay connected: there is no option for it, but a dial opens the relay of the peer."""
        phantom = _node_addr(Address(PHANTOM, relay_url, []))
        while True:
            try:
                await self._node.node().endpoint().connect(phantom, self._config.alpn)
            except IrohError as error:
                logger.debug("phantom dial over %s: %s", relay_url, plain_message(error))
            await asyncio.sleep(REDIAL_INTERVAL)


class _Handler:
    """``iroh.ProtocolHandler``: 0.28 hands over a handshake in progress, 0.35 a connection."""

    def __init__(self, on_connection: OnConnection) -> None:
        self._on_connection = on_connection

    async def accept(self, conn: Any) -> None:
        raw = await conn.connect() if hasattr(conn, "connect") else conn
        node_id = raw.remote_node_id() if hasattr(raw, "remote_node_id") else raw.get_remote_node_id()
        await self._on_connection(Connection(raw, _hex(iroh.PublicKey.from_string(str(node_id)))))

    async def shutdown(self) -> None:
        return None


class _Creator:
    """``iroh.ProtocolCreator``; 0.28 also hands over the node."""

    def __init__(self, on_connection: OnConnection) -> None:
        self._on_connection = on_connection

    def create(self, endpoint: Any, client: Any = None) -> _Handler:
        return _Handler(self._on_connection)


def _ends(kind: str, conn_type: Any) -> tuple[str | None, str | None]:
    if kind == "direct":
        return str(conn_type.as_direct()), None
    if kind == "relay":
        return None, str(conn_type.as_relay())
    if kind == "mixed":
        mixed = conn_type.as_mixed()
        return str(mixed.addr), str(mixed.relay_url)
    return None, None


def _node_addr(address: Address) -> Any:
    key = iroh.PublicKey.from_bytes(bytes.fromhex(address.node_id))
    return iroh.NodeAddr(key, address.relay_url, address.direct_addresses)


def _hex(key: Any) -> str:
    """Ids in hex everywhere: 0.28 prints them in base32."""
    return bytes(key.to_bytes()).hex()
