"""Says whether an answer is right, by its text, its numbers, its data, its tool calls, or a function of the user's.

What asks a model, `judging` does.
"""

import asyncio
import inspect
import json
import re
import string
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from decimal import Decimal, InvalidOperation
from typing import Literal

from langchain_finops.errors import Fault
from langchain_finops.evals.dataset import Dataset, Item, content_hash
from langchain_finops.evals.one_loop import Loop, result_of
from langchain_finops.evals.patterns import LIMIT_S, search
from langchain_finops.evals.structured import (
    Match,
    Metric,
    entries,
    json_difference,
    overlap,
    parsed,
    schema_fault,
    schema_violation,
    tool_calls,
    tool_mismatch,
    wanted_calls,
)

__all__ = [
    "IGNORABLE",
    "Function",
    "Judge",
    "Judgement",
    "Scorer",
    "ScorerType",
    "as_text",
    "decide",
    "found_answer",
    "judge",
    "reference_faults",
    "reference_of",
]

ScorerType = Literal[
    "exact",
    "contains",
    "regex",
    "numeric",
    "json",
    "json_schema",
    "set",
    "trajectory",
    "python",
    "judge",
    "trajectory_judge",
]
Function = Callable[..., object]

IGNORABLE = ("case", "whitespace", "punctuation")
"""What a scorer can be told not to mind."""

# The last number of a text is its answer; a sign that follows a letter or a digit is a dash, not a minus.
NUMBER = re.compile(r"(?:(?<!\w)[-+])?(?:(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?|\.\d+)(?:[eE][-+]?\d+)?", re.ASCII)
LANGSMITH_NAMES = frozenset({"inputs", "outputs", "reference_outputs", "metadata"})
"""Parameters of LangSmith's evaluators: a function with `inputs` or `reference_outputs` is called by these names."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """What a scorer says of one answer."""

    success: bool | None
    """None where it cannot be told, which is not the same as wrong."""
    score: float | None = None
    """Between 0 and 1."""
    reason: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Judge:
    """A model that judges, and what it is asked."""

    prompt: str
    """With `{inputs}`, `{outputs}`, `{reference_outputs}`, or a field of the item's in braces."""
    model: Mapping[str, object] | None = None
    """What `init_chat_model` is given, its `model` first. None: the scorer's `function` makes it."""
    continuous: bool = False
    """Asked for a score from 0 to 1 instead of true or false."""
    reasoning: bool = True
    """Asked to give its reasons before its score."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scorer:
    """A scorer as the suite defines it."""

    name: str
    type: ScorerType
    answer_field: str | None = None
    """Where the answer stands in what the target returns, dotted for nested fields. None: found by itself."""
    expected_field: str | None = None
    """Where the reference stands in an item's `outputs`. None: its only field."""
    ignore: tuple[str, ...] = ()
    """Some of `IGNORABLE`."""
    pattern: str | None = None
    """`regex`: searched for in the answer. None: the reference is the pattern."""
    tolerance: Decimal = Decimal(0)
    """`numeric`, `json`: how far off a number may be, inclusive."""
    relative_tolerance: Decimal = Decimal(0)
    """`numeric`, `json`: the same as a share of the reference; the wider of the two counts."""
    function: str | None = None
    """`python`: `module:function`. Judges: the same, of a function that returns the chat model."""
    threshold: float = 1.0
    """`python`, `set`, judges: the score from which an answer is a success."""
    schema: Mapping[str, object] | None = None
    """`json_schema`: what the answer must keep to. None: the reference is the schema."""
    metric: Metric = "f1"
    """`set`: what the score is."""
    separator: str = ","
    """`set`: what stands between the entries of a text."""
    match: Match = "strict"
    """`trajectory`: how the tool calls made must match those wanted."""
    arguments: bool = True
    """`trajectory`: whether arguments count where the reference tells them."""
    judge: Judge | None = None
    """Judges: whom they ask, and what."""

    def hash(self, function_fingerprint: str = "") -> str:
        """Decides whether a stored verdict is still this scorer's."""
        fields = {name: value for name, value in asdict(self).items() if name not in LATER or value != LATER[name]}
        return content_hash([fields, function_fingerprint])


LATER = {
    name: Scorer.__dataclass_fields__[name].default
    for name in ("schema", "metric", "separator", "match", "arguments", "judge")
}
"""Options that scorers did not have at first, with their defaults: those leave a stored verdict's hash as it was."""


def decide(successes: Iterable[bool | None]) -> bool | None:
    """What several scorers say together: a failure if any says so, else unknown if any cannot tell, else a success."""
    said = list(successes)
    if any(success is False for success in said):
        return False
    return True if said and all(said) else None


def judge(
    scorer: Scorer, answer: object, item: Item, function: Function | None = None, loop: Loop | None = None
) -> Judgement:
    """Judge an answer, as plain data, against its item. A function of the user's that raises cannot tell.

    A coroutine function runs on `loop`, which another thread runs: a client that it shares with the target belongs to
    that one. Without it on a loop of its own; call this then in a thread that has none running.
    """
    if scorer.type == "python":
        assert function is not None, "the suite resolves the functions of its python scorers"
        return _ask(function, scorer, answer, item, loop)
    value = found_answer(scorer, answer, item)
    if isinstance(value, Judgement):
        return value
    said = CHECKS[scorer.type](scorer, value, reference_of(scorer, item))
    if isinstance(said, Judgement):
        return said
    success, reason = said
    return Judgement(success=success, score=float(success), reason=reason)


def found_answer(scorer: Scorer, answer: object, item: Item) -> object:
    """The answer in what the target returned; a Judgement where there is none, which is wrong whoever judges."""
    found, value = _find(answer, scorer, item)
    if not found:
        return Judgement(success=False, score=0.0, reason=f"the answer has no field {scorer.answer_field!r}")
    return Judgement(success=False, score=0.0, reason="the answer is empty") if value is None else value


def reference_faults(scorer: Scorer, dataset: Dataset) -> list[Fault]:
    """Every item whose `outputs` this scorer cannot compare with: found before anything is bought."""
    if scorer.type == "python" or scorer.judge or scorer.pattern is not None or scorer.schema is not None:
        return []
    faults: list[Fault] = []
    for item in dataset.items:
        where = f"{dataset.path}:{item.line}: outputs"
        if scorer.expected_field is None and len(item.outputs) != 1:
            what = f"has {len(item.outputs)} fields: scorer {scorer.name!r} needs `expected_field` to know which one"
            faults.append(Fault(where=where, what=what))
            continue
        field = scorer.expected_field or next(iter(item.outputs))
        expected = reference_of(scorer, item)
        if expected is None:
            faults.append(Fault(where=f"{where}.{field}", what=f"is missing: scorer {scorer.name!r} compares with it"))
        elif wrong := _unusable(scorer, expected):
            faults.append(Fault(where=f"{where}.{field}", what=f"{expected!r} found: {wrong}"))
    return faults


def _unusable(scorer: Scorer, expected: object) -> str | None:  # noqa: PLR0911  A table of types.
    if scorer.type == "numeric" and _number(expected) is None:
        return f"scorer {scorer.name!r} needs a number"
    if scorer.type == "regex":
        if not isinstance(expected, str):
            return f"scorer {scorer.name!r} needs a pattern"
        try:
            re.compile(expected)
        except re.error as error:
            return f"no regular expression: {error}"
    if scorer.type == "contains" and not all(_texts(expected)):
        return "an empty text is contained in every answer"
    if scorer.type == "json":
        try:
            parsed(expected)
        except ValueError as error:
            return f"scorer {scorer.name!r} needs data, or a text of JSON: {error}"
    if scorer.type == "json_schema":
        return schema_fault(expected)
    if scorer.type == "trajectory" and wanted_calls(expected) is None:
        return f"scorer {scorer.name!r} needs a list of tools' names, or of objects with `name` and `args`"
    return None


def reference_of(scorer: Scorer, item: Item) -> object:
    """The reference, or None where the item has none."""
    if scorer.expected_field is not None:
        return _dig(item.outputs, scorer.expected_field)[1]
    return next(iter(item.outputs.values()), None)


def _find(answer: object, scorer: Scorer, item: Item) -> tuple[bool, object]:
    """Where in what the target returned its answer is: the field named, or the reference's, or the last message."""
    if scorer.answer_field is not None:
        return _dig(answer, scorer.answer_field)
    if scorer.type in TRAJECTORIES or not isinstance(answer, Mapping):
        return True, answer
    field = scorer.expected_field or (next(iter(item.outputs)) if len(item.outputs) == 1 else None)
    if field is not None and (found := _dig(answer, field))[0]:
        return found
    said = _said(answer)
    return True, answer if said is None and scorer.type in DATA else said


def _said(answer: Mapping[str, object]) -> object:
    """The text of a message, of the last message of a state, or a mapping's only value; else None."""
    messages = answer.get("messages")
    if isinstance(messages, list) and messages and isinstance(messages[-1], Mapping):
        answer = messages[-1]
    if {"type", "content"} <= answer.keys():
        return answer["content"]
    return next(iter(answer.values())) if len(answer) == 1 else None


def _dig(value: object, path: str) -> tuple[bool, object]:
    """A dotted path into mappings and lists; a field whose own name has the dots comes first."""
    if isinstance(value, Mapping) and path in value:
        return True, value[path]
    for step in path.split("."):
        if isinstance(value, Mapping) and step in value:
            value = value[step]
        elif isinstance(value, list) and re.fullmatch(r"-?\d+", step) and -len(value) <= int(step) < len(value):
            value = value[int(step)]
        else:
            return False, None
    return True, value


def as_text(value: object) -> str:
    """A value as text: a message's content blocks as the text they hold, other data as JSON."""
    if isinstance(value, str):
        return value
    if isinstance(value, list) and _is_content(value):
        return "".join(str(block.get("text", "")) for block in value)
    return json.dumps(value, ensure_ascii=False, sort_keys=True)


def _is_content(value: object) -> bool:
    return (
        isinstance(value, list) and bool(value) and all(isinstance(each, Mapping) and "type" in each for each in value)
    )


def _texts(expected: object) -> list[str]:
    return [as_text(entry) for entry in expected] if isinstance(expected, list) else [as_text(expected)]


def _normalised(text: str, ignore: Sequence[str]) -> str:
    if "case" in ignore:
        text = text.casefold()
    if "punctuation" in ignore:
        text = text.translate(str.maketrans("", "", string.punctuation))
    if "whitespace" in ignore:
        text = " ".join(text.split())
    return text


def _number(value: object) -> Decimal | None:
    """A number, or the last one in a text. `1,234.50` has a thousands separator."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int | float):
        number = Decimal(repr(value))
        return number if number.is_finite() else None
    found = NUMBER.findall(as_text(value).replace("\N{MINUS SIGN}", "-"))
    try:
        return Decimal(found[-1].replace(",", "")) if found else None
    except InvalidOperation:
        return None


def _exact(scorer: Scorer, value: object, expected: object) -> tuple[bool, str | None]:
    same = _normalised(as_text(value), scorer.ignore) == _normalised(as_text(expected), scorer.ignore)
    return same, None if same else "differs"


def _contains(scorer: Scorer, value: object, expected: object) -> tuple[bool, str | None]:
    text = _normalised(as_text(value), scorer.ignore)
    missing = [entry for entry in _texts(expected) if _normalised(entry, scorer.ignore) not in text]
    return not missing, f"{len(missing)} missing" if missing else None


def _regex(scorer: Scorer, value: object, expected: object) -> tuple[bool, str | None] | Judgement:
    pattern = scorer.pattern if scorer.pattern is not None else str(expected)
    flags = re.IGNORECASE if "case" in scorer.ignore else re.NOFLAG
    found = search(pattern, int(flags), as_text(value))
    if found is None:
        return Judgement(success=None, reason=f"the pattern took longer than {LIMIT_S:g} s")
    return found, None if found else "no match"


def _numeric(scorer: Scorer, value: object, expected: object) -> tuple[bool, str | None]:
    number, target = _number(value), _number(expected)
    assert target is not None, "reference_faults lets no such item through"
    if number is None:
        return False, "no number in the answer"
    near = abs(number - target) <= max(scorer.tolerance, scorer.relative_tolerance * abs(target))
    return near, None if near else f"off by {abs(number - target)}"


def _json(scorer: Scorer, value: object, expected: object) -> tuple[bool, str | None]:
    def near(number: Decimal, target: Decimal) -> bool:
        return abs(number - target) <= max(scorer.tolerance, scorer.relative_tolerance * abs(target))

    try:
        data = parsed(_data(value))
    except ValueError as error:
        return False, f"the answer is no JSON: {error}"
    differs = json_difference(data, parsed(expected), near)
    return differs is None, differs


def _json_schema(scorer: Scorer, value: object, expected: object) -> tuple[bool, str | None] | Judgement:
    try:
        data = parsed(_data(value))
    except ValueError as error:
        return False, f"the answer is no JSON: {error}"
    try:
        broken = schema_violation(data, expected if scorer.schema is None else scorer.schema)
    except ValueError as error:
        return Judgement(success=None, reason=str(error))
    return broken is None, broken


def _set(scorer: Scorer, value: object, expected: object) -> Judgement:
    said, wanted = (
        {_normalised(as_text(entry), scorer.ignore) for entry in entries(_data(both), scorer.separator)}
        for both in (value, expected)
    )
    score = overlap(said, wanted, scorer.metric)
    missing, more = len(wanted - said), len(said - wanted)
    reason = f"{missing} missing, {more} not expected" if missing or more else None
    return Judgement(success=score >= scorer.threshold, score=score, reason=reason)


def _trajectory(scorer: Scorer, value: object, expected: object) -> tuple[bool, str | None] | Judgement:
    made, wanted = tool_calls(value), wanted_calls(expected)
    assert wanted is not None, "reference_faults lets no such item through"
    if made is None:
        reason = "the answer has no messages to read tool calls from: `answer_field` says where they are"
        return Judgement(success=None, reason=reason)
    differs = tool_mismatch(made, wanted, scorer.match, arguments=scorer.arguments)
    return differs is None, differs


def _data(value: object) -> object:
    """Content blocks of a message as their text; anything else as it stands."""
    return as_text(value) if _is_content(value) else value


DATA = frozenset({"json", "json_schema", "set", "judge"})
"""Scorers that look at a whole mapping where no field of it is the answer."""
TRAJECTORIES = frozenset({"trajectory", "trajectory_judge"})
"""Scorers that look at all messages."""
CHECKS: Mapping[str, Callable[[Scorer, object, object], tuple[bool, str | None] | Judgement]] = {
    "exact": _exact,
    "contains": _contains,
    "regex": _regex,
    "numeric": _numeric,
    "json": _json,
    "json_schema": _json_schema,
    "set": _set,
    "trajectory": _trajectory,
}


def _ask(function: Function, scorer: Scorer, answer: object, item: Item, loop: Loop | None) -> Judgement:
    """Call a function of the user's, by LangSmith's names or as (answer, outputs)."""
    try:
        names = inspect.signature(function).parameters
        if names.keys() & {"inputs", "reference_outputs"} and names.keys() <= LANGSMITH_NAMES:
            given = {
                "inputs": item.inputs,
                "outputs": answer if isinstance(answer, Mapping) else {"output": answer},
                "reference_outputs": item.outputs,
                "metadata": item.metadata,
            }
            said = function(**{name: given[name] for name in names})
        else:
            said = function(answer) if len(names) == 1 else function(answer, item.outputs)
        if inspect.isawaitable(said):
            said = result_of(said, loop)
    except (Exception, SystemExit, asyncio.CancelledError) as error:  # noqa: BLE001  A scorer that breaks cannot tell; the answer was paid for and stays.
        return Judgement(success=None, reason=f"the scorer raised {type(error).__name__}: {error}")
    return _read(said, scorer.threshold)


def _read(said: object, threshold: float) -> Judgement:
    """What a function may return: success, a score, None, or LangSmith's mapping with `score` and `comment`."""
    if isinstance(said, Mapping):
        reason = said.get("reason", said.get("comment"))
        judged = _read(said.get("success", said.get("score")), threshold)
        score = said.get("score")
        if isinstance(score, int | float) and judged.score is not None and 0 <= score <= 1:
            judged = Judgement(success=judged.success, score=float(score), reason=judged.reason)
        return Judgement(
            success=judged.success, score=judged.score, reason=judged.reason if reason is None else str(reason)
        )
    if said is None:
        return Judgement(success=None, reason="the scorer could not tell")
    if isinstance(said, bool):
        return Judgement(success=said, score=float(said))
    if isinstance(said, int | float) and 0 <= said <= 1:
        return Judgement(success=said >= threshold, score=float(said))
    return Judgement(success=None, reason=f"the scorer returned {said!r}: true, false, null or 0 to 1 is expected")
