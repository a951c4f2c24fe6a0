"""Loading nftables rules into the namespace that the calling thread is in.

Through libnftables, the library that the ``nft`` program itself is made of (1 ms a ruleset), else through
``nft -f -`` (16 ms). A library context keeps its netlink socket, hence its namespace, and closing that
socket waits for an RCU grace period where a transaction deleted something: so contexts are kept as long as
their namespace.
"""

from __future__ import annotations

import ctypes
import functools
import shutil
import subprocess

from netns_fixtures.errors import CommandFailed, MissingCapability

#: Loading a ruleset takes milliseconds; a program that hangs must not hang the lab.
_TIMEOUT = 20.0
_REMEDY = "run: sudo apt-get install -y nftables"


class RuleLoader:
    """Loads rules into one namespace; make it while that namespace is entered."""

    def __init__(self, node: str) -> None:
        self._node = node
        self._library = _library()
        self._context = self._library.nft_ctx_new(0) if self._library else None
        if self._library:
            self._library.nft_ctx_buffer_error(self._context)
            self._library.nft_ctx_buffer_output(self._context)

    def load(self, text: str) -> str:
        """Carry out one transaction; returns what it printed. Raises CommandFailed, MissingCapability."""
        if self._library is None:
            return _run_program(text, self._node)
        status = self._library.nft_run_cmd_from_buffer(self._context, text.encode())
        output: bytes = self._library.nft_ctx_get_output_buffer(self._context) or b""
        if status:
            said: bytes = self._library.nft_ctx_get_error_buffer(self._context) or b""
            raise CommandFailed(("nft", "-f", "-"), status, said.decode(errors="replace"), self._node)
        return output.decode(errors="replace")

    def close(self) -> None:
        """Free the context; does nothing the second time."""
        if self._library and self._context:
            self._library.nft_ctx_free(self._context)
            self._context = None


@functools.cache
def _library() -> ctypes.CDLL | None:
    try:
        library = ctypes.CDLL("libnftables.so.1")
    except OSError:
        return None  # the program may be linked statically; it does the same, slower
    library.nft_ctx_new.restype = ctypes.c_void_p
    library.nft_ctx_new.argtypes = [ctypes.c_uint32]
    library.nft_ctx_get_error_buffer.restype = library.nft_ctx_get_output_buffer.restype = ctypes.c_char_p
    for name in ("nft_ctx_free", "nft_ctx_buffer_error", "nft_ctx_buffer_output"):
        getattr(library, name).argtypes = [ctypes.c_void_p]
    library.nft_ctx_get_error_buffer.argtypes = library.nft_ctx_get_output_buffer.argtypes = [ctypes.c_void_p]
    library.nft_run_cmd_from_buffer.argtypes = [ctypes.c_void_p, ctypes.c_char_p]
    return library


def program() -> str | None:
    """Where the nft program is; it lives in sbin, which is not on every user's path."""
    return shutil.which("nft") or shutil.which("nft", path="/usr/sbin:/sbin:/usr/local/sbin")


def _run_program(text: str, node: str) -> str:
    nft = program()
    if nft is None:
        raise MissingCapability("the nft program is not installed, and NAT needs it", _REMEDY)
    done = subprocess.run([nft, "-f", "-"], input=text, capture_output=True, text=True, timeout=_TIMEOUT)
    if done.returncode:
        raise CommandFailed((nft, "-f", "-"), done.returncode, done.stderr, node)
    return done.stdout
