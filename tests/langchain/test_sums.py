"""Sums in bounded memory, exact for all that is told apart."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from langchain_finops.langchain import sums
from langchain_finops.langchain.sums import OTHER, Cells, Sums, cell_of_call, who_of
from langchain_finops.ledger.totals import Totals
from langchain_finops.records import Attribution, CallRecord, Outcome
from langchain_finops.usage import Usage

AT = datetime(2026, 3, 1, 23, 59, tzinfo=UTC)


def call(cost: str | None = "0.01", *, model: str = "m", **who: Any) -> CallRecord:
    return CallRecord(
        call_id="c", run_id="r", invocation_id="r", attribution=Attribution(**who), model=model,
        usage=Usage(input_tokens=7, output_tokens=3), cost_usd=None if cost is None else Decimal(cost),
        started_at=AT, ended_at=AT,
    )  # fmt: skip


def cells(*calls: CallRecord) -> Cells:
    found: Cells = {}
    for each in calls:
        found.setdefault(cell_of_call(who_of(each.attribution), each), Totals()).add_call(each)
    return found


def rows(of: Sums, by: str, *names: str) -> dict[Any, tuple[Any, ...]]:
    return {group.key[0]: tuple(getattr(group, name) for name in names) for group in of.summary((by,), []).groups}


@pytest.mark.parametrize(
    ("by", "value"),
    [
        ("agent", "a"), ("customer", "c"), ("environment", "e"), ("node", "x/y"), ("project", "p"), ("release", "1"),
        ("role", "judge"), ("task", "t"), ("task_type", "tt"), ("thread", "th"), ("user", "u"), ("model", "m"),
        ("provider", None), ("status", "unpriced"), ("day", "2026-03-01"),
    ],
)  # fmt: skip
def test_each_dimension_reads_its_own_field(by: str, value: str | None) -> None:
    """No two are mixed up."""
    total = Sums()
    total.fold((cells(call(
        agent_id="a", customer_id="c", environment="e", node_path="x/y", project="p", release="1", role="judge",
        task_id="t", task_type="tt", thread_id="th", user_id="u",
    )), ()))  # fmt: skip

    (group,) = total.summary((by,), []).groups
    assert group.key == (value,)
    assert (group.totals.calls, group.runs, group.tasks) == (1, 1, 1)


def test_a_run_counts_once_in_a_group_however_many_calls_it_has_there() -> None:
    """Also where it was resumed: only the groups that are new to it count it."""
    total = Sums()
    first = cells(call(node_path="a"), call(node_path="a", model="n"))
    total.fold((first, ()))
    total.fold((cells(call(node_path="a"), call(node_path="b")), first.keys()))

    assert rows(total, "node", "runs") == {"a": (1,), "b": (1,)}
    (group,) = total.summary((), []).groups
    assert (group.runs, group.totals.calls) == (1, 4)


def test_late_keys_are_summed_as_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """A dimension's memory is bounded; its total is not cut."""
    monkeypatch.setattr(sums, "KEYS_KEPT", 2)
    total = Sums()
    for user in ("a", "b", "c", "d", "a"):
        total.fold((cells(call(user_id=user)), ()))

    assert {key: totals.calls for key, (totals,) in rows(total, "user", "totals").items()} == {"a": 2, "b": 1, OTHER: 2}
    assert total.summary(("user",), []).total().cost_usd == Decimal("0.05")


def test_a_superseded_call_leaves_no_trace_in_the_sums() -> None:
    """Its version goes out and the new one comes in, under keys of their own."""
    total = Sums()
    old, new = call(None, node_path="a"), call("0.02", node_path="a", model="n")
    total.fold((cells(old), ()))

    total.amend(who_of(old.attribution), old, new)

    ((key, (runs, totals)),) = rows(total, "model", "runs", "totals").items()
    assert (key, runs, totals.calls, totals.cost_usd) == ("n", 1, 1, Decimal("0.02"))
    (group,) = total.summary((), []).groups
    assert (group.totals.calls, group.totals.unpriced, group.totals.cost_usd) == (1, 0, Decimal("0.02"))


def test_a_tasks_outcome_counts_in_the_groups_it_has_costs_in() -> None:
    """In no other one, and once, whenever the task comes back."""
    total = Sums()
    total.fold((cells(call(task_id="t", agent_id="a")), ()))
    total.judge(Outcome(task_id="t", success=True, value_usd=Decimal(2), at=AT))
    total.fold((cells(call(task_id="t", agent_id="b")), ()))
    total.fold((cells(call(task_id="t", agent_id="b"), call(task_id="u", agent_id="c")), ()))

    two = 2 * 10**12
    assert rows(total, "agent", "tasks", "judged", "successes", "value_pico") == {
        "a": (1, 1, 1, two), "b": (1, 1, 1, two), "c": (1, 0, 0, 0),
    }  # fmt: skip
    (group,) = total.summary((), []).groups
    assert (group.tasks, group.judged, group.successes, group.value_pico) == (2, 1, 1, two)


def test_a_run_with_many_late_keys_is_one_run_of_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """It has many users that are not told apart any more; open or folded, and resumed, it is one run."""
    monkeypatch.setattr(sums, "KEYS_KEPT", 1)
    total = Sums()
    many = cells(*(call(user_id=user) for user in "abcd"))
    total.fold((many, ()))
    total.fold((cells(*(call(user_id=user) for user in "xy")), many.keys()))

    live = [(cells(*(call(user_id=user) for user in "efg")), ())]
    assert {group.key[0]: group.runs for group in total.summary(("user",), live).groups} == {"a": 1, OTHER: 2}


def test_open_runs_of_one_task_are_one_task() -> None:
    """Its outcome counts once as well."""
    total, once = Sums(), cells(call(task_id="t"))
    total.judge(Outcome(task_id="t", success=True, at=AT))

    for by in ((), ("task",), ("agent",)):
        (group,) = total.summary(by, [(once, ()), (once, ())]).groups
        assert (group.runs, group.tasks, group.judged, group.successes) == (2, 1, 1, 1)


def test_what_comes_after_its_run_was_folded_counts_the_run_once() -> None:
    """Two calls and a charge that were still being written, of a run that had nothing else."""
    total = Sums()
    folded: Cells = {}
    for model in ("m", "n"):
        late = call(model=model)
        total.add_call(who_of(late.attribution), late, (folded, ()))

    assert rows(total, "agent", "runs") == {None: (1,)}
    assert rows(total, "model", "runs") == {"m": (1,), "n": (1,)}


def test_a_superseded_call_takes_its_task_along() -> None:
    """The model that its answer names has the task, and the task's outcome."""
    total = Sums()
    old, new = call(None, task_id="t"), call("0.02", task_id="t", model="n")
    total.fold((cells(old), ()))
    total.judge(Outcome(task_id="t", success=True, at=AT))

    total.amend(who_of(old.attribution), old, new)

    assert rows(total, "model", "tasks", "successes") == {"n": (1, 1)}


def test_a_summary_is_a_copy() -> None:
    """What was shown does not change afterwards, and showing open runs does not count them."""
    total, once = Sums(), cells(call(node_path="a"))
    total.fold((once, ()))

    shown = total.summary(("node",), [(once, ())])
    again = total.summary(("node",), [(once, ())])
    total.fold((once, ()))

    for summary in (shown, again):
        assert [(group.totals.calls, group.runs) for group in summary.groups] == [(2, 2)]


def test_the_dearest_come_first() -> None:
    """As in a ledger's totals."""
    total = Sums()
    total.fold((cells(call("0.01", node_path="b"), call("0.03", node_path="a"), call("0.01", node_path="c")), ()))

    assert [group.key for group in total.summary(("node",), []).groups] == [("a",), ("b",), ("c",)]
