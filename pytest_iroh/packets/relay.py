"""What clients and relays say to each other, out of captured TCP segments.

Only where the relay speaks plain HTTP, as relays in labs do by default: TLS stays closed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from iroh_py.errors import RelayError
from iroh_py.network import Addr
from iroh_py.proto.relay import v1, v3
from iroh_py.proto.relay.frames import (
    RecvDatagrams,
    RecvPacket,
    SendDatagrams,
    SendPacket,
    V1Frame,
    V3Frame,
)
from iroh_py.proto.relay.upgrade import NATIVE_UPGRADE, Generation
from iroh_py.proto.relay.websocket import WebSocket
from netns_fixtures.capture import Capture
from netns_fixtures.tap import Frame
from pytest_iroh.packets.views import View, view

_FIN, _SYN = 0x01, 0x02
#: An HTTP head that is longer is none of a relay's.
MAX_HEAD = 16 << 10
#: Bytes that wait for a segment before them; more means that the capture lost it.
MAX_WAITING = 4 << 20


@dataclass(frozen=True, slots=True)
class RelayMessage:
    """One frame between a client and a relay. ``time`` is that of the segment that completed it (lab's
    clock).
    """

    time: float
    src: Addr
    dst: Addr
    #: Whether the client said it.
    upward: bool
    generation: Generation
    frame: V3Frame | V1Frame
    #: The bytes as ``layer`` takes them: generation 3 with its header, 1.x the websocket message.
    raw: bytes = field(repr=False, default=b"")

    @property
    def datagrams(self) -> list[bytes]:
        """The datagrams that it carries, if any."""
        match self.frame:
            case SendPacket(data=data) | RecvPacket(data=data):
                return v3.unpack_datagrams(data)
            case SendDatagrams(data=data, segment_size=size) | RecvDatagrams(data=data, segment_size=size):
                return v1.cut_segments(data, size)
        return []

    def layer(self) -> Any:
        """The same as a scapy layer, ``RelayFrame`` or ``RelayFrameV1``."""
        from pytest_iroh.packets.layers import RelayFrame, RelayFrameV1

        return RelayFrame(self.raw) if self.generation.is_v3 else RelayFrameV1(self.raw)


def relay_messages(capture: Capture | Iterable[Frame], where: str | None = None) -> list[RelayMessage]:
    """The messages of all relay connections that began while a capture ran, in order of time.

    ``where``: only what was seen there, "laptop eth0"; without it, a connection that passes a NAT counts
    twice.
    """
    frames = capture.frames if isinstance(capture, Capture) else capture
    flows: dict[tuple[Addr, Addr], _Flow] = {}
    found: list[RelayMessage] = []
    for frame in frames:
        if where is None or frame.where == where:
            seen = view(frame.data)
            if seen.protocol == "tcp":
                found += _take(flows, frame.time, seen)
    return found


def _take(flows: dict[tuple[Addr, Addr], _Flow], time: float, seen: View) -> list[RelayMessage]:
    src, dst = (seen.src, seen.sport), (seen.dst, seen.dport)
    known = flows.get((src, dst))
    # The first SYN is the client's. One for a pair of ports that is in use begins a new connection.
    if seen.flags & _SYN and (dst, src) not in flows and (known is None or known.begins_again(seen.seq)):
        flows[src, dst] = _Flow(src, dst)
    if (src, dst) in flows:
        return flows[src, dst].take(time, seen, upward=True)
    if (dst, src) in flows:
        return flows[dst, src].take(time, seen, upward=False)
    return []


class _Stream:
    """The bytes of one direction in order, whatever was repeated or overtaken."""

    def __init__(self) -> None:
        self.first: int | None = None
        self._next = 0
        self._waiting: dict[int, bytes] = {}

    def take(self, seen: View) -> bytes:
        """The bytes that a segment adds."""
        if seen.flags & _SYN and self.first is None:
            self.first = seen.seq
        if self.first is None or not seen.payload:
            return b""
        at = (seen.seq - self.first - 1) & 0xFFFFFFFF
        # Relative to what is expected, modulo 2^32: far "ahead" is a repetition.
        ahead = (at - self._next) & 0xFFFFFFFF
        if ahead >= 1 << 31:
            repeated = (self._next - at) & 0xFFFFFFFF
            return self._advance(seen.payload[repeated:])
        if ahead:
            self._waiting[at] = seen.payload
            return b""
        return self._advance(seen.payload)

    @property
    def lost(self) -> bool:
        """Whether a segment is missing for good."""
        return sum(map(len, self._waiting.values())) > MAX_WAITING

    def _advance(self, data: bytes) -> bytes:
        found = bytearray(data)
        self._next = (self._next + len(data)) & 0xFFFFFFFF
        for at in sorted(self._waiting):
            overlap = self._next - at
            if overlap < 0:
                break
            rest = self._waiting.pop(at)[overlap:]
            found += rest
            self._next += len(rest)
        return bytes(found)


class _Flow:
    """One TCP connection from a client."""

    def __init__(self, client: Addr, server: Addr) -> None:
        self._ends = (client, server)
        self._streams = {True: _Stream(), False: _Stream()}
        self._heads = {True: b"", False: b""}
        self._readers: dict[bool, _Reader] = {}
        self._given_up = False

    def begins_again(self, seq: int) -> bool:
        """Whether a SYN with this number is not a repetition of ours."""
        return self._streams[True].first not in (None, seq)

    def take(self, time: float, seen: View, upward: bool) -> list[RelayMessage]:
        """The messages that a segment completes."""
        stream = self._streams[upward]
        data = stream.take(seen)
        if self._given_up or stream.lost:
            self._given_up = True
            return []
        if self._readers:
            return list(self._read(time, data, upward))
        self._heads[upward] += data
        return self._upgrade(time)

    def _upgrade(self, time: float) -> list[RelayMessage]:
        if any(len(head) > MAX_HEAD for head in self._heads.values()):
            self._given_up = True
        asked, request_end, early = self._heads[True].partition(b"\r\n\r\n")
        answer, answer_end, rest = self._heads[False].partition(b"\r\n\r\n")
        if not (request_end and answer_end):
            return []
        generation = _generation(answer) if asked.startswith(b"GET ") else None
        if generation is None:
            self._given_up = True
            return []
        self._readers = {upward: _Reader(generation, upward) for upward in (True, False)}
        return [*self._read(time, early, True), *self._read(time, rest, False)]

    def _read(self, time: float, data: bytes, upward: bool) -> Iterator[RelayMessage]:
        reader = self._readers[upward]
        src, dst = self._ends if upward else self._ends[::-1]
        for frame, raw in reader.read(data):
            yield RelayMessage(time, src, dst, upward, reader.generation, frame, raw)


class _Reader:
    """One direction after the upgrade."""

    def __init__(self, generation: Generation, upward: bool) -> None:
        self.generation = generation
        self._native = v3.FrameReader()
        # We read what the client wrote with the server's eyes, and the other way round.
        self._websocket = WebSocket(client=not upward)

    def read(self, data: bytes) -> Iterator[tuple[V3Frame | V1Frame, bytes]]:
        """Frames with their bytes; what breaks the protocol is left out."""
        for kind, payload in self._cut(data):
            try:
                if self.generation.is_v3:
                    frame: V3Frame | V1Frame = v3.decode(kind, payload)
                    raw = bytes((kind,)) + len(payload).to_bytes(4, "big") + payload
                else:
                    raw = bytes((kind,)) + payload
                    frame = v1.decode(raw, self.generation.value)
            except RelayError:
                continue  # a test of hostile bytes, which are in the capture file
            yield frame, raw

    def _cut(self, data: bytes) -> list[tuple[int, bytes]]:
        if not self.generation.is_websocket:
            return self._native.read(data)
        return [(message[0], message[1:]) for message in self._websocket.read(data) if message]


def _generation(answer: bytes) -> Generation | None:
    """What a server's answer agrees to; None if it is no relay's."""
    lines = answer.decode("latin-1").split("\r\n")
    if " 101" not in lines[0]:
        return None
    headers = {
        name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)
    }
    upgrade = headers.get("upgrade", "").lower()
    if upgrade == NATIVE_UPGRADE:
        return Generation.V3_NATIVE
    if upgrade != "websocket":
        return None
    try:
        return Generation(headers.get("sec-websocket-protocol", Generation.V3_WEBSOCKET.value))
    except ValueError:
        return None
