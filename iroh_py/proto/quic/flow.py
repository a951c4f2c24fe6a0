"""Receive credit: what the peer may send is what the application has read, plus a window.

aioquic raises its limits by what arrives, so that a slow reader is flooded (measured: 26 MB accepted unread
with a window of 1 MiB). Here ``consume`` raises them, and never more than the windows is unread.
"""

from __future__ import annotations

from aioquic._buffer import Buffer
from aioquic.quic.connection import QuicReceiveContext
from aioquic.quic.packet_builder import QuicPacketBuilder
from aioquic.quic.recovery import QuicPacketSpace
from aioquic.quic.stream import QuicStream

from iroh_py.proto.quic.echo import EcnEcho

#: Flow control is raised when this part of the window was read: more often costs packets, less often stalls.
UPDATE_FRACTION = 4


class FlowControl(EcnEcho):
    """A connection that grants credit by consumption, for bytes and for streams of the peer."""

    _stream_window: int
    _connection_window: int
    _consumed: int
    _stream_consumed: dict[int, int]

    def consume(self, stream_id: int, size: int) -> None:
        """The application has read ``size`` bytes of this stream."""
        self._consumed += size
        stream = self._streams.get(stream_id)
        if stream is None or stream.receiver.is_finished:
            return
        consumed = self._stream_consumed.get(stream_id, 0) + size
        self._stream_consumed[stream_id] = consumed
        window = self._stream_window
        if consumed + window - stream.max_stream_data_local >= window // UPDATE_FRACTION:
            stream.max_stream_data_local = consumed + window

    def hold_stream(self, stream_id: int) -> None:
        """See ``Session.hold_stream``."""
        self._held_streams.add(stream_id)

    def release_stream(self, stream_id: int) -> None:
        """See ``Session.release_stream``."""
        self._held_streams.discard(stream_id)
        if stream_id in self._owed_streams:
            self._owed_streams.remove(stream_id)
            self._stream_limit(stream_id).value += 1

    def _write_connection_limits(self, builder: QuicPacketBuilder, space: QuicPacketSpace) -> None:
        window, limit = self._connection_window, self._local_max_data
        if self._consumed + window - limit.value >= window // UPDATE_FRACTION:
            limit.value = self._consumed + window
        # The inherited method doubles max_data once more than half of it arrived; hide that from it.
        used, limit.used = limit.used, 0
        try:
            super()._write_connection_limits(builder=builder, space=space)
        finally:
            limit.used = used

    def _write_stream_limits(
        self, builder: QuicPacketBuilder, space: QuicPacketSpace, stream: QuicStream
    ) -> None:
        if stream.max_stream_data_local == stream.max_stream_data_local_sent:
            return
        receiver = stream.receiver
        if receiver.is_finished:
            stream.max_stream_data_local_sent = stream.max_stream_data_local
            return
        # As above: by itself it would double the limit.
        highest, receiver.highest_offset = receiver.highest_offset, 0
        try:
            super()._write_stream_limits(builder=builder, space=space, stream=stream)
        finally:
            receiver.highest_offset = highest

    def _handle_reset_stream_frame(self, context: QuicReceiveContext, frame_type: int, buf: Buffer) -> None:
        start = buf.tell()
        stream_id = buf.pull_uint_var()
        buf.seek(start)
        stream = self._streams.get(stream_id)
        finished = stream is not None and stream.receiver.is_finished
        super()._handle_reset_stream_frame(context, frame_type, buf)
        stream = self._streams.get(stream_id)
        if stream is not None and not finished:
            # Nobody will ever read what was not handed out before the reset.
            self._consumed += stream.receiver.highest_offset - stream.receiver.starting_offset()
            self._stream_consumed.pop(stream_id, None)

    def _discard_stream(self, stream: QuicStream) -> None:
        super()._discard_stream(stream)
        self._stream_consumed.pop(stream.stream_id or 0, None)
