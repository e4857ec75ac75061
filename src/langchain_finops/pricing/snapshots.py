"""Newer catalogues than the installed one: downloaded on demand, checked, and kept in the user's data directory.

A downloaded catalogue counts as long as the version of genai-prices that read it is installed: another version brings
a catalogue of its own, and may read the file in another way.
"""

import json
import logging
import os
import re
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

from langchain_finops.errors import PriceError

if TYPE_CHECKING:
    from genai_prices.data_snapshot import DataSnapshot

__all__ = ["UPDATE_URL", "download", "keep", "kept_paths", "newest", "read_snapshot"]

log = logging.getLogger("langchain_finops")

UPDATE_URL = "https://raw.githubusercontent.com/pydantic/genai-prices/refs/heads/main/prices/new_data/v2/data.json"
"""Where genai-prices publishes its catalogue."""
TIMEOUT_S = 30
MOST_BYTES = 64 * 2**20
"""Twenty times as large as the catalogue is: a server that sends more sends something else."""
KEPT = 3
"""How many downloaded catalogues stay: the one in use, and two to compare it with."""
NAME = re.compile(r"(?P<over>.+)\+(?P<at>\d{8}T\d{6})-(?P<digest>[0-9a-f]{12})\.json")


def download(url: str) -> bytes:
    """The catalogue at an http(s) address. Raises PriceError for an address that gives none."""
    from urllib.error import URLError
    from urllib.request import Request, urlopen

    if not url.startswith(("https://", "http://")):
        raise PriceError(f"{url!r} is no address: it has to begin with https://")
    request = Request(url, headers={"User-Agent": "langchain-finops"})  # noqa: S310  Checked above.
    try:
        with urlopen(request, timeout=TIMEOUT_S) as response:  # noqa: S310
            data = response.read(MOST_BYTES + 1)
    except (URLError, OSError, ValueError) as error:
        reason = getattr(error, "reason", None) or error
        raise PriceError(f"{url} cannot be downloaded: {reason}. Check the address and the connection.") from error
    if len(data) > MOST_BYTES:
        raise PriceError(f"{url} sent more than {MOST_BYTES:,} bytes: that is no catalogue. Check the address.")
    assert isinstance(data, bytes)
    return data


def read_snapshot(data: bytes, where: str) -> "DataSnapshot":
    """The catalogue in the published JSON. Raises PriceError for what the installed genai-prices cannot read."""
    from genai_prices import types
    from genai_prices.data_snapshot import DataSnapshot

    try:
        raw = json.loads(data, parse_float=Decimal)  # A float would cost a price its last digits.
        # The one function that reads the published form; genai-prices has no public name for it.
        providers = types._providers_from_raw(raw) if isinstance(raw, list) else []  # noqa: SLF001
    except Exception as error:
        why = f"{type(error).__name__} in it, first: {str(error).splitlines()[0][:120]}"
        raise PriceError(f"{where} is no catalogue that the installed genai-prices can read: {why}") from error
    if sum(len(provider.models) for provider in providers) == 0:
        raise PriceError(f"{where} is no catalogue of genai-prices: no model is in it. Check the address.")
    return DataSnapshot(providers=providers, from_auto_update=False)


def folder() -> Path:
    """Where downloaded catalogues are."""
    from platformdirs import user_data_path

    return user_data_path("langchain-finops", appauthor=False) / "prices"


def kept_paths(installed: str) -> list[Path]:
    """The downloaded catalogues that count over the installed version, newest first."""
    try:
        names = [path.name for path in folder().iterdir()]
    except OSError:  # Nobody has downloaded one, or may read it.
        return []
    found = [match for name in names if (match := NAME.fullmatch(name)) and match["over"] == installed]
    return [folder() / match.string for match in sorted(found, key=lambda match: match["at"], reverse=True)]


def newest(installed: str) -> Iterator[tuple["DataSnapshot", str]]:
    """The downloaded catalogues that can be read, newest first, and what each is called on a rate card."""
    for path in kept_paths(installed):
        try:
            yield read_snapshot(path.read_bytes(), str(path)), path.name.removesuffix(".json")
        except (PriceError, OSError) as error:
            log.warning("a downloaded price catalogue is not used: %s. Run `finops prices update` again.", error)


def keep(data: bytes, installed: str) -> tuple[Path, bool]:
    """Put a catalogue that was checked into the user's data directory, whole or not at all.

    Returns where it is, and False if it is the one in use already.
    """
    digest = sha256(data).hexdigest()[:12]
    earlier = kept_paths(installed)
    if earlier and earlier[0].name.endswith(f"-{digest}.json"):
        return earlier[0], False
    folder().mkdir(parents=True, exist_ok=True)
    target = folder() / f"{installed}+{datetime.now(UTC):%Y%m%dT%H%M%S}-{digest}.json"
    handle, name = tempfile.mkstemp(dir=folder(), prefix=".", suffix=".part")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(target)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    for old in kept_paths(installed)[KEPT:]:
        old.unlink(missing_ok=True)
    return target, True
