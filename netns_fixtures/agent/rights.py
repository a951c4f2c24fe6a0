"""Getting the rights to make namespaces: as root those at hand, else through a user namespace of our own."""

from __future__ import annotations

import os

from netns_fixtures.agent.syscalls import (
    CLONE_NEWNET,
    CLONE_NEWNS,
    CLONE_NEWUSER,
    MS_PRIVATE,
    MS_REC,
    mount,
    raise_ambient_capabilities,
    unshare,
)
from netns_fixtures.errors import MissingCapability


def acquire() -> str:
    """Enter a mount and a network namespace (and where needed a user namespace); returns "root" or "userns".

    The user namespace maps only our own uid and gid, each to itself, so files keep their owners; ambient
    capabilities let ``nft``, ``ip`` and the hosts' programs keep what the agent may do.
    Raises MissingCapability.
    """
    mode = "root"
    try:
        # An empty network for the agent itself: nothing that it does can ever touch the machine's own.
        unshare(CLONE_NEWNS | CLONE_NEWNET)
    except PermissionError:
        _enter_user_namespace()
        mode = "userns"
    # Mounts of the agent and its hosts never show up outside.
    mount("none", "/", "none", MS_REC | MS_PRIVATE)
    return mode


def _enter_user_namespace() -> None:
    uid, gid = os.geteuid(), os.getegid()
    try:
        unshare(CLONE_NEWUSER | CLONE_NEWNS)
        _write("/proc/self/setgroups", "deny")
        _write("/proc/self/uid_map", f"{uid} {uid} 1")
        _write("/proc/self/gid_map", f"{gid} {gid} 1")
        raise_ambient_capabilities()
        # AppArmor (Ubuntu 24.04) lets the user namespace be made and then takes its capabilities away.
        unshare(CLONE_NEWNET)
    except OSError as error:
        raise MissingCapability(
            f"no unprivileged user namespaces here ({error})", user_namespace_remedy()
        ) from None


def user_namespace_remedy() -> str:
    """The command that helps, from what this kernel says about itself."""
    if _read("/proc/sys/kernel/apparmor_restrict_unprivileged_userns") == "1":
        return "run: sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0 (or run as root)"
    if _read("/proc/sys/kernel/unprivileged_userns_clone") == "0":
        return "run: sudo sysctl -w kernel.unprivileged_userns_clone=1 (or run as root)"
    if _read("/proc/sys/user/max_user_namespaces") == "0":
        return "run: sudo sysctl -w user.max_user_namespaces=15000 (or run as root)"
    return (
        "run as root, or in a container allow it: docker run --cap-add SYS_ADMIN --cap-add NET_ADMIN"
        " --security-opt seccomp=unconfined --security-opt apparmor=unconfined"
    )


def _write(path: str, text: str) -> None:
    fd = os.open(path, os.O_WRONLY)
    try:
        os.write(fd, text.encode())
    finally:
        os.close(fd)


def _read(path: str) -> str:
    try:
        with open(path) as file:
            return file.read().strip()
    except OSError:
        return ""  # kernels without this knob do not restrict by it
