"""Columns hold what the records say, whichever ledger they are in."""

from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from langchain_finops import Ledger
from langchain_finops.ledger.codec import to_micros
from langchain_finops.ledger.columns import Columns, columns_of
from langchain_finops.ledger.grouping import Period
from langchain_finops.records import CallError
from langchain_finops.testing.records import DAY, MONDAY, a_call, a_charge, an_outcome
from langchain_finops.usage import Usage


@pytest.fixture(params=["memory", "file", "postgres"])
def ledger(request: pytest.FixtureRequest, opened: Callable[..., Ledger], path: Path) -> Ledger:
    where: Any = {"memory": lambda: ":memory:", "file": lambda: path}.get(
        request.param, lambda: request.getfixturevalue("postgres_url")
    )()
    return opened(where)


def told(columns: Columns) -> Counter[Any]:
    """Each row of each series, with the names of its run and task."""
    return Counter(
        (
            series.sort.model or series.sort.tool,
            "retried" if place in series.retried else "",
            columns.runs[series.run[place]] if series.run[place] >= 0 else None,
            columns.tasks[series.task[place]] if series.task[place] >= 0 else None,
            series.at[place],
            *(getattr(series, name)[place] for name in ("pico", "fresh", "read", "written", "output", "other")),
        )
        for series in columns.series
        for place in range(len(series))
    )


def test_each_call_and_charge_has_a_place(ledger: Ledger) -> None:
    """Contracted amounts, token meters, second tries, versions that count; what a cache answered is left out."""
    usage = Usage(input_tokens=1, cache_read_tokens=2, cache_write_5m_tokens=3, cache_write_30m_tokens=4,
                  output_tokens=5, cache_write_1h_tokens=6, web_searches=7, audio_output_tokens=8)  # fmt: skip
    later = MONDAY + timedelta(hours=1)
    ledger.write(
        a_call("1", usd="1", contracted_usd=Decimal("0.8"), usage=usage, task_id="t", user_id="u"),
        a_call("2", usd="1", model="b", run_id="r2", started_at=later, step=1, attempt=2, revision=0),
        a_call("2", usd="3", model="b", run_id="r2", started_at=later, step=1, attempt=2, revision=1),
        a_call("3", usd=None, model="c", error=CallError(error_class="E")),
        a_call("4", model="d", billing_mode="cache", billed_usd=Decimal(0)),
        a_call("5", model="e", started_at=MONDAY - DAY),
        a_charge("6", usd="0.5", run_id=None, invocation_id=None),
    )
    ledger.write(an_outcome("t", success=True), an_outcome("u", success=None))
    ledger.write(an_outcome("t", success=False, revision=1, at=later))
    columns = columns_of(ledger, Period.of(MONDAY, None))
    noon, then = to_micros(MONDAY), to_micros(later)
    assert told(columns) == Counter(
        {
            ("gpt-4.1-mini", "", "r1", "t", noon, 800_000_000_000, 1, 2, 7, 5, 21): 1,
            ("b", "retried", "r2", None, then, 3_000_000_000_000, 100, 0, 0, 20, 0): 1,
            ("c", "", "r1", None, noon, 0, 100, 0, 0, 20, 0): 1,
            ("web_search", "", None, None, noon, 500_000_000_000, 0, 0, 0, 0, 0): 1,
        }
    )
    assert (columns.first, columns.last, columns.folded) == (noon, then, 0)
    assert columns.verdicts == {"t": False, "u": None}
    assert {columns.runs[run] for run in columns.waited_for} == {"r1"}
    sorts = {series.sort.model: series.sort for series in columns.series if series.at}
    assert (sorts["c"].failed, sorts["c"].unpriced, sorts["b"].mode) == (True, True, "payg")


def test_tags_of_evaluations_and_of_caps_are_known(ledger: Ledger) -> None:
    """Two attempts at one item; answers of 20 tokens that reached a cap of 20, and did not reach one of 21."""
    attempt = {"evaluation_run": "e", "item": "t01"}
    ledger.write(
        a_call("1", task_id="e/a/t01/0", tags=attempt),
        a_call("2", task_id="e/a/t01/1", tags={**attempt, "answer_cap": "20"}),
        a_call("3", task_id="own", tags={"item": "t01", "answer_cap": "21"}),
        a_call("4", task_id=None, tags={**attempt, "answer_cap": "none"}),
    )
    columns = columns_of(ledger, Period())
    assert {columns.tasks[task]: item for task, item in columns.items.items()} == {
        "e/a/t01/0": "t01", "e/a/t01/1": "t01",
    }  # fmt: skip
    assert [columns.tasks[series.task[place]] for series in columns.series for place in series.cut] == ["e/a/t01/1"]


def test_what_was_folded_is_counted_only(ledger: Ledger) -> None:
    """Three calls of one day are a sum; a later one has its place."""
    ledger.write(*(a_call(str(number)) for number in range(3)), a_call("later", started_at=MONDAY + 5 * DAY))
    ledger.prune(MONDAY + 2 * DAY)
    columns = columns_of(ledger, Period())
    assert (columns.folded, sum(told(columns).values())) == (3, 1)
