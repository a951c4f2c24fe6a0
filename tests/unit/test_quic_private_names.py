"""Every private name of aioquic that iroh_py.proto.quic and .qad use exists; pyproject pins the version."""

from __future__ import annotations

import inspect
from collections.abc import Callable

import pytest
from aioquic import tls
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.congestion.cubic import CubicCongestionControl
from aioquic.quic.connection import QuicConnection
from aioquic.quic.packet_builder import QuicPacketBuilder, QuicSentPacket
from aioquic.quic.recovery import QuicPacketPacer, QuicPacketRecovery, QuicPacketSpace
from aioquic.quic.stream import QuicStream

CONNECTION = QuicConnection(configuration=QuicConfiguration(alpn_protocols=["x"]))
CONNECTION.connect(("node", 0), 0.0)
RECOVERY = CONNECTION._loss
STREAM = QuicStream(stream_id=0)


@pytest.mark.parametrize(
    "name",
    [
        "_close_at",
        "_close_begin",
        "_close_end",
        "_close_event",
        "_close_pending",
        "_crypto_streams",
        "_cryptos",
        "_datagrams_pending",
        "_events",
        "_get_or_create_stream_for_send",
        "_handle_ack_frame",
        "_handle_connection_close_frame",
        "_handle_reset_stream_frame",
        "_handshake_complete",
        "_handshake_done_pending",
        "_host_cids",
        "_initialize",
        "_is_client",
        "_local_ack_delay_exponent",
        "_local_max_data",
        "_local_max_streams_bidi",
        "_local_max_streams_uni",
        "_logger",
        "_loss",
        "_max_datagram_size",
        "_network_paths",
        "_on_ack_delivery",
        "_pacing_at",
        "_peer_cid",
        "_ping_pending",
        "_probe_pending",
        "_quic_logger",
        "_remote_max_data",
        "_remote_max_data_used",
        "_remote_max_datagram_frame_size",
        "_remote_max_streams_bidi",
        "_remote_max_streams_uni",
        "_replenish_connection_ids",
        "_retire_connection_ids",
        "_send_probe",
        "_spaces",
        "_state",
        "_stream_limit",
        "_streams",
        "_streams_blocked_bidi",
        "_streams_blocked_pending",
        "_streams_blocked_uni",
        "_streams_queue",
        "_write_ack_frame",
        "_write_application",
        "_write_connection_limits",
        "_write_crypto_frame",
        "_write_datagram_frame",
        "_write_handshake_done_frame",
        "_write_new_connection_id_frame",
        "_write_path_response_frame",
        "_write_ping_frame",
        "_write_reset_stream_frame",
        "_write_retire_connection_id_frame",
        "_write_stop_sending_frame",
        "_write_stream_frame",
        "_write_stream_limits",
        "_write_streams_blocked_frame",
        "_QuicConnection__frame_handlers",
        "_parse_transport_parameters",
        "_serialize_transport_parameters",
        "tls",
    ],
)
def test_connection_has(name: str) -> None:
    """A QuicConnection has the attribute."""
    assert hasattr(CONNECTION, name)


@pytest.mark.parametrize(
    "name",
    [
        "_cc",
        "_on_packets_lost",
        "_pacer",
        "_pto_count",
        "_rtt_initialized",
        "_rtt_latest",
        "_rtt_min",
        "_rtt_smoothed",
        "_rtt_variance",
        "get_probe_timeout",
        "handshake_confirmed",
        "spaces",
    ],
)
def test_recovery_has(name: str) -> None:
    """A QuicPacketRecovery has the attribute."""
    assert hasattr(RECOVERY, name)


@pytest.mark.parametrize(
    "name",
    [
        "_certificate_request",
        "_client_handle_certificate",
        "_client_handle_encrypted_extensions",
        "_peer_certificate",
        "_peer_certificate_chain",
        "_request_client_certificate",
        "_server_handle_certificate",
        "_server_handle_hello",
        "_set_peer_certificate",
        "_signature_algorithms",
        "_supported_groups",
        "certificate",
        "certificate_private_key",
        "handshake_extensions",
        "received_extensions",
    ],
)
def test_tls_context_has(name: str) -> None:
    """A TLS context has the attribute."""
    assert hasattr(CONNECTION.tls, name)


def test_parts_have() -> None:
    """Packet spaces, streams, the pacer and cubic have the attributes."""
    space = QuicPacketSpace()
    for name in (
        "ack_at",
        "ack_queue",
        "ack_eliciting_in_flight",
        "discarded",
        "expected_packet_number",
        "is_application_data",
        "largest_received_packet",
        "loss_time",
        "sent_packets",
    ):
        assert hasattr(space, name)
    assert hasattr(space.received_packets, "_received")
    for name in ("_buffer", "_buffer_start", "_buffer_stop", "_pending", "_reset_error_code"):
        assert hasattr(STREAM.sender, name)
    for name in ("buffer_is_empty", "highest_offset", "on_data_delivery", "reset_pending"):
        assert hasattr(STREAM.sender, name)
    for name in ("_buffer_start", "_final_size", "highest_offset", "is_finished", "stop_pending"):
        assert hasattr(STREAM.receiver, name)
    assert hasattr(QuicPacketPacer(max_datagram_size=1200), "_max_datagram_size")
    cubic = CubicCongestionControl(max_datagram_size=1200)
    for name in (
        "W_cubic",
        "_W_est",
        "_max_datagram_size",
        "_t_epoch",
        "additive_increase_factor",
        "is_reno_friendly",
        "last_ack",
        "rtt",
        "ssthresh",
    ):
        assert hasattr(cubic, name)


def test_builder_and_keys_have() -> None:
    """What the short ways in and out touch directly exists."""
    pair = CONNECTION._cryptos[tls.Epoch.INITIAL]
    builder = QuicPacketBuilder(
        host_cid=bytes(8), peer_cid=bytes(8), version=1, is_client=True, max_datagram_size=1200
    )
    for name in (
        "_buffer_capacity",
        "_datagrams",
        "_end_packet",
        "_flight_bytes",
        "_packet",
        "_packet_number",
        "_packets",
        "_total_bytes",
    ):
        assert hasattr(builder, name)
    assert hasattr(pair, "_update_key_requested")
    assert pair.send.hp is not None
    for name in ("_encryptor", "_is_chacha20", "_mask", "apply"):
        assert hasattr(pair.send.hp, name)
    assert pair.send.aead is not None
    for name in ("_aead", "_iv", "encrypt"):
        assert hasattr(pair.send.aead, name)
    for name in ("encrypt", "decrypt"):
        assert hasattr(pair.send.aead._aead, name)
    fields = list(inspect.signature(QuicSentPacket).parameters)
    assert fields[:8] == [
        "epoch",
        "in_flight",
        "is_ack_eliciting",
        "is_crypto_packet",
        "packet_number",
        "packet_type",
        "sent_time",
        "sent_bytes",
    ]
    assert fields[8:] == ["delivery_handlers", "quic_logger_frames"]


def test_overridden_methods_keep_their_parameters() -> None:
    """What we override is still called the way we expect."""
    parameters: dict[Callable[..., object], list[str]] = {
        QuicConnection._write_application: ["self", "builder", "network_path", "now"],
        QuicConnection._write_connection_limits: ["self", "builder", "space"],
        QuicConnection._write_stream_limits: ["self", "builder", "space", "stream"],
        QuicConnection._handle_reset_stream_frame: ["self", "context", "frame_type", "buf"],
        QuicConnection._initialize: ["self", "peer_cid"],
        QuicConnection._flush_builder: ["self", "builder", "network_path", "peer_cid", "now"],
        QuicConnection._payload_received: ["self", "context", "plain", "crypto_frame_required"],
        QuicConnection.receive_datagram: ["self", "data", "addr", "now"],
        CubicCongestionControl.on_packet_sent: ["self", "packet"],
        CubicCongestionControl.on_packet_acked: ["self", "now", "packet"],
        CubicCongestionControl.on_packets_lost: ["self", "now", "packets"],
        QuicPacketRecovery.on_loss_detection_timeout: ["self", "now"],
        QuicPacketRecovery.on_ack_received: ["self", "ack_rangeset", "ack_delay", "now", "space"],
        tls.Context._server_handle_hello: ["self", "input_buf", "initial_buf", "handshake_buf"],
        tls.Context._set_peer_certificate: ["self", "certificate"],
    }
    for function, names in parameters.items():
        assert list(inspect.signature(function).parameters) == names
