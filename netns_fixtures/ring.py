"""Frames out of the kernel without a system call per frame: a packet socket with a ring (TPACKET_V3).

The kernel fills blocks of memory that are shared with this process (Documentation/networking/packet_mmap).
To take frames is to copy whole blocks, some microseconds for hundreds of frames; they are parsed when
somebody asks.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import socket
import struct
import threading
from collections.abc import Collection, Iterator
from dataclasses import dataclass

# <linux/if_packet.h>
_PACKET_RX_RING, _PACKET_STATISTICS, _PACKET_VERSION = 5, 6, 10
_SOL_PACKET = 263
_ALL_PROTOCOLS = 3  # ETH_P_ALL
_TPACKET_V3 = 2
_KERNEL_OWNS, _STATUS_USER = 0, 1
#: The kernel wants a frame size in the request, and ignores it in version 3; it must divide the block.
_FRAME_SIZE = 2048
#: Holds the longest frame, a 64 KiB segmentation super-frame of a veth, with its header.
BLOCK_SIZE = 1 << 17

_BLOCK = struct.Struct("=2I4IQ")
_BLOCK_STATUS_AT = 8
# tpacket3_hdr, and the sockaddr_ll after it: next, sec, nsec, captured, length, status, mac offset, net
# offset, rxhash, vlan (4 + 2 + 2), padding 8 | family, protocol, ifindex, hardware type, packet type.
_FRAME = struct.Struct("=6I2H4x8x8x2HiHB")
_OUTGOING = 4

# <linux/filter.h>: classic BPF.
_SO_ATTACH_FILTER = 26
_LOAD_WORD, _LOAD_LENGTH, _JUMP_EQUAL, _JUMP_GREATER, _RETURN = 0x20, 0x80, 0x15, 0x25, 0x06
_IFINDEX_AT = 0xFFFFF000 + 8  # SKF_AD_OFF + SKF_AD_IFINDEX
_INSTRUCTION = struct.Struct("=HBBI")
_ACCEPT = (_RETURN, 0, 0, 0x40000)  # so many bytes of it: more than any frame has
#: A jump offset has 8 bits; more interfaces than this are told apart when frames are parsed.
MAX_FILTERED = 200


@dataclass(frozen=True, slots=True)
class RawFrame:
    """A frame as the ring holds it; ``stamp`` is ns since the epoch, ``length`` that on the wire."""

    stamp: int
    index: int
    sent: bool
    data: bytes
    length: int


class PacketRing:
    """A ring on a packet socket, which it owns. Raises OSError where the kernel refuses.

    ``sock`` is one for which :func:`reserve` made room of so many ``blocks``. ``interface``: the only one to see
    ("": all), or ``indices``: the only ones whose frames count (empty: all).
    """

    def __init__(
        self,
        sock: socket.socket,
        blocks: int,
        interface: str = "",
        indices: Collection[int] = (),
    ) -> None:
        self._socket = sock
        self._blocks = blocks
        self._next = 0
        self._lock = threading.Lock()
        self._received = self._dropped = 0
        self._indices = tuple(indices)
        if indices:
            _attach_filter(sock, indices, None)
        self._memory = mmap.mmap(sock.fileno(), BLOCK_SIZE * blocks)
        # Only now: what a socket receives before it has a ring is counted, and is in no block.
        _bind(sock, interface)

    def fileno(self) -> int:
        """The descriptor that is readable while a block waits."""
        return self._socket.fileno()

    def take(self) -> list[bytes]:
        """Copies of the blocks that are ready; the kernel gets them back."""
        taken = []
        with self._lock:
            while not self._memory.closed:
                at = self._next * BLOCK_SIZE
                _version, _private, status, _count, _first, length, _number = _BLOCK.unpack_from(
                    self._memory, at
                )
                if not status & _STATUS_USER:
                    break
                taken.append(self._memory[at : at + length])
                self._memory[at + _BLOCK_STATUS_AT : at + _BLOCK_STATUS_AT + 4] = bytes(4)
                self._next = (self._next + 1) % self._blocks
        return taken

    def limit(self, largest: int | None) -> None:
        """From now on leave out frames above so many bytes; None: none, 0: all."""
        with self._lock:
            if not self._memory.closed:
                _attach_filter(self._socket, self._indices, largest)

    def counters(self) -> tuple[int, int]:
        """Frames that the kernel put into the ring so far, and those for which it had no room."""
        with self._lock:
            if not self._memory.closed:
                # Reading resets the kernel's counters; the first includes what was dropped.
                found = self._socket.getsockopt(_SOL_PACKET, _PACKET_STATISTICS, 12)
                received, dropped, _freezes = struct.unpack("=3I", found)
                self._received += received - dropped
                self._dropped += dropped
            return self._received, self._dropped

    def close(self) -> None:
        """Give the memory and the socket back; the kernel takes 10 to 30 ms for it."""
        with self._lock:
            self._memory.close()
        self._socket.close()


def reserve(sock: socket.socket, flush_after: float, blocks: int) -> None:
    """Make room for a ring on a packet socket that was made for protocol 0, so that it has received nothing yet.

    ``flush_after``: seconds until the kernel hands over a block that is not full. The kernel waits some 10 ms for
    other processors; other threads of this process go on meanwhile. Raises OSError.
    """
    sock.setsockopt(_SOL_PACKET, _PACKET_VERSION, _TPACKET_V3)
    frames = BLOCK_SIZE * blocks // _FRAME_SIZE
    milliseconds = max(1, round(flush_after * 1000))
    request = struct.pack("=7I", BLOCK_SIZE, blocks, _FRAME_SIZE, frames, milliseconds, 0, 0)
    # Python's setsockopt would keep the interpreter's lock while it waits.
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setsockopt(sock.fileno(), _SOL_PACKET, _PACKET_RX_RING, request, len(request)) != 0:
        raise _last_error()


def count(block: bytes) -> int:
    """How many frames a block holds."""
    return int(_BLOCK.unpack_from(block)[3])


def parse(block: bytes) -> Iterator[RawFrame]:
    """The frames of a block, in the order of their capture."""
    _version, _private, _status, number, at, _length, _number = _BLOCK.unpack_from(block)
    for _ in range(number):
        step, sec, nsec, captured, length, _status, mac, _net, _f, _p, index, _hw, kind = _FRAME.unpack_from(
            block, at
        )
        data = block[at + mac : at + mac + captured]
        yield RawFrame(sec * 1_000_000_000 + nsec, index, kind == _OUTGOING, data, length)
        at += step


def _bind(sock: socket.socket, interface: str) -> None:
    if interface:
        sock.bind((interface, _ALL_PROTOCOLS))
        return
    # Python's bind takes no address that means every interface.
    libc = ctypes.CDLL(None, use_errno=True)
    address = struct.pack("=HHiHBB8x", socket.AF_PACKET, socket.htons(_ALL_PROTOCOLS), 0, 0, 0, 0)
    if libc.bind(sock.fileno(), address, len(address)) != 0:
        raise _last_error()


def _last_error() -> OSError:
    number = ctypes.get_errno()
    return OSError(number, os.strerror(number))


def _attach_filter(sock: socket.socket, indices: Collection[int], largest: int | None) -> None:
    """Let the kernel pass on only frames of these interfaces (empty: all), and none above a size."""
    program = [(_RETURN, 0, 0, 0)] if largest == 0 else [*_by_size(largest), *_by_index(indices), _ACCEPT]
    code = b"".join(_INSTRUCTION.pack(*instruction) for instruction in program)
    buffer = ctypes.create_string_buffer(code, len(code))
    pointer = struct.pack("@HP", len(program), ctypes.addressof(buffer))
    sock.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, pointer)


def _by_size(largest: int | None) -> list[tuple[int, int, int, int]]:
    if largest is None:
        return []
    return [(_LOAD_LENGTH, 0, 0, 0), (_JUMP_GREATER, 0, 1, largest), (_RETURN, 0, 0, 0)]


def _by_index(indices: Collection[int]) -> list[tuple[int, int, int, int]]:
    """Jump over the "drop" at the end where the frame's interface is one of them."""
    if not 0 < len(indices) <= MAX_FILTERED:
        return []
    tests = [(_JUMP_EQUAL, len(indices) - number, 0, index) for number, index in enumerate(indices)]
    return [(_LOAD_WORD, 0, 0, _IFINDEX_AT), *tests, (_RETURN, 0, 0, 0)]
