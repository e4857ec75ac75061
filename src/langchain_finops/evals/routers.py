"""Routers beside the singles they choose among: BestSingle, Random and Oracle. Derivations in docs/statistics.md."""

import math
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from decimal import Context, Decimal
from fractions import Fraction
from typing import Any, Literal

from langchain_finops.errors import BadArguments
from langchain_finops.evals.arms import Arm, Plan, arms_of
from langchain_finops.evals.figures import Figures
from langchain_finops.evals.pairs import Judged, Pair, divided, is_settled, judged
from langchain_finops.evals.results import AttemptResult, Verdict
from langchain_finops.evals.routing import (
    Price,
    Reach,
    at_known_cost,
    best_single,
    held_out_oracle,
    most_solved,
    on_tasks,
    oracle,
    pooled,
)
from langchain_finops.evals.rows import TableOptions, price_of_success
from langchain_finops.money import sum_usd
from langchain_finops.reports import stats

__all__ = [
    "BEATS",
    "COMPARISON",
    "DOES_NOT_BEAT",
    "OF_PRICE",
    "Kind",
    "RouterOptions",
    "RouterReport",
    "names_of",
    "router_report",
]

Kind = Literal["router", "single", "random", "oracle", "oracle_held_out", "oracle_most_solved"]
BEATS, DOES_NOT_BEAT = "beats BestSingle", "does not beat BestSingle"
QUOTIENT = Context(prec=28)

OF_PRICE = (
    *("successes", "success_rate", "success_rate_low", "success_rate_high", "total_cost_usd"),
    *("unknown_costs", "imputed_costs", "cost_per_attempt_usd", "cost_per_success_usd", "cost_per_success_bound"),
    *("cost_per_success_low", "cost_per_success_high"),
    *("unscored_won_success_rate", "unscored_won_cost_per_success_usd", "unscored_won_expected_cost_usd"),
    *("expected_cost_usd", "expected_cost_low", "expected_cost_high"),
)
"""What is computed as in the evaluation table."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RouterOptions:
    """Which configurations are routers and which are singles, and how they are compared. The footer says so."""

    routers: tuple[str, ...] = ()
    """Empty: those that the plan marks, and `singles` does not name."""
    singles: tuple[str, ...] = ()
    """Empty: all that are no routers."""
    scorer: str | None = None
    """The scorer that decides alone. None: all that judged must agree."""
    cards: str | None = None
    """The card set that prices. None: the one chosen for the run."""
    impute: Literal["none", "max"] = "none"
    """`max` fills unknown costs with the configuration's dearest attempt."""
    failure_usd: Decimal | None = None
    """What mending a failure costs: the expected cost of an attempt then decides. None: as the plan says."""
    level: float = 0.95
    min_tasks: int = stats.MIN_TASKS
    min_successes: int = stats.MIN_SUCCESSES

    def of_table(self, plan: Plan) -> TableOptions:
        """The same as the evaluation table has it. Raises BadArguments for what makes no sense."""
        failure_usd = plan.failure_usd if self.failure_usd is None else self.failure_usd
        return TableOptions(impute=self.impute, failure_usd=failure_usd, level=self.level)


def names_of(texts: Iterable[str], known: Collection[str]) -> tuple[str, ...]:
    """Names with commas between them; a name that has commas of its own is one where it is known."""
    parts = [[text] if text in known else text.split(",") for text in texts]
    return tuple(dict.fromkeys(name.strip() for part in parts for name in part if name.strip()))


@dataclass(frozen=True, slots=True, kw_only=True)
class RouterReport:
    """A row for each policy, and what the footer needs besides."""

    rows: list[Figures]
    """Routers, singles, Random, Oracle. Sums of dollars are exact Decimals, statistics floats, None is unknown."""
    tasks: Sequence[str]
    """Complete in every configuration shown: the tasks that all figures are of."""
    planned: int
    lacking: dict[str, int]
    """How many of the planned tasks are not complete, by configuration."""
    best: str | None
    """BestSingle's name."""
    contenders: Sequence[str]
    """Singles that may yet have a lesser figure than BestSingle, for want of costs or verdicts."""
    oracle_tasks: dict[str, int]
    """How many tasks the Oracle sends to each single."""
    left_out: Sequence[str]
    """Configurations that are neither."""
    failure_usd: Decimal | None
    plan: Plan
    options: RouterOptions


def router_report(
    attempts: Iterable[AttemptResult],
    verdicts: Iterable[Verdict],
    *,
    plan: Plan | None = None,
    options: RouterOptions | None = None,
) -> RouterReport:
    """Return every router beside BestSingle, Random and Oracle: cost, success, cost per success, regret, and verdict.

    Raises BadArguments for names that are not there or that stand for both, fewer than two singles, and a scorer or
    card set that is not there; MissingExtra without scipy.
    """
    plan, options = plan or Plan(), options or RouterOptions()
    table_options = options.of_table(plan)
    arms, planned = arms_of(attempts, verdicts, plan, scorer=options.scorer, cards=options.cards)
    if options.impute == "max":
        arms = [arm.imputed() for arm in arms]
    routers, singles = _sides(arms, plan, options)
    shown = [*routers, *singles]
    settled = {arm.name: {task for task in planned if is_settled(arm, task)} for arm in shown}
    tasks = tuple(task for task in planned if all(task in of_arm for of_arm in settled.values()))
    routers, singles = ([on_tasks(arm, tasks) for arm in side] for side in (routers, singles))
    bench = _bench(singles, tasks, Price(table_options.failure_usd))
    return RouterReport(
        rows=_rows(routers, singles, bench, table_options, options, left_out=len(planned) - len(tasks)),
        tasks=tasks,
        planned=len(planned),
        lacking={name: len(planned) - len(of_arm) for name, of_arm in settled.items() if len(of_arm) < len(planned)},
        best=bench.best_name,
        contenders=[arm.name for arm in bench.contenders],
        oracle_tasks=dict(Counter(slots[0].last.configuration for slots in bench.oracle.by_task.values())),
        left_out=[arm.name for arm in arms if arm.name not in settled],
        failure_usd=table_options.failure_usd,
        plan=plan,
        options=options,
    )


def _sides(arms: Sequence[Arm], plan: Plan, options: RouterOptions) -> tuple[list[Arm], list[Arm]]:
    """The routers and the singles, in the plan's order. Raises BadArguments with all that is wrong."""
    names = [arm.name for arm in arms]
    unknown = [name for name in dict.fromkeys((*options.routers, *options.singles)) if name not in names]
    both = [name for name in options.routers if name in options.singles]
    wrong = []
    if unknown:
        wrong.append(f"no configuration is called {', '.join(map(repr, unknown))}: choose of {', '.join(names)}")
    if both:
        wrong.append(f"{', '.join(both)} cannot be router and single: leave one out")
    if wrong:
        raise BadArguments("; ".join(wrong))
    routers = set(options.routers) or plan.routers - set(options.singles)
    singles = [name for name in names if name not in routers and (not options.singles or name in options.singles)]
    if len(singles) < 2:
        found = f"{singles[0]} alone is one" if singles else "there is none"
        raise BadArguments(
            f"routers are compared with the singles they choose among, two of them at least, and {found}: run the "
            "suite with a configuration for each model, and name routers by --routers or `router: true` in the suite"
        )
    return [arm for arm in arms if arm.name in routers], [arm for arm in arms if arm.name in singles]


# --- what routers are measured by --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class _Bench:
    """The policies that are no configurations, on the tasks that count."""

    price: Price
    best: Arm | None
    contenders: Sequence[Arm]
    random: Arm
    oracle: Arm
    oracle_won: Arm
    """The Oracle if all unscored attempts were successes."""
    reach: Reach
    """The Oracle's figure."""
    other_repeats: Arm | None
    solves_most: Arm

    @property
    def best_name(self) -> str | None:
        """BestSingle's."""
        return None if self.best is None else self.best.name


def _bench(singles: Sequence[Arm], tasks: Sequence[str], price: Price) -> _Bench:
    best, contenders = best_single(singles, price) if tasks else (None, [])
    least = oracle(singles, tasks, price)
    won = oracle(singles, tasks, price, generous=True) if any(arm.unjudged for arm in singles) else least
    known = oracle(singles, tasks, price, known_only=True) if any(arm.whole.unknown for arm in singles) else least
    assert least is not None, "only what is known may bar it"
    assert won is not None, "only what is known may bar it"
    return _Bench(
        price=price,
        best=best,
        contenders=contenders,
        random=pooled(singles, tasks),
        oracle=least,
        oracle_won=won,
        reach=Reach(least=price.of(won, generous=True), most=price.of(known) if known else math.inf),
        other_repeats=held_out_oracle(singles, tasks, price),
        solves_most=most_solved(singles, tasks),
    )


# --- rows --------------------------------------------------------------------------------------------------------


def _rows(
    routers: Sequence[Arm],
    singles: Sequence[Arm],
    bench: _Bench,
    table_options: TableOptions,
    options: RouterOptions,
    *,
    left_out: int,
) -> list[Figures]:
    policies: list[tuple[Kind, Arm | None]] = [
        *(("router", arm) for arm in routers),
        *(("single", arm) for arm in singles),
        ("random", bench.random),
        ("oracle", bench.oracle),
        ("oracle_held_out", bench.other_repeats),
        ("oracle_most_solved", bench.solves_most),
    ]
    most = _highest_rate(singles)
    rows = []
    for kind, arm in policies:
        if arm is None:
            continue
        row: Figures = {"policy": arm.name, "kind": kind, "best_single": False, "highest_rate": False}
        if kind == "single":
            row |= {"best_single": arm.name == bench.best_name, "highest_rate": arm.name == most}
        row |= {"tasks": len(arm.by_task), "tasks_left_out": left_out, "attempts": len(arm.slots)}
        row |= {"unjudged": arm.unjudged, "level": options.level, "failure_usd": bench.price.failure_usd}
        row["measure"] = "cost_per_success" if bench.price.failure_usd is None else "expected_cost"
        figures = price_of_success(arm, table_options)
        row |= {name: figures[name] for name in OF_PRICE}
        if kind == "random":
            row |= _shared(arm, row, len(singles))
        if kind in ("oracle", "oracle_most_solved"):
            row |= _flattered(bench, table_options) if kind == "oracle" else _NO_INTERVALS
        rows.append(row | _regret(kind, arm, row, bench) | dict.fromkeys(COMPARISON))
    for row, router, said in zip(rows, routers, _verdicts(routers, singles, bench, options), strict=False):
        row.update(_against(router, bench, options), **said)
    return rows


def _highest_rate(singles: Sequence[Arm]) -> str | None:
    """LLMRouterBench's best single: the one that succeeds most often, the cheapest of equals."""
    rates = [(stats.success_rate(arm.whole.successes, arm.whole.attempts), arm) for arm in singles]
    found = [
        (-rate.value, sum_usd([slot.cost_usd for slot in arm.slots]), number)
        for number, (rate, arm) in enumerate(rates)
        if rate
    ]
    return singles[min(found)[2]].name if found else None


def _shared(arm: Arm, row: Figures, singles: int) -> Figures:
    """Random's sums: one of so many attempts, on average. Means, rates and intervals are those of all of them."""
    total = row["total_cost_usd"]
    return {
        "attempts": len(arm.slots) // singles,
        "successes": row["successes"] / singles,
        "total_cost_usd": None if total is None else QUOTIENT.divide(total, Decimal(singles)),
    }


_NO_INTERVALS: Figures = dict.fromkeys(
    f"{name}_{end}" for name in ("success_rate", "cost_per_success", "expected_cost") for end in ("low", "high")
)
"""Of what was picked on the very attempts that are counted: an interval would be too good."""


def _flattered(bench: _Bench, table_options: TableOptions) -> Figures:
    """The Oracle's own: no intervals, and the other end of its range by other choices."""
    won = price_of_success(bench.oracle_won, table_options) if bench.oracle_won is not bench.oracle else {}
    return _NO_INTERVALS | {name: value for name, value in won.items() if name.startswith("unscored_won")}


def _regret(kind: Kind, arm: Arm, row: Figures, bench: _Bench) -> Figures:
    """How much more it costs than the Oracle, and how much of what BestSingle does more it saves."""
    mine = bench.reach if kind == "oracle" else bench.price.reach(arm)
    figures: Figures = dict.fromkeys(
        ("regret_usd", "regret_least_usd", "regret_most_usd", "regret_share", "gap_closed")
    )
    if not arm.by_task:
        return figures
    exact, ideal = mine.exact, bench.reach.exact
    if exact is not None and ideal is not None:
        regret = exact - ideal
        figures |= dict.fromkeys(("regret_usd", "regret_least_usd", "regret_most_usd"), float(regret))
        figures["regret_share"] = float(regret / ideal) if ideal > 0 else None
        figures["gap_closed"] = _gap_closed(exact, ideal, bench)
        return figures
    least = mine.least
    if least == math.inf and row["cost_per_success_bound"] == ">" and row["cost_per_success_usd"] is not None:
        least = row["cost_per_success_usd"]  # No success: what one costs at least, with the level's confidence.
    figures["regret_least_usd"] = _finite(least, bench.reach.most)
    figures["regret_most_usd"] = _finite(mine.most, bench.reach.least)
    if kind in _ASSIGNMENTS and (figures["regret_least_usd"] or 0) <= 0:
        figures["regret_least_usd"] = 0.0  # No way to send tasks to singles is cheaper than the Oracle's.
    return figures


_ASSIGNMENTS = ("single", "random", "oracle_most_solved")


def _finite(a: Fraction | float, b: Fraction | float) -> float | None:
    return float(a - b) if math.isfinite(a) and math.isfinite(b) else None


def _gap_closed(exact: Fraction, ideal: Fraction, bench: _Bench) -> float | None:
    """0 where it costs as much as BestSingle, 1 where as much as the Oracle, less than 0 where more than BestSingle."""
    if bench.best is None or bench.contenders:
        return None
    best = bench.price.reach(bench.best).exact
    return None if best is None or best <= ideal else float((best - exact) / (best - ideal))


# --- routers against BestSingle ----------------------------------------------------------------------------------

COMPARISON = (
    *("against", "vs_best_single_ratio", "vs_best_single_low", "vs_best_single_high"),
    *("success_rate_difference", "success_rate_difference_low", "success_rate_difference_high"),
    *("verdict", "verdict_why", "dearer_than"),
)


def _against(router: Arm, bench: _Bench, options: RouterOptions) -> Figures:
    """The router's ratio to BestSingle, as `compare` has it; the interval is adjusted for nothing."""
    if bench.best is None:
        return {}
    pair = _paired(router, bench.best, bench, options.level)
    (low, high), (rate_low, rate_high) = pair.interval, pair.rates_interval
    return {
        "against": bench.best.name,
        "vs_best_single_ratio": pair.ratio.ratio,
        "vs_best_single_low": low,
        "vs_best_single_high": high,
        "success_rate_difference": pair.rates.difference if pair.rates else None,
        "success_rate_difference_low": rate_low,
        "success_rate_difference_high": rate_high,
    }


def _verdicts(
    routers: Sequence[Arm], singles: Sequence[Arm], bench: _Bench, options: RouterOptions
) -> list[dict[str, Any]]:
    """What is shown of each router, whichever single is best.

    BestSingle is the least of several figures, and was picked by it: its own comparison would find against a router too
    often, and may be with another single than the best. So a router does not beat BestSingle where it is dearer than
    any single, Holm-adjusted over all pairs; it beats it where it is cheaper than each of them (a union of hypotheses:
    Berger, Technometrics 24, 1982), at a level that is divided over the routers.
    """
    # Without success none is best, unless none has any.
    rivals = [arm for arm in singles if arm is bench.best or math.isfinite(bench.price.reach(arm).least)]
    family = [[_paired(router, rival, bench, options.level) for rival in rivals] for router in routers]
    judgements = iter(_judged([pair for pairs in family for pair in pairs], options, options.min_successes))
    found = []
    for router in routers:
        dearer = [rival.name for rival in rivals if next(judgements).verdict == "WORSE"]
        why = None if dearer else _why_not_cheaper(router, rivals, bench, options, divided(options.level, len(routers)))
        verdict = DOES_NOT_BEAT if dearer else "INCONCLUSIVE" if why else BEATS
        found.append({"verdict": verdict, "verdict_why": why, "dearer_than": dearer})
    return found


def _why_not_cheaper(
    router: Arm, rivals: Sequence[Arm], bench: _Bench, options: RouterOptions, level: float
) -> str | None:
    """Why it is not shown to be cheaper than each single, of BestSingle first; None where it is."""
    if bench.best is None:
        return "no single of which all costs are known"
    contenders = {arm.name for arm in bench.contenders}
    for rival in sorted(rivals, key=lambda arm: arm.name != bench.best_name):
        is_best = rival.name == bench.best_name
        other = rival if is_best or rival.name in contenders else at_known_cost(rival)
        pair = _paired(router, other, bench, level)
        (judgement,) = _judged([pair], options, options.min_successes if is_best else 0)
        if judgement.verdict != "BETTER":
            why = judgement.why or "the interval holds 1"
            return why if is_best else f"{rival.name} may be the best single ({why})"
    return None


def _paired(router: Arm, single: Arm, bench: _Bench, level: float) -> Pair:
    return Pair(a=router, b=single, tasks=tuple(router.by_task), level=level, failure_usd=bench.price.failure_usd)


def _judged(pairs: Sequence[Pair], options: RouterOptions, min_successes: int) -> list[Judged]:
    return judged(pairs, margin=0.0, min_tasks=options.min_tasks, min_successes=min_successes)
