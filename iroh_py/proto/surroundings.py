"""What every remote node shares: our network, our own addresses, the rng, and the list of events."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Collection

from iroh_py.addr import RelayUrl
from iroh_py.config import EndpointConfig
from iroh_py.events import Event
from iroh_py.keys import NodeId
from iroh_py.network import Addr, Family, NetworkState
from iroh_py.proto import netstate
from iroh_py.proto.paths import UdpPath

#: Events kept for a reader that does not come; the oldest go first.
MAX_EVENTS = 10_000


class Surroundings:
    """The common state of an endpoint's nodes; its owner (magicsock) changes it, nodes read it."""

    def __init__(self, node_id: NodeId, config: EndpointConfig, rng: random.Random) -> None:
        self.node_id = node_id
        self.config = config
        self.rng = rng
        self.events: deque[Event] = deque(maxlen=MAX_EVENTS)
        self.own_addresses: frozenset[Addr] = frozenset()
        self.has_family: Callable[[str], bool] = lambda ip: True
        self.relay_connected: Callable[[RelayUrl], bool] = lambda url: False
        #: Numbers of the open extra sockets; a path with ``via`` -3 leaves by number 3 (``port_prediction.py``).
        self.extra_sockets: Collection[int] = ()
        #: Whether our NAT maps by destination, for IPv4; None: unknown.
        self.mapping_varies: bool | None = None
        self._network: NetworkState | None = None
        self._vias: dict[str, tuple[int, ...]] = {}
        self._usable: dict[str, bool] = {}
        self._choices: dict[str, int | None] = {}

    @property
    def network(self) -> NetworkState | None:
        """The newest snapshot of our own network; None while unknown."""
        return self._network

    @network.setter
    def network(self, state: NetworkState) -> None:
        self._network = state
        self._vias.clear()
        self._usable.clear()
        self._choices.clear()

    def tx_id(self) -> bytes:
        """Twelve fresh random bytes for a ping."""
        return self.rng.randbytes(12)

    def vias(self, ip: str) -> tuple[int, ...]:
        """Interfaces worth trying for an address beside the one the system would choose."""
        if self._network is None:
            return ()
        if ip not in self._vias:
            self._bound(self._vias)
            self._vias[ip] = netstate.vias(self._network, ip)
        return self._vias[ip]

    def route_usable(self, ip: str) -> bool:
        """Whether the interface that the system would choose for an address can carry packets."""
        if self._network is None:
            return True
        if ip not in self._usable:
            self._bound(self._usable)
            self._usable[ip] = netstate.kernel_route_usable(self._network, ip)
        return self._usable[ip]

    def interface_usable(self, index: int) -> bool:
        """Whether an interface is there, up, and has a carrier; below 0, whether that extra socket is open."""
        if index < 0:
            return -index in self.extra_sockets
        if self._network is None:
            return True
        interface = self._network.interface(index)
        return interface is not None and interface.usable

    def via_of(self, ip: str, arrival: int) -> int:
        """The ``via`` of a path on which something arrived: 0 if answers leave there by themselves."""
        if arrival <= 0 or self._network is None:
            return min(arrival, 0)
        if ip not in self._choices:
            self._bound(self._choices)
            self._choices[ip] = netstate.kernel_choice(self._network, ip)
        return 0 if self._choices[ip] in (None, arrival) else arrival

    def source_of(self, path: UdpPath) -> str:
        """Our own address on a direct path, as the routes tell it; "" if they do not."""
        if self._network is None:
            return ""
        index = path.via if path.via > 0 else netstate.kernel_choice(self._network, path.addr[0])
        interface = None if index is None else self._network.interface(index)
        family = Family.of(path.addr[0])
        addresses = () if interface is None else interface.addresses
        fit = (
            a.ip
            for a in addresses
            if Family.of(a.ip) is family and not a.ip.startswith("fe80") and not a.deprecated
        )
        return next(fit, "")

    @staticmethod
    def _bound(
        cache: dict[str, object] | dict[str, bool] | dict[str, tuple[int, ...]] | dict[str, int | None],
    ) -> None:
        """Keep a cache small: strangers choose its keys."""
        if len(cache) >= 4096:
            cache.clear()
