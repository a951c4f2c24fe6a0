"""Families and public addresses of the laptop that looks at its network."""

from __future__ import annotations

from iroh_py.network import Addr, Family

V4, V6 = Family.V4, Family.V6
MINE: Addr = ("203.0.113.1", 4000)
SIX: Addr = ("2001:db8::7", 4000)
