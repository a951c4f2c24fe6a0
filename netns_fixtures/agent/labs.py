"""One lab as the agent holds it: namespaces, rules, processes, and the steps carried out in them."""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence

from netns_fixtures.agent.ends import switch_off_checksum_offload
from netns_fixtures.agent.freezer import freeze, thaw
from netns_fixtures.agent.leasing import Leasing
from netns_fixtures.agent.neighbours import queue_patience
from netns_fixtures.agent.netlink import NetlinkSocket, set_qdisc
from netns_fixtures.agent.netns import NetworkNamespace, write_sysctl
from netns_fixtures.agent.nft import RuleLoader
from netns_fixtures.agent.processes import LabProcesses
from netns_fixtures.agent.rings import RingInTheMaking
from netns_fixtures.agent.wires import Wires
from netns_fixtures.dhcp.steps import RunDhcpClient, ServeDhcp, TellDhcpClient
from netns_fixtures.errors import CommandFailed, LabError
from netns_fixtures.messages import Spawn
from netns_fixtures.nat64.process import Nat64Process
from netns_fixtures.ops import (
    AddBridge,
    AddCable,
    AddNat64,
    AddNode,
    Advertise,
    FlushConntrack,
    LoadRules,
    Op,
    PrepareRing,
    SetCondition,
    SetLink,
    SetQdisc,
    SetSysctls,
    Splice,
    SplitFrames,
)
from netns_fixtures.ra.sender import Advertisers

LOOPBACK = 1
#: The node that holds the cables.
FABRIC = 0


class AgentLab:
    """Everything of one lab; closing it lets all go."""

    def __init__(
        self,
        number: int,
        name: str,
        wires: Wires,
        advertisers: Advertisers,
        leasing: Leasing,
        ping_groups: str,
    ) -> None:
        self._number = number
        self._name = name
        self._wires = wires
        self._advertisers = advertisers
        self._leasing = leasing
        self._ping_groups = ping_groups
        self._nodes: dict[int, NetworkNamespace] = {}
        self._rules: dict[int, RuleLoader] = {}
        self._links: set[int] = set()
        self._bridges: list[AddBridge] = []
        self._processes: LabProcesses | None = None
        self._translators: list[Nat64Process] = []
        self._rings: list[tuple[int, RingInTheMaking]] = []

    @property
    def size(self) -> int:
        """How many namespaces it holds."""
        return len(self._nodes)

    def apply(self, ops: Sequence[Op]) -> None:
        """Carry out steps in order. Raises the first failure, after the acknowledgements of all are in."""
        batch = _Batch()
        try:
            for op in ops:
                self._apply(op, batch)
        except BaseException:
            batch.settle()
            raise
        batch.collect()

    def socket(self, node: int, family: int, kind: int, proto: int) -> int:
        """The descriptor of a new socket in a node."""
        self._enter(node)
        return socket.socket(family, kind, proto).detach()

    def take_ring(self, node: int) -> int:
        """The descriptor of the packet socket that was prepared in a node."""
        found = next((entry for entry in self._rings if entry[0] == node), None)
        if found is None:
            raise LabError(f"no packet ring was prepared in node {node} of lab {self._name}")
        self._rings.remove(found)
        ring = found[1]
        try:
            return ring.take()
        except BaseException:
            ring.close()
            raise

    def namespace_fd(self, node: int) -> int:
        """A copy of the descriptor of a node's namespace."""
        return os.dup(self._node(node).fd)

    def dump_netfilter(self, node: int, kind: int, body: bytes) -> list[bytes]:
        """What the packet filter or connection tracking of a node lists."""
        self._enter(node)
        return self._node(node).conntrack.dump(kind, body)

    def spawn(self, request: Spawn, fds: Sequence[int]) -> tuple[int, int]:
        """Start a process in a node; returns its pid and its pidfd."""
        if self._processes is None:
            self._processes = LabProcesses(self._name)
        return self._processes.spawn(request, self._node(request.node).fd, fds)

    def status(self, pid: int) -> int | None:
        """The exit status of a process, None while it runs."""
        return self._processes.status(pid) if self._processes else None

    def freeze(self, node: int, *, frozen: bool) -> int:
        """Stop every process of a node, or let them go on; returns how many they are."""
        network = self._node(node).fd
        self._leasing.freeze(self._number, node, frozen=frozen)
        if self._processes is None:
            return 0
        return (freeze if frozen else thaw)(network, self._processes.init_pid)

    def stop(self) -> None:
        """Kill every process, wait until they are gone, cut all segments: no socket hears another now."""
        batch = _Batch()
        for bridge in self._bridges:
            batch.use(self._node(bridge.node).netlink).queue(SetLink(bridge.node, bridge.index, up=False))
        batch.settle()
        if self._processes is not None:
            self._processes.kill()
            self._processes = None
        self._advertisers.remove(self._number)
        self._leasing.remove(self._number)
        while self._translators:
            self._translators.pop().close()
        while self._rings:
            self._rings.pop()[1].close()

    def release(self) -> None:
        """Let everything else go. May wait for the kernel where rules were replaced a moment ago."""
        self._wires.remove(self._number, self._links)
        for loader in self._rules.values():
            loader.close()
        for node in self._nodes.values():
            node.close()
        self._nodes.clear()

    def _apply(self, op: Op, batch: _Batch) -> None:
        match op:
            case AddNode():
                self._add_node(op, batch)
            case PrepareRing():
                self._enter(op.node)
                self._rings.append((op.node, RingInTheMaking(op.blocks, op.flush_after)))
            case LoadRules():
                batch.collect()
                self._load_rules(op)
            case FlushConntrack():
                batch.collect()
                self._enter(op.node)
                conntrack = self._node(op.node).conntrack
                conntrack.queue_conntrack_flush(op.mark)
                conntrack.collect()
            case SetSysctls():
                batch.collect()
                self._enter(op.node)
                self._node(op.node).write_sysctls(op.sysctls, needed=op.needed)
            case AddNat64():
                batch.collect()
                self._enter(op.node)
                self._translators.append(Nat64Process.start(self._node(op.node), op))
            case SplitFrames():
                batch.collect()
                self._enter(op.node)
                switch_off_checksum_offload(op.name)
            case Advertise():
                batch.collect()
                self._enter(op.node)
                self._advertisers.change(self._number, op)
            case ServeDhcp() | RunDhcpClient() | TellDhcpClient():
                batch.collect()
                self._leasing.change(self._number, self._node(op.node), self._node(FABRIC), op)
            case SetQdisc():
                batch.collect()
                set_qdisc(self._node(op.node).netlink, op)
            case Splice():
                batch.collect()
                self._enter(op.node)
                self._wires.splice(self._number, self._node(op.node), op)
                self._links.add(op.link)
            case SetCondition():
                self._wires.set_condition(self._number, op)
            case AddBridge():
                batch.use(self._node(op.node).netlink).queue(op)
                self._bridges.append(op)
            case AddCable():
                far = self._node(op.far_node)
                batch.use(self._node(op.node).netlink).queue(op, far.fd)
                queue_patience(batch.use(far.netlink), op.index)
            case _:
                batch.use(self._node(op.node).netlink).queue(op)

    def _add_node(self, op: AddNode, batch: _Batch) -> None:
        namespace = NetworkNamespace(op.name)
        self._nodes[op.node] = namespace
        for path, value in (("net/ipv4/ping_group_range", self._ping_groups), *op.sysctls):
            write_sysctl(path, value)
        batch.use(namespace.netlink).queue(SetLink(op.node, LOOPBACK, up=True))

    def _load_rules(self, op: LoadRules) -> None:
        if op.node not in self._rules:
            self._enter(op.node)
            self._rules[op.node] = RuleLoader(self._node(op.node).name)
        self._enter(op.node)
        self._rules[op.node].load(op.text)

    def _node(self, node: int) -> NetworkNamespace:
        try:
            return self._nodes[node]
        except KeyError:
            raise LabError(f"lab {self._name} has no node {node}; was it built?") from None

    def _enter(self, node: int) -> None:
        self._node(node).enter()


class _Batch:
    """Keeps the order of steps over several sockets: what is queued on one is sent before another is used."""

    def __init__(self) -> None:
        self._current: NetlinkSocket | None = None
        self._used: dict[int, NetlinkSocket] = {}

    def use(self, netlink: NetlinkSocket) -> NetlinkSocket:
        """The socket to queue the next step on."""
        if self._current is not None and self._current is not netlink:
            self._current.flush()
        self._current = netlink
        self._used[id(netlink)] = netlink
        return netlink

    def collect(self) -> None:
        """Read the acknowledgements of all. Raises the first failure, after reading all."""
        failures = []
        for netlink in self._used.values():
            try:
                netlink.collect()
            except CommandFailed as failure:
                failures.append(failure)
        self._used.clear()
        self._current = None
        if failures:
            raise failures[0]

    def settle(self) -> None:
        """Read the acknowledgements of all; another failure is on its way already."""
        try:
            self.collect()
        except CommandFailed:
            pass  # a consequence of the first failure at best, and there is one exception to raise
