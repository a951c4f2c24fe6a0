"""The command loop: JSON lines over a unix socket, one request per line, answers as they are ready.

Request: ``{"id": 1, "command": "dial", "within": 10.0, ...}``. Answer: ``{"id": 1, "result": {...}}`` or
``{"id": 1, "error": {"kind": "failed" | "timeout", "message": "..."}}``. Unasked: ``{"event": ...}``.
All times are CLOCK_MONOTONIC seconds, so that the parent can compare them with its own.
A unix socket and not stdin/stdout: whoever starts us (a network lab) may keep those for itself; and a path
works from any network namespace. When the parent is gone the socket ends, and so do we.
"""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import json
import logging
import os
import shutil
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any

from .bindings import (
    VERSION,
    Address,
    Connection,
    IrohError,
    Node,
    NodeConfig,
    iroh,
    plain_message,
    start_node,
)
from .names import use_names
from .traffic import Counters, Ticker, content, echo, echo_datagram, echo_uni, serve_echo
from .trust import replace_constants

logger = logging.getLogger(__name__)

LINE_LIMIT = 1 << 26
"""Bytes of one request line: 1 MB of echo data in hex has 2 MB."""

NOT_LISTENING = 1
"""Application close code for a connection that comes before ``listen``."""

LOOK_INTERVAL = 0.02
"""Seconds between two looks at a path: not every version tells when it changes."""

LINGER = 0.05
"""Seconds before leaving, so that the close frames get out even where shutdown does not return."""

Request = dict[str, Any]


class Session:
    """The node, its connections and tickers, and the commands on them."""

    def __init__(self, notify: Callable[[dict[str, Any]], None], directory: str) -> None:
        self._notify = notify
        self._directory = directory
        self._name_server: asyncio.DatagramTransport | None = None
        self._node: Node | None = None
        self._alpn = b""
        self._listening = False
        self._connections: dict[int, Connection] = {}
        self._ended: dict[int, str] = {}
        self._tickers: dict[int, Ticker] = {}
        self._counters = Counters()
        self._next_number = 0
        self._watchers: set[asyncio.Task[None]] = set()
        self.commands: dict[str, Callable[[Request], Awaitable[dict[str, Any]]]] = {
            "start": self._start,
            "addr": self._addr,
            "add_addr": self._add_addr,
            "listen": self._listen,
            "dial": self._dial,
            "echo": self._echo,
            "bulk": self._bulk,
            "datagram": self._datagram,
            "uni": self._uni,
            "ticker": self._ticker,
            "ticker_log": self._ticker_log,
            "ticker_echo": self._ticker_echo,
            "ticker_stop": self._ticker_stop,
            "path": self._path,
            "direct": self._direct,
            "stats": self._stats,
            "close": self._close,
            "shutdown": self._shutdown,
        }

    async def _start(self, request: Request) -> dict[str, Any]:
        if self._node is not None:
            raise ValueError("the node is started already")
        if request["log_level"]:
            iroh.set_log_level(iroh.LogLevel[request["log_level"].upper()])
        self._alpn = request["alpn"].encode()
        secret = bytes.fromhex(request["secret_key"]) if request["secret_key"] else None
        replace_constants([(bytes.fromhex(old), bytes.fromhex(new)) for old, new in request["trust"]])
        may_name = await self._use_names(request["names"])
        config = NodeConfig(
            self._alpn,
            secret,
            request["port"],
            request["relay_url"],
            request["quic_port"],
            request["relay_token"],
        )
        self._node = await start_node(config, self._accepted)
        return {"node_id": self._node.node_id, "may_name": may_name}

    async def _use_names(self, names: dict[str, str]) -> bool:
        if not names:
            return True
        try:
            self._name_server = await use_names(names, self._directory)
        except PermissionError as error:
            logger.warning("the names of the built-in relays stay as they are: %s", error)
            return False
        return True

    async def _addr(self, request: Request) -> dict[str, Any]:
        return dataclasses.asdict(await self.node.addr())

    async def _add_addr(self, request: Request) -> dict[str, Any]:
        await self.node.add_addr(_address(request))
        return {}

    async def _listen(self, request: Request) -> dict[str, Any]:
        self._listening = True
        return {}

    async def _dial(self, request: Request) -> dict[str, Any]:
        alpn = request["alpn"].encode() if request["alpn"] else self._alpn
        connection = await self.node.dial(_address(request), alpn)
        number = self._add(connection)
        self._watch(number, connection)
        return {"conn": number}

    async def _echo(self, request: Request) -> dict[str, Any]:
        return await echo(self._connection(request), bytes.fromhex(request["data"]))

    async def _bulk(self, request: Request) -> dict[str, Any]:
        return await echo(self._connection(request), content(request["seed"], request["bytes"]))

    async def _datagram(self, request: Request) -> dict[str, Any]:
        return await echo_datagram(self._connection(request), bytes.fromhex(request["data"]))

    async def _uni(self, request: Request) -> dict[str, Any]:
        return await echo_uni(self._connection(request), bytes.fromhex(request["data"]))

    async def _ticker(self, request: Request) -> dict[str, Any]:
        number = request["conn"]
        if number in self._tickers:
            raise ValueError(f"connection {number} has a ticker already")
        ticker = Ticker(self._connection(request), request["interval"])
        await ticker.start()
        self._tickers[number] = ticker
        return {}

    async def _ticker_log(self, request: Request) -> dict[str, Any]:
        ticker = self._ticker_of(request)
        return {"sent": ticker.sent, "echoes": ticker.echoes, "error": ticker.error, "at": time.monotonic()}

    async def _ticker_echo(self, request: Request) -> dict[str, Any]:
        return {"at": await self._ticker_of(request).echo_of_later_than(request["after"])}

    async def _ticker_stop(self, request: Request) -> dict[str, Any]:
        self._ticker_of(request).stop()
        log = await self._ticker_log(request)
        del self._tickers[request["conn"]]
        return log

    async def _path(self, request: Request) -> dict[str, Any]:
        return await self.node.path(self._connection(request))

    async def _direct(self, request: Request) -> dict[str, Any]:
        while True:
            path = await self._path(request)
            if path["kind"] == "direct":
                return path
            await asyncio.sleep(LOOK_INTERVAL)

    async def _stats(self, request: Request) -> dict[str, Any]:
        return dataclasses.asdict(self._counters)

    async def _close(self, request: Request) -> dict[str, Any]:
        self._connection(request).close(request["code"], request["reason"].encode())
        return {}

    async def _shutdown(self, request: Request) -> dict[str, Any]:
        for connection in self._connections.values():
            connection.close(0, b"")
        if self._node is not None:
            await self._node.shutdown()
        await asyncio.sleep(LINGER)
        return {}

    @property
    def node(self) -> Node:
        """The node that ``start`` made."""
        if self._node is None:
            raise ValueError("the node is not started")
        return self._node

    async def _accepted(self, connection: Connection) -> None:
        if not self._listening:
            connection.close(NOT_LISTENING, b"not listening")
            return
        number = self._add(connection)
        self._notify(
            {"event": "accepted", "conn": number, "node_id": connection.node_id, "at": time.monotonic()}
        )
        await asyncio.gather(serve_echo(connection, self._counters), self._report_end(number, connection))

    def _add(self, connection: Connection) -> int:
        self._next_number += 1
        self._connections[self._next_number] = connection
        return self._next_number

    def _watch(self, number: int, connection: Connection) -> None:
        task = asyncio.create_task(self._report_end(number, connection))
        self._watchers.add(task)
        task.add_done_callback(self._watchers.discard)

    async def _report_end(self, number: int, connection: Connection) -> None:
        reason = await connection.closed()
        self._connections.pop(number, None)
        self._ended[number] = reason
        self._notify({"event": "closed", "conn": number, "reason": reason, "at": time.monotonic()})

    def _connection(self, request: Request) -> Connection:
        try:
            return self._connections[request["conn"]]
        except KeyError:
            reason = self._ended.get(request["conn"], "there never was one")
            raise ValueError(f"no connection {request['conn']}: {reason}") from None

    def _ticker_of(self, request: Request) -> Ticker:
        try:
            return self._tickers[request["conn"]]
        except KeyError:
            raise ValueError(f"connection {request['conn']} has no ticker") from None


def _address(request: Request) -> Address:
    return Address(request["node_id"], request["relay_url"], request["direct_addresses"])


async def _answer(session: Session, request: Request) -> dict[str, Any]:
    try:
        command = session.commands[request["command"]]
        result = await asyncio.wait_for(command(request), request["within"])
    except TimeoutError:
        message = f"{request['command']} took longer than {request['within']} s"
        return {"id": request["id"], "error": {"kind": "timeout", "message": message}}
    except (IrohError, ValueError, KeyError) as error:
        return {"id": request["id"], "error": {"kind": "failed", "message": plain_message(error)}}
    return {"id": request["id"], "result": result}


async def _serve(control: str) -> None:
    # The bindings call back from threads of their own: they must know the loop.
    iroh.iroh_ffi.uniffi_set_event_loop(asyncio.get_running_loop())
    reader, writer = await asyncio.open_unix_connection(control, limit=LINE_LIMIT)

    def notify(message: dict[str, Any]) -> None:
        writer.write(json.dumps(message).encode() + b"\n")

    async def answer(request: Request) -> None:
        notify(await _answer(session, request))
        await writer.drain()

    session = Session(notify, os.path.dirname(control))
    notify({"event": "ready", "version": VERSION, "pid": os.getpid()})
    tasks: set[asyncio.Task[None]] = set()
    while line := await reader.readline():
        task = asyncio.create_task(answer(json.loads(line)))
        tasks.add(task)
        task.add_done_callback(tasks.discard)


async def _serve_and_leave(control: str) -> None:
    code = 1
    try:
        await _serve(control)
        code = 0
    except OSError as error:
        logger.error("the parent is gone: %s", error)
    except Exception:
        logger.exception("the command loop broke")
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        # A parent that was killed cannot clean up; one that lives has no use for its directory any more.
        shutil.rmtree(os.path.dirname(control), ignore_errors=True)
        # No orderly end of loop and interpreter: Rust threads may be in a call-back and would crash in it.
        os._exit(code)


def main() -> None:
    """Serve one parent until its socket ends."""
    parser = argparse.ArgumentParser(
        description="An official iroh node that takes commands over a unix socket."
    )
    parser.add_argument("--control", required=True, help="path of the parent's listening unix socket")
    parser.add_argument("--log", required=True, help="file for stdout and stderr, also the Rust side's")
    arguments = parser.parse_args()
    log = os.open(arguments.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    for standard in (1, 2):
        os.dup2(log, standard)
    logging.basicConfig(stream=sys.stderr, format="%(relativeCreated)d ms %(name)s: %(message)s")
    asyncio.run(_serve_and_leave(arguments.control))
