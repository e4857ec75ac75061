"""The rules of a gate: `METRIC OP NUMBER` or `METRIC not_worse_than baseline by MARGIN`, each with its place.

All that is wrong with all rules is told at once.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from difflib import get_close_matches
from pathlib import Path
from typing import Literal

from langchain_finops.errors import BadData, EvalError, Fault

__all__ = ["METRICS", "Kind", "Operator", "Rule", "read_rules"]

Operator = Literal["<=", "<", ">=", ">", "=="]
Kind = Literal["cost", "rate", "count", "amount", "seconds"]
"""`cost` and `rate` are estimates, judged by their interval's bound; `seconds` too. The others are facts of the run."""

METRICS: Mapping[str, Kind] = {
    "cost_per_success": "cost",
    "expected_cost": "cost",
    "success_rate": "rate",
    "total_cost": "amount",
    "judge_cost": "amount",
    "overhead_cost": "amount",
    "latency_p50": "seconds",
    "latency_p95": "seconds",
    **dict.fromkeys(("unpriced", "unpriced_charges", "unknown_costs", "estimated", "unscored"), "count"),
    **dict.fromkeys(("errors", "stopped", "handed_off"), "count"),
}
ALIASES: Mapping[str, str] = {
    **{f"{name}_usd": name for name, kind in METRICS.items() if kind in ("cost", "amount")},
    **{f"{name}_s": name for name, kind in METRICS.items() if kind == "seconds"},
    **{f"{name}_calls": name for name in ("unpriced", "estimated")},
    "unjudged": "unscored",
}
"""The names that the table has in JSON mean the same."""

_RULE = re.compile(
    r"(?P<metric>[A-Za-z]\w*)\s*(?:(?P<operator><=|>=|==|<|>|!=|=)\s*(?P<limit>\S+)"
    r"|\s(?P<words>not_worse_than)(?:\s+(?P<other>\S+))?(?:\s+by\s+(?P<margin>\S+))?)"
    r"(?:\s+for\s+(?P<configuration>\S.*))?"
)
SHAPE = (
    "`METRIC <= NUMBER` or `METRIC not_worse_than baseline by MARGIN` is expected, with ` for CONFIGURATION` behind it "
    "where it does not hold for all"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One rule, as it was written and as it is meant."""

    text: str
    where: str
    """File and line, or the place among several given as text."""
    metric: str
    operator: Operator | None = None
    limit: Decimal | None = None
    """None where the baseline is the limit."""
    margin: Decimal | None = None
    """How much worse than the baseline is no worse: a share of its cost per success, or points of the rate."""
    configuration: str | None = None
    """None: every configuration."""

    @property
    def kind(self) -> Kind:
        """What the metric is: an estimate with an interval, or a fact of the run."""
        return METRICS[self.metric]


def read_rules(sources: str | Path | Sequence[str | Path]) -> tuple[Rule, ...]:
    """Read rules: files with a rule a line or a YAML list of them (`#` begins a comment), and rules given as text.

    Raises BadData with every fault, or EvalError for a file that is not there.
    """
    given = [sources] if isinstance(sources, str | Path) else list(sources)
    rules: list[Rule] = []
    faults: list[Fault] = []
    for number, source in enumerate(given, start=1):
        place = "rule" if len(given) == 1 else f"rule {number}"
        before = len(rules) + len(faults)
        for where, text in _lines(source, place):
            found = _rule(text, where)
            if isinstance(found, Rule):
                rules.append(found)
            else:
                faults += found
        if len(rules) + len(faults) == before:
            faults.append(Fault(where=str(source) or place, what=f"has no rule: {SHAPE}"))
    if not given:
        faults.append(Fault(where="rules", what=f"there are none: {SHAPE}"))
    if faults:
        raise BadData(faults)
    return tuple(rules)


def _lines(source: str | Path, place: str) -> Iterator[tuple[str, str]]:
    """Each rule with its place. A text that looks like a rule is one, whatever files there are."""
    if isinstance(source, str) and (re.search(r"[<>=]|\bnot_worse_than\b", source) or not source.strip()):
        if source.strip():
            yield place, source.strip()
        return
    try:
        text = Path(source).read_text("utf-8-sig")
    except OSError as error:
        raise EvalError(f"rules {str(source)!r} cannot be read: {error.strerror}; nor is it a rule: {SHAPE}") from error
    except UnicodeDecodeError as error:
        raise BadData([Fault(where=str(source), what=f"byte {error.start + 1} is not UTF-8")]) from error
    for number, line in enumerate(text.splitlines(), start=1):
        # A configuration's name may have a # in it: a comment begins a line or stands behind white space.
        rule = re.split(r"(?:^|\s)#", line, maxsplit=1)[0].strip()
        # As a list in YAML, which the suite beside it is in.
        rule = "" if rule == "rules:" else re.sub(r"^- +", "", rule)
        if quoted := re.fullmatch(r"""(["'])(.*)\1""", rule):
            rule = quoted[2]
        if rule:
            yield f"{source}:{number}", rule


def _rule(text: str, where: str) -> Rule | list[Fault]:
    """The rule, or everything that is wrong with it."""
    match = _RULE.fullmatch(text)
    if match is None:
        return [Fault(where=where, what=f"{text!r} is no rule: {SHAPE}")]
    faults = [Fault(where=where, what=what) for what in _what_is_wrong(match)]
    if faults:
        return faults
    metric = ALIASES.get(match["metric"], match["metric"])
    operator: Operator | None = match["operator"]  # type: ignore[assignment]  # As _what_is_wrong checked.
    return Rule(
        text=text,
        where=where,
        metric=metric,
        operator=operator,
        limit=_number(match["limit"]) if operator else None,
        margin=None if operator else _number(match["margin"]),
        configuration=match["configuration"],
    )


def _what_is_wrong(match: re.Match[str]) -> Iterator[str]:
    metric = ALIASES.get(match["metric"], match["metric"])
    kind = METRICS.get(metric)
    if kind is None:
        near = get_close_matches(metric, METRICS, n=1, cutoff=0.6)
        meant = f"{near[0]!r} is meant?" if near else f"choose one of {', '.join(sorted(METRICS))}"
        yield f"{match['metric']!r} is no metric: {meant}"
    estimate = kind in ("cost", "rate")
    if match["words"]:
        if kind is not None and not estimate:
            yield f"{metric} has no baseline to be compared with: cost_per_success, expected_cost and success_rate have"
        if match["other"] != "baseline":
            yield (
                f"not_worse_than {match['other'] or ''}".rstrip() + ": `not_worse_than baseline by MARGIN` is expected"
            )
        elif match["margin"] is None:
            yield "`by MARGIN` is missing: such as `by 0.02`"
        else:
            yield from _bad_number(match["margin"], "margin", kind)
        return
    if match["operator"] in ("=", "!="):
        yield f"{match['operator']!r} is no comparison: choose one of <=, <, >=, >, =="
    if match["operator"] == "==" and kind is not None and kind != "count":
        yield f"{metric} is never exactly a number: use <= or >="
    yield from _bad_number(match["limit"], "limit", kind)


def _bad_number(text: str, what: str, kind: Kind | None) -> Iterator[str]:
    number = _number(text)
    if number is None:
        yield f"{what} {text!r} is not a number"
    elif number < 0:
        yield f"{what} {text} is negative"
    elif kind == "rate" and number > 1:
        yield f"{what} {text} of a rate lies between 0 and 1: {text.rstrip('%')}% is meant?"


def _number(text: str) -> Decimal | None:
    """0.05, $0.05, 80%, 1_000."""
    plain = text.removeprefix("$")
    try:
        number = Decimal(plain.removesuffix("%"))
    except InvalidOperation:
        return None
    if not number.is_finite():
        return None
    return number / 100 if plain.endswith("%") else number
