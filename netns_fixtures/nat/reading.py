"""What a NAT remembers now: the elements of its nftables sets, and the flows that the kernel tracks."""

from __future__ import annotations

import ipaddress
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from netns_fixtures.messages import DumpNetfilter
from netns_fixtures.nat.config import NatConfig, NatMapping
from netns_fixtures.nat.kept import KeptFlow
from netns_fixtures.nat.mapping_rules import key_parts, prefix_of
from netns_fixtures.nat.rules import NatRules
from netns_fixtures.tracked import TrackedFlow, tracked_flows

if TYPE_CHECKING:
    from netns_fixtures.lab import Lab
    from netns_fixtures.topology import RouterPlan

Address = tuple[str, int]
#: Seconds until it ends unused, and until it ends anyway.
Left = tuple[float, float | None]

# <linux/netfilter/nf_tables.h>
_NFT_GETSETELEM, _NFT_NEWSETELEM = 10 << 8 | 13, 10 << 8 | 12
_LIST_TABLE, _LIST_SET, _LIST_ELEMENTS = 1, 2, 3
_ELEM_KEY, _ELEM_DATA, _ELEM_EXPIRATION = 1, 2, 5
_ATTRIBUTE = struct.Struct("=HH")
_NESTED = 0x3FFF  # the type without its flags


@dataclass(frozen=True, slots=True)
class NatBinding:
    """One mapping of a NAT: packets from ``inside`` leave as ``outside``.

    ``remote``: what it is for; None for everybody, port 0 for every port of an address. ``expires``: seconds
    until it ends, if nothing refreshes it. ``protocol``: "udp" or "tcp".
    """

    protocol: str
    inside: Address
    outside: Address
    remote: Address | None
    expires: float


@dataclass(frozen=True, slots=True)
class Element:
    """An element of a set or map, as the kernel has it: parts of a key lie at multiples of 4 bytes."""

    key: bytes
    data: bytes
    expires: float


def mappings(lab: Lab, plan: RouterPlan) -> tuple[NatBinding, ...]:
    """All mappings, UDP first, then TCP. Raises OSError where the kernel does not list them."""
    rules = plan.rules
    assert rules is not None
    bindings = list(_of_flows(tracked_flows(lab, plan.node)))
    tcp = [each for each in bindings if each.protocol == "tcp"]
    udp = [each for each in bindings if each.protocol == "udp"]
    if rules.config.exact:
        udp = [*_of_tables(lab, plan, rules.config, "udp"), *_of_kept(lab, plan, rules, "udp")]
        if rules.config.tcp is not None:
            tcp = [*_of_tables(lab, plan, rules.config.tcp, "tcp"), *_of_kept(lab, plan, rules, "tcp")]
    elif rules.learns:
        learnt = elements_of(lab, plan.node, "ext")
        maps = [
            NatBinding("udp", _end(e.data), (rules.outside, _port(e.key)), None, e.expires) for e in learnt
        ]
        known = {each.outside for each in maps}
        udp = maps + [each for each in udp if each.outside not in known]  # flows that outlived a rebind
    return (*udp, *tcp)


def kept_flows(lab: Lab, plan: RouterPlan) -> tuple[KeptFlow, ...]:
    """The flows of living mappings, for a rebind that lets them live. Raises OSError.

    Not those between two inside hosts (hairpin): at least one end of them would have another address then.
    """
    rules = plan.rules
    assert rules is not None
    configs = {"udp": rules.config} | ({"tcp": rules.config.tcp} if rules.config.tcp is not None else {})
    living = {name: _living_zones(lab, plan, config, name) for name, config in configs.items()}
    before = {name: _kept_before(lab, plan, rules, name) for name in configs}
    found = []
    for flow in tracked_flows(lab, plan.node):
        if flow.protocol not in configs or (flow.back != flow.source and flow.answer != flow.target):
            continue
        zones, former = living[flow.protocol], before[flow.protocol]
        for binding in _of_flows([flow]):
            assert binding.remote is not None
            kept = former.get((binding.inside, binding.remote, flow.zone))
            left = kept or zones.get(flow.zone)
            if left is not None:
                ends = binding.inside, binding.outside, binding.remote
                found.append(KeptFlow(*ends, flow.zone, *left, flow.protocol))
    # Both sides may have begun a flow of the same ends: then each is tracked, and one is enough.
    return tuple({(flow.protocol, flow.inside, flow.remote): flow for flow in found}.values())


def _living_zones(lab: Lab, plan: RouterPlan, config: NatConfig, protocol: str) -> dict[int, Left]:
    prefix = prefix_of(protocol)
    known = {e.key: e.expires for e in elements_of(lab, plan.node, prefix + "known")}
    ages = config.lifetime is not None
    return {
        _zone(e.data): (min(known[e.key], e.expires), e.expires if ages else None)
        for e in elements_of(lab, plan.node, prefix + "zones_out")
        if e.key in known
    }


def _kept_before(
    lab: Lab, plan: RouterPlan, rules: NatRules, protocol: str
) -> dict[tuple[Address, Address, int], Left]:
    if not any(flow.protocol == protocol for flow in rules.kept):
        return {}
    kept = prefix_of(protocol) + "kept"
    idle = {e.key: e.expires for e in elements_of(lab, plan.node, kept)}
    return {
        (_end(e.key), _end(e.key[8:]), _zone(e.data)): (idle[e.key], e.expires or None)
        for e in elements_of(lab, plan.node, f"{kept}_out")
        if e.key in idle
    }


def elements_of(lab: Lab, node: int, name: str) -> list[Element]:
    """The elements of a set or map of table ``ip nat``. Raises OSError."""
    names = _attribute(_LIST_TABLE, b"nat\0") + _attribute(_LIST_SET, name.encode() + b"\0")
    body = struct.pack("=BBH", socket.AF_INET, 0, 0) + names
    replies, _fds = lab.request(DumpNetfilter(lab.ready(), node, _NFT_GETSETELEM, body))
    found = []
    for reply in replies:
        for kind, value in _attributes(reply[4:]):
            if kind == _LIST_ELEMENTS:
                found += [_element(dict(_attributes(each))) for _kind, each in _attributes(value)]
    return found


def _of_tables(lab: Lab, plan: RouterPlan, config: NatConfig, protocol: str) -> Iterator[NatBinding]:
    idle, prefix = {}, prefix_of(protocol)
    if config.aging:
        idle = {e.key: e.expires for e in elements_of(lab, plan.node, prefix + "known")}
    for element in elements_of(lab, plan.node, prefix + "out"):
        if config.aging and element.key not in idle:
            continue  # not yet old, but idle: it has ended
        expires = min(element.expires, idle.get(element.key, element.expires))
        remote = _remote(element.key, key_parts(NatMapping(config.mapping)))
        yield NatBinding(protocol, _end(element.key), _end(element.data), remote, expires)


def _of_kept(lab: Lab, plan: RouterPlan, rules: NatRules, protocol: str) -> Iterator[NatBinding]:
    kept = _kept_before(lab, plan, rules, protocol)
    for flow in rules.kept:
        if flow.protocol != protocol:
            continue
        idle, life = kept.get((flow.inside, flow.remote, flow.zone), (None, None))
        if idle is not None:
            expires = idle if life is None else min(idle, life)
            yield NatBinding(protocol, flow.inside, flow.outside, flow.remote, expires)


def _of_flows(flows: list[TrackedFlow]) -> Iterator[NatBinding]:
    """What connection tracking translates by itself: a mapping for each flow."""
    for flow in flows:
        if ":" in flow.source[0]:
            continue
        if flow.back != flow.source:
            yield NatBinding(flow.protocol, flow.source, flow.back, flow.target, flow.expires)
        elif flow.answer != flow.target:  # it began outside
            yield NatBinding(flow.protocol, flow.answer, flow.target, flow.source, flow.expires)


def _remote(key: bytes, parts: int) -> Address | None:
    if parts == 2:
        return None
    return _end(key[8:16]) if parts == 4 else (str(ipaddress.IPv4Address(key[8:12])), 0)


def _end(data: bytes) -> Address:
    return str(ipaddress.IPv4Address(data[:4])), _port(data[4:])


def _port(data: bytes) -> int:
    (port,) = struct.unpack_from("!H", data)
    return int(port)


def _zone(data: bytes) -> int:
    (zone,) = struct.unpack_from("=H", data)  # the one number here that is not in network order
    return int(zone)


def _element(attributes: dict[int, bytes]) -> Element:
    (milliseconds,) = struct.unpack("!Q", attributes.get(_ELEM_EXPIRATION, bytes(8)))
    return Element(
        _value(attributes[_ELEM_KEY]), _value(attributes.get(_ELEM_DATA, b"")), milliseconds / 1000
    )


def _value(data: bytes) -> bytes:
    return next((value for _kind, value in _attributes(data)), b"")


def _attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    offset = 0
    while offset + _ATTRIBUTE.size <= len(data):
        length, kind = _ATTRIBUTE.unpack_from(data, offset)
        yield kind & _NESTED, data[offset + _ATTRIBUTE.size : offset + length]
        offset += max(_ATTRIBUTE.size, length + 3 & ~3)


def _attribute(kind: int, value: bytes) -> bytes:
    return _ATTRIBUTE.pack(_ATTRIBUTE.size + len(value), kind) + value + bytes(-len(value) % 4)
