"""Tells what of a request differs from the one that was recorded: which field, and how."""

import json
from collections.abc import Iterator

from langchain_finops.evals.recorded import Asked

__all__ = ["differences", "in_words"]

SHOWN = 3
"""More differences than this are counted."""
LONGEST = 60
"""Characters that are shown of a value, around the first one that differs."""
ABSENT = object()


def differences(recorded: Asked, asked: Asked) -> list[str]:
    """Every field that differs, as `messages[1].content ('a refund' was recorded, 'refunds' is asked)`.

    Secrets are blotted out of both by `Asked.read`.
    """
    found = list(_walk(recorded.body, asked.body, ""))
    return found + (["the query"] if recorded.query != asked.query else [])


def in_words(found: list[str]) -> str:
    """The first differences, and how many more there are."""
    more = len(found) - SHOWN
    return "; ".join(found[:SHOWN]) + (f"; and {more} more" if more > 0 else "")


def _walk(old: object, new: object, where: str) -> Iterator[str]:
    if old == new:
        return
    if isinstance(old, dict) and isinstance(new, dict):
        for name in sorted(old.keys() | new.keys()):
            yield from _walk(old.get(name, ABSENT), new.get(name, ABSENT), f"{where}.{name}" if where else name)
    elif isinstance(old, list) and isinstance(new, list):
        for index in range(max(len(old), len(new))):
            one, other = (each[index] if index < len(each) else ABSENT for each in (old, new))
            yield from _walk(one, other, f"{where}[{index}]")
    else:
        yield _told(old, new, where or "body")


def _told(old: object, new: object, where: str) -> str:
    if old is ABSENT:
        return f"{where} ({_part(_text(new), 0)} is new)"
    if new is ABSENT:
        return f"{where} ({_part(_text(old), 0)} is gone)"
    before, after = _text(old), _text(new)
    same = next((at for at, pair in enumerate(zip(before, after, strict=False)) if pair[0] != pair[1]), None)
    at = min(len(before), len(after)) if same is None else same
    return f"{where} ({_part(before, at)} was recorded, {_part(after, at)} is asked)"


def _text(value: object) -> str:
    return repr(value) if isinstance(value, str) else json.dumps(value, ensure_ascii=False, sort_keys=True)


def _part(text: str, at: int) -> str:
    """What stands around the place where two texts part."""
    if len(text) <= LONGEST:
        return text
    start = max(0, min(at - LONGEST // 3, len(text) - LONGEST))
    end = start + LONGEST
    return ("..." if start else "") + text[start:end] + ("..." if end < len(text) else "")
