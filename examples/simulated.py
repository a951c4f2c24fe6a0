"""Ten minutes on a bad network in a second: no kernel, no waiting, and the same run every time.

$ python examples/simulated.py
at  120 s  the router rebinds      healed in  66 ms
at  240 s  the laptop moves        healed in  68 ms
at  360 s  nothing gets through
at  380 s  it does again           healed in  64 ms
600 virtual seconds, 1136 datagrams, 8 lost
"""

import asyncio

from iroh_py.testing import Pair, SimNet, connect_pair, run_virtual


async def heal(pair: Pair) -> str:
    return f"healed in {await pair.echo() * 1000:3.0f} ms"


async def story() -> None:
    net = SimNet(seed=7)
    home, hotspot = net.nat("home", "moderate"), net.nat("hotspot", "cgnat")
    laptop = net.host("laptop", nat=home)
    server = net.host("server")
    # Each way; the other links on the way have 5 ms each, so a round trip is 60 to 70 ms.
    net.link(server, delay=0.02, jitter=0.005, loss=0.01)
    loop = asyncio.get_running_loop()
    began = loop.time()
    async with connect_pair(laptop, server) as pair:
        await asyncio.sleep(120)  # costs nothing: the clock jumps to the next thing to do
        home.rebind()
        print(f"at {loop.time() - began:4.0f} s  the router rebinds      {await heal(pair)}")
        await asyncio.sleep(120)
        laptop.interface("eth0").replug(hotspot)
        print(f"at {loop.time() - began:4.0f} s  the laptop moves        {await heal(pair)}")
        await asyncio.sleep(120)
        laptop.blackhole()
        print(f"at {loop.time() - began:4.0f} s  nothing gets through")
        await asyncio.sleep(20)
        laptop.blackhole(False)
        print(f"at {loop.time() - began:4.0f} s  it does again           {await heal(pair)}")
        await asyncio.sleep(600 - (loop.time() - began))
    sent = sum(count for (kind, _fate), count in net.counts.items() if kind == "udp")
    print(f"{loop.time() - began:.0f} virtual seconds, {sent} datagrams, {net.counts['udp', 'lost']} lost")


run_virtual(story, seed=7)
