"""Every exception of netns_fixtures.

::

    LabError
    |- TopologyError      (also ValueError) the description cannot be built: a wrong value, an unknown name
    `- LinkEngineError    the engine that impairs links failed or died
"""

from __future__ import annotations


class LabError(Exception):
    """The root of every exception that netns_fixtures raises on purpose."""


class TopologyError(LabError, ValueError):
    """The description cannot be built: a wrong value, an unknown name, two things in one place."""


class LinkEngineError(LabError):
    """The engine that impairs links failed, refused or died; links are no longer what the lab says."""
