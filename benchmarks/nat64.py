"""How many packets per second a lab's NAT64 translates, each way: UDP of 1200 bytes, as fast as it takes them.

``python benchmarks/nat64.py [SECONDS]`` prints one line per direction, and what translating costs by itself.
"""

from __future__ import annotations

import socket
import sys
import time

from netns_fixtures import Host, Lab
from netns_fixtures.nat64.clients import Clients
from netns_fixtures.nat64.plan import POOL, PREFIX
from netns_fixtures.nat64.translator import Translator

SIZE = 1200
PORT = 7000


def flood(ip: str, port: int, local: int, seconds: float) -> int:
    """Send until the time is up; runs in a host."""
    family = socket.AF_INET6 if ":" in ip else socket.AF_INET
    data, count, end = bytes(SIZE), 0, time.monotonic() + seconds
    with socket.socket(family, socket.SOCK_DGRAM) as sock:
        sock.bind(("", local))
        while time.monotonic() < end:
            for _ in range(64):
                sock.sendto(data, (ip, port))
                count += 1
    return count


def measure(sender: Host, receiver: socket.socket, ip: str, port: int, local: int, seconds: float) -> float:
    """Packets per second that arrive while somebody floods."""
    receiver.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
    receiver.settimeout(10)  # a new Python, on a busy machine
    argv = [sys.executable, __file__, "--flood", ip, str(port), str(local), str(seconds)]
    process = sender.popen(argv)
    receiver.recv(2000)
    receiver.settimeout(0.5)
    began, count = time.monotonic(), 0
    while True:
        try:
            receiver.recv(2000)
        except TimeoutError:
            break
        count += 1
    process.check(10)
    return count / (time.monotonic() - began - 0.5)


def translate_alone(count: int = 100_000) -> float:
    """Packets per second without a kernel."""
    translator = Translator(PREFIX, Clients(POOL))
    head = bytes.fromhex("60000000") + (SIZE + 8).to_bytes(2, "big") + b"\x11\x40"
    source = socket.inet_pton(socket.AF_INET6, "2001:db8:1::a")
    destination = socket.inet_pton(socket.AF_INET6, "64:ff9b::198.18.1.10")
    udp = b"\x10\0\x20\0" + (SIZE + 8).to_bytes(2, "big") + b"\xab\xcd"
    packet = head + source + destination + udp + bytes(SIZE)
    began = time.perf_counter()
    for _ in range(count):
        translator.translate(0.0, packet)
    return count / (time.perf_counter() - began)


def main(seconds: float) -> None:
    """Both directions."""
    with Lab() as lab:
        isp = lab.router("isp", family="v6", nat64=True)
        phone = lab.host("phone", uplink=isp)
        server = lab.host("server", uplink=lab.router("centre", family="v4"))
        assert isp.nat64
        there, here = (
            server.socket(socket.AF_INET, socket.SOCK_DGRAM),
            phone.socket(socket.AF_INET6, socket.SOCK_DGRAM),
        )
        with there, here:
            there.bind(("", PORT))
            here.bind(("", 0))
            server6 = isp.nat64.address(server.ip)
            print(f"out  {measure(phone, there, server6, PORT, 0, seconds):8.0f} packets/s")
            here.sendto(b"x", (server6, PORT + 1))
            here.sendto(b"x", (server6, PORT))
            there.settimeout(5)
            seen = there.recvfrom(2000)[1]
            while seen[1] != here.getsockname()[1]:
                seen = there.recvfrom(2000)[1]
            print(f"in   {measure(server, here, seen[0], seen[1], PORT + 1, seconds):8.0f} packets/s")
    print(f"pure {translate_alone():8.0f} packets/s")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--flood"]:
        print(flood(sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), float(sys.argv[5])))
    else:
        main(float(sys.argv[1]) if len(sys.argv) > 1 else 2.0)
