"""What nodes and their interfaces may be called. Pure."""

from __future__ import annotations

from netns_fixtures.errors import TopologyError

#: The kernel's limit for interface names (IFNAMSIZ - 1).
MAX_INTERFACE_NAME = 15
#: A node is a label in DNS (RFC 1035, 2.3.4), and a part of file names.
MAX_NODE_NAME = 63


def check_node_name(name: str) -> None:
    """Raise TopologyError for what is no word: names stand in messages, files and addresses."""
    if not name or not isinstance(name, str) or any(c.isspace() or c == "/" for c in name):
        raise TopologyError(f"{name!r} is no name for a node: use a word without spaces and slashes")
    if len(name.encode(errors="surrogatepass")) > MAX_NODE_NAME:
        raise TopologyError(f"{name!r} is longer than the {MAX_NODE_NAME} bytes that a name in DNS can have")


def check_interface_name(name: str) -> None:
    """Raise TopologyError for what the kernel would refuse, or has already."""
    if not 0 < len(name) <= MAX_INTERFACE_NAME or any(c.isspace() or c in "/:" for c in name) or name == "lo":
        raise TopologyError(
            f"{name!r} is no interface name: 1 to {MAX_INTERFACE_NAME} characters, no space, '/' or ':'"
        )
