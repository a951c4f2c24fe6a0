"""DNS questions over a network: UDP with staggered tries, TCP where an answer was cut (RFC 1035, 7766)."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from functools import partial

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype

from iroh_py.discovery.base import DiscoveryCounters
from iroh_py.discovery.race import first_success
from iroh_py.errors import DiscoveryError
from iroh_py.network import Addr, Family, Network

#: When the tries start, in seconds (PROTOCOL 9.3), and how long each may take.
STAGGER = (0.0, 0.2, 0.3)
TRY_TIMEOUT = 1.0
#: UDP answers of this size pass nearly everywhere unfragmented (DNS flag day 2020).
EDNS_PAYLOAD = 1232
#: Bytes of an answer over TCP: node records have at most some thousand.
MAX_TCP_ANSWER = 16 * 1024

_WILDCARD = {Family.V4: "0.0.0.0", Family.V6: "::"}


async def look_up_txt(
    network: Network,
    name: str,
    nameservers: Sequence[Addr],
    *,
    rng: random.Random,
    counters: DiscoveryCounters,
) -> bytes:
    """The DNS message that answers the question for TXT records; the tries take turns on the servers.

    It may say that there are none. Raises OSError (TimeoutError), DiscoveryError if no server gave an answer.
    """
    attempts: list[Callable[[], Awaitable[bytes]]] = [
        partial(_ask, network, name, nameservers[number % len(nameservers)], rng, counters)
        for number in range(len(STAGGER))
    ]
    return await first_success(attempts, STAGGER)


async def _ask(
    network: Network, name: str, server: Addr, rng: random.Random, counters: DiscoveryCounters
) -> bytes:
    query = new_query(name, rng)
    try:
        async with asyncio.timeout(TRY_TIMEOUT):
            answer = await _ask_udp(network, query, server, counters)
            if _is_truncated(answer):
                answer = await _ask_tcp(network, query, server)
    except TimeoutError:
        raise TimeoutError(f"name server {server[0]} did not answer within {TRY_TIMEOUT:g} s") from None
    code = dns.message.from_wire(answer).rcode()
    if code not in (dns.rcode.NOERROR, dns.rcode.NXDOMAIN):
        raise DiscoveryError(f"name server {server[0]} answered {dns.rcode.to_text(code)}")
    return answer


def new_query(name: str, rng: random.Random) -> dns.message.QueryMessage:
    """A question for TXT records with a random id, which together with the port is hard to guess."""
    return dns.message.make_query(
        dns.name.from_text(name),
        dns.rdatatype.TXT,
        use_edns=0,
        payload=EDNS_PAYLOAD,
        id=rng.getrandbits(16),
    )


def answers(query: dns.message.Message, data: bytes) -> bool:
    """Whether bytes are a well-formed answer to this very question; of a cut answer, its beginning."""
    try:
        cut = len(data) > 2 and _is_truncated(data)
        message = dns.message.from_wire(data, question_only=cut)
        return query.is_response(message)
    except (dns.exception.DNSException, ValueError):
        return False


def _is_truncated(data: bytes) -> bool:
    return bool(data[2] & dns.flags.TC >> 8)


async def _ask_udp(
    network: Network, query: dns.message.Message, server: Addr, counters: DiscoveryCounters
) -> bytes:
    answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    def receive(batch: list[tuple[bytes, Addr, int]]) -> None:
        for data, source, _ in batch:
            if source == server and answers(query, data):
                if not answer.done():
                    answer.set_result(data)
            else:
                # Anybody can send to our port: what does not fit is not the answer, and we go on waiting.
                counters.malformed += 1

    family = Family.of(server[0])
    udp = network.open_udp(family, _WILDCARD[family], 0, receive)
    try:
        udp.send([query.to_wire()], server)
        return await answer
    finally:
        udp.close()


async def _ask_tcp(network: Network, query: dns.message.Message, server: Addr) -> bytes:
    reader, writer = await network.connect_tcp(*server)
    try:
        writer.write(query.to_wire(prepend_length=True))
        size = int.from_bytes(await reader.readexactly(2), "big")
        if size > MAX_TCP_ANSWER:
            raise DiscoveryError(f"a DNS answer of {size} bytes")
        answer = await reader.readexactly(size)
    except asyncio.IncompleteReadError as error:
        raise DiscoveryError("the name server closed the connection within its answer") from error
    finally:
        writer.transport.abort()
    if not answers(query, answer) or _is_truncated(answer):
        raise DiscoveryError("the name server's answer over TCP does not fit the question")
    return answer
