"""``iroh-py`` as people run it: real processes in lab hosts, over real networks."""

from __future__ import annotations

import contextlib
import json
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from netns_fixtures import Host, HostProcess, Lab
from pytest_iroh.ca import CertificateAuthority
from pytest_iroh.relays import Relays

#: What a process takes to start on a busy machine, and a moderate patience for the rest.
PATIENCE = 20.0


def iroh_py(host: Host, *arguments: str) -> HostProcess:
    """Start the command line in a host; its input is open until the test closes it."""
    return host.popen([sys.executable, "-m", "iroh_py.cli", *arguments], stdin=subprocess.PIPE)


def ticket_of(listener: HostProcess) -> str:
    """The ticket that ``listen`` prints."""
    return listener.wait_for_output(r"^ticket +(\S+)$", PATIENCE)[1]


def say(process: HostProcess, text: str, *, last: bool = True) -> None:
    """Type something; ``last``: and end the input."""
    assert process.stdin is not None
    process.stdin.write(text.encode())
    if last:
        process.stdin.close()


def interrupted(process: HostProcess, number: signal.Signals = signal.SIGINT) -> int:
    """The exit status after a signal; no traceback is ever shown."""
    process.send_signal(number)
    status = process.wait(PATIENCE)
    assert "Traceback" not in process.output
    return status


def pair(lab: Lab) -> tuple[Host, Host]:
    """A laptop at home and a server in a data centre."""
    home, centre = lab.router("home", nat="moderate"), lab.router("centre")
    return lab.host("laptop", uplink=home), lab.host("server", uplink=centre)


def test_connect_to_listen_echoes_and_ends_with_its_input(lab: Lab) -> None:
    """The ticket is all that the other side needs; the listener ends in good order at SIGTERM."""
    laptop, server = pair(lab)
    listener = iroh_py(server, "listen")
    connecting = iroh_py(laptop, "connect", ticket_of(listener))
    say(connecting, "hello over there\n")
    assert "hello over there" in connecting.check(PATIENCE).splitlines()
    assert re.search(rf"direct to {re.escape(server.ip)}:\d+", connecting.output)
    listener.wait_for_output("connection closed: the peer closed", PATIENCE)
    assert interrupted(listener, signal.SIGTERM) == 0


def test_ping_shows_how_the_path_moves(lab: Lab) -> None:
    """The server gets another address under a running connection, and the display says so at once."""
    # No NAT, which would keep the server's new address out, as there is no relay; IPv4 only, to have one answer.
    plain, centre = lab.router("plain", ipv6=False), lab.router("centre", ipv6=False)
    laptop, server = lab.host("laptop", uplink=plain), lab.host("server", uplink=centre)
    listener = iroh_py(server, "listen")
    pinging = iroh_py(laptop, "connect", "--ping", "--interval", "0.1", ticket_of(listener))
    pinging.wait_for_output(rf"^path: direct to {re.escape(server.ip)}:\d+$", PATIENCE)
    pinging.wait_for_output(rf"^2: [\d.]+ ms, direct to {re.escape(server.ip)}:", PATIENCE)
    server.renumber()
    pinging.wait_for_output(rf"^path: direct to {re.escape(server.ip)}:\d+$", PATIENCE)
    pinging.wait_for_output(rf"^\d+: [\d.]+ ms, direct to {re.escape(server.ip)}:", PATIENCE)
    listener.wait_for_output(r"network: .*", PATIENCE)
    assert interrupted(pinging) == 0
    assert re.search(r"^\d+ sent, \d+ answered, rtt min/avg/max ", pinging.output, re.MULTILINE)
    assert interrupted(listener) == 0


def test_count_of_pings_ends_the_run(lab: Lab) -> None:
    """For scripts: five answers, status 0."""
    laptop, server = pair(lab)
    listener = iroh_py(server, "listen", "--quiet")
    pinging = iroh_py(laptop, "connect", "--ping", "--interval", "0.02", "--count", "5", ticket_of(listener))
    assert "5 sent, 5 answered" in pinging.check(PATIENCE)


def test_relay_carries_two_that_cannot_meet_and_shows_the_relayed_path(lab: Lab) -> None:
    """``relay``, ``listen`` and ``connect`` together, all by command line, both ends behind strict NATs."""
    hub = lab.host("hub", uplink=lab.router("centre"))
    laptop, desktop = (
        lab.host(name, uplink=lab.router(f"{name}-home", nat="strict", ipv6=False))
        for name in ("laptop", "desktop")
    )
    relay = iroh_py(hub, "relay", "--dev", "--public-url", f"http://{hub.ip}:3340")
    url = relay.wait_for_output(r"^http://\S+$", PATIENCE)[0]
    listener = iroh_py(desktop, "listen", "--relay", url, "--no-portmap")
    ticket = ticket_of(listener)
    pinging = iroh_py(
        laptop, "connect", ticket, "--ping", "--interval", "0.1", "--count", "3", "--no-portmap"
    )
    assert f"relayed by {url}" in pinging.check(PATIENCE)
    node_id = listener.wait_for_output(r"^node id +(\S+)$", PATIENCE)[1]
    by_id = iroh_py(laptop, "connect", node_id, "--relay", url, "--no-portmap")
    say(by_id, "by id and relay\n")
    assert "by id and relay" in by_id.check(PATIENCE).splitlines()
    assert interrupted(listener) == 0
    assert interrupted(relay, signal.SIGTERM) == 0
    assert re.search(r"[1-9]\d* packets were forwarded", relay.output)


def test_relay_serves_its_pages_until_it_is_told_to_end(lab: Lab, tmp_path: Path) -> None:
    """TLS with a certificate from files, metrics on a port of their own, and a graceful end."""
    hub = lab.host("hub", uplink=lab.router("centre"))
    authority = CertificateAuthority()
    certificate, key = authority.issue([hub.ip], tmp_path)
    listening = ("--https-bind", f"{hub.ip}:8443", "--http-bind", f"{hub.ip}:8080")
    others = ("--metrics", f"{hub.ip}:9090", "--stun-bind", f"{hub.ip}:3478")
    relay = iroh_py(hub, "relay", *listening, "--cert", str(certificate), "--key", str(key), *others)
    assert relay.wait_for_output(r"^https://\S+$", PATIENCE)[0] == f"https://{hub.ip}:8443/"

    def get(port: int, path: str, *, tls: bool = False) -> bytes:
        with contextlib.ExitStack() as stack:
            sock = stack.enter_context(hub.socket(socket.AF_INET, socket.SOCK_STREAM))
            sock.settimeout(PATIENCE)
            sock.connect((hub.ip, port))
            if tls:
                context = authority.client_context()
                sock = stack.enter_context(context.wrap_socket(sock, server_hostname=hub.ip))
            sock.sendall(f"GET {path} HTTP/1.1\r\nHost: {hub.ip}\r\n\r\n".encode())
            return b"".join(iter(lambda: sock.recv(65536), b""))

    assert get(8443, "/ping", tls=True).startswith(b"HTTP/1.1 200")
    assert get(8080, "/generate_204").startswith(b"HTTP/1.1 204")
    assert get(8080, "/ping").startswith(b"HTTP/1.1 404")
    metrics = get(9090, "/metrics")
    assert b"iroh_relay_nodes 0" in metrics
    assert b"iroh_relay_qad_clients 0" in metrics
    assert interrupted(relay, signal.SIGTERM) == 0
    assert "QUIC address discovery on 0.0.0.0:7842" in relay.output


def test_pipe_carries_both_directions_byte_for_byte(lab: Lab, tmp_path: Path) -> None:
    """A file one way, a word the other way; both sides end by themselves."""
    laptop, server = pair(lab)
    data = bytes(range(256)) * 4000
    source = tmp_path / "source"
    source.write_bytes(data)
    listener = iroh_py(server, "listen", "--pipe", "--quiet")
    ticket = ticket_of(listener)
    say(listener, "well received")
    with source.open("rb") as file:
        argv = [sys.executable, "-m", "iroh_py.cli", "connect", "--quiet", ticket]
        connecting = laptop.popen(argv, stdin=file)
    assert connecting.check(PATIENCE) == "well received"
    listener.check(PATIENCE)
    assert data in listener.output_bytes


def test_exec_gives_each_stream_a_program_that_knows_who_calls(lab: Lab, tmp_path: Path) -> None:
    """Standard input and output are the stream; the peer's id is in the environment."""
    laptop, server = pair(lab)
    key = tmp_path / "key"
    listener = iroh_py(server, "listen", "--json", "--exec", "sh -c 'echo $IROH_PY_NODE_ID; tr a-z A-Z'")
    told = json.loads(listener.wait_for_output(r"^\{.*\}$", PATIENCE)[0])
    node_id = subprocess.run(
        [sys.executable, "-m", "iroh_py.cli", "key", "new", str(key)],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    for _ in range(2):
        connecting = iroh_py(laptop, "connect", "--quiet", "--secret-key", str(key), told["ticket"])
        say(connecting, "shout\n")
        assert connecting.check(PATIENCE).split() == [node_id, "SHOUT"]
    assert interrupted(listener) == 0


def test_listener_goes_away_connect_ends_with_a_sentence(lab: Lab) -> None:
    """The input was not at its end: that is a failure, with a reason and no traceback."""
    laptop, server = pair(lab)
    listener = iroh_py(server, "listen", "--quiet")
    connecting = iroh_py(laptop, "connect", "--quiet", ticket_of(listener))
    say(connecting, "first\n", last=False)
    connecting.wait_for_output("^first$", PATIENCE)
    assert interrupted(listener) == 0
    assert connecting.wait(PATIENCE) == 1
    assert re.search(r"^Error: .*the listener was stopped", connecting.output, re.MULTILINE)
    assert "Traceback" not in connecting.output


def test_listener_with_a_key_file_keeps_its_node_id(lab: Lab, tmp_path: Path) -> None:
    """The file is made at the first start and used at the next."""
    _, server = pair(lab)
    ids = set()
    for _ in range(2):
        listener = iroh_py(server, "listen", "--secret-key", str(tmp_path / "key"))
        ids.add(listener.wait_for_output(r"^node id +(\S+)$", PATIENCE)[1])
        assert interrupted(listener) == 0
    assert len(ids) == 1
    assert (tmp_path / "key").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(("nat", "varies"), [("moderate", False), ("strict", True)])
def test_netcheck_sees_the_nat(lab: Lab, relay: Relays, nat: str, varies: bool) -> None:
    """Two relays tell whether mappings depend on the destination, and where the packets come from."""
    home = lab.router("home", nat=nat, ipv6=False)
    laptop = lab.host("laptop", uplink=home)
    centre = lab.router("centre", ipv6=False)
    servers = [relay(lab.host(name, uplink=centre)) for name in ("one", "two")]
    asked = [word for server in servers for word in ("--relay", server.url)]
    report = json.loads(iroh_py(laptop, "netcheck", "--json", "--no-portmap", *asked).check(PATIENCE))
    assert report["udp"]
    assert report["mapping_varies_by_dest_ip"] is varies
    assert report["global_v4"].rpartition(":")[0] == home.ip
    assert report["preferred_relay"] in {server.url for server in servers}
    assert report["captive_portal"] is False


def test_nodes_in_one_network_find_each_other_by_id(lab: Lab) -> None:
    """``--discover local``: no ticket, no relay, only the node id."""
    office = lab.router("office", ipv6=False)
    laptop, printer = lab.host("laptop", uplink=office), lab.host("printer", uplink=office)
    listener = iroh_py(printer, "listen", "--discover", "local")
    node_id = listener.wait_for_output(r"^node id +(\S+)$", PATIENCE)[1]
    connecting = iroh_py(laptop, "connect", node_id, "--discover", "local")
    say(connecting, "found you\n")
    assert "found you" in connecting.check(PATIENCE).splitlines()
    assert interrupted(listener) == 0
