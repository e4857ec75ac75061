"""Where each provider and gateway takes tags of a request, and what may stand there. Pure: who it is for, to fields.

What the user has set is never overwritten: a field, a header or an entry of theirs stays as it is.
"""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Final
from urllib.parse import quote

__all__ = ["GATEWAYS", "STYLES", "Style", "Tags", "cut", "header_value", "label_value"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Tags:
    """Whom a request is for; None is not sent. The user's id is as it is to be sent: hashed, unless told otherwise."""

    agent_id: str | None = None
    user_id: str | None = None
    task_id: str | None = None
    run_id: str | None = None
    team: str | None = None
    """`tags={"team": ...}` of the run or the handler."""

    def pairs(self) -> dict[str, str]:
        """Agent, user, task and run, in the order in which they matter where there is room for few."""
        names = ("agent_id", "user_id", "task_id", "run_id")
        return {name: value for name in names if (value := getattr(self, name)) is not None}


Given = Mapping[str, Any]
"""What the request has already: arguments of the call over the model's own."""
Fields = dict[str, Any]
"""Arguments to add to the call."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Style:
    """How tags are written for one destination."""

    kinds: frozenset[str]
    """Kinds of models whose requests have such fields."""
    fields: Callable[[Tags, Given], Fields]


OPENAI_PAIRS: Final = 16
OPENAI_VALUE: Final = 512
OPENAI_USER: Final = 128
ANTHROPIC_PAIRS: Final = 16
ANTHROPIC_USER: Final = 256
BEDROCK_PAIRS: Final = 16
BEDROCK_VALUE: Final = 256
GOOGLE_LABELS: Final = 32
"""What partners' models take; Google's own take 64."""
GOOGLE_VALUE: Final = 63
OPENROUTER_VALUE: Final = 128
PORTKEY_VALUE: Final = 128
HEADER_VALUE: Final = 256

_VISIBLE: Final = "".join(chr(code) for code in range(0x21, 0x7F) if chr(code) not in "%,")
"""What a header's value may be made of: the rest is percent-encoded. A comma would be read as two values."""
_NOT_BEDROCK: Final = re.compile(r"[^a-zA-Z0-9\s:_@$#=/+,.-]")
_NOT_GOOGLE: Final = re.compile(r"[^a-z0-9_-]+")
_DIGEST: Final = 8


def cut(text: str, limit: int) -> str:
    """The text, at most so long; of a longer one the beginning and a digest, so that two stay two."""
    return text if len(text) <= limit else f"{text[: limit - _DIGEST - 1]}~{_digest(text)}"


def _digest(text: str) -> str:
    return sha256(text.encode(errors="surrogatepass")).hexdigest()[:_DIGEST]


def header_value(text: str) -> str:
    """The text as a header may hold it, in visible ASCII: no line break, blank or letter beyond gets out of it."""
    quoted = quote(text, safe=_VISIBLE, errors="replace")
    if len(quoted) <= HEADER_VALUE:
        return quoted
    return f"{re.sub('%[0-9A-F]?$', '', quoted[: HEADER_VALUE - _DIGEST - 1])}~{_digest(text)}"


def label_value(text: str) -> str:
    """The text as a Google label may hold it: lowercase letters, digits, `_` and `-`, at most 63."""
    plain = text.lower()
    label = _NOT_GOOGLE.sub("-", plain).strip("-")
    if label == plain and len(label) <= GOOGLE_VALUE:
        return label
    # Without the digest two agents could be one on the invoice.
    return f"{label[: GOOGLE_VALUE - _DIGEST - 1]}-{_digest(plain)}".lstrip("-")


def _bedrock_value(text: str) -> str:
    plain = _NOT_BEDROCK.sub("-", text)
    if plain == text and len(text) <= BEDROCK_VALUE:
        return text
    return f"{plain[: BEDROCK_VALUE - _DIGEST - 1]}#{_digest(text)}"


def _is_set(name: str, given: Given) -> bool:
    """Whether the user has set a field of the body, in whatever way."""
    return given.get(name) is not None or name in (given.get("extra_body") or {})


def _entries(name: str, given: Given, ours: Mapping[str, str], room: int) -> Fields:
    """A field with the user's entries, wherever they set it, and those of ours that have room beside them."""
    body = given.get("extra_body") or {}
    theirs = body[name] if name in body else given.get(name)
    if theirs is not None and not isinstance(theirs, Mapping):
        return {}
    kept = dict(theirs or {})
    new = [(key, value) for key, value in ours.items() if key not in kept][: max(0, room - len(kept))]
    if not new:
        return {}
    whole = {name: {**kept, **dict(new)}}
    return {"extra_body": {**body, **whole}} if name in body else whole


# --- providers -------------------------------------------------------------------------------------------------------


def _openai(tags: Tags, given: Given) -> Fields:
    fields: Fields = {}
    if tags.user_id is not None and not _is_set("safety_identifier", given) and not _is_set("user", given):
        fields["safety_identifier"] = cut(tags.user_id, OPENAI_USER)
    # OpenAI refuses a chat completion with metadata that is not stored: tags must never cost an answer.
    if given.get("stored"):
        ours = {name: cut(value, OPENAI_VALUE) for name, value in tags.pairs().items()}
        fields |= _entries("metadata", given, ours, OPENAI_PAIRS)
    return fields


def _azure(tags: Tags, given: Given) -> Fields:
    if tags.user_id is None or _is_set("user", given):
        return {}
    return {"user": cut(tags.user_id, OPENAI_USER)}


def _anthropic(tags: Tags, given: Given) -> Fields:
    if tags.user_id is None:
        return {}
    return _entries("metadata", given, {"user_id": cut(tags.user_id, ANTHROPIC_USER)}, ANTHROPIC_PAIRS)


def _bedrock(tags: Tags, given: Given) -> Fields:
    # LangChain turns `agent_id` into `agentId` on the way: names of one word arrive as they are.
    ours = {name.removesuffix("_id"): _bedrock_value(value) for name, value in tags.pairs().items() if value}
    return _entries("request_metadata", given, ours, BEDROCK_PAIRS)


def _google(tags: Tags, given: Given) -> Fields:
    # Labels end up on the invoice, a line for each value: no user, task or run, of which there is no end.
    values = {"agent": tags.agent_id, "team": tags.team}
    ours = {name: label for name, value in values.items() if value and (label := label_value(value))}
    return _entries("labels", given, ours, GOOGLE_LABELS)


def _openrouter(tags: Tags, given: Given) -> Fields:
    # No `HTTP-Referer` and `X-Title`: with them OpenRouter lists the application in public.
    session = tags.task_id or tags.run_id
    trace = {"trace_id": tags.run_id, "trace_name": tags.agent_id, "task_id": tags.task_id}
    body: Fields = {
        "session_id": None if session is None else cut(session, OPENROUTER_VALUE),
        "trace": {name: cut(value, OPENROUTER_VALUE) for name, value in trace.items() if value is not None} or None,
    }
    body = {name: value for name, value in body.items() if value is not None and not _is_set(name, given)}
    fields: Fields = {"extra_body": {**body, **(given.get("extra_body") or {})}} if body else {}
    if given.get("kind") == "openrouter":
        fields = body
    if tags.user_id is not None and not _is_set("user", given):
        fields["user"] = cut(tags.user_id, OPENROUTER_VALUE)
    return fields


# --- gateways: headers -------------------------------------------------------------------------------------------


def _headers(write: Callable[[Tags], Mapping[str, str | None]]) -> Callable[[Tags, Given], Fields]:
    """A style of headers; of those that the user has set, in whatever case, none."""

    def fields(tags: Tags, given: Given) -> Fields:
        theirs = dict(given.get("extra_headers") or {})
        taken = {name.lower() for name in (*theirs, *(given.get("default_headers") or {}))}
        ours = {name: value for name, value in write(tags).items() if value and name.lower() not in taken}
        return {"extra_headers": {**ours, **theirs}} if ours else {}

    return fields


def _value(text: str | None) -> str | None:
    return None if text is None else header_value(text)


def _gateway(tags: Tags) -> dict[str, str | None]:
    return {
        "X-Agent-Id": _value(tags.agent_id),
        "X-User-Id": _value(tags.user_id),
        "X-Task-Id": _value(tags.task_id),
        "X-Run-Id": _value(tags.run_id),
    }


def _litellm(tags: Tags) -> dict[str, str | None]:
    words = {"agent": tags.agent_id, "team": tags.team}
    spent_on = {name: value for name, value in tags.pairs().items() if name != "user_id"}
    return {
        "x-litellm-tags": ",".join(f"{name}:{header_value(text)}" for name, text in words.items() if text),
        "x-litellm-end-user-id": _value(tags.user_id),
        "x-litellm-trace-id": _value(tags.run_id),
        "x-litellm-spend-logs-metadata": _json(spent_on, HEADER_VALUE),
    }


def _helicone(tags: Tags) -> dict[str, str | None]:
    return {
        "Helicone-User-Id": _value(tags.user_id),
        "Helicone-Session-Id": _value(tags.run_id),
        "Helicone-Session-Path": f"/{header_value(tags.agent_id or 'run')}" if tags.run_id else None,
        "Helicone-Session-Name": _value(tags.agent_id) if tags.run_id else None,
        "Helicone-Property-Agent-Id": _value(tags.agent_id),
        "Helicone-Property-Task-Id": _value(tags.task_id),
        "Helicone-Property-Team": _value(tags.team),
    }


def _portkey(tags: Tags) -> dict[str, str | None]:
    pairs = {("_user" if name == "user_id" else name): value for name, value in tags.pairs().items()}
    return {"x-portkey-metadata": _json(pairs, PORTKEY_VALUE), "x-portkey-trace-id": _value(tags.run_id)}


def _cloudflare(tags: Tags) -> dict[str, str | None]:
    return {"cf-aig-metadata": _json(tags.pairs(), HEADER_VALUE)}


def _json(pairs: Mapping[str, str], limit: int) -> str | None:
    """JSON in ASCII, which needs no encoding of its own; None for nothing."""
    return json.dumps({name: cut(value, limit) for name, value in pairs.items()}) if pairs else None


_CLIENTS: Final = frozenset({"openai", "anthropic"})
"""Models that take headers by the request."""

STYLES: Final[Mapping[str, Style]] = {
    "openai": Style(kinds=frozenset({"openai"}), fields=_openai),
    "azure": Style(kinds=frozenset({"openai"}), fields=_azure),
    "anthropic": Style(kinds=frozenset({"anthropic"}), fields=_anthropic),
    "bedrock": Style(kinds=frozenset({"bedrock"}), fields=_bedrock),
    "google": Style(kinds=frozenset({"google"}), fields=_google),
    "openrouter": Style(kinds=frozenset({"openai", "openrouter"}), fields=_openrouter),
    "gateway": Style(kinds=_CLIENTS, fields=_headers(_gateway)),
    "litellm": Style(kinds=_CLIENTS, fields=_headers(_litellm)),
    "helicone": Style(kinds=_CLIENTS, fields=_headers(_helicone)),
    "portkey": Style(kinds=_CLIENTS, fields=_headers(_portkey)),
    "cloudflare": Style(kinds=_CLIENTS, fields=_headers(_cloudflare)),
}

GATEWAYS: Final[tuple[tuple[str, str], ...]] = (
    ("helicone.ai", "helicone"),
    ("portkey.ai", "portkey"),
    ("gateway.ai.cloudflare.com", "cloudflare"),
)
"""Ends of the host names of gateways that are known, and their styles."""
