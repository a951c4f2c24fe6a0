"""``iroh-py ticket``: what a ticket says."""

from __future__ import annotations

import json

import click

from iroh_py.addr import NodeAddr, format_addr
from iroh_py.cli.options import TARGET


@click.command(short_help="Show what a ticket says.")
@click.argument("ticket", type=TARGET)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def ticket(ticket: NodeAddr, as_json: bool) -> None:
    """Show what TICKET says: the node's id, its home relay, and its direct addresses."""
    if as_json:
        click.echo(json.dumps(ticket.to_json(), indent=2))
        return
    click.echo(f"node id  {ticket.node_id}")
    click.echo(f"relay    {ticket.relay_url or 'none'}")
    for addr in ticket.ordered_addresses:
        click.echo(f"address  {format_addr(addr)}")
    if not ticket.direct_addresses:
        click.echo("address  none")
