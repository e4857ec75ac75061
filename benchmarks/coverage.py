"""How often intervals and verdicts keep their word: `python benchmarks/coverage.py [--samples N] [--seed N]`.

Draws samples of tasks from populations of 500 whose true figures are known, and counts. Each part has its own seeded
generator: the same arguments print the same figures. docs/statistics.md tells how to read them.
"""

import argparse
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from langchain_finops.reports import stats

POPULATION = 500
RATES = (0.65, 0.35, 0.21, 0.09)
SPREAD = 0.9
"""Of log costs between tasks: with it sd(u) is 1.3 to 3.5, as in public results of agents."""
REPEATS = 4
LEVEL = 0.95
WANTED = (0.91, 0.97)
"""What a nominal 95% must come to."""

Method = Callable[[Sequence[float], Sequence[int], np.random.Generator], stats.Interval | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Population:
    """Results of 500 tasks: costs are skewed, and a failure takes longer than a success."""

    cost: np.ndarray
    won: np.ndarray

    @property
    def truth(self) -> float:
        """Its cost per success."""
        return float(self.cost.sum() / self.won.sum())

    def drawn(self, tasks: int, generator: np.random.Generator) -> tuple[list[float], list[int]]:
        """Costs and successes of tasks drawn at random."""
        places = generator.integers(0, POPULATION, tasks)
        return self.cost[places].tolist(), self.won[places].tolist()


def population(rate: float, seed: int) -> Population:
    """Return 500 tasks, exactly `rate` of them solved."""
    generator = np.random.default_rng([seed, round(rate * 100)])
    won = generator.permutation(np.arange(POPULATION) < round(rate * POPULATION)).astype(int)
    cost = generator.lognormal(0.0, SPREAD, POPULATION) * np.where(won == 1, 1.0, 1.6)
    return Population(cost=cost, won=won)


# --- intervals of the cost per success ---------------------------------------------------------------------------


def log_delta(cost: Sequence[float], won: Sequence[int], _: np.random.Generator) -> stats.Interval | None:
    """Ours."""
    return stats.cost_per_success(cost, won, [1] * len(cost), level=LEVEL).interval


def plain_delta(cost: Sequence[float], won: Sequence[int], generator: np.random.Generator) -> stats.Interval | None:
    """Symmetric in dollars: what the package never shows."""
    ours = log_delta(cost, won, generator)
    if ours is None:
        return None
    ratio = math.sqrt(ours.low * ours.high)
    half = ratio * math.log(ours.high / ratio)
    return stats.Interval(ratio - half, ratio + half, LEVEL)


def percentile(cost: Sequence[float], won: Sequence[int], generator: np.random.Generator) -> stats.Interval | None:
    """The plain bootstrap: quantiles of resampled ratios."""
    places = generator.integers(0, len(cost), (1_000, len(cost)))
    spent, solved = np.asarray(cost)[places].sum(axis=1), np.asarray(won)[places].sum(axis=1)
    ratios = np.sort(np.where(solved > 0, spent / np.maximum(solved, 1), np.inf))
    return stats.Interval(float(ratios[24]), float(ratios[975]), LEVEL)


def bca(cost: Sequence[float], won: Sequence[int], generator: np.random.Generator) -> stats.Interval | None:
    """The option."""
    return stats.bca_interval(cost, won, [1] * len(cost), generator=generator, level=LEVEL, resamples=1_000)


METHODS: dict[str, Method] = {"plain delta": plain_delta, "log-delta": log_delta, "percentile": percentile, "BCa": bca}


@dataclass(frozen=True, slots=True, kw_only=True)
class Coverage:
    """Shares of samples whose interval held the truth, lay below it, lay above it."""

    held: float
    below: float
    above: float


@dataclass(slots=True, kw_only=True)
class Tally:
    """Where intervals lie."""

    truth: float
    intervals: int = 0
    below: int = 0
    above: int = 0

    def add(self, interval: stats.Interval | None) -> None:
        """Count one; None is none."""
        if interval is not None:
            self.intervals += 1
            self.below += interval.high < self.truth
            self.above += interval.low > self.truth

    def coverage(self) -> Coverage:
        """Shares of all intervals."""
        below, above = self.below / self.intervals, self.above / self.intervals
        return Coverage(held=1 - below - above, below=below, above=above)


def coverage(method: Method, rate: float, tasks: int, samples: int, seed: int) -> Coverage:
    """Return how a method fares in samples that have an interval; without a success there is a lower bound instead."""
    whole, generator = population(rate, seed), np.random.default_rng([seed, tasks, round(rate * 100)])
    tally = Tally(truth=whole.truth)
    for _ in range(samples):
        cost, won = whole.drawn(tasks, generator)
        tally.add(method(cost, won, generator) if any(won) else None)
    return tally.coverage()


# --- repeats as clusters -----------------------------------------------------------------------------------------


def clustered_coverage(rate: float, tasks: int, samples: int, seed: int, *, by_task: bool = True) -> Coverage:
    """Return how the log-delta interval fares where each of 500 tasks, hard or easy, is tried `REPEATS` times.

    `by_task=False` takes repeats as independent, which they are not.
    """
    generator = np.random.default_rng([seed, 4, tasks, round(rate * 100)])
    rates = generator.beta(rate, 1 - rate, POPULATION)
    prices = generator.lognormal(0.0, SPREAD, POPULATION)
    truth = float((prices * (rates + 1.6 * (1 - rates))).sum() / rates.sum()) * math.exp(0.2**2 / 2)
    tally = Tally(truth=truth)
    for _ in range(samples):
        places = generator.integers(0, POPULATION, tasks)
        won = generator.random((tasks, REPEATS)) < rates[places, None]
        cost = prices[places, None] * np.where(won, 1.0, 1.6) * generator.lognormal(0.0, 0.2, (tasks, REPEATS))
        if by_task:
            sums = cost.sum(axis=1).tolist(), won.sum(axis=1).tolist(), [REPEATS] * tasks
        else:
            sums = cost.ravel().tolist(), won.ravel().astype(int).tolist(), [1] * (tasks * REPEATS)
        tally.add(stats.cost_per_success(*sums, level=LEVEL).interval if won.any() else None)
    return tally.coverage()


def no_success_misses(*, by_task: bool, samples: int, seed: int, tasks: int = 20, repeats: int = 4) -> float:
    """Return how often "> X" is wrong where repeats of a task agree and one task in twenty can be solved."""
    generator, rate = np.random.default_rng([seed, 5]), 0.05
    misses = 0
    for _ in range(samples):
        if (generator.random(tasks) < rate).any():
            continue
        count = [repeats] * tasks if by_task else [1] * (tasks * repeats)
        found = stats.cost_per_success([float(each) for each in count], [0] * len(count), count, level=LEVEL)
        misses += found.usd is not None and found.usd > 1 / rate
    return misses / samples


# --- verdicts ----------------------------------------------------------------------------------------------------


def _arm(tasks: int, rate: float, difficulty: np.ndarray, generator: np.random.Generator) -> stats.TaskSums:
    cost = difficulty * generator.lognormal(0.0, 0.4, tasks)
    return stats.TaskSums(
        cost=cost.tolist(), successes=(generator.random(tasks) < rate).astype(int).tolist(), attempts=[1] * tasks
    )


def false_verdicts(*, adjusted: bool, samples: int, seed: int, configurations: int = 25, tasks: int = 100) -> float:
    """Return how many tables of equal configurations hold some BETTER or WORSE."""
    generator = np.random.default_rng([seed, 6])
    wrong = 0
    for _ in range(samples):
        difficulty = generator.lognormal(0.0, 0.7, tasks)
        arms = [_arm(tasks, 0.5, difficulty, generator) for _ in range(configurations)]
        ratios = [stats.paired_ratio(arm, arms[0], level=LEVEL) for arm in arms[1:]]
        judged = stats.judge(ratios) if adjusted else [each for ratio in ratios for each in stats.judge([ratio])]
        wrong += any(each.verdict in ("BETTER", "WORSE") for each in judged)
    return wrong / samples


def router_not_beating(*, picked: bool, samples: int, seed: int, singles: int = 24, tasks: int = 100) -> float:
    """Return how often a router that costs what each of 24 singles does is found not to beat the best of them.

    `picked`: by its comparison with the single that looks best, alone; else as `finops-eval routers` decides.
    """
    generator = np.random.default_rng([seed, 8])
    wrong = 0
    for _ in range(samples):
        difficulty = generator.lognormal(0.0, 0.7, tasks)
        arms = [_arm(tasks, 0.5, difficulty, generator) for _ in range(singles)]
        router = _arm(tasks, 0.5, difficulty, generator)
        ratios = _against([_least(arms)] if picked else arms, router)
        wrong += any(each.verdict == "WORSE" for each in stats.judge(ratios))
    return wrong / samples


def router_beating(*, picked: bool, samples: int, seed: int, tasks: int = 100) -> float:
    """Return how often a router is found to beat the best of two singles that in truth it does not beat.

    The better single costs as much a success as the router, and varies so much that the other one, in truth half as
    dear again, often looks better.
    """
    generator = np.random.default_rng([seed, 9])
    wrong = 0
    for _ in range(samples):
        steady = np.ones(tasks)
        wild = generator.lognormal(-2.0, 2.0, tasks)  # Its mean is 1.
        arms = [_arm(tasks, 0.5, wild, generator), _arm(tasks, 0.5, 1.5 * steady, generator)]
        router = _arm(tasks, 0.5, steady, generator)
        ratios = _against([_least(arms)] if picked else arms, router)
        wrong += all(stats.judge([each])[0].verdict == "BETTER" for each in ratios)
    return wrong / samples


def _least(arms: Sequence[stats.TaskSums]) -> stats.TaskSums:
    return min(arms, key=lambda arm: sum(arm.cost) / max(sum(arm.successes), 1))


def _against(singles: Sequence[stats.TaskSums], router: stats.TaskSums) -> list[stats.PairedRatio]:
    return [stats.paired_ratio(router, single, level=LEVEL) for single in singles]


def looked_at(every: int, *, samples: int, seed: int, tasks: int = 200, level: float = LEVEL) -> float:
    """Return how often two equal configurations are told apart, looking after each `every` tasks until they are."""
    generator = np.random.default_rng([seed, 7])
    wrong = 0
    for _ in range(samples):
        difficulty = generator.lognormal(0.0, 0.7, tasks)
        a, b = (_arm(tasks, 0.5, difficulty, generator) for _ in range(2))
        wrong += any(_apart(a, b, seen, level) for seen in range(every, tasks + 1, every))
    return wrong / samples


def _apart(a: stats.TaskSums, b: stats.TaskSums, seen: int, level: float) -> bool:
    first = [
        stats.TaskSums(cost=arm.cost[:seen], successes=arm.successes[:seen], attempts=arm.attempts[:seen])
        for arm in (a, b)
    ]
    interval = stats.paired_ratio(*first, level=level).interval
    return interval is not None and 1 not in interval


# --- what is printed ---------------------------------------------------------------------------------------------


def show_intervals(samples: int, seed: int) -> None:
    error = NormalDist().inv_cdf(0.975) * math.sqrt(0.95 * 0.05 / samples)
    print(f"Coverage of nominal 95% intervals, {samples:,} samples each; +-{error:.3f} is chance.")
    within = True
    print(f"{'population':>16}" + "".join(f"{name:>13}" for name in METHODS) + "   log-delta below / above the truth")
    for rate in RATES:
        for tasks in (20, 50, 100):
            found = {name: coverage(method, rate, tasks, samples, seed) for name, method in METHODS.items()}
            line = f"{f'p={rate:.2f}, n={tasks}':>16}" + "".join(f"{each.held:>13.3f}" for each in found.values())
            print(f"{line}   {found['log-delta'].below:.3f} / {found['log-delta'].above:.3f}", flush=True)
            within &= WANTED[0] <= found["log-delta"].held <= WANTED[1]
    print(f"\nLog-delta with {REPEATS} repeats of each task, by task, and with repeats taken as independent:")
    for rate in RATES:
        for tasks in (20, 50, 100):
            ours, naive = (clustered_coverage(rate, tasks, samples, seed, by_task=each) for each in (True, False))
            within &= WANTED[0] <= ours.held <= WANTED[1]
            name = f"p={rate:.2f}, n={tasks}"
            print(f"{name:>16}{ours.held:>13.3f}{naive.held:>13.3f}   {ours.below:.3f} / {ours.above:.3f}", flush=True)
    word = "All" if within else "NOT all"
    print(f"{word} coverages of log-delta by task lie within {WANTED[0]:.0%} and {WANTED[1]:.0%}.")


def show_rest(samples: int, seed: int) -> None:
    few = max(samples // 4, 1)  # Whole tables, and twenty looks at each sample, take their time.
    how = {"samples": samples, "seed": seed}
    rows = {
        "no success in 20 tasks x 4, bound wrong (0.050 allowed): by task": no_success_misses(by_task=True, **how),
        "... by attempt": no_success_misses(by_task=False, **how),
        "25 equal configurations, some verdict: Holm": false_verdicts(adjusted=True, samples=few, seed=seed),
        "... unadjusted": false_verdicts(adjusted=False, samples=few, seed=seed),
        "router as dear as 24 singles, does not beat (0.025): all pairs": router_not_beating(
            picked=False, samples=few, seed=seed
        ),
        "... by the single that looks best, alone": router_not_beating(picked=True, samples=few, seed=seed),
        "router as dear as the better of 2, beats it (0.025): all pairs": router_beating(picked=False, **how),
        "... by the one that looks best, alone": router_beating(picked=True, **how),
        "two equal configurations told apart: at 200 tasks": looked_at(200, **how),
        "... looking every 10 tasks": looked_at(10, samples=few, seed=seed),
        "... with the level divided by the 20 looks": looked_at(10, samples=few, seed=seed, level=1 - 0.05 / 20),
    }
    for what, share in rows.items():
        print(f"{what:<68}{share:.3f}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description="How often intervals and verdicts keep their word.")
    parser.add_argument("--samples", type=int, default=2_000, help="samples for each figure (default 2,000)")
    parser.add_argument("--seed", type=int, default=1, help="of every generator (default 1)")
    arguments = parser.parse_args()
    if arguments.samples < 1:
        parser.error("--samples must be 1 or more")
    show_intervals(arguments.samples, arguments.seed)
    print()
    show_rest(arguments.samples, arguments.seed)


if __name__ == "__main__":
    main()
