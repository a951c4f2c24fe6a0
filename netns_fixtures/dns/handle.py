"""``lab.dns``: the lab's name server as a test sees it. Imports no dnspython before it must."""

from __future__ import annotations

import contextlib
import ipaddress
import socket
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING

from netns_fixtures.addressing import NAME_SERVER_V4, NAME_SERVER_V6
from netns_fixtures.dns.files import files_of
from netns_fixtures.dns.settings import ALL, DEFAULT_TTL, PORT, WELL_KNOWN_PREFIX
from netns_fixtures.errors import AgentDied, LabClosed, TopologyError
from netns_fixtures.messages import OpenSocket
from netns_fixtures.plug import Assigned
from netns_fixtures.verbs import handle

if TYPE_CHECKING:
    from netns_fixtures.dns.answering import Responder
    from netns_fixtures.dns.faults import Fault
    from netns_fixtures.dns.log import DnsQuery
    from netns_fixtures.dns.server import DnsServer
    from netns_fixtures.dns.service import Service
    from netns_fixtures.host import Host
    from netns_fixtures.lab import Lab
    from netns_fixtures.node import Node
    from netns_fixtures.router import Router

#: What programs find in every /etc/hosts.
_LOCALHOST = ["127.0.0.1", "::1"]
_BACKLOG = 64


@handle(but=("start", "close", "lab_built"))
class LabDns:
    """Records, failures and questions of the lab's name server.

    It runs from the first use on: a verb of it, a process in a node, a look-up.
    """

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self._lock = threading.Lock()
        self._service: Service | None = None
        self._server: DnsServer | None = None
        self._wanted = False

    def __repr__(self) -> str:
        return f"<LabDns of {self.lab.name} {'running' if self._server else 'not running'}>"

    @property
    def ip(self) -> str:
        """The IPv4 address of the name server, at the exchange; the port is 53."""
        return NAME_SERVER_V4

    @property
    def ip6(self) -> str:
        """Its IPv6 address."""
        return NAME_SERVER_V6

    # -- verbs

    def set(
        self, name: str, record: str, value: str | Sequence[str | Sequence[str]], ttl: float = DEFAULT_TTL
    ) -> None:
        """Set the records of one type of a name, in place of those that were there.

        ``name``: without a dot it is below ``lab``; ``"*.example"`` is a wildcard. ``value``: one record or a
        list of them, each in the words of a zone file ("198.18.1.10", "0 5 443 server"); a TXT record is its
        text, or a list of its strings. ``ttl``: seconds. Raises TopologyError.
        """
        from netns_fixtures.dns import rdata

        kind, where = rdata.parse_type(record), rdata.parse_name(name)
        values = [value] if isinstance(value, str) else list(value)
        records = rdata.parse_records(kind, values, ttl)
        with self.lab.changing():
            self._described().records.set(where, records)
            said = ", ".join(each.to_text() for each in records)
            shown = where.to_text(omit_final_dot=True)
            self.lab.log_event("dns_set", "", f"dns: {shown} {record} is {said}", name=shown, record=record)
        self.start()

    def delete(self, name: str, record: str | None = None) -> None:
        """Remove the records of one type of a name, or all. Raises TopologyError where none were set."""
        from netns_fixtures.dns import rdata

        where = rdata.parse_name(name)
        kind = None if record is None else rdata.parse_type(record)
        with self.lab.changing():
            self._described().records.delete(where, kind)
            shown = where.to_text(omit_final_dot=True)
            what = record or "all records"
            self.lab.log_event("dns_deleted", "", f"dns: {shown} lost {what}", name=shown, record=record)

    def fail(
        self,
        name: str = ALL,
        kind: str = "servfail",
        *,
        record: str | None = None,
        seconds: float | None = None,
        times: int | None = None,
    ) -> None:
        """Let questions fail from now on, until ``heal``, or for so many ``times`` (A and AAAA are two).

        ``name``: one name, ``"*.example"`` for all below it, ``"*"`` for all. ``kind``: servfail, refused,
        nxdomain, nodata, timeout, slow (by ``seconds``), garbage, wrong-id, truncate. ``record``: only questions
        for this type. Of several failures that fit, the newest counts. Raises TopologyError.
        """
        from netns_fixtures.dns.faults import Fault

        fault = Fault.parse(name, kind, record, seconds, times)
        with self.lab.changing():
            self._described().faults.add(fault)
            self.lab.log_event("dns_fault", "", f"dns fails, {fault}", name=name, fault=kind)
        self.start()

    def heal(self, name: str | None = None) -> None:
        """End the failures that were set for a name (or pattern), or all."""
        with self.lab.changing():
            count = self._described().faults.heal(name)
            what = "all failures" if name is None else f"failures of {name}"
            self.lab.log_event("dns_healed", "", f"dns: {what} ended ({count})", name=name)

    def delegate(self, zone: str, server: Host | str, port: int = PORT) -> None:
        """Let another name server of the lab answer for a zone: questions are passed on to it, as packets.

        ``server``: a host (its address at each time) or an IP address. Raises TopologyError.
        """
        from netns_fixtures.dns import rdata

        where = rdata.parse_name(zone)
        if isinstance(server, str):
            _check_ip(server)
        if isinstance(port, bool) or not isinstance(port, int) or not 0 < port < 1 << 16:
            raise TopologyError(f"port={port!r}: it is a whole number from 1 to 65535")
        with self.lab.changing():
            self._described().delegations.add(where, server, port)
            shown = where.to_text(omit_final_dot=True)
            whom = server if isinstance(server, str) else server.name
            self.lab.log_event(
                "dns_delegated", "", f"dns: {shown} is answered by {whom} port {port}", zone=shown
            )
        self.start()

    def undelegate(self, zone: str) -> None:
        """The reverse. Raises TopologyError for a zone that is not delegated."""
        from netns_fixtures.dns import rdata

        where = rdata.parse_name(zone)
        with self.lab.changing():
            self._described().delegations.remove(where)
            shown = where.to_text(omit_final_dot=True)
            self.lab.log_event("dns_delegated", "", f"dns: {shown} is answered here again", zone=shown)

    def dns64(self, router: Router, prefix: str | None = WELL_KNOWN_PREFIX) -> None:
        """Give the network of a router IPv6 addresses of hosts that have none (RFC 6147); None ends it.

        ``prefix``: a /96, that of the network's NAT64. Unasked, networks behind a router with ``nat64`` have it.
        Raises TopologyError.
        """
        from netns_fixtures.dns.dns64 import Dns64

        made = None if prefix is None else Dns64.parse(prefix)
        with self.lab.changing():
            self._described().set_dns64(router, made)
            text = f"dns: network of {router.name} " + (f"has DNS64 {prefix}" if prefix else "lost its DNS64")
            self.lab.log_event("dns64", router.name, text, prefix=prefix)
        self.start()

    # -- looking

    @property
    def queries(self) -> tuple[DnsQuery, ...]:
        """The newest questions and what was said, in order."""
        service = self._service
        return () if service is None else service.log.snapshot()

    @property
    def faults(self) -> tuple[Fault, ...]:
        """The failures in force, oldest first; ``hits`` counts the questions that each spoilt."""
        service = self._service
        return () if service is None else service.faults.snapshot()

    def wait_for_query(
        self, name: str, record: str | None = None, *, after: int = 0, within: float = 10.0
    ) -> DnsQuery:
        """Wait for a question for a name (and type), also one of before, numbered above ``after``.

        Blocks. Raises TimeoutError.
        """
        from netns_fixtures.dns import rdata

        wanted = rdata.parse_name(name).to_text(omit_final_dot=True)

        def matches(query: DnsQuery) -> bool:
            right = query.name.lower() == wanted and record in (None, query.record)
            return right and query.number > after

        found = self._described().log.wait(matches, within)
        if found is None:
            raise TimeoutError(f"nobody asked for {wanted} {record or ''} within {within:g} s")
        return found

    def resolve(self, node: Node, host: str) -> list[str]:
        """See ``Host.resolve``."""
        try:
            return [str(ipaddress.ip_address(host))]
        except ValueError:
            pass  # not a literal
        if host.rstrip(".").lower() == "localhost":
            return list(_LOCALHOST)
        from netns_fixtures.dns.stub import look_up

        def opened(family: int, kind: int) -> socket.socket:
            return node.socket(family, kind)

        try:
            self.start()
            servers = self.addresses_for(node)
            return look_up(opened, servers, host, six_first=servers[0] == self.ip6)
        except (LabClosed, AgentDied) as error:
            raise socket.gaierror(socket.EAI_FAIL, str(error)) from None

    def addresses_for(self, node: Node) -> tuple[str, ...]:
        """Its addresses in the order in which a node should try them: first what a node without IPv4 can reach."""
        only_six = not getattr(node, "ip", "") and getattr(node, "ip6", None)
        host = self.lab.topology.hosts.get(node.name)
        four = (self.ip,) if host is None or host.dhcp is None else host.leased_nameservers
        return (self.ip6, *four) if only_six else (*four, self.ip6)

    def files(self, node: Node) -> tuple[tuple[str, str], ...]:
        """What stands in the files about names of a node's processes; starts the server for them."""
        self.start()
        return files_of(self.addresses_for(node))

    # -- life

    def start(self) -> None:
        """Answer from now on, or once the lab is built; does nothing while it runs."""
        self._wanted = True
        if self._server is None and self.lab.number:
            with self.lab.changing():
                self._start()

    def lab_built(self) -> None:
        """Called once by the lab."""
        if self._wanted:
            self._start()

    def close(self) -> None:
        """Stop, for the end of the lab."""
        with self._lock:
            server, self._server = self._server, None
        if server is not None:
            server.close()

    def _start(self) -> None:
        """Called by one thread at a time."""
        if self._server is not None:
            return
        from netns_fixtures.dns.server import DnsServer

        exchange = self.lab.topology.exchange.lan
        pools = {4: exchange.segment.v4, 6: exchange.segment.v6}
        addresses = [
            Assigned(ip, pool.prefixlen, leased=False)
            for ip, pool in ((self.ip, pools[4]), (self.ip6, pools[6]))
            if pool is not None
        ]
        there = {each.ip for each in exchange.addresses}
        self.lab.apply([op for each in addresses if each.ip not in there for op in exchange.add_ops(each)])
        with contextlib.ExitStack() as opened:
            sockets = {
                kind: [opened.enter_context(self._bound(each.ip, kind)) for each in addresses]
                for kind in _KINDS
            }
            self._server = DnsServer(
                self.lab.name,
                self._responder,
                self._open,
                sockets[socket.SOCK_DGRAM],
                sockets[socket.SOCK_STREAM],
            )
            opened.pop_all()  # they are the server's from now on

    def _open(self, family: int, kind: int) -> socket.socket:
        """A socket at the exchange. Never takes the lab's lock: ``close`` holds it and waits for us."""
        node = self.lab.topology.exchange.node
        try:
            _value, (fd,) = self.lab.request(OpenSocket(self.lab.number, node, family, kind, 0))
        except (LabClosed, AgentDied) as error:
            raise OSError(str(error)) from None
        return socket.socket(fileno=fd)

    def _bound(self, ip: str, kind: int) -> socket.socket:
        sock = self._open(socket.AF_INET6 if ":" in ip else socket.AF_INET, kind)
        try:
            if kind == socket.SOCK_STREAM:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind((ip, PORT))
            if kind == socket.SOCK_STREAM:
                sock.listen(_BACKLOG)
        except BaseException:
            sock.close()
            raise
        return sock

    def _described(self) -> Service:
        with self._lock:
            if self._service is None:
                from netns_fixtures.dns.service import Service

                self._service = Service(self.lab)
            return self._service

    def _responder(self) -> Responder:
        return self._described().responder


_KINDS = (socket.SOCK_DGRAM, socket.SOCK_STREAM)


def _check_ip(text: str) -> None:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        raise TopologyError(f"{text!r} is no host of the lab, and no IP address") from None
