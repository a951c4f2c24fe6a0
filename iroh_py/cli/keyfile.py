"""Secret keys in files: 64 hexadecimal digits that only their owner may read."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import click

from iroh_py.errors import TicketError
from iroh_py.keys import SecretKey

#: Read and write for the owner, nothing for anybody else.
MODE = 0o600
#: No form of a key is longer; a wrong file is not read into memory.
_MAX_SIZE = 1024


def load_key(path: Path) -> SecretKey:
    """Read a key; warns on stderr if others may read it, too. Raises ClickException, OSError."""
    with path.open("rb") as file:
        if os.fstat(file.fileno()).st_mode & (stat.S_IRWXG | stat.S_IRWXO):
            click.echo(f"Warning: others may access the secret key; run: chmod 600 {path}", err=True)
        content = file.read(_MAX_SIZE)
    try:
        return SecretKey.parse(content.decode("ascii").strip())
    except (TicketError, UnicodeDecodeError):  # neither says more, and nothing of a secret may be shown
        raise click.ClickException(
            f"{path} holds no secret key: 64 hexadecimal digits or 52 base32 characters"
        ) from None


def save_key(path: Path, key: SecretKey, *, force: bool = False) -> None:
    """Write a key into a new file with mode 0600; ``force`` replaces one. Raises ClickException, OSError."""
    # A link at this place is not followed, and whoever has an old file open does not see the new key.
    if force:
        path.unlink(missing_ok=True)
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, MODE)
    except FileExistsError:
        raise click.ClickException(f"{path} exists; --force replaces the key in it") from None
    with open(fd, "w", encoding="ascii") as file:
        os.fchmod(fd, MODE)  # whatever the umask is
        file.write(key.to_text() + "\n")


def load_or_make_key(path: Path | None) -> SecretKey:
    """The key in a file, made if the file is not there; a fresh key without a file."""
    if path is None:
        return SecretKey.generate()
    if not path.exists():
        key = SecretKey.generate()
        save_key(path, key)
        click.echo(f"new secret key in {path}", err=True)
        return key
    return load_key(path)
