"""Past runs of a ledger on LangSmith: their cost and our tags on the runs that are there, by LangChain's own ids.

What is there is read first, and only what differs is sent: again, or after it was cut off, it goes on with the rest.
"""

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, Literal
from uuid import UUID

from langchain_finops.langchain.langsmith import marked, paid
from langchain_finops.langchain.settling import marks_of_call, marks_of_tool, marks_of_total
from langchain_finops.ledger.base import Ledger
from langchain_finops.ledger.totals import Totals

if TYPE_CHECKING:
    from langsmith import Client

__all__ = ["KINDS", "Counts", "Kind", "project_id", "sync"]

Kind = Literal["model calls", "tools", "runs"]
KINDS: Final[tuple[Kind, ...]] = ("model calls", "tools", "runs")

AT_ONCE: Final = 8
BATCH: Final = 100
"""Runs asked for in one request: LangSmith returns no more on a page."""
ATTEMPTS: Final = 5
"""Of a request that is refused for the rate, each after the wait that LangSmith names, and on errors of its own."""
FIELDS: Final = ("id", "extra", "tags", "end_time", "trace_id", "dotted_order", "session_id")


@dataclass(slots=True, kw_only=True)
class Counts:
    """What became of the ledger's records of one kind."""

    in_ledger: int = 0
    updated: int = 0
    """Sent; of a dry run, those that would be."""
    unchanged: int = 0
    """There as they should be."""
    not_found: int = 0
    """Not on LangSmith, or not in the project asked for: never traced, sampled out, or deleted."""
    not_ended: int = 0
    """Still going on there: the handler will mark them."""
    other_ids: int = 0
    """Recorded under an id that is not LangChain's: imported, or given twice."""
    folded: int = 0
    """Runs of which `finops prune` has folded calls or charges: what is left would come to less than they cost."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Past:
    """What a run is to carry."""

    kind: Kind
    run_id: str
    marks: Mapping[str, Any]
    usage: Mapping[str, Any] | None
    is_folded: bool = False


def project_id(client: "Client", name: str) -> str:
    """The id of a project of LangSmith's. Raises what the client raises where there is none of that name."""
    return str(client.read_project(project_name=name).id)


def sync(
    ledger: Ledger,
    client: "Client",
    *,
    since: datetime | None = None,
    project: str | None = None,
    dry_run: bool = False,
) -> dict[Kind, Counts]:
    """Put cost, tags and metadata of the ledger's runs on those that LangSmith has; `project` is the id of one there.

    Raises what the client raises; what was sent until then is there, and the same call goes on behind it.
    """
    counts = {kind: Counts() for kind in KINDS}
    known = _named_by_langchain(_past(ledger, since), counts)
    with ThreadPoolExecutor(AT_ONCE) as pool:
        try:
            while batch := list(islice(known, BATCH)):
                there = _there(client, [past.run_id for past in batch], project)
                changes = [(past, each) for past in batch if (each := _change(past, there.get(past.run_id), counts))]
                sent = [True] * len(changes) if dry_run else list(pool.map(partial(_send, client), changes))
                for (past, _), taken in zip(changes, sent, strict=True):
                    counts[past.kind].updated += taken
                    counts[past.kind].not_found += not taken
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
    return counts


def _named_by_langchain(past: Iterator[_Past], counts: Mapping[Kind, Counts]) -> Iterator[_Past]:
    for each in past:
        counts[each.kind].in_ledger += 1
        if not _is_uuid(each.run_id):
            counts[each.kind].other_ids += 1
        elif each.is_folded:
            counts[each.kind].folded += 1
        else:
            yield each


def _is_uuid(text: str) -> bool:
    try:
        return str(UUID(text)) == text
    except ValueError:
        return False


# --- what the ledger says ----------------------------------------------------------------------------------------


def _past(ledger: Ledger, since: datetime | None) -> Iterator[_Past]:
    """Calls, priced tools and runs, in that order: a run's sums are known once its calls have gone by."""
    runs = {record.invocation_id: record for record in ledger.runs(history=True, since=since)}
    totals = {invocation_id: Totals() for invocation_id in runs}
    bare: dict[str, Mapping[str, Any]] = {}
    seen = Counter[str | None]()
    for call in ledger.calls(since=since):
        seen[call.run_id] += 1
        if call.invocation_id in totals:
            totals[call.invocation_id].add_call(call)
        if call.call_id in totals:  # A call that is a run of its own has one run on LangSmith.
            bare[call.call_id] = paid(call)
        else:
            yield _Past(kind="model calls", run_id=call.call_id, marks=marks_of_call(call), usage=paid(call))
    for charge in ledger.charges(since=since):
        seen[charge.run_id] += 1
        if charge.invocation_id in totals:
            totals[charge.invocation_id].add_charge(charge)
        if charge.charge_id in totals:
            bare[charge.charge_id] = paid(charge)
        elif charge.kind == "tool" and charge.source == "callback" and charge.cost_usd is not None:
            yield _Past(kind="tools", run_id=charge.charge_id, marks=marks_of_tool(charge), usage=paid(charge))
    folded = _folded(ledger, since, seen) if runs else set()
    for invocation_id, record in runs.items():
        marks = marks_of_total(totals[invocation_id], record.attribution, record.status)
        usage, is_folded = bare.get(invocation_id), record.run_id in folded
        yield _Past(kind="runs", run_id=invocation_id, marks=marks, usage=usage, is_folded=is_folded)


def _folded(ledger: Ledger, since: datetime | None, seen: Mapping[str | None, int]) -> set[str | None]:
    """Logical runs of which the ledger's sums count more than its readers yielded.

    To be asked after reading: what was folded meanwhile has been read, and what is new makes the sums only larger.
    """
    groups = ledger.totals(("run",), since=since)
    counted = ((group.key[0], group.totals.calls + group.totals.charges) for group in groups)
    return {run_id for run_id, records in counted if records > seen.get(run_id, 0)}


# --- what LangSmith says -----------------------------------------------------------------------------------------


def _there(client: "Client", run_ids: list[str], project: str | None) -> dict[str, dict[str, Any]]:
    """Those of the runs that LangSmith has, by id."""
    query = {"id": run_ids, "select": FIELDS, "limit": BATCH, **({"session": [project]} if project else {})}
    answer = client.request_with_retries(
        "POST", "/runs/query", request_kwargs={"json": query}, stop_after_attempt=ATTEMPTS
    )
    return {run["id"]: run for run in answer.json()["runs"]}


def _change(past: _Past, run: Mapping[str, Any] | None, counts: Mapping[Kind, Counts]) -> dict[str, Any] | None:
    """What is to be sent; None where nothing is, which is counted."""
    count = counts[past.kind]
    if run is None:
        count.not_found += 1
        return None
    if not run.get("end_time"):
        count.not_ended += 1
        return None
    extra = run.get("extra") or {}
    before = extra.get("metadata") or {}
    metadata, tags = marked(before, run.get("tags"), past.marks, past.usage)
    if _without_nothing(metadata) == _without_nothing(before) and sorted(tags) == sorted(run.get("tags") or []):
        count.unchanged += 1
        return None
    # All of `extra`, because LangSmith puts it in the place of what was there; and the end as it was.
    kept = {name: run[name] for name in ("end_time", "trace_id", "dotted_order", "session_id") if run.get(name)}
    return {**kept, "extra": {**extra, "metadata": metadata}, "tags": tags}


def _without_nothing(metadata: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in metadata.items() if value is not None}


def _send(client: "Client", change: tuple[_Past, Mapping[str, Any]]) -> bool:
    """Send what differs; False where the run has been deleted meanwhile."""
    from langsmith.utils import LangSmithNotFoundError

    past, fields = change
    content = {"data": json.dumps(fields), "headers": {"Content-Type": "application/json"}}
    try:
        client.request_with_retries(
            "PATCH", f"/runs/{past.run_id}", request_kwargs=content, stop_after_attempt=ATTEMPTS
        )
    except LangSmithNotFoundError:
        return False
    return True
