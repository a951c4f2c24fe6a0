"""``iroh-py relay``: a relay server until a signal ends it."""

from __future__ import annotations

import asyncio
from pathlib import Path

import click

from iroh_py.addr import format_addr
from iroh_py.cli.journal import Journal
from iroh_py.cli.options import ADDRESS, READABLE, RELAY
from iroh_py.cli.running import run
from iroh_py.network import Addr
from iroh_py.proto.qad import QadIdentity
from iroh_py.relay import (
    DEV_PORT,
    QUIC_PORT,
    STUN_PORT,
    RelayConfig,
    RelayLimits,
    RelayServer,
    any_address,
)
from iroh_py.relay.config import HTTP_PORT, HTTPS_PORT
from iroh_py.relay_url import RelayUrl


@click.command(short_help="Run a relay server.")
@click.option("--dev", is_flag=True, help=f"Plain HTTP on port {DEV_PORT}, STUN on {STUN_PORT}; no TLS.")
@click.option("--http-bind", multiple=True, type=ADDRESS, help=f"Plain HTTP; by default port {HTTP_PORT}.")
@click.option(
    "--https-bind",
    multiple=True,
    type=ADDRESS,
    help=f"HTTPS, with --cert and --key; by default port {HTTPS_PORT}. "
    "Plain HTTP answers captive portal checks only, then.",
)
@click.option("--cert", type=READABLE, help="Certificate chain (PEM).")
@click.option("--key", type=READABLE, help="Private key of the certificate (PEM).")
@click.option("--stun-bind", multiple=True, type=ADDRESS, help=f"STUN; by default UDP port {STUN_PORT}.")
@click.option("--no-stun", is_flag=True, help="Answer no STUN.")
@click.option(
    "--quic-bind",
    multiple=True,
    type=ADDRESS,
    help=f"QUIC address discovery (iroh 1.x), with --cert and --key; by default UDP port {QUIC_PORT}.",
)
@click.option("--no-quic", is_flag=True, help="No QUIC address discovery.")
@click.option("--public-url", type=RELAY, help="What clients dial, if that is another address or name.")
@click.option(
    "--token",
    envvar="IROH_PY_RELAY_TOKEN",
    help="Bearer token that every client needs. [env: IROH_PY_RELAY_TOKEN, which 'ps' does not show]",
)
@click.option(
    "--rate-limit", type=click.FloatRange(min=1), help="Bytes per second that each client may send."
)
@click.option(
    "--metrics", multiple=True, type=ADDRESS, help="Serve /metrics here; by default with everything else."
)
@click.option("-q", "--quiet", is_flag=True, help="Do not tell on stderr what happens.")
def relay(
    dev: bool,
    http_bind: tuple[Addr, ...],
    https_bind: tuple[Addr, ...],
    cert: Path | None,
    key: Path | None,
    stun_bind: tuple[Addr, ...],
    no_stun: bool,
    quic_bind: tuple[Addr, ...],
    no_quic: bool,
    public_url: RelayUrl | None,
    token: str | None,
    rate_limit: float | None,
    metrics: tuple[Addr, ...],
    quiet: bool,
) -> None:
    """Run a relay for iroh 0.28, 0.35 and 1.x until Ctrl-C or SIGTERM; its URL is the first line printed."""
    if (cert is None) != (key is None):
        raise click.UsageError("--cert and --key belong together.")
    if https_bind and cert is None:
        raise click.UsageError("--https-bind needs --cert and --key.")
    tls = cert is not None and not dev  # as the original: --dev is plain HTTP whatever else is said
    if dev and https_bind:
        raise click.UsageError("--dev is plain HTTP: --https-bind cannot be given with it.")
    if no_stun and stun_bind:
        raise click.UsageError("--no-stun and --stun-bind exclude each other.")
    if no_quic and quic_bind:
        raise click.UsageError("--no-quic and --quic-bind exclude each other.")
    if quic_bind and cert is None:
        raise click.UsageError("--quic-bind needs --cert and --key.")
    # With --dev the certificate serves QUIC alone, and only on demand (PROTOCOL.md 11.5).
    quic = quic_bind or (any_address(QUIC_PORT) if tls and not no_quic else ())
    plain = http_bind or any_address(DEV_PORT if dev else HTTP_PORT)
    config = RelayConfig(
        bind=(https_bind or any_address(HTTPS_PORT)) if tls else plain,
        captive_bind=plain if tls else (),
        stun_bind=() if no_stun else stun_bind or any_address(STUN_PORT),
        quic_bind=quic,
        quic_identity=QadIdentity.from_pem(cert.read_bytes(), key.read_bytes())
        if quic and cert and key
        else None,
        metrics_bind=metrics or None,
        certificate=cert if tls else None,
        private_key=key if tls else None,
        public_url=public_url,
        token=token,
        limits=RelayLimits(client_rate=rate_limit),
    )
    run(_serve(config, Journal(quiet=quiet)))


async def _serve(config: RelayConfig, journal: Journal) -> None:
    async with RelayServer(config) as server:
        click.echo(server.url)
        stun = server.stun_addr
        journal.say("no STUN" if stun is None else f"STUN on {format_addr(stun)}")
        if server.quic_addr is not None:
            journal.say(f"QUIC address discovery on {format_addr(server.quic_addr)}")
        for addr in config.metrics_bind or ():
            journal.say(f"metrics on http://{format_addr(addr)}/metrics")
        try:
            await asyncio.Event().wait()
        finally:
            stats = server.stats()
            journal.say(
                f"ends with {stats.nodes} nodes connected; {stats['packets_out']} packets were forwarded"
            )
