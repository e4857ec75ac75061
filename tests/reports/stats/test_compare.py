"""One configuration against another, task by task."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from langchain_finops.errors import BadArguments
from langchain_finops.reports import stats
from langchain_finops.reports.stats import TaskSums


def sums(cost: list[float], successes: list[float], attempts: int | list[int] = 1, unknown: int = 0) -> TaskSums:
    counts = [attempts] * len(cost) if isinstance(attempts, int) else attempts
    return TaskSums(cost=cost, successes=successes, attempts=counts, unknown=unknown)


def test_a_paired_ratio_by_hand() -> None:
    """A: 1 1 4 over 1 1 1, R = 2, u = -.5 -.5 1. B: 1 2 3 over 1 1 0, R = 3, u = -1 -.5 1.5. Differences .5 0 -.5."""
    found = stats.paired_ratio(sums([1, 1, 4], [1, 1, 1]), sums([1, 2, 3], [1, 1, 0]))

    half = 4.302652729911275 * 0.5 / math.sqrt(3)
    assert found.ratio == pytest.approx(2 / 3)
    assert found.spread == pytest.approx(0.5)
    assert found.interval is not None
    assert found.interval.low == pytest.approx(2 / 3 * math.exp(-half))
    assert found.interval.high == pytest.approx(2 / 3 * math.exp(half))
    assert (found.tasks, found.successes, found.better) == (3, (3, 2), True)


def test_the_p_value_belongs_to_the_interval() -> None:
    """At the level 1 - p the interval's bound is exactly 1."""
    a, b = sums([1, 1, 4, 2], [1, 1, 1, 1]), sums([1, 2, 3, 3], [1, 1, 0, 1])
    p = stats.paired_ratio(a, b).p_value

    interval = stats.paired_ratio(a, b, level=1 - p).interval

    assert interval is not None
    assert interval.high == pytest.approx(1)


def test_pairing_removes_what_tasks_have_in_common() -> None:
    """Everything at half the cost on every task: the ratio is known exactly, though tasks differ wildly."""
    cost, won = [1.0, 50.0, 3.0, 900.0, 7.0], [1.0, 0.0, 1.0, 1.0, 0.0]
    found = stats.paired_ratio(sums([c / 2 for c in cost], won), sums(cost, won))

    assert found.ratio == pytest.approx(0.5)
    assert found.interval is not None
    assert found.interval.low == pytest.approx(found.interval.high)


def test_a_task_that_one_side_never_solved_stays_in() -> None:
    """Without the second task the ratio would be 1; with it the first side pays for its failure."""
    found = stats.paired_ratio(sums([1, 9, 1], [1, 0, 1]), sums([1, 9, 1], [1, 1, 1]))

    assert found.ratio == pytest.approx((11 / 2) / (11 / 3))


def test_equal_sides_are_not_told_apart() -> None:
    """The same figures twice: ratio 1, p 1, whatever the verdict's margin."""
    same = sums([0.1, 0.2, 0.3], [1, 0, 1])
    found = stats.paired_ratio(same, same)

    assert (found.ratio, found.p_value, found.better) == (1, 1, None)


@pytest.mark.parametrize(
    ("a", "b", "why"),
    [
        (sums([1, 1], [1, 1], unknown=1), sums([1, 1], [1, 1]), "unknown costs"),
        (sums([1, 1], [1, 1]), sums([1, 1], [1, 1], unknown=2), "unknown costs"),
        (sums([0, 0], [1, 1]), sums([1, 1], [1, 1]), "free"),
        (sums([1, 1], [1, 1]), sums([0, 0], [1, 1]), "free"),
        (sums([1, 1], [0, 0]), sums([2, 2], [0, 0]), "no success"),
        (sums([1], [1]), sums([2], [1]), "fewer than 2 tasks in common"),
    ],
)
def test_where_nothing_can_be_said_nothing_is(a: TaskSums, b: TaskSums, why: str) -> None:
    """Unknown costs, free runs, no success on both sides, a single task: no ratio, no interval, no direction."""
    found = stats.paired_ratio(a, b)

    assert (found.ratio, found.interval, found.better, found.p_value, found.why) == (None, None, None, 1.0, why)


def test_different_tasks_cannot_be_paired() -> None:
    """Two tasks here and three there are not pairs."""
    with pytest.raises(BadArguments, match="2 and 3"):
        stats.paired_ratio(sums([1, 1], [1, 1]), sums([1, 1, 1], [1, 1, 1]))


def test_unequal_slots_are_paired_by_means() -> None:
    """One side tried the second task 9 times: its mean counts, on both sides."""
    found = stats.paired_ratio(sums([1, 9], [1, 9], [1, 9]), sums([1, 1], [1, 1]))

    assert found.ratio == pytest.approx(1)
    assert found.successes == (10, 2)


# --- a side without success --------------------------------------------------------------------------------------

SOLVES = sums([1.0, 1.2] * 30, [1, 1] * 30)


def test_a_side_that_never_succeeds_can_be_worse() -> None:
    """60 tasks at $1, none solved: more than 1 / 0.0487 = $20.5 a success, far above $1.1."""
    found = stats.paired_ratio(sums([1.0] * 60, [0.0] * 60), SOLVES)

    assert (found.ratio, found.interval, found.better, found.why) == (None, None, False, "no success")
    assert stats.judge([found])[0].verdict == "WORSE"


def test_a_side_that_never_succeeds_is_never_better() -> None:
    """At a thousandth of the cost it might still be the cheaper one; that it is cannot be known."""
    found = stats.paired_ratio(sums([0.001] * 60, [0.0] * 60), SOLVES)

    assert stats.judge([found])[0].verdict == "INCONCLUSIVE"


def test_against_a_baseline_that_never_succeeds() -> None:
    """The same bounds from the other side: better where the baseline is worse, else inconclusive."""
    dear, cheap = sums([1.0] * 60, [0.0] * 60), sums([0.001] * 60, [0.0] * 60)

    assert stats.judge([stats.paired_ratio(SOLVES, dear)])[0].verdict == "BETTER"
    assert stats.judge([stats.paired_ratio(SOLVES, cheap)])[0].verdict == "INCONCLUSIVE"


def test_without_success_the_bounds_decide() -> None:
    """WORSE exactly where the one-sided 95% lower bound passes the other's upper bound: p on either side of 5%."""
    upper = stats.cost_per_success(SOLVES.cost, SOLVES.successes, SOLVES.attempts).interval
    assert upper is not None
    needed = upper.high * (1 - 0.05 ** (1 / 60))

    above = stats.paired_ratio(sums([needed * 1.01] * 60, [0.0] * 60), SOLVES)
    below = stats.paired_ratio(sums([needed * 0.99] * 60, [0.0] * 60), SOLVES)

    assert above.p_value < 0.05 < below.p_value


# --- rates -------------------------------------------------------------------------------------------------------


def test_tangos_interval_solves_its_equation() -> None:
    """3 and 12 of 50: both bounds are roots of the quartic that Yang, Sun and Hardin (2013) derive from the score."""
    found = stats.tango(3, 12, 50)

    g, n, b, c = 1.959963984540054**2, 50, 3, 12
    quartic = [
        n**2 * (n / g + 1) ** 2,
        -n * (b - c) * (n / g + 1) * (4 * n / g + 1),
        2 * n * (b - c) ** 2 * (3 * n / g + 2) / g - n**2 * ((b + c) / g + 1),
        n * (b - c) * (2 * (b + c) / g + 1) - (b - c) ** 3 * (4 * n / g + 1) / g,
        (b - c) ** 2 * ((b - c) ** 2 / g - (b + c)) / g,
    ]
    for bound in (found.low, found.high):
        value = sum(factor * bound ** (4 - power) for power, factor in enumerate(quartic))
        slope = sum((4 - power) * factor * bound ** (3 - power) for power, factor in enumerate(quartic[:4]))
        assert abs(value / slope) < 1e-9
    assert found.low < (3 - 12) / 50 < found.high < 0


def test_tango_without_differences_is_symmetric() -> None:
    """No task tells 50 pairs apart: +- z2 / (n + z2), not a point."""
    z2 = 1.959963984540054**2

    found = stats.tango(0, 0, 50)

    assert (found.low, found.high) == (pytest.approx(-z2 / (50 + z2)), pytest.approx(z2 / (50 + z2)))


def test_tango_when_every_task_differs() -> None:
    """All for the first side: the bounds stay between -1 and 1, and hold the difference."""
    found = stats.tango(10, 0, 10)

    assert 0 < found.low < 1
    assert found.high == 1


def test_one_attempt_a_task_takes_tango_repeats_take_t() -> None:
    """Repeats are clusters: gaps 1 .5 0 -.5 have mean .25, sd .6455, t(.975, 3) = 3.18245."""
    single = stats.rate_difference(sums([1] * 4, [1, 1, 0, 0]), sums([1] * 4, [0, 1, 0, 1]))
    repeated = stats.rate_difference(sums([1] * 4, [2, 2, 1, 0], 2), sums([1] * 4, [0, 1, 1, 1], 2))

    assert single is not None
    assert repeated is not None
    assert (single.method, single.interval, single.differing) == ("tango", stats.tango(1, 1, 4), 2)
    assert (repeated.method, repeated.difference, repeated.differing) == ("t", 0.25, 3)
    assert repeated.interval is not None
    assert repeated.interval.low == pytest.approx(0.25 - 3.182446305284263 * math.sqrt(1.25 / 3) / 2)
    assert repeated.interval.high == 1, "cut at what a difference can be"


def test_fewer_than_five_differing_tasks_decide_nothing() -> None:
    """4 of 4 differing tasks for one side at 8 tasks; a fifth lets the interval speak."""
    four = stats.rate_difference(sums([1] * 8, [1] * 8), sums([1] * 8, [0] * 4 + [1] * 4))
    five = stats.rate_difference(sums([1] * 8, [1] * 8), sums([1] * 8, [0] * 5 + [1] * 3))

    assert four is not None
    assert four.interval is not None
    assert four.interval.low > 0
    assert stats.rate_verdict(four) == "INCONCLUSIVE"
    assert stats.rate_verdict(five) == "BETTER"


def test_rate_verdicts_in_their_order() -> None:
    """Better above 0, not inferior down to the margin, worse below 0."""

    def of(low: float, high: float) -> stats.RateDifference:
        interval = stats.Interval(low, high)
        return stats.RateDifference(difference=0, interval=interval, tasks=60, differing=9, method="t")

    assert stats.rate_verdict(of(0.01, 0.2)) == "BETTER"
    assert stats.rate_verdict(of(-0.05, 0.2), margin=0.05) == "NON_INFERIOR"
    assert stats.rate_verdict(of(-0.2, -0.01), margin=0.05) == "WORSE"
    assert stats.rate_verdict(of(-0.2, 0.1), margin=0.05) == "INCONCLUSIVE"
    assert stats.rate_verdict(None) == "INCONCLUSIVE"


# --- verdicts ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("low", "high", "margin", "expected"),
    [
        (0.5, 0.99, 0.1, "BETTER"),
        (0.5, 1.0, 0.0, "NON_INFERIOR"),
        (0.9, 1.1, 0.1, "NON_INFERIOR"),
        (1.01, 1.05, 0.1, "NON_INFERIOR"),
        (1.01, 1.3, 0.1, "WORSE"),
        (0.9, 1.2, 0.1, "INCONCLUSIVE"),
        (1.0, 1.2, 0.1, "INCONCLUSIVE"),
    ],
)
def test_verdicts_read_the_bounds_in_their_order(low: float, high: float, margin: float, expected: str) -> None:
    """BETTER hi < 1, NON_INFERIOR hi <= 1 + m, WORSE lo > 1, else INCONCLUSIVE; the first that holds."""
    assert stats.verdict(stats.Interval(low, high), margin=margin) == expected


def test_holm_by_hand() -> None:
    """.01 .04 .03 .20: .01 x 4, .03 x 3, then .04 x 2 = .08 raised to .09, then .20 x 1."""
    assert stats.holm([0.01, 0.04, 0.03, 0.20]) == pytest.approx([0.04, 0.09, 0.09, 0.20])
    assert stats.holm([]) == []
    assert stats.holm([0.6, 0.7]) == [1.0, 1.0]


def comparison(p: float, ratio: float = 0.8, tasks: int = 60, won: tuple[float, float] = (30, 30)) -> stats.PairedRatio:
    return stats.PairedRatio(
        ratio=ratio, interval=None, tasks=tasks, successes=won, spread=1.0, p_value=p, better=ratio < 1
    )


def test_many_comparisons_need_more_than_one() -> None:
    """p = .03 alone is a verdict; the smallest of ten is not."""
    assert stats.judge([comparison(0.03)])[0].verdict == "BETTER"
    assert {each.verdict for each in stats.judge([comparison(0.03)] * 10)} == {"INCONCLUSIVE"}


def test_too_little_data_is_inconclusive_however_clear() -> None:
    """49 tasks, or 9 successes on either side; both minima can be set."""
    few_tasks, few_successes = comparison(0.0001, tasks=49), comparison(0.0001, won=(9, 30))

    first, second = stats.judge([few_tasks, few_successes])
    assert (first.verdict, first.why) == ("INCONCLUSIVE", "fewer than 50 tasks")
    assert (second.verdict, second.why) == ("INCONCLUSIVE", "fewer than 10 successes")
    assert [each.verdict for each in stats.judge([few_tasks, few_successes], min_tasks=49, min_successes=9)] == [
        "BETTER",
        "BETTER",
    ]


ARM = st.lists(st.tuples(st.floats(0.1, 10), st.booleans()), min_size=20, max_size=20)


@given(ARM, ARM, st.sampled_from([0.0, 0.1, 0.5]))
def test_a_single_judgement_is_the_intervals_verdict(
    a: list[tuple[float, bool]], b: list[tuple[float, bool]], margin: float
) -> None:
    """With one comparison Holm changes nothing: p-values and bounds say the same."""
    sides = [sums([c for c, _ in each], [float(s) for _, s in each]) for each in (a, b)]
    found = stats.paired_ratio(*sides)
    if found.interval is None or any(abs(math.log(x)) < 1e-9 for x in (found.interval.low, found.interval.high)):
        return

    judged = stats.judge([found], margin=margin, min_tasks=0, min_successes=0)[0]

    assert judged.verdict == stats.verdict(found.interval, margin=margin)


@given(ARM, ARM, st.floats(1e-4, 1e4))
def test_ratios_know_no_currency_and_no_side(
    a: list[tuple[float, bool]], b: list[tuple[float, bool]], rate: float
) -> None:
    """Both sides times k change nothing; sides exchanged give the inverse, bounds and all."""
    sides = [sums([c for c, _ in each], [float(s) for _, s in each]) for each in (a, b)]
    dearer = [sums([c * rate for c in side.cost], list(side.successes)) for side in sides]
    found, other, inverse = (
        stats.paired_ratio(*sides),
        stats.paired_ratio(*dearer),
        stats.paired_ratio(*reversed(sides)),
    )
    if found.ratio is None or found.interval is None:
        return

    assert other.ratio == pytest.approx(found.ratio)
    assert inverse.ratio == pytest.approx(1 / found.ratio)
    assert inverse.interval is not None
    assert inverse.interval.low == pytest.approx(1 / found.interval.high)
    assert found.ratio in found.interval
