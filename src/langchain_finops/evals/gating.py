"""May this be released? Rules on a results folder, decided by the bounds of intervals and never by the point."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal

from langchain_finops.errors import BadArguments, BadData, Fault
from langchain_finops.evals import shown
from langchain_finops.evals.estimates import Estimate, estimate
from langchain_finops.evals.pairs import Pair, divided, judged, paired
from langchain_finops.evals.resume import Results, check_cards, load_results, plan_of
from langchain_finops.evals.rows import Computed, TableOptions, compute
from langchain_finops.evals.rules import Rule, read_rules
from langchain_finops.money import usd
from langchain_finops.reports import stats
from langchain_finops.reports.render import Column, Row, Table

__all__ = ["Check", "GateOptions", "GateReport", "Outcome", "gate"]

Outcome = Literal["PASS", "FAIL", "INCONCLUSIVE"]

FIELDS = (
    *("rule", "where", "configuration", "metric", "value", "low", "high", "limit", "margin", "level"),
    *("tasks", "successes", "outcome", "why"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class GateOptions:
    """How rules are decided. The footer says so."""

    configurations: tuple[str, ...] = ()
    """Those that a rule without `for` is on; empty: all."""
    baseline: str | None = None
    """None: the run's."""
    scorer: str | None = None
    cards: str | None = None
    impute: Literal["none", "max"] = "none"
    """`max` fills unknown costs with the configuration's dearest attempt."""
    failure_usd: Decimal | None = None
    """What mending a failure costs, for `expected_cost`. None: as the suite says."""
    level: float = 0.95
    min_tasks: int = stats.MIN_TASKS
    min_successes: int = stats.MIN_SUCCESSES

    def __post_init__(self) -> None:
        if self.min_tasks < 0 or self.min_successes < 0:
            raise BadArguments("min_tasks and min_successes must not be negative")


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """A rule on one configuration, and what came of it."""

    rule: str
    where: str
    configuration: str
    metric: str
    value: Decimal | float | None
    """The figure; for a comparison the ratio to the baseline, or the difference of rates."""
    low: Decimal | float | None
    high: Decimal | float | None
    """None where nothing bounds it."""
    limit: Decimal | None
    margin: Decimal | None
    level: float
    """Of its interval: divided where several differences of rates are compared."""
    tasks: int
    successes: int
    outcome: Outcome
    why: str | None
    """Why it is no pass; None where it is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GateReport:
    """Every check. `outcome` is FAIL where one failed, else INCONCLUSIVE where one is, else PASS."""

    checks: Sequence[Check]
    results: Results
    options: GateOptions

    @property
    def outcome(self) -> Outcome:
        """What the gate says."""
        found = {check.outcome for check in self.checks}
        return "FAIL" if "FAIL" in found else "INCONCLUSIVE" if "INCONCLUSIVE" in found else "PASS"

    def count(self, outcome: Outcome) -> int:
        """How many checks came to it."""
        return sum(check.outcome == outcome for check in self.checks)

    def table(self) -> Table:
        """One row a check."""
        rows = [{name: getattr(check, name) for name in FIELDS} for check in self.checks]
        return Table(rows=rows, fields=FIELDS, columns=_COLUMNS, notes=tuple(self._notes()))

    def headline(self) -> str:
        """The outcome, and how many checks came to what."""
        counts = [(self.count("FAIL"), "failed"), (self.count("INCONCLUSIVE"), "inconclusive")]
        told = [f"{count} {word}" for count, word in counts if count] or ["all passed"]
        return f"{self.outcome}: {len(self.checks)} checks, {', '.join(told)}"

    def _notes(self) -> Iterator[str]:
        options, run = self.options, self.results.run
        yield f"{self.headline()} ({self.results.folder}, run {run['run_id']})."
        yield (
            f"Decided on the bounds of {options.level * 100:g}% intervals; estimates pass on {options.min_tasks} tasks "
            f"and {options.min_successes} successes at least. Counts and sums are facts of the run, and need none."
        )
        if any(check.metric != "run" for check in self.checks) and self.results.attempts:
            yield "Unscored attempts count for the worse end, unknown costs make a rule on costs inconclusive."
        if options.impute == "max":
            yield "Unknown costs are filled with the configuration's dearest attempt."


def gate(
    results: Results | Path | str,
    rules: "str | Path | Sequence[str | Path]",
    options: GateOptions | None = None,
) -> GateReport:
    """Decide rules on a results folder: PASS only where every bound keeps every rule, and the run is complete.

    `rules` are texts such as "cost_per_success <= 0.05" or "success_rate not_worse_than baseline by 0.02", or files
    with a rule a line. Raises BadData with every fault of the rules, EvalError or BadArguments where it cannot run.
    """
    read = read_rules(rules)
    found = results if isinstance(results, Results) else load_results(Path(results))
    options = options or GateOptions()
    if options.failure_usd is None and found.run.get("failure_usd") is not None:
        options = replace(options, failure_usd=usd(str(found.run["failure_usd"])))
    judge = _Gate(found, options)
    faults = [fault for rule in read for fault in judge.faults(rule)]
    if faults:
        raise BadData(faults)
    checks = [check for rule in read for check in judge.checks(rule)]
    return GateReport(checks=[*judge.unfinished(), *checks], results=found, options=options)


class _Gate:
    """The figures of a results folder, against which rules are held."""

    def __init__(self, results: Results, options: GateOptions) -> None:
        self.results, self.options = results, options
        table = TableOptions(
            scorer=options.scorer,
            cards=check_cards(results, options.cards),
            impute=options.impute,
            level=options.level,
            min_tasks=options.min_tasks,
            min_successes=options.min_successes,
        )
        plan = plan_of(results)
        if options.baseline is not None:
            plan = replace(plan, baseline=options.baseline)
        self.computed: Computed = compute(results.attempts, results.verdicts, plan, table)
        self.arms = {arm.name: arm for arm in self.computed.arms}
        self.rows: dict[str, dict[str, Any]] = {row["configuration"]: row for row in self.computed.rows}
        self.baseline = self.computed.baseline
        unknown = [name for name in options.configurations if name not in self.arms]
        if unknown:
            raise BadArguments(f"{unknown[0]!r} is no configuration of {results.folder}: it has {', '.join(self.arms)}")

    def faults(self, rule: Rule) -> Iterator[Fault]:
        """What is wrong with a rule on these results."""
        name = rule.configuration
        if name is not None and name not in self.arms:
            known = ", ".join(self.arms)
            yield Fault(where=rule.where, what=f"{name!r} is no configuration of {self.results.folder}: it has {known}")
        elif rule.operator is None and not self._compared(rule):
            what = f"no configuration is left to compare with the baseline {self.baseline!r}"
            yield Fault(where=rule.where, what=what)
        if rule.metric == "expected_cost" and self.options.failure_usd is None:
            what = "expected_cost needs what a failure costs: `failure_usd` in the suite, or --failure-usd"
            yield Fault(where=rule.where, what=what)

    def unfinished(self) -> Iterator[Check]:
        """A run that has not made all its attempts is no pass, whatever its figures."""
        run = self.results.run
        missing = [
            f"{row['configuration']} {row['attempts']:,} of {row['planned_attempts']:,}"
            for row in self.rows.values()
            if not row["complete"]
        ]
        stopped = run.get("stopped")
        if run["finished_at"] is not None and not missing and not stopped:
            return
        why = "the run has not finished" if not stopped else f"the run was stopped: {_stop_reason(stopped)}"
        if missing:
            why += f" (attempts made: {shown.named(missing)})"
        yield Check(
            rule="the run is complete",
            where=str(self.results.folder),
            configuration="",
            metric="run",
            value=None,
            low=None,
            high=None,
            limit=None,
            margin=None,
            level=self.options.level,
            tasks=len(self.computed.planned),
            successes=sum(row["successes"] for row in self.rows.values()),
            outcome="INCONCLUSIVE",
            why=f"{why}; go on with it by the same `finops-eval run`",
        )

    def checks(self, rule: Rule) -> Iterator[Check]:
        """The rule on every configuration that it is on."""
        if rule.operator is None:
            yield from self._against_baseline(rule)
            return
        for name in self._chosen(rule):
            yield self._limit(rule, name)

    def _chosen(self, rule: Rule) -> list[str]:
        if rule.configuration is not None:
            return [rule.configuration]
        return [name for name in self.arms if not self.options.configurations or name in self.options.configurations]

    def _compared(self, rule: Rule) -> list[str]:
        return [name for name in self._chosen(rule) if name != self.baseline]

    def _limit(self, rule: Rule, name: str) -> Check:
        """A metric against a number."""
        row = self.rows[name]
        assert rule.operator is not None
        assert rule.limit is not None
        # The end that is worse for the rule: unscored attempts as successes only where many successes break it.
        unscored_won = (rule.kind == "rate") == (rule.operator in ("<=", "<"))
        figure = estimate(
            rule.metric,
            self.arms[name],
            row,
            level=self.options.level,
            failure_usd=self.options.failure_usd,
            unscored_won=unscored_won,
        )
        outcome, why = _held(figure, rule.operator, float(rule.limit) if _is_float(figure) else rule.limit)
        if rule.kind in ("cost", "rate", "seconds"):
            outcome, why = self._minima(rule, row, outcome, why)
        return self._check(rule, row, figure, outcome, why)

    def _minima(self, rule: Rule, row: Row, outcome: Outcome, why: str | None) -> tuple[Outcome, str | None]:
        """Too few tasks tell nothing either way; too few successes make no cost per success, and no pass."""
        options = self.options
        if row["tasks"] < options.min_tasks:
            return "INCONCLUSIVE", f"{row['tasks']} tasks: {options.min_tasks} are needed"
        few = row["successes"] < options.min_successes
        told = f"{row['successes']} successes: {options.min_successes} are needed"
        if rule.metric == "cost_per_success" and few and row["successes"]:
            return "INCONCLUSIVE", told
        if rule.kind != "seconds" and few and outcome == "PASS":
            return "INCONCLUSIVE", told
        return outcome, why

    def _check(
        self, rule: Rule, row: Row, figure: Estimate, outcome: Outcome, why: str | None, *, level: float | None = None
    ) -> Check:
        return Check(
            rule=rule.text,
            where=rule.where,
            configuration=row["configuration"],
            metric=rule.metric,
            value=figure.value,
            low=figure.low,
            high=None if figure.high is not None and math.isinf(figure.high) else figure.high,
            limit=rule.limit,
            margin=rule.margin,
            level=self.options.level if level is None else level,
            tasks=row["tasks"],
            successes=row["successes"],
            outcome=outcome,
            why=why,
        )

    # --- against the baseline ---

    def _against_baseline(self, rule: Rule) -> Iterator[Check]:
        """The rule's configurations against the baseline, on the tasks complete in both, Holm-adjusted."""
        names = self._compared(rule)
        assert self.baseline is not None
        base, tasks = self.arms[self.baseline], list(self.computed.planned)
        mending = self.options.failure_usd if rule.metric == "expected_cost" else None
        # Of many comparisons some would err at the full level. Ratios are Holm-adjusted by `judged`.
        level = divided(self.options.level, len(names)) if rule.kind == "rate" else self.options.level
        pairs = [paired(self.arms[name], base, tasks, level=level, failure_usd=mending) for name in names]
        if rule.kind == "rate":
            for name, pair in zip(names, pairs, strict=True):
                yield self._rates(rule, name, pair)
            return
        said = judged(
            pairs,
            margin=float(rule.margin or 0),
            min_tasks=self.options.min_tasks,
            min_successes=self.options.min_successes,
            worse_end=True,
        )
        for name, pair, judgement in zip(names, pairs, said, strict=True):
            low, high = pair.interval
            figure = Estimate(value=pair.ratio.ratio, low=low, high=high)
            why = judgement.why or f"{judgement.verdict} than the baseline"
            outcome = _OUTCOMES[judgement.verdict]
            yield self._check(rule, self.rows[name], figure, outcome, None if outcome == "PASS" else why)

    def _rates(self, rule: Rule, name: str, pair: Pair) -> Check:
        rates, (low, high) = pair.rates, pair.rates_interval
        figure = Estimate(value=rates.difference if rates else None, low=low, high=high)
        verdict = pair.rate_verdict(float(rule.margin or 0), worse_end=True)
        outcome, why = _OUTCOMES[verdict], "the success rate is WORSE than the baseline's"
        if outcome == "INCONCLUSIVE":
            few = rates is None or rates.differing < stats.MIN_DIFFERING
            why = f"fewer than {stats.MIN_DIFFERING} tasks differ" if few else "the interval is too wide for the margin"
        if len(pair.tasks) < self.options.min_tasks:
            outcome, why = "INCONCLUSIVE", f"{len(pair.tasks)} tasks in common: {self.options.min_tasks} are needed"
        return self._check(rule, self.rows[name], figure, outcome, None if outcome == "PASS" else why, level=pair.level)


_OUTCOMES: Mapping[stats.VerdictKind, Outcome] = {
    "BETTER": "PASS",
    "NON_INFERIOR": "PASS",
    "WORSE": "FAIL",
    "INCONCLUSIVE": "INCONCLUSIVE",
}


def _is_float(figure: Estimate) -> bool:
    return any(isinstance(bound, float) for bound in (figure.value, figure.low, figure.high))


def _held(figure: Estimate, operator: str, limit: Any) -> tuple[Outcome, str | None]:
    """PASS where both bounds keep the rule, FAIL where both break it."""
    low, high = figure.low, figure.high
    if figure.why == "unknown costs" or low is None or high is None:
        return "INCONCLUSIVE", figure.why
    kept = [_KEEPS[operator](bound, limit) for bound in (low, high)]
    if all(kept):
        return "PASS", None
    if low == high:  # A fact that does not keep the rule, such as 3 for `< 3`.
        return "FAIL", "it is more" if low > limit else "it is less" if low < limit else "it is just that"
    if not any(kept) and not low <= limit <= high:
        return (
            "FAIL",
            "no success: the least it can cost is more" if figure.why == "no success" else "both bounds break it",
        )
    return "INCONCLUSIVE", figure.why or "the limit lies within the interval"


_KEEPS: Mapping[str, Any] = {
    "<=": lambda bound, limit: bound <= limit,
    "<": lambda bound, limit: bound < limit,
    ">=": lambda bound, limit: bound >= limit,
    ">": lambda bound, limit: bound > limit,
    "==": lambda bound, limit: bound == limit,
}


def _stop_reason(stopped: object) -> str:
    return str(stopped.get("reason", stopped)) if isinstance(stopped, Mapping) else str(stopped)


# --- for people --------------------------------------------------------------------------------------------------


def _value(row: Row) -> str:
    value, low, high = row["value"], row["low"], row["high"]
    if row["limit"] is None:
        return shown.points(value, low, high) if row["metric"] == "success_rate" else shown.ratio(value, low, high)
    if row["metric"] == "success_rate":
        return shown.share(value, low, high)
    if isinstance(value, int):
        return f"{value:,}"
    dollars = row["metric"].endswith(("cost", "cost_per_success"))
    if value is None:
        return f"> {shown.usd(low)}" if low is not None else "unknown" if dollars else "-"
    text = shown.usd(value) if dollars else f"{shown.figure(float(value))} s"
    if high is None:
        return f">= {text}"
    return text if low == high else f"{text} ({shown.figure(float(low))}-{shown.figure(float(high))})"


_COLUMNS = (
    Column(title="configuration", text=lambda row: row["configuration"], name=True),
    Column(title="rule", text=lambda row: row["rule"], name=True),
    Column(title="figure (interval)", text=_value),
    Column(title="tasks", text=lambda row: f"{row['tasks']:,}", rank=1),
    Column(title="outcome", text=lambda row: row["outcome"]),
    Column(title="why", text=lambda row: row["why"] or "", below=True),
)
