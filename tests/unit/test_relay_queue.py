"""The queue of datagrams in front of a relay connection."""

from __future__ import annotations

from iroh_py.io.relay_queue import MAX_BYTES, MAX_DATAGRAMS, DatagramQueue
from iroh_py.proto.disco import MAGIC

_A, _B = b"a" * 32, b"b" * 32
_DISCO = MAGIC + bytes(60)


def test_neighbours_for_one_node_travel_together() -> None:
    """Batches for the same node are joined, order between nodes is kept."""
    queue = DatagramQueue()
    queue.put(0.0, _A, [b"1"])
    queue.put(0.0, _A, [b"2", b"3"])
    queue.put(0.0, _B, [b"4"])
    queue.put(0.0, _A, [b"5"])
    assert queue.take(0.0, 1000) == [(_A, [b"1", b"2", b"3"]), (_B, [b"4"]), (_A, [b"5"])]
    assert len(queue) == 0


def test_taking_stops_at_the_size_asked_for() -> None:
    """One write is bounded, but always makes progress."""
    queue = DatagramQueue()
    for _ in range(3):
        queue.put(0.0, _A, [bytes(100)])
    assert queue.take(0.0, 150) == [(_A, [bytes(100)] * 2)]
    assert queue.take(0.0, 1) == [(_A, [bytes(100)])]


def test_full_queue_drops_the_oldest_and_counts() -> None:
    """Fresh datagrams are worth more than old ones."""
    queue = DatagramQueue()
    for number in range(MAX_DATAGRAMS + 5):
        queue.put(0.0, _A, [number.to_bytes(2, "big")])
    assert len(queue) == MAX_DATAGRAMS
    assert queue.dropped == 5
    [(_, datagrams)] = queue.take(0.0, MAX_BYTES)
    assert datagrams[0] == (5).to_bytes(2, "big")


def test_queue_is_bounded_in_bytes_too() -> None:
    """Large datagrams do not make a large queue."""
    queue = DatagramQueue()
    for _ in range(40):
        queue.put(0.0, _A, [bytes(60_000)])
    assert len(queue) * 60_000 <= MAX_BYTES
    assert queue.dropped == 40 - len(queue)


def test_unconfirmed_datagrams_are_sent_again_before_new_ones() -> None:
    """What the old connection may have swallowed comes first on the new one."""
    queue = DatagramQueue()
    queue.put(10.0, _A, [b"arrived"])
    queue.take(10.0, 1000)
    queue.put(11.0, _A, [b"lost"])
    queue.take(11.0, 1000)
    queue.put(11.5, _A, [b"new"])
    queue.requeue(12.0, since=10.5)
    assert queue.take(12.0, 1000) == [(_A, [b"lost", b"new"])]


def test_old_datagrams_are_not_sent_again() -> None:
    """After three seconds QUIC has sent its own copy."""
    queue = DatagramQueue()
    queue.put(10.0, _A, [b"sent"])
    queue.take(10.0, 1000)
    queue.put(10.1, _A, [b"waiting"])
    queue.requeue(13.5, since=0.0)
    assert queue.take(13.5, 1000) == []
    assert queue.dropped == 1


def test_network_change_forgets_disco_but_not_quic() -> None:
    """Old disco messages would tell peers addresses that are gone."""
    queue = DatagramQueue()
    queue.put(0.0, _A, [_DISCO, b"sent"])
    queue.take(0.0, 1000)
    queue.put(0.0, _A, [b"waiting", _DISCO])
    queue.put(0.0, _B, [_DISCO])
    queue.forget_disco()
    queue.requeue(0.1, since=0.0)
    assert queue.take(0.1, 1000) == [(_A, [b"sent", b"waiting"])]
    assert len(queue) == 0
