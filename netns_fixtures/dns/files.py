"""What a host's programs read about names: /etc/resolv.conf, /etc/hosts, /etc/nsswitch.conf."""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Sequence

from netns_fixtures.dns.settings import SEARCH

_NSSWITCH = "/etc/nsswitch.conf"
#: glibc's own default is 5 s, and a test of a dead name server has no time for that.
_OPTIONS = "timeout:1 attempts:2"


def files_of(servers: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """(path, content) of the files that stand in place of the machine's."""
    lines = [f"search {SEARCH}", *(f"nameserver {ip}" for ip in servers), f"options {_OPTIONS}"]
    files = [("/etc/resolv.conf", "\n".join(lines) + "\n"), ("/etc/hosts", _hosts())]
    switch = _switch()
    return (*files, (_NSSWITCH, switch)) if switch else tuple(files)


def _hosts() -> str:
    """Without the machine's other names; with its own, which programs look up to know themselves."""
    name = os.uname().nodename
    return f"127.0.0.1\tlocalhost\n127.0.1.1\t{name}\n::1\tlocalhost ip6-localhost ip6-loopback\n"


@functools.cache
def _switch() -> str:
    """The machine's name service switch, but hosts from files and DNS alone; "" where there is none (musl).

    Other services (systemd-resolved, mDNS) would ask the machine instead of the lab.
    """
    try:
        with open(_NSSWITCH) as file:
            text = file.read()
    except OSError:
        return ""  # glibc's default is files and DNS
    rest = re.sub(r"(?m)^\s*hosts:.*\n?", "", text)
    return f"{rest.rstrip()}\nhosts: files dns\n"
