"""``lab_factory``: labs for tests, closed newest first, their events on the timeline of the running test."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pytest_iroh.options import Settings
from pytest_iroh.replay import Seeds
from pytest_iroh.timeline import Recorder

if TYPE_CHECKING:
    from netns_fixtures import Lab

#: Labs that factories made and nobody closed yet: those of a wide scope are on the timeline of every test.
OPEN_LABS: list[Lab] = []


class LabFactory:
    """Makes labs. Call it for a new one; ``close`` closes all that are open, newest first."""

    def __init__(
        self,
        seed: int | None = None,
        timeout_scale: float = 1.0,
        seeds: Seeds | None = None,
        link_engine: str | None = None,
    ) -> None:
        self._seed = seed
        #: Of the labs of a repro file, by their names.
        self._seeds = Seeds(()) if seeds is None else seeds
        self._timeout_scale = timeout_scale
        self._link_engine = link_engine
        self._made: list[Lab] = []

    @classmethod
    def of(cls, settings: Settings) -> LabFactory:
        """A factory as the options of a run want it."""
        seeds = None if settings.replay is None else settings.replay.seeds()
        return cls(settings.seed, settings.timeout_scale, seeds, settings.link_engine)

    def __call__(self, name: str = "lab", *, seed: int | None = None, **options: Any) -> Lab:
        """A new lab, also usable with ``with``; ``options`` go to ``netns_fixtures.Lab``.

        ``seed``: by default the option ``--netns-seed``, else drawn by the lab. ``link_engine``: by default
        ``--netns-link-engine``.
        """
        from netns_fixtures import Lab

        if seed is None:
            recorded = self._seeds.take(name)
            seed = self._seed if recorded is None else recorded
        if self._link_engine is not None:
            options.setdefault("link_engine", self._link_engine)
        lab = Lab(name, seed, **options)
        lab.timeout_scale = self._timeout_scale
        self._made.append(lab)
        OPEN_LABS.append(lab)
        recorder = Recorder.current()
        if recorder is not None:
            recorder.watch_lab(lab)
        return lab

    def __repr__(self) -> str:
        return f"<LabFactory: {sum(not lab.closed for lab in self._made)} open>"

    def close(self) -> None:
        """Close the labs, newest first. Raises ExceptionGroup when some could not be closed."""
        errors: list[Exception] = []
        while self._made:
            lab = self._made.pop()
            OPEN_LABS.remove(lab)
            try:
                lab.close()
            except Exception as error:
                errors.append(error)  # the others must be closed, too
        if errors:
            raise ExceptionGroup("labs did not close well", errors)
