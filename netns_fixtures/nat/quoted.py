"""ICMP errors quote the packet that they are about: rules that find its mapping in the quotation. Pure text.

An error comes to the outside address, and begins with the quoted IP header, 8 bytes into the ICMP message
(RFC 792). Its first byte says how long it is; with options the ports come later (RFC 5508 section 4.2).
"""

from __future__ import annotations

from collections.abc import Callable

from netns_fixtures.nat.text import WAN, called

#: Errors about a packet; echo replies and the like have flows of their own.
_ERRORS = "{ destination-unreachable, time-exceeded, parameter-problem }"
_PROTOCOLS = {"udp": 17, "tcp": 6}
#: 32-bit words of an IPv4 header: without options, and with as many as there can be.
_PLAIN, _LONGEST = 5, 15

#: An outside end in the words of a map's key: address and port, or the port.
At = Callable[[str, str], str]


def error_rules(protocol: str, errors: str, at: At, options: str) -> list[str]:
    """Before connection tracking: an error belongs into the zone of the packet that it quotes."""
    here = f'iifname "{WAN}" icmp type {_ERRORS} @th,136,8 {_PROTOCOLS[protocol]}'
    return [
        f"{here} @th,64,8 {_version_and_length(_PLAIN)} {_zone(_PLAIN, errors, at)}",
        f"{here} jump {options}_in",
    ]


def option_chains(options: str, errors: str, at: At) -> list[str]:
    """What is jumped to with longer IP headers: of a quoted packet, and of one that leaves and may be quoted."""
    longer = range(_PLAIN + 1, _LONGEST + 1)
    return [
        called(
            f"{options}_in",
            *(f"@th,64,8 {_version_and_length(words)} {_zone(words, errors, at)}" for words in longer),
        ),
        called(
            f"{options}_out",
            *(
                f"ip hdrlength {words} {_delete(words, errors, at)} add @{errors} {{ {_own(words, at)} : ct zone }}"
                for words in longer
            ),
        ),
    ]


def enter_error_rules(grow: str, errors: str, at: At, options: str) -> list[str]:
    """After translation: whose zone an error about this packet is."""
    return [enter_plain(grow, errors, at), f"ip hdrlength > {_PLAIN} jump {options}_out"]


def enter_plain(grow: str, errors: str, at: At) -> str:
    """The same of packets without options, as the beginning of a rule."""
    return f"ip hdrlength {_PLAIN} {grow} @{errors} {{ {_own(_PLAIN, at)} : ct zone }}"


def delete_error(errors: str, at: At) -> str:
    """Forget whose it was: a map's element is not changed by another, only added."""
    return _delete(_PLAIN, errors, at)


def _delete(words: int, errors: str, at: At) -> str:
    return f"delete @{errors} {{ {_own(words, at)} : ct zone }}"


def _own(words: int, at: At) -> str:
    # The source port as a bare number, as the quoted one is: nft compares types, too.
    return at("ip saddr", f"@nh,{32 * words},16")


def _zone(words: int, errors: str, at: At) -> str:
    return f"ct zone set {at('ip daddr', f'@th,{64 + 32 * words},16')} map @{errors} accept"


def _version_and_length(words: int) -> str:
    return f"{0x40 | words:#x}"
