"""How far a judge agrees with people beyond chance: Cohen's kappa, with an interval that takes repeats as clusters."""

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from langchain_finops.reports.stats.intervals import Interval, t_quantile

__all__ = ["MIN_LABELLED_TASKS", "Agreement", "agreement"]

MIN_LABELLED_TASKS = 10
"""Fewer tasks give no interval."""
Pair = tuple[str, bool, bool]
"""Task, what a person said, what the judge said."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """What people and a judge said of the same answers."""

    labelled: int
    """Answers that both said something of."""
    tasks: int
    both_right: int
    both_wrong: int
    only_judge_right: int
    """The judge let pass what a person found wrong."""
    only_human_right: int
    kappa: float | None
    """1 perfect, 0 as by chance; None where both said the same of all answers, so that chance explains it."""
    interval: Interval | None
    """None where there is no kappa, or where the tasks are fewer than `MIN_LABELLED_TASKS`."""

    @property
    def agreed(self) -> int:
        """Answers of which both said the same."""
        return self.both_right + self.both_wrong

    @property
    def rate(self) -> float:
        """Share of answers of which both said the same."""
        return self.agreed / self.labelled


def agreement(pairs: Sequence[Pair], *, level: float = 0.95) -> Agreement | None:
    """Cohen's kappa (Educational and Psychological Measurement 20, 1960): `k = (po - pe) / (1 - pe)`; None of nothing.

    po is the share agreed, `pe = h j + (1 - h)(1 - j)` what chance agrees by, h and j being the shares that people and
    the judge found right. The interval is `tanh(atanh(k) +- t se / (1 - k^2))`, t with tasks - 1 degrees of freedom;
    se is linearised: answer i moves k by
    `u_i = (a_i - po) / (1 - pe) - (1 - po) / (1 - pe)^2 [(2j - 1)(h_i - h) + (2h - 1)(j_i - j)]`, whose sums over tasks
    U_t give `se^2 = m / (m - 1) sum(U_t^2) / n^2`, of m tasks and n answers. With one answer a task this is the
    variance of Fleiss, Cohen and Everitt (Psychological Bulletin 72, 1969). Where all agree u is 0, which says nothing
    of what would be found in more tasks: the lower end is then kappa at the share agreed that m tasks in agreement
    leave possible, `((1 - level) / 2)^(1/m)`.
    """
    if not pairs:
        return None
    n = len(pairs)
    tasks = len({task for task, _, _ in pairs})
    counts = {(h, j): sum((human, judge) == (h, j) for _, human, judge in pairs) for h in (0, 1) for j in (0, 1)}
    kappa, interval = _kappa(pairs, tasks, level)
    return Agreement(
        labelled=n,
        tasks=tasks,
        both_right=counts[1, 1],
        both_wrong=counts[0, 0],
        only_judge_right=counts[0, 1],
        only_human_right=counts[1, 0],
        kappa=kappa,
        interval=interval,
    )


def _kappa(pairs: Sequence[Pair], m: int, level: float) -> tuple[float | None, Interval | None]:
    n = len(pairs)
    h = sum(human for _, human, _ in pairs) / n
    j = sum(judge for _, _, judge in pairs) / n
    po = sum(human == judge for _, human, judge in pairs) / n
    pe = h * j + (1 - h) * (1 - j)
    if pe == 1:
        return None, None
    kappa = (po - pe) / (1 - pe)
    if m < MIN_LABELLED_TASKS:
        return kappa, None
    if po == 1:
        low = (((1 - level) / 2) ** (1 / m) - pe) / (1 - pe)
        return kappa, Interval(low, 1.0, level)
    moved: defaultdict[str, float] = defaultdict(float)
    for task, human, judge in pairs:
        by_chance = (2 * j - 1) * (human - h) + (2 * h - 1) * (judge - j)
        moved[task] += ((human == judge) - po) / (1 - pe) - (1 - po) / (1 - pe) ** 2 * by_chance
    se = math.sqrt(m / (m - 1) * sum(of_task**2 for of_task in moved.values())) / n
    if not se or kappa <= -1:
        return kappa, None
    half = t_quantile(1 - (1 - level) / 2, m - 1) * se / (1 - kappa**2)
    middle = math.atanh(kappa)
    return kappa, Interval(math.tanh(middle - half), math.tanh(middle + half), level)
