"""A stub resolver for one node: what getaddrinfo does in its programs, over sockets of that node.

Both families are asked at once; a question is repeated, by turns at each name server, until there is an answer.
"""

from __future__ import annotations

import random
import select
import socket
import time
from collections.abc import Callable, Iterator, Sequence

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype

from netns_fixtures.dns.settings import PORT, SEARCH

#: Opens a socket of the node: family, kind. Raises OSError.
Opener = Callable[[int, int], socket.socket]
#: Seconds after which the next try begins; the last one is waited for as long. glibc waits 5 s before its
#: second question, which no test of a lossy link has time for.
TRIES = (0.25, 0.5, 1.0, 1.5)
#: Seconds for an answer over TCP.
_TCP_TIMEOUT = 3.0
#: Larger ones do not pass everywhere (DNS flag day 2020).
_PAYLOAD = 1232
_KINDS = (dns.rdatatype.A, dns.rdatatype.AAAA)
_FAMILIES = {4: socket.AF_INET, 6: socket.AF_INET6}


def look_up(opener: Opener, servers: Sequence[str], host: str, *, six_first: bool = False) -> list[str]:
    """Addresses of a name, IPv4 first unless ``six_first``. Raises gaierror: EAI_NONAME, EAI_AGAIN."""
    failure: str | None = None
    for name in _candidates(host):
        question = _Question(opener, servers, name)
        addresses = question.ask()
        if addresses:
            return sorted(addresses, key=lambda ip: (":" in ip) is not six_first)
        failure = failure or question.failure
    if failure is not None:
        raise socket.gaierror(socket.EAI_AGAIN, f"cannot resolve {host!r} now: {failure}")
    raise socket.gaierror(socket.EAI_NONAME, f"the name server knows no address of {host!r}")


def _candidates(host: str) -> Iterator[dns.name.Name]:
    """The name itself, and below the search domain: first there, if it has no dot (resolv.conf(5), ndots)."""
    try:
        name = dns.name.from_text(host)
        below = None if host.endswith(".") else dns.name.from_text(f"{host}.{SEARCH}")
    except (dns.exception.DNSException, UnicodeError):
        raise socket.gaierror(socket.EAI_NONAME, f"{host!r} is no domain name") from None
    first_below = below is not None and "." not in host
    order = (below, name) if first_below else (name, below)
    yield from (each for each in order if each is not None)


class _Question:
    """One name, both families."""

    def __init__(self, opener: Opener, servers: Sequence[str], name: dns.name.Name) -> None:
        self._opener = opener
        self._servers = servers
        self._queries = {
            kind: dns.message.make_query(
                name, kind, use_edns=0, payload=_PAYLOAD, id=random.SystemRandom().getrandbits(16)
            )
            for kind in _KINDS
        }
        self._answers: dict[dns.rdatatype.RdataType, dns.message.Message] = {}
        #: Why there is no answer of a family, if there is none.
        self.failure: str | None = None

    def ask(self) -> list[str]:
        """The addresses that were found, until all is answered or the last try is over."""
        problems: list[str] = []
        for number, wait in enumerate(TRIES):
            server = self._servers[number % len(self._servers)]
            try:
                self._ask(server, wait)
            except OSError as error:
                problems.append(f"name server {server}: {error}")
            if len(self._answers) == len(_KINDS):
                break
            if len(problems) >= len(TRIES):
                break
        else:
            problems.append("no useful answer in time")
        if len(self._answers) < len(_KINDS):
            self.failure = problems[-1]
        found = [self._addresses(kind) for kind in _KINDS if kind in self._answers]
        return list(dict.fromkeys(ip for ips in found for ip in ips))

    def _ask(self, server: str, wait: float) -> None:
        """One try at one server. Raises OSError for what it said, or that it cannot be reached."""
        deadline = time.monotonic() + wait
        version = 6 if ":" in server else 4
        with self._opener(_FAMILIES[version], socket.SOCK_DGRAM) as sock:
            sock.connect((server, PORT))
            open_questions = [kind for kind in _KINDS if kind not in self._answers]
            for kind in open_questions:
                sock.send(self._queries[kind].to_wire())
            refused: str | None = None
            while open_questions:
                left = deadline - time.monotonic()
                if left <= 0 or not select.select([sock], [], [], left)[0]:
                    break
                answer = self._read(sock.recv(65535))
                if answer is None:
                    continue
                kind = answer.question[0].rdtype
                if kind in open_questions:
                    open_questions.remove(kind)
                    refused = self._take(kind, answer, server) or refused
        if refused is not None:
            raise OSError(refused)
        if open_questions:
            raise TimeoutError(f"no answer within {wait:g} s")

    def _read(self, data: bytes) -> dns.message.Message | None:
        """An answer to one of our questions; anybody can send us anything."""
        try:
            cut = len(data) > 2 and bool(data[2] & dns.flags.TC >> 8)
            answer = dns.message.from_wire(data, question_only=cut)
        except (dns.exception.DNSException, ValueError):
            return None
        ours = any(query.is_response(answer) for query in self._queries.values())
        return answer if ours else None

    def _take(self, kind: dns.rdatatype.RdataType, answer: dns.message.Message, server: str) -> str | None:
        """Keep an answer; returns why it is none."""
        if answer.flags & dns.flags.TC:
            answer = self._ask_by_tcp(kind, server)
        if answer.rcode() not in (dns.rcode.NOERROR, dns.rcode.NXDOMAIN):
            return dns.rcode.to_text(answer.rcode())
        self._answers[kind] = answer
        return None

    def _ask_by_tcp(self, kind: dns.rdatatype.RdataType, server: str) -> dns.message.Message:
        """Raises OSError."""
        version = 6 if ":" in server else 4
        query = self._queries[kind]
        with self._opener(_FAMILIES[version], socket.SOCK_STREAM) as sock:
            sock.settimeout(_TCP_TIMEOUT)
            sock.connect((server, PORT))
            sock.sendall(query.to_wire(prepend_length=True))
            with sock.makefile("rb") as stream:
                data = stream.read(int.from_bytes(stream.read(2), "big"))
        try:
            answer = dns.message.from_wire(data)
        except (dns.exception.DNSException, ValueError) as error:
            raise OSError(f"no DNS over TCP: {error}") from error
        if not query.is_response(answer):
            raise OSError("the answer over TCP is to another question")
        return answer

    def _addresses(self, kind: dns.rdatatype.RdataType) -> list[str]:
        """Those of the chain of aliases that begins at our question."""
        answer = self._answers[kind]
        return [record.address for records in answer.answer if records.rdtype == kind for record in records]
