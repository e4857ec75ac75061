"""What the table says beside cost and success: by hand."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from langchain_finops.evals.arms import Plan
from langchain_finops.evals.results import AttemptResult, Verdict
from langchain_finops.evals.suite import Human
from langchain_finops.evals.table import evaluation_table
from langchain_finops.reports.render import Row, Table

AT = datetime(2026, 1, 1, tzinfo=UTC)
PERSON = Human(usd_per_hour=Decimal(25), tasks_per_hour=Decimal(5))


def attempt(task: str, cost: str | None, **changes: Any) -> AttemptResult:
    amount = None if cost is None else Decimal(cost)
    values: dict[str, Any] = {"configuration": "a", "task": task, "repeat": 0, "try_number": 1, "status": "completed"}
    values |= {"cost_usd": amount, "known_usd": amount or Decimal(0), "contracted_usd": amount, "billed_usd": amount}
    values |= {"latency_s": 1.0, "started_at": AT, "ended_at": AT, "task_id": task, "fingerprint": "f"}
    return AttemptResult(**(values | changes))


def verdict(of: AttemptResult, *, success: bool | None, **changes: Any) -> Verdict:
    return Verdict(
        configuration=of.configuration,
        task=of.task,
        repeat=of.repeat,
        try_number=of.try_number,
        scorer="judge",
        success=success,
        **changes,
    )


def table(judged: Sequence[tuple[AttemptResult, Verdict | None]], **plan: Any) -> Table:
    verdicts = [said for _, said in judged if said is not None]
    return evaluation_table([one for one, _ in judged], verdicts, plan=Plan(**plan))


def row(judged: Sequence[tuple[AttemptResult, Verdict | None]], **plan: Any) -> Row:
    return next(iter(table(judged, **plan).rows))


def won(one: AttemptResult, **changes: Any) -> tuple[AttemptResult, Verdict]:
    return one, verdict(one, success=True, **changes)


def lost(one: AttemptResult, **changes: Any) -> tuple[AttemptResult, Verdict]:
    return one, verdict(one, success=False, **changes)


def test_judges_are_counted_apart() -> None:
    """What judging cost is in a column of its own, and in no other (promise 26)."""
    found = row(
        [
            won(attempt("t0", "1"), cost_usd=Decimal("0.25"), calls=1),
            lost(attempt("t1", "1"), cost_usd=Decimal("0.5"), calls=2),
        ]
    )

    assert (found["judge_cost_usd"], found["judge_calls"]) == (Decimal("0.75"), 3)
    assert (found["total_cost_usd"], found["cost_per_success_usd"]) == (Decimal(2), 2.0)


def test_a_judge_of_unknown_price_makes_the_sum_unknown() -> None:
    """Its known part alone would pass for all of it."""
    found = row([won(attempt("t0", "1"), cost_usd=None), lost(attempt("t1", "1"), cost_usd=Decimal("0.5"))])

    assert found["judge_cost_usd"] is None


def test_token_efficiency_counts_all_that_was_generated() -> None:
    """Final answers of successes over all output: a failed attempt, a loop and a repeated try only add below."""
    usage = {"output_tokens": 100}
    first = attempt("t0", "1", usage=usage, final_output_tokens=30)
    again = attempt("t1", "1", usage=usage, final_output_tokens=20, status="error", stop_reason="infrastructure")
    found = row(
        [
            won(first),
            (again, None),
            won(attempt("t1", "1", usage=usage, final_output_tokens=20, try_number=2)),
            lost(attempt("t2", "1", usage=usage, final_output_tokens=90)),
        ]
    )

    assert found["token_efficiency"] == pytest.approx((30 + 20) / 400)


def test_token_efficiency_of_an_unknown_answer_is_unknown() -> None:
    """It is not that of the others."""
    used = {"usage": {"output_tokens": 10}}
    known, unknown = attempt("t0", "1", final_output_tokens=5, **used), attempt("t1", "1", **used)

    assert row([won(known), won(unknown)])["token_efficiency"] is None


def test_steps_stops_and_percentiles() -> None:
    """Means over attempts; what stopped them, counted by reason; percentiles between the two nearest."""
    stopped = {"status": "stopped", "stop_reason": "steps_limit"}
    found = row(
        [
            won(attempt("t0", "1", steps=2, tool_calls=1, overhead_s=0.001)),
            lost(attempt("t1", "2", steps=4, tool_calls=0, overhead_s=0.003)),
            (attempt("t2", "3", steps=9, **stopped), None),
            (attempt("t3", "10", steps=1, **stopped), None),
        ]
    )

    assert (found["steps_per_attempt"], found["tool_calls_per_attempt"]) == (4.0, 0.25)
    assert (found["stopped"], found["stop_reasons"]) == (2, "steps_limit 2")
    assert (found["cost_p50_usd"], found["cost_p95_usd"]) == (2.5, pytest.approx(3 + 0.85 * 7))
    assert found["harness_ms"] == pytest.approx(2.0)


def test_cost_percentiles_with_an_unknown_cost_are_unknown() -> None:
    """Nobody knows on which side of them it lies."""
    assert row([won(attempt("t0", "1")), won(attempt("t1", None))])["cost_p50_usd"] is None


def test_roi_as_published() -> None:
    """A person at $25 an hour resolves 5 tickets: $5. An agent at $0.50 a ticket has an ROI of 9; at $6.00 it loses."""
    cheap = row([won(attempt("t0", "0.50")), won(attempt("t1", "0.50"))], human=PERSON)
    looping = row([won(attempt("t0", "6.00"))], human=PERSON)

    assert (cheap["human_cost_per_success_usd"], cheap["roi"]) == (Decimal(5), Decimal(9))
    assert cheap["break_even_success_rate"] == 0.1  # At one success in ten the agent's cost $5 as well.
    assert looping["roi"] == Decimal(-1) / 6  # $1.00 lost on $6.00.


def test_a_person_fails_too() -> None:
    """At 80% right a success by a person costs $5 / 0.8 = $6.25."""
    found = row([won(attempt("t0", "1.25"))], human=replace(PERSON, success_rate=Decimal("0.8")))

    assert (found["human_cost_per_success_usd"], found["roi"]) == (Decimal("6.25"), Decimal(4))


def test_hand_offs_cost_a_persons_minutes() -> None:
    """12 minutes at $25 an hour are $5 each, in ROI and in what a solved task costs; the agent's own cost has none."""
    handed = {"status": "handed_off", "stop_reason": "interrupt"}
    found = row([won(attempt("t0", "1")), (attempt("t1", "1", **handed), None)], human=PERSON)

    assert (found["handed_off"], found["handoff_minutes"], found["handoff_usd"]) == (1, Decimal(12), Decimal(5))
    assert (found["total_cost_usd"], found["cost_per_success_usd"]) == (Decimal(2), 2.0)
    assert found["cost_per_solved_usd"] == Decimal("3.5")  # $7 for two solved tasks.
    assert found["roi"] == Decimal(5 - 7) / 7


def test_an_unknown_cost_has_no_roi() -> None:
    """Its known part would flatter."""
    found = row([won(attempt("t0", "1")), won(attempt("t1", None))], human=PERSON, value_usd=Decimal(3))

    assert [found[name] for name in ("roi", "break_even_success_rate", "gross_margin", "margin_usd")] == [None] * 4


def test_margin_of_what_successes_earn() -> None:
    """Two successes at $4 for $2 in all: $6 remain, 75%."""
    found = row([won(attempt("t0", "1")), won(attempt("t1", "1"))], value_usd=Decimal(4))

    assert (found["value_usd"], found["margin_usd"], found["gross_margin"]) == (8, 6, Decimal("0.75"))


def test_the_footer_is_a_checklist() -> None:
    """Calls and how they were paid for, looks, why it stopped, and what people are taken to cost."""
    judged = [won(attempt("t0", "1", calls=3, replayed_calls=2, estimated_calls=1))]
    made = table(judged, human=PERSON, looks=3, stopped=("the money ran out",))

    said = "\n".join(made.notes)

    assert "3 calls of the agents: 0 unpriced, 1 estimated, 2 were replayed" in said
    assert "Looks taken: 3; intervals hold for one" in said
    assert "Not finished: the money ran out." in said
    assert "a success by a person costs $5.00 ($25 an hour, 5 tasks an hour); a hand-off takes 12 minutes" in said


def test_unscored_answers_leave_ranges_and_no_false_figures() -> None:
    """30 right, 30 of which nobody could tell: figures that would take these for wrong are ranges, or unknown."""
    right = [won(attempt(f"t{n}", "1"), score=0.9) for n in range(30)]
    unscored = [(one, verdict(one, success=None)) for one in (attempt(f"u{n}", "1") for n in range(30))]

    found = row([*right, *unscored], failure_usd=Decimal(5))

    assert (found["success_rate"], found["unscored_won_success_rate"]) == (0.5, 1.0)
    assert (found["success_rate_low"] < 0.4, found["success_rate_high"] > 0.99) == (True, True)
    assert (found["cost_per_success_usd"], found["unscored_won_cost_per_success_usd"]) == (2.0, 1.0)
    assert (found["cost_per_success_low"] <= 1.0, found["cost_per_success_high"] > 2.0) == (True, True)
    assert (found["expected_cost_usd"], found["unscored_won_expected_cost_usd"]) == (3.5, 1.0)
    unknown = ("mean_score", "cost_per_credit_usd", "share_spent_on_failures", "pass_hat_k", "pass_at_k")
    assert [found[name] for name in unknown] == [None] * len(unknown)
