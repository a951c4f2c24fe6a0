"""A laptop leaves its Wi-Fi, and its connection heals. The fixtures are pytest_iroh's.

$ pytest examples/test_wifi.py
1 passed in 0.81s
"""

from typing import Any

from netns_fixtures import Lab
from pytest_iroh import PING_INTERVAL, Endpoints


async def test_wifi_to_hotspot(lab: Lab, endpoints: Endpoints, heals: Any) -> None:
    """A laptop that leaves its Wi-Fi keeps its connection."""
    home = lab.router("home", nat="moderate")  # what most home routers do
    hotspot = lab.router("hotspot", nat="cgnat")  # a phone: behind its own NAT and the carrier's
    laptop = lab.host("laptop", uplink=home)
    server = lab.host("server", uplink=lab.router("centre"))

    async with endpoints.connect(laptop, server) as connection:
        async with heals(connection, within=PING_INTERVAL) as healing:
            # Here a message goes to the server and back every 20 ms.
            laptop.replug(hotspot)
    # The block has ended without an exception: it healed in time. What else is known:
    assert healing.direct
    assert healing.bytes_lost == 0
