"""pkarr: a DNS packet signed by the node that it describes (PROTOCOL 9.4; signature as in BEP 44).

::

    relay payload = signature 64 | timestamp 8, microseconds, big endian | DNS packet, at most 1000
"""

from __future__ import annotations

from dataclasses import dataclass

from iroh_py.errors import DiscoveryError, LocalProtocolError
from iroh_py.keys import SIGNATURE_SIZE, NodeId, SecretKey

#: The limit of a BEP 44 value in the Mainline DHT, which pkarr keeps everywhere.
MAX_DNS_PACKET = 1000

_TIMESTAMP_SIZE = 8
_HEADER_SIZE = SIGNATURE_SIZE + _TIMESTAMP_SIZE
MAX_PAYLOAD = _HEADER_SIZE + MAX_DNS_PACKET


def signable(dns_packet: bytes, timestamp_us: int) -> bytes:
    """The bytes that are signed: fragments of bencode, as BEP 44 has them."""
    return b"3:seqi%de1:v%d:" % (timestamp_us, len(dns_packet)) + dns_packet


@dataclass(frozen=True, slots=True)
class SignedPacket:
    """A DNS packet with its author, its time and the author's signature over both.

    Make one with :meth:`sign` or :meth:`from_relay_payload`; those two guarantee that the signature is right.
    ``timestamp_us`` counts microseconds since the Unix epoch.
    """

    node_id: NodeId
    signature: bytes
    timestamp_us: int
    dns_packet: bytes

    @classmethod
    def sign(cls, secret: SecretKey, dns_packet: bytes, timestamp_us: int) -> SignedPacket:
        """Sign a packet of at most 1000 bytes. A publisher never uses a timestamp twice, nor an older one.

        Raises LocalProtocolError for a packet that is too large, or a time before 1970.
        """
        if len(dns_packet) > MAX_DNS_PACKET:
            raise LocalProtocolError(
                f"a DNS packet of {len(dns_packet)} bytes; {MAX_DNS_PACKET} is the limit"
            )
        if not 0 <= timestamp_us < 1 << 64:
            raise LocalProtocolError(f"{timestamp_us} is no timestamp in microseconds")
        signature = secret.sign(signable(dns_packet, timestamp_us))
        return cls(secret.node_id, signature, timestamp_us, dns_packet)

    @classmethod
    def from_relay_payload(cls, node_id: NodeId, payload: bytes) -> SignedPacket:
        """Read and verify the body of a pkarr HTTP request or response. Raises DiscoveryError.

        The DNS packet inside is not looked at.
        """
        if not _HEADER_SIZE <= len(payload) <= MAX_PAYLOAD:
            raise DiscoveryError(f"a signed packet of {len(payload)} bytes")
        signature = payload[:SIGNATURE_SIZE]
        timestamp_us = int.from_bytes(payload[SIGNATURE_SIZE:_HEADER_SIZE], "big")
        dns_packet = payload[_HEADER_SIZE:]
        if not node_id.verify(signature, signable(dns_packet, timestamp_us)):
            raise DiscoveryError(f"the packet is not signed by {node_id.fmt_short()}")
        return cls(node_id, signature, timestamp_us, dns_packet)

    def to_relay_payload(self) -> bytes:
        """The body of a pkarr HTTP request or response."""
        return self.signature + self.timestamp_us.to_bytes(_TIMESTAMP_SIZE, "big") + self.dns_packet

    def is_newer_than(self, other: SignedPacket) -> bool:
        """Whether this packet replaces the other: a later timestamp, or at the same time the larger bytes."""
        return (self.timestamp_us, self.dns_packet) > (other.timestamp_us, other.dns_packet)
