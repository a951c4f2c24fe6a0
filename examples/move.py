"""A lab without pytest: a laptop moves from its Wi-Fi to a hotspot while it talks to a server.

$ python examples/move.py
lab move built: 2 hosts, 4 routers, seed 1
before  192.168.1.10 -> 198.18.1.10:34001   41.4 ms
laptop eth0 replugged home -> hotspot
after   192.168.2.10 -> 198.18.1.10:34001   62.0 ms
lab move closed
"""

import asyncio
import time

from iroh_py import PING_INTERVAL, Connection, Endpoint, RecvStream, SendStream
from netns_fixtures import Lab
from pytest_iroh import ECHO_ALPN, serve_echo  # a service that sends everything back


async def ask(when: str, connection: Connection, send: SendStream, recv: RecvStream) -> None:
    """One message there and back over a stream that stays open across the move."""
    began = time.monotonic()
    async with asyncio.timeout(PING_INTERVAL):
        await send.write(b"are you there?")
        await recv.read_exact(14)
    print(f"{when:<7} {connection.path}   {(time.monotonic() - began) * 1000:.1f} ms")


async def main(lab: Lab) -> None:
    home, hotspot = lab.router("home", nat="moderate"), lab.router("hotspot", nat="cgnat")
    laptop = lab.host("laptop", uplink=home, family="v4")  # or either family may win
    server = lab.host("server", uplink=lab.router("centre"), delay=0.02)  # 20 ms each way
    # The endpoints' sockets are in the hosts; the code runs here, in one event loop.
    async with await Endpoint.bind(alpns=[ECHO_ALPN], network=server) as there:
        service = asyncio.create_task(serve_echo(there))
        async with await Endpoint.bind(network=laptop) as here:
            connection = await here.connect(there.node_addr, ECHO_ALPN)
            stream = connection.open_bi()
            await ask("before", connection, *stream)
            laptop.replug(hotspot)  # a plain call; the network has changed when it returns
            await ask("after", connection, *stream)
    await service


with Lab("move", seed=1) as lab:
    lab.on_event(lambda event: print(event.text))
    asyncio.run(main(lab))
