"""The kernel's own link emulation: a LinkCondition as netem and tbf queueing disciplines. Pure bytes.

One direction of a link is a netem at the interface that sends (handle 1:), with a tbf behind it (10:) where the rate
is limited. What is written here is what ``tc`` would send for::

    tc qdisc replace dev eth0 root handle 1: netem limit 20000 delay 20ms 5ms loss gemodel 0.21% 20% 100% 0% ...
    tc qdisc replace dev eth0 parent 1:1 handle 10: tbf rate 10mbit burst 1600 limit ...

===========  ===========================================================================================
delay        latency (ns), and 64 ns ticks for kernels before 4.15
jitter       jitter, uniform as netem's without a distribution; order is kept by a rate so high that it costs nothing
loss         random; with ``burst`` above 1 gemodel: p = loss / (burst * (1 - loss)), r = 1 / burst, all lost when bad
rate, queue  tbf: limit = what waits for ``queue`` seconds, plus the burst
reorder      gap 1: such a frame is sent at once and overtakes those that are delayed, so ``delay`` is needed
duplicate    duplicate
corrupt      corrupt: one bit of the frame, perhaps in its Ethernet header
ecn          loss with ecn: CE instead, and others are lost; so ``mark`` with ``drop_others``, and no ``loss`` beside it
===========  ===========================================================================================
"""

from __future__ import annotations

import socket
import struct
from dataclasses import dataclass

from netns_fixtures.ecn import EcnMiddlebox
from netns_fixtures.errors import LinkEngineError
from netns_fixtures.link import LinkCondition

# <linux/rtnetlink.h>, <linux/pkt_sched.h>
RTM_NEWQDISC, RTM_DELQDISC = 36, 37
_TCA_KIND, _TCA_OPTIONS = 1, 2
_ROOT, _NETEM, _NETEM_CLASS, _TBF = 0xFFFF_FFFF, 0x0001_0000, 0x0001_0001, 0x0010_0000
_NETEM_REORDER, _NETEM_CORRUPT, _NETEM_LOSS, _NETEM_RATE = 3, 4, 5, 6
_NETEM_ECN = 7
_NETEM_LATENCY64, _NETEM_JITTER64, _NETEM_PRNG_SEED = 10, 11, 14
_LOSS_GE = 2
_TBF_PARMS, _TBF_RATE64, _TBF_BURST = 1, 4, 6
#: With a link layer the kernel computes times itself and needs no rate table.
_LINKLAYER_ETHERNET = 1
#: A tick of the packet schedulers, 2 ** 6 ns (PSCHED_SHIFT).
_TICK_SHIFT = 6

_ALL = 0xFFFF_FFFF
#: Packets that may be under way: 32 MiB of full frames, as the wire allows (``wire.model.MAX_PENDING_BYTES``).
LIMIT = 22_000
#: netem keeps the order of frames where it has a rate. 34 Gbit/s costs a full frame 0.35 µs.
ORDERING_RATE = _ALL
#: A full frame with its header and a VLAN tag must fit the bucket of tokens, or tbf drops it.
MIN_BURST = 1600
#: As many seconds of the rate, else: a timer per millisecond carries the rate.
_BURST_SECONDS = 0.001
#: netem draws jitter from 32 bits of ns, twice as wide as it is.
MAX_JITTER = 2.0


@dataclass(frozen=True, slots=True)
class NetemParameters:
    """The numbers of one direction as netem takes them: ns, and probabilities scaled to 2**32 - 1."""

    latency: int
    jitter: int
    loss: int
    gemodel: tuple[int, int, int, int] | None
    gap: int
    reorder: int
    duplicate: int
    corrupt: int
    rate: int
    seed: int
    ecn: bool = False


@dataclass(frozen=True, slots=True)
class TbfParameters:
    """The numbers of a limited rate: bytes per second, bytes, bytes."""

    rate: int
    burst: int
    limit: int


@dataclass(frozen=True, slots=True)
class QdiscMessage:
    """A netlink message: type, whether it makes something, and what follows the header."""

    kind: int
    create: bool
    body: bytes
    text: str


def netem_parameters(condition: LinkCondition, seed: int) -> NetemParameters:
    """What netem is told. Raises LinkEngineError for what it cannot do."""
    c = condition
    if c.reorder and not c.delay:
        raise LinkEngineError("netem reorders by letting frames overtake delayed ones: reorder needs a delay")
    if c.jitter > MAX_JITTER:
        raise LinkEngineError(
            f"netem cannot draw jitter of more than {MAX_JITTER:g} s, and {c.jitter:g} is asked for"
        )
    marked = _marked(c)
    bursty = c.burst > 1 and 0 < c.loss < 1
    return NetemParameters(
        latency=round(c.delay * 1e9),
        jitter=round(c.jitter * 1e9),
        loss=0 if bursty else _scaled(c.loss or marked),
        gemodel=_gemodel(c) if bursty else None,
        gap=1 if c.reorder else 0,
        reorder=_scaled(c.reorder),
        duplicate=_scaled(c.duplicate),
        corrupt=_scaled(c.corrupt),
        rate=ORDERING_RATE if c.jitter else 0,
        seed=seed,
        ecn=marked > 0,
    )


def tbf_parameters(condition: LinkCondition) -> TbfParameters | None:
    """What tbf is told; None without a limited rate. Raises LinkEngineError for less than a byte per second."""
    if condition.rate is None:
        return None
    rate = int(condition.rate / 8)
    if rate < 1:
        raise LinkEngineError(f"tbf counts bytes per second: {condition.rate:g} bit/s is less than one")
    burst = max(MIN_BURST, int(rate * _BURST_SECONDS))
    limit = int(rate * condition.queue) + burst
    if limit > _ALL:
        raise LinkEngineError(f"tbf cannot hold {condition.queue:g} s of {condition.rate:g} bit/s")
    return TbfParameters(rate, burst, limit)


def qdisc_messages(index: int, condition: LinkCondition, seed: int) -> list[QdiscMessage]:
    """What makes an interface send like this, whatever it had before. Raises LinkEngineError.

    Deleting what is not there is an error of the kernel (ENOENT, EINVAL) that means nothing.
    """
    if condition.is_clear:
        return [QdiscMessage(RTM_DELQDISC, False, _tcmsg(index, 0, _ROOT), "clear the link")]
    netem = encode_netem(netem_parameters(condition, seed))
    messages = [_new(index, _NETEM, _ROOT, "netem", netem)]
    tbf = tbf_parameters(condition)
    if tbf is not None:
        return [*messages, _new(index, _TBF, _NETEM_CLASS, "tbf", encode_tbf(tbf))]
    gone = QdiscMessage(RTM_DELQDISC, False, _tcmsg(index, _TBF, _NETEM_CLASS), "lift the rate limit")
    return [*messages, gone]


def encode_netem(p: NetemParameters) -> bytes:
    """The options of a netem: ``struct tc_netem_qopt``, then attributes."""
    ticks = min(p.latency >> _TICK_SHIFT, _ALL), min(p.jitter >> _TICK_SHIFT, _ALL)
    data = struct.pack("=6I", ticks[0], LIMIT, p.loss, p.gap, p.duplicate, ticks[1])
    if p.gemodel is not None:
        data += _attribute(_NETEM_LOSS, _attribute(_LOSS_GE, struct.pack("=4I", *p.gemodel)))
    if p.reorder:
        data += _attribute(_NETEM_REORDER, struct.pack("=2I", p.reorder, 0))
    if p.corrupt:
        data += _attribute(_NETEM_CORRUPT, struct.pack("=2I", p.corrupt, 0))
    if p.rate:
        data += _attribute(_NETEM_RATE, struct.pack("=IiIi", p.rate, 0, 0, 0))
    if p.ecn:
        data += _attribute(_NETEM_ECN, struct.pack("=I", 1))
    data += _attribute(_NETEM_LATENCY64, struct.pack("=q", p.latency))
    data += _attribute(_NETEM_JITTER64, struct.pack("=q", p.jitter))
    return data + _attribute(_NETEM_PRNG_SEED, struct.pack("=Q", p.seed))


def encode_tbf(p: TbfParameters) -> bytes:
    """The options of a tbf: ``struct tc_tbf_qopt`` in an attribute, and the burst in bytes."""
    rate = struct.pack("=BBHhHI", 0, _LINKLAYER_ETHERNET, 0, 0, 0, min(p.rate, _ALL))
    data = _attribute(_TBF_PARMS, rate + bytes(12) + struct.pack("=3I", p.limit, 0, 0))
    if p.rate > _ALL:
        data += _attribute(_TBF_RATE64, struct.pack("=Q", p.rate))
    return data + _attribute(_TBF_BURST, struct.pack("=I", p.burst))


def _marked(condition: LinkCondition) -> float:
    """The probability of a mark. netem's ``ecn`` is: what would be lost is marked, if it can be (sch_netem.c)."""
    ecn = condition.ecn
    if ecn is None or ecn.is_clear:
        return 0.0
    plain = ecn.mark_above is None and ecn.middlebox == EcnMiddlebox.NONE and not ecn.l4s_only
    if not plain or not ecn.drop_others or condition.loss:
        raise LinkEngineError(
            f"netem marks at random what it would lose, no more: ecn=Ecn(mark=, drop_others=True) without loss, "
            f"and not '{condition}'; use link_engine='wire'"
        )
    return ecn.mark


def _gemodel(condition: LinkCondition) -> tuple[int, int, int, int]:
    """p (good to bad), r (back), h (delivered while bad), 1 - k (lost while good)."""
    entry = condition.loss / (condition.burst * (1 - condition.loss))
    return _scaled(min(1.0, entry)), _scaled(1 / condition.burst), 0, 0


def _scaled(probability: float) -> int:
    return round(probability * _ALL)


def _new(index: int, handle: int, parent: int, name: str, options: bytes) -> QdiscMessage:
    kind = _attribute(_TCA_KIND, name.encode() + b"\0")
    body = _tcmsg(index, handle, parent) + kind + _attribute(_TCA_OPTIONS, options)
    return QdiscMessage(RTM_NEWQDISC, True, body, f"make a {name} qdisc")


def _tcmsg(index: int, handle: int, parent: int) -> bytes:
    return struct.pack("=BxxxiIII", socket.AF_UNSPEC, index, handle, parent, 0)


def _attribute(kind: int, data: bytes) -> bytes:
    return struct.pack("=HH", 4 + len(data), kind) + data + bytes(-len(data) % 4)
