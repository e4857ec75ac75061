"""Reads a suite: what is run on a dataset, how it is judged, and how much of it. All faults are reported at once."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Context, Decimal
from difflib import get_close_matches
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

from langchain_finops.errors import BadData, EvalError, Fault
from langchain_finops.evals.advised import read_overrides
from langchain_finops.evals.judge_prompts import read_judge
from langchain_finops.evals.langsmith import PREFIX
from langchain_finops.evals.matrix import Configuration, expand
from langchain_finops.evals.scorers import IGNORABLE, Judge, Scorer, ScorerType
from langchain_finops.evals.structured import MATCHES, METRICS, Match, Metric
from langchain_finops.evals.suite_values import (
    IGNORABLE_BY,
    SCORER_OPTIONS,
    SCORER_TYPES,
    read_count,
    read_flag,
    read_ignore,
    read_name,
    read_not_negative,
    read_one_of,
    read_pattern,
    read_positive,
    read_positive_share,
    read_schema,
    read_scorer_type,
    read_seconds,
    read_share,
    read_spec,
    read_text,
)
from langchain_finops.evals.target import EXPECTED as TARGET
from langchain_finops.evals.target import Target, read_target
from langchain_finops.evals.yaml_files import read_yaml

if TYPE_CHECKING:
    from langchain_finops.budgets.policy import Budget
    from langchain_finops.pricing.cards import Card

__all__ = ["Human", "Limits", "Suite", "load_suite", "suite_beside"]

FIELDS = (
    *("target", "scorer", "scorers", "configurations", "matrix", "repeats", "baseline", "recording"),
    *("cards", "limits", "tries", "concurrency", "max_usd", "human", "value_usd", "failure_usd", "margin"),
    "advice",
)
QUOTIENT = Context(prec=28)
"""A quotient has no exact decimal: 28 digits are more than any reader or program needs."""
HUMAN = ("usd_per_hour", "tasks_per_hour", "success_rate", "handoff_minutes")
YAML_ENDINGS = (".yaml", ".yml")
T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What ends an attempt early. An attempt that a limit stopped is no success, and its cost counts."""

    seconds: float | None = None
    """Of each try. A coroutine is cancelled; a target in a thread is stopped at its next call or node."""
    recursion_limit: int | None = None
    """LangGraph's own: supersteps of the graph."""
    usd: Decimal | None = None
    """List cost; a call whose price is not known is refused."""
    steps: int | None = None
    """Node executions at any depth."""
    llm_calls: int | None = None
    tool_calls: int | None = None
    tokens: int | None = None

    def budgets(self) -> tuple["Budget", ...]:
        """What an attempt's handler refuses by: one budget for each limit, so that a stop says which it was."""
        from langchain_finops.budgets.policy import Budget

        units = ("usd", "steps", "llm_calls", "tool_calls", "tokens")
        given = {unit: getattr(self, unit) for unit in units}
        return tuple(
            Budget(**{unit: amount}, name=f"limits.{unit}", warn_at=())
            for unit, amount in given.items()
            if amount is not None
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Human:
    """A person who does the same tasks: what configurations are compared with."""

    usd_per_hour: Decimal
    tasks_per_hour: Decimal
    success_rate: Decimal = Decimal(1)
    """Above 0: the share of tasks that a person gets right."""
    handoff_minutes: Decimal | None = None
    """Of a person for each attempt that is handed off; None: as long as a task takes, 60 / `tasks_per_hour`."""

    @property
    def usd_per_success(self) -> Decimal:
        """What a success costs when a person does the task: a person's failures are paid too."""
        return QUOTIENT.divide(self.usd_per_hour, self.tasks_per_hour * self.success_rate)

    @property
    def minutes_per_handoff(self) -> Decimal:
        """How long a person takes for what the agent hands off."""
        if self.handoff_minutes is not None:
            return self.handoff_minutes
        return QUOTIENT.divide(Decimal(60), self.tasks_per_hour)


@dataclass(frozen=True, slots=True, kw_only=True)
class Suite:
    """What is run on a dataset."""

    path: Path
    target: Target
    scorers: tuple[Scorer, ...]
    configurations: tuple[Configuration, ...]
    repeats: int = 1
    baseline: str | None = None
    """The configuration that others are compared with."""
    recording: Path | None = None
    cards: Mapping[str, tuple["Card", ...]] = field(default_factory=dict)
    """Named card sets: the first prices the run unless another one is chosen."""
    limits: Limits = Limits()
    tries: int = 3
    """How often a slot is tried where the infrastructure fails."""
    concurrency: int = 8
    """Attempts at once."""
    max_usd: Decimal | None = None
    """List cost at which no further attempt of a run begins."""
    human: Human | None = None
    value_usd: Decimal | None = None
    """What a success is worth."""
    failure_usd: Decimal | None = None
    """What it costs to mend a failure."""
    margin: Decimal | None = None
    """How much worse than the baseline is still as good, as a share."""
    advice: Mapping[str, Mapping[str, object]] = field(default_factory=dict)
    """By kind of finding: the parameters that an advice of `finops advise` sets."""
    tested: Mapping[str, Any] | None = None
    """The advice that the second of two configurations is made of, as `run.json` keeps it."""


def suite_beside(dataset: Path) -> Path:
    """The suite that goes with a dataset: the YAML file of the same stem beside it.

    A dataset that is YAML itself has it in `STEM.suite.yaml`.
    """
    if str(dataset).startswith(PREFIX):
        raise EvalError(f"{dataset} is on LangSmith, where no suite lies beside it: pass --suite FILE")
    own = dataset.suffix.lower() in YAML_ENDINGS
    for ending in (".suite.yaml", ".suite.yml") if own else YAML_ENDINGS:
        if (path := dataset.with_suffix(ending)).is_file():
            return path
    if own and dataset.is_file() and isinstance(said := read_yaml(dataset, "dataset"), dict) and "target" in said:
        raise EvalError(f"{dataset} is a suite, and no dataset: pass the dataset, and the suite by --suite")
    name = dataset.with_suffix(".suite.yaml" if own else ".yaml").name
    raise EvalError(f"{dataset} has no suite: write {name} beside it, or pass --suite FILE")


def load_suite(path: Path) -> Suite:
    """Read a suite file. Raises BadData with every fault, or EvalError where there is no such file."""
    data = read_yaml(path, "suite")
    if not isinstance(data, dict):
        raise BadData([Fault(where=str(path), what="a mapping with `target`, `scorer`, `configurations` is expected")])
    return _Reader(path).suite(data)


class _Reader:
    """Turns plain data into a Suite, and remembers every fault on the way."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.faults: list[Fault] = []

    def suite(self, data: Mapping[object, object]) -> Suite:
        self._known(data, FIELDS, "")
        configurations = self._configurations(data)
        recording = self._read(data, "recording", read_text, None)
        suite = Suite(
            path=self.path,
            target=self._target(data.get("target")),
            scorers=self._scorers(data),
            configurations=configurations,
            repeats=self._read(data, "repeats", read_count, 1),
            baseline=self._baseline(data, configurations),
            recording=None if recording is None else self.path.parent / recording,
            cards=self._cards(data.get("cards")),
            limits=self._limits(data.get("limits")),
            tries=self._read(data, "tries", read_count, 3),
            concurrency=self._read(data, "concurrency", read_count, 8),
            max_usd=self._read(data, "max_usd", read_positive, None),
            human=self._human(data.get("human")),
            value_usd=self._read(data, "value_usd", read_not_negative, None),
            failure_usd=self._read(data, "failure_usd", read_not_negative, None),
            margin=self._read(data, "margin", read_not_negative, None),
            advice=self._advice(data.get("advice")),
        )
        if self.faults:
            raise BadData(self.faults)
        return suite

    def _fault(self, where: str, what: str) -> None:
        self.faults.append(Fault(where=f"{self.path}: {where}" if where else str(self.path), what=what))

    def _known(self, data: Mapping[object, object], names: Sequence[str], where: str) -> None:
        for name in data:
            if name not in names:
                near = get_close_matches(str(name), names, n=1)
                remedy = f"{near[0]!r} is meant?" if near else f"known are {', '.join(names)}"
                self._fault(f"{where}{name}", f"is not known: {remedy}")

    def _read(
        self, data: Mapping[object, object], name: str, read: Callable[[object], T], default: T, where: str = ""
    ) -> T:
        """One field, or its default where it is not there or wrong."""
        if name not in data or data[name] is None:
            return default
        try:
            return read(data[name])
        except ValueError as error:
            self._fault(f"{where}{name}", str(error))
            return default

    def _required(self, data: Mapping[object, object], name: str, read: Callable[[object], str], where: str) -> str:
        if data.get(name) is None:
            self._fault(f"{where}{name}", f"is missing: {EXPECTED[name]}")
            return ""
        return self._read(data, name, read, "", where)

    def _target(self, value: object) -> Target:
        if value is None:
            self._fault("target", f"is missing: {TARGET}")
            return Target(spec="")
        return read_target(value, lambda name, what: self._fault(f"target{name}", what))

    def _baseline(self, data: Mapping[object, object], configurations: Sequence[Configuration]) -> str | None:
        baseline = self._read(data, "baseline", read_text, None)
        names = dict.fromkeys(configuration.name for configuration in configurations if configuration.name)
        if baseline is not None and baseline not in names:
            self._fault("baseline", f"{baseline!r} is no configuration: those are {', '.join(names)}")
        return baseline

    def _configurations(self, data: Mapping[object, object]) -> tuple[Configuration, ...]:
        entries = data.get("configurations")
        found: list[Configuration] = []
        if entries is not None and not (isinstance(entries, list) and entries):
            self._fault("configurations", "a list of mappings with a `name` and parameters is expected")
        elif entries is not None:
            found += [self._configuration(entry, f"configurations[{i}]") for i, entry in enumerate(entries)]
        if (matrix := data.get("matrix")) is not None:
            found += self._matrix(matrix)
        elif entries is None:
            self._fault("configurations", "is missing: a list of mappings with a `name` and parameters")
        names = [configuration.name for configuration in found if configuration.name]
        for name in sorted({name for name in names if names.count(name) > 1}):
            self._fault("configurations", f"the name {name!r} stands there twice")
        return tuple(found)

    def _configuration(self, entry: object, where: str) -> Configuration:
        if not isinstance(entry, dict):
            self._fault(where, f"{entry!r} found: a mapping with a `name` and parameters is expected")
            return Configuration(name="")
        name = self._required(entry, "name", read_name, f"{where}.")
        parameters = {key: value for key, value in entry.items() if key != "name"}
        self._plain(parameters, where)
        return Configuration(name=name, parameters=parameters)

    def _matrix(self, matrix: object) -> list[Configuration]:
        axes = matrix if isinstance(matrix, dict) else {}
        if not axes or not all(isinstance(values, list) and values for values in axes.values()):
            self._fault("matrix", "a mapping of parameters to lists of values is expected, such as `model: [a, b]`")
            return []
        if "name" in axes:
            self._fault("matrix.name", "names are made from the values: leave it out")
        self._plain(axes, "matrix")
        return expand({str(name): values for name, values in axes.items()})

    def _plain(self, value: object, where: str) -> None:
        """Parameters must mean the same after a crash: keys are texts, and dates are written in quotes."""
        if isinstance(value, dict):
            for key, entry in value.items():
                if not isinstance(key, str):
                    self._fault(f"{where}.{key}", "a parameter's name is a text: write it in quotes")
                self._plain(entry, f"{where}.{key}")
        elif isinstance(value, list):
            for index, entry in enumerate(value):
                self._plain(entry, f"{where}[{index}]")
        elif isinstance(value, date | datetime | bytes | set):
            self._fault(where, f"{value!r} is not plain data: write it in quotes")

    def _advice(self, data: object) -> dict[str, dict[str, object]]:
        if data is None:
            return {}
        self._plain(data, "advice")
        return read_overrides(data, lambda name, what: self._fault(f"advice{name}", what))

    def _scorers(self, data: Mapping[object, object]) -> tuple[Scorer, ...]:
        one, many = data.get("scorer"), data.get("scorers")
        if one is not None and many is not None:
            self._fault("scorer", "stands beside `scorers`: keep one of them")
        if one is not None:
            return tuple(filter(None, [self._scorer(one, "scorer")]))
        if many is None:
            self._fault("scorer", f"is missing: {EXPECTED['type']}")
            return ()
        if not isinstance(many, list) or not many:
            self._fault("scorers", "a list of scorers is expected")
            return ()
        scorers = [self._scorer(entry, f"scorers[{index}]") for index, entry in enumerate(many)]
        found = tuple(scorer for scorer in scorers if scorer is not None)
        names = [scorer.name for scorer in found]
        for name in sorted({name for name in names if names.count(name) > 1}):
            self._fault("scorers", f"the name {name!r} stands there twice: give one of them another `name`")
        return found

    def _scorer(self, entry: object, where: str) -> Scorer | None:
        if isinstance(entry, str):
            entry = {"type": entry}
        if not isinstance(entry, dict):
            self._fault(where, f"{entry!r} found: {EXPECTED['type']}")
            return None
        where += "."
        kind = self._required(entry, "type", read_scorer_type, where)
        if not kind:
            return None
        self._known(entry, ("type", "name", *SCORER_OPTIONS[kind]), where)
        if kind == "python":
            self._required(entry, "function", read_spec, where)
        judge = self._judge(entry, kind, where) if "judge" in kind else None
        return Scorer(
            name=self._read(entry, "name", read_name, kind, where),
            type=cast("ScorerType", kind),
            answer_field=self._read(entry, "answer_field", read_text, None, where),
            expected_field=self._read(entry, "expected_field", read_text, None, where),
            ignore=self._read(
                entry, "ignore", partial(read_ignore, known=IGNORABLE_BY.get(kind, IGNORABLE)), (), where
            ),
            pattern=self._read(entry, "pattern", read_pattern, None, where),
            tolerance=self._read(entry, "tolerance", read_not_negative, Decimal(0), where),
            relative_tolerance=self._read(entry, "relative_tolerance", read_not_negative, Decimal(0), where),
            function=self._read(entry, "function", read_spec, None, where) if kind == "python" or judge else None,
            threshold=self._read(entry, "threshold", read_share, 1.0, where),
            schema=self._read(entry, "schema", read_schema, None, where),
            metric=cast("Metric", self._read(entry, "metric", partial(read_one_of, known=METRICS), "f1", where)),
            separator=self._read(entry, "separator", read_text, ",", where),
            match=cast("Match", self._read(entry, "match", partial(read_one_of, known=MATCHES), "strict", where)),
            arguments=self._read(entry, "arguments", read_flag, default=True, where=where),
            judge=judge,
        )

    def _judge(self, entry: Mapping[object, object], kind: str, where: str) -> Judge:
        judge, faults = read_judge(entry, kind, self.path.parent)
        for name, what in faults:
            self._fault(f"{where}{name}", what)
        return judge

    def _limits(self, data: object) -> Limits:
        if data is None:
            return Limits()
        if not isinstance(data, dict):
            self._fault("limits", "a mapping is expected, such as `seconds: 60`")
            return Limits()
        counts = ("recursion_limit", "steps", "llm_calls", "tool_calls", "tokens")
        self._known(data, ("seconds", "usd", *counts), "limits.")
        return Limits(
            seconds=self._read(data, "seconds", read_seconds, None, "limits."),
            usd=self._read(data, "usd", read_positive, None, "limits."),
            **{name: self._read(data, name, read_count, None, "limits.") for name in counts},
        )

    def _human(self, data: object) -> Human | None:
        if data is None:
            return None
        if not isinstance(data, dict):
            self._fault("human", f"{data!r} found: {EXPECTED['human']}")
            return None
        self._known(data, HUMAN, "human.")
        usd_per_hour, tasks_per_hour = (
            self._required_amount(data, name, "human.") for name in ("usd_per_hour", "tasks_per_hour")
        )
        return Human(
            usd_per_hour=usd_per_hour,
            tasks_per_hour=tasks_per_hour,
            success_rate=self._read(data, "success_rate", read_positive_share, Decimal(1), "human."),
            handoff_minutes=self._read(data, "handoff_minutes", read_not_negative, None, "human."),
        )

    def _required_amount(self, data: Mapping[object, object], name: str, where: str) -> Decimal:
        if data.get(name) is None:
            self._fault(f"{where}{name}", f"is missing: {EXPECTED[name]}")
        return self._read(data, name, read_positive, Decimal(1), where)

    def _cards(self, data: object) -> dict[str, tuple["Card", ...]]:
        if data is None:
            return {}
        if not isinstance(data, dict):
            self._fault("cards", "a mapping of names to lists of price cards is expected")
            return {}
        from langchain_finops.pricing import parse_cards

        cards: dict[str, tuple[Card, ...]] = {}
        for name, entries in data.items():
            try:
                cards[read_name(name)] = parse_cards(entries, where=f"{self.path}: cards.{name}")
            except BadData as error:
                self.faults += error.faults
            except ValueError as error:
                self._fault(f"cards.{name}", str(error))
        return cards


EXPECTED: Mapping[str, str] = {
    "name": "a text that tells it apart",
    "human": "a mapping is expected, such as `{usd_per_hour: 45, tasks_per_hour: 12, success_rate: 0.95}`",
    "usd_per_hour": "what a person's hour costs, in dollars",
    "tasks_per_hour": "how many of these tasks a person does in an hour",
    "type": SCORER_TYPES,
    "function": "`module:function` of a function of an answer and an item's outputs",
}
