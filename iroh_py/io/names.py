"""Host names to addresses without blocking the event loop, nor the end of the program."""

from __future__ import annotations

import asyncio
import inspect
import ipaddress
import socket
import threading
from collections.abc import Callable
from typing import Any, TypeVar

Result = TypeVar("Result")

#: Look-ups under way at most: a dead name server holds each for some 10 s, and each is a thread.
MAX_LOOKUPS = 32

_lookups = threading.BoundedSemaphore(MAX_LOOKUPS)


def literal(host: str) -> str | None:
    """Canonical text if the host is an IP address (in brackets or not), else None; mapped ones as IPv4."""
    try:
        ip = ipaddress.ip_address(host.removeprefix("[").removesuffix("]"))
    except ValueError:
        return None
    mapped = ip.ipv4_mapped if ip.version == 6 else None
    return str(mapped or ip)


async def resolve_by_system(host: str) -> list[str]:
    """Addresses of a name by the system's resolver, best first. Raises OSError."""
    return await in_daemon_thread(lambda: _getaddrinfo(host))


async def resolve_by(resolver: Callable[[str], Any], host: str) -> list[str]:
    """Addresses of a name by a given function, sync (called in a thread) or async. Raises OSError."""
    if inspect.iscoroutinefunction(resolver):
        found = await resolver(host)
    else:
        found = await in_daemon_thread(lambda: resolver(host))
        if inspect.isawaitable(found):
            found = await found
    addresses = [ip for ip in map(literal, found) if ip is not None]
    if not addresses:
        raise socket.gaierror(socket.EAI_NONAME, f"{host} has no address")
    return addresses


async def in_daemon_thread(function: Callable[[], Result]) -> Result:
    """Run a blocking function beside the event loop.

    In a daemon thread of its own: the loop's executor is waited for at the end of the program, and a name
    server that does not answer would hold that up. Raises OSError if too many are under way, and what the
    function raises.
    """
    if not _lookups.acquire(blocking=False):
        raise OSError(f"{MAX_LOOKUPS} name look-ups are under way already")
    loop = asyncio.get_running_loop()
    future: asyncio.Future[Result] = loop.create_future()

    def work() -> None:
        try:
            result = function()
        except BaseException as error:  # Whatever it is belongs to the one who waits.
            _tell(loop, _fail, future, error)
        else:
            _tell(loop, _succeed, future, result)
        finally:
            _lookups.release()

    threading.Thread(target=work, name="iroh-py-lookup", daemon=True).start()
    return await future


def _tell(loop: asyncio.AbstractEventLoop, tell: Callable[..., None], *arguments: object) -> None:
    try:
        loop.call_soon_threadsafe(tell, *arguments)
    except RuntimeError:
        return  # The loop was closed meanwhile: nobody waits any more.


def _succeed(future: asyncio.Future[Result], result: Result) -> None:
    if not future.done():
        future.set_result(result)


def _fail(future: asyncio.Future[Result], error: BaseException) -> None:
    if not future.done():
        future.set_exception(error)


def _getaddrinfo(host: str) -> list[str]:
    found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    addresses = (literal(str(entry[4][0]).partition("%")[0]) for entry in found)
    return list(dict.fromkeys(ip for ip in addresses if ip is not None))
