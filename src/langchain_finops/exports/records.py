"""Calls, charges, runs and outcomes as flat rows: what a record says, field by field, and nothing worked out."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from langchain_finops.exports.files import Field, Kind, Row, write_rows
from langchain_finops.ledger.base import Ledger
from langchain_finops.ledger.grouping import Period
from langchain_finops.ledger.label_totals import totals_by_label
from langchain_finops.ledger.marks import read_marks
from langchain_finops.ledger.sql import SqlLedger
from langchain_finops.ledger.totals import Totals
from langchain_finops.records import Attribution, CallError, CallRecord, ChargeRecord, Outcome, RunRecord
from langchain_finops.usage import METERS_AND_REASONING

__all__ = ["FIELDS", "KINDS", "Exported", "export_records", "row_of", "summed"]

Column = tuple[Field, Callable[[Any], Any]]
"""A field, and how a record's value for it is found."""


def _own(name: str, kind: Kind, meaning: str, *, of: str | None = None) -> Column:
    source = of or name
    return Field(name=name, kind=kind, meaning=meaning), lambda record: getattr(record, source)


def _json(name: str, meaning: str) -> Column:
    """A mapping or a list as JSON; empty where there is nothing in it."""

    def value(record: Any) -> object:
        found = getattr(record, name)
        if not found:
            return None
        return dict(found) if isinstance(found, Mapping) else list(found)

    return Field(name=name, kind="json", meaning=meaning), value


def _who(name: str, meaning: str, kind: Kind = "text") -> Column:
    def value(record: Any) -> object:
        who: Attribution = record.attribution
        return getattr(who, name)

    return Field(name=name, kind=kind, meaning=meaning), value


def _failed(name: str, of: str, kind: Kind, meaning: str) -> Column:
    def value(record: Any) -> object:
        error: CallError | None = record.error
        return None if error is None else getattr(error, of)

    return Field(name=name, kind=kind, meaning=meaning), value


def _tags(record: Any) -> dict[str, str] | None:
    return dict(record.attribution.tags) or None


WHO: Final = (
    _who("agent_id", "Whose cost it is."),
    _who("user_id", "On whose behalf; empty where `finops forget` unlinked the person."),
    _who("task_id", "The task that it was spent on."),
    _who("task_type", "The kind of task."),
    _who("thread_id", "The LangGraph thread."),
    _who("customer_id", "The customer that it was spent for."),
    _who("project", "The project of yours."),
    _who("environment", "Such as `production`."),
    _who("release", "The release of the agent."),
    _who("node", "The innermost LangGraph node; empty outside a graph."),
    _who("node_path", "`researcher/search` for node `search` of a subgraph in node `researcher`."),
    _who("step", "Which execution of a node within the run, from 1.", "integer"),
    _who("attempt", "Which try of the node, from 1.", "integer"),
    _who("role", "`agent`, `judge`, `simulator` or `overhead`."),
    (Field(name="tags", kind="json", meaning="Your own tags."), _tags),
)
ERROR: Final = (
    _failed("error_class", "error_class", "text", "The exception's class; empty where nothing failed."),
    _failed("http_status", "http_status", "integer", "The HTTP status of the failure."),
    _failed("error_code", "code", "text", "The provider's code for the failure."),
)
METER_MEANINGS: Final = {
    "input_tokens": "Input tokens that were neither audio nor read from or written to a cache.",
    "cache_read_tokens": "Input tokens read from the provider's cache.",
    "cache_write_5m_tokens": "Input tokens written to a cache of five minutes, or of the provider's default.",
    "cache_write_30m_tokens": "Written to a cache of 30 minutes.",
    "cache_write_1h_tokens": "Written to a cache of an hour.",
    "cache_write_12h_tokens": "Written to a cache of twelve hours.",
    "audio_input_tokens": "Audio input tokens that were not read from a cache.",
    "cached_audio_tokens": "Audio input tokens read from a cache.",
    "output_tokens": "Output tokens that are not audio; reasoning is among them.",
    "audio_output_tokens": "Audio output tokens.",
    "reasoning_tokens": "For information: the part of `output_tokens` that was hidden reasoning.",
    "web_searches": "Searches of the provider's own tool.",
    "requests": "Requests that carry a fee: 0 for what never reached a model.",
}


def _whole_digest(call: Any) -> str | None:
    """Empty, too, for digests in a form that this version does not know: the other fields are as good as ever."""
    with suppress(ValueError):
        return None if call.prompt_digests is None else read_marks(call.prompt_digests).whole.hex()
    return None


def _meter(name: str) -> Column:
    return Field(name=name, kind="integer", meaning=METER_MEANINGS[name]), lambda call: getattr(call.usage, name)


_COMMON: Final = (
    _own("run_id", "text", "The logical run; a resumed run keeps it."),
    _own("invocation_id", "text", "The root invocation."),
)
_REVISION: Final = _own("revision", "integer", "How often the record was superseded; the newest version is exported.")
_STATUS: Final = _own("cost_status", "text", "`exact`, `estimated`, `reported`, `free` or `unpriced`.")

CALLS: Final[tuple[Column, ...]] = (
    _own("call_id", "text", "The call."),
    *_COMMON,
    _own("started_at", "time", "When it began, in UTC."),
    _own("first_token_at", "time", "When its first token came; empty where nothing was streamed."),
    _own("ended_at", "time", "When it ended."),
    *WHO,
    _own("provider", "text", "Who sold it."),
    _own("model", "text", "The model, as the answer names it."),
    _own("requested_model", "text", "The model that was asked for."),
    *(_meter(name) for name in METERS_AND_REASONING),
    _own("cost_usd", "money", "List cost; empty where no price is known, which is not the same as free."),
    _own("contracted_usd", "money", "After your discounts; empty where unknown."),
    _own("billed_usd", "money", "What is really paid: 0 for a cache hit or a replay; empty where unknown."),
    _json("meter_usd", "List cost by meter, adding up to `cost_usd`."),
    _own("currency", "text", "Of the rate card; all amounts are in dollars."),
    _own("fx_id", "text", "The exchange table that converted the card."),
    _own("billing_mode", "text", "`payg`, `committed`, `credit`, `cache`, `self_hosted` or `replay`."),
    _STATUS,
    _own("estimated", "boolean", "Tokens or price had to be estimated."),
    _json("reasons", "Why the status is what it is."),
    _own("card_id", "text", "The rate card."),
    _own("price_book_hash", "text", "The price book."),
    *ERROR,
    _own("provider_request_id", "text", "The provider's name for the request."),
    _own("account", "text", "The provider's account or organisation."),
    _own("provider_project", "text", "The provider's project or workspace.", of="project"),
    _own("region", "text", "Where it ran."),
    _own("service_tier", "text", "Such as `priority` or `batch`."),
    _own("base_url_host", "text", "The host that was asked."),
    (
        Field(
            name="prompt_digest",
            kind="text",
            meaning="A keyed hash of the whole prompt, equal for equal prompts of one ledger; empty for a short one.",
        ),
        _whole_digest,
    ),
    _REVISION,
)
CHARGES: Final[tuple[Column, ...]] = (
    _own("charge_id", "text", "The charge."),
    *_COMMON,
    _own("at", "time", "When it began, in UTC."),
    _own("ended_at", "time", "When it ended; empty for what takes no time."),
    *WHO,
    _own("kind", "text", "`tool`, `embedding`, `human`, `infrastructure`, `credit` or `adjustment`."),
    _own("name", "text", "What was charged for, such as the tool."),
    _own("quantity", "decimal", "How many units."),
    _own("unit", "text", "Of what."),
    _own("cost_usd", "money", "Empty where no price is known, which is not the same as free; negative for credits."),
    _STATUS,
    _own("card_id", "text", "The rate card."),
    _own("source", "text", "Who says so: `callback`, `user`, a file."),
    *ERROR,
    _REVISION,
)
RUNS: Final[tuple[Column, ...]] = (
    _own("run_id", "text", "The logical run; its calls name it."),
    _own("invocation_id", "text", "Its latest root invocation."),
    _own("started_at", "time", "When that began, in UTC."),
    _own("ended_at", "time", "When it ended."),
    *WHO,
    _own("name", "text", "The graph or chain."),
    _own("status", "text", "`completed`, `stopped`, `interrupted`, `failed` or `cancelled`."),
    _own("stop_reason", "text", "Why it did not complete."),
    _own("steps", "integer", "Node executions at any depth, over all invocations so far."),
    _REVISION,
)
OUTCOMES: Final[tuple[Column, ...]] = (
    _own("task_id", "text", "The task; its calls name it."),
    _own("task_type", "text", "The kind of task."),
    _own("at", "time", "When it was judged, in UTC."),
    _own("success", "boolean", "Empty where it could not be told."),
    _own("score", "number", "Between 0 and 1."),
    _json("scores", "Other figures, such as `csat`."),
    _own("value_usd", "money", "What it is worth; empty where nobody said."),
    _own("reason", "text", "Why."),
    _own("judged_by", "text", "Who says so."),
    _own("supersedes", "integer", "Revision of the verdict that it replaces."),
    _REVISION,
)
KINDS: Final[Mapping[str, tuple[Column, ...]]] = {
    "calls": CALLS,
    "charges": CHARGES,
    "runs": RUNS,
    "outcomes": OUTCOMES,
}
FIELDS: Final[Mapping[str, tuple[Field, ...]]] = {
    kind: tuple(field for field, _ in columns) for kind, columns in KINDS.items()
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Exported:
    """What an export came to."""

    rows: int
    left_out: int = 0
    """Records that the ledger's sums count and no reader yields: `finops prune` has folded them."""


def row_of(kind: str, record: CallRecord | ChargeRecord | RunRecord | Outcome) -> Row:
    """A record's values, in the order of `FIELDS`."""
    return [value(record) for _, value in KINDS[kind]]


def export_records(
    ledger: Ledger, kind: str, path: Path, *, since: datetime | None = None, until: datetime | None = None
) -> Exported:
    """Write the current version of each record of a kind to a file."""
    readers: Mapping[str, Callable[..., Iterator[Any]]] = {
        "calls": ledger.calls,
        "charges": ledger.charges,
        "runs": ledger.runs,
        "outcomes": ledger.outcomes,
    }
    records = readers[kind](since=since, until=until)
    rows = write_rows(path, FIELDS[kind], (row_of(kind, record) for record in records))
    if kind not in {"calls", "charges"}:
        return Exported(rows=rows)
    totals = summed(ledger, since, until)
    return Exported(rows=rows, left_out=max(0, (totals.calls if kind == "calls" else totals.charges) - rows))


def summed(ledger: Ledger, since: datetime | None, until: datetime | None) -> Totals:
    """The ledger's own sums of a period, days that were folded included."""
    if isinstance(ledger, SqlLedger):  # Its totals would look at every task, which nobody asks for here.
        return next(iter(totals_by_label(ledger, (), Period.of(since, until)).values()), Totals())
    (group,) = ledger.totals((), since=since, until=until)
    return group.totals
