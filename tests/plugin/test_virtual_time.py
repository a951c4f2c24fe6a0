"""The marker ``virtual_time`` and the fixture ``sim``."""

from __future__ import annotations

import pytest

HOUR = """
import asyncio, time
import pytest

{mark}
async def test_hour():
    began = time.monotonic()
    await asyncio.sleep(3000)
    assert time.monotonic() - began < 5
"""


@pytest.mark.parametrize("mode", ["auto", "strict", "none"])
def test_marked_test_does_not_wait(pytester: pytest.Pytester, mode: str) -> None:
    """An hour of waiting takes no time, whatever pytest-asyncio would do with async tests."""
    pytester.makepyfile(HOUR.format(mark="@pytest.mark.virtual_time"))
    if mode == "none":
        pytester.makeini("[pytest]\nfilterwarnings = error")
    options = ["-p", "no:asyncio"] if mode == "none" else [f"--asyncio-mode={mode}"]

    pytester.runpytest(*options).assert_outcomes(passed=1)


def test_module_can_be_marked(pytester: pytest.Pytester) -> None:
    """A mark of the whole module takes its async tests, in classes too, and leaves plain ones alone."""
    pytester.makepyfile(
        """
        import asyncio
        import pytest

        pytestmark = pytest.mark.virtual_time(limit=100)

        class TestClass:
            async def test_method(self):
                await asyncio.sleep(99)

        @pytest.mark.parametrize("seconds", [1, 99])
        async def test_function(seconds):
            await asyncio.sleep(seconds)

        def test_plain():
            pass
        """
    )

    pytester.runpytest().assert_outcomes(passed=4)


def test_limit_ends_a_test(pytester: pytest.Pytester) -> None:
    """A test that goes on beyond its limit fails and says what still waits."""
    pytester.makepyfile(HOUR.format(mark="@pytest.mark.virtual_time(limit=60)"))

    result = pytester.runpytest()

    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*TimeLimitError: still running at the limit of 60 virtual seconds*"])


def test_hypothesis_runs_every_example_under_virtual_time(pytester: pytest.Pytester) -> None:
    """@given and the marker go together."""
    pytester.makepyfile(
        """
        import asyncio
        import pytest
        from hypothesis import given, settings, strategies

        seen = set()

        @pytest.mark.virtual_time
        @settings(max_examples=5, deadline=None, database=None)
        @given(strategies.integers(1, 1000))
        async def test_given(seconds):
            await asyncio.sleep(seconds)
            seen.add(seconds)

        def test_seen():
            assert seen
        """
    )

    pytester.runpytest().assert_outcomes(passed=2)


def test_unknown_argument_is_a_usage_error(pytester: pytest.Pytester) -> None:
    """A misspelt argument of the marker is named."""
    pytester.makepyfile(HOUR.format(mark="@pytest.mark.virtual_time(sead=3)"))

    result = pytester.runpytest()

    assert result.ret != 0
    result.stdout.fnmatch_lines(["*virtual_time takes seed= and limit=, not sead*"])


def test_sim_without_the_marker_is_a_usage_error(pytester: pytest.Pytester) -> None:
    """The fixture says which marker it needs."""
    pytester.makepyfile("def test_sim(sim):\n    pass")

    result = pytester.runpytest()

    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*mark it with @pytest.mark.virtual_time*"])


STORY = """
import asyncio
import pytest

@pytest.mark.virtual_time(seed={seed})
async def test_story(sim, endpoints, heals):
    laptop = sim.host("laptop", nat=sim.nat("home", "moderate"))
    sim.link(laptop, delay=0.02, jitter=0.01, loss=0.05)
    async with endpoints.connect(laptop, sim.host("server")) as connection:
        await asyncio.sleep(30)
        async with heals(connection) as healing:
            sim.nats["home"].rebind()
        assert healing.seconds is None
"""


def test_same_seed_tells_the_same_story(pytester: pytest.Pytester) -> None:
    """Two runs of one seed fail in the same way to the millisecond; another seed does not."""
    stories = []
    for seed in (3, 3, 4):
        pytester.makepyfile(test_seed=STORY.format(seed=seed))
        result = pytester.runpytest()
        result.assert_outcomes(failed=1)
        result.stdout.fnmatch_lines([f"*simulation engine, seed {seed}", "*payload  first answer after*"])
        stories.append([line for line in result.outlines if line.startswith("   +")])

    assert stories[0] == stories[1] != stories[2]
