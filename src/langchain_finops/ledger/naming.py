"""Where a person's id stands beside records, in keys and in the audit trail, and how it is taken out there.

It is known by what stands before it: `user_id=ada` in a key or text (also percent-encoded, or cut short with its hash,
as keys of balances have it), `"user_id": "ada"` or `"scope": "user_id", "value": "ada"` in JSON. A reason is free text:
there the id as a word is enough.
"""

import json
import re
import secrets
from collections.abc import Callable, Mapping
from functools import lru_cache
from hashlib import sha256
from typing import Any, Final
from urllib.parse import quote

__all__ = ["FORGOTTEN", "fragments", "is_for", "marker", "names", "renamed", "unlinked_event", "unlinked_json"]

FORGOTTEN: Final = "forgotten"
_FIELD: Final = "user_id="
SHORTEST: Final = 100
"""Characters that a key keeps of an id which is too long for it, at least."""


def marker() -> str:
    """What a person's id becomes in a key: another one each time, which nothing leads back from."""
    return f"{FORGOTTEN}-{secrets.token_hex(4)}"


def _as_given(user_id: str) -> str:
    """The id with lone surrogates, of which the ledger's columns of text hold the escapes."""
    return re.sub(r"\\u(d[89a-f][0-9a-f]{2})", lambda found: chr(int(found[1], 16)), user_id)


def _quoted(user_id: str) -> str:
    return quote(_as_given(user_id), safe="/:@+,", errors="surrogatepass")


def fragments(user_id: str) -> tuple[str, ...]:
    """What stands in any text that names the person, one of these: of a long id only the beginning."""
    return tuple(form[:SHORTEST] for form in (user_id, _quoted(user_id), json.dumps(user_id)[1:-1]))


@lru_cache(maxsize=8)
def _in_context(user_id: str) -> re.Pattern[str]:
    """The id after `user_id=`, in any of the forms that keys have it in, and nothing else that only begins with it."""
    quoted = _quoted(user_id)
    forms = "|".join(re.escape(form) for form in {user_id, _as_given(user_id), quoted})
    short = rf"[^\s*]*\*{sha256(quoted.encode()).hexdigest()}"
    return re.compile(rf"(?<![A-Za-z0-9_])user_id=(?:{forms}|{short})(?![^\s,;)\]}}\"'])")


@lru_cache(maxsize=8)
def _as_word(user_id: str) -> re.Pattern[str]:
    forms = "|".join(re.escape(form) for form in {user_id, _as_given(user_id)})
    return re.compile(rf"(?<!\w)(?:{forms})(?!\w)")


def renamed(text: str, user_id: str, new: str) -> str:
    """The text with another id in place of the person's; itself where it does not name the person."""
    if _FIELD not in text or not user_id:
        return text
    if text.startswith(_FIELD):  # A kill's key is one id as it is, blanks and all: `ada` is not in `user_id=ada l`.
        return f"{_FIELD}{new}" if text[len(_FIELD) :] in (user_id, _as_given(user_id)) else text
    return _in_context(user_id).sub(f"{_FIELD}{new}", text)


def names(text: str, user_id: str) -> bool:
    """Whether a key names the person."""
    return renamed(text, user_id, FORGOTTEN) != text


def is_for(key: str, body: Mapping[str, Any], user_id: str) -> bool:
    """Whether a control is for this person."""
    return names(key, user_id) or unlinked_json(body, user_id) != body


def unlinked_json(value: Any, user_id: str) -> Any:
    """JSON with the person's id taken out; equal to what it was where that is not named."""
    if isinstance(value, str):
        return renamed(value, user_id, FORGOTTEN)
    if isinstance(value, list | tuple):
        return type(value)(unlinked_json(part, user_id) for part in value)
    if not isinstance(value, Mapping):
        return value
    parts = {renamed(str(key), user_id, FORGOTTEN): unlinked_json(part, user_id) for key, part in value.items()}
    own = ["user_id", *(["value"] if parts.get("scope") == "user_id" else [])]
    return parts | {name: FORGOTTEN for name in own if parts.get(name) in (user_id, _as_given(user_id))}


_EVENT: Final[Mapping[str, Callable[[Any, str], Any]]] = {
    "subject": lambda text, user_id: renamed(text, user_id, FORGOTTEN),
    "reason": lambda text, user_id: _as_word(user_id).sub(FORGOTTEN, text) if user_id else text,
    "before": unlinked_json,
    "after": unlinked_json,
}


def unlinked_event(parts: Mapping[str, Any], user_id: str) -> dict[str, Any]:
    """Those of an event's fields that named the person, without the name."""
    new = {name: how(parts[name], user_id) for name, how in _EVENT.items() if parts.get(name) is not None}
    return {name: value for name, value in new.items() if value != parts[name]}
