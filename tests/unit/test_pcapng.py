"""The pcapng writer, read back by scapy and (where installed) by Wireshark's own tools."""

from __future__ import annotations

import io
import subprocess
from pathlib import Path
from typing import Any

from programs import needs
from scapy.utils import RawPcapNgReader

from netns_fixtures.pcapng import PcapngWriter

STAMP = 1_795_360_399_618_203_531
FRAME = bytes(range(64))


def write(path: Path, *, key_log: str = "") -> None:
    with path.open("wb") as file:
        writer = PcapngWriter(file, "seed 7")
        if key_log:
            writer.add_secrets(key_log)
        first = writer.add_interface("laptop-eth0", "laptop eth0", "02:00:00:00:00:01")
        second = writer.add_interface("home-wan")
        writer.add_packet(
            first, STAMP, FRAME, outgoing=True, comments=["laptop replugged home → hotspot", "two"]
        )
        writer.add_packet(second, STAMP + 1, FRAME[:61], 1500, outgoing=False)


def test_scapy_reads_frames_stamps_and_comments(tmp_path: Path) -> None:
    """Data, nanoseconds, length on the wire, direction and comments come back as written."""
    path = tmp_path / "a.pcapng"
    write(path)
    with RawPcapNgReader(str(path)) as reader:
        frames: list[Any] = list(reader)
    (data, first), (cut, second) = frames
    assert data == FRAME
    assert first.tshigh << 32 | first.tslow == STAMP
    assert first.tsresol == 10**9
    assert first.ifname == b"laptop-eth0"
    assert first.direction == 2
    comments = getattr(first, "comments", None) or [first.comment]
    assert comments[0].decode() == "laptop replugged home → hotspot"
    assert cut == FRAME[:61]
    assert second.wirelen == 1500
    assert second.ifname == b"home-wan"


def test_every_block_repeats_its_length_at_both_ends() -> None:
    """Readers walk backwards by the second length, and every block is a multiple of 4 bytes."""
    file = io.BytesIO()
    writer = PcapngWriter(file)
    number = writer.add_interface("x")
    for size in range(9):
        writer.add_packet(number, STAMP, bytes(size))
    data = file.getvalue()
    blocks = 0
    while data:
        length = int.from_bytes(data[4:8], "little")
        assert length % 4 == 0
        assert data[length - 4 : length] == data[4:8]
        data, blocks = data[length:], blocks + 1
    assert blocks == 2 + 9


def test_a_comment_that_is_too_long_is_cut(tmp_path: Path) -> None:
    """An option's length has 16 bits; a longer comment must not shift what follows."""
    path = tmp_path / "a.pcapng"
    with path.open("wb") as file:
        writer = PcapngWriter(file)
        number = writer.add_interface("x")
        writer.add_packet(number, STAMP, FRAME, comments=["y" * 70_000])
        writer.add_packet(number, STAMP, FRAME)
    with RawPcapNgReader(str(path)) as reader:
        assert [data for data, _meta in reader] == [FRAME, FRAME]


@needs("tshark", "tshark")
def test_wireshark_opens_the_file(tmp_path: Path) -> None:
    """tshark reads comments, interface names, directions and embedded TLS secrets."""
    path = tmp_path / "a.pcapng"
    write(path, key_log=f"CLIENT_RANDOM {'ab' * 32} {'cd' * 48}\n")
    fields = ["frame.interface_name", "frame.comment", "frame.len", "frame.packet_flags_direction"]
    argv = ["tshark", "-r", str(path), "-T", "fields", *(word for name in fields for word in ("-e", name))]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=True)
    first, second = done.stdout.splitlines()
    assert first.startswith("laptop-eth0\tlaptop replugged home → hotspot,two\t64\t")
    assert second.startswith("home-wan\t\t1500\t")
    infos = subprocess.run(["capinfos", str(path)], capture_output=True, text=True, timeout=60, check=True)
    assert "Number of decryption secrets in file: 1" in infos.stdout
    assert "seed 7" in infos.stdout
