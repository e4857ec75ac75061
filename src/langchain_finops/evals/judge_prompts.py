"""What a judge is asked: openevals' prompts, a file beside the suite or a text of one's own, filled in for an item."""

import json
import re
from collections.abc import Mapping
from difflib import get_close_matches
from importlib.util import find_spec
from pathlib import Path
from string import Formatter

from langchain_finops.errors import Fault, MissingExtra
from langchain_finops.evals.dataset import Dataset, Item, content_hash
from langchain_finops.evals.scorers import Judge, Judgement, Scorer, as_text, found_answer, reference_of

__all__ = ["filled_in", "need_openevals", "prompt_faults", "prompt_hash", "read_judge"]

DEFAULT_PROMPTS: Mapping[str, str] = {
    "judge": "CORRECTNESS_PROMPT",
    "trajectory_judge": "TRAJECTORY_ACCURACY_PROMPT",
}
NAME = re.compile(r"[A-Z][A-Z0-9_]*_PROMPT[A-Z0-9_]*")
GIVEN = ("inputs", "outputs", "reference_outputs")
"""Fields of a prompt that are made from the whole item and its answer."""
ROLES = {"human": "user", "ai": "assistant"}


def need_openevals() -> None:
    """Raise MissingExtra where nobody can judge."""
    if find_spec("openevals") is None:
        raise MissingExtra("a judge", "judge")


def _read_prompt(value: object, folder: Path) -> str:
    """A prompt's text. Raises ValueError saying what is wrong with it."""
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"{value!r} found: a text with {{outputs}}, a file, or a name of openevals' prompts")
    if NAME.fullmatch(value):
        text = _named(value)
    elif "{" in value or "\n" in value:
        text = value
    else:
        try:
            text = (folder / value).read_text("utf-8-sig")
        except (OSError, UnicodeDecodeError) as error:
            what = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
            raise ValueError(f"{folder / value} cannot be read: {what}; a text has {{outputs}} in it") from error
    if "outputs" not in _fields(text):
        raise ValueError("there is no {outputs} in it, so that no answer would be shown to the judge")
    return text


def read_judge(entry: Mapping[object, object], kind: str, folder: Path) -> tuple[Judge, list[tuple[str, str]]]:
    """The judge of a scorer as a suite defines it, and what is wrong with it, by field.

    `threshold` asks for a score from 0 to 1 in place of true or false.
    """
    faults: list[tuple[str, str]] = []
    prompt = ""
    try:
        prompt = _read_prompt(entry.get("prompt") or DEFAULT_PROMPTS[kind], folder)
    except ValueError as error:
        faults.append(("prompt", str(error)))
    model, function = entry.get("model"), entry.get("function")
    if (model is None) == (function is None):
        said = "is missing" if model is None else "stands beside `function`: keep one of them"
        faults.append(("model", f"{said}: a judge's `model`, such as openai:gpt-5-mini, or a `function` that makes it"))
    named = {"model": model} if isinstance(model, str) else model
    if named is not None and not (isinstance(named, dict) and isinstance(named.get("model"), str)):
        faults.append(("model", f"{model!r} found: `provider:name`, or a mapping with that as `model` and parameters"))
        named = None
    reasoning = entry.get("reasoning")
    if reasoning is not None and not isinstance(reasoning, bool):
        faults.append(("reasoning", f"{reasoning!r} found: true or false is expected"))
    continuous = entry.get("threshold") is not None
    return Judge(prompt=prompt, model=named, continuous=continuous, reasoning=reasoning is not False), faults


def _named(name: str) -> str:
    need_openevals()
    from openevals import prompts

    text = getattr(prompts, name, None)
    if not isinstance(text, str):
        near = get_close_matches(name, [each for each in dir(prompts) if NAME.fullmatch(each)], n=1)
        remedy = f": {near[0]} is meant?" if near else ""
        raise ValueError(f"openevals has no prompt {name}{remedy}")  # noqa: TRY004  A fault of the file.
    return text


def _fields(prompt: str) -> frozenset[str]:
    """The names in braces. Raises ValueError for braces that name nothing; a brace itself is written twice."""
    try:
        fields = {name for _, name, _, _ in Formatter().parse(prompt) if name is not None}
    except ValueError as error:
        raise ValueError(f"{error}: a brace that is none of a field's is written twice") from error
    if odd := sorted(name for name in fields if not name.isidentifier()):
        raise ValueError(f"{{{odd[0]}}} names no field: a brace that is none of a field's is written twice")
    return frozenset(fields)


def prompt_hash(judge: Judge) -> str:
    """Of the prompt before it is filled in, and of how the score is asked for."""
    return content_hash([judge.prompt, judge.continuous, judge.reasoning])


def prompt_faults(scorer: Scorer, dataset: Dataset) -> list[Fault]:
    """Every item that the scorer's prompt cannot be filled in for: found before anything is bought."""
    assert scorer.judge is not None, "only judges have prompts"
    faults: list[Fault] = []
    for item in dataset.items:
        for name in sorted(_fields(scorer.judge.prompt) - {"inputs", "outputs"}):
            if _value(name, scorer, item) is None:
                what = f"scorer {scorer.name!r} asks its judge about {{{name}}}, which this item does not say"
                faults.append(Fault(where=f"{dataset.path}:{item.line}", what=what))
    return faults


def filled_in(scorer: Scorer, answer: object, item: Item) -> dict[str, str] | Judgement:
    """What the prompt's fields stand for; a Judgement where there is nothing to ask about."""
    assert scorer.judge is not None, "only judges have prompts"
    value = found_answer(scorer, answer, item)
    if isinstance(value, Judgement):
        return value
    if scorer.type == "trajectory_judge":
        told = _trajectory(value)
        if told is None:
            why = "the answer has no messages for the judge to read: `answer_field` says where they are"
            return Judgement(success=None, reason=why)
        value = told
    values = {name: _value(name, scorer, item) for name in _fields(scorer.judge.prompt) - {"outputs"}}
    return {name: as_text(held) for name, held in values.items() if held is not None} | {"outputs": as_text(value)}


def _value(name: str, scorer: Scorer, item: Item) -> object:
    """What a field stands for; None where the item does not say. The only field of a mapping stands for itself."""
    if name == "inputs":
        return _alone(item.inputs)
    if name == "reference_outputs":
        return reference_of(scorer, item) if scorer.expected_field else _alone(item.outputs) or None
    for held in (item.inputs, item.outputs, item.metadata):
        if held.get(name) is not None:
            return held[name]
    return None


def _alone(held: Mapping[str, object]) -> object:
    return next(iter(held.values())) if len(held) == 1 else dict(held)


def _trajectory(answer: object) -> str | None:
    """The messages of an answer, a paragraph each, tool calls with their arguments; None where there are none."""
    messages = answer.get("messages") if isinstance(answer, Mapping) else answer
    if not isinstance(messages, list) or not messages:
        return None
    if not all(isinstance(each, Mapping) and {"type", "role"} & each.keys() for each in messages):
        return None
    return "\n\n".join(map(_message, messages))


def _message(message: Mapping[str, object]) -> str:
    role = str(message.get("role") or message.get("type"))
    lines = [f"{ROLES.get(role, role)}: {as_text(message.get('content') or '')}".rstrip()]
    calls = message.get("tool_calls")
    for call in calls if isinstance(calls, list) else []:
        function = call.get("function", call)
        arguments = function.get("args", function.get("arguments"))
        told = arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False, sort_keys=True)
        lines.append(f"calls {function.get('name')}({told})")
    return "\n".join(lines)
