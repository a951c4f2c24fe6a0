"""One stream of 100 MB over a direct veth path, each end in a process of its own: MB/s and CPU seconds per MB.

``python benchmarks/bulk.py [--json] [--size 100] [--repeat 5] [--profile FILE]``

Beside ours: the official iroh 0.35.0 as shipped, and plain TCP with asyncio streams as the limit of this machine.
"""

from __future__ import annotations

import asyncio
import contextlib
import cProfile
import hashlib
import json
import re
import resource
import statistics
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from iroh_py import Endpoint, NodeAddr, NodeTicket
from netns_fixtures import Host, HostProcess, Lab
from pytest_iroh.official import OfficialPeer

ALPN = "bench/bulk"
CHUNK = 1 << 20
OFFICIAL = "0.35.0"
MEGABYTE = 1_000_000


def cpu_seconds() -> float:
    """User and system time of this process so far."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


@dataclass
class Result:
    """One transfer."""

    seconds: float
    megabytes: float
    cpu_send: float = 0.0
    cpu_receive: float = 0.0

    @property
    def rate(self) -> float:
        return self.megabytes / self.seconds

    @property
    def cpu_per_megabyte(self) -> float:
        return (self.cpu_send + self.cpu_receive) / self.megabytes


# --- the programs that run in the hosts ---


async def receive_ours() -> None:
    """Accept one connection, read one stream to its end, report."""
    async with await Endpoint.bind(alpns=[ALPN], bind=[("0.0.0.0", 0)]) as endpoint:
        print("ready", endpoint.ticket, flush=True)
        connection = await endpoint.accept()
        stream = await connection.accept_uni()
        began, cpu, size, digest = time.monotonic(), cpu_seconds(), 0, hashlib.sha256()
        while part := await stream.read(CHUNK):
            size += len(part)
            digest.update(part)
        seconds = time.monotonic() - began
        print("done", json.dumps([seconds, cpu_seconds() - cpu, size, digest.hexdigest()]), flush=True)
        await connection.wait_closed()


async def send_ours(ticket: str, size: int) -> None:
    """Connect and send one stream."""
    addr = NodeTicket.parse(ticket).addr
    addr = NodeAddr(addr.node_id, direct_addresses=[a for a in addr.direct_addresses if ":" not in a[0]])
    async with await Endpoint.bind(bind=[("0.0.0.0", 0)]) as endpoint:
        connection = await endpoint.connect(addr, ALPN)
        stream = connection.open_uni()
        chunk = bytes(range(256)) * (CHUNK // 256)
        cpu, began = cpu_seconds(), time.monotonic()
        for _ in range(size // CHUNK):
            await stream.write(chunk)
        stream.finish()
        await stream.drain()
        print("done", json.dumps([time.monotonic() - began, cpu_seconds() - cpu]), flush=True)
        connection.close()


async def receive_tcp() -> None:
    finished = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        began, cpu, size, digest = time.monotonic(), cpu_seconds(), 0, hashlib.sha256()
        while part := await reader.read(CHUNK):
            size += len(part)
            digest.update(part)
        seconds = time.monotonic() - began
        print("done", json.dumps([seconds, cpu_seconds() - cpu, size, digest.hexdigest()]), flush=True)
        writer.close()
        finished.set()

    server = await asyncio.start_server(serve, "0.0.0.0", 9000)
    print("ready -", flush=True)
    async with server:
        await finished.wait()


async def send_tcp(host: str, size: int) -> None:
    _, writer = await asyncio.open_connection(host, 9000)
    chunk = bytes(range(256)) * (CHUNK // 256)
    cpu, began = cpu_seconds(), time.monotonic()
    for _ in range(size // CHUNK):
        writer.write(chunk)
        await writer.drain()
    writer.write_eof()
    writer.close()
    with contextlib.suppress(ConnectionError):
        await writer.wait_closed()
    print("done", json.dumps([time.monotonic() - began, cpu_seconds() - cpu]), flush=True)


# --- the parent ---


def last_json(process: HostProcess) -> Any:
    """What a program printed behind "done"."""
    process.wait_for_output(r"done .*\n", timeout=300)
    match = re.search(r"done (.*)\n", process.output)
    assert match is not None
    return json.loads(match[1])


def pair(lab: Lab) -> tuple[Host, Host]:
    plain = lab.router("plain")
    return lab.host("client", uplink=plain), lab.host("server", uplink=plain)


def transfer(kind: str, size: int, profile: str) -> Result:
    """One transfer of ours or of TCP, both ends in processes of their own."""
    me = [sys.executable, str(Path(__file__).resolve())]
    with Lab(name="bulk") as lab:
        client, server = pair(lab)
        receiver = server.popen(
            [*me, "--role", f"receive-{kind}", "--profile", profile and profile + ".receive"]
        )
        receiver.wait_for_output(r"ready .*\n", timeout=30)
        ready = re.search(r"ready (.*)\n", receiver.output)
        assert ready is not None
        target = ready[1] if kind == "ours" else server.ip
        argv = [*me, "--role", f"send-{kind}", "--target", target, "--bytes", str(size)]
        sender = client.popen([*argv, "--profile", profile and profile + ".send"])
        seconds, cpu_receive, got, digest = last_json(receiver)
        _, cpu_send = last_json(sender)
        expected = hashlib.sha256(bytes(range(256)) * (size // 256)).hexdigest()
        if got != size or digest != expected:
            raise RuntimeError(
                f"{kind}: {got} bytes of {size} arrived, digest {'right' if digest == expected else 'wrong'}"
            )
        sender.wait(10)
        return Result(seconds, size / MEGABYTE, cpu_send, cpu_receive)


def official(size: int) -> Result:
    """The official bindings echo, so a transfer goes both ways: the rate is that of one direction."""
    with Lab(name="bulk") as lab:
        client, server = pair(lab)
        with (
            OfficialPeer.start(OFFICIAL, popen=client.popen, name="client") as one,
            OfficialPeer.start(OFFICIAL, popen=server.popen, name="server") as two,
        ):
            conn = one.dial(two.listen())
            before = process_cpu(one.process.pid), process_cpu(two.process.pid)
            echo = one.bulk(conn, size, within=300)
            after = process_cpu(one.process.pid), process_cpu(two.process.pid)
            if not echo.ok:
                raise RuntimeError("official: the echo is not what was sent")
            megabytes = 2 * size / MEGABYTE
            return Result(echo.elapsed, megabytes, after[0] - before[0], after[1] - before[1])


def process_cpu(pid: int) -> float:
    """CPU seconds of a process so far, from /proc."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100


@dataclass
class Row:
    """All transfers of one kind."""

    name: str
    results: list[Result] = field(default_factory=list)

    @property
    def rate(self) -> float:
        return statistics.median(r.rate for r in self.results)

    @property
    def cpu(self) -> float:
        return statistics.median(r.cpu_per_megabyte for r in self.results)


ROLES = {"receive-ours": receive_ours, "receive-tcp": receive_tcp}


@click.command()
@click.option("--json", "as_json", is_flag=True)
@click.option("--size", default=100, show_default=True, help="Mebibytes.")
@click.option("--repeat", default=5, show_default=True)
@click.option("--only", default="ours,tcp,official", show_default=True)
@click.option(
    "--profile", default="", help="Write cProfile data of our two ends to FILE.send and FILE.receive."
)
@click.option("--role", default="", hidden=True)
@click.option("--target", default="", hidden=True)
@click.option("--bytes", "size_bytes", default=0, hidden=True)
def main(
    as_json: bool, size: int, repeat: int, only: str, profile: str, role: str, target: str, size_bytes: int
) -> None:
    """Measure bulk transfer."""
    if role:
        run_role(role, target, size_bytes, profile)
        return
    rows = [Row(name) for name in only.split(",")]
    for _ in range(repeat):
        for row in rows:  # interleaved, so that the machine's moods hit all alike
            if row.name == "official":
                row.results.append(official(min(size, 8) * CHUNK))
            else:
                row.results.append(transfer(row.name, size * CHUNK, profile if row.name == "ours" else ""))
    if as_json:
        click.echo(
            json.dumps(
                {r.name: {"MB_per_s": r.rate, "cpu_s_per_MB": r.cpu, "runs": len(r.results)} for r in rows}
            )
        )
        return
    table = Table(title=f"one stream over veth, median of {repeat}")
    for column in ("", "MB/s", "CPU ms/MB (both ends)"):
        table.add_column(column, justify="right" if column else "left")
    for row in rows:
        table.add_row(row.name, f"{row.rate:.1f}", f"{row.cpu * 1000:.1f}")
    Console().print(table)


def run_role(role: str, target: str, size: int, profile: str) -> None:
    """Be one end, perhaps under the profiler."""
    coroutine = (
        ROLES[role]() if role in ROLES else (send_ours if role == "send-ours" else send_tcp)(target, size)
    )
    if not profile:
        asyncio.run(coroutine)
        return
    profiler = cProfile.Profile()
    profiler.runcall(asyncio.run, coroutine)
    profiler.dump_stats(profile)


if __name__ == "__main__":
    main()
