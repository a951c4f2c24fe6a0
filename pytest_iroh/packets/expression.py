"""Filters as text, in the manner of tcpdump.

::

    udp and dst port 3478            src host 192.168.1.10 or src net 10.0.0.0/8
    disco.ping outgoing              tcp and not (port 80 or port 443)
    quic and len > 1200              arp on laptop

Words: ip ip6 arp icmp icmp6 tcp udp quic, disco disco.ping disco.pong disco.call-me-maybe (these need the
keys, see ``register_keys``), stun stun.request stun.response, incoming outgoing; [src|dst] host ADDRESS,
[src|dst] net NETWORK, [src|dst] port NUMBER; on NODE or on INTERFACE; len with < <= = >= >; and or not ( ).
Two conditions side by side mean "and".
"""

from __future__ import annotations

import ipaddress
import operator
import re
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import NoReturn

from netns_fixtures.tap import Frame
from pytest_iroh.packets.keyring import KEYRING
from pytest_iroh.packets.views import View, view

Test = Callable[[Frame, View], bool]

_TOKEN = re.compile(r"\s*(<=|>=|[<>=()]|[^\s<>=()]+)")
#: A filter is written by a person.
MAX_LENGTH = 10_000
_MAX_DEPTH = 50

_OPERATORS: dict[str, Callable[[int, int], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    "=": operator.eq,
    ">=": operator.ge,
    ">": operator.gt,
}


def _disco_kind(kind: int) -> Test:
    def test(_frame: Frame, seen: View) -> bool:
        if seen.content != "disco":
            return False
        plaintext = KEYRING.open(seen.payload)
        return plaintext is not None and plaintext[0] == kind

    return test


def _stun_kind(first: int) -> Test:
    return lambda _frame, seen: seen.content == "stun" and seen.payload[0] == first


_WORDS: dict[str, Test] = {
    "ip": lambda _frame, seen: seen.version == 4,
    "ip6": lambda _frame, seen: seen.version == 6,
    **{
        name: (lambda _frame, seen, name=name: seen.protocol == name)  # type: ignore[misc]
        for name in ("arp", "icmp", "icmp6", "tcp", "udp")
    },
    **{
        name: (lambda _frame, seen, name=name: seen.content == name)  # type: ignore[misc]
        for name in ("disco", "stun", "quic")
    },
    "disco.ping": _disco_kind(1),
    "disco.pong": _disco_kind(2),
    "disco.call-me-maybe": _disco_kind(3),
    "stun.request": _stun_kind(0),
    "stun.response": _stun_kind(1),
    "incoming": lambda frame, _seen: not frame.outgoing,
    "outgoing": lambda frame, _seen: frame.outgoing,
}
_QUALIFIED = ("host", "net", "port")
_STARTS = frozenset((*_WORDS, *_QUALIFIED, "src", "dst", "on", "len", "not", "("))


class FilterError(ValueError):
    """A filter that cannot be understood; the message shows where, and what could stand there."""


@lru_cache(maxsize=256)
def compile_filter(text: str) -> Callable[[Frame], bool]:
    """The filter as a function of a frame. Raises FilterError."""
    test = _Parser(text).parse()
    return lambda frame: test(frame, view(frame.data))


class _Parser:
    """Recursive descent: or, and, not, primitive."""

    def __init__(self, text: str) -> None:
        self._text = text
        if len(text) > MAX_LENGTH:
            raise FilterError(f"a filter of {len(text)} characters is longer than {MAX_LENGTH}")
        found = [(match.group(1), match.start(1)) for match in _TOKEN.finditer(text)]
        self._tokens: Sequence[tuple[str, int]] = found
        self._next = 0
        self._depth = 0

    def parse(self) -> Test:
        test = self._any()
        if self._peek():
            self._fail("'and', 'or' or the end")
        return test

    def _any(self) -> Test:
        tests = [self._all()]
        while self._peek() == "or":
            self._take()
            tests.append(self._all())
        if len(tests) == 1:
            return tests[0]
        return lambda frame, seen: any(test(frame, seen) for test in tests)

    def _all(self) -> Test:
        tests = [self._not()]
        while self._peek() == "and" or self._peek() in _STARTS:
            if self._peek() == "and":
                self._take()
            tests.append(self._not())
        if len(tests) == 1:
            return tests[0]
        return lambda frame, seen: all(test(frame, seen) for test in tests)

    def _not(self) -> Test:
        self._depth += 1
        if self._depth > _MAX_DEPTH:
            raise FilterError(f"a filter is nested {_MAX_DEPTH} deep at most")
        try:
            if self._peek() == "not":
                self._take()
                inner = self._not()
                return lambda frame, seen: not inner(frame, seen)
            if self._peek() == "(":
                self._take()
                inner = self._any()
                if self._peek() != ")":
                    self._fail("')'")
                self._take()
                return inner
            return self._primitive()
        finally:
            self._depth -= 1

    def _primitive(self) -> Test:
        word = self._peek()
        if word in _WORDS:
            self._take()
            return _WORDS[word]
        if word in ("src", "dst"):
            self._take()
            if self._peek() not in _QUALIFIED:
                self._fail("'host', 'net' or 'port'")
            return self._qualified(word)
        if word in _QUALIFIED:
            return self._qualified("")
        if word == "on":
            self._take()
            place = self._take() or self._fail("a node or an interface")
            return lambda frame, _seen: place in (frame.node, frame.interface)
        if word == "len":
            self._take()
            return self._length()
        self._fail("a condition: " + " ".join((*_WORDS, "src", "dst", *_QUALIFIED, "on", "len", "not")))

    def _qualified(self, side: str) -> Test:
        kind = self._take()
        return self._port(side) if kind == "port" else self._address(side, kind)

    def _port(self, side: str) -> Test:
        number = self._number("a port number")
        match side:
            case "src":
                return lambda _frame, seen: seen.sport == number
            case "dst":
                return lambda _frame, seen: seen.dport == number
        return lambda _frame, seen: number in (seen.sport, seen.dport)

    def _address(self, side: str, kind: str) -> Test:
        try:
            network = ipaddress.ip_network(self._peek(), strict=False)
            if kind == "host" and network.num_addresses != 1:
                raise ValueError
        except ValueError:
            self._fail("an IP address" if kind == "host" else "a network such as 10.0.0.0/8")
        self._take()

        def inside(ip: str) -> bool:
            return bool(ip) and ipaddress.ip_address(ip) in network

        match side:
            case "src":
                return lambda _frame, seen: inside(seen.src)
            case "dst":
                return lambda _frame, seen: inside(seen.dst)
        return lambda _frame, seen: inside(seen.src) or inside(seen.dst)

    def _length(self) -> Test:
        compare = _OPERATORS.get(self._peek())
        if compare is None:
            self._fail(f"one of {' '.join(_OPERATORS)}")
        self._take()
        limit = self._number("a number of bytes")
        return lambda frame, _seen: compare(frame.length, limit)

    def _number(self, what: str) -> int:
        if not (self._peek().isascii() and self._peek().isdecimal() and len(self._peek()) < 10):
            self._fail(what)
        return int(self._take())

    def _peek(self) -> str:
        return self._tokens[self._next][0] if self._next < len(self._tokens) else ""

    def _take(self) -> str:
        word = self._peek()
        self._next += 1
        return word

    def _fail(self, wanted: str) -> NoReturn:
        at = self._tokens[self._next][1] if self._next < len(self._tokens) else len(self._text)
        here = repr(self._peek()) if self._peek() else "the end"
        raise FilterError(f"filter {self._text!r}: {here} at character {at + 1}, where {wanted} belongs")
