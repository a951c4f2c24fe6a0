"""``netns-lab`` with scenario files: programs in hosts, labs that stay up, shells, and what killed ones leave."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from doc_kit import ROOT
from terminal_kit import shell_status

from netns_fixtures import LabError, load_scenario
from netns_fixtures.cli import main
from netns_fixtures.cli.labs import age
from netns_fixtures.doctor import capabilities
from netns_fixtures.holding import places

pytestmark = pytest.mark.requires_netns
EXAMPLES = [path for kind in ("*.yaml", "*.toml") for path in sorted((ROOT / "examples").glob(kind))]
#: Seconds for one command; each takes half a second.
PATIENCE = 60

FILE = """
seed: 7
routers: {home: {nat: moderate}, hotspot: {nat: moderate}}
hosts: {laptop: {uplink: home}, phone: {uplink: home}}
timeline:
- {at: 0.05, do: laptop.replug, args: {router: hotspot}}
"""


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A scenario file, and a place of this test's own for labs that are up."""
    monkeypatch.setenv(places.VARIABLE, str(tmp_path / "state"))
    path = tmp_path / "move.yaml"
    path.write_text(FILE)
    yield path
    output("down", "--all")


def command(*words: object) -> list[str]:
    return [sys.executable, "-m", "netns_fixtures.cli", *map(str, words)]


def netns_lab(*words: object, stdin: str = "") -> subprocess.CompletedProcess[str]:
    """Run the command line as a user does, in a pipe."""
    return subprocess.run(
        command(*words), input=stdin, capture_output=True, text=True, timeout=PATIENCE, check=False
    )


def output(*words: object) -> str:
    """What a command prints that needs no input: in this process, which is ten times faster."""
    result = CliRunner().invoke(main, list(map(str, words)))
    assert result.exit_code == 0, result.output
    return result.stdout


def listed() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(output("list", "--json"))
    return found


def test_program_runs_in_a_host_while_the_timeline_is_played(file: Path) -> None:
    """stdout is the program's, stdin goes to it, the status is its; events are told on stderr at their times."""
    script = "cat; until ip -4 -brief address show eth0 | grep 192.168.2.10; do sleep 0.01; done; exit 3"
    done = netns_lab("run", file, "--", "sh", "-c", script, stdin="hello\n")
    assert done.returncode == 3
    lines = done.stdout.splitlines()
    assert lines[0] == "hello"
    assert "192.168.2.10/24" in lines[1]
    (told,) = [line for line in done.stderr.splitlines() if "replugged" in line]
    assert re.fullmatch(r" +\+\d+\.\d{3}  laptop eth0 replugged home -> hotspot", told)


def test_several_programs_are_shown_with_their_hosts_and_as_json(file: Path, tmp_path: Path) -> None:
    """``--on``: a line names its host; ``--json``: every line is an object; evidence is left behind."""
    evidence = tmp_path / "evidence"
    words = ("--on", "laptop=echo from the laptop", "--on", "phone=sh -c 'sleep 0.2; exit 4'")
    done = netns_lab("run", file, *words, "--json", "--evidence", evidence)
    assert done.returncode == 4
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    (told,) = [line for line in lines if line["type"] == "output"]
    assert (told["node"], told["text"]) == ("laptop", "from the laptop")
    assert "replugged" in [line.get("kind") for line in lines]
    assert lines[-1] == {"type": "end", "status": 4, "seed": 7}
    assert (evidence / "packets" / "laptop-eth0.pcapng").stat().st_size > 0
    assert "192.168.2.10" in (evidence / "kernel" / "laptop.txt").read_text()
    assert "replugged" in (evidence / "timeline.jsonl").read_text()
    repro = load_scenario(evidence / "repro.yaml")
    assert [(a.at, a.path) for a in repro.actions] == [(0.05, "laptop.replug")]
    again = netns_lab("replay", evidence / "repro.yaml")
    assert again.returncode == 0
    assert "+0.05" in again.stderr


def test_signal_ends_the_program_and_the_lab(file: Path) -> None:
    """SIGTERM is passed on to the program; the status is that of a signal."""
    running = subprocess.Popen(
        command("run", file, "--", "sh", "-c", "echo up; exec sleep 1000"), stdout=subprocess.PIPE, text=True
    )
    assert running.stdout is not None
    with running, running.stdout:
        assert running.stdout.readline() == "up\n"
        running.terminate()
        assert running.wait(PATIENCE) == 128 + signal.SIGTERM


def test_ctrl_c_while_the_lab_is_built_is_told_as_such(file: Path, tmp_path: Path) -> None:
    """130 as in a shell: no traceback, no program's status; with evidence, too."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    words = json.dumps(["sh", "-c", f"echo up > {fifo}; exec sleep 1000"])
    file.write_text(f"{FILE}run:\n- {{on: laptop, command: {words}, ready: never}}\n")
    running = subprocess.Popen(
        command("run", file, "--evidence", tmp_path / "evidence", "--", "true"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with running:
        with open(fifo) as built:
            assert built.readline() == "up\n"
        running.send_signal(signal.SIGINT)
        _out, said = running.communicate(timeout=PATIENCE)
    assert running.returncode == 128 + signal.SIGINT
    assert "Traceback" not in said


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--host", "lap", "--", "true"], "no host named 'lap'; there are laptop, phone"),
        (["--on", "phone=no-such-program"], "no-such-program"),
    ],
)
def test_what_cannot_be_run_is_told_with_a_status_of_its_own(file: Path, words: list[str], says: str) -> None:
    """125, which is no program's; one sentence."""
    done = netns_lab("run", file, "--quiet", *words)
    assert done.returncode == 125
    (sentence,) = done.stderr.splitlines()
    assert sentence.startswith("Error: ")
    assert says in sentence


def test_failing_step_ends_the_run(file: Path) -> None:
    """A timeline that cannot go on is an error, whatever the program says."""
    file.write_text(FILE + "- {at: 0.1, do: laptop.renumber, args: {address: 1.2.3.4}}\n")
    done = netns_lab("run", file, "--quiet", "--", "sleep", "1000")
    assert done.returncode == 125
    assert "Error: step 2 of the timeline, at 0.1 s, laptop.renumber" in done.stderr


def test_wrong_use_is_refused(file: Path) -> None:
    """Nothing is built; the sentence says what would be right."""
    for words, says in (
        (["run", str(file), "--host", "laptop"], "after --"),
        (["run", str(file), "--on", "phone"], "server=iperf3"),
        (["run", str(file), "--"], "after -- comes a program"),
        (["exec", "laptop"], "after --"),
        (["shell", "a", "b", "c"], "[LAB] HOST"),
        (["down", "x", "--all"], "exclude"),
        (["up", str(file), "--name", "a/b"], "no name for a lab"),
        (["down", "nothing"], "no lab named 'nothing' is up; there is none"),
    ):
        result = CliRunner().invoke(main, words)
        assert result.exit_code in (2, 125)
        assert says in result.output
    file.write_text("routers: {home: {nat: modrate}}")
    result = CliRunner().invoke(main, ["check", str(file)])
    assert f"Error: {file}, line 1 (routers.home): nat='modrate'" in result.output


@pytest.mark.parametrize("words", [("run",), ("up", "--detach")])
def test_engine_of_the_command_line_is_made_or_refused(file: Path, words: tuple[str, ...]) -> None:
    """Whatever the file says: links by netem, or where there is none its name and the remedy."""
    file.write_text(FILE.replace("phone: {uplink: home}", "phone: {uplink: home, delay: 0.001}"))
    result = netns_lab(*words, file, "--link-engine", "netem")
    if capabilities().has("netem"):
        assert result.returncode == 0, result.stderr
    else:
        assert result.returncode != 0
        assert "impair links in the kernel" in result.stderr
        assert "modprobe sch_netem" in result.stderr


def test_lab_stays_up_and_can_be_changed_until_it_is_brought_down(file: Path) -> None:
    """up, list, exec, do, events, save, down; programs use our input and output."""
    assert output("up", file, "--detach", "--name", "mine") == "mine\n"
    (held,) = listed()
    assert (held["name"], held["hosts"], held["seed"]) == ("mine", ["laptop", "phone"], 7)
    assert "mine" in output("list")
    assert netns_lab("exec", "mine", "phone", "--", "cat", stdin="through\n").stdout == "through\n"
    assert netns_lab("exec", "phone", "--", "sh", "-c", "kill -9 $$").returncode == 128 + signal.SIGKILL
    impaired = output("do", "laptop.link.condition", "delay=0.1", "direction=egress")
    assert impaired == "laptop eth0 is now 100 ms (egress)\n"
    assert "replugged home -> hotspot" in output("do", "mine", "laptop.replug", "hotspot")
    wrong = CliRunner().invoke(main, ["do", "laptop.replug", "hotpot"])
    assert (wrong.exit_code, "no node named 'hotpot'" in wrong.output) == (125, True)
    assert "laptop eth0 replugged" in output("events")
    assert "do: laptop.replug" in output("save")
    taken = CliRunner().invoke(main, ["up", str(file), "--detach", "--name", "mine"])
    assert "a lab named 'mine' is up already" in taken.output
    assert output("down") == "mine is down\n"
    assert listed() == []


def test_printed_command_enters_the_host(file: Path) -> None:
    """``shell --print`` is a command for any terminal of the same user."""
    output("up", file, "--detach")
    enter = output("shell", "laptop", "--print").split()[:-1]
    shown = subprocess.run([*enter, "cat", "/proc/net/route"], capture_output=True, text=True, check=True)
    assert "eth0" in shown.stdout


def test_shell_is_a_terminal_in_the_host(file: Path) -> None:
    """Job control works: Ctrl-C reaches the program in front, not the shell; the size is ours."""
    output("up", file, "--detach")
    pid, terminal = pty.fork()
    if pid == 0:
        os.environ.update(SHELL="/bin/sh", PS1="$ ", ENV="")
        os.execv(sys.executable, command("shell", "laptop"))
    assert shell_status(pid, terminal) == 7


def test_lab_of_a_killed_holder_is_gone_and_its_trace_is_removed(file: Path) -> None:
    """kill -9 leaves files, which the next command removes; the name is free again."""
    output("up", file, "--detach", "--name", "mine")
    (held,) = listed()
    holder = os.pidfd_open(held["pid"])
    os.kill(held["pid"], signal.SIGKILL)
    assert select.select([holder], [], [], PATIENCE)[0]
    os.close(holder)
    assert places.directory().joinpath("mine.json").exists()
    assert listed() == []
    assert list(places.directory().iterdir()) == []
    output("up", file, "--detach", "--name", "mine")


def test_lab_in_the_foreground_ends_with_a_signal(file: Path) -> None:
    """Without --detach it stays in this terminal, tells its events, and is listed meanwhile."""
    running = subprocess.Popen(
        command("up", file, "--play"), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert running.stdout is not None
    assert running.stderr is not None
    with running:
        assert "is up: netns-lab shell move laptop" in running.stdout.readline()
        for line in running.stderr:
            if "replugged" in line:
                break
        assert [held["name"] for held in listed()] == ["move"]
        running.send_signal(signal.SIGINT)
        assert running.wait(PATIENCE) == 0
    assert listed() == []


def test_place_of_somebody_else_is_not_used(file: Path, tmp_path: Path) -> None:
    """A directory that others may write to could hold a socket of theirs."""
    open_to_all = tmp_path / "open"
    open_to_all.mkdir()
    open_to_all.chmod(0o777)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(places.VARIABLE, str(open_to_all))
        with pytest.raises(LabError, match="not a directory of yours alone"):
            places.directory()


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.name)
def test_example_file_does_what_its_first_lines_say(example: Path) -> None:
    """The command in its comment ends well, and every step of the timeline is told."""
    (line,) = [line for line in example.read_text().splitlines() if line.startswith("#   netns-lab ")]
    words = shlex.split(line.removeprefix("#   netns-lab "))
    words[words.index(f"examples/{example.name}")] = str(example)
    done = netns_lab(*words[: words.index("--") if "--" in words else None])
    assert done.returncode == 0, done.stderr
    assert len(re.findall(r"^ +\+", done.stderr, re.MULTILINE)) >= len(load_scenario(example).actions)
    assert f"[{example.name}]({example.name})" in (example.parent / "README.md").read_text()


def test_age_has_its_two_largest_units() -> None:
    """As people say it."""
    assert [age(s) for s in (0, 59, 61, 3600, 90061)] == ["0 s", "59 s", "1 min 1 s", "1 h 0 min", "1 d 1 h"]
