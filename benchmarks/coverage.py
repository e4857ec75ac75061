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
LEVEL = 0.95

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
    cost = generator.lognormal(0.0, 0.7, POPULATION) * np.where(won == 1, 1.0, 1.6)
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


def coverage(method: Method, rate: float, tasks: int, samples: int, seed: int) -> Coverage:
    """Return how a method fares. Samples without a success count as covered: the lower bound takes their place."""
    whole, generator = population(rate, seed), np.random.default_rng([seed, tasks, round(rate * 100)])
    below = above = 0
    for _ in range(samples):
        cost, won = whole.drawn(tasks, generator)
        found = method(cost, won, generator) if any(won) else None
        if found is not None:
            below += found.high < whole.truth
            above += found.low > whole.truth
    return Coverage(held=1 - (below + above) / samples, below=below / samples, above=above / samples)


# --- repeats as clusters -----------------------------------------------------------------------------------------


def clustered_coverage(*, by_task: bool, samples: int, seed: int, tasks: int = 50, repeats: int = 4) -> float:
    """Return the coverage with tasks that are hard or easy, by task or with repeats taken as independent."""
    generator = np.random.default_rng([seed, 4])
    held = 0
    for _ in range(samples):
        rates = generator.beta(0.4, 0.6, tasks)
        prices = generator.lognormal(0.0, 0.7, tasks)
        won = generator.random((tasks, repeats)) < rates[:, None]
        cost = prices[:, None] * generator.lognormal(0.0, 0.2, (tasks, repeats))
        if by_task:
            sums = cost.sum(axis=1).tolist(), won.sum(axis=1).tolist(), [repeats] * tasks
        else:
            sums = cost.ravel().tolist(), won.ravel().astype(int).tolist(), [1] * (tasks * repeats)
        interval = stats.cost_per_success(*sums, level=LEVEL).interval
        truth = math.exp(0.7**2 / 2 + 0.2**2 / 2) / 0.4
        held += interval is None or truth in interval
    return held / samples


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
    print(f"{'population':>16}" + "".join(f"{name:>13}" for name in METHODS) + "   log-delta below / above the truth")
    for rate in RATES:
        for tasks in (20, 50, 100):
            found = {name: coverage(method, rate, tasks, samples, seed) for name, method in METHODS.items()}
            line = f"{f'p={rate:.2f}, n={tasks}':>16}" + "".join(f"{each.held:>13.3f}" for each in found.values())
            print(f"{line}   {found['log-delta'].below:.3f} / {found['log-delta'].above:.3f}", flush=True)


def show_rest(samples: int, seed: int) -> None:
    few = max(samples // 4, 1)  # Whole tables, and twenty looks at each sample, take their time.
    how = {"samples": samples, "seed": seed}
    rows = {
        "50 tasks x 4 repeats, covered: by task": clustered_coverage(by_task=True, **how),
        "... as 200 independent attempts": clustered_coverage(by_task=False, **how),
        "no success in 20 tasks x 4, bound wrong (0.050 allowed): by task": no_success_misses(by_task=True, **how),
        "... by attempt": no_success_misses(by_task=False, **how),
        "25 equal configurations, some verdict: Holm": false_verdicts(adjusted=True, samples=few, seed=seed),
        "... unadjusted": false_verdicts(adjusted=False, samples=few, seed=seed),
        "two equal configurations told apart: at 200 tasks": looked_at(200, **how),
        "... looking every 10 tasks": looked_at(10, samples=few, seed=seed),
        "... with the level divided by the 20 looks": looked_at(10, samples=few, seed=seed, level=1 - 0.05 / 20),
    }
    for what, share in rows.items():
        print(f"{what:<68}{share:.3f}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description="How often intervals and verdicts keep their word.")
    parser.add_argument("--samples", type=int, default=1_000, help="samples for each figure (default 1,000)")
    parser.add_argument("--seed", type=int, default=1, help="of every generator (default 1)")
    arguments = parser.parse_args()
    if arguments.samples < 1:
        parser.error("--samples must be 1 or more")
    show_intervals(arguments.samples, arguments.seed)
    print()
    show_rest(arguments.samples, arguments.seed)


if __name__ == "__main__":
    main()
