"""Turns an advice of `finops advise` into a configuration to test, and says whether what it promised is seen.

What a finding sets is in its row's `change`. A suite says under `advice` which of its parameters that is; where it says
nothing, another model takes the place of the one parameter that names the old one.
"""

import json
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from langchain_finops.errors import BadArguments, BadData, EvalError, Fault
from langchain_finops.evals.matrix import Configuration
from langchain_finops.evals.models import PROVIDERS, split_model
from langchain_finops.money import usd

if TYPE_CHECKING:
    from langchain_finops.evals.suite import Suite

__all__ = ["Advice", "advice_of", "read_advice_file", "read_overrides", "with_advice"]

Check = tuple[Callable[[Any], bool], str]
Overrides = Mapping[str, Mapping[str, object]]
"""By kind of finding: the parameters that it sets, with placeholders."""
PLACEHOLDER: Final = re.compile(r"\{([a-z_]+)\}")
WHERE: Final = ("agent", "node")
"""What any row may fill in, besides what its lever sets."""
SNAPSHOT: Final = re.compile(r"[-@](\d{4}-\d{2}-\d{2}|\d{8})")
"""What providers append to the name of a model that they were asked for."""
EXAMPLES: Final[Mapping[str, str]] = {
    **dict.fromkeys(("cheaper_model", "small_answers", "overhead"), '{model: "{model}"}'),
    **dict.fromkeys(("uncached_prefix", "unread_cache"), "{cache: true}"),
    "growing_context": "{prune: true}",
    "late_handoff": '{handoff_after: "{calls}"}',
    "long_answers": '{max_tokens: "{tokens}"}',
    "not_waited_for": '{sent_by: "{way}"}',
    "futile_retries": "{retries: 0}",
}
FIELDS: Final = (
    *("n", "kind", "agent", "node", "provider", "model", "usd_per_month", "saving_is", "share", "confidence"),
    "change",
)


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _is_name(value: object) -> bool:
    return value is None or isinstance(value, str)


def _is_count(value: object) -> bool:
    return type(value) is int and value >= 0


def _is_amount(value: Any) -> bool:
    if value is None:
        return True
    try:
        return usd(value) >= 0
    except ValueError:
        return False


def _is_share(value: Any) -> bool:
    return value is None or (type(value) in {int, float} and abs(value) < sys.float_info.max)


def _one_of(*words: str) -> Check:
    return lambda value: _is_text(value) and value in words, f"is none of {', '.join(words)}"


TYPES: Final[Mapping[str, Check]] = {
    "n": (_is_count, "is no whole number"),
    "kind": (_is_text, "is no text"),
    **dict.fromkeys(("agent", "node", "provider", "model"), (_is_name, "is neither a text nor null")),
    "usd_per_month": (_is_amount, 'is no amount of 0 or more, such as "12.50", and not null'),
    "saving_is": _one_of("known", "at_least", "at_most", "unknown"),
    "share": (_is_share, "is no number, such as 0.25, and not null"),
    "confidence": _one_of("high", "medium", "low"),
    "change": (lambda value: isinstance(value, dict), "is no mapping of what the lever sets"),
}
"""By field of a row: what it must be, and what to say of it where it is not."""
CHANGE_TYPES: Final[Mapping[str, Check]] = {
    **dict.fromkeys(("provider", "model"), (_is_name, "is neither a text nor null")),
    "way": (_is_text, "is no text"),
    **dict.fromkeys(("calls", "tokens"), (_is_count, "is no whole number of 0 or more")),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Advice:
    """A row of `finops advise`, as far as a test needs it."""

    n: int
    kind: str
    agent: str | None
    node: str | None
    provider: str | None
    model: str | None
    usd_per_month: Decimal | None
    """What it promises; None where that is unknown."""
    saving_is: str
    share: float | None
    """Of the cost of the ledger's period."""
    confidence: str
    change: Mapping[str, object]
    """What the lever sets, by the names in `advise.CHANGES`."""
    source: str
    """The ledger or the file that it is from."""


def read_overrides(data: object, fault: Callable[[str, str], None]) -> dict[str, dict[str, object]]:
    """What a suite says under `advice`; each fault is told by where it is and what is wrong."""
    if not isinstance(data, dict):
        fault("", "a mapping of findings to parameters is expected, such as `growing_context: {prune: true}`")
        return {}
    from langchain_finops.reports.advise import CHANGES  # With SQLAlchemy, which most suites do without.

    found: dict[str, dict[str, object]] = {}
    for kind, said in data.items():
        if kind not in CHANGES:
            fault(f".{kind}", f"is no finding of `finops advise`: those are {', '.join(CHANGES)}")
        elif not isinstance(said, dict) or not said or "name" in said:
            fault(f".{kind}", "parameters and their values are expected, and no `name`: it is made from the finding's")
        else:
            known = (*CHANGES[kind], *WHERE)
            for name in sorted({name for name in _placeholders(said) if name not in known}):
                fault(f".{kind}", f"{{{name}}} is nothing that this finding tells: it has {', '.join(known)}")
            found[kind] = said
    return found


def _placeholders(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield from PLACEHOLDER.findall(value)
    elif isinstance(value, Mapping):
        for each in value.values():
            yield from _placeholders(each)
    elif isinstance(value, list):
        for each in value:
            yield from _placeholders(each)


# --- which advice ----------------------------------------------------------------------------------------------------


def read_advice_file(path: Path) -> list[Any]:
    """The rows that `finops advise --format json` wrote. Raises EvalError for a file that cannot be read as such."""
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise EvalError(f"{path} cannot be read: {error.strerror}; write it with finops advise --format json") from None
    except ValueError:
        rows = None
    if not isinstance(rows, list):
        raise EvalError(f"{path} is not what finops advise --format json writes, a JSON array: write it anew")
    return rows


def advice_of(rows: Sequence[Any], n: int, source: str) -> Advice:
    """The advice with that number. Raises BadArguments where there is none, BadData, with all faults, for a row
    that tells too little or something else than `finops advise` writes.
    """
    from langchain_finops.reports.advise import CHANGES

    if not rows:
        raise BadArguments(f"--with-advice {n}: finops advise finds nothing in {source} that would be cheaper")
    row = next((row for row in rows if isinstance(row, dict) and type(row.get("n")) is int and row["n"] == n), None)
    if row is None:
        known = (
            "1 advice: --with-advice 1" if len(rows) == 1 else f"{len(rows)} advices: --with-advice 1 to {len(rows)}"
        )
        raise BadArguments(f"--with-advice {n}: {source} has {known}")
    anew = "write the file with this version's finops advise --format json"
    told = [(name, None if name in row else f"is missing: {anew}") for name in FIELDS]
    change = row["change"] if isinstance(row.get("change"), dict) else {}
    for where, values, types in (("", row, TYPES), ("change.", change, CHANGE_TYPES)):
        told += [
            (f"{where}{name}", f"{what}: {anew}")
            for name, (is_right, what) in types.items()
            if name in values and not is_right(values[name])
        ]
    faults = [Fault(where=f"{source}: advice {n}: {name}", what=what) for name, what in told if what is not None]
    if isinstance(row.get("kind"), str) and row["kind"] not in CHANGES:
        faults.append(Fault(where=f"{source}: advice {n}: kind", what=f"{row['kind']!r} is no finding that is known"))
    if faults:
        raise BadData(faults)
    named = {name: row[name] for name in FIELDS}
    promise = row["usd_per_month"]
    return Advice(**{**named, "usd_per_month": None if promise is None else usd(promise)}, source=source)


# --- what it changes -------------------------------------------------------------------------------------------------


def with_advice(suite: "Suite", advice: Advice, *, configuration: str | None = None) -> "Suite":
    """The suite that tests an advice: its baseline, or the named configuration, and the same as the advice has it.

    A configuration of the suite that has these very parameters is taken as it stands, its recording with it. Raises
    BadArguments, with the line to write into the suite, where nobody can tell what the advice changes.
    """
    by_name = {each.name: each for each in suite.configurations}
    if configuration is not None and configuration not in by_name:
        raise BadArguments(f"--advice-for {configuration!r} is no configuration: those are {', '.join(by_name)}")
    old = by_name[configuration or suite.baseline or suite.configurations[0].name]
    said = suite.advice.get(advice.kind)
    parameters = (
        _with_model(old, advice, suite.path)
        if said is None
        else _merged(old.parameters, {name: _filled(value, advice, suite.path) for name, value in said.items()})
    )
    changed = {
        name: [old.parameters.get(name), value]
        for name, value in parameters.items()
        if name not in old.parameters or old.parameters[name] != value
    }
    if not changed:
        raise BadArguments(f"advice {advice.n} ({advice.kind}) changes nothing: {old.name!r} has all that it sets")
    new = _named(suite, Configuration(name=f"{old.name}+{advice.kind}", parameters=parameters))
    told = {name: format(value, "f") if isinstance(value, Decimal) else value for name, value in asdict(advice).items()}
    tested = {**told, "baseline": old.name, "configuration": new.name, "changed": changed}
    return replace(suite, configurations=(old, new), baseline=old.name, tested=tested)


def _merged(old: Mapping[str, object], new: Mapping[str, Any]) -> dict[str, object]:
    """Both, the new values in the place of old ones; mappings are merged in depth, so that nothing else changes."""
    merged = dict(old)
    for name, value in new.items():
        before = old.get(name)
        if isinstance(before, Mapping) and isinstance(value, Mapping):
            merged[name] = _merged(before, value)
        else:
            merged[name] = value
    return merged


def _named(suite: "Suite", new: Configuration) -> Configuration:
    """The suite's own configuration with these parameters where it has one."""
    for each in suite.configurations:
        if each.parameters == new.parameters:
            return each
    if any(each.name == new.name for each in suite.configurations):
        raise BadArguments(f"{suite.path} has another configuration {new.name!r}: give it another name")
    return new


def _filled(value: object, advice: Advice, suite: Path) -> object:
    """A value with what the advice says in the place of placeholders; one that is nothing else keeps its type."""
    if isinstance(value, Mapping):
        return {name: _filled(each, advice, suite) for name, each in value.items()}
    if isinstance(value, list):
        return [_filled(each, advice, suite) for each in value]
    if not isinstance(value, str):
        return value
    told = {**{name: getattr(advice, name) for name in WHERE}, **advice.change}
    if missing := [name for name in PLACEHOLDER.findall(value) if told.get(name) is None]:
        raise BadArguments(
            f"{suite}: advice.{advice.kind} asks for {{{missing[0]}}}, which advice {advice.n} does not tell: write "
            "the value itself"
        )
    whole = PLACEHOLDER.fullmatch(value)
    return told[whole[1]] if whole else PLACEHOLDER.sub(lambda found: str(told[found[1]]), value)


def _with_model(old: Configuration, advice: Advice, suite: Path) -> dict[str, object]:
    """The parameters with the other model in the place of the one that the advice is about."""
    model = advice.change.get("model")
    if model is None or advice.model is None:
        raise _untold(advice, suite, "which parameters it sets, nobody can tell")
    found = [path for path, value in _texts(old.parameters) if _is_model(value, advice.model)]
    if len(found) != 1:
        how = "no parameter" if not found else f"more than one parameter ({', '.join(map('.'.join, found))})"
        raise _untold(advice, suite, f"{how} of {old.name!r} is {advice.model!r}")
    return _replaced(old.parameters, found[0], lambda value: _other(value, str(model), advice, suite))


def _texts(parameters: Mapping[str, object], above: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], str]]:
    for name, value in parameters.items():
        if isinstance(value, str):
            yield (*above, name), value
        elif isinstance(value, Mapping):
            yield from _texts(value, (*above, name))


def _is_model(value: str, model: str) -> bool:
    """Whether a value of a suite names the model that the ledger has calls of."""
    name = split_model(value)[1]
    return name == model or (model.startswith(name) and SNAPSHOT.fullmatch(model.removeprefix(name)) is not None)


def _replaced(parameters: Mapping[str, object], path: tuple[str, ...], make: Callable[[str], str]) -> dict[str, object]:
    name, *rest = path
    value: Any = parameters[name]
    return {**parameters, name: _replaced(value, tuple(rest), make) if rest else make(value)}


def _other(value: str, model: str, advice: Advice, suite: Path) -> str:
    """The other model as the suite writes models: with the provider before it, or without."""
    prefix = split_model(value)[0]
    provider = advice.change.get("provider")
    if provider == advice.provider:
        return model if prefix is None else f"{value.partition(':')[0]}:{model}"
    if prefix is None or provider not in PROVIDERS:
        raise _untold(advice, suite, f"{model!r} is of another provider, {provider}, than {advice.model!r}")
    return f"{provider}:{model}"


def _untold(advice: Advice, suite: Path, why: str) -> BadArguments:
    example = EXAMPLES.get(advice.kind, "{PARAMETER: VALUE}")
    return BadArguments(
        f"advice {advice.n} ({advice.kind}) has no configuration: {why}; write into {suite} what it sets, such as "
        f"`advice: {{{advice.kind}: {example}}}`"
    )
