"""An in-memory network under a virtual clock: the same endpoint code, a minute of network time in
milliseconds.

::

    async def story() -> None:
        net = SimNet(seed=7)
        home = net.nat("home", "moderate")
        laptop = net.host("laptop", interfaces={"wlan0": home, "wwan0": net.nat("hotspot", "strict")})
        server = net.host("server", "198.51.100.1")
        net.link(laptop, delay=0.02, loss=0.01)
        async with connect_pair(laptop, server) as pair:
            await pair.echo()
            laptop.set_default("wwan0")
            assert await pair.echo() < 1

    run_virtual(story, seed=7)

A :class:`SimHost` is an ``iroh_py.network.Network``. What is simulated: NAT mapping and filtering (RFC 4787),
links with delay, jitter, loss, MTU and rate, routing over several interfaces as Linux does it, network
monitors, TCP with half-open connections, names, ICMP echo. What is not: TLS, fragments, multicast, ICMP
errors, MTU for TCP, TCP connections into a NAT. The chance that a program draws for itself (``os.urandom``)
is not ours to repeat.
"""

from __future__ import annotations

from iroh_py.testing.clock import (
    VirtualClockLoop,
    loop_factory,
    run_virtual,
    virtual,
    virtual_event_loop_policy,
)
from iroh_py.testing.errors import (
    NothingToDoError,
    RealWaitError,
    SimulationError,
    TimeLimitError,
    TopologyError,
)
from iroh_py.testing.host import SimHost
from iroh_py.testing.interface import SimInterface
from iroh_py.testing.link import LinkCondition
from iroh_py.testing.listener import SimListener
from iroh_py.testing.nat import SimNat
from iroh_py.testing.nat_table import Filtering, Mapping, NatConfig, Ports
from iroh_py.testing.net import SimNet
from iroh_py.testing.pair import Pair, connect_pair
from iroh_py.testing.trace import TraceEvent

__all__ = [
    "Filtering",
    "LinkCondition",
    "Mapping",
    "NatConfig",
    "NothingToDoError",
    "Pair",
    "Ports",
    "RealWaitError",
    "SimHost",
    "SimInterface",
    "SimListener",
    "SimNat",
    "SimNet",
    "SimulationError",
    "TimeLimitError",
    "TopologyError",
    "TraceEvent",
    "VirtualClockLoop",
    "connect_pair",
    "loop_factory",
    "run_virtual",
    "virtual",
    "virtual_event_loop_policy",
]
