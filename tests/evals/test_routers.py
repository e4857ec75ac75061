"""The router report: routers beside BestSingle, Random and Oracle, by hand."""

import io
import json
import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import numpy as np
import pytest

from langchain_finops.errors import BadArguments
from langchain_finops.evals.arms import Plan
from langchain_finops.evals.results import AttemptResult, Verdict
from langchain_finops.evals.routers import RouterOptions, RouterReport, names_of, router_report
from langchain_finops.evals.routers_table import FIELDS, routers_table
from langchain_finops.reports.render import render
from langchain_finops.reports.stats import TaskSums, paired_ratio

AT = datetime(2026, 1, 1, tzinfo=UTC)
Attempt = tuple[str | None, bool | None]
"""Cost, None where unknown; success, None where unscored."""
Tried = Mapping[str, Mapping[str, Sequence[Attempt]]]
"""By configuration and task, a repeat each."""


def made(tried: Tried) -> tuple[list[AttemptResult], list[Verdict]]:
    attempts, verdicts = [], []
    for name, by_task in tried.items():
        for task, repeats in by_task.items():
            for repeat, (cost, success) in enumerate(repeats):
                amount = None if cost is None else Decimal(cost)
                of = {"configuration": name, "task": task, "repeat": repeat, "try_number": 1}
                values: dict[str, Any] = {"cost_usd": amount, "known_usd": amount or Decimal(0)}
                values |= {"contracted_usd": amount, "billed_usd": amount, "latency_s": 1.0, "started_at": AT}
                values |= {"ended_at": AT, "task_id": "t", "fingerprint": "f", "status": "completed"}
                attempts.append(AttemptResult(**of, **values))
                verdicts.append(Verdict(**of, scorer="exact", success=success))
    return attempts, verdicts


def report(tried: Tried, plan: Plan | None = None, **options: Any) -> RouterReport:
    attempts, verdicts = made(tried)
    return router_report(attempts, verdicts, plan=plan, options=RouterOptions(**options))


def row(of: RouterReport, policy: str) -> dict[str, Any]:
    return next(each for each in of.rows if each["policy"] == policy)


def once(*attempts: Attempt) -> dict[str, list[Attempt]]:
    return {f"t{number}": [each] for number, each in enumerate(attempts)}


def notes(of: RouterReport) -> str:
    return "\n".join(routers_table(of).notes)


# small solves t0 alone, large t0 and t1, nobody t2; the router asks small at t0 and large else, for a cent more each.
SMALL = once(("1", True), ("1", False), ("1", False))
LARGE = once(("4", True), ("4", True), ("4", False))
ROUTER = once(("1.01", True), ("4.01", True), ("4.01", False))
THREE: Tried = {"small": SMALL, "large": LARGE, "router": ROUTER}


# --- by hand -----------------------------------------------------------------------------------------------------


def test_every_policy_by_hand() -> None:
    """small $3 for 1, large $12 for 2, the router $9.03 for 2; Random half of small's and large's sums.

    Small at t0 and t2 and large at t1 are $6 for 2: as much for a success as small alone, and of such equals the Oracle
    is the one that wins most.
    """
    found = report(THREE, routers=("router",))

    assert [(each["policy"], each["kind"]) for each in found.rows] == [
        ("router", "router"),
        ("small", "single"),
        ("large", "single"),
        ("Random", "random"),
        ("Oracle", "oracle"),
        ("Oracle, most solved", "oracle_most_solved"),
    ]
    assert [each["total_cost_usd"] for each in found.rows] == [
        *map(Decimal, ("9.03", "3", "12", "7.5", "6", "6")),
    ]
    assert [each["successes"] for each in found.rows] == [2, 1, 2, 1.5, 2, 2]
    assert [each["cost_per_success_usd"] for each in found.rows] == pytest.approx([4.515, 3, 6, 5, 3, 3])


def test_the_oracle_makes_the_cost_per_success_least() -> None:
    """small alone is $3 a success; with t1 at large two are $5.99."""
    cheaper = {"small": SMALL, "large": LARGE | {"t1": [("3.99", True)]}}

    found = row(report(cheaper), "Oracle")

    assert (found["successes"], found["total_cost_usd"]) == (2, Decimal("5.99"))
    assert found["cost_per_success_usd"] == pytest.approx(2.995)


def test_the_oracle_leaves_a_task_that_is_too_dear_to_solve() -> None:
    """A success for $100 would make two cost $50.50 each: the Oracle takes one for $2, most solved takes both."""
    tried = {"small": once(("1", True), ("1", False)), "large": once(("100", True), ("100", True))}

    found = report(tried)

    assert row(found, "Oracle")["cost_per_success_usd"] == pytest.approx(2)
    assert row(found, "Oracle")["success_rate"] == 0.5
    assert row(found, "Oracle, most solved")["cost_per_success_usd"] == pytest.approx(50.5)
    assert row(found, "Oracle, most solved")["success_rate"] == 1


def test_regret_is_what_it_costs_beyond_the_oracle() -> None:
    """The router $4.515 less $3, 50.5% of $3; large as BestSingle would leave a gap, small leaves none."""
    found = report(THREE, routers=("router",))

    assert row(found, "router")["regret_usd"] == pytest.approx(1.515)
    assert row(found, "router")["regret_share"] == pytest.approx(0.505)
    assert row(found, "small")["regret_usd"] == row(found, "Oracle")["regret_usd"] == 0
    assert row(found, "router")["gap_closed"] is None


def test_the_gap_closed_is_a_share_of_what_the_oracle_would_save() -> None:
    """BestSingle $2 a success, Oracle $1, the router $1.25: three quarters; Random at $2 as much as BestSingle."""
    tried = {
        "one": once(("1", True), ("1", False)),
        "other": once(("1", False), ("1", True)),
        "router": once(("1.25", True), ("1.25", True)),
    }

    found = report(tried, routers=("router",))

    assert (found.best, row(found, "Oracle")["cost_per_success_usd"]) == ("one", 1)
    assert row(found, "router")["gap_closed"] == pytest.approx(0.75)
    assert row(found, "one")["gap_closed"] == 0
    assert row(found, "Oracle")["gap_closed"] == 1
    assert row(found, "Random")["gap_closed"] == pytest.approx(0)


def test_with_a_price_of_failure_the_expected_cost_decides() -> None:
    """At $9 a failure small is (3 + 2 x 9) / 3 = $7 an attempt, large (12 + 9) / 3 = $7 too, at $10 large is less.

    The Oracle then solves t1 for $4, and leaves t2 to small: (1 + 4 + 1 + 10) / 3.
    """
    found = report(THREE, routers=("router",), failure_usd=Decimal(10))

    assert row(found, "small")["expected_cost_usd"] == pytest.approx(23 / 3)
    assert row(found, "large")["expected_cost_usd"] == pytest.approx(22 / 3)
    assert row(found, "router")["expected_cost_usd"] == pytest.approx(19.03 / 3)
    assert row(found, "Random")["expected_cost_usd"] == pytest.approx(22.5 / 3)
    assert row(found, "Oracle")["expected_cost_usd"] == pytest.approx(16 / 3)
    assert found.best == "large"
    assert row(found, "router")["regret_usd"] == pytest.approx(3.03 / 3)
    assert row(found, "router")["gap_closed"] == pytest.approx((22 - 19.03) / (22 - 16))
    assert all(each["measure"] == "expected_cost" for each in found.rows)


def test_repeats_count_by_their_mean_and_the_held_out_oracle_has_not_seen_them() -> None:
    """One task, two repeats: one solves the first, other the second, for $1 each.

    The Oracle picks either for $2 a success. Held out, each repeat is counted with what solved the other: none is.
    """
    tried = {"one": {"t": [("1", True), ("1", False)]}, "other": {"t": [("1", False), ("1", True)]}}

    found = report(tried)

    assert row(found, "Oracle")["cost_per_success_usd"] == pytest.approx(2)
    held_out = row(found, "Oracle, held out")
    assert (held_out["successes"], held_out["total_cost_usd"], held_out["cost_per_success_bound"]) == (0, 2, ">")


def test_the_top_rate_is_told_where_it_is_not_the_best_single() -> None:
    """LLMRouterBench's best single is the most accurate one."""
    found = report(THREE, routers=("router",))

    assert [each["policy"] for each in found.rows if each["best_single"]] == ["small"]
    assert [each["policy"] for each in found.rows if each["highest_rate"]] == ["large"]
    assert "large has the highest success rate of the singles" in notes(found)


# --- the verdict -------------------------------------------------------------------------------------------------


def many(costs: str, wins: Sequence[bool], times: int = 20) -> dict[str, list[Attempt]]:
    return once(*[(str(Decimal(costs) + Decimal(n % 5) / 1000), won) for n, won in enumerate(wins * times)])


SINGLES = {"small": many("1", [True, False, True]), "large": many("3", [True, True, True])}


def test_a_router_that_is_cheaper_beats_best_single() -> None:
    """60 tasks, each solved for less than half: the paired interval of the ratio lies below 1, as `compare` has it."""
    found = report({**SINGLES, "router": many("0.5", [True, True, True])}, routers=("router",))

    mine, best = row(found, "router"), row(found, "small")
    assert mine["verdict"] == "beats BestSingle"
    assert mine["against"] == "small"
    assert mine["vs_best_single_ratio"] == pytest.approx(mine["cost_per_success_usd"] / best["cost_per_success_usd"])
    assert mine["vs_best_single_high"] < 1
    assert mine["success_rate_difference"] == pytest.approx(1 / 3)
    assert "router beats BestSingle (small), at 0.33" in notes(found)


def test_a_router_that_is_dearer_says_that_it_does_not_beat_best_single() -> None:
    """What it saves against large is no use where small alone is cheaper still."""
    found = report({**SINGLES, "router": many("2", [True, True, True])}, routers=("router",))

    assert row(found, "router")["verdict"] == "does not beat BestSingle"
    assert row(found, "router")["gap_closed"] is None or row(found, "router")["gap_closed"] < 0
    assert "router does not beat BestSingle (small)" in notes(found)


def test_too_few_tasks_are_inconclusive() -> None:
    """Three tasks show nothing."""
    found = report(THREE, routers=("router",))

    assert row(found, "router")["verdict"] == "INCONCLUSIVE"
    assert row(found, "router")["verdict_why"] == "fewer than 50 tasks"
    assert "INCONCLUSIVE: it is not shown that router beats BestSingle (small), because of: fewer than 50 tasks" in (
        notes(found)
    )


def test_a_router_beats_best_single_only_where_it_is_cheaper_than_each_single() -> None:
    """wild costs $2 a success, most of it at one task: it looks dearer than small, and may be the best one in truth."""
    wild = many("0.5", [True, True, True]) | {"t0": [("90", True)]}
    alone = report({**SINGLES, "router": many("0.5", [True, True, True])}, routers=("router",))

    found = report({**SINGLES, "wild": wild, "router": many("0.5", [True, True, True])}, routers=("router",))

    assert row(alone, "router")["verdict"] == "beats BestSingle"
    assert found.best == "small"
    assert row(found, "router")["vs_best_single_high"] < 1
    assert row(found, "router")["verdict"] == "INCONCLUSIVE"
    assert row(found, "router")["verdict_why"] == "wild may be the best single (the interval holds 1)"


def test_a_single_that_looks_best_by_chance_finds_against_no_router() -> None:
    """Thirty singles and a router that are all alike but for chance: dearer than the luckiest, not after adjustment."""
    tried = drawn(9, singles=30, tasks=60, repeats=1, alike=True)

    found = report(tried, routers=("c30",))

    mine = row(found, "c30")
    assert mine["vs_best_single_low"] > 1
    assert (mine["verdict"], mine["dearer_than"]) == ("INCONCLUSIVE", [])


def test_all_singles_that_a_router_is_dearer_than_are_told() -> None:
    """It costs $5 a success, small $1.50 and large $3."""
    found = report({**SINGLES, "router": many("5", [True, True, True])}, routers=("router",))

    assert row(found, "router")["dearer_than"] == ["small", "large"]
    assert "It is dearer than large too" in notes(found)


def test_a_single_without_success_is_no_rival() -> None:
    """A single that costs next to nothing and solves nothing bounds a success to next to nothing, too."""
    nothing = many("0.000001", [False, False, False])

    found = report({**SINGLES, "none": nothing, "router": many("0.5", [True, True, True])}, routers=("router",))

    assert row(found, "router")["verdict"] == "beats BestSingle"


def test_a_single_that_seldom_succeeds_bars_no_verdict() -> None:
    """Five successes for $60 are no figure to rely on, but $12 each is too far away for that to matter."""
    weak = many("1", [True] + [False] * 11, times=5)

    found = report({**SINGLES, "weak": weak, "router": many("0.5", [True, True, True])}, routers=("router",))

    assert row(found, "weak")["successes"] == 5
    assert row(found, "router")["verdict"] == "beats BestSingle"


def test_verdicts_on_several_routers_are_at_a_divided_level() -> None:
    """Alone its interval ends below 1; of three, each is held to an interval of 1 - .05 / 3, which holds 1."""
    router = {f"t{n}": [("3.5" if n % 10 == 0 else "0.9", True)] for n in range(60)}
    alone = report({**SINGLES, "one": router}, routers=("one",))
    three = report({**SINGLES, "one": router, "two": router, "three": router}, routers=("one", "two", "three"))

    ratio = row(alone, "one")
    assert 0.95 < ratio["vs_best_single_high"] < 1
    assert ratio["verdict"] == "beats BestSingle"
    assert {row(three, name)["verdict"] for name in ("one", "two", "three")} == {"INCONCLUSIVE"}


# --- what is not known -------------------------------------------------------------------------------------------


def test_unknown_costs_are_bounds_and_never_zeros() -> None:
    """large's cost at t1 is unknown: large, Random and the Oracle cost at least what is known of them."""
    tried = {"small": SMALL, "large": LARGE | {"t1": [(None, True)]}, "router": ROUTER}

    found = report(tried, routers=("router",))

    large, chance, ideal = row(found, "large"), row(found, "Random"), row(found, "Oracle")
    assert (large["cost_per_success_bound"], large["cost_per_success_usd"]) == (">=", 4)
    assert (chance["cost_per_success_bound"], chance["cost_per_success_usd"]) == (">=", pytest.approx(11 / 3))
    # With a free success at t1 two cost $2: at least that; without t1 of large three dollars buy one.
    assert (ideal["cost_per_success_bound"], ideal["cost_per_success_usd"]) == (">=", 1)
    assert (ideal["regret_usd"], row(found, "small")["regret_usd"]) == (None, None)
    assert (row(found, "small")["regret_least_usd"], row(found, "small")["regret_most_usd"]) == (0, 2)
    mine = row(found, "router")
    assert mine["regret_usd"] is None
    assert (mine["regret_least_usd"], mine["regret_most_usd"]) == (pytest.approx(1.515), pytest.approx(3.515))
    assert mine["gap_closed"] is None


def test_a_single_whose_costs_are_not_known_has_no_negative_regret() -> None:
    """Of large $1 is known, for two successes; the Oracle may be as low, but never above it."""
    large = row(report({"small": SMALL, "large": once((None, True), (None, True), ("1", False))}), "large")

    assert large["cost_per_success_usd"] == 0.5
    assert (large["regret_usd"], large["regret_least_usd"], large["regret_most_usd"]) == (None, 0, None)


def test_an_unknown_cost_that_the_oracle_does_not_choose_leaves_it_exact() -> None:
    """$20 are known of what large's try at t1 cost: more than its success is worth, whatever the rest is."""
    attempts, verdicts = made({"small": SMALL, "large": LARGE | {"t1": [(None, True)]}})
    attempts = [replace(each, known_usd=Decimal(20)) if each.cost_usd is None else each for each in attempts]

    found = router_report(attempts, verdicts)

    ideal = row(found, "Oracle")
    assert (ideal["cost_per_success_bound"], ideal["unknown_costs"]) == ("=", 0)
    assert (ideal["cost_per_success_usd"], ideal["regret_usd"]) == (3, 0)
    assert row(found, "small")["regret_usd"] == 0


def test_a_router_of_unknown_cost_has_no_verdict_and_at_least_a_regret() -> None:
    """$5.02 is known of two successes; what is not known may be anything."""
    found = report({**SINGLES, "router": SINGLES["large"] | {"t0": [(None, True)]}}, routers=("router",))

    mine = row(found, "router")
    assert (mine["verdict"], mine["verdict_why"]) == ("INCONCLUSIVE", "unknown costs")
    assert mine["regret_most_usd"] is None
    assert mine["regret_least_usd"] > 0


def test_no_router_beats_a_best_single_that_is_not_certain() -> None:
    """Of large one cost is unknown, and what is known is less than small's: the router may not beat large."""
    tried = {**SINGLES, "large": many("0.1", [True, True, True]) | {"t0": [(None, True)]}}

    found = report({**tried, "router": many("0.5", [True, True, True])}, routers=("router",))

    assert (found.best, found.contenders) == ("small", ["large"])
    assert row(found, "router")["verdict"] == "INCONCLUSIVE"
    assert row(found, "router")["verdict_why"] == "large may be the best single (unknown costs)"
    assert "small: the lowest cost per success of 2 singles, as far as is known: large may have a lower one" in (
        notes(found)
    )


def test_an_unknown_cost_of_a_single_that_is_too_dear_anyway_stands_in_no_ones_way() -> None:
    """What is known of large is twice what small costs: whatever the rest is, the router is cheaper."""
    tried = {**SINGLES, "large": SINGLES["large"] | {"t0": [(None, True)]}}

    found = report({**tried, "router": many("0.5", [True, True, True])}, routers=("router",))

    assert (found.best, found.contenders) == ("small", [])
    assert row(found, "router")["verdict"] == "beats BestSingle"


def test_where_nothing_is_known_of_any_single_there_is_no_best_one() -> None:
    """Each single has an attempt of unknown cost."""
    tried = {"a": once((None, True), ("1", True)), "b": once(("1", True), (None, True)), "r": once(("1", True)) | {}}
    tried["r"] |= {"t1": [("1", True)]}

    found = report(tried, routers=("r",))

    assert found.best is None
    assert row(found, "r")["verdict_why"] == "no single of which all costs are known"


def test_imputed_costs_are_the_dearest_attempts() -> None:
    """large's unknown attempt costs $4, as its dearest."""
    tried = {"small": SMALL, "large": LARGE | {"t1": [(None, True)]}}

    found = row(report(tried, impute="max"), "large")

    assert (found["total_cost_usd"], found["unknown_costs"], found["imputed_costs"]) == (12, 0, 1)


def test_no_success_at_all_is_a_lower_bound() -> None:
    """Three tasks for $3 and none solved: with 95% a success costs more than $1 / (1 - 0.05^(1/3))."""
    nothing = once(("1", False), ("1", False), ("1", False))

    found = report({"small": nothing, "large": nothing, "router": nothing}, routers=("router",))

    bound = 1 / (1 - 0.05 ** (1 / 3))
    for policy in ("router", "small", "Random", "Oracle", "Oracle, most solved"):
        assert row(found, policy)["cost_per_success_bound"] == ">"
        assert row(found, policy)["cost_per_success_usd"] == pytest.approx(bound)
        assert row(found, policy)["regret_usd"] is None
    assert row(found, "router")["verdict"] == "INCONCLUSIVE"


def test_a_router_without_success_costs_more_by_a_bound() -> None:
    """$3 for nothing: at least the bound of a success, less the Oracle's $3."""
    found = report({"small": SMALL, "large": LARGE, "router": once(*[("1", False)] * 3)}, routers=("router",))

    mine = row(found, "router")
    assert mine["regret_least_usd"] == pytest.approx(1 / (1 - 0.05 ** (1 / 3)) - 3, abs=1e-9)
    assert mine["regret_most_usd"] is None


def test_unscored_attempts_are_a_range() -> None:
    """t1 of large may have succeeded: the Oracle costs $3 a success at most, and ($1 + $4 + $1) / 2 = $3 at least."""
    tried = {"small": SMALL, "large": LARGE | {"t1": [("2", None)]}, "router": ROUTER}

    found = report(tried, routers=("router",))

    large, ideal = row(found, "large"), row(found, "Oracle")
    assert (large["cost_per_success_usd"], large["unscored_won_cost_per_success_usd"]) == (10, 5)
    assert ideal["cost_per_success_usd"] == 3
    assert ideal["unscored_won_cost_per_success_usd"] == 2  # $1 + $2 + $1 for two.
    mine = row(found, "router")
    assert (mine["regret_least_usd"], mine["regret_most_usd"]) == (pytest.approx(1.515), pytest.approx(2.515))


def test_unscored_attempts_that_could_turn_it_leave_no_verdict() -> None:
    """A third of its answers nobody could judge: as failures it costs $2.25 a success, else as much as small."""
    router = once(*[(str(Decimal("1.5") + Decimal(n % 5) / 1000), None if n % 3 == 2 else True) for n in range(60)])

    found = report({**SINGLES, "router": router}, routers=("router",))

    assert row(found, "router")["vs_best_single_high"] > 1
    assert (row(found, "router")["verdict"], row(found, "router")["dearer_than"]) == ("INCONCLUSIVE", [])


def test_where_best_single_is_not_certain_no_gap_is_closed() -> None:
    """Of large's try at t0 $20 are known, and all else costs a dime: for all we know it is the best single."""
    tried = {**SINGLES, "large": many("0.1", [True, True, True]) | {"t0": [(None, True)]}, "router": SINGLES["small"]}
    attempts, verdicts = made(tried)
    attempts = [replace(each, known_usd=Decimal(20)) if each.cost_usd is None else each for each in attempts]

    found = router_report(attempts, verdicts, options=RouterOptions(routers=("router",)))

    assert (found.best, found.contenders) == ("small", ["large"])
    assert row(found, "router")["regret_usd"] is not None
    assert row(found, "router")["gap_closed"] is None


def test_tasks_that_one_configuration_lacks_are_left_out_for_all() -> None:
    """The router was never tried at t2: everything is of t0 and t1, and says so."""
    tried = {"small": SMALL, "large": LARGE, "router": {task: ROUTER[task] for task in ("t0", "t1")}}

    found = report(tried, routers=("router",))

    assert [each["tasks"] for each in found.rows] == [2] * len(found.rows)
    assert row(found, "small")["total_cost_usd"] == 2
    assert found.lacking == {"router": 1}
    assert "2 tasks that are complete in all 3 configurations; 1 are left out, not complete in: router 1" in notes(
        found
    )


def test_nothing_in_common_is_no_figure() -> None:
    """No task is complete in all: nothing is computed, and nothing breaks."""
    found = report({"small": once(("1", True)), "large": {"other": [("1", True)]}})

    assert found.tasks == ()
    assert all(each["success_rate"] is None and each["regret_usd"] is None for each in found.rows)
    routers_table(found)


def test_unequal_repeats_weigh_tasks_alike() -> None:
    """t0 has two attempts and t1 one: means of tasks, $1.50 for 0.5 + 1 successes, not sums."""
    tried = {
        "a": {"t0": [("1", True), ("1", False)], "t1": [("0.5", True)]},
        "b": {"t0": [("2", True), ("2", True)], "t1": [("2", True)]},
    }

    found = report(tried)

    assert row(found, "a")["cost_per_success_usd"] == pytest.approx(1)
    assert row(found, "Random")["cost_per_success_usd"] == pytest.approx((1.5 + 4) / (1.5 + 2))
    assert row(found, "Oracle")["cost_per_success_usd"] == pytest.approx(1)


def test_the_oracle_weighs_tasks_alike_too() -> None:
    """t0, tried twice, is $1 an attempt for a success; at t1, tried once, $1.80 would make two successes $1.40 each.

    Without it one costs $1.10. By sums, (2 + 1.80) / 3 would look better than (2 + .10) / 2.
    """
    tried = {
        "a": {"t0": [("1", True), ("1", True)], "t1": [("0.1", False)]},
        "b": {"t0": [("9", True), ("9", True)], "t1": [("1.8", True)]},
    }

    assert row(report(tried), "Oracle")["cost_per_success_usd"] == pytest.approx(1.1)


# --- who is what -------------------------------------------------------------------------------------------------


def test_routers_are_those_named_else_those_the_plan_marks() -> None:
    """And singles those named, else all others."""
    plan = Plan(routers=frozenset({"router"}))

    assert [each["kind"] for each in report(THREE, plan).rows[:3]] == ["router", "single", "single"]
    named = report({**THREE, "fourth": SMALL}, plan, routers=("large",), singles=("small", "router"))
    assert [(each["policy"], each["kind"]) for each in named.rows[:3]] == [
        ("large", "router"),
        ("small", "single"),
        ("router", "single"),
    ]
    assert named.left_out == ["fourth"]
    unmarked = report(THREE, plan, singles=("small", "router"))
    assert [(each["policy"], each["kind"]) for each in unmarked.rows[:2]] == [("small", "single"), ("router", "single")]
    assert "Neither router nor single, left out: fourth" in notes(named)


def test_without_a_router_the_bounds_are_shown_all_the_same() -> None:
    """Whether a router could pay can be asked before there is one."""
    found = report({"small": SMALL, "large": LARGE})

    assert row(found, "Oracle")["cost_per_success_usd"] == 3
    assert "No configuration is a router" in notes(found)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"routers": ("router", "large")}, "two of them at least, and small alone is one"),
        ({"routers": ("small", "large", "router")}, "there is none"),
        ({"routers": ("cheap",), "singles": ("big",)}, "no configuration is called 'cheap', 'big'"),
        ({"routers": ("large",), "singles": ("large", "small")}, "large cannot be router and single"),
        ({"level": 95.0}, "level is 95.0"),
    ],
)
def test_bad_arguments_are_told(options: dict[str, Any], told: str) -> None:
    """One sentence with all faults and the remedy."""
    with pytest.raises(BadArguments, match=told):
        report(THREE, **options)


def test_names_may_have_commas() -> None:
    """A matrix names configurations `model=a, shots=1`."""
    assert names_of(["a, b", "b", "model=a, shots=1"], {"a", "b", "model=a, shots=1"}) == ("a", "b", "model=a, shots=1")


# --- properties, and a second implementation ---------------------------------------------------------------------


def drawn(
    seed: int, *, singles: int = 4, tasks: int = 40, repeats: int = 3, alike: bool = False
) -> dict[str, dict[str, list[Attempt]]]:
    """Singles c0, c1, ..., the later the dearer and the better, and a router of the last name."""
    generator = random.Random(seed)
    hard = [generator.random() for _ in range(tasks)]
    return {
        f"c{n}": {
            f"t{task}": [
                (
                    str(Decimal(generator.randrange(1, 10**6) * (1 if alike else n + 1)).scaleb(-8)),
                    generator.random() > hard[task] / (1 if alike else n + 1),
                )
                for _ in range(repeats)
            ]
            for task in range(tasks)
        }
        for n in range(singles + 1)
    }


@pytest.mark.parametrize("failure_usd", [None, Decimal("0.02")])
@pytest.mark.parametrize("seed", range(10))
def test_no_way_to_send_tasks_to_singles_is_cheaper_than_the_oracle(seed: int, failure_usd: Decimal | None) -> None:
    """Neither a single, nor Random, nor the oracle that solves most."""
    found = report(drawn(seed), routers=("c4",), failure_usd=failure_usd)

    name = "cost_per_success_usd" if failure_usd is None else "expected_cost_usd"
    ideal = row(found, "Oracle")[name]
    for each in found.rows:
        if each["kind"] in ("single", "random", "oracle_most_solved"):
            assert each[name] >= ideal * (1 - 1e-12)
            assert each["regret_usd"] >= 0
            assert each["gap_closed"] is None or each["gap_closed"] <= 1


def test_the_oracle_is_the_least_of_all_assignments() -> None:
    """Two repeats, three singles, six tasks: all 729 ways to send them are tried."""
    tried = drawn(3, singles=3, tasks=6, repeats=2)
    singles = [tried[f"c{n}"] for n in range(3)]
    found = row(report({f"c{n}": tried[f"c{n}"] for n in range(3)}), "Oracle")

    least = math.inf
    for ways in np.ndindex(*[3] * 6):
        slots = [slot for task, way in enumerate(ways) for slot in singles[way][f"t{task}"]]
        won = sum(bool(success) for _, success in slots)
        least = min(least, sum(float(cost or 0) for cost, _ in slots) / won if won else math.inf)
    assert found["cost_per_success_usd"] == pytest.approx(least)


@pytest.mark.parametrize("seed", range(5))
def test_numpy_comes_to_the_same(seed: int) -> None:
    """A second implementation on arrays: singles, Random, both Oracles, the held out one, and the paired ratio."""
    tried = drawn(seed, singles=3, tasks=60)
    found = report(tried, routers=("c3",))

    cost = np.array([[[float(c or 0) for c, _ in tried[f"c{n}"][f"t{t}"]] for t in range(60)] for n in range(4)])
    won = np.array([[[bool(s) for _, s in tried[f"c{n}"][f"t{t}"]] for t in range(60)] for n in range(4)], dtype=float)
    c, w = cost.sum(axis=2), won.sum(axis=2)
    single = c[:3].sum(axis=1) / w[:3].sum(axis=1)
    assert [row(found, f"c{n}")["cost_per_success_usd"] for n in range(3)] == pytest.approx(single)
    best = int(single.argmin())
    assert found.best == f"c{best}"
    assert row(found, "Random")["cost_per_success_usd"] == pytest.approx(c[:3].sum() / w[:3].sum())
    assert row(found, "Oracle")["cost_per_success_usd"] == pytest.approx(least_ratio(c[:3], w[:3]))
    most = (w[:3] - c[:3] * 1e-6).argmax(axis=0)
    tasks = np.arange(60)
    solved = c[most, tasks].sum() / w[most, tasks].sum()
    assert row(found, "Oracle, most solved")["cost_per_success_usd"] == pytest.approx(solved)
    assert row(found, "Oracle, held out")["cost_per_success_usd"] == pytest.approx(held_out(cost[:3], won[:3]))
    ratio = paired_ratio(
        TaskSums(cost=list(c[3]), successes=list(w[3]), attempts=[3] * 60),
        TaskSums(cost=list(c[best]), successes=list(w[best]), attempts=[3] * 60),
    )
    mine = row(found, "c3")
    assert ratio.interval is not None
    assert (mine["vs_best_single_ratio"], mine["vs_best_single_low"], mine["vs_best_single_high"]) == pytest.approx(
        (ratio.ratio, ratio.interval.low, ratio.interval.high)
    )


def least_worth(cost: Any, won: Any) -> float:
    """The ratio by bisection: below it every choice costs more than its successes are worth."""
    low, high = 0.0, float((cost.sum(axis=1) / won.sum(axis=1)).min())
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if (cost - middle * won).min(axis=0).sum() > 0 else (low, middle)
    return high


def least_ratio(cost: Any, won: Any) -> float:
    return least_worth(cost, won)


def held_out(cost: Any, won: Any) -> float:
    paid = gained = 0.0
    for repeat in range(cost.shape[2]):
        others = [other for other in range(cost.shape[2]) if other != repeat]
        c, w = cost[:, :, others].sum(axis=2), won[:, :, others].sum(axis=2)
        pick = (c - least_worth(c, w) * (1 - 1e-13) * w).argmin(axis=0)
        tasks = np.arange(cost.shape[1])
        paid += cost[pick, tasks, repeat].sum()
        gained += won[pick, tasks, repeat].sum()
    return paid / gained


def test_the_order_of_lines_changes_no_figure() -> None:
    """Attempts end in any order."""
    attempts, verdicts = made(drawn(1))
    plan = Plan(configurations=tuple(f"c{n}" for n in range(5)), tasks=tuple(f"t{n}" for n in range(40)))
    options = RouterOptions(routers=("c4",))
    first = router_report(attempts, verdicts, plan=plan, options=options).rows
    random.Random(5).shuffle(attempts)
    random.Random(6).shuffle(verdicts)

    assert router_report(attempts, verdicts, plan=plan, options=options).rows == first


# --- formats -----------------------------------------------------------------------------------------------------


def test_json_is_one_array_with_every_field_and_exact_sums() -> None:
    """An object a policy, the same names for all."""
    file = io.StringIO()
    render(routers_table(report(THREE, routers=("router",))), "json", file)

    rows = json.loads(file.getvalue())
    assert [tuple(each) for each in rows] == [FIELDS] * 6
    assert [each["total_cost_usd"] for each in rows] == ["9.03", "3", "12", "7.5", "6", "6"]


@pytest.mark.parametrize("failure_usd", [None, Decimal(1)])
def test_the_table_fits_eighty_columns(monkeypatch: pytest.MonkeyPatch, failure_usd: Decimal | None) -> None:
    """Policy, success rate, the figure that decides and regret stand at any width."""
    monkeypatch.setenv("COLUMNS", "80")
    file = io.StringIO()
    render(routers_table(report(drawn(2), routers=("c4",), failure_usd=failure_usd)), "table", file)

    head = file.getvalue().splitlines()[0]
    assert all(len(line) <= 80 for line in file.getvalue().splitlines())
    assert all(title in head for title in ("policy", "success rate", "cost", "regret"))
    assert ("expected cost" in head) == (failure_usd is not None)


def test_what_is_at_least_is_rounded_down_and_what_is_at_most_up() -> None:
    """A bound that was rounded to the near side would be false.

    $1.2345 is known of the first router's three successes: each is at least $0.4115. No single's cost at t1 is known,
    so that a success of the Oracle's may be as little as $1, and one of the second router's, $7 / 3, $1.3333 more at
    most.
    """
    unknown = once(("1", True), (None, True), ("1", False))
    routers = {"r": once(("1.2345", True), (None, True), ("0", True)), "s": once(("2", True), ("5", True), ("0", True))}
    shown = routers_table(report({"a": unknown, "b": unknown, **routers}, routers=("r", "s")))

    first, second, *_ = shown.rows
    cells = {column.title: (column.text(first), column.text(second)) for column in shown.columns}
    assert cells["cost per success"][0] == ">= $0.411"
    assert cells["regret"] == ("-", "<= $1.34")
