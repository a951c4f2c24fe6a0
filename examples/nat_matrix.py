"""Which pairs of NATs can two plain UDP sockets punch through? Tried on a kernel, not looked up.

Names of other presets may follow: open address-restricted symmetric.

$ python examples/nat_matrix.py
              none      open  moderate    strict     cgnat
    none       yes       yes       yes       yes       yes
    open       yes       yes       yes       yes       yes
moderate       yes       yes       yes        no       yes
  strict       yes       yes        no        no        no
   cgnat       yes       yes       yes        no       yes
"""

import select
import socket
import sys

from netns_fixtures import Host, Lab, NatKind


def udp(host: Host) -> socket.socket:
    sock = host.socket(socket.AF_INET, socket.SOCK_DGRAM)  # a real socket, in the host's network
    sock.bind(("0.0.0.0", 7000))
    return sock


def punch(left: Host, right: Host, server: Host) -> str:
    """Both learn their outside addresses from a server, as with STUN, and send to the other's."""
    with udp(left) as a, udp(right) as b, udp(server) as stun:
        outside = []
        for sock in (a, b):
            sock.sendto(b"who am I?", (server.ip, 7000))
            outside.append(stun.recvfrom(100)[1])
        for _ in range(2):  # the first packet may do no more than open the sender's own NAT
            a.sendto(b"hello", outside[1])
            b.sendto(b"hello", outside[0])
        heard: set[socket.socket] = set()
        while len(heard) < 2:
            ready = select.select([a, b], [], [], 0.1)[0]  # the lab is one machine: 0.1 s is long
            if not ready:
                return "no"
            for sock in ready:  # answer to where it came from: not always what the server saw
                sock.sendto(b"hello yourself", sock.recvfrom(100)[1])
            heard.update(ready)
    return "yes"


kinds = sys.argv[1:] or list(NatKind)
width = max(map(len, kinds))
cell = max(9, width)
with Lab("matrix") as lab:
    server = lab.host("server", uplink=lab.router("centre"))
    left = {kind: lab.host(f"left-{kind}", uplink=lab.router(f"l-{kind}", nat=kind)) for kind in kinds}
    right = {kind: lab.host(f"right-{kind}", uplink=lab.router(f"r-{kind}", nat=kind)) for kind in kinds}
    print(" " * width, *(f"{kind:>{cell}}" for kind in kinds))
    for kind, host in left.items():
        print(f"{kind:>{width}}", *(f"{punch(host, other, server):>{cell}}" for other in right.values()))
