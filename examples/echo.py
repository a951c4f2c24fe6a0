"""Two endpoints in one process, on the loopback interface: one line goes there and back.

$ python examples/echo.py
server is 7f6e0c6e51
client sent      hello
server received  hello
client received  HELLO
path             direct
"""

import asyncio

from iroh_py import Endpoint

ALPN = "example/shout"  # names the application's protocol; both sides must say the same
LOOPBACK = (("127.0.0.1", 0),)  # without this, an endpoint binds every address, IPv4 and IPv6


async def shout(server: Endpoint) -> None:
    """Accept one connection and one stream on it, and answer in capitals."""
    connection = await server.accept()
    send, recv = await connection.accept_bi()
    words = await recv.read_to_end()
    print("server received ", words.decode())
    async with send:  # leaving the block ends the stream in this direction
        await send.write(words.upper())
    await connection.wait_closed()


async def main() -> None:
    async with await Endpoint.bind(alpns=[ALPN], bind=LOOPBACK) as server:
        serving = asyncio.create_task(shout(server))
        print("server is", server.node_id.fmt_short())
        async with await Endpoint.bind(bind=LOOPBACK) as client:
            # A ticket is text: node id and addresses. Send it by mail, show it as a QR code.
            connection = await client.connect(server.ticket, ALPN)
            send, recv = connection.open_bi()
            async with send:
                await send.write(b"hello")
            print("client sent      hello")
            print("client received ", (await recv.read_to_end()).decode())
            print("path            ", "direct" if connection.path.direct else "relayed")
            connection.close()
        await serving


asyncio.run(main())
