"""What people said of answers: each label is of one stored answer, so that a judge can be held to it.

`labels.jsonl` in the results folder keeps them, with a hash of the answer that they are of: an answer that was bought
anew has none. A dataset's own labels are of answers that its items hold themselves, such as those of a set that is
made to test a judge; of what an agent answers today an item of yesterday cannot tell.
"""

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from langchain_finops.errors import BadData, EvalError, Fault
from langchain_finops.evals.dataset import Dataset, content_hash
from langchain_finops.evals.results import AttemptResult, last_tries, replace_file
from langchain_finops.evals.resume import Results
from langchain_finops.evals.scorers import Scorer, as_text, found_answer
from langchain_finops.reports.render import Column, Table
from langchain_finops.reports.stats.agreement import Agreement, agreement

__all__ = [
    "LABELS",
    "Label",
    "agreement_table",
    "agreements",
    "agreements_in_words",
    "keep_labels",
    "labels_of_items",
    "read_labels",
    "stored_labels",
]

LABELS = "labels.jsonl"
NEEDED = ("configuration", "task", "scorer", "success")
KNOWN = (*NEEDED, "repeat", "answer", "answer_hash")
TEXTS = ("configuration", "task", "scorer", "answer_hash")
AGREEMENT = (
    *("scorer", "configuration", "model", "labelled", "untold", "tasks", "agreed", "agreement"),
    *("kappa", "kappa_low", "kappa_high"),
    *("both_right", "both_wrong", "only_scorer_right", "only_human_right"),
)
Key = tuple[str, str, int, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Label:
    """What a person said of one answer, in a scorer's stead."""

    configuration: str
    task: str
    repeat: int
    scorer: str
    success: bool
    answer_hash: str
    """Of the answer that the person saw."""

    @property
    def key(self) -> Key:
        """Whose answer it is of, and in which scorer's stead."""
        return self.configuration, self.task, self.repeat, self.scorer


def read_labels(path: Path, results: Results) -> list[Label]:
    """Read labels of stored answers. Raises BadData with every line that is none, EvalError where there is no file.

    A line is an object with `configuration`, `task`, `repeat` (0 if it is left out), `scorer` and `success`; with
    `answer`, the line is of that answer alone.
    """
    try:
        lines = path.read_text("utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise EvalError(f"labels {path} cannot be read: {getattr(error, 'strerror', None) or error}") from error
    answers = {slot: last for slot, last in last_tries(results.attempts).items() if last.status == "completed"}
    scorers = {entry["name"] for entry in results.run["scorers"]}
    labels: dict[Key, Label] = {}
    faults: list[Fault] = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            label = _label(json.loads(line), answers, scorers)
        except (TypeError, ValueError) as error:
            faults.append(Fault(where=f"{path}:{number}", what=str(error)))
            continue
        if labels.setdefault(label.key, label).success != label.success:
            faults.append(Fault(where=f"{path}:{number}", what="says the opposite of a line above: keep one of them"))
    if faults:
        raise BadData(faults)
    return list(labels.values())


def _label(data: object, answers: Mapping[tuple[str, str, int], AttemptResult], scorers: Iterable[str]) -> Label:
    """Raises ValueError saying what is wrong."""
    if not isinstance(data, dict):
        raise ValueError("an object is expected, with configuration, task, repeat, scorer and success")  # noqa: TRY004
    if missing := [name for name in NEEDED if data.get(name) is None]:
        raise ValueError(f"{', '.join(missing)} missing")
    if unknown := sorted(data.keys() - set(KNOWN)):
        raise ValueError(f"{', '.join(unknown)} not known: known are {', '.join(KNOWN)}")
    repeat = data.get("repeat", 0)
    slot = data["configuration"], data["task"], repeat
    odd = [
        f"{name} is {data[name]!r}: a text is expected" for name in TEXTS if not isinstance(data.get(name), str | None)
    ]
    if type(repeat) is not int:  # true would be taken for repeat 1, and 1.0 too.
        odd.append(f"repeat is {repeat!r}: a whole number is expected, from 0 on")
    if not isinstance(data["success"], bool):
        odd.append(f"success is {data['success']!r}: true or false is expected")
    if odd:
        raise ValueError("; ".join(odd))
    if data["scorer"] not in scorers:
        raise ValueError(f"scorer {data['scorer']!r} is none of the run's: those are {', '.join(sorted(scorers))}")
    if (last := answers.get(slot)) is None:
        raise ValueError(f"there is no answer of configuration {slot[0]!r}, task {slot[1]!r}, repeat {repeat!r}")
    given: str | None = content_hash(data["answer"]) if "answer" in data else data.get("answer_hash")
    return Label(
        configuration=slot[0],
        task=slot[1],
        repeat=repeat,
        scorer=data["scorer"],
        success=data["success"],
        answer_hash=content_hash(last.answer) if given is None else given,
    )


def labels_of_items(dataset: Dataset, scorers: Sequence[Scorer], results: Results) -> list[Label]:
    """The labels of a dataset's items that are of answers which the items hold themselves, in their inputs."""
    items, by_name = {item.id: item for item in dataset.items if item.labels}, {each.name: each for each in scorers}
    labels: list[Label] = []
    for (configuration, task, repeat), last in last_tries(results.attempts).items():
        if task not in items or last.status != "completed":
            continue
        item = items[task]
        held = {as_text(value) for value in item.inputs.values()}
        for name, said in item.labels.items():
            if name in by_name and as_text(found_answer(by_name[name], last.answer, item)) in held:
                success = said if isinstance(said, bool) else said >= by_name[name].threshold
                of: dict[str, Any] = {"configuration": configuration, "task": task, "repeat": repeat, "scorer": name}
                labels.append(Label(**of, success=success, answer_hash=content_hash(last.answer)))
    return labels


def keep_labels(folder: Path, labels: Iterable[Label]) -> None:
    """Add labels to those of a results folder; a newer one takes the place of an older one of the same answer."""
    kept = {label.key: label for label in [*stored_labels(folder), *labels]}
    if kept:
        lines = [json.dumps(asdict(label)).encode() + b"\n" for label in kept.values()]
        replace_file(folder / LABELS, b"".join(lines))


def stored_labels(folder: Path) -> list[Label]:
    """The labels that a results folder keeps. Raises EvalError where they cannot be read."""
    path = folder / LABELS
    try:
        lines = path.read_bytes().splitlines()
    except FileNotFoundError:
        return []
    try:
        return [Label(**json.loads(line)) for line in lines]
    except (TypeError, ValueError) as error:
        raise EvalError(
            f"{path} cannot be read: {error}; take it away, and give its labels again by --labels"
        ) from error


def agreements(results: Results, *, level: float = 0.95) -> list[dict[str, Any]]:
    """How far each scorer agrees with people, over all configurations and in each, where labels are of its answers."""
    answers = {slot: content_hash(last.answer) for slot, last in last_tries(results.attempts).items()}
    said = {(*each.slot, each.scorer): each for each in results.verdicts}
    pairs: defaultdict[tuple[str, str | None], list[tuple[str, bool, bool]]] = defaultdict(list)
    untold: defaultdict[tuple[str, str | None], int] = defaultdict(int)
    for label in stored_labels(results.folder):
        verdict = said.get(label.key)
        if verdict is None or answers.get(label.key[:3]) != label.answer_hash:
            continue
        for of in ((label.scorer, None), (label.scorer, label.configuration)):
            if verdict.success is None:
                untold[of] += 1
            else:
                pairs[of].append((label.task, label.success, verdict.success))
    keys = sorted({*pairs, *untold}, key=lambda of: (of[0], of[1] is not None, of[1] or ""))
    models = {each.scorer: each.model for each in results.verdicts if each.model}
    return [_row(*of, agreement(pairs[of], level=level), untold[of], models.get(of[0])) for of in keys]


def _row(
    scorer: str, configuration: str | None, found: Agreement | None, untold: int, model: str | None
) -> dict[str, Any]:
    interval = found.interval if found else None
    return {
        "scorer": scorer,
        "configuration": configuration,
        "model": model,
        "labelled": found.labelled if found else 0,
        "untold": untold,
        "tasks": found.tasks if found else 0,
        "agreed": found.agreed if found else 0,
        "agreement": found.rate if found else None,
        "kappa": found.kappa if found else None,
        "kappa_low": interval.low if interval else None,
        "kappa_high": interval.high if interval else None,
        "both_right": found.both_right if found else 0,
        "both_wrong": found.both_wrong if found else 0,
        "only_scorer_right": found.only_judge_right if found else 0,
        "only_human_right": found.only_human_right if found else 0,
    }


def agreements_in_words(results: Results) -> list[str]:
    """A sentence for each scorer that people checked."""
    return [_sentence(row) for row in agreements(results) if row["configuration"] is None]


def _sentence(row: Mapping[str, Any]) -> str:
    untold = f"; it could not tell of {row['untold']} more" if row["untold"] else ""
    if not row["labelled"]:
        return f"{row['scorer']} could not tell of any of the {row['untold']} answers that people judged"
    share = f"{row['agreed']} of {row['labelled']} answers that people judged ({row['agreement']:.0%})"
    kappa = "no kappa: both said the same of all" if row["kappa"] is None else f"kappa {row['kappa']:.2f}"
    if row["kappa_low"] is not None:
        kappa += f" [{row['kappa_low']:.2f}, {row['kappa_high']:.2f}]"
    elif row["kappa"] is not None:
        kappa += f", no interval from {row['tasks']} tasks"
    return f"{row['scorer']} agrees with people on {share}, {kappa}{untold}"


def agreement_table(results: Results) -> Table:
    """A row for each scorer that people checked, and for each configuration of it."""
    columns = (
        Column(title="scorer", text=lambda row: str(row["scorer"]), name=True),
        Column(title="configuration", text=lambda row: str(row["configuration"] or "all"), name=True),
        Column(title="agreed", text=lambda row: f"{row['agreed']}/{row['labelled']}"),
        Column(title="kappa", text=_kappa),
        Column(title="only scorer", text=lambda row: str(row["only_scorer_right"])),
        Column(title="only people", text=lambda row: str(row["only_human_right"])),
        Column(title="untold", text=lambda row: str(row["untold"])),
    )
    rows = agreements(results)
    notes = [
        "kappa: agreement beyond chance, 1 perfect, 0 as by chance; 95% intervals by task, from 10 tasks on",
        "only scorer, only people: answers that the one found right and the other wrong; untold: it could not tell",
    ]
    if not rows:
        notes = [f"no labels of the answers in {results.folder}: give them by `finops-eval score --labels FILE`"]
    return Table(rows=rows, fields=AGREEMENT, columns=columns, notes=notes)


def _kappa(row: Mapping[str, Any]) -> str:
    if row["kappa"] is None:
        return "-"
    interval = "" if row["kappa_low"] is None else f" [{row['kappa_low']:.2f}, {row['kappa_high']:.2f}]"
    return f"{row['kappa']:.2f}{interval}"
