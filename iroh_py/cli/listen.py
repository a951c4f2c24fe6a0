"""``iroh-py listen``: be reachable, and serve who connects."""

from __future__ import annotations

import asyncio
import json
import shlex
import shutil
from dataclasses import dataclass
from pathlib import Path

import click

from iroh_py.cli.journal import Journal
from iroh_py.cli.keyfile import load_or_make_key
from iroh_py.cli.options import ADDRESS, DEFAULT_ALPN, FILE, NetworkOptions, network_options, wildcards
from iroh_py.cli.pipe import pipe, wait_for_close
from iroh_py.cli.running import run
from iroh_py.cli.services import Programs, Service, echo, serve
from iroh_py.cli.stdio import Input, Output
from iroh_py.config import EndpointConfig
from iroh_py.connection import Connection
from iroh_py.endpoint import Endpoint
from iroh_py.keys import SecretKey
from iroh_py.network import Addr

#: Seconds to wait for a relay before the ticket is printed without one.
ONLINE_TIMEOUT = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ListenOptions:
    """What the command line asked for."""

    alpn: str
    secret_key: SecretKey
    bind: tuple[Addr, ...]
    config: EndpointConfig
    program: tuple[str, ...] = ()
    pipe: bool = False
    json: bool = False


@click.command(short_help="Print a ticket, and serve who connects.")
@click.option("--alpn", default=DEFAULT_ALPN, show_default=True, help="The application protocol to accept.")
@click.option("--secret-key", type=FILE, help="File with the secret key, made if it is not there.")
@click.option("--bind", multiple=True, type=ADDRESS, help="Local UDP address; by default all, any port.")
@click.option("--exec", "command", help="Run this program for each stream instead of echoing.")
@click.option("--pipe", "as_pipe", is_flag=True, help="Join the first stream to stdin and stdout, then end.")
@click.option("--json", "as_json", is_flag=True, help="Print node id, ticket and addresses as one JSON line.")
@click.option("-q", "--quiet", is_flag=True, help="Do not tell on stderr what happens.")
@network_options
def listen(
    alpn: str,
    secret_key: Path | None,
    bind: tuple[Addr, ...],
    command: str | None,
    as_pipe: bool,
    as_json: bool,
    quiet: bool,
    network: NetworkOptions,
) -> None:
    """Print a ticket and serve who connects with it: an echo, unless --exec or --pipe say otherwise."""
    if command is not None and as_pipe:
        raise click.UsageError("--exec and --pipe exclude each other.")
    options = ListenOptions(
        alpn=alpn,
        secret_key=load_or_make_key(secret_key),
        bind=wildcards(bind),
        config=network.config(),
        program=() if command is None else _program(command),
        pipe=as_pipe,
        json=as_json,
    )
    ended = run(_listen(options, Journal(quiet=quiet)))
    if as_pipe and not ended:
        raise click.ClickException("interrupted before the stream had ended")


def _program(command: str) -> tuple[str, ...]:
    try:
        argv = tuple(shlex.split(command))
    except ValueError as error:
        raise click.UsageError(f"--exec: {command!r} cannot be split into words: {error}.") from None
    if not argv or shutil.which(argv[0]) is None:
        raise click.UsageError(f"--exec: there is no program {argv[0] if argv else command!r}.")
    return argv


async def _listen(options: ListenOptions, journal: Journal) -> None:
    endpoint = await Endpoint.bind(
        secret_key=options.secret_key, alpns=[options.alpn], bind=options.bind, config=options.config
    )
    async with endpoint:
        journal.watch(endpoint)
        await _introduce(endpoint, options, journal)
        telling = asyncio.create_task(_tell_new_relays(endpoint, journal))
        try:
            if options.pipe:
                await _pipe_first(endpoint)
            else:
                service: Service = Programs(options.program, journal) if options.program else echo
                await serve(endpoint, service)
        finally:
            telling.cancel()


async def _introduce(endpoint: Endpoint, options: ListenOptions, journal: Journal) -> None:
    """Print who and where we are. With --pipe, stdout belongs to the stream."""
    try:
        await endpoint.online(ONLINE_TIMEOUT)
    except TimeoutError:
        lack = "no relay answered" if options.config.relays else "there is no network"
        journal.say(f"{lack} within {ONLINE_TIMEOUT:g} s; the ticket will go without", "yellow")
    addr = endpoint.node_addr
    if options.json:
        # Flat, so that a shell script needs one look: node_id, ticket, relay_url, direct_addresses, alpn.
        text = json.dumps({**addr.to_json(), "ticket": endpoint.ticket, "alpn": options.alpn})
    else:
        text = f"node id {endpoint.node_id}\nticket  {endpoint.ticket}"
    click.echo(text, err=options.pipe)


async def _tell_new_relays(endpoint: Endpoint, journal: Journal) -> None:
    """Whoever gets a ticket later needs one with the home relay of then."""
    told = endpoint.node_addr.relay_url
    async for addr in endpoint.watch_node_addr():
        if addr.relay_url is not None and addr.relay_url != told:
            told = addr.relay_url
            journal.say(f"ticket now {endpoint.ticket}")


async def _pipe_first(endpoint: Endpoint) -> None:
    """Serve the first stream of the first connection, and refuse all others."""
    connection = await endpoint.accept()
    refusing = asyncio.create_task(_refuse(endpoint, connection))
    try:
        send, recv = await connection.accept_bi()
        await pipe(send, recv, Input(0), Output(1))
        await wait_for_close(connection)
    finally:
        refusing.cancel()


async def _refuse(endpoint: Endpoint, first: Connection) -> None:
    async for connection in endpoint.connections():
        connection.close(1, f"this node talks to {first.node_id.fmt_short()} only")
