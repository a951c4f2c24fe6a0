"""Capturing what crosses the cables of a lab.

::

    with capture(laptop) as packets:
        ...
    assert packets.count == 0
    packets.save("laptop.pcapng")       # opens in Wireshark, the lab's events are packet comments

Every interface is a cable into one namespace, the fabric (see ``topology``), so a single packet socket
there sees a whole lab, and recording one costs the same for 2 hosts and for 200. A frame is seen on the
cable: what a host meant to send while its link was down is not there. Frames between hosts of one machine
are not cut and not summed up: expect segments of up to 64 KiB and checksums that nobody has filled in.
"""

from __future__ import annotations

import errno
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from netns_fixtures.capture_file import save, save_each
from netns_fixtures.drain import Drain
from netns_fixtures.errors import LabError, TopologyError
from netns_fixtures.events import LabEvent
from netns_fixtures.interface import Interface
from netns_fixtures.ring import PacketRing, count, parse, reserve
from netns_fixtures.tap import Frame, Tap, fabric_socket, fabric_taps

if TYPE_CHECKING:
    from netns_fixtures.lab import Lab
    from netns_fixtures.node import Node

#: Bytes that a capture keeps; then it forgets its oldest frames. Minutes of a connection that is only
#: watched.
MAX_BYTES = 64 << 20
#: Seconds until a block that is not full is handed over: what ``frames`` waits for, once or twice.
FLUSH_AFTER = 0.004
#: Blocks in the ring: 4 MiB, what comes in at 500 Mbit/s while the reading thread is held up for 0.06 s. A test waits
#: for its pages to be mapped.
BLOCKS = 32
#: Seconds for the kernel to hand over its last block; only a machine in deep trouble takes this long.
_FLUSH_TIMEOUT = 5.0


class Capture:
    """What was captured so far; a context manager that stops at its end. Made by ``capture`` and ``record``.

    Frames stay readable after ``stop`` and after the lab is closed. Safe to use from several threads.
    """

    def __init__(
        self,
        lab: Lab,
        taps: Callable[[], Mapping[int, Tap]],
        dissect: Callable[[Frame], Any] | None = None,
        max_bytes: int = MAX_BYTES,
    ) -> None:
        self.lab = lab
        #: Why nothing is captured, where recording could not begin.
        self.trouble = ""
        self._taps = taps
        self._dissect = dissect or _ethernet
        self._max_bytes = max_bytes
        self._boot = time.time() - time.monotonic()
        self._ring: PacketRing | None = None
        self._blocks: deque[bytes] = deque()
        self._bytes = 0
        self._taken = self._forgotten = 0
        self._received = self._dropped = 0
        self._news = threading.Condition()
        self._parsed: tuple[int, list[Frame]] = (-1, [])
        self._unsubscribe = lab.on_event(self._see)

    def __repr__(self) -> str:
        return f"<Capture in {self.lab.name}: {self._taken} frames{'' if self._ring else ', stopped'}>"

    def __enter__(self) -> Capture:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        self.stop()

    # -- looking

    @property
    def frames(self) -> list[Frame]:
        """Every frame up to now, in order of time. Waits some milliseconds for the kernel's last block."""
        self._flush()
        with self._news:
            blocks, taken = tuple(self._blocks), self._taken
        if self._parsed[0] != taken:
            self._parsed = (taken, sorted(self._frames(blocks), key=lambda frame: frame.stamp))
        return list(self._parsed[1])

    @property
    def packets(self) -> list[Any]:
        """The frames as scapy packets; ``sniffed_on`` is "laptop eth0", ``frame`` the Frame that it was
        made of.
        """
        return [self.packet(frame) for frame in self.frames]

    @property
    def count(self) -> int:
        """How many frames there are, without those that were forgotten."""
        return len(self.frames)

    @property
    def missed(self) -> int:
        """Frames that are not there: the kernel dropped them, or they were forgotten for want of room."""
        self._count()
        return self._dropped + self._forgotten

    @property
    def running(self) -> bool:
        """Whether frames still come in."""
        return self._ring is not None

    def packet(self, frame: Frame) -> Any:
        """A frame as a scapy packet."""
        return self._dissect(frame)

    def wait(self, timeout: float) -> bool:
        """Wait until more frames came than this capture's user has seen; False after ``timeout`` seconds."""
        seen = self._parsed[0]
        with self._news:
            return self._news.wait_for(lambda: self._taken != seen, timeout)

    @property
    def notes(self) -> list[LabEvent]:
        """What happened to the capture itself, in the form of the lab's events."""
        return []

    def taps(self) -> list[Tap]:
        """The interfaces that are watched."""
        return list(self._taps().values())

    # -- ending

    def stop(self) -> None:
        """Capture nothing more; does nothing the second time."""
        if self._ring is not None:
            self._flush()
            self._release()

    def abandon(self) -> None:
        """Stop at once: the last frames, which the kernel still holds, are lost. For a capture nobody reads."""
        self._release()

    def save(self, path: str | Path, **options: Any) -> Path:
        """Write all frames into one pcapng file; ``options`` are those of ``capture_file.save``. Raises
        OSError.
        """
        return save(self, Path(path), **options)

    def save_each(self, directory: str | Path, **options: Any) -> list[Path]:
        """Write one pcapng file per interface that saw a frame, ``<node>-<interface>.pcapng``. Raises
        OSError.
        """
        return save_each(self, Path(directory), **options)

    # -- inside

    def open(self, sock: socket.socket, interface: str = "", indices: tuple[int, ...] = ()) -> None:
        """Begin with a packet socket that has room for a ring; the capture owns it from now on. Raises OSError."""
        try:
            ring = PacketRing(sock, BLOCKS, interface, indices)
        except BaseException:
            sock.close()
            self._unsubscribe()
            raise
        self._ring = ring
        Drain.shared().add(ring, self)

    def take_blocks(self, blocks: list[bytes]) -> None:
        """Called by the draining thread."""
        with self._news:
            for block in blocks:
                self._blocks.append(block)
                self._bytes += len(block)
                self._taken += count(block)
            while self._bytes > self._max_bytes and len(self._blocks) > 1:
                oldest = self._blocks.popleft()
                self._bytes -= len(oldest)
                self._forgotten += count(oldest)
            self._news.notify_all()

    def due(self) -> float | None:
        """Called by the draining thread."""
        return None

    def look(self) -> None:
        """Called by the draining thread."""

    def _frames(self, blocks: tuple[bytes, ...]) -> Iterator[Frame]:
        taps = self._taps()
        for block in blocks:
            for raw in parse(block):
                tap = taps.get(raw.index)
                frame = tap.frame(raw, self._boot) if tap is not None else None
                if frame is not None:
                    yield frame

    def _count(self) -> int:
        ring = self._ring
        if ring is not None:
            self._received, self._dropped = ring.counters()
        return self._received

    def _flush(self) -> None:
        """Wait for everything that the kernel has captured until now."""
        received = self._count()
        with self._news:
            if not self._news.wait_for(lambda: self._taken >= received or self._ring is None, _FLUSH_TIMEOUT):
                raise LabError(
                    f"{received - self._taken} captured frames did not arrive within {_FLUSH_TIMEOUT:g} s"
                )

    def _release(self) -> None:
        with self._news:
            ring, self._ring = self._ring, None
        if ring is not None:
            self._unsubscribe()
            self._received, self._dropped = ring.counters()
            Drain.shared().remove(ring)

    def _see(self, event: LabEvent) -> None:
        if event.kind == "lab_closed":
            # The socket would keep the lab's namespaces alive. Nobody waits here for frames of the last
            # milliseconds.
            self._release()


def capture(
    node: Node,
    interface: str | Interface | None = None,
    *,
    dissect: Callable[[Frame], Any] | None = None,
    max_bytes: int = MAX_BYTES,
) -> Capture:
    """Capture at a host or router from now on: at all its interfaces, or one (also such as "lo" or "tun0").

    ``dissect`` makes the packets of ``Capture.packets`` (default: scapy's Ethernet). Beyond ``max_bytes``
    the oldest frames are forgotten. Raises TopologyError for an interface that the node does not have,
    OSError, LabError.
    """
    lab = node.lab
    lab.ready()
    interfaces: dict[str, Interface] = getattr(node, "interfaces", {})
    name = interface.name if isinstance(interface, Interface) else interface
    if name is not None and name not in interfaces:
        return _capture_inside(node, name, dissect, max_bytes)
    wanted = {i.plug.port for i in interfaces.values() if name is None or i.name == name}
    sock = with_ring(fabric_socket(lab), FLUSH_AFTER)
    found = Capture(
        lab,
        lambda: {port: tap for port, tap in fabric_taps(lab).items() if port in wanted},
        dissect,
        max_bytes,
    )
    found.open(sock, indices=tuple(sorted(wanted)))
    return found


def _capture_inside(node: Node, name: str, dissect: Callable[[Frame], Any] | None, max_bytes: int) -> Capture:
    """At an interface that is no cable: the socket is the node's own."""
    sock = with_ring(node.socket(socket.AF_PACKET, socket.SOCK_RAW, 0), FLUSH_AFTER)
    tap = Tap(node.name, name, far_end=False)
    found = Capture(node.lab, lambda: _Everywhere(tap), dissect, max_bytes)
    try:
        found.open(sock, interface=name)
    except OSError as error:
        if error.errno != errno.ENODEV:
            raise
        raise TopologyError(f"{node.name} has no interface {name!r}") from None
    return found


def with_ring(sock: socket.socket, flush_after: float) -> socket.socket:
    """The packet socket with room for a ring; it is closed where the kernel refuses. Raises OSError."""
    try:
        reserve(sock, flush_after, BLOCKS)
    except OSError:
        sock.close()
        raise
    return sock


class _Everywhere(dict[int, Tap]):
    """The same tap for every index: of a socket that is bound to one interface."""

    def __init__(self, tap: Tap) -> None:
        super().__init__({0: tap})
        self._tap = tap

    def get(self, key: int, default: Any = None) -> Any:
        return self._tap


def _ethernet(frame: Frame) -> Any:
    # Scapy takes a second to import, so only who wants its packets pays for it.
    from scapy.layers import inet, inet6
    from scapy.layers.l2 import Ether

    del inet, inet6  # imported to be known to Ether
    packet = Ether(frame.data)
    packet.time = frame.stamp / 1e9
    packet.sniffed_on = frame.where
    return packet
