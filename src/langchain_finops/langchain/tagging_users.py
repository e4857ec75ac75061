"""Users in tagged requests: keyed hashes, the same wherever the key is the same, which nobody can undo without it."""

import functools
import hmac
import logging
import os
import secrets
from hashlib import sha256
from pathlib import Path
from typing import Final

from langchain_finops.errors import BadArguments
from langchain_finops.ledger import default_path

__all__ = ["hash_of", "hashed_user", "key_of", "warn_once"]

log = logging.getLogger("langchain_finops")

KEY_VARIABLE: Final = "FINOPS_USER_KEY"
KEY_FILE: Final = "tagging.key"
HASH_CHARACTERS: Final = 32


def hashed_user(user_id: str, user_key: str | bytes | None = None) -> str:
    """What stands for a user in tagged requests: to find out whom a provider speaks of. Keyed as in `tag_requests`."""
    return hash_of(user_id, key_of(user_key))


def hash_of(user_id: str, key: bytes) -> str:
    """The first 128 bits of the id's HMAC-SHA256, as text."""
    return hmac.digest(key, user_id.encode(errors="replace"), sha256).hex()[:HASH_CHARACTERS]


def key_of(given: str | bytes | None) -> bytes:
    """The key that was given, else `$FINOPS_USER_KEY`, else this user's own. Raises BadArguments for an empty one."""
    named = os.environ.get(KEY_VARIABLE) if given is None else given
    if named is None:
        return _own_key(default_path().with_name(KEY_FILE))
    key = named.encode() if isinstance(named, str) else named
    if not key.strip():
        raise BadArguments(
            f"{'user_key' if given is not None else KEY_VARIABLE} is empty: anybody could undo its hashes."
        )
    return key


def _own_key(path: Path) -> bytes:
    """The key of whoever names none, made at its first use: the same for all processes of this user here."""
    try:
        if not path.exists():
            _make_key(path)
        key = path.read_bytes().strip()
        if key:
            return key
    except OSError:
        pass
    warn_once(f"{path} cannot be used: users' hashes hold for this process only. Set {KEY_VARIABLE} to have them last")
    return _process_key()


def _make_key(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(secrets.token_hex(32).encode())
    try:
        path.hardlink_to(new)  # All or nothing: of two processes at once both go on with the key of the first.
    except FileExistsError:
        pass
    finally:
        new.unlink()


@functools.cache
def _process_key() -> bytes:
    return secrets.token_bytes(32)


@functools.lru_cache(maxsize=256)
def warn_once(text: str) -> None:
    """Log it, if it has not been logged before."""
    log.warning("%s", text)
