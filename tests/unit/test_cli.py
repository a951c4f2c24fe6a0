"""``iroh-py``: what it understands, and how it fails: one sentence on stderr, status 1 or 2, no traceback."""

from __future__ import annotations

import json
import re
import socket
import stat
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from iroh_py import ClosedError, EndpointConfig, NodeAddr, NodeTicket, RelayUrl, SecretKey
from iroh_py.cli import main
from iroh_py.cli.options import NetworkOptions
from iroh_py.proto.netcheck.report import PortmapProbe, Report

SECRET = SecretKey(bytes(range(32)))
NODE = SECRET.node_id
RELAY = RelayUrl.parse("https://relay.example")
TICKET = str(NodeTicket(NodeAddr(NODE, RELAY, [("192.0.2.7", 4711), ("2001:db8::7", 4712)])))


def iroh_py(*arguments: str, env: dict[str, str] | None = None) -> Result:
    """Run the command line in this process."""
    result = CliRunner().invoke(main, list(arguments), env=env, prog_name="iroh-py")
    assert "Traceback" not in result.output
    return result


def refusal(result: Result, status: int) -> str:
    """The one sentence of a failure."""
    assert result.exit_code == status, result.output
    sentences = re.findall(r"^Error: (.*)$", result.stderr, re.MULTILINE)
    assert len(sentences) == 1
    return str(sentences[0])


@pytest.fixture(autouse=True)
def nothing_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("IROH_PY_RELAY", "IROH_PY_RELAY_TOKEN"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["ticket", "nonsense"], "'TICKET'"),
        (["ticket", "docaaaa"], "document ticket"),
        (["listen", "--relay", "ftp://relay"], "no http or https URL"),
        (["listen", "--bind", "localhost"], "1.2.3.4:5"),
        (["listen", "--exec", "cat", "--pipe"], "exclude"),
        (["listen", "--exec", "no-such-program-here -x"], "no-such-program-here"),
        (["listen", "--exec", "'unbalanced"], "words"),
        (["connect", "--ping", "--interval", "0", TICKET], "'--interval'"),
        (["connect", str(NODE)], "give its ticket"),
        (["netcheck"], "--relay"),
        (["relay", "--cert", __file__], "belong together"),
        (["relay", "--https-bind", "127.0.0.1:0"], "--cert and --key"),
        (["relay", "--no-stun", "--stun-bind", "127.0.0.1:0"], "exclude"),
        (["relay", "--no-quic", "--quic-bind", "127.0.0.1:0"], "exclude"),
        (["relay", "--quic-bind", "127.0.0.1:0"], "--quic-bind needs --cert and --key"),
        (["relay", "--rate-limit", "-1"], "'--rate-limit'"),
        (["key", "show", "/no/such/file"], "does not exist"),
        (["netcheck", "--relay", "http://192.0.2.1", "--ca", __file__], "no certificate"),
    ],
    ids=lambda value: " ".join(value)[:40] if isinstance(value, list) else "",
)
def test_wrong_use_is_refused_with_status_two(arguments: list[str], says: str) -> None:
    """What was asked for cannot be meant: the sentence says what would be right."""
    assert says in refusal(iroh_py(*arguments), 2)


def test_address_of_another_machine_is_told_with_status_one() -> None:
    """The endpoint cannot be bound: no fault of the command line, and no traceback."""
    assert "192.0.2.1" in refusal(iroh_py("listen", "--bind", "192.0.2.1:5"), 1)


def test_taken_port_of_a_relay_is_told_with_status_one() -> None:
    """Somebody else has the port; the sentence says which."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        sentence = refusal(iroh_py("relay", "--http-bind", address, "--no-stun"), 1)
    assert "cannot listen on 127.0.0.1" in sentence


def test_nobody_answers_dial_fails_with_status_one() -> None:
    """Who was dialled, where, and how long we waited."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as deaf:
        deaf.bind(("127.0.0.1", 0))
        ticket = str(NodeTicket(NodeAddr(NODE, None, [deaf.getsockname()])))
        result = iroh_py("connect", "--bind", "127.0.0.1:0", "--timeout", "0.1", ticket)
    assert "did not answer within 0.1 s" in refusal(result, 1)


def test_own_mistake_is_a_sentence_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """A bug of ours gives no traceback either, but the way to get one; --debug lets it through."""

    async def broken(*_: Any, **__: Any) -> Report:
        raise ExceptionGroup("tasks", [ZeroDivisionError("a bug")])

    monkeypatch.setattr("iroh_py.cli.netcheck.run_netcheck", broken)
    arguments = ["netcheck", "--relay", "http://127.0.0.1:1"]
    assert "unexpected ZeroDivisionError: a bug" in refusal(iroh_py(*arguments), 1)
    assert isinstance(iroh_py("--debug", *arguments).exception, ExceptionGroup)


def test_ticket_shows_what_it_says() -> None:
    """Id, relay and addresses, in wire order; as JSON in the form of iroh 0.35."""
    assert iroh_py("ticket", TICKET).stdout.split() == [
        *("node", "id", str(NODE), "relay", "https://relay.example./"),
        *("address", "192.0.2.7:4711", "address", "[2001:db8::7]:4712"),
    ]
    value = json.loads(iroh_py("ticket", "--json", TICKET).stdout)
    assert NodeAddr.from_json(value) == NodeTicket.parse(TICKET).addr


def test_node_id_alone_is_a_ticket_without_a_place() -> None:
    """What connect takes, ticket shows."""
    assert iroh_py("ticket", str(NODE)).stdout.splitlines()[1:] == ["relay    none", "address  none"]


def test_new_key_in_a_file_is_its_owners_alone(tmp_path: Path) -> None:
    """Mode 0600; the key is not printed, an old one is only replaced by force."""
    path = tmp_path / "key"
    made = iroh_py("key", "new", str(path))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    key = SecretKey.parse(path.read_text().strip())
    assert made.stdout.strip() == str(key.node_id)
    assert key.to_text() not in made.output
    assert "--force" in refusal(iroh_py("key", "new", str(path)), 1)
    assert iroh_py("key", "new", "--force", str(path)).exit_code == 0
    assert path.read_text().strip() != key.to_text()


def test_new_key_without_a_file_is_printed_alone() -> None:
    """For a password store: stdout is the secret, stderr says whose it is."""
    result = iroh_py("key", "new")
    assert str(SecretKey.parse(result.stdout.strip()).node_id) in result.stderr


def test_key_show_tells_the_node_id_and_the_secret_only_on_request(tmp_path: Path) -> None:
    """All forms of the id; a file that others may read is warned of."""
    path = tmp_path / "key"
    path.write_text(SECRET.to_text())
    path.chmod(0o644)
    shown = iroh_py("key", "show", str(path))
    assert all(text in shown.stdout for text in (str(NODE), NODE.base32, NODE.z32))
    assert f"chmod 600 {path}" in shown.stderr
    assert SECRET.to_text() not in shown.output
    assert iroh_py("key", "show", "--secret", str(path)).stdout.strip() == SECRET.to_text()


@pytest.mark.parametrize("content", [b"", b"secret 1234", b"\xff" * 64, b"0" * 5000])
def test_file_without_a_key_shows_nothing_of_it(tmp_path: Path, content: bytes) -> None:
    """Perhaps it is another secret."""
    path = tmp_path / "key"
    path.write_bytes(content)
    path.chmod(0o600)
    assert refusal(iroh_py("key", "show", str(path)), 1) == (
        f"{path} holds no secret key: 64 hexadecimal digits or 52 base32 characters"
    )


def test_relays_and_token_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several relays are separated by spaces; a token given so is not seen by others."""
    seen: list[NetworkOptions] = []

    def look(options: NetworkOptions) -> EndpointConfig:
        seen.append(options)
        raise ClosedError("seen enough")

    monkeypatch.setattr(NetworkOptions, "config", look)
    iroh_py("listen", env={"IROH_PY_RELAY": "http://one https://two:8443", "IROH_PY_RELAY_TOKEN": "sesame"})
    assert seen[0].relays == ("http://one./", "https://two.:8443/")
    assert seen[0].token == "sesame"


def test_options_become_the_configuration() -> None:
    """Port 0 means a relay without STUN; discovery by name."""
    options = NetworkOptions(
        relays=(RELAY,), stun_port=0, token="sesame", portmap=False, discover=("n0", "local")
    )
    config = options.config()
    assert options.nodes()[0].stun_port is None
    assert (config.relay_token, config.portmap, config.relay_ssl) == ("sesame", False, None)
    assert [type(each).__name__ for each in config.discovery] == [
        *("DnsDiscovery", "PkarrDiscovery", "LocalDiscovery")
    ]


REPORT = Report(
    started=0.0,
    finished=1.0,
    full=True,
    udp=True,
    ipv4=True,
    ipv4_can_send=True,
    ipv6_can_send=True,
    mapping_varies_by_dest_ip=True,
    portmap_probe=PortmapProbe(upnp=True, nat_pmp=True),
    preferred_relay=RELAY,
    relay_latency={RELAY: 0.0123},
    relay_v4_latency={RELAY: 0.0123},
    global_v4=("203.0.113.9", 4711),
    captive_portal=False,
    notes=("ICMP skipped: not permitted",),
)


def run_netcheck(monkeypatch: pytest.MonkeyPatch, report: Report, *arguments: str) -> Result:
    """The command with a report made up."""

    async def made_up(*_: Any, **__: Any) -> Report:
        return report

    monkeypatch.setattr("iroh_py.cli.netcheck.run_netcheck", made_up)
    return iroh_py("netcheck", "--relay", RELAY, "--relay", "http://192.0.2.1:3340", *arguments)


def test_netcheck_in_a_pipe_is_one_plain_line_per_fact(monkeypatch: pytest.MonkeyPatch) -> None:
    """No colours, nothing folded; relays that did not answer are there, too, after those that did."""
    result = run_netcheck(monkeypatch, REPORT)
    assert result.exit_code == 0
    assert "\x1b" not in result.stdout
    lines = [re.sub(r"\s+", " ", line.strip()) for line in result.stdout.splitlines()]
    for line in (
        "UDP yes",
        "IPv4 yes, seen as 203.0.113.9:4711",
        "IPv6 no answer",
        "mapping varies by destination yes (direct paths are hard)",
        "hairpin unknown",
        "port mapping UPnP, NAT-PMP",
        "captive portal no",
        "nearest relay https://relay.example./",
        "note: ICMP skipped: not permitted",
    ):
        assert line in lines
    at = lines.index("https://relay.example./ 12.3 ms 12.3 ms - -")
    assert lines[at + 1] == "http://192.0.2.1:3340/ - - - -"


def test_netcheck_as_json_is_the_report(monkeypatch: pytest.MonkeyPatch) -> None:
    """For programs."""
    assert json.loads(run_netcheck(monkeypatch, REPORT, "--json").stdout) == REPORT.as_dict()


def test_netcheck_without_an_answer_has_status_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Scripts need not read the table."""
    result = run_netcheck(monkeypatch, Report(started=0.0, finished=1.0, full=True))
    assert result.exit_code == 1
    assert re.search(r"nearest relay\s+none", result.stdout)
