"""What a link costs by each engine: ``python benchmarks/link_engines.py``, or ``ci/vm uml python`` it for netem, too.

Two hosts behind a router, the link of one impaired both ways. The datagrams are of one second, the trips of 200.
"""

from __future__ import annotations

import socket
import statistics
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from netns_fixtures import Lab, LinkCondition
from netns_fixtures.doctor import capabilities
from netns_fixtures.link_engine import NETEM_FEATURES

_SECOND = 1.0
_SIZE = 1200
_WINDOW = 64
CASES = {
    "loss 1e-9": LinkCondition(loss=1e-9),
    "delay 20 ms": LinkCondition(delay=0.02),
    "10 Mbit/s": LinkCondition(rate=10e6),
}


@contextmanager
def sockets(engine: str, condition: LinkCondition) -> Iterator[tuple[socket.socket, socket.socket]]:
    """Two connected sockets, across the link."""
    with Lab(seed=1, link_engine="netem" if engine == "netem" else "wire") as lab:
        router = lab.router("home")
        near, far = lab.host("near", uplink=router), lab.host("far", uplink=router)
        lab.build()
        kind = socket.AF_INET, socket.SOCK_DGRAM
        with near.socket(*kind) as left, far.socket(*kind) as right:
            right.bind((str(far.ip), 7000))
            left.bind((str(near.ip), 7000))
            left.connect((str(far.ip), 7000))
            right.connect((str(near.ip), 7000))
            for sock in (left, right):
                sock.settimeout(1)
            round_trip(left, right)
            if engine != "veth":
                near.link.condition(condition)
            yield left, right


def round_trip(left: socket.socket, right: socket.socket) -> float:
    """Seconds there and back."""
    began = time.perf_counter()
    left.send(b"?")
    right.send(right.recv(10))
    left.recv(10)
    return time.perf_counter() - began


def frames_per_second(left: socket.socket, right: socket.socket) -> float:
    """With a window of datagrams under way, each acknowledged by its place in it: nothing is lost, nothing waits."""
    stop = threading.Event()

    def answer() -> None:
        while not stop.is_set():
            try:
                right.recv(2000)
                right.send(b"!")
            except TimeoutError:
                continue

    answering = threading.Thread(target=answer)
    answering.start()
    data, count, began = bytes(_SIZE), 0, time.perf_counter()
    for _ in range(_WINDOW):
        left.send(data)
    while (took := time.perf_counter() - began) < _SECOND:
        left.recv(10)
        count += 1
        left.send(data)
    stop.set()
    answering.join()
    return count / took


def main() -> None:
    """Print a table."""
    engines = ["veth", "wire", *(["netem"] if all(map(capabilities().has, NETEM_FEATURES)) else [])]
    for engine in engines:
        for name, condition in CASES.items() if engine != "veth" else [("nothing", LinkCondition())]:
            with sockets(engine, condition) as pair:
                trips = [round_trip(*pair) for _ in range(20 if condition.delay else 200)]
                rate = frames_per_second(*pair)
            median, best = statistics.median(trips), min(trips)
            trip = f"{best * 1e3:8.3f} ms at best, {median * 1e3:8.3f} ms in the middle"
            print(f"{engine:6} {name:12} round trip {trip}; {rate:9.0f} datagrams/s of {_SIZE} bytes")


if __name__ == "__main__":
    main()
