"""``iroh-py connect``: dial a node; join a stream to stdin and stdout, or ping it."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import click

from iroh_py.addr import NodeAddr
from iroh_py.cli.journal import Journal
from iroh_py.cli.keyfile import load_key
from iroh_py.cli.options import (
    ADDRESS,
    DEFAULT_ALPN,
    READABLE,
    TARGET,
    NetworkOptions,
    network_options,
    wildcards,
)
from iroh_py.cli.ping import ping
from iroh_py.cli.pinging import Pinging
from iroh_py.cli.pipe import pipe
from iroh_py.cli.running import run
from iroh_py.cli.stdio import Input, Output
from iroh_py.endpoint import Endpoint
from iroh_py.network import Addr


@click.command(short_help="Pipe stdin to a node, or ping it.")
@click.argument("target", type=TARGET, metavar="TICKET|NODE_ID")
@click.option("--alpn", default=DEFAULT_ALPN, show_default=True, help="The application protocol to speak.")
@click.option("--secret-key", type=READABLE, help="File with the secret key; by default a fresh key.")
@click.option("--bind", multiple=True, type=ADDRESS, help="Local UDP address; by default all, any port.")
@click.option("--address", multiple=True, type=ADDRESS, help="An address of the node beside the ticket's.")
@click.option("--ping", "as_ping", is_flag=True, help="Send small messages, and show times and the path.")
@click.option(
    "--interval",
    type=click.FloatRange(min=0.01),
    default=1.0,
    show_default=True,
    help="Seconds between messages.",
)
@click.option("--count", type=click.IntRange(min=1), help="End after so many answers.")
@click.option(
    "--timeout", type=click.FloatRange(min=0.1), default=10.0, show_default=True, help="Seconds for dialling."
)
@click.option("-q", "--quiet", is_flag=True, help="Do not tell on stderr what happens.")
@network_options
@click.pass_context
def connect(
    context: click.Context,
    target: NodeAddr,
    alpn: str,
    secret_key: Path | None,
    bind: tuple[Addr, ...],
    address: tuple[Addr, ...],
    as_ping: bool,
    interval: float,
    count: int | None,
    timeout: float,
    quiet: bool,
    network: NetworkOptions,
) -> None:
    """Connect with the node that a ticket names, and pipe stdin to it and its answers to stdout.

    A node id alone works with --relay (the node's home relay), --address, or --discover. With --ping the
    node must echo, as 'iroh-py listen' does.
    """
    addr = _where(target, address, network)
    # A ticket's relay is one that we can be called at, too: without any, nobody could help us to a direct path.
    if not network.relays and addr.relay_url is not None:
        network = dataclasses.replace(network, relays=(addr.relay_url,))
    key = None if secret_key is None else load_key(secret_key)
    journal = Journal(quiet=quiet)
    pinging = Pinging() if as_ping else None

    async def work() -> None:
        endpoint = await Endpoint.bind(secret_key=key, bind=wildcards(bind), config=network.config())
        async with endpoint:
            if pinging is None:
                journal.watch(endpoint)
            connection = await endpoint.connect(addr, alpn, timeout=timeout)
            if pinging is not None:
                await ping(connection, pinging, interval=interval, count=count)
                return
            send, recv = connection.open_bi()
            await pipe(send, recv, Input(0), Output(1))
            connection.close()

    ended = run(work())
    if pinging is not None:
        context.exit(0 if pinging.answered else 1)
    if not ended:
        raise click.ClickException("interrupted before the stream had ended")


def _where(target: NodeAddr, addresses: tuple[Addr, ...], network: NetworkOptions) -> NodeAddr:
    """The target with what the options say of it."""
    relay = target.relay_url or (network.relays[0] if network.relays else None)
    addr = NodeAddr(target.node_id, relay, [*target.direct_addresses, *addresses])
    if addr.is_empty and not network.discover:
        raise click.UsageError(
            "A node id does not say where the node is: give its ticket, or --relay (its home relay), --address, "
            "or --discover."
        )
    return addr
