"""Reading and writing bytes: the small alphabet that every binary format of the stack is written in.

A :class:`Reader` knows which error its caller promises for short or surplus input, so a parser reads
straight on and needs no length checks of its own.
"""

from __future__ import annotations

from iroh_py.errors import RemoteProtocolError


class Reader:
    """A cursor over untrusted bytes; every method raises ``error`` when the bytes run out."""

    __slots__ = ("_data", "_error", "_pos")

    def __init__(self, data: bytes, error: type[RemoteProtocolError]) -> None:
        self._data = data
        self._error = error
        self._pos = 0

    @property
    def remaining(self) -> int:
        """How many bytes are left."""
        return len(self._data) - self._pos

    def take(self, count: int) -> bytes:
        """The next ``count`` bytes."""
        end = self._pos + count
        if end > len(self._data):
            raise self._error(f"truncated: {count} bytes expected, {self.remaining} left")
        piece = self._data[self._pos : end]
        self._pos = end
        return piece

    def rest(self) -> bytes:
        """All bytes that are left, maybe none."""
        return self.take(self.remaining)

    def u8(self) -> int:
        """One byte."""
        return self.take(1)[0]

    def u16be(self) -> int:
        """Two bytes, network byte order."""
        return int.from_bytes(self.take(2), "big")

    def u16le(self) -> int:
        """Two bytes, little endian."""
        return int.from_bytes(self.take(2), "little")

    def u32be(self) -> int:
        """Four bytes, network byte order."""
        return int.from_bytes(self.take(4), "big")

    def u64be(self) -> int:
        """Eight bytes, network byte order."""
        return int.from_bytes(self.take(8), "big")

    def leb128(self, bits: int = 64) -> int:
        """A postcard varint of at most ``bits`` bits: 7 bits per byte, low group first (PROTOCOL 0.1)."""
        value = 0
        for shift in range(0, bits, 7):
            byte = self.u8()
            value |= (byte & 0x7F) << shift
            if not byte & 0x80:
                break
        else:
            raise self._error(f"varint is longer than {bits} bits allow")
        if value >> bits:
            raise self._error(f"varint does not fit into {bits} bits")
        return value

    def end(self) -> None:
        """Raise unless everything was read."""
        if self.remaining:
            raise self._error(f"{self.remaining} surplus bytes at the end")


class Writer:
    """Collects bytes; every method returns the writer, so that a message reads as one expression.

    Values must fit (OverflowError otherwise): they are the caller's own.
    """

    __slots__ = ("_data",)

    def __init__(self) -> None:
        self._data = bytearray()

    def __bytes__(self) -> bytes:
        return bytes(self._data)

    def raw(self, data: bytes) -> Writer:
        """Bytes as they are."""
        self._data += data
        return self

    def u8(self, value: int) -> Writer:
        """One byte."""
        return self.raw(value.to_bytes(1, "big"))

    def u16be(self, value: int) -> Writer:
        """Two bytes, network byte order."""
        return self.raw(value.to_bytes(2, "big"))

    def u16le(self, value: int) -> Writer:
        """Two bytes, little endian."""
        return self.raw(value.to_bytes(2, "little"))

    def u32be(self, value: int) -> Writer:
        """Four bytes, network byte order."""
        return self.raw(value.to_bytes(4, "big"))

    def u64be(self, value: int) -> Writer:
        """Eight bytes, network byte order."""
        return self.raw(value.to_bytes(8, "big"))

    def leb128(self, value: int) -> Writer:
        """A postcard varint (PROTOCOL 0.1)."""
        if value < 0:
            raise OverflowError("a varint cannot be negative")
        while value > 0x7F:
            self._data.append(value & 0x7F | 0x80)
            value >>= 7
        self._data.append(value)
        return self
