"""The evaluation table: who is counted as what, and what is said of it."""

import io
import json
import math
import random
from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from langchain_finops.errors import BadArguments
from langchain_finops.evals.results import AttemptResult, Verdict
from langchain_finops.evals.table import FIELDS, Plan, TableOptions, evaluation_table
from langchain_finops.reports.render import Table, render

AT = datetime(2026, 1, 1, tzinfo=UTC)


def attempt(configuration: str, task: str, cost: str | None = "0.01", **changes: Any) -> AttemptResult:
    amount = None if cost is None else Decimal(cost)
    values: dict[str, Any] = {"configuration": configuration, "task": task, "repeat": 0, "try_number": 1}
    values |= {"cost_usd": amount, "known_usd": amount or Decimal(0), "contracted_usd": amount}
    values |= {"status": "completed", "billed_usd": Decimal(0), "latency_s": 1.0, "started_at": AT, "ended_at": AT}
    return AttemptResult(**(values | {"task_id": "t", "fingerprint": "f"} | changes))


def verdict(of: AttemptResult, *, success: bool | None, scorer: str = "exact") -> Verdict:
    return Verdict(
        configuration=of.configuration,
        task=of.task,
        repeat=of.repeat,
        try_number=of.try_number,
        scorer=scorer,
        success=success,
    )


Judged = tuple[AttemptResult, bool | None]


def table(judged: Iterable[Judged], plan: Plan | None = None, **options: Any) -> Table:
    pairs = list(judged)
    return evaluation_table(
        [one for one, _ in pairs],
        [verdict(one, success=success) for one, success in pairs],
        plan=plan,
        options=TableOptions(**options),
    )


def row(made: Table, configuration: str = "a") -> dict[str, Any]:
    return dict(next(each for each in made.rows if each["configuration"] == configuration))


def written(made: Table, output_format: str = "table") -> str:
    file = io.StringIO()
    render(made, output_format, file)
    return file.getvalue()


def notes(made: Table) -> str:
    return "\n".join(made.notes)


def arm(name: str, costs: Iterable[str | None], successes: Iterable[bool | None]) -> list[Judged]:
    return [
        (attempt(name, f"t{n}", cost), success) for n, (cost, success) in enumerate(zip(costs, successes, strict=True))
    ]


# --- what counts -------------------------------------------------------------------------------------------------


def test_a_row_by_hand() -> None:
    """$1 and $1 solved, $4 not: $6 for 2 of 3, two thirds of it on a failure, u = -1 -1 2, t(.975, 2) = 4.30265."""
    found = row(table(arm("a", ["1", "1", "4"], [True, True, False])))

    factor = math.exp(4.302652729911275 * math.sqrt(3 / 3))
    assert (found["tasks"], found["attempts"], found["successes"]) == (3, 3, 2)
    assert found["total_cost_usd"] == Decimal(6)
    assert (found["cost_per_attempt_usd"], found["cost_per_success_usd"]) == (2, 3)
    assert found["share_spent_on_failures"] == pytest.approx(2 / 3)
    assert found["cost_per_success_low"] == pytest.approx(3 / factor)
    assert found["cost_per_success_high"] == pytest.approx(3 * factor)
    assert found["success_rate"] == pytest.approx(2 / 3)


def test_errors_and_stops_count_with_their_cost_as_no_success() -> None:
    """Whatever a scorer says of them: an attempt that a limit stopped has not succeeded."""
    ends = [
        (attempt("a", "t0", "0.10"), True),
        (attempt("a", "t1", "0.20", status="stopped", stop_reason="time_limit"), True),
        (attempt("a", "t2", "0.30", status="error", stop_reason="APIError"), None),
    ]

    made = table(ends)

    found = row(made)
    assert (found["completed"], found["stopped"], found["errors"]) == (1, 1, 1)
    assert (found["successes"], found["attempts"], found["unjudged"]) == (1, 3, 0)
    assert found["cost_per_success_usd"] == pytest.approx(0.60)
    assert "1 error (APIError), 1 stopped (time_limit)" in notes(made)


def test_tries_of_a_slot_add_up_and_the_last_one_decides() -> None:
    """An infrastructure error tried again is one attempt: both costs, the second one's verdict."""
    first = attempt("a", "t0", "0.10", status="error", usage={"input_tokens": 5}, calls=1)
    second = attempt("a", "t0", "0.20", try_number=2, usage={"input_tokens": 7, "output_tokens": 2}, calls=2)

    found = row(table([(first, False), (second, True)]))

    assert (found["attempts"], found["tries"], found["error_tries"], found["errors"]) == (1, 2, 1, 0)
    assert (found["successes"], found["total_cost_usd"]) == (1, Decimal("0.30"))
    assert (found["input_tokens"], found["output_tokens"], found["calls"]) == (12, 2, 3)


def test_what_a_former_version_of_an_item_cost_is_left_out() -> None:
    """The item was changed and answered again: another slot, not a second try."""
    old, new = attempt("a", "t0", "0.10", item_hash="old"), attempt("a", "t0", "0.20", item_hash="new")

    found = row(table([(old, False), (new, True)]))

    assert (found["total_cost_usd"], found["tries"], found["successes"]) == (Decimal("0.20"), 1, 1)


def test_the_last_verdict_counts() -> None:
    """A new look at the same answer replaces the old one."""
    one = attempt("a", "t0")

    made = evaluation_table([one], [verdict(one, success=False), verdict(one, success=True)])

    assert row(made)["successes"] == 1


def test_all_scorers_must_agree_unless_one_is_chosen() -> None:
    """One of two scorers says no: no success; alone, the other one decides. An unknown one is refused."""
    one = attempt("a", "t0")
    said = [verdict(one, success=True), verdict(one, success=False, scorer="strict")]

    assert row(evaluation_table([one], said))["successes"] == 0
    assert row(evaluation_table([one], said, options=TableOptions(scorer="exact")))["successes"] == 1
    with pytest.raises(BadArguments, match="choose one of exact, strict"):
        evaluation_table([one], said, options=TableOptions(scorer="fuzzy"))


def test_an_answer_without_a_verdict_is_no_success_and_said() -> None:
    """It may have been right: it is counted, shown, and nothing is compared with it."""
    made = table([*arm("a", ["1"] * 60, [True] * 60), *arm("b", ["1"] * 60, [True] * 59 + [None])])

    found = row(made, "b")
    assert (found["unjudged"], found["successes"], found["frontier"]) == (1, 59, None)
    assert (found["verdict"], found["verdict_why"]) == ("INCONCLUSIVE", "attempts without a verdict")
    assert "counted as no success: b 1" in notes(made)


def test_partial_credit_has_a_name_of_its_own() -> None:
    """Scores 1, .5 and none at $1 each: $3 for 1.5 points is $2 a credit, mean .5; one success costs $3."""
    judged = [attempt("a", f"t{n}", "1") for n in range(3)]
    said = [
        replace(verdict(one, success=n == 0), score=score)
        for n, (one, score) in enumerate(zip(judged, (1.0, 0.5, None), strict=True))
    ]

    found = row(evaluation_table(judged, said))

    assert (found["cost_per_credit_usd"], found["mean_score"], found["cost_per_success_usd"]) == (2, 0.5, 3)
    assert row(table(arm("a", ["1"], [True])))["cost_per_credit_usd"] is None


def test_charges_are_in_the_cost_and_shown_apart() -> None:
    """A tool's price is part of what the attempt cost."""
    found = row(table([(attempt("a", "t0", "1", charges_usd=Decimal("0.25")), True)]))

    assert (found["total_cost_usd"], found["charges_usd"]) == (1, Decimal("0.25"))


def test_charges_without_a_price_are_left_out_and_told() -> None:
    """A tool without a card makes no figure a bound; how many there were stands in the row and in the footer."""
    built = table([(attempt("a", "t0", "1", unpriced_charges=3), True)])
    found = row(built)

    assert (found["unpriced_charges"], found["unknown_costs"], found["cost_per_success_bound"]) == (3, 0, "=")
    assert "Charges without a price, such as tools without a card, left out: a 3." in built.notes


def test_sums_are_exact() -> None:
    """Ten times ten cents are a dollar, and a trillionth is not lost on a million."""
    cheap = row(table(arm("a", ["0.1"] * 10, [True] * 10)))
    dear = row(table(arm("a", ["1000000", "0.000000000001"], [True, True])))

    assert cheap["total_cost_usd"] == 1
    assert dear["total_cost_usd"] == Decimal("1000000.000000000001")


def test_what_judges_cost_is_in_no_other_figure() -> None:
    """Overhead is a column of its own, unknown where a price is."""
    known, unknown = attempt("a", "t0", "1", overhead_usd=Decimal("0.5")), attempt("b", "t0", "1", overhead_usd=None)

    made = table([(known, True), (unknown, True)])

    assert (row(made)["overhead_usd"], row(made)["total_cost_usd"]) == (Decimal("0.5"), 1)
    assert row(made, "b")["overhead_usd"] is None


def test_repeats_are_one_cluster_a_task() -> None:
    """4 repeats that agree are no more than their task: n is 20 tasks, effective attempts 19 or so, pass^4 the rate."""
    judged = [(attempt("a", f"t{n}", "1", repeat=repeat), n < 10) for n in range(20) for repeat in range(4)]

    made = table(judged)

    found = row(made)
    assert (found["tasks"], found["attempts"], found["k"]) == (20, 80, 4)
    assert found["effective_attempts"] == pytest.approx(19)
    assert (found["pass_hat_k"], found["pass_at_k"]) == (0.5, 0.5)
    assert "20 tasks x 4 repeats, 80 attempts" in notes(made)


def test_latencies_are_of_the_deciding_tries_that_got_through() -> None:
    """1 to 5 seconds: the median is 3, the 95th percentile 4.8; an outage's 99 seconds tell nothing of the model."""
    judged: list[Judged] = [(attempt("a", f"t{n}", latency_s=float(n)), True) for n in range(1, 6)]
    judged += [(attempt("a", "t6", latency_s=99.0, status="error"), None)]

    found = row(table(judged))

    assert (found["latency_p50_s"], found["latency_p95_s"]) == (3, pytest.approx(4.8))


# --- what is not known -------------------------------------------------------------------------------------------


def test_unknown_costs_are_at_least_and_undecided() -> None:
    """2 of 60 costs unknown: `>= X (2 unknown)`, no upper bound, no ratio, off the frontier, INCONCLUSIVE."""
    made = table([*arm("a", ["1"] * 60, [True] * 60), *arm("b", ["0.5"] * 58 + [None] * 2, [True] * 60)])

    found = row(made, "b")
    assert (found["cost_per_success_usd"], found["cost_per_success_bound"]) == (pytest.approx(29 / 60), ">=")
    assert (found["cost_per_success_low"], found["cost_per_success_high"], found["vs_baseline_ratio"]) == (None,) * 3
    assert (found["verdict"], found["verdict_why"], found["frontier"]) == ("INCONCLUSIVE", "unknown costs", None)
    assert found["share_spent_on_failures"] is None
    assert ">= $0.483 (2 unknown)" in written(made)


def test_the_known_part_of_an_unknown_cost_counts() -> None:
    """One call of the attempt had no price; the others' is a lower bound still."""
    made = table([(attempt("a", "t0", None, known_usd=Decimal("0.25")), True)])

    assert row(made)["total_cost_usd"] == Decimal("0.25")
    assert ">= $0.250 (1 unknown)" in written(made)


def test_a_lower_bound_is_rounded_down() -> None:
    """$2 known for 3 successes: at least $0.666, for $0.667 would be more than is known."""
    made = table(arm("a", ["1", "1", None], [True] * 3))

    assert ">= $0.666 (1 unknown)" in written(made)


def test_choosing_the_card_set_of_the_run_changes_nothing() -> None:
    """The known part of an unknown cost is known under the set's own name as well."""
    one = attempt("a", "t0", None, known_usd=Decimal("0.25"), costs_by_card={"hosted": None})

    found = row(table([(one, True)], Plan(priced_by="hosted"), cards="hosted"))

    assert found["total_cost_usd"] == Decimal("0.25")


def test_costs_all_unknown_are_not_zero() -> None:
    """No figure at all, and none that looks free."""
    made = table(arm("a", [None, None], [True, False]))

    found = row(made)
    assert (found["total_cost_usd"], found["cost_per_success_usd"], found["cost_per_attempt_usd"]) == (None,) * 3
    assert "unknown (2 unknown)" in written(made)


def test_imputing_takes_the_dearest_attempt_and_says_so() -> None:
    """Known $1 and $3, one unknown: $7 for 3, with an interval, and a note."""
    made = table(arm("a", ["1", "3", None], [True] * 3), impute="max")

    found = row(made)
    assert (found["total_cost_usd"], found["imputed_costs"], found["unknown_costs"]) == (7, 1, 0)
    assert found["cost_per_success_low"] is not None
    assert "filled with the dearest attempt: a 1" in notes(made)


def test_no_success_is_a_lower_bound() -> None:
    """60 tasks at $1: more than 1 / (1 - 0.05^(1/60)) = $20.53; never on the frontier; worse than one that succeeds."""
    made = table([*arm("a", ["1"] * 60, [True] * 60), *arm("b", ["1"] * 60, [False] * 60)])

    found = row(made, "b")
    assert found["cost_per_success_usd"] == pytest.approx(1 / 0.0487029, rel=1e-5)
    assert (found["cost_per_success_bound"], found["frontier"], found["verdict"]) == (">", False, "WORSE")
    assert "> $20.5" in written(made)
    assert "no success; one-sided 95% bound" in notes(made)


def test_free_attempts_have_no_ratio() -> None:
    """$0 against $1 is no ratio, and no verdict."""
    made = table([*arm("a", ["1"] * 60, [True] * 60), *arm("b", ["0"] * 60, [True] * 60)])

    found = row(made, "b")
    assert (found["cost_per_success_usd"], found["vs_baseline_ratio"]) == (0, None)
    assert (found["verdict"], found["verdict_why"]) == ("INCONCLUSIVE", "free")


# --- slots -------------------------------------------------------------------------------------------------------


def test_unequal_slots_are_means_by_task_and_labelled() -> None:
    """A hard task tried 3 times: (1 + 3) / 2 an attempt, 4 a success, instead of 10/4 and 10."""
    judged: list[Judged] = [(attempt("a", "easy", "1"), True)]
    judged += [(attempt("a", "hard", "3", repeat=n), False) for n in range(3)]

    made = table(judged)

    found = row(made)
    assert (found["basis"], found["cost_per_attempt_usd"], found["cost_per_success_usd"]) == ("per-task means", 2, 4)
    assert (found["success_rate"], found["total_cost_usd"]) == (0.5, 10)
    assert "Per-task means, as tasks have unequal slots: a." in made.notes


def test_a_stopped_run_is_compared_on_what_is_complete() -> None:
    """b stopped after 30 of 60 tasks, which cost twice: paired on those; its row says so; it is not placed."""
    costs = ["1"] * 30 + ["2"] * 30
    made = table([*arm("a", costs, [True] * 60), *arm("b", ["1"] * 30, [True] * 30)])

    found = row(made, "b")
    assert (found["vs_baseline_ratio"], found["vs_baseline_tasks"]) == (1, 30)
    assert (found["complete"], found["planned_attempts"], found["frontier"]) == (False, 60, None)
    assert "b: 30 of 60 attempts were made" in notes(made)
    assert "?: not placed" in notes(made)


def test_nothing_in_common_is_no_comparison() -> None:
    """b ran on other tasks than a."""
    made = table([(attempt("a", "t0"), True), (attempt("b", "t1"), True)])

    assert (row(made, "b")["verdict_why"], row(made, "b")["vs_baseline_tasks"]) == ("fewer than 2 tasks in common", 0)


def test_a_task_without_all_its_repeats_is_not_paired() -> None:
    """b lacks one repeat of t0: that task is compared with nothing."""
    judged = [(attempt(name, f"t{n}", repeat=r), True) for name in "ab" for n in range(3) for r in range(2)]
    judged.remove((attempt("b", "t0", repeat=1), True))

    assert row(table(judged), "b")["vs_baseline_tasks"] == 2


def test_the_plan_says_what_is_missing_and_what_does_not_belong() -> None:
    """Order, tasks and repeats are the plan's: a removed task is left out, one not started is missing."""
    judged = [(attempt(name, task), True) for task in ("t0", "removed") for name in ("b", "a", "gone")]
    judged += [(attempt("a", "t0", repeat=2), True)]
    plan = Plan(configurations=("a", "b", "c"), tasks=("t0", "t1"), repeats=2)

    made, any_repeat = table(judged, plan), table(judged, replace(plan, repeats=None))

    assert [each["attempts"] for each in any_repeat.rows] == [2, 1, 0]
    assert [each["configuration"] for each in made.rows] == ["a", "b", "c"]
    assert [each["attempts"] for each in made.rows] == [1, 1, 0]
    assert {each["planned_attempts"] for each in made.rows} == {4}
    assert "c: 0 of 4 attempts were made" in notes(made)
    assert row(made, "c")["success_rate"] is None


# --- between configurations --------------------------------------------------------------------------------------


def test_the_first_configuration_is_the_baseline_unless_the_plan_names_one() -> None:
    """And one that is not there is refused."""
    judged = [*arm("a", ["1"] * 3, [True] * 3), *arm("b", ["2"] * 3, [True] * 3)]

    first, named = table(judged), table(judged, Plan(baseline="b"))

    assert (row(first)["baseline"], row(first, "b")["vs_baseline_ratio"]) == (True, 2)
    assert (row(named, "b")["baseline"], row(named)["vs_baseline_ratio"]) == (True, 0.5)
    with pytest.raises(BadArguments, match="choose one of a, b"):
        table(judged, Plan(baseline="c"))


def test_verdicts_need_enough_tasks_and_the_table_says_how_many() -> None:
    """Ten tasks at a tenth of the cost: clear, and INCONCLUSIVE for want of tasks; the number can be set."""
    judged = [*arm("a", ["10"] * 10, [True] * 10), *arm("b", ["1"] * 10, [True] * 10)]

    made = table(judged)

    assert (row(made, "b")["verdict"], row(made, "b")["verdict_why"]) == ("INCONCLUSIVE", "fewer than 50 tasks")
    assert "needs 50 tasks and 10 successes: INCONCLUSIVE (fewer than 50 tasks): b." in notes(made)
    assert "A set of 10 tasks cannot rank close configurations." in made.notes
    assert row(table(judged, min_tasks=10), "b")["verdict"] == "BETTER"


def test_the_cheapest_of_many_is_labelled_selected() -> None:
    """Of three, the one with the lowest cost per success; of two nothing was selected."""
    three = [*arm("a", ["3"] * 4, [True] * 4), *arm("b", ["1"] * 4, [True] * 4), *arm("c", ["2"] * 4, [True] * 4)]

    made = table(three)

    assert [each["selected"] for each in made.rows] == [False, True, False]
    assert "selected: b, on the frontier too, has the lowest cost per success of 3" in notes(made)
    assert "selected" in written(made)
    assert not any(each["selected"] for each in table(three[:8]).rows)


def test_the_dearer_one_is_priced_by_the_success_it_adds() -> None:
    """$1 at 20 of 60 and $3 at 50 of 60: $2 more for 30/60 of a success is $4 a success, and the rates do differ."""
    made = table(
        [*arm("a", ["1"] * 60, [n < 20 for n in range(60)]), *arm("b", ["3"] * 60, [n < 50 for n in range(60)])]
    )

    found = row(made, "b")
    assert (found["frontier"], found["incremental_against"]) == (True, "a")
    assert (found["incremental_identified"], found["incremental_usd_per_success"]) == (True, pytest.approx(4))


def test_an_increment_is_not_identified_where_the_rates_may_be_equal() -> None:
    """One task more of 60: the rate difference's interval holds 0."""
    made = table(
        [*arm("a", ["1"] * 60, [n < 30 for n in range(60)]), *arm("b", ["3"] * 60, [n < 31 for n in range(60)])]
    )

    found = row(made, "b")
    assert (found["incremental_identified"], found["incremental_usd_per_success"]) == (False, None)
    assert "not identified" in written(made)


def test_an_increment_is_not_identified_by_fewer_than_five_tasks() -> None:
    """Four tasks of 60 differ, all one way: an interval without 0, and yet too little to tell."""
    made = table(
        [*arm("a", ["1"] * 60, [n < 30 for n in range(60)]), *arm("b", ["3"] * 60, [n < 34 for n in range(60)])]
    )

    found = row(made, "b")
    assert found["success_rate_difference_low"] > 0
    assert (found["incremental_identified"], found["incremental_usd_per_success"]) == (False, None)


def test_the_selected_one_is_of_those_placed() -> None:
    """One whose cost is unknown may be the cheapest."""
    four = [arm(name, [cost] * 4, [True] * 4) for name, cost in (("a", "3"), ("b", "1"), ("c", "2"), ("d", None))]

    assert "lowest cost per success of the 3 placed;" in notes(table([line for each in four for line in each]))


def test_tries_are_told_by_why_they_were_repeated() -> None:
    """A crash is no infrastructure error."""
    again = [
        (attempt("a", "t1", "1", status="error", stop_reason="interrupted"), None),
        (attempt("a", "t1", "1", try_number=2, status="error", stop_reason="infrastructure"), None),
        (attempt("a", "t1", "1", try_number=3), True),
    ]

    told = notes(table(again))

    assert "1 tries were repeated after infrastructure errors;" in told
    assert "1 tries were repeated after a crash or Ctrl-C;" in told


def test_a_failure_that_must_be_mended_changes_the_order() -> None:
    """$.001 at 10% costs .01 a success, $.10 at 85% .118; at $5 a failure they cost 4.501 and 0.85 a task."""
    judged = [
        *arm("a", ["0.001"] * 100, [n < 10 for n in range(100)]),
        *arm("b", ["0.1"] * 100, [n < 85 for n in range(100)]),
    ]

    made = table(judged, failure_usd=Decimal(5))

    cheap, good = row(made), row(made, "b")
    assert (cheap["cost_per_success_usd"], cheap["expected_cost_usd"]) == (pytest.approx(0.01), pytest.approx(4.501))
    assert (good["cost_per_success_usd"], good["expected_cost_usd"]) == (pytest.approx(0.1 / 0.85), pytest.approx(0.85))
    assert good["expected_cost_ratio"] == pytest.approx(0.85 / 4.501)
    assert good["expected_cost_low"] < 0.85 < good["expected_cost_high"]
    assert (good["verdict"], good["expected_cost_verdict"]) == ("WORSE", "BETTER")
    assert "expected cost" in written(made)


def test_verdicts_on_many_configurations_are_adjusted() -> None:
    """25 configurations drawn alike: some interval misses 1 by chance, which is no verdict yet."""
    generator = random.Random(12)
    judged = [
        (attempt(f"c{c:02}", f"t{t}", f"{generator.lognormvariate(0, 0.5):.6f}"), generator.random() < 0.5)
        for c in range(25)
        for t in range(60)
    ]

    rows = table(judged).rows[1:]

    assert any(each["vs_baseline_low"] > 1 or each["vs_baseline_high"] < 1 for each in rows)
    assert {each["verdict"] for each in rows} == {"INCONCLUSIVE"}
    for each in rows:
        alone = not each["vs_baseline_low"] <= 1 <= each["vs_baseline_high"]
        assert each["verdict_why"] == ("not after Holm's adjustment" if alone else "the interval holds 1")


# --- card sets and provenance ------------------------------------------------------------------------------------


def test_another_card_set_prices_the_same_attempts() -> None:
    """`cards` takes each attempt's cost by that set; the footer names all; one that is not there is refused."""
    costs = {"hosted": Decimal(1), "own": Decimal("0.25")}
    judged = [(attempt("a", f"t{n}", "1", costs_by_card=costs), True) for n in range(3)]
    plan = Plan(cards={"hosted": "prices of 2026-01", "own": "$0.07 an hour"}, priced_by="hosted")

    default, other = table(judged, plan), table(judged, plan, cards="own")

    assert (row(default)["total_cost_usd"], row(other)["total_cost_usd"]) == (3, Decimal("0.75"))
    assert (row(default)["contracted_usd"], row(default)["billed_usd"]) != (None, None)
    # Discounts, bills and tools are known by the run's set alone.
    assert [row(other)[name] for name in ("contracted_usd", "billed_usd", "charges_usd")] == [None] * 3
    assert "by card set hosted (prices of 2026-01); --cards chooses own ($0.07 an hour)." in notes(default)
    assert "by card set own ($0.07 an hour); --cards chooses hosted (prices of 2026-01)." in notes(other)
    with pytest.raises(BadArguments, match="choose one of hosted, own"):
        table(judged, plan, cards="theirs")


def test_a_card_set_without_a_price_is_unknown_not_free() -> None:
    """None in `costs_by_card` is an unknown cost."""
    one = attempt("a", "t0", "1", costs_by_card={"hosted": Decimal(1), "own": None})

    found = row(table([(one, True)], cards="own"))

    assert (found["unknown_costs"], found["total_cost_usd"]) == (1, None)


def test_replays_estimates_and_mixed_targets_are_said() -> None:
    """What was assumed stands in the footer."""
    judged = [
        (attempt("a", "t0", replayed_calls=3, fingerprint="f1"), True),
        (attempt("a", "t1", estimated_calls=2, fingerprint="f2"), True),
    ]

    said = notes(table(judged))

    assert "3 were replayed: list costs and latencies as recorded, nothing was billed" in said
    assert "estimated, counted as such: a 2" in said
    assert "2 versions of the target" in said


# --- surfaces ----------------------------------------------------------------------------------------------------


def mixed() -> list[Judged]:
    """Five configurations, every special case among them."""
    won = [n % 3 > 0 for n in range(60)]
    return [
        *arm("zero-shot", ["0.0000120"] * 30 + ["0.0000131"] * 30, won),
        *arm("two-shot", ["0.0000220"] * 60, [n % 4 > 0 for n in range(60)]),
        *arm("five-shot-with-verifying-vote", ["0.0000520"] * 60, [True] * 59 + [False]),
        *arm("hopeless", ["0.0000010"] * 60, [False] * 60),
        *arm("unpriced", [None] * 60, won),
    ]


def test_the_table_fits_eighty_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    """Configuration, success rate, cost per success, ratio and frontier, readable, with three digits."""
    monkeypatch.setenv("COLUMNS", "80")

    text = written(table(mixed()))

    lines = text.splitlines()
    assert max(map(len, lines)) <= 80
    assert lines[0].split("  ")[0] == "configuration"
    for title in ("success rate", "cost per 1k successes", "vs baseline", "frontier"):
        assert title in lines[0]
    assert "$0.0188 (0.0157-0.0226)" in lines[2]
    assert "60 tasks, 300 attempts." in text


def test_every_column_shows_where_there_is_room(monkeypatch: pytest.MonkeyPatch) -> None:
    """Piped output has all that the issue of a table asks for."""
    monkeypatch.delenv("COLUMNS", raising=False)

    head = written(table(mixed())).splitlines()[0]

    wanted = ("tasks", "attempts", "total cost", "per attempt", "verdict", "on failures", "tokens in", "tokens out")
    assert [title for title in (*wanted, "p50 s", "p95 s", "stopped", "errors") if title not in head] == []


def test_json_is_one_array_with_every_field_and_exact_sums() -> None:
    """Stable names, sums as exact strings, statistics as numbers, unknown as null; no NaN, no infinity."""
    rows = json.loads(written(table(mixed()), "json"), parse_constant=pytest.fail)

    assert [tuple(each) for each in rows] == [FIELDS] * 5
    assert rows[0]["total_cost_usd"] == "0.000753"
    assert rows[0]["cost_per_success_usd"] == pytest.approx(0.000753 / 40)
    assert rows[4]["total_cost_usd"] is None


@pytest.mark.parametrize("output_format", ["csv", "markdown"])
def test_csv_and_markdown_hold_a_line_for_each_configuration(output_format: str) -> None:
    """The same rows in any format."""
    text = written(table(mixed()), output_format)

    assert sum(line.lstrip("| ").startswith(("zero", "two", "five", "hope", "unpr")) for line in text.splitlines()) == 5


def test_no_attempts_is_an_empty_table() -> None:
    """An empty results folder is no error."""
    made = evaluation_table([], [])

    assert json.loads(written(made, "json")) == []
    assert made.notes == ("No attempts yet.",)


@pytest.mark.parametrize("options", [{"impute": "mean"}, {"level": 95}, {"margin": -0.1}, {"half_width": 0}])
def test_options_that_make_no_sense_are_refused(options: dict[str, Any]) -> None:
    """Before anything is computed."""
    with pytest.raises(BadArguments):
        TableOptions(**options)


def test_the_order_of_lines_changes_no_figure() -> None:
    """Attempts end in any order at any concurrency."""
    judged = mixed()
    shuffled = random.Random(3).sample(judged, len(judged))
    plan = Plan(configurations=tuple(dict.fromkeys(one.configuration for one, _ in judged)))

    assert written(table(judged, plan), "json") == written(table(shuffled, plan), "json")
