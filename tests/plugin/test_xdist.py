"""Under pytest-xdist: workers share nothing, and nothing outlives them."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import pytest

#: Seconds for the kernel to end what belonged to a killed process.
GONE_WITHIN = 10.0

HEAL = """
import pytest

@pytest.mark.parametrize("number", range(4))
async def test_heals(lab, endpoints, heals, number):
    home, hotspot = lab.router("home", nat="moderate"), lab.router("hotspot", nat="moderate")
    laptop, server = lab.host("laptop", uplink=home), lab.host("server", uplink=lab.router("dc"))
    async with endpoints.connect(laptop, server) as connection:
        async with heals(connection) as healing:
            laptop.replug(hotspot)
    assert healing.bytes_lost == 0
"""


@pytest.mark.requires_netns
def test_workers_have_labs_of_their_own(pytester: pytest.Pytester) -> None:
    """The same names and addresses in two workers at once do not meet."""
    pytester.makepyfile(HEAL)

    result = pytester.runpytest_subprocess("-n", "2", "--netns-strict")

    result.assert_outcomes(passed=4)
    result.stdout.fnmatch_lines(["netns: Linux *, nft yes, *"])


def test_reasons_and_artifacts_reach_the_controller(pytester: pytest.Pytester) -> None:
    """Skips are counted, and stories and artifacts are shown, as in a run without workers."""
    pytester.makepyfile(
        """
        import pytest
        from netns_fixtures import MissingCapability

        @pytest.mark.parametrize("number", range(2))
        def test_skips(number):
            raise MissingCapability("netem", "run: modprobe sch_netem")

        @pytest.mark.virtual_time(seed=3)
        async def test_fails(sim):
            sim.link(sim.host("laptop"), delay=0.1)
            assert 1 + 1 == 3
        """
    )

    result = pytester.runpytest_subprocess("-n", "2", "-rs")

    result.assert_outcomes(skipped=2, failed=1)
    result.stdout.fnmatch_lines(
        [
            "*= netns story =*".replace("=", "-"),
            "*lab      laptop link delay=0.1",
            "artifacts: test-results/*/attempt-1",
            "2 skipped, not possible here: netem; run: modprobe sch_netem",
        ]
    )


GROUPS = """
import os
import pytest
from pytest_iroh import lab_fixture

def build(lab):
    lab.host("laptop", uplink=lab.router("home", nat="moderate"))

office = lab_fixture("office", build, scope="session")

@pytest.mark.parametrize("number", range(3))
@pytest.mark.parametrize("group", [pytest.param(g, marks=pytest.mark.xdist_group(g)) for g in "ab"])
def test_it(office, group, number, record_property):
    office.laptop.renumber()
    # Nobody else renumbered it: the n-th test of this worker sees its n-th address.
    seen = os.environ.setdefault("SEEN", "10")
    assert office.laptop.ip.split(".")[-1] == str(int(seen) + 1)
    os.environ["SEEN"] = str(int(seen) + 1)
"""


@pytest.mark.requires_netns
@pytest.mark.parametrize(
    "how",
    [("-n", "2", "--dist=loadgroup"), ("-n", "2", "--dist=loadscope"), ("-d", "--tx", "2*popen")],
    ids=["loadgroup", "loadscope", "tx"],
)
def test_a_session_lab_is_one_per_worker(pytester: pytest.Pytester, how: tuple[str, ...]) -> None:
    """However tests are spread over workers, each worker has one lab of a session fixture, all to itself."""
    pytester.makepyfile(GROUPS)

    pytester.runpytest_subprocess(*how, "--netns-strict").assert_outcomes(passed=6)


@pytest.mark.requires_netns
def test_a_worker_with_a_python_of_its_own(pytester: pytest.Pytester) -> None:
    """--tx popen//python=...: the worker's own interpreter starts its agent, too."""
    pytester.makepyfile(HEAL)

    python = f"popen//python={sys.executable}"
    result = pytester.runpytest_subprocess("-d", "--tx", python, "--netns-strict", "-k", "heals and 0")

    result.assert_outcomes(passed=1)


@pytest.mark.requires_netns
def test_killed_worker_leaves_no_namespace_and_no_file(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    """kill -9 of a worker in the middle of a lab with an impaired link: every namespace goes, no file stays."""
    place = pytester.mkdir("scratch")
    monkeypatch.setenv("TMPDIR", str(place))
    pytester.makepyfile(
        """
        import os, signal

        def test_dies(lab):
            laptop = lab.host("laptop", uplink=lab.router("home", nat="moderate"), delay=0.01)
            inside = laptop.run(os.readlink, "/proc/self/ns/net")
            with open("inside", "w") as file:
                file.write(inside)
            os.kill(os.getpid(), signal.SIGKILL)
        """
    )

    result = pytester.runpytest_subprocess("-n", "1", "--max-worker-restart=0", "--basetemp=base")

    result.stdout.fnmatch_lines(["*worker 'gw0' crashed*"])
    namespace = (pytester.path / "inside").read_text()
    assert namespace.startswith("net:[")
    deadline = time.monotonic() + GONE_WITHIN
    while left := _holders(namespace):
        assert time.monotonic() < deadline, left
    assert list(place.iterdir()) == []


def _holders(namespace: str) -> list[str]:
    """The processes that are in a network namespace, or hold it open."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        for link in (process / "ns" / "net", *_entries(process / "fd")):
            try:
                if os.readlink(link) == namespace:
                    found.append(str(link))
            except OSError:
                continue  # it ended just now, or was closed
    return found


def _entries(directory: Path) -> list[Path]:
    try:
        return list(directory.iterdir())
    except OSError:
        return []  # it ended just now, or is another user's


@pytest.mark.requires_netns
def test_killed_worker_leaves_no_process(pytester: pytest.Pytester) -> None:
    """kill -9 of a worker ends its agent, its namespaces and the programs in its hosts."""
    mark = f"leftover-of-{pytester.path.name}-{time.monotonic_ns()}"
    pytester.makepyfile(
        f"""
        import os
        import signal
        import sys

        def test_dies(lab):
            host = lab.host("laptop", uplink=lab.router("home", nat="moderate"))
            program = "import time; print('up', flush=True); time.sleep(1000)"
            host.popen([sys.executable, "-c", program, {mark!r}]).wait_for_output("up")
            os.kill(os.getpid(), signal.SIGKILL)
        """
    )

    result = pytester.runpytest_subprocess("-n", "1", "--max-worker-restart=0")

    result.stdout.fnmatch_lines(["*worker 'gw0' crashed*"])
    deadline = time.monotonic() + GONE_WITHIN
    while left := _processes(mark):
        assert time.monotonic() < deadline, left


def _processes(mark: str) -> list[str]:
    """The processes that have a word in their command line."""
    found = []
    for directory in Path("/proc").glob("[0-9]*"):
        try:
            words = (directory / "cmdline").read_bytes()
        except OSError:
            continue  # it ended just now
        if mark.encode() in words:
            found.append(f"{directory.name}: {words!r}")
    return found
