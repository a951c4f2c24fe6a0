"""Options as command line, environment and ini; markers; the header."""

from __future__ import annotations

import pytest

from netns_fixtures.link_engine import LinkEngine
from pytest_iroh import pause
from pytest_iroh.options import ENGINES, OPTIONS, Option, settings_of
from pytest_iroh.replay import Replay

VALUES = {
    "strict": ("true", True),
    "timeout-scale": ("2.5", 2.5),
    "seed": ("42", 42),
    "link-engine": ("wire", "wire"),
    "replay": ("repro.yaml", Replay("test_it.py::test_it", (("lab", 9),))),
    "artifacts": ("off", "off"),
    "output": ("elsewhere", None),
    "pause-on-failure": ("yes", True),
    "topology-only": ("1", True),
    "grid": ("elsewhere", None),
    "pair": ("moderate, strict", ("moderate", "strict")),
}
REPRO = "test: {test: test_it.py::test_it, labs: [{name: lab, seed: 9}]}"


def _arguments(option: Option, text: str) -> list[str]:
    return [option.flag] if VALUES[option.name][1] is True else [option.flag, text]


def _ini(pytester: pytest.Pytester, option: Option, text: str) -> None:
    pytester.makeini(f"[pytest]\nasyncio_default_fixture_loop_scope = function\n{option.ini} = {text}")


def _value(config: pytest.Config, option: Option) -> object:
    return getattr(settings_of(config), option.name.replace("-", "_"))


@pytest.mark.parametrize("option", OPTIONS, ids=lambda option: option.name)
@pytest.mark.parametrize("place", ["command line", "environment", "ini"])
def test_option_is_read_from(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, option: Option, place: str
) -> None:
    """Each option can be given in each of three places."""
    monkeypatch.setattr(pause, "check", lambda _config: None)  # it wants a terminal
    text, value = VALUES[option.name]
    (pytester.path / "repro.yaml").write_text(REPRO)
    arguments = []
    if place == "command line":
        arguments = _arguments(option, text)
    elif place == "environment":
        monkeypatch.setenv(option.env, text)
    else:
        _ini(pytester, option, text)

    config = pytester.parseconfigure(*arguments)

    assert _value(config, option) == (pytester.path / "elsewhere" if value is None else value)
    assert settings_of(config).told


def test_command_line_beats_environment_beats_ini(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The nearer place wins; a flag of the environment can be taken back on the command line."""
    option = next(option for option in OPTIONS if option.name == "seed")
    _ini(pytester, option, "1")
    assert settings_of(pytester.parseconfigure()).seed == 1
    monkeypatch.setenv("PYTEST_NETNS_SEED", "2")
    assert settings_of(pytester.parseconfigure()).seed == 2
    assert settings_of(pytester.parseconfigure("--netns-seed=3")).seed == 3

    monkeypatch.setenv("PYTEST_NETNS_STRICT", "yes")
    assert settings_of(pytester.parseconfigure()).strict
    assert not settings_of(pytester.parseconfigure("--no-netns-strict")).strict


def test_defaults(pytester: pytest.Pytester) -> None:
    """Nobody has to set anything."""
    settings = settings_of(pytester.parseconfigure())

    assert (settings.strict, settings.timeout_scale, settings.seed) == (False, 1.0, None)
    assert (settings.artifacts, settings.output) == ("retain-on-failure", pytester.path / "test-results")
    assert not settings.told


@pytest.mark.parametrize(
    ("variable", "text", "valid"),
    [
        ("PYTEST_NETNS_STRICT", "maybe", "it is true or false"),
        ("PYTEST_NETNS_TIMEOUT_SCALE", "0", "it is a number above 0"),
        ("PYTEST_NETNS_TIMEOUT_SCALE", "fast", "it is a number above 0"),
        ("PYTEST_NETNS_SEED", "-1", "it is a whole number"),
        ("PYTEST_NETNS_LINK_ENGINE", "tc", "it is one of auto, wire, netem"),
        ("PYTEST_NETNS_ARTIFACTS", "sometimes", "it is one of on, off, retain-on-failure"),
        ("PYTEST_NETNS_PAIR", "moderate", "it is a row and a column"),
    ],
)
def test_bad_value_is_a_usage_error(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, variable: str, text: str, valid: str
) -> None:
    """A value that an option cannot have ends the run and says where it stands and what is valid."""
    monkeypatch.setenv(variable, text)

    result = pytester.runpytest()

    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"ERROR: {variable}='{text}': {valid}*"])


def test_markers_are_registered(pytester: pytest.Pytester) -> None:
    """--markers lists ours, so --strict-markers accepts them."""
    result = pytester.runpytest("--markers")

    result.stdout.fnmatch_lines(["@pytest.mark.requires_netns(*", "@pytest.mark.virtual_time(*"])


def test_fixtures_are_documented(pytester: pytest.Pytester) -> None:
    """--fixtures shows a sentence for each of ours."""
    result = pytester.runpytest("--fixtures")

    for name in ("lab", "lab_factory", "endpoints", "heals", "recorder", "sim", "netns_capabilities"):
        (line,) = [
            number
            for number, line in enumerate(result.outlines)
            if line.startswith((f"{name} ", f"{name} [")) and "pytest_iroh" in line
        ]
        assert result.outlines[line + 1].strip()


@pytest.mark.usefixtures("fake_labs")
def test_timeout_scale_stretches_heals(pytester: pytest.Pytester) -> None:
    """The factor applies to the fixture and to the imported function."""
    pytester.makepyfile(
        """
        import pytest_iroh

        def test_scaled(heals):
            for make in (heals, pytest_iroh.heals):
                with make(bool, within=2) as healing:
                    assert healing.within == 6
        """.replace("bool", "lambda: True")
    )

    pytester.runpytest("--netns-timeout-scale=3").assert_outcomes(passed=1)


@pytest.mark.requires_netns
def test_timeout_scale_stretches_every_wait(pytester: pytest.Pytester) -> None:
    """Processes, functions in hosts, and packet assertions wait as many times longer as the option says."""
    pytester.makepyfile(
        """
        import socket, time
        import pytest
        from netns_fixtures.capture import capture
        from pytest_iroh.packets import assert_packet

        def late(seconds, step):
            started = time.monotonic()
            with pytest.raises((TimeoutError, AssertionError)):
                step()
            return seconds * 0.95 <= time.monotonic() - started

        def test_waits(lab):
            laptop = lab.host("laptop", uplink=lab.router("home"))
            sleeper = laptop.popen(["sleep", "100"])
            assert lab.timeout_scale == 20
            assert late(0.2, lambda: sleeper.wait(0.01))
            assert late(0.2, lambda: sleeper.wait_for_output("never", 0.01))
            with capture(laptop) as packets:
                assert late(0.2, lambda: assert_packet(packets, "tcp", within=0.01))
            assert laptop.run(time.sleep, 0.2, timeout=0.1) is None
        """
    )

    pytester.runpytest("--netns-timeout-scale=20", "--netns-strict").assert_outcomes(passed=1)


@pytest.mark.usefixtures("fake_labs")
def test_seed_option_is_the_seed_of_every_lab(pytester: pytest.Pytester) -> None:
    """A given seed reaches labs of the fixture and of the factory; a lab's own seed wins."""
    pytester.makepyfile(
        """
        def test_seed(lab, lab_factory):
            assert lab.seed == lab_factory().seed == 42
            assert lab_factory(seed=7).seed == 7
        """
    )

    pytester.runpytest("--netns-seed=42").assert_outcomes(passed=1)


def test_engines_are_those_of_labs() -> None:
    """The plugin knows their names without importing labs."""
    assert tuple(LinkEngine) == ENGINES


def test_importing_the_plugin_imports_no_endpoint(pytester: pytest.Pytester) -> None:
    """Projects that use no lab do not pay for the QUIC stack."""
    pytester.makepyfile(
        """
        import sys

        def test_modules():
            heavy = {"iroh_py", "aioquic", "cryptography", "netns_fixtures", "pyroute2", "scapy"}
            assert not heavy & set(sys.modules)
        """
    )

    pytester.runpytest_subprocess("-p", "no:cacheprovider").assert_outcomes(passed=1)
