"""An interface of a host (or a router's uplink), and what can happen to its link."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any, Literal, Unpack

from netns_fixtures.errors import AgentDied, LabClosed, TopologyError
from netns_fixtures.link import LinkCondition, LinkFields
from netns_fixtures.messages import WireStats
from netns_fixtures.ops import Op, SetCondition, SetLink, SetQdisc, Splice, SplitFrames
from netns_fixtures.path_limits import DEFAULT_MTU, check_mtu
from netns_fixtures.plug import FABRIC, Plug
from netns_fixtures.qdiscs import qdisc_messages
from netns_fixtures.verbs import handle

if TYPE_CHECKING:
    from netns_fixtures.lab import Lab
    from netns_fixtures.ra.kernel import Address6
    from netns_fixtures.router import Router
    from netns_fixtures.wire.model import LinkCounters

Direction = Literal["both", "egress", "ingress"]
_CLEAR = LinkCondition()


@handle(but=("apply_condition", "describe_mtu"))
class Interface:
    """One end of a cable. Every verb takes effect before it returns, and is an event of the lab."""

    def __init__(self, lab: Lab, plug: Plug) -> None:
        self.lab = lab
        self.plug = plug
        self._seen6: list[Address6] = []
        self._egress = _CLEAR
        self._ingress = _CLEAR
        self._queues = False

    def __repr__(self) -> str:
        return f"<Interface {self.plug.owner} {self.name} {' '.join(self.addresses) or 'without address'}>"

    @property
    def name(self) -> str:
        """The name in the node, such as "eth0"."""
        return self.plug.name

    @property
    def host(self) -> str:
        """The name of the host or router that it belongs to."""
        return self.plug.owner

    @property
    def index(self) -> int:
        """The kernel's interface index; unique in the lab and kept for life."""
        return self.plug.index

    @property
    def mac(self) -> str:
        """The MAC address; kept for life."""
        return self.plug.mac

    @property
    def addresses(self) -> list[str]:
        """All addresses as "ip/prefix", without link-local ones; with SLAAC what the kernel has at this moment."""
        given = [str(address) for address in self.plug.addresses]
        return given + [text for text in map(str, self._learnt()) if text not in given]

    @property
    def ip(self) -> str | None:
        """The first IPv4 address."""
        return self.plug.ip(4)

    @property
    def ip6(self) -> str | None:
        """The first global IPv6 address; with SLAAC the stable one of the present prefix, None before the build."""
        learnt = self._learnt()
        return learnt[0].ip if learnt else self.plug.ip(6)

    @property
    def addresses6(self) -> list[Address6]:
        """The global IPv6 addresses as the kernel has them at this moment, with lifetimes and flags, best first.

        Empty before the lab is built; what was seen last after it was closed.
        """
        if self.lab.number and not self.lab.closed:
            from netns_fixtures.ra.waiting import look  # only for those who ask; it brings pyroute2

            with contextlib.suppress(LabClosed, AgentDied):  # it ended while we asked
                self._seen6 = look(self.lab, self.plug)
        return list(self._seen6)

    def _learnt(self) -> list[Address6]:
        return self.addresses6 if self.plug.slaac else []

    @property
    def metric(self) -> int | None:
        """The metric of its default routes; None where it has none."""
        return self.plug.metric

    @property
    def router(self) -> Router | None:
        """The router whose LAN it is plugged into; None at the internet exchange."""
        return self.lab.routers.get(self.plug.segment.name)

    @property
    def admin_up(self) -> bool:
        """Whether it is administratively up."""
        return self.plug.up

    @property
    def has_carrier(self) -> bool:
        """Whether the cable has a live far end."""
        return self.plug.carrier

    @property
    def egress_condition(self) -> LinkCondition:
        """What happens to frames that leave here."""
        return self._egress

    @property
    def ingress_condition(self) -> LinkCondition:
        """What happens to frames that arrive here."""
        return self._ingress

    def down(self, keep_addresses: bool = True) -> None:
        """`ip link set down`: routes go, addresses stay configured, but those that advertisements gave.

        ``keep_addresses`` False: the IPv6 addresses go, too, as in a Linux that nobody has told otherwise
        (keep_addr_on_down).
        """
        with self.lab.changing():
            self.lab.apply(self.plug.down_ops(keep_addresses=keep_addresses))
            self._tell(
                "link_down", "went down" if keep_addresses else "went down, its IPv6 addresses with it"
            )

    def up(self, restore: bool = True) -> None:
        """`ip link set up`, and the addresses and routes that it had before.

        ``restore`` False: nothing is put back, as where no network manager runs. With SLAAC the host solicits
        an advertisement in both cases.
        """
        with self.lab.changing():
            self.lab.apply(self.plug.up_ops(restore=restore))
            self._tell(
                "link_up", "went up" if restore else "went up, nobody restored its addresses and routes"
            )
            self.lab.await_configured([self.plug])

    def carrier(self, on: bool) -> None:
        """Pull the cable at the far end, or plug it in again: admin state, addresses and routes stay."""
        with self.lab.changing():
            self.lab.apply(self.plug.carrier_ops(on))
            self._tell(
                *(("carrier_back", "has its carrier back") if on else ("carrier_lost", "lost its carrier"))
            )
            self.lab.await_configured([self.plug] if self.plug.dhcp is not None else [])

    def condition(
        self,
        condition: LinkCondition | None = None,
        direction: Direction = "both",
        **fields: Unpack[LinkFields],
    ) -> None:
        """Impair the link: what happens to frames that leave the host (egress), reach it (ingress), or both.

        Give a LinkCondition, or its fields (``delay=0.02, loss=0.01``), or None for a clear link. A wire
        that was spliced in stays, and does nothing when clear. Raises TopologyError, MissingCapability,
        LinkEngineError.
        """
        wanted = _wanted(condition, fields)
        if direction not in ("both", "egress", "ingress"):
            raise TopologyError(f"direction={direction!r}: it is 'both', 'egress' or 'ingress'")
        egress = self._egress if direction == "ingress" else wanted
        ingress = self._ingress if direction == "egress" else wanted
        with self.lab.changing():
            self.apply_condition(egress, ingress)
            where = "" if direction == "both" else f" ({direction})"
            self._tell(
                "condition", f"is now {wanted}{where}", condition=wanted.as_dict(), direction=direction
            )

    @property
    def mtu_bytes(self) -> int:
        """The largest IP packet that it sends, in bytes."""
        router = self.lab.topology.routers.get(self.plug.owner)
        return (self.plug.mtu if router is None else router.mtu) or DEFAULT_MTU

    def mtu(self, size: int = DEFAULT_MTU) -> None:
        """Change the MTU, bytes of an IP packet: 1280 (RFC 8200 section 5; 576 without IPv6) to 1500.

        Of a host's interface: what it sends is at most as large, and what arrives larger is dropped without
        a word, as where the ends of an Ethernet disagree. Of a router's, either one: of the path through that
        router, both ways; it tells senders (ICMP fragmentation needed, packet too big). Raises TopologyError.
        """
        router = self.lab.topology.routers.get(self.plug.owner)
        check_mtu(size, (self.plug if router is None else router.lan).segment)
        with self.lab.changing():
            before = self.mtu_bytes
            if router is None:
                self.lab.apply(self._mtu_ops(size))
            else:
                router.mtu = None if size == DEFAULT_MTU else size
                self.lab.apply([])
            self._tell("mtu", f"has MTU {size} now", before=before, after=size)

    def describe_mtu(self, size: int) -> None:
        """From the start of a lab that is not built yet. Raises TopologyError."""
        router = self.lab.topology.routers.get(self.plug.owner)
        check_mtu(size, (self.plug if router is None else router.lan).segment)
        if router is None:
            self.lab.topology.pending += self._mtu_ops(size)
        else:
            router.mtu = size

    def _mtu_ops(self, size: int) -> list[Op]:
        self.plug.mtu = size
        # A joined frame (GSO) passes an MTU that its parts would not.
        split = SplitFrames(FABRIC, self.plug.port_name)
        return [split, SetLink(self.plug.node, self.plug.index, mtu=size)]

    def describe_condition(self, condition: LinkCondition) -> list[Op]:
        """The steps that impair the link from the start, for a lab that is not built yet."""
        self._egress = self._ingress = condition
        if self.lab.uses_netem:
            ops = self._qdisc_ops(condition, condition)
            self._queues = True
            return ops
        splice = self._splice(condition, condition)
        self.plug.spliced = splice.end_b
        return [splice]

    def apply_condition(self, egress: LinkCondition, ingress: LinkCondition) -> None:
        """What :meth:`condition` does, without an event: for verbs that tell their own."""
        if self.lab.uses_netem:
            if self._queues or not (egress.is_clear and ingress.is_clear):
                self.lab.apply(self._qdisc_ops(egress, ingress))
                self._queues = True
        elif self.plug.spliced is not None:
            self.lab.apply([SetCondition(self.plug.port, egress, ingress)])
        elif not (egress.is_clear and ingress.is_clear):
            splice = self._splice(egress, ingress)
            self.lab.apply([splice])
            self.plug.spliced = splice.end_b
        self._egress, self._ingress = egress, ingress

    def counters(self, direction: Literal["egress", "ingress"] = "egress") -> LinkCounters:
        """What the wire did so far to the frames of one direction: how many were lost, marked, and so on.

        Raises TopologyError where no wire was ever needed, and with netem, which counts for itself.
        """
        if direction not in ("egress", "ingress"):
            raise TopologyError(f"direction={direction!r}: it is 'egress' or 'ingress'")
        self.lab.ready()
        if self.plug.spliced is None:
            raise TopologyError(
                f"{self.host} {self.name} has no wire that counts; give it a condition (link_engine='wire')"
            )
        from netns_fixtures.wire.model import LinkCounters  # few look

        stats, _fds = self.lab.request(WireStats(self.lab.number, self.plug.port))
        return LinkCounters(**stats["forward" if direction == "egress" else "backward"])

    def _qdisc_ops(self, egress: LinkCondition, ingress: LinkCondition) -> list[Op]:
        """netem at both ends of the cable, each for what it sends. Raises LinkEngineError."""
        plug, seed = self.plug, self.lab.wire_seed(self.plug.owner, self.plug.name)
        ends = ((plug.node, plug.index, egress), (FABRIC, plug.port, ingress))
        ops: list[Op] = []
        for number, (node, index, condition) in enumerate(ends):
            # Raises what cannot be said, before anything changes.
            qdisc_messages(index, condition, seed, fresh=False)
            ops.append(SetQdisc(node, index, condition, seed ^ number, fresh=not self._queues))
        return ops

    def _splice(self, egress: LinkCondition, ingress: LinkCondition) -> Splice:
        plug = self.plug
        wire, end_a, far_a, end_b, far_b = (self.lab.topology.next_index() for _ in range(5))
        seed = self.lab.wire_seed(plug.owner, plug.name)
        here = plug.segment.bridge
        return Splice(
            FABRIC, plug.port, plug.port, here, wire, end_a, far_a, end_b, far_b, egress, ingress, seed
        )

    def _tell(self, kind: str, what: str, **data: Any) -> None:
        self.lab.log_event(kind, self.host, f"{self.host} {self.name} {what}", interface=self.name, **data)


def _wanted(condition: LinkCondition | None, fields: LinkFields) -> LinkCondition:
    if condition is not None and not isinstance(condition, LinkCondition):
        raise TopologyError(f"{condition!r} is no LinkCondition")
    base = condition or _CLEAR
    return base.with_(**fields) if fields else base
