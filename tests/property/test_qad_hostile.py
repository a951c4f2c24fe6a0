"""Address discovery under any bytes: values or the protocol error, and a server that goes on."""

from __future__ import annotations

import functools
import random

from aioquic._buffer import Buffer
from hypothesis import given
from hypothesis import strategies as st

from iroh_py.errors import RemoteProtocolError
from iroh_py.proto.qad import QadClient, QadIdentity, QadServer
from iroh_py.proto.qad.server import Source
from iroh_py.proto.qad.wire import OBSERVED_V4, OBSERVED_V6, Role, encode_observed, find_role, pull_observed
from pytest_iroh.ca import CertificateAuthority

_SOURCE = Source("192.0.2.7", 4433)


@functools.cache
def _identity() -> QadIdentity:
    return QadIdentity.from_pem(*CertificateAuthority().issue_pem(["relay.test"]))


@given(st.binary(max_size=64))
def test_any_parameters_give_a_role_or_the_peers_error(data: bytes) -> None:
    """Other parameters are somebody else's business."""
    try:
        assert find_role(data) in {None, *Role}
    except RemoteProtocolError:
        pass


@given(st.binary(max_size=40), st.sampled_from([OBSERVED_V4, OBSERVED_V6]))
def test_any_frame_gives_an_address_or_ends_early(data: bytes, kind: int) -> None:
    """What is read back is what was sent."""
    try:
        sequence, addr = pull_observed(Buffer(data=data), kind)
    except ValueError:
        return
    again = Buffer(data=encode_observed(sequence, addr))
    assert pull_observed(again, again.pull_uint_var()) == (sequence, addr)


@given(st.lists(st.binary(max_size=1300), max_size=5))
def test_server_takes_any_datagrams(datagrams: list[bytes]) -> None:
    """None of them becomes a client."""
    server = QadServer(_identity(), rng=random.Random(1))
    for data in datagrams:
        server.receive(0.0, data, _SOURCE)
    server.handle_timeout(100.0)
    assert len(server) == 0
    assert server.transmit() == []


@given(st.integers(0, 2**32), st.data())
def test_server_outlives_a_client_that_sends_it_anything(seed: int, data: st.DataObject) -> None:
    """Genuine packets with changed bytes, cut, doubled and out of order, at every stage of a connection."""
    server = QadServer(_identity(), rng=random.Random(seed))
    client = QadClient(0.0, ("198.51.100.1", 7842), "relay.test", verify=False)
    for step in range(4):
        now = step * 0.3
        client.handle_timeout(now)
        for packet in client.transmit(now):
            at = data.draw(st.integers(0, len(packet) - 1))
            changed = packet[:at] + data.draw(st.binary(max_size=4)) + packet[at:]
            for one in data.draw(st.permutations([packet, changed[: len(packet)], packet])):
                server.receive(now, one, _SOURCE)
        server.handle_timeout(now)
        for answer in server.transmit():
            client.receive(now, answer.data)
    assert len(server) <= 1
