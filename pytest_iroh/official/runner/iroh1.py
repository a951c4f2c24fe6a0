"""A node of iroh 1.x: ``iroh.Endpoint`` with an accept loop."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from .bindings import Address, Connection, IrohError, NodeConfig, OnConnection, iroh, plain_message

logger = logging.getLogger(__name__)


async def start(config: NodeConfig, on_connection: OnConnection) -> Iroh1Node:
    """Bind an endpoint with the minimal preset (no discovery) and only the relay given, or none."""
    options = iroh.EndpointOptions(
        preset=iroh.preset_minimal(),
        # The v6 socket stays on a port of the kernel's choice: there is one bind address only.
        bind_addr=f"0.0.0.0:{config.port}" if config.port else None,
        secret_key=config.secret_key,
        alpns=[config.alpn],
        relay_mode=_relay_mode(config),
    )
    return Iroh1Node(await iroh.Endpoint.bind(options), on_connection)


def _relay_mode(config: NodeConfig) -> Any:
    if config.relay_url is None:
        return iroh.RelayMode.disabled()
    relays = iroh.RelayMap.empty()
    # A QUIC port that nobody answers at costs 3 s at every start, so None has to mean none.
    relays.insert(
        iroh.RelayConfig(url=config.relay_url, quic_port=config.quic_port, auth_token=config.relay_token)
    )
    return iroh.RelayMode.custom(relays)


class Iroh1Node:
    """One ``iroh.Endpoint``."""

    def __init__(self, endpoint: Any, on_connection: OnConnection) -> None:
        self.node_id = _hex(endpoint.id())
        self._endpoint = endpoint
        self._on_connection = on_connection
        self._addresses: dict[str, Address] = {}
        self._handlers: set[asyncio.Task[None]] = set()
        self._accept_task = asyncio.create_task(self._accept_all())

    async def addr(self) -> Address:
        """Id, home relay once there is one, addresses now."""
        addr = self._endpoint.addr()
        return Address(self.node_id, addr.relay_url(), list(addr.direct_addresses()))

    async def add_addr(self, address: Address) -> None:
        """Remember the address for the next dial: 1.x has no node map to add to."""
        self._addresses[address.node_id] = address

    async def dial(self, address: Address, alpn: bytes) -> Connection:
        """Connect to a peer at the given addresses and those added before."""
        known = self._addresses.get(address.node_id, address)
        addresses = sorted({*address.direct_addresses, *known.direct_addresses})
        target = iroh.EndpointAddr(
            iroh.EndpointId.from_string(address.node_id), address.relay_url or known.relay_url, addresses
        )
        return Connection(await self._endpoint.connect(target, alpn), address.node_id)

    async def path(self, connection: Connection) -> dict[str, Any]:
        """The selected path of the connection, or "none"."""
        for path in connection.raw.paths():
            if path.is_selected:
                return {
                    "kind": "relay" if path.is_relay else "direct",
                    "address": None if path.is_relay else path.remote_addr,
                    "relay_url": path.remote_addr if path.is_relay else None,
                    "rtt": path.rtt_ms / 1000,
                }
        return {"kind": "none", "address": None, "relay_url": None, "rtt": None}

    async def shutdown(self) -> None:
        """Close the endpoint."""
        await self._endpoint.close()
        self._accept_task.cancel()

    async def _accept_all(self) -> None:
        while (incoming := await self._endpoint.accept_next()) is not None:
            task = asyncio.create_task(self._accept(incoming))
            self._handlers.add(task)
            task.add_done_callback(self._handlers.discard)

    async def _accept(self, incoming: Any) -> None:
        try:
            raw = await (await incoming.accept()).connect()
        except IrohError as error:
            logger.warning("handshake failed: %s", plain_message(error))
            return
        await self._on_connection(Connection(raw, _hex(raw.remote_id())))


def _hex(endpoint_id: Any) -> str:
    return bytes(endpoint_id.to_bytes()).hex()
