"""A wire goes into a link while frames cross it."""

from __future__ import annotations

import socket
import threading

from link_kit import pair
from udp_kit import PATIENCE


def test_wire_goes_into_a_busy_link_and_frames_still_find_the_host() -> None:
    """Broadcasts of the host that come back through the half-made wire do not teach it that the host is elsewhere."""
    with pair("wire") as both:
        both.send(1, first=1)
        both.there.settimeout(PATIENCE)
        _data, home = both.there.recvfrom(100)
        stop, begun = threading.Event(), threading.Event()

        def shout() -> None:
            with both.laptop.socket(socket.AF_INET, socket.SOCK_DGRAM) as loud:
                loud.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
                while not stop.is_set():
                    loud.sendto(b"!", ("255.255.255.255", 9))
                    begun.set()

        shouting = threading.Thread(target=shout)
        shouting.start()
        begun.wait(PATIENCE)
        both.laptop.link.condition(delay=0.1, direction="ingress")
        stop.set()
        shouting.join()
        # It is behind all broadcasts that went into the wire.
        both.there.sendto(b"?", home)
        both.here.settimeout(PATIENCE)
        assert both.here.recv(10) == b"?"
