"""One configuration: cost per success, success rate, reliability."""

import csv
import math
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from langchain_finops.errors import BadArguments
from langchain_finops.reports import stats

DATA = Path(__file__).parents[2] / "data"


@pytest.fixture(scope="module")
def tau() -> list[dict[str, str]]:
    with (DATA / "tau_airline_gpt4o.csv").open() as file:
        return list(csv.DictReader(file))


def by_task(trials: list[dict[str, str]]) -> tuple[list[float], list[int], list[int]]:
    tasks = list(dict.fromkeys(trial["task_id"] for trial in trials))
    groups = [[trial for trial in trials if trial["task_id"] == task] for task in tasks]
    cost = [math.fsum(float(trial["user_cost"] or 0) for trial in group) for group in groups]
    return cost, [sum(trial["reward"] == "1.0" for trial in group) for group in groups], [len(g) for g in groups]


# --- published figures -------------------------------------------------------------------------------------------


def test_a_published_cost_per_success() -> None:
    """aider's leaderboard, gpt-5 (high): $29.0829 for 198 solved of 225 is $0.1469 a success."""
    rows = yaml.safe_load((DATA / "aider_polyglot_leaderboard.yml").read_text("utf-8"))
    row = next(row for row in rows if row["model"] == "gpt-5 (high)")

    found = stats.cost_per_success([row["total_cost"]], [row["pass_num_2"]], [row["test_cases"]])

    assert (row["total_cost"], row["pass_num_2"]) == (29.0829, 198)
    assert found.usd == pytest.approx(0.1469, abs=5e-5)
    assert found.interval is None, "one sum tells nothing about the spread over tasks"


def test_published_costs_that_are_unknown_are_not_free() -> None:
    """17 rows of the leaderboard have cost 0 and one none: costs are unknown there, and none ranks as the cheapest."""
    rows = yaml.safe_load((DATA / "aider_polyglot_leaderboard.yml").read_text("utf-8"))
    unknown = [row for row in rows if not row.get("total_cost")]

    found = [
        stats.cost_per_success([0.0], [row["pass_num_2"]], [row["test_cases"]], unknown=row["test_cases"])
        for row in unknown
    ]

    assert (len(rows), len(unknown), sum(row.get("total_cost") == 0 for row in rows)) == (69, 18, 17)
    assert {(each.usd, each.bound, each.interval) for each in found} == {(None, ">=", None)}


def test_repeats_are_clusters_on_published_trials(tau: list[dict[str, str]]) -> None:
    """tau-bench: relative standard error 0.094 with trials as independent, 0.148 by task: design effect 2.5."""
    known = [trial for trial in tau if trial["user_cost"]]
    independent = stats.cost_per_success(
        [float(trial["user_cost"]) for trial in known], [float(trial["reward"]) for trial in known], [1] * len(known)
    )
    cost, successes, attempts = by_task(known)
    # Four of each task: five trials without a cost would make slots unequal and bring in means instead of sums.
    clustered = stats.cost_per_success(cost, successes, [4] * 50)

    assert independent.spread is not None
    assert clustered.spread is not None
    of_trials = independent.spread / math.sqrt(independent.tasks)
    of_tasks = clustered.spread / math.sqrt(clustered.tasks)
    assert (len(known), clustered.tasks, sum(attempts)) == (195, 50, 195)
    assert of_trials == pytest.approx(0.094, abs=5e-4)
    assert of_tasks == pytest.approx(0.148, abs=5e-4)
    assert (of_tasks / of_trials) ** 2 == pytest.approx(2.5, abs=0.05)


def test_published_reliability_over_repeats(tau: list[dict[str, str]]) -> None:
    """tau-bench publishes pass^1..4 = .420 .273 .220 .200 for these trials."""
    _, successes, attempts = by_task(tau)

    found = [stats.pass_hat_k(successes, attempts, k) for k in (1, 2, 3, 4)]

    assert [round(value, 3) for value in found] == [0.420, 0.273, 0.220, 0.200]


# --- by hand -----------------------------------------------------------------------------------------------------


def test_cost_per_success_by_hand() -> None:
    """Three tasks, $1 $2 $3, solved, solved, not: R = 6/2; u = (c - 3s)/2 = -1, -.5, 1.5; t(.975, 2) = 4.30265."""
    found = stats.cost_per_success([1, 2, 3], [1, 1, 0], [1, 1, 1])

    sd = math.sqrt((1 + 0.25 + 2.25) / 2)
    half = 4.302652729911275 * sd / math.sqrt(3)
    assert found.usd == 3
    assert found.spread == pytest.approx(sd)
    assert found.interval is not None
    assert found.interval.low == pytest.approx(3 * math.exp(-half))
    assert found.interval.high == pytest.approx(3 * math.exp(half))
    assert (found.bound, found.tasks, found.attempts, found.successes) == ("=", 3, 3, 2)


def test_the_level_widens_the_interval() -> None:
    """At 90%, t(.95, 2) = 2.91999 takes the place of 4.30265."""
    found = stats.cost_per_success([1, 2, 3], [1, 1, 0], [1, 1, 1], level=0.9)

    assert found.interval is not None
    assert found.interval.high == pytest.approx(3 * math.exp(2.919985580353726 * math.sqrt(1.75 / 3)))
    assert found.interval.level == 0.9


def test_failures_stay_in_the_numerator() -> None:
    """A task that was never solved costs, and its cost is spread over the successes there are."""
    assert stats.cost_per_success([1, 9], [1, 0], [1, 1]).usd == 10


def test_no_success_gives_a_lower_bound_by_tasks() -> None:
    """20 tasks x 4 repeats at $0.10, none solved: more than 0.10 / (1 - 0.05^(1/20)) = 0.10 / 0.139108, not by 80."""
    found = stats.cost_per_success([0.4] * 20, [0] * 20, [4] * 20)

    assert found.usd == pytest.approx(0.10 / 0.1391083, rel=1e-6)
    assert (found.bound, found.interval) == (">", None)


def test_no_success_and_nothing_spent_says_nothing() -> None:
    """Neither 0 nor infinity: there is no figure."""
    assert stats.cost_per_success([0, 0], [0, 0], [1, 1]).usd is None


def test_unknown_costs_leave_a_lower_bound_without_an_upper_one() -> None:
    """$3 known for 2 successes, one attempt unknown: at least $1.50."""
    found = stats.cost_per_success([1, 2, 0], [1, 1, 0], [1, 1, 1], unknown=1)

    assert (found.usd, found.bound, found.interval, found.unknown) == (1.5, ">=", None, 1)


def test_unknown_costs_without_a_success_are_a_bound_of_a_bound() -> None:
    """What is known, over the rate's upper bound for 2 tasks, 1 - 0.05^(1/2) = 0.776393."""
    found = stats.cost_per_success([1, 2], [0, 0], [1, 1], unknown=1)

    assert (found.usd, found.bound) == (pytest.approx(1.5 / 0.7763932), ">")


def test_one_task_has_no_interval() -> None:
    """Nothing is known of the spread over tasks, however often one was repeated."""
    found = stats.cost_per_success([8], [3], [5])

    assert (found.usd, found.interval, found.spread) == (8 / 3, None, None)


def test_free_attempts_have_a_cost_of_zero_and_no_interval() -> None:
    """A logarithm of 0 has nothing to say."""
    found = stats.cost_per_success([0, 0], [1, 0], [1, 1])

    assert (found.usd, found.bound, found.interval) == (0, "=", None)


def test_equal_tasks_leave_nothing_to_doubt() -> None:
    """Every task alike: the interval is the point."""
    found = stats.cost_per_success([2, 2, 2], [1, 1, 1], [1, 1, 1])

    assert found.interval == stats.Interval(2.0, 2.0, 0.95)


def test_unequal_slots_are_weighed_by_task() -> None:
    """A hard task tried 9 times would weigh 9 times: means give (1 + 1) / (1 + 0), sums would give 10 / 1."""
    found = stats.cost_per_success([1, 9], [1, 0], [1, 9])

    assert (found.usd, found.per_task_means) == (2, True)
    assert (found.attempts, found.successes) == (10, 1)


def test_no_tasks_no_figure() -> None:
    """An empty table is not free."""
    assert stats.cost_per_success([], [], []).usd is None
    assert stats.success_rate([], []) is None


@pytest.mark.parametrize(
    ("cost", "successes", "attempts", "level"),
    [
        ([1, 2], [1], [1, 1], 0.95),
        ([1, math.nan], [1, 1], [1, 1], 0.95),
        ([1, 2], [1, 1], [1, 0], 0.95),
        ([1, 2], [1, 1], [1, 1], 95),
    ],
)
def test_figures_that_make_no_sense_are_refused(
    cost: list[float], successes: list[float], attempts: list[int], level: float
) -> None:
    """Lengths that differ, costs that are no number, a task never tried, a level in percent."""
    with pytest.raises(BadArguments):
        stats.cost_per_success(cost, successes, attempts, level=level)


# --- success rate ------------------------------------------------------------------------------------------------


def test_one_attempt_a_task_is_wilsons_interval() -> None:
    """12 of 20: z = 1.959964, (0.6 + z2/40 -+ z sqrt(0.24/20 + z2/1600)) / (1 + z2/20) = 0.386582, 0.781193."""
    found = stats.success_rate([1] * 12 + [0] * 8, [1] * 20)

    assert found is not None
    assert found.interval.low == pytest.approx(0.386582, abs=1e-6)
    assert found.interval.high == pytest.approx(0.781193, abs=1e-6)
    assert (found.value, found.effective_attempts) == (0.6, 20)


def test_repeats_that_always_agree_count_as_one() -> None:
    """4 repeats, all alike, 6 of 10 tasks: variance over tasks 2.4/9/10, so 0.24 / 0.026667 = 9 attempts, not 40."""
    found = stats.success_rate([4] * 6 + [0] * 4, [4] * 10)

    assert found is not None
    assert found.effective_attempts == pytest.approx(9)
    assert found.interval == stats.wilson(0.6, found.effective_attempts)


def test_repeats_are_never_worth_more_than_they_are() -> None:
    """Solved once of twice, every task or all but one: .2475 / .0025 would be 99 attempts, and there are 20."""
    none, little = stats.success_rate([1] * 10, [2] * 10), stats.success_rate([1] * 9 + [2], [2] * 10)

    assert none is not None
    assert little is not None
    assert (none.effective_attempts, little.effective_attempts) == (20, 20)


@pytest.mark.parametrize("won", [0, 3])
def test_all_or_none_counts_tasks(won: int) -> None:
    """With a rate of 0 or 1 the repeats show no variance: tasks are counted."""
    found = stats.success_rate([won] * 10, [3] * 10)

    assert found is not None
    assert found.effective_attempts == 10
    assert found.value in found.interval


def test_one_task_with_repeats_counts_as_one() -> None:
    """Three of five on a single task tells next to nothing of other tasks."""
    found = stats.success_rate([3], [5])

    assert found is not None
    assert found.effective_attempts == 1


def test_unequal_slots_give_the_mean_of_rates() -> None:
    """1 of 1 and 0 of 9: half of the tasks' chances, not a tenth of the attempts."""
    found = stats.success_rate([1, 0], [1, 9])

    assert found is not None
    assert (found.value, found.per_task_means) == (0.5, True)


def test_more_successes_than_attempts_are_refused() -> None:
    """A count that cannot be is a mistake of the caller's, not a rate of 150%."""
    with pytest.raises(BadArguments):
        stats.success_rate([3], [2])


def test_pass_k_by_hand() -> None:
    """2 of 4 and 4 of 4, k = 2: pass^2 = (1/6 + 1) / 2, pass@2 = (1 - 1/6 + 1) / 2."""
    assert stats.pass_hat_k([2, 4], [4, 4], 2) == pytest.approx((1 / 6 + 1) / 2)
    assert stats.pass_at_k([2, 4], [4, 4], 2) == pytest.approx((5 / 6 + 1) / 2)


def test_pass_k_needs_k_attempts() -> None:
    """A task tried fewer than k times has no estimate."""
    with pytest.raises(BadArguments, match="k = 3"):
        stats.pass_hat_k([1, 2], [2, 4], 3)


def test_the_mean_cost_of_pass_is_another_quantity() -> None:
    """$1/1 and $4/2 average to 1.5; one unsolved task makes it infinite, where cost per success is 5/3."""
    assert stats.mean_cost_of_pass([1, 4], [1, 2]) == 1.5
    assert stats.mean_cost_of_pass([1, 4], [1, 0]) == math.inf


def test_tasks_needed_by_hand() -> None:
    """(1.959964 x 2 / ln 1.2)^2 = 462.2; never fewer than two."""
    assert stats.tasks_needed(2.0) == 463
    assert stats.tasks_needed(0.0) == 2
    with pytest.raises(BadArguments):
        stats.tasks_needed(1.0, half_width=0)


# --- properties --------------------------------------------------------------------------------------------------

TASKS = st.lists(st.tuples(st.floats(0.001, 1_000), st.integers(0, 3)), min_size=2, max_size=30).filter(
    lambda tasks: any(won for _, won in tasks)
)


@given(TASKS, st.floats(1e-6, 1e6))
def test_another_currency_changes_the_figures_by_its_rate(tasks: list[tuple[float, int]], rate: float) -> None:
    """Costs times k: point and both bounds times k."""
    cost, won = zip(*tasks, strict=True)
    one = stats.cost_per_success(cost, won, [3] * len(tasks))
    other = stats.cost_per_success([c * rate for c in cost], won, [3] * len(tasks))

    assert one.usd is not None
    assert one.interval is not None
    assert other.interval is not None
    assert other.usd == pytest.approx(one.usd * rate)
    assert other.interval.low == pytest.approx(one.interval.low * rate)
    assert other.interval.high == pytest.approx(one.interval.high * rate)


@given(TASKS, st.randoms(use_true_random=False))
def test_the_order_of_tasks_does_not_matter(tasks: list[tuple[float, int]], random: object) -> None:
    """The same figures to the last bit, in whatever order attempts ended."""
    shuffled = list(tasks)
    random.shuffle(shuffled)  # type: ignore[attr-defined]  # hypothesis hands over a random.Random.
    found = [
        stats.cost_per_success([c for c, _ in each], [s for _, s in each], [3] * len(each))
        for each in (tasks, shuffled)
    ]

    assert found[0] == found[1]


@given(TASKS, st.floats(0.5, 0.999))
def test_the_interval_contains_the_point(tasks: list[tuple[float, int]], level: float) -> None:
    """Of the cost per success as of the rate."""
    cost, won = zip(*tasks, strict=True)
    found = stats.cost_per_success(cost, won, [3] * len(tasks), level=level)
    rate = stats.success_rate(won, [3] * len(tasks), level=level)

    assert found.usd is not None
    assert found.interval is not None
    assert found.usd in found.interval
    assert rate is not None
    assert rate.value in rate.interval


@given(TASKS, st.floats(0.001, 1_000))
def test_a_dearer_failure_never_makes_a_success_cheaper(tasks: list[tuple[float, int]], more: float) -> None:
    """Whatever an added failure costs, the cost per success does not fall."""
    cost, won = zip(*tasks, strict=True)
    before = stats.cost_per_success(cost, won, [3] * len(tasks))
    after = stats.cost_per_success([*cost, more], [*won, 0], [3] * (len(tasks) + 1))

    assert before.usd is not None
    assert after.usd is not None
    assert after.usd > before.usd
