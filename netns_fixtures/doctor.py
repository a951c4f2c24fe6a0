"""What this machine can do, found out by doing it in the lab agent, never from lists of modules."""

from __future__ import annotations

import functools
import os
import platform

from netns_fixtures.client import shared_agent
from netns_fixtures.errors import MissingCapability
from netns_fixtures.features import Capabilities, Feature
from netns_fixtures.messages import Probe

__all__ = ["Capabilities", "Feature", "capabilities"]


def capabilities() -> Capabilities:
    """Try everything once per process; later calls remember. Never raises MissingCapability."""
    return _capabilities(os.getpid())


@functools.lru_cache(maxsize=1)
def _capabilities(_process: int) -> Capabilities:
    try:
        agent = shared_agent()
    except MissingCapability as error:
        reason = Feature(
            "namespaces", False, "make network namespaces", error.what, error.remedy, needed=True
        )
        return Capabilities("", platform.release(), (reason,))
    features, _fds = agent.request(Probe())
    return Capabilities(agent.mode, platform.release(), features)
