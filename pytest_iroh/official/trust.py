"""Which built-in root certificate of the official bindings a lab's authority stands in for.

They trust Mozilla's roots, compiled in, and take no others; QUIC address discovery (1.x) and HTTPS relays need a
certificate that they trust. The runner puts the authority's name and key in the place of this root's, in its own
memory: see ``runner/trust.py``. A root with a P-256 key, for it has to be as long as the authority's.
"""

from __future__ import annotations

from typing import Protocol

from iroh_py.network import Addr
from iroh_py.relay import STUN_PORT
from pytest_iroh.ca import CertificateAuthority
from pytest_iroh.official.relay_names import BUILT_IN_RELAYS


class OfficialRelay(Protocol):
    """What is needed of a relay that an official node is to use; ``RunningRelay`` has it."""

    @property
    def url(self) -> object: ...

    @property
    def token(self) -> str | None: ...

    @property
    def stun_addr(self) -> Addr | None: ...

    @property
    def quic_port(self) -> int | None: ...

    @property
    def authority(self) -> CertificateAuthority | None: ...


#: "C=US, O=Amazon, CN=Amazon Root CA 3" in DER without its outer SEQUENCE, as webpki keeps it. In Mozilla's list
#: since 2015, valid until 2040; 0.28.1, 0.35.0 and 1.2.0 have it.
ROOT_SUBJECT = bytes.fromhex(
    "310b3009060355040613025553310f300d060355040a1306416d617a6f6e3119301706035504031310416d617a6f6e20526f6f742043412033"
)
#: Its public key: the point of P-256, uncompressed.
ROOT_KEY = bytes.fromhex(
    "042997a7c6417fc00d9be8011b56c6f252a5ba2db212e8d22ed7fac9c5d8aa6d1f"
    "73813b3b986b397c33a5c54e868e8017686245577d44581db337e56708eb66de"
)


def stand_in(authority: CertificateAuthority) -> list[tuple[str, str]]:
    """What the runner has to replace by what, in hex."""
    pairs = ((ROOT_SUBJECT, authority.subject), (ROOT_KEY, authority.public_point))
    return [(old.hex(), new.hex()) for old, new in pairs]


def stand_in_names(relay: OfficialRelay) -> dict[str, str]:
    """Where the relays that 0.x has built in are to be found: at this relay, if it answers STUN at their port."""
    addr = relay.stun_addr
    if addr is None or addr[1] != STUN_PORT:
        return {}
    return dict.fromkeys(BUILT_IN_RELAYS, addr[0])
