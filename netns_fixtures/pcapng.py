"""Writing pcapng, the capture file format of Wireshark (draft-ietf-opsawg-pcapng).

Only what the lab needs: one section, Ethernet interfaces, packets with comments, and TLS secrets. (Scapy's
writer takes one interface per file and a second to import.)
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from typing import BinaryIO

_SECTION, _INTERFACE, _PACKET, _SECRETS = 0x0A0D0D0A, 1, 6, 0x0A
_BYTE_ORDER = 0x1A2B3C4D
#: Not known, because the file is written as it comes.
_SECTION_LENGTH = -1
_ETHERNET = 1
#: "No limit" for the length of packets (section 4.2).
_NO_SNAPLEN = 0
_TLS_KEY_LOG = 0x544C534B

_COMMENT = 1
_USER_APPLICATION = 4
_IF_NAME, _IF_DESCRIPTION, _IF_MAC, _IF_TSRESOL = 2, 3, 6, 9
_EPB_FLAGS = 2
_INBOUND, _OUTBOUND = 1, 2
#: Timestamps count 10^-9 s.
_NANOSECONDS = 9
#: An option's length is 16 bits.
_MAX_OPTION = 0xFFFF

_OPTION = struct.Struct("<HH")
_PACKET_HEAD = struct.Struct("<IIIII")
_END_OF_OPTIONS = bytes(4)


class PcapngWriter:
    """Writes a capture into a binary file that is open. Raises OSError as the file does."""

    def __init__(self, file: BinaryIO, comment: str = "", application: str = "netns_fixtures") -> None:
        self._file = file
        self._interfaces = 0
        body = struct.pack("<IHHq", _BYTE_ORDER, 1, 0, _SECTION_LENGTH)
        options = [(_COMMENT, comment.encode())] if comment else []
        self._block(_SECTION, body, [*options, (_USER_APPLICATION, application.encode())])

    def add_interface(self, name: str, description: str = "", mac: str = "") -> int:
        """Declare an Ethernet interface; returns its number in the file."""
        options = [(_IF_NAME, name.encode())]
        if description:
            options.append((_IF_DESCRIPTION, description.encode()))
        if mac:
            options.append((_IF_MAC, bytes.fromhex(mac.replace(":", ""))))
        options.append((_IF_TSRESOL, bytes((_NANOSECONDS,))))
        self._block(_INTERFACE, struct.pack("<HHI", _ETHERNET, 0, _NO_SNAPLEN), options)
        self._interfaces += 1
        return self._interfaces - 1

    def add_secrets(self, key_log: str) -> None:
        """Embed TLS secrets (the text of an SSLKEYLOGFILE): Wireshark decrypts the packets after this."""
        data = key_log.encode()
        self._block(_SECRETS, struct.pack("<II", _TLS_KEY_LOG, len(data)) + data)

    def add_packet(
        self,
        interface: int,
        stamp: int,
        data: bytes,
        length: int | None = None,
        *,
        outgoing: bool | None = None,
        comments: Iterable[str] = (),
    ) -> None:
        """One frame; ``stamp`` is ns since the epoch, ``length`` that on the wire where ``data`` was cut
        short.

        ``outgoing`` is seen from the interface's owner.
        """
        options = [(_COMMENT, comment.encode()) for comment in comments]
        if outgoing is not None:
            flags = _OUTBOUND if outgoing else _INBOUND
            options.append((_EPB_FLAGS, flags.to_bytes(4, "little")))
        size = len(data) if length is None else length
        head = _PACKET_HEAD.pack(interface, stamp >> 32, stamp & 0xFFFFFFFF, len(data), size)
        self._block(_PACKET, head + data, options)

    def _block(self, kind: int, body: bytes, options: Iterable[tuple[int, bytes]] = ()) -> None:
        content = _padded(body) + _options(options)
        length = (len(content) + 12).to_bytes(4, "little")
        self._file.write(kind.to_bytes(4, "little") + length + content + length)


def _options(options: Iterable[tuple[int, bytes]]) -> bytes:
    parts = [
        _OPTION.pack(code, len(value[:_MAX_OPTION])) + _padded(value[:_MAX_OPTION]) for code, value in options
    ]
    return b"".join([*parts, _END_OF_OPTIONS]) if parts else b""


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)
