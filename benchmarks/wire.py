"""What the userspace wire costs: frames per second, added round trip, error of a delay, time of a request.

    python benchmarks/wire.py [--json]

Needs root. One link, frames of 1200 bytes of UDP payload, sent by the kernel's segmentation so that the
sender is not what is measured. Bounds: 50 000 frames/s on a clear link, 0.5 ms added.
"""

from __future__ import annotations

import argparse
import json
import socket
import time
from statistics import median, quantiles
from typing import Any

from netns_fixtures.link import LinkCondition
from netns_fixtures.wire.bench import ADDRESS_B, Bench
from netns_fixtures.wire.client import WireProcess

PAYLOAD = 1200
SEGMENTS = 40  # of one send: 48 000 bytes, below the 64 KiB of one UDP datagram

# <linux/udp.h>: cut one large send into datagrams of this size.
UDP_SEGMENT = 103

CLEAR = LinkCondition()
FLOODS = {
    "clear": CLEAR,
    "delay 10 ms": LinkCondition(delay=0.010),
    "mobile-4g without its rate": LinkCondition.preset("mobile-4g").with_(rate=None),
    "everything, 1 Gbit/s": LinkCondition(
        delay=0.01, jitter=0.005, loss=0.01, burst=4, rate=1e9, reorder=0.01, duplicate=0.01, corrupt=0.01
    ),
}
DELAYS = (0.001, 0.010, 0.050)


def main() -> None:
    """Measure everything, and print it for people or as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--seconds", type=float, default=1.0, help="length of each flood")
    options = parser.parse_args()
    results = measure(options.seconds)
    if options.json:
        print(json.dumps(results, indent=2))
        return
    for title, rows in results.items():
        print(title)
        for name, value in rows.items():
            print(f"  {name:32} {value}")


def measure(seconds: float) -> dict[str, dict[str, Any]]:
    """All figures; times in milliseconds."""
    with Bench(CLEAR, CLEAR) as bench:
        return {
            "frames/s delivered": {name: flood(bench, c, seconds) for name, c in FLOODS.items()},
            "round trip added, ms": round_trip(bench, CLEAR, 0.0),
            "too late at a delay one way, ms": {
                f"{delay * 1e3:g} ms": round_trip(bench, LinkCondition(delay=delay), delay)
                for delay in DELAYS
            },
            "one request, ms": {"stats": request_time(bench.wire)},
            "start of a process, ms": {"until the first answer": start_time()},
        }


def flood(bench: Bench, condition: LinkCondition, seconds: float) -> int:
    """Frames per second that left the wire while the sender sent as much as it could."""
    bench.wire.set_condition(bench.LINK, condition, CLEAR)
    with bench.a.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.connect((str(ADDRESS_B.ip), 9))
        sender.setsockopt(socket.IPPROTO_UDP, UDP_SEGMENT, PAYLOAD)
        burst = bytes(PAYLOAD * SEGMENTS)
        before: int = bench.wire.stats(bench.LINK)["forward"]["delivered"]
        started = time.monotonic()
        while time.monotonic() - started < seconds:
            try:
                sender.send(burst)
            except (BlockingIOError, ConnectionRefusedError):
                pass  # the TAP's queue is full, or the far end says that nobody listens: both are fine
        delivered: int = bench.wire.stats(bench.LINK)["forward"]["delivered"] - before
        return round(delivered / (time.monotonic() - started))


def round_trip(bench: Bench, forward: LinkCondition, expected: float) -> dict[str, float]:
    """By how much pings exceed the expected time, with the condition there and a clear way back."""
    bench.wire.set_condition(bench.LINK, forward, CLEAR)
    bench.ping(3, 0, within=1)  # neighbours are known from here on
    excess = [(trip - expected) * 1e3 for trip in bench.ping(200, 0, within=1) if trip is not None]
    return {
        "median": round(median(excess), 3),
        "p95": round(quantiles(excess, n=20)[-1], 3),
        "least": round(min(excess), 3),
    }


def request_time(wire: WireProcess) -> float:
    """Milliseconds of one request and its reply, mean of many."""
    count = 500
    started = time.monotonic()
    for _ in range(count):
        wire.stats(Bench.LINK)
    return round((time.monotonic() - started) / count * 1e3, 3)


def start_time() -> float:
    """Milliseconds from the call until a fresh process and its first link serve."""
    started = time.monotonic()
    with Bench(CLEAR, CLEAR):
        return round((time.monotonic() - started) * 1e3, 1)


if __name__ == "__main__":
    main()
