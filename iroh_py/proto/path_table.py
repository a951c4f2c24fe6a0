"""The direct paths of one node: bounded, and ordered by how likely each one works."""

from __future__ import annotations

from collections.abc import Iterator

from iroh_py.proto.paths import PRUNE_AFTER, Path, PathState, UdpPath
from iroh_py.proto.surroundings import Surroundings

#: Direct paths kept per node. Twice the largest address list of upstream's tests (32), for two uplinks.
MAX_PATHS = 64
#: Pings of one round. A node with more paths gets them in the order of likelihood.
MAX_ROUND = 64
#: Paths learnt from the network that never answered so many pings are forgotten first.
HOPELESS_PINGS = 12


class PathTable:
    """Path states by path."""

    def __init__(self) -> None:
        self._states: dict[Path, PathState] = {}

    def __iter__(self) -> Iterator[PathState]:
        return iter(list(self._states.values()))

    def __len__(self) -> int:
        return len(self._states)

    def get(self, path: Path) -> PathState | None:
        """The state of a path, if it is known."""
        return self._states.get(path)

    def add(self, now: float, path: UdpPath, *, told: bool, keep: PathState | None) -> bool:
        """Learn a path; return whether it is new. When the table is full the least likely one makes room."""
        known = self._states.get(path)
        if known is not None:
            known.told = known.told or told
            return False
        if len(self._states) >= MAX_PATHS:
            victims = [s for s in self._states.values() if s is not keep]
            worst = min(victims, key=lambda s: (s.proven, s.told, s.last_alive() or 0.0, s.since))
            del self._states[worst.path]
        self._states[path] = PathState(path, now, told=told)
        return True

    def remove(self, path: Path) -> None:
        """Forget a path."""
        self._states.pop(path, None)

    def prune(self, now: float, *, keep: PathState | None) -> None:
        """Forget paths that nobody told us of and that have been dead for long."""
        for state in list(self._states.values()):
            hopeless = state.last_alive() is None and state.pings_lost >= HOPELESS_PINGS
            if state is not keep and not state.told and (hopeless or state.quiet_for(now) > PRUNE_AFTER):
                del self._states[state.path]

    def likely(self, count: int) -> list[PathState]:
        """The paths that payload might get through on, the most lately alive first."""
        states = sorted(
            self._states.values(), key=lambda s: (s.last_alive() is not None, s.last_alive() or -s.since)
        )
        return states[: -count - 1 : -1]

    def candidates(self, now: float, shared: Surroundings, *, keep: PathState | None) -> list[PathState]:
        """The paths for a round of pings: all known ones, and each address by our other usable interfaces too."""
        for state in list(self._states.values()):
            path = state.path
            if isinstance(path, UdpPath) and path.via == 0 and path.addr not in shared.own_addresses:
                for via in shared.vias(path.addr[0]):
                    alternative = UdpPath(path.addr, via)
                    if len(self._states) < MAX_PATHS and alternative not in self._states:
                        # Only our own end differs, so the address is as much told, or offered, as on the first path.
                        other = self._states[alternative] = PathState(
                            alternative, now, told=state.told or state.proven
                        )
                        other.credit = state.credit
        usable = [s for s in self._states.values() if self._usable(s, shared)]
        usable.sort(key=lambda s: (s is not keep, -(s.last_alive() or 0.0)))
        return usable[:MAX_ROUND]

    @staticmethod
    def _usable(state: PathState, shared: Surroundings) -> bool:
        path = state.path
        if not isinstance(path, UdpPath) or not shared.has_family(path.addr[0]):
            return False
        return shared.interface_usable(path.via) if path.via else True
