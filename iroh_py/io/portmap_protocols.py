"""Asking a router for a port mapping, in each of three languages (PROTOCOL.md 10)."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar
from urllib.parse import urlsplit

from iroh_py.errors import PortmapError
from iroh_py.io import http
from iroh_py.network import Addr, Family, Network
from iroh_py.proto import natpmp, pcp, upnp

#: An answer from the router itself, one hop away (10.1); the request is repeated once in between.
ANSWER_TIMEOUT = 0.5
REPEAT_AFTER = 0.25
#: SSDP answers may be spread over a second (10.1).
SEARCH_TIMEOUT = 1.0
#: Description and calls together; routers with little memory take their time.
UPNP_TIMEOUT = 3.0
#: Requested lifetimes in seconds (10.1). UPnP asks for a lease, so that what a crash leaves behind ends.
PCP_LIFETIME = 3600
NATPMP_LIFETIME = 7200
UPNP_LEASE = 7200
#: External ports tried before giving up, when the one we want is taken.
UPNP_TRIES = 4
_UPNP_PORTS = (20_000, 60_000)

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Gateway:
    """The default gateway, and our own address towards it."""

    ip: str
    local_ip: str


@dataclass(frozen=True, slots=True)
class PortMapping:
    """A mapping that the router granted, for ``lifetime`` seconds from now."""

    external: Addr
    lifetime: float


class MappingProtocol(Protocol):
    """One language. The same object maps, renews (``preferred``: the former external address), releases."""

    async def available(self) -> bool:
        """Whether the router speaks it."""
        ...

    async def map(self, port: int, preferred: Addr | None) -> PortMapping:
        """Have an external port mapped to our UDP port. Raises PortmapError, OSError."""
        ...

    async def release(self, port: int, external: Addr) -> None:
        """Give the mapping back, without waiting for an answer where the protocol needs none."""
        ...


async def exchange(
    network: Network,
    targets: Sequence[Addr],
    data: bytes,
    parse: Callable[[bytes, Addr], T],
    *,
    from_ip: str,
    timeout: float,
) -> T:
    """Send a datagram, twice if need be, and return what ``parse`` makes of the first answer of ``from_ip``.

    Raises PortmapError for an answer that does not parse, TimeoutError, OSError.
    """
    answer: asyncio.Future[T] = asyncio.get_running_loop().create_future()

    def receive(batch: list[tuple[bytes, Addr, int]]) -> None:
        for payload, source, _ in batch:
            if source[0] != from_ip or answer.done():
                continue
            try:
                answer.set_result(parse(payload, source))
            except PortmapError as error:
                answer.set_exception(error)

    sock = network.open_udp(Family.V4, "0.0.0.0", 0, receive)
    try:
        async with asyncio.timeout(timeout):
            for wait in (min(REPEAT_AFTER, timeout / 2), timeout):
                for target in targets:
                    sock.send([data], target)
                done, _ = await asyncio.wait([answer], timeout=wait)
                if done:
                    return answer.result()
            raise TimeoutError(f"{from_ip} does not answer")
    finally:
        sock.close()
        if answer.done() and not answer.cancelled():
            answer.exception()  # seen: whoever gave up waiting does not want it
        answer.cancel()


async def _ask(network: Network, router: Addr, data: bytes, parse: Callable[[bytes], T]) -> T:
    """One question to the router itself. Raises as ``exchange`` does."""
    return await exchange(
        network,
        [router],
        data,
        lambda payload, _source: parse(payload),
        from_ip=router[0],
        timeout=ANSWER_TIMEOUT,
    )


class Pcp:
    """PCP, RFC 6887."""

    def __init__(self, network: Network, gateway: Gateway, rng: random.Random) -> None:
        self._network = network
        self._gateway = gateway
        self._nonce = rng.randbytes(pcp.NONCE_SIZE)

    async def available(self) -> bool:
        """An ANNOUNCE is answered."""
        try:
            response = await self._ask(pcp.AnnounceRequest(self._gateway.local_ip))
        except (PortmapError, OSError):
            return False
        return isinstance(response, pcp.AnnounceResponse) and response.result == pcp.Result.SUCCESS

    async def map(self, port: int, preferred: Addr | None) -> PortMapping:
        """One MAP request."""
        ip, external = (pcp.NO_IP, 0) if preferred is None else preferred
        request = pcp.MapRequest(self._gateway.local_ip, self._nonce, port, PCP_LIFETIME, external, ip)
        response = await self._ask(request)
        if not isinstance(response, pcp.MapResponse):
            raise PortmapError("the router answered something else")
        return PortMapping(response.mapping_for(request), response.lifetime)

    async def release(self, port: int, external: Addr) -> None:
        """A MAP request with lifetime 0."""
        request = pcp.MapRequest(self._gateway.local_ip, self._nonce, port, 0)
        _send(self._network, pcp.encode_request(request), (self._gateway.ip, pcp.PORT))

    async def _ask(self, request: pcp.Request) -> pcp.Response:
        router = (self._gateway.ip, pcp.PORT)
        return await _ask(self._network, router, pcp.encode_request(request), pcp.parse_response)


class NatPmp:
    """NAT-PMP, RFC 6886."""

    def __init__(self, network: Network, gateway: Gateway) -> None:
        self._network = network
        self._gateway = gateway

    async def available(self) -> bool:
        """The external address is told."""
        try:
            await self._external_ip()
        except (PortmapError, OSError):
            return False
        return True

    async def map(self, port: int, preferred: Addr | None) -> PortMapping:
        """A map request, then the external address."""
        request = natpmp.MapRequest(port, NATPMP_LIFETIME, 0 if preferred is None else preferred[1])
        response = await self._ask(request)
        if not isinstance(response, natpmp.MapResponse):
            raise PortmapError("the router answered something else")
        return PortMapping(response.mapping_for(request, await self._external_ip()), response.lifetime)

    async def release(self, port: int, external: Addr) -> None:
        """A map request with external port and lifetime 0."""
        data = natpmp.encode_request(natpmp.MapRequest(port, 0))
        _send(self._network, data, (self._gateway.ip, natpmp.PORT))

    async def _external_ip(self) -> str:
        response = await self._ask(natpmp.ExternalAddressRequest())
        if not isinstance(response, natpmp.ExternalAddressResponse):
            raise PortmapError("the router answered something else")
        return response.checked_ip()

    async def _ask(self, request: natpmp.Request) -> natpmp.Response:
        router = (self._gateway.ip, natpmp.PORT)
        return await _ask(self._network, router, natpmp.encode_request(request), natpmp.parse_response)


class Upnp:
    """UPnP IGD. Only the default gateway is believed, and only URLs that lead to it are fetched."""

    def __init__(self, network: Network, gateway: Gateway, rng: random.Random) -> None:
        self._network = network
        self._gateway = gateway
        self._rng = rng
        self._service: upnp.Service | None = None

    async def available(self) -> bool:
        """It describes a port mapping service."""
        try:
            async with asyncio.timeout(UPNP_TIMEOUT):
                await self._find()
        except (PortmapError, http.HttpError, OSError):
            return False
        return True

    async def map(self, port: int, preferred: Addr | None) -> PortMapping:
        """Search, ask for the external address, and add a mapping."""
        async with asyncio.timeout(UPNP_TIMEOUT):
            try:
                service = await self._find()
                answer = await self._call(service, "GetExternalIPAddress", {})
                ip = _checked_ipv4(answer.get("NewExternalIPAddress", ""))
                external, lifetime = await self._add(service, port, preferred)
            except http.HttpError as error:
                raise PortmapError(str(error)) from error
        return PortMapping((ip, external), lifetime)

    async def release(self, port: int, external: Addr) -> None:
        """DeletePortMapping, briefly."""
        if self._service is None:
            return
        with contextlib.suppress(PortmapError, http.HttpError, OSError):  # the lease ends it else
            async with asyncio.timeout(ANSWER_TIMEOUT):
                await self._call(self._service, "DeletePortMapping", upnp.delete_mapping(external[1]))

    async def _add(self, service: upnp.Service, port: int, preferred: Addr | None) -> tuple[int, float]:
        internal = (self._gateway.local_ip, port)
        external = port if preferred is None else preferred[1]
        lease = UPNP_LEASE
        for _ in range(UPNP_TRIES):
            try:
                arguments = upnp.add_mapping(external, internal, lease)
                await self._call(service, "AddPortMapping", arguments)
            except PortmapError as error:
                if "error 725" in str(error) and lease:  # OnlyPermanentLeasesSupported
                    lease = 0
                else:
                    external = self._rng.randint(*_UPNP_PORTS)
                last = error
            else:
                return external, float(UPNP_LEASE)
        raise last

    async def _find(self) -> upnp.Service:
        if self._service is None:
            location = await exchange(
                self._network,
                [upnp.MULTICAST, (self._gateway.ip, upnp.PORT)],
                upnp.search_request(),
                lambda payload, source: upnp.parse_search_response(payload, source[0]),
                from_ip=self._gateway.ip,
                timeout=SEARCH_TIMEOUT,
            )
            response = await self._fetch(location)
            self._service = upnp.parse_description(response.body, location)
        return self._service

    async def _call(self, service: upnp.Service, action: str, arguments: dict[str, str]) -> dict[str, str]:
        headers, body = upnp.soap_call(service, action, arguments)
        response = await self._fetch(service.control_url, headers, body)
        return upnp.parse_soap_answer(response.status, response.body)

    async def _fetch(
        self, url: str, headers: dict[str, str] | None = None, body: bytes = b""
    ) -> http.HttpResponse:
        parts = urlsplit(url)
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        return await http.request(
            self._network,
            self._gateway.ip,
            parts.port or 80,
            path,
            host=parts.netloc,
            method="POST" if body else "GET",
            headers=headers,
            body=body,
        )


def _send(network: Network, data: bytes, target: Addr) -> None:
    """One datagram, no answer awaited."""
    with contextlib.suppress(OSError):  # best effort: the mapping ends by itself
        sock = network.open_udp(Family.V4, "0.0.0.0", 0, lambda batch: None)
        try:
            sock.send([data], target)
        finally:
            sock.close()


def _checked_ipv4(text: str) -> str:
    parts = text.split(".")
    if (
        len(parts) != 4
        or not all(p.isascii() and p.isdigit() and int(p) < 256 for p in parts)
        or text == "0.0.0.0"
    ):
        raise PortmapError(f"the router's external address is {text[:50]!r}")
    return ".".join(str(int(p)) for p in parts)
