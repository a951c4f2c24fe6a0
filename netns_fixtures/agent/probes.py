"""Trying what this kernel can do: each probe makes the thing in a namespace of its own."""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass

from netns_fixtures.addressing import mac_of
from netns_fixtures.agent.ends import open_packet_end
from netns_fixtures.agent.netlink import qdisc_exists, set_sorting
from netns_fixtures.agent.netns import NetworkNamespace, write_sysctl
from netns_fixtures.agent.nft import RuleLoader
from netns_fixtures.agent.rights import user_namespace_remedy
from netns_fixtures.agent.syscalls import CLONE_NEWNET, CLONE_NEWPID, CLONE_NEWUSER, unshare
from netns_fixtures.errors import LabError
from netns_fixtures.features import Feature
from netns_fixtures.nat import NatConfig, NatKind, nat_config
from netns_fixtures.nat.rules import NatRules
from netns_fixtures.ops import AddAddress, AddBridge, AddCable, SetLink
from netns_fixtures.wire.tap import open_tap

_LOOPBACK = 1
_BRIDGE, _PORT, _FAR, _TAP, _END, _FAR_END = range(1000, 1006)


@dataclass(frozen=True, slots=True)
class _Probe:
    name: str
    what: str
    attempt: Callable[[NetworkNamespace], str]
    remedy: str
    needed: bool = False


def probe_all(mode: str) -> tuple[Feature, ...]:
    """Try everything; the order is that of the report."""
    return tuple(_try(probe) for probe in _PROBES) + _user_namespaces(mode)


def _try(probe: _Probe) -> Feature:
    try:
        namespace = NetworkNamespace("doctor")
    except OSError as error:
        return Feature(probe.name, False, probe.what, f"no network namespace: {error}", _KERNEL, probe.needed)
    try:
        detail = probe.attempt(namespace)
    except (LabError, OSError) as error:
        return Feature(probe.name, False, probe.what, str(error), probe.remedy, probe.needed)
    finally:
        namespace.close()
    return Feature(probe.name, True, probe.what, detail, needed=probe.needed)


def _netns(_namespace: NetworkNamespace) -> str:
    return ""


def _pidns(_namespace: NetworkNamespace) -> str:
    _in_child(lambda: unshare(CLONE_NEWPID))
    return ""


def _veth(namespace: NetworkNamespace) -> str:
    _bridge(namespace)
    cable = AddCable(0, _PORT, "port", _BRIDGE, 0, _FAR, "far", mac_of(_FAR))
    namespace.netlink.queue(cable, namespace.fd)
    namespace.netlink.collect()
    return ""


def _bridge(namespace: NetworkNamespace) -> str:
    namespace.netlink.queue(AddBridge(0, _BRIDGE, "bridge"))
    namespace.netlink.collect()
    return ""


def _ipv6(namespace: NetworkNamespace) -> str:
    namespace.netlink.queue(SetLink(0, _LOOPBACK, up=True))
    namespace.netlink.queue(AddAddress(0, _LOOPBACK, "2001:db8::1", 64))
    namespace.netlink.collect()
    return ""


def _nft(_namespace: NetworkNamespace) -> str:
    _load("table inet probe {\n chain input { type filter hook input priority 0; policy accept; }\n}\n")
    return ""


def _nft_nat(_namespace: NetworkNamespace) -> str:
    for kind in (NatKind.OPEN, NatKind.STRICT, NatKind.MODERATE):
        _load(NatRules(nat_config(kind), "203.0.113.10").text(replace=True))
    return "mapping and filtering of all kinds"


def _nat_tables(_namespace: NetworkNamespace) -> str:
    config = NatConfig(mapping="adm", filtering="adf", hairpin=True, timeout=5, lifetime=9)
    _load(NatRules(config, "203.0.113.10").text())
    return "conntrack zones by nftables maps"


def _conntrack_flush(namespace: NetworkNamespace) -> str:
    namespace.conntrack.queue_conntrack_flush()
    namespace.conntrack.collect()
    return ""


def _tun(_namespace: NetworkNamespace) -> str:
    os.close(open_tap("tap", _TAP))
    return ""


def _wire(namespace: NetworkNamespace) -> str:
    _bridge(namespace)
    os.close(open_packet_end(namespace, "end", _END, _FAR_END, _BRIDGE))
    return "through packet sockets; through TAPs where those may be made"


def _qdisc(kind: str) -> Callable[[NetworkNamespace], str]:
    def attempt(namespace: NetworkNamespace) -> str:
        if not qdisc_exists(namespace.netlink, _LOOPBACK, kind):
            raise OSError(f"this kernel has no {kind}")
        return ""

    return attempt


def _prio(namespace: NetworkNamespace) -> str:
    _qdisc("prio")(namespace)
    set_sorting(namespace.netlink, _LOOPBACK)
    return ""


def _bind_to_device(_namespace: NetworkNamespace) -> str:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"lo")
    return ""


def _ping_socket(_namespace: NetworkNamespace) -> str:
    write_sysctl("net/ipv4/ping_group_range", f"{os.getegid()} {os.getegid()}")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM, socket.IPPROTO_ICMP):
        return ""


def _user_namespaces(mode: str) -> tuple[Feature, ...]:
    """Only matters without root; a lab in user namespace mode is the proof itself."""
    what = "make labs without root"
    if mode == "userns":
        return (Feature("user_namespaces", True, what),)
    try:
        _in_child(lambda: unshare(CLONE_NEWUSER | CLONE_NEWNET))
    except OSError as error:
        return (Feature("user_namespaces", False, what, str(error), user_namespace_remedy()),)
    return (Feature("user_namespaces", True, what),)


def _load(text: str) -> None:
    loader = RuleLoader("doctor")
    try:
        loader.load(text)
    finally:
        loader.close()


def _in_child(action: Callable[[], None]) -> None:
    """Do something irreversible in a child. Raises OSError as the child did."""
    read, write = os.pipe2(os.O_CLOEXEC)
    pid = os.fork()
    if pid == 0:
        try:
            action()
            os.write(write, struct.pack("=i", 0))
        except OSError as error:
            os.write(write, struct.pack("=i", error.errno or -1))
        finally:
            os._exit(0)
    os.close(write)
    with open(read, "rb") as pipe:
        (number,) = struct.unpack("=i", pipe.read() or struct.pack("=i", -1))
    os.waitpid(pid, 0)
    if number:
        raise OSError(number, os.strerror(number))


_KERNEL = "use a kernel with CONFIG_NET_NS, or another machine"
_NFT = "run: sudo apt-get install -y nftables"
_PROBES = (
    _Probe("netns", "make network namespaces", _netns, _KERNEL, needed=True),
    _Probe(
        "pidns", "keep hosts' processes from outliving a lab", _pidns, "use a kernel with CONFIG_PID_NS", True
    ),
    _Probe("veth", "connect nodes", _veth, "run: sudo modprobe veth", needed=True),
    _Probe("bridge", "join several nodes", _bridge, "run: sudo modprobe bridge", needed=True),
    _Probe("ipv6", "give hosts IPv6 addresses", _ipv6, "boot without ipv6.disable=1, or describe ipv6=False"),
    _Probe("nft", "load packet filter rules", _nft, _NFT, needed=True),
    _Probe(
        "nft_nat",
        "translate addresses",
        _nft_nat,
        "run: sudo modprobe -a nft_nat nft_masq nf_conntrack",
        True,
    ),
    _Probe(
        "nat_tables",
        "NATs by all axes, with timers",
        _nat_tables,
        "use a kernel with CONFIG_NF_CONNTRACK_ZONES; the kinds open, moderate, strict, cgnat work without",
    ),
    _Probe("conntrack_flush", "rebind NATs", _conntrack_flush, "run: sudo modprobe nf_conntrack_netlink"),
    _Probe("wire", "impair links in userspace", _wire, "run: sudo modprobe af_packet"),
    _Probe("tun", "impair links through TAPs", _tun, "run: sudo modprobe tun; sudo chmod 666 /dev/net/tun"),
    _Probe(
        "netem",
        "impair links in the kernel",
        _qdisc("netem"),
        "not needed, the wire does it; or: sudo modprobe sch_netem",
    ),
    _Probe(
        "tbf",
        "limit rates in the kernel",
        _qdisc("tbf"),
        "not needed, the wire does it; or: sudo modprobe sch_tbf",
    ),
    _Probe(
        "prio",
        "keep ARP out of impairments in the kernel",
        _prio,
        "not needed, the wire does it; or: sudo modprobe -a sch_prio cls_u32",
    ),
    _Probe("bind_to_device", "bind sockets to an interface", _bind_to_device, "use Linux 5.7 or later"),
    _Probe(
        "ping_socket", "ping without raw sockets", _ping_socket, "set net.ipv4.ping_group_range to your group"
    ),
)
