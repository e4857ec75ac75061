"""Reports of providers and exports of other tools, read as lines of one shape: what was charged to whom, when.

Every fault of a file is told at once, and a report of which a page is missing is one. docs/economics.md has the shapes.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

from langchain_finops.errors import BadArguments, BadData, Fault
from langchain_finops.money import EXACT, from_pico, to_pico, usd
from langchain_finops.usage import Usage

__all__ = ["KINDS", "Bill", "Line", "read_bill"]

CENTS: Final = Decimal(100)
"""Anthropic's amounts are in cents."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One line: a call of an export, or what a bucket of a report comes to for one key, project and model."""

    where: str
    at: datetime
    until: datetime
    provider: str | None
    model: str | None
    usd: Decimal | None
    """None where it does not say: not the same as free."""
    usage: Usage | None = None
    """None where it does not say."""
    project: str | None = None
    key: str | None = None
    what: str | None = None
    """The line's own words, such as `gpt-4o, input`."""
    id: str | None = None
    """Of a call."""
    who: Mapping[str, Any] = field(default_factory=dict)
    """Fields of its attribution."""
    run_id: str | None = None
    error: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Bill:
    """What a file says."""

    kind: str
    """One of `KINDS`."""
    has_usd: bool
    """A cost report; a usage report has tokens alone."""
    lines: tuple[Line, ...]


def read_bill(path: Path, kind: str | None = None) -> Bill:
    """Return what a file says; without a kind, of the provider whose report it looks like.

    Raises BadData with every fault, BadArguments where there is no file or nobody's report.
    """
    if not path.is_file():
        raise BadArguments(f"{path}: there is no such file; name the report or export.")
    faults: list[Fault] = []
    items = list(_items(path, faults))
    if faults:
        raise BadData(faults)
    kind = kind or _guessed(items)
    if kind is None:
        raise BadArguments(f"{path}: is no report of OpenAI or Anthropic and no export of LiteLLM or LangSmith.")
    lines = list(KINDS[kind](items, faults))
    if faults:
        raise BadData(faults)
    return Bill(kind=kind, has_usd=any(line.usd is not None for line in lines) or not lines, lines=tuple(lines))


Item = tuple[str, dict[str, Any]]


def _items(path: Path, faults: list[Fault]) -> Iterator[Item]:
    """The objects of a JSON file (one, or an array), or of JSONL, each with its place."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        faults.append(Fault(where=str(path), what=f"is no UTF-8 text (byte {error.start}); export it again"))
        return
    try:
        whole = json.loads(text, parse_float=Decimal)
        found = enumerate(whole) if isinstance(whole, list) else [(None, whole)]
        pairs = [(str(path) if place is None else f"{path}[{place}]", each) for place, each in found]
    except (ValueError, RecursionError) as error:
        pairs = list(_jsonl(path, text, faults))
        if (not pairs and not faults) or (faults and len(text.strip().splitlines()) < 2):
            faults[:] = [Fault(where=str(path), what=f"is no JSON ({error}); is the file whole? export it again")]
    for where, each in pairs:
        if isinstance(each, dict):
            yield where, each
        else:
            faults.append(Fault(where=where, what="is no object; a report is objects"))


def _jsonl(path: Path, text: str, faults: list[Fault]) -> Iterator[tuple[str, Any]]:
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            yield f"{path}:{number}", json.loads(line, parse_float=Decimal)
        except (ValueError, RecursionError) as error:
            faults.append(Fault(where=f"{path}:{number}", what=f"is no JSON ({error}); is the file whole?"))


def _guessed(items: list[Item]) -> str | None:
    for _, item in items:
        if "run_type" in item:
            return "langsmith"
        if "request_id" in item:
            return "litellm"
        bucket = next(iter(item.get("data") or []), item) if isinstance(item.get("data"), list) else item
        if isinstance(bucket, dict) and "starting_at" in bucket:
            return "anthropic"
        if isinstance(bucket, dict) and "start_time" in bucket:
            return "openai"
    return None


class _Reader:
    """Reads fields of an object, and notes what is wrong."""

    def __init__(self, where: str, data: Mapping[str, Any], faults: list[Fault]) -> None:
        self.where, self.data, self.faults = where, data, faults

    def fault(self, name: str, what: str) -> None:
        self.faults.append(Fault(where=f"{self.where}: {name}", what=what))

    def text(self, *names: str) -> str | None:
        """The first of these that says something."""
        for name in names:
            value = self.data.get(name)
            if value is not None and value != "":
                if isinstance(value, str):
                    return value
                self.fault(name, f"is {value!r}; it has to be a text")
        return None

    def count(self, name: str, data: Mapping[str, Any] | None = None) -> int:
        """A whole number; 0 where it is missing."""
        value = (self.data if data is None else data).get(name)
        if value is None:
            return 0
        if isinstance(value, bool) or not isinstance(value, int | Decimal) or value < 0 or value != int(value):
            self.fault(name, f"is {value!r}; it has to be a whole number")
            return 0
        return int(value)

    def amount(self, name: str, value: object, most: int = 9_000_000) -> Decimal | None:
        """Dollars, to the picodollar; None where it is missing."""
        if value is None or value == "":
            return None
        try:
            if isinstance(value, bool) or not isinstance(value, str | int | Decimal):
                raise TypeError(f"{value!r} is not an amount of money")
            amount = usd(value)
            if abs(amount) > most:
                raise ValueError(f"{value} is more than one line can be")
            return from_pico(to_pico(amount))
        except (ValueError, TypeError) as error:
            self.fault(name, f"{error}")
            return None

    def time(self, name: str) -> datetime | None:
        """Seconds since 1970, or ISO 8601; UTC where it does not say."""
        value = self.data.get(name)
        try:
            if isinstance(value, int | Decimal) and not isinstance(value, bool):
                return datetime.fromtimestamp(float(value), UTC)
            moment = datetime.fromisoformat(value) if isinstance(value, str) else None
        except (ValueError, OverflowError, OSError):
            moment = None
        if moment is None:
            self.fault(name, f"is {value!r}; it has to be a time such as 2026-01-31T00:00:00Z")
            return None
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def _buckets(items: list[Item], faults: list[Fault], starts: str, ends: str) -> Iterator[tuple[Any, ...]]:
    """The results of pages of buckets, each with its times."""
    pages = [item for item in items if "data" in item[1]]
    if pages and pages[-1][1].get("has_more") is True:
        faults.append(Fault(where=pages[-1][0], what="says has_more: the next pages are missing; save them all"))
    for where, page in items:
        data = page.get("data", [page])
        if not isinstance(data, list):
            faults.append(Fault(where=f"{where}: data", what="is no list of buckets"))
            continue
        for place, bucket in enumerate(data):
            inside = f"{where}: data[{place}]"
            if not isinstance(bucket, dict) or not isinstance(bucket.get("results"), list):
                faults.append(Fault(where=inside, what="is no bucket with results; is the file whole?"))
                continue
            reader = _Reader(inside, bucket, faults)
            since, until = reader.time(starts), reader.time(ends)
            for number, result in enumerate(bucket["results"]):
                if not isinstance(result, dict):
                    faults.append(Fault(where=f"{inside}.results[{number}]", what="is no object"))
                elif since is not None and until is not None:
                    yield _Reader(f"{inside}.results[{number}]", result, faults), since, until


def _openai(items: list[Item], faults: list[Fault]) -> Iterator[Line]:
    for reader, since, until in _buckets(items, faults, "start_time", "end_time"):
        amount, data = reader.data.get("amount"), reader.data
        what = reader.text("line_item")
        own: dict[str, Any] = {"project": reader.text("project_id"), "key": reader.text("api_key_id")}
        own |= {"where": reader.where, "at": since, "until": until, "provider": "openai"}
        if isinstance(amount, dict):
            _check_currency(reader, amount.get("currency"))
            dollars = reader.amount("amount", amount.get("value"))
            yield Line(model=what and what.split(",")[0].strip(), usd=dollars, what=what, **own)
        elif "num_model_requests" in data or "input_tokens" in data:
            cached, audio = reader.count("input_cached_tokens"), reader.count("input_audio_tokens")
            spoken = reader.count("output_audio_tokens")
            usage = Usage(
                input_tokens=max(reader.count("input_tokens") - cached - audio, 0),
                cache_read_tokens=cached,
                audio_input_tokens=audio,
                output_tokens=max(reader.count("output_tokens") - spoken, 0),
                audio_output_tokens=spoken,
                requests=reader.count("num_model_requests"),
            )
            yield Line(model=reader.text("model"), usd=None, usage=usage, **own)
        else:
            reader.fault("amount", "is missing, and so are tokens; it is no result of costs or usage")


def _anthropic(items: list[Item], faults: list[Fault]) -> Iterator[Line]:
    for reader, since, until in _buckets(items, faults, "starting_at", "ending_at"):
        own: dict[str, Any] = {"project": reader.text("workspace_id"), "key": reader.text("api_key_id")}
        own |= {"where": reader.where, "at": since, "until": until, "provider": "anthropic"}
        own["model"] = reader.text("model")
        if "amount" in reader.data:
            _check_currency(reader, reader.data.get("currency"))
            cents = reader.amount("amount", reader.data["amount"], 900_000_000)
            dollars = None if cents is None else from_pico(to_pico(EXACT.divide(cents, CENTS)))
            parts = [reader.text(name) for name in ("description", "token_type", "service_tier", "context_window")]
            yield Line(usd=dollars, what=", ".join(part for part in parts if part) or None, **own)
        elif "uncached_input_tokens" in reader.data:
            written = reader.data.get("cache_creation") or {}
            tools = reader.data.get("server_tool_use") or {}
            usage = Usage(
                input_tokens=reader.count("uncached_input_tokens"),
                cache_read_tokens=reader.count("cache_read_input_tokens"),
                cache_write_5m_tokens=reader.count("ephemeral_5m_input_tokens", written),
                cache_write_1h_tokens=reader.count("ephemeral_1h_input_tokens", written),
                output_tokens=reader.count("output_tokens"),
                web_searches=reader.count("web_search_requests", tools),
                requests=0,
            )
            yield Line(usd=None, usage=usage, **own)
        else:
            reader.fault("amount", "is missing, and so are tokens; it is no result of costs or usage")


def _check_currency(reader: _Reader, currency: object) -> None:
    if not isinstance(currency, str) or currency.lower() != "usd":
        reader.fault("currency", f"is {currency!r}; only dollars can be read")


def _litellm(items: list[Item], faults: list[Fault]) -> Iterator[Line]:
    for where, data in items:
        reader = _Reader(where, data, faults)
        id_, since = reader.text("request_id"), reader.time("startTime")
        until = reader.time("endTime") if data.get("endTime") else since
        if id_ is None:
            reader.fault("request_id", "is missing; is it a spend log of LiteLLM?")
        if id_ is None or since is None or until is None:
            continue
        said = data.get("metadata")
        metadata = said if isinstance(said, dict) else {}
        cached = str(data.get("cache_hit")).lower() == "true"
        usage = Usage(
            input_tokens=reader.count("prompt_tokens"),
            output_tokens=reader.count("completion_tokens"),
            requests=0 if cached else 1,
        )
        yield Line(
            where=where, at=since, until=max(since, until), provider=reader.text("custom_llm_provider"),
            model=reader.text("model"), usd=reader.amount("spend", data.get("spend")), usage=usage,
            project=reader.text("team_id"), key=reader.text("api_key"), id=f"litellm:{id_}", run_id=f"litellm:{id_}",
            who={"agent_id": _word(metadata.get("agent_id")) or _word(metadata.get("user_api_key_alias")),
                 "user_id": reader.text("end_user", "user"), "task_id": _word(metadata.get("task_id"))},
            error=str(data.get("status") or metadata.get("status") or "") == "failure",
        )  # fmt: skip


def _langsmith(items: list[Item], faults: list[Fault]) -> Iterator[Line]:
    """Runs of type llm: what holds them costs what they cost."""
    for where, data in items:
        if data.get("run_type") != "llm":
            continue
        reader = _Reader(where, data, faults)
        id_, since = reader.text("id"), reader.time("start_time")
        until = reader.time("end_time") if data.get("end_time") else since
        if id_ is None:
            reader.fault("id", "is missing; is it a run of LangSmith?")
        if id_ is None or since is None or until is None:
            continue
        extra = data.get("extra") if isinstance(data.get("extra"), dict) else {}
        said = (extra or {}).get("metadata")
        metadata = said if isinstance(said, dict) else {}
        usage = Usage(
            input_tokens=reader.count("prompt_tokens"),
            output_tokens=reader.count("completion_tokens"),
        )
        names = ("agent_id", "user_id", "task_id", "thread_id", "customer_id", "environment")
        who = {name: _word(metadata.get(name)) for name in names} | {"node": _word(metadata.get("langgraph_node"))}
        yield Line(
            where=where, at=since, until=max(since, until), provider=_word(metadata.get("ls_provider")),
            model=_word(metadata.get("ls_model_name")), usd=reader.amount("total_cost", data.get("total_cost")),
            usage=usage, project=reader.text("session_name", "session_id"), id=id_,
            run_id=reader.text("trace_id") or id_, who={**who, "node_path": who["node"]}, error=bool(data.get("error")),
        )  # fmt: skip


def _word(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


KINDS: Final[Mapping[str, Callable[[list[Item], list[Fault]], Iterator[Line]]]] = {
    "langsmith": _langsmith,
    "openai": _openai,
    "anthropic": _anthropic,
    "litellm": _litellm,
}
"""Whose files can be read."""
