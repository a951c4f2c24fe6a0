"""The ends of a wire in the fabric: TAPs, or where those may not be made, veths with packet sockets."""

from __future__ import annotations

import ctypes
import fcntl
import os
import socket
import struct

from netns_fixtures.addressing import mac_of
from netns_fixtures.agent.netns import NetworkNamespace
from netns_fixtures.errors import LinkEngineError
from netns_fixtures.ops import AddCable, SetLink
from netns_fixtures.wire.tap import TUN_DEVICE, open_tap

# <linux/if_packet.h>, <linux/if_ether.h>
_SOL_PACKET, _PACKET_IGNORE_OUTGOING = 263, 23
_ETH_P_ALL = 0x0003
# <linux/sockios.h>, <linux/ethtool.h>: transmit checksums by the device. Everything larger than a frame
# (TSO, UDP segmentation) needs them and goes with them.
_SIOCETHTOOL = 0x8946
_ETHTOOL_STXCSUM = 0x17
_SO_RCVBUFFORCE = 33
#: Environment variable: "packet" uses packet sockets although TAPs could be made.
FORCE = "NETNS_FIXTURES_WIRE_ENDS"
#: Room for a burst of 1000 full frames while the wire process waits for the processor, as in a TAP's queue.
_RECEIVE_BUFFER = 4 << 20


def open_end(fabric: NetworkNamespace, name: str, index: int, far_index: int, bridge: int) -> int:
    """Make the bridge port ``name`` with a descriptor at its far end that reads and writes frames.

    ``fabric`` must be entered. Raises LinkEngineError.
    """
    if os.environ.get(FORCE) == "packet":
        return open_packet_end(fabric, name, index, far_index, bridge)
    try:
        fd = open_tap(name, index)
    except (FileNotFoundError, PermissionError):
        # No TAPs in this container, or only for root: slower to make, but as good.
        return open_packet_end(fabric, name, index, far_index, bridge)
    except OSError as error:
        raise LinkEngineError(f"cannot make the TAP {name} from {TUN_DEVICE} for a wire: {error}") from None
    fabric.netlink.queue(SetLink(0, index, up=True, master=bridge))
    return fd


def open_packet_end(fabric: NetworkNamespace, name: str, index: int, far_index: int, bridge: int) -> int:
    """The end without a TAP. ``fabric`` must be entered. Raises LinkEngineError."""
    far = f"f{name}"
    fabric.netlink.queue(AddCable(0, index, name, bridge, 0, far_index, far, mac_of(far_index)), fabric.fd)
    fabric.netlink.queue(SetLink(0, far_index, up=True))
    fabric.netlink.collect()
    # Frames leave the bridge through this port into a program: complete, with checksums, one packet each.
    switch_off_checksum_offload(name)
    end = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_CLOEXEC, 0)
    try:
        end.setsockopt(_SOL_PACKET, _PACKET_IGNORE_OUTGOING, 1)
        _enlarge(end)
        end.bind((far, _ETH_P_ALL))
    except OSError as error:
        end.close()
        raise LinkEngineError(f"cannot open a packet socket for a wire: {error}") from None
    return end.detach()


def _enlarge(end: socket.socket) -> None:
    try:
        end.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _RECEIVE_BUFFER)
    except PermissionError:  # not as root: as far as net.core.rmem_max allows
        end.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER)


def switch_off_checksum_offload(name: str) -> None:
    """What leaves through this interface is complete, with checksums, one packet each; its node is entered."""
    value = ctypes.create_string_buffer(struct.pack("=II", _ETHTOOL_STXCSUM, 0))
    request = struct.pack("16sP16x", name.encode(), ctypes.addressof(value))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        fcntl.ioctl(control, _SIOCETHTOOL, request)
