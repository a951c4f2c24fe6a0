"""What impaired links are made of."""

from __future__ import annotations

import enum
import os

from netns_fixtures.errors import TopologyError

#: What a kernel needs for it, by the doctor's names.
NETEM_FEATURES = ("netem", "tbf", "prio")


#: Environment variable: the engine of labs that name none, also of those that programs and tests make for themselves.
VARIABLE = "NETNS_FIXTURES_LINK_ENGINE"


class LinkEngine(enum.StrEnum):
    """The engines of a lab."""

    AUTO = "auto"
    """The wire, also where there is a netem: it runs on every kernel, its losses can be repeated from a seed, it never
    loses ARP, and it sees real frames where the kernel's queues see joined ones."""
    WIRE = "wire"
    """A process in userspace (``netns_fixtures.wire``)."""
    NETEM = "netem"
    """The kernel's netem and tbf (``netns_fixtures.netem``)."""

    @classmethod
    def parse(cls, name: str) -> LinkEngine:
        """An engine by name. Raises TopologyError."""
        try:
            return cls(name)
        except ValueError:
            raise TopologyError(f"link_engine={name!r}: it is one of {', '.join(cls)}") from None

    @classmethod
    def chosen(cls, name: str | None) -> LinkEngine:
        """An engine by name, or where that is None that of the environment, or AUTO. Raises TopologyError."""
        if name is not None:
            return cls.parse(name)
        text = os.environ.get(VARIABLE)
        if not text:
            return cls.AUTO
        try:
            return cls.parse(text)
        except TopologyError as error:
            raise TopologyError(f"{VARIABLE}: {error}") from None

    @property
    def carrier(self) -> str:
        """What carries impaired links: "wire" or "netem"."""
        return LinkEngine.NETEM.value if self is LinkEngine.NETEM else LinkEngine.WIRE.value
