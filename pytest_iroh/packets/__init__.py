"""Assertions about packets, and decoders for what iroh sends.

::

    from pytest_iroh.packets import assert_no_packet, assert_packet, capture

    with capture(laptop) as packets:
        ...
    assert_packet(packets, "disco.ping and dst host 203.0.113.10")
    assert_no_packet(packets, lambda p: Disco in p and p[Disco].sender == stranger.raw)

The layers (``Disco``, ``DiscoPing``, ..., ``RelayFrame``) are scapy's. Everything is imported at its first
use: scapy takes a second, and a filter written as text needs none of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_iroh.lazy import found_lazily

if TYPE_CHECKING:
    from netns_fixtures.capture import Capture as Capture
    from netns_fixtures.recording import record as record
    from netns_fixtures.tap import Frame as Frame
    from pytest_iroh.packets.assertion import PacketAssertionError as PacketAssertionError
    from pytest_iroh.packets.assertion import assert_no_packet as assert_no_packet
    from pytest_iroh.packets.assertion import assert_packet as assert_packet
    from pytest_iroh.packets.assertion import find as find
    from pytest_iroh.packets.dissection import capture as capture
    from pytest_iroh.packets.dissection import dissect as dissect
    from pytest_iroh.packets.expression import FilterError as FilterError
    from pytest_iroh.packets.expression import compile_filter as compile_filter
    from pytest_iroh.packets.keyring import Keyring as Keyring
    from pytest_iroh.packets.keyring import register_keys as register_keys
    from pytest_iroh.packets.layers import Disco as Disco
    from pytest_iroh.packets.layers import DiscoCallMeMaybe as DiscoCallMeMaybe
    from pytest_iroh.packets.layers import DiscoPing as DiscoPing
    from pytest_iroh.packets.layers import DiscoPong as DiscoPong
    from pytest_iroh.packets.layers import RelayFrame as RelayFrame
    from pytest_iroh.packets.layers import RelayFrameV1 as RelayFrameV1
    from pytest_iroh.packets.layers import Stun as Stun
    from pytest_iroh.packets.notes import annotate as annotate
    from pytest_iroh.packets.relay import RelayMessage as RelayMessage
    from pytest_iroh.packets.relay import relay_messages as relay_messages
    from pytest_iroh.packets.views import View as View
    from pytest_iroh.packets.views import view as view

_HOMES = {
    "Capture": "netns_fixtures.capture",
    "Disco": "pytest_iroh.packets.layers",
    "DiscoCallMeMaybe": "pytest_iroh.packets.layers",
    "DiscoPing": "pytest_iroh.packets.layers",
    "DiscoPong": "pytest_iroh.packets.layers",
    "FilterError": "pytest_iroh.packets.expression",
    "Frame": "netns_fixtures.tap",
    "Keyring": "pytest_iroh.packets.keyring",
    "PacketAssertionError": "pytest_iroh.packets.assertion",
    "RelayFrame": "pytest_iroh.packets.layers",
    "RelayFrameV1": "pytest_iroh.packets.layers",
    "RelayMessage": "pytest_iroh.packets.relay",
    "Stun": "pytest_iroh.packets.layers",
    "View": "pytest_iroh.packets.views",
    "annotate": "pytest_iroh.packets.notes",
    "assert_no_packet": "pytest_iroh.packets.assertion",
    "assert_packet": "pytest_iroh.packets.assertion",
    "capture": "pytest_iroh.packets.dissection",
    "compile_filter": "pytest_iroh.packets.expression",
    "dissect": "pytest_iroh.packets.dissection",
    "find": "pytest_iroh.packets.assertion",
    "record": "netns_fixtures.recording",
    "register_keys": "pytest_iroh.packets.keyring",
    "relay_messages": "pytest_iroh.packets.relay",
    "view": "pytest_iroh.packets.views",
}

__all__ = sorted(_HOMES)  # noqa: PLE0605 - the list is the keys above

__getattr__ = found_lazily(__name__, _HOMES)


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
