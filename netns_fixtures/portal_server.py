"""``python -m netns_fixtures.portal_server PORT STATUS LOCATION``: the web server of a captive portal.

Started by a lab in a router, never by hand. Standard input is a control socket: one packet says that it
serves, and at its end the program ends. Each line of output is a request that was answered.
"""

from __future__ import annotations

import asyncio
import json
import socket
import sys

import h11

from netns_fixtures.portal_pages import PortalPage, portal_page

#: A client on the same cable has its request out at once; another one is hung up on.
_TIMEOUT = 5.0
_MAX_REQUEST = 16 * 1024
#: What is not answered at once by so many is hung up on; a lab's guests are few.
_MAX_GUESTS = 64


class PortalServer:
    """Answers everybody, and tells who asked for what."""

    def __init__(self, status: int, location: str) -> None:
        self._status = status
        self._location = location
        self._guests = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection: one request, one answer."""
        self._guests += 1
        try:
            if self._guests <= _MAX_GUESTS:
                async with asyncio.timeout(_TIMEOUT):
                    await self._answer(reader, writer)
        except (OSError, h11.ProtocolError):  # TimeoutError is one: a client that hangs, is gone, or babbles
            pass
        finally:
            self._guests -= 1
            writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = h11.Connection(h11.SERVER, max_incomplete_event_size=_MAX_REQUEST)
        while (event := connection.next_event()) is h11.NEED_DATA:
            connection.receive_data(await reader.read(4096))
        if not isinstance(event, h11.Request):
            return  # it closed before its request was complete
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in event.headers}
        page = portal_page(headers, _own(writer), self._location, self._status)
        _write(connection, writer, page)
        await writer.drain()
        wanted = f"http://{headers.get('host', '')}{event.target.decode('latin-1')}"
        line = {"client": writer.get_extra_info("peername")[0], "url": wanted, "status": page.status}
        sys.stdout.write(json.dumps(line) + "\n")
        sys.stdout.flush()


def _own(writer: asyncio.StreamWriter) -> str:
    """Our address on this connection, as a URL has it."""
    ip: str = writer.get_extra_info("sockname")[0]
    return f"[{ip}]" if ":" in ip else ip


def _write(connection: h11.Connection, writer: asyncio.StreamWriter, page: PortalPage) -> None:
    response = h11.Response(status_code=page.status, headers=list(page.headers), reason=page.reason.encode())
    events = [response, h11.Data(data=page.body), h11.EndOfMessage()]
    for event in events:
        writer.write(connection.send(event) or b"")


async def _main(port: int, status: int, location: str) -> None:
    server = await asyncio.start_server(PortalServer(status, location).serve, None, port, limit=_MAX_REQUEST)
    with socket.socket(fileno=0) as control:
        control.setblocking(False)
        loop = asyncio.get_running_loop()
        await loop.sock_sendall(control, b"ready")
        await loop.sock_recv(control, 1)  # there is nothing to ask: this is its end
    server.close()


if __name__ == "__main__":
    asyncio.run(_main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]))
