"""The hooks of the pytest plugin; entry point ``pytest11: iroh``."""

from __future__ import annotations
