"""The kernel's own link emulation: a LinkCondition as netem and tbf queueing disciplines. Pure bytes.

What is written here is what ``tc`` would send for the options of::

    netem limit 22000 delay 20ms 5ms loss gemodel 0.21% 20% 100% 0% ... rate 34gbit
    tbf rate 10mbit burst 1600 limit ...

Where these stand among the queueing disciplines of an interface, see ``qdiscs``.

===========  ===========================================================================================
delay        latency (ns), and 64 ns ticks for kernels before 4.15
jitter       jitter, uniform as netem's without a distribution
loss         random; with ``burst`` above 1 gemodel: p = loss / (burst * (1 - loss)), r = 1 / burst, all lost when bad
rate, queue  tbf: limit = what waits for ``queue`` seconds, plus the burst
reorder      gap 1: such a frame is sent at once and overtakes those that are delayed, so ``delay`` is needed
duplicate    duplicate; with loss both are told other shares, see ``_shares``
corrupt      corrupt: one bit of the frame, perhaps in its Ethernet header
ecn          loss with ecn: CE instead, and others are lost; so ``mark`` with ``drop_others``, and no ``loss`` beside it
===========  ===========================================================================================

Always everything is told, also what is zero: what netem is not told it keeps from before.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass

from netns_fixtures.ecn import EcnMiddlebox
from netns_fixtures.errors import LinkEngineError
from netns_fixtures.link import LinkCondition

# <linux/pkt_sched.h>
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
#: Bytes per second. netem keeps the order of frames where it has a rate, also over a change; and it takes them from
#: their socket's account, so that who sends is not slowed down by a queue that is far away. 0.35 µs for a full frame.
ORDERING_RATE = _ALL
#: A full frame with its header and a VLAN tag must fit the bucket of tokens, or tbf drops it.
MIN_BURST = 1600
#: As many seconds of the rate, else: a timer per millisecond carries the rate.
_BURST_SECONDS = 0.001
#: What no limit is told as: bytes per second, a millisecond of it, and as much as may be under way elsewhere.
_NO_LIMIT_RATE, _NO_LIMIT_BURST, _NO_LIMIT_QUEUE = 100_000_000_000, 100_000_000, 32 * 2**20
#: As fine as a probability of 32 bits, and more.
_BISECTIONS = 50
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
    loss, duplicate = _shares(c)
    return NetemParameters(
        latency=round(c.delay * 1e9),
        jitter=round(c.jitter * 1e9),
        loss=0 if bursty else _scaled(loss or marked),
        gemodel=_gemodel(c) if bursty else None,
        gap=1 if c.reorder else 0,
        reorder=_scaled(c.reorder),
        duplicate=_scaled(duplicate),
        corrupt=_scaled(c.corrupt),
        rate=ORDERING_RATE,
        seed=seed,
        ecn=marked > 0,
    )


def tbf_parameters(condition: LinkCondition) -> TbfParameters:
    """What tbf is told. Raises LinkEngineError for less than a byte per second."""
    if condition.rate is None:
        return TbfParameters(_NO_LIMIT_RATE, _NO_LIMIT_BURST, _NO_LIMIT_QUEUE)
    rate = int(condition.rate / 8)
    if rate < 1:
        raise LinkEngineError(f"tbf counts bytes per second: {condition.rate:g} bit/s is less than one")
    burst = max(MIN_BURST, int(rate * _BURST_SECONDS))
    limit = int(rate * condition.queue) + burst
    if limit > _ALL:
        raise LinkEngineError(f"tbf cannot hold {condition.queue:g} s of {condition.rate:g} bit/s")
    return TbfParameters(rate, burst, limit)


def encode_netem(p: NetemParameters) -> bytes:
    """The options of a netem: ``struct tc_netem_qopt``, then attributes."""
    ticks = min(p.latency >> _TICK_SHIFT, _ALL), min(p.jitter >> _TICK_SHIFT, _ALL)
    data = struct.pack("=6I", ticks[0], LIMIT, p.loss, p.gap, p.duplicate, ticks[1])
    if p.gemodel is not None:
        data += attribute(_NETEM_LOSS, attribute(_LOSS_GE, struct.pack("=4I", *p.gemodel)))
    data += attribute(_NETEM_REORDER, struct.pack("=2I", p.reorder, 0))
    data += attribute(_NETEM_CORRUPT, struct.pack("=2I", p.corrupt, 0))
    data += attribute(_NETEM_RATE, struct.pack("=IiIi", p.rate, 0, 0, 0))
    data += attribute(_NETEM_ECN, struct.pack("=I", p.ecn))
    data += attribute(_NETEM_LATENCY64, struct.pack("=q", p.latency))
    data += attribute(_NETEM_JITTER64, struct.pack("=q", p.jitter))
    return data + attribute(_NETEM_PRNG_SEED, struct.pack("=Q", p.seed))


def encode_tbf(p: TbfParameters) -> bytes:
    """The options of a tbf: ``struct tc_tbf_qopt`` in an attribute, and the burst in bytes."""
    rate = struct.pack("=BBHhHI", 0, _LINKLAYER_ETHERNET, 0, 0, 0, min(p.rate, _ALL))
    data = attribute(_TBF_PARMS, rate + bytes(12) + struct.pack("=3I", p.limit, 0, 0))
    if p.rate > _ALL:
        data += attribute(_TBF_RATE64, struct.pack("=Q", p.rate))
    return data + attribute(_TBF_BURST, struct.pack("=I", p.burst))


def _shares(condition: LinkCondition) -> tuple[float, float]:
    """The loss x and the duplicates y to tell, so that ``loss`` of all frames vanish and ``duplicate`` of the others
    come twice.

    netem draws both at once and loses one copy of a doubled frame only, and then the second copy begins anew: so
    x (1 - y) vanish, and (1 - x)^2 y come twice. Raises LinkEngineError where no x and y do that.
    """
    loss, duplicate = condition.loss, condition.duplicate
    if loss == 0 or duplicate == 0:
        return loss, duplicate
    if loss == 1:
        return 1.0, 0.0
    twice = (1 - loss) * duplicate

    def doubled(x: float) -> float:
        return (1 - x) ** 2 * (1 - loss / x)

    # It grows from x = loss, where y is 0, up to the root of its derivative.
    low, high = loss, (loss + math.sqrt(loss * (loss + 8))) / 4
    if doubled(high) < twice or condition.burst > 1:
        raise LinkEngineError(
            "netem loses one copy of a doubled frame only: "
            f"it cannot lose {loss:g} (in bursts of {condition.burst:g}) and double {duplicate:g} of the rest"
        )
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        low, high = (middle, high) if doubled(middle) < twice else (low, middle)
    return high, 1 - loss / high


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


def attribute(kind: int, data: bytes) -> bytes:
    """A netlink attribute with its padding."""
    return struct.pack("=HH", 4 + len(data), kind) + data + bytes(-len(data) % 4)
