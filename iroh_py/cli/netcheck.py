"""``iroh-py netcheck``: what the network between here and the relays is like."""

from __future__ import annotations

import asyncio
import json

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from iroh_py.addr import format_addr
from iroh_py.cli.options import NetworkOptions, relay_options
from iroh_py.io.netcheck import run_netcheck
from iroh_py.io.system import SystemNetwork
from iroh_py.network import Addr
from iroh_py.proto.netcheck.report import PortmapProbe, Report
from iroh_py.relay_url import RelayUrl

#: Nothing is folded in a pipe: a line is a row.
_PIPE_WIDTH = 400


@click.command(short_help="Look at the network through relays.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@relay_options
@click.pass_context
def netcheck(context: click.Context, as_json: bool, network: NetworkOptions) -> None:
    """Ask relays how they see this machine, and print what that says about its network.

    Takes 5 seconds at most. Exit status 0 if a relay answered, else 1.
    """
    if not network.relays:
        raise click.UsageError("Netcheck asks relays: name one with --relay, or in IROH_PY_RELAY.")
    report = asyncio.run(
        run_netcheck(SystemNetwork(), network.nodes(), ssl=network.ssl(), portmap=network.portmap)
    )
    if as_json:
        click.echo(json.dumps(report.as_dict(), indent=2))
    else:
        console = Console(highlight=False)
        print_report(report, network.relays, console if console.is_terminal else _wide())
    context.exit(0 if report.relay_latency else 1)


def _wide() -> Console:
    return Console(highlight=False, width=_PIPE_WIDTH)


def print_report(report: Report, relays: tuple[RelayUrl, ...], console: Console) -> None:
    """The report as tables."""
    facts = Table.grid(padding=(0, 2))
    for name, value in _facts(report):
        facts.add_row(name, value)
    console.print(facts)
    console.print()
    console.print(_relay_table(report, relays))
    for note in report.notes:
        console.print(Text(f"note: {note}", "dim"))


def _facts(report: Report) -> list[tuple[str, Text]]:
    return [
        ("UDP", _known(report.udp, good=True)),
        ("IPv4", _family(report.ipv4, report.ipv4_can_send, report.global_v4)),
        ("IPv6", _family(report.ipv6, report.ipv6_can_send, report.global_v6)),
        ("mapping varies by destination", _varies(report)),
        ("hairpin", _known(report.hair_pinning)),
        ("port mapping", _portmap(report.portmap_probe)),
        ("captive portal", _known(report.captive_portal, good=False)),
        ("ICMP over IPv4", _known(report.icmpv4)),
        ("ICMP over IPv6", _known(report.icmpv6)),
        ("nearest relay", Text(report.preferred_relay or "none", "" if report.preferred_relay else "red")),
    ]


def _known(value: bool | None, *, good: bool | None = None) -> Text:
    """Yes, no, or unknown; coloured where one of them is ``good``."""
    if value is None:
        return Text("unknown", "dim")
    style = "" if good is None else "green" if value is good else "red"
    return Text("yes" if value else "no", style)


def _family(seen: bool, can_send: bool, addr: Addr | None) -> Text:
    if seen and addr is not None:
        return Text(f"yes, seen as {format_addr(addr)}", "green")
    return Text("no answer" if can_send else "no", "yellow" if can_send else "")


def _varies(report: Report) -> Text:
    """In both families, in words: it decides whether a direct path can be made."""
    told = [
        v for v in (report.mapping_varies_by_dest_ip, report.mapping_varies_by_dest_ipv6) if v is not None
    ]
    if not told:
        return Text("unknown (two relays with STUN can tell)", "dim")
    return Text("yes (direct paths are hard)", "red") if any(told) else Text("no", "green")


def _portmap(probe: PortmapProbe | None) -> Text:
    if probe is None:
        return Text("unknown", "dim")
    names = (("UPnP", probe.upnp), ("PCP", probe.pcp), ("NAT-PMP", probe.nat_pmp))
    return Text(", ".join(name for name, found in names if found) or "none")


def _relay_table(report: Report, relays: tuple[RelayUrl, ...]) -> Table:
    table = Table(box=None, pad_edge=False)
    for heading in ("relay", "latency", "IPv4", "IPv6", "HTTP"):
        table.add_column(heading, justify="left" if heading == "relay" else "right", overflow="fold")
    columns = (report.relay_latency, report.relay_v4_latency, report.relay_v6_latency)
    far = float("inf")
    for url in sorted(dict.fromkeys(relays), key=lambda url: (report.relay_latency.get(url, far), url)):
        cells = [_milliseconds(column.get(url)) for column in columns]
        table.add_row(url, *cells, "yes" if url in report.https_ok else "-")
    return table


def _milliseconds(seconds: float | None) -> str:
    return "-" if seconds is None else f"{seconds * 1000:.1f} ms"
