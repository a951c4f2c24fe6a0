"""Frames for the tests of the wire."""

from __future__ import annotations

ETHERNET = bytes(12)


def ipv4(number: int, size: int = 1200, protocol: int = 17) -> bytes:
    """An IPv4 frame of that size whose last four bytes are its number."""
    header = ETHERNET + b"\x08\x00" + bytes(9) + bytes([protocol])
    return header + bytes(size - len(header) - 4) + number.to_bytes(4, "big")


def ipv6(next_header: int, first: int) -> bytes:
    """An IPv6 frame with that next header and that first byte of payload."""
    return ETHERNET + b"\x86\xdd" + bytes(6) + bytes([next_header]) + bytes(33) + bytes([first]) + bytes(20)


def arp() -> bytes:
    """An ARP frame."""
    return ETHERNET + b"\x08\x06" + bytes(28)


def number_of(frame: bytes) -> int:
    """The number that `ipv4` wrote."""
    return int.from_bytes(frame[-4:], "big")
