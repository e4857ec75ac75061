"""Compares data: JSON with JSON, data with a schema, sets with sets, tool calls with tool calls. Pure functions."""

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any, Literal, NoReturn, get_args

from langchain_finops.errors import MissingExtra

__all__ = [
    "MATCHES",
    "METRICS",
    "Match",
    "Metric",
    "ToolCall",
    "entries",
    "json_difference",
    "overlap",
    "parsed",
    "schema_fault",
    "schema_violation",
    "tool_calls",
    "tool_mismatch",
    "wanted_calls",
]

Metric = Literal["f1", "precision", "recall", "jaccard"]
METRICS: tuple[Metric, ...] = get_args(Metric)
Match = Literal["strict", "unordered", "subset", "superset"]
MATCHES: tuple[Match, ...] = get_args(Match)
ToolCall = tuple[str, Mapping[str, object] | None]
"""A tool's name and its arguments; None: whatever they are."""

FENCED = re.compile(r"\s*```(?:json)?[ \t]*\n(.*)\n[ \t]*```\s*", re.DOTALL | re.IGNORECASE)


def parsed(value: object) -> object:
    """Data as it stands; a text as the JSON that it is, alone or in one fenced block. Raises ValueError otherwise."""
    if not isinstance(value, str):
        return value
    fenced = FENCED.fullmatch(value)
    try:
        return json.loads(
            fenced[1] if fenced else value,
            parse_float=Decimal,
            parse_constant=_no_constant,
            object_pairs_hook=_no_repeated_keys,
        )
    except RecursionError as error:
        raise ValueError("nested too deep") from error


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _no_repeated_keys(pairs: list[tuple[str, object]]) -> dict[str, object]:
    if len(dict(pairs)) < len(pairs):
        raise ValueError("a field stands there twice")
    return dict(pairs)


def json_difference(
    value: object, expected: object, near: Callable[[Decimal, Decimal], bool], at: str = ""
) -> str | None:
    """Where two values first differ, as a sentence; None where they are equal.

    Numbers are equal where `near` says so; 1 and 1.0 are, 1 and true are not. The order of fields does not matter,
    that of lists does.
    """
    here = f"at {at}" if at else "at the top"
    if isinstance(expected, Mapping) and isinstance(value, Mapping):
        if missing := sorted(map(str, expected.keys() - value.keys())):
            return f"{here}: {missing[0]!r} is missing"
        if more := sorted(map(str, value.keys() - expected.keys())):
            return f"{here}: {more[0]!r} is not expected"
        steps: Iterable[tuple[object, object, object]] = ((key, value[key], expected[key]) for key in expected)
    elif isinstance(expected, list) and isinstance(value, list):
        if len(value) != len(expected):
            return f"{here}: {len(value)} entries, {len(expected)} expected"
        steps = ((index, *both) for index, both in enumerate(zip(value, expected, strict=True)))
    else:
        one, other = _decimal(value), _decimal(expected)
        if one is None or other is None:
            same = type(value) is type(expected) and value == expected
        else:
            same = one == other or near(one, other)
        return None if same else f"{here}: differs"
    for step, mine, theirs in steps:
        if found := json_difference(mine, theirs, near, f"{at}.{step}" if at else str(step)):
            return found
    return None


def _decimal(value: object) -> Decimal | None:
    """A finite number; booleans are none."""
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal):
        return None
    number = value if isinstance(value, Decimal) else Decimal(repr(value))
    return number if number.is_finite() else None


def schema_fault(schema: object) -> str | None:
    """What is wrong with a JSON schema itself; None where it can be used."""
    if not isinstance(schema, Mapping | bool):
        return "a JSON schema is an object"
    jsonschema = _jsonschema()
    try:
        jsonschema.validators.validator_for(schema, default=jsonschema.Draft202012Validator).check_schema(schema)
    except jsonschema.SchemaError as error:
        return f"no JSON schema: {error.message}"
    return None


def schema_violation(value: object, schema: object) -> str | None:
    """How a value breaks a schema; None where it does not. Raises ValueError where the schema refers to another one
    that is not in it: none is fetched."""
    jsonschema = _jsonschema()
    from referencing import Registry
    from referencing.exceptions import Unresolvable

    kind = jsonschema.validators.validator_for(schema, default=jsonschema.Draft202012Validator)
    # With a registry of its own it fetches nothing: by default a schema makes it ask the network.
    validator = kind(schema, registry=Registry(), format_checker=kind.FORMAT_CHECKER)
    try:
        found = jsonschema.exceptions.best_match(validator.iter_errors(_floats(value)))
    except Unresolvable as error:
        raise ValueError(f"the schema refers to what is not in it: {error}") from error
    return None if found is None else f"at {found.json_path}: breaks {found.validator!r}"


def _floats(value: object) -> object:
    """With floats for exact decimals, which JSON schema does not know."""
    if isinstance(value, Mapping):
        return {key: _floats(held) for key, held in value.items()}
    if isinstance(value, list):
        return [_floats(held) for held in value]
    return float(value) if isinstance(value, Decimal) else value


def _jsonschema() -> Any:
    try:
        import jsonschema  # type: ignore[import-untyped]  # It has no types of its own.
    except ImportError as error:
        raise MissingExtra("a json_schema scorer", "eval") from error
    return jsonschema


def entries(value: object, separator: str) -> list[object]:
    """A list's entries; of a text those of the JSON list that it holds, else what stands between separators."""
    if isinstance(value, str):
        try:
            data = parsed(value)
        except ValueError:
            data = None
        value = data if isinstance(data, list) else [part.strip() for part in value.split(separator) if part.strip()]
    return value if isinstance(value, list) else [value]


def overlap(said: set[str], wanted: set[str], metric: Metric) -> float:
    """How far two sets agree, from 0 to 1. Two empty ones agree; of nothing wanted everything is recalled."""
    both = len(said & wanted)
    if not said and not wanted:
        return 1.0
    match metric:
        case "precision":
            return both / len(said) if said else 0.0
        case "recall":
            return both / len(wanted) if wanted else 1.0
        case "jaccard":
            return both / len(said | wanted)
        case "f1":  # 2 P R / (P + R), in one division: rounded once, so that 0.8 is the 0.8 of a threshold.
            return 2 * both / (len(said) + len(wanted))


def tool_calls(value: object) -> list[ToolCall] | None:
    """The tool calls of messages, or of a list of calls, in their order; None where there are neither."""
    if isinstance(value, Mapping):
        value = value.get("messages")
    if not isinstance(value, list) or not all(isinstance(entry, Mapping) for entry in value):
        return None
    found: list[ToolCall] = []
    for entry in value:
        if {"content", "tool_calls"} & entry.keys():
            calls = [_call(call) for call in entry.get("tool_calls") or ()]
        else:
            calls = [_call(entry)]
        if None in calls:
            return None
        found += [call for call in calls if call is not None]
    return found


def wanted_calls(reference: object) -> list[ToolCall] | None:
    """A reference's calls: each a tool's name, or an object with `name` and perhaps `args`. None for anything else."""
    if not isinstance(reference, list):
        return None
    calls = [(entry, None) if isinstance(entry, str) else _call(entry) for entry in reference]
    return None if None in calls else [call for call in calls if call is not None]


def _call(entry: object) -> ToolCall | None:
    """A call in LangChain's shape, or in OpenAI's."""
    if not isinstance(entry, Mapping):
        return None
    entry = entry.get("function", entry)
    if not isinstance(entry, Mapping):
        return None
    name, arguments = entry.get("name"), entry.get("args", entry.get("arguments"))
    if isinstance(arguments, str):
        try:
            arguments = parsed(arguments)
        except ValueError:
            return None
    if not isinstance(name, str) or not isinstance(arguments, Mapping | None):
        return None
    return name, arguments


def tool_mismatch(made: Sequence[ToolCall], wanted: Sequence[ToolCall], match: Match, *, arguments: bool) -> str | None:
    """How the calls made differ from those wanted; None where they match. Of a call wanted twice two are.

    `strict`: the same calls in the same order. `unordered`: in any order. `subset`: none that is not wanted.
    `superset`: at least those that are wanted.
    """
    if not arguments:
        made, wanted = [(name, None) for name, _ in made], [(name, None) for name, _ in wanted]
    if match == "strict":
        for number, (one, other) in enumerate(zip(made, wanted, strict=False), start=1):
            if not _same(one, other):
                return f"call {number} is of {one[0]!r}, {_told(other)} is wanted"
        if len(made) != len(wanted):
            return f"{len(made)} calls, {len(wanted)} wanted"
        return None
    left, missing = list(made), []
    # Those that want certain arguments first: one that takes any would else take the call that another one needs.
    for call in sorted(wanted, key=lambda call: call[1] is None):
        fitting = next((index for index, one in enumerate(left) if _same(one, call)), None)
        if fitting is None:
            missing.append(call)
        else:
            del left[fitting]
    if missing and match != "subset":
        return f"no call of {_told(missing[0])}"
    if left and match != "superset":
        return f"a call of {left[0][0]!r} is not wanted"
    return None


def _same(made: ToolCall, wanted: ToolCall) -> bool:
    if made[0] != wanted[0]:
        return False
    return wanted[1] is None or json_difference(made[1] or {}, wanted[1], lambda one, other: one == other) is None


def _told(call: ToolCall) -> str:
    return repr(call[0]) if call[1] is None else f"{call[0]!r} with its arguments"
