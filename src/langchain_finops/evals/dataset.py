"""Reads a golden dataset: items in LangSmith's shape, from a file or from there. All faults are reported at once."""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import cast

from langchain_finops.errors import BadData, Fault
from langchain_finops.evals.dataset_files import Numbered, read_lines, read_records
from langchain_finops.evals.langsmith import PREFIX, dataset_name, fetch

__all__ = ["Dataset", "Item", "content_hash", "load_dataset"]

PARTS = ("inputs", "outputs")
OPTIONAL = ("metadata", "split", "turns", "answers", "labels")


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One task: what goes in, and what should come out."""

    id: str
    inputs: Mapping[str, object]
    """Handed to the target as it stands."""
    outputs: Mapping[str, object]
    """The reference that scorers compare with. The target never sees it."""
    metadata: Mapping[str, object] = field(default_factory=dict)
    split: str | None = None
    turns: tuple[Mapping[str, object], ...] = ()
    """Inputs that are given one after the other; none: `inputs` alone."""
    answers: tuple[object, ...] = ()
    """What a person would answer to what the target asks, in this order."""
    labels: Mapping[str, bool | float] = field(default_factory=dict)
    """What people said of an answer, by scorer."""
    line: int
    """Where it stands in the file, counted from 1."""

    @property
    def inputs_hash(self) -> str:
        """Decides whether a stored answer is still an answer to this item."""
        if self.turns or self.answers:
            return content_hash([self.inputs, self.turns, self.answers])
        return content_hash(self.inputs)

    @property
    def script(self) -> list[object]:
        """What else it says; empty where that is nothing, so that hashes of plain datasets stay as they are."""
        said = [list(self.turns), list(self.answers), dict(self.labels), self.split]
        return said if any(said) else []

    @property
    def hash(self) -> str:
        """Decides whether a stored verdict still holds."""
        return content_hash([self.inputs, self.outputs, self.metadata])


@dataclass(frozen=True, slots=True, kw_only=True)
class Dataset:
    """Items with distinct ids, in the order of the file."""

    path: Path
    items: tuple[Item, ...]

    @property
    def name(self) -> str:
        """The file's name without its ending; of a LangSmith dataset its name there."""
        if str(self.path).startswith(PREFIX):
            return dataset_name(str(self.path))[0].replace("/", "-")
        return self.path.stem

    @property
    def hash(self) -> str:
        """Of all items' content; independent of their order, of white space and of blank lines."""
        return content_hash(sorted([item.id, item.hash, *item.script] for item in self.items))


def content_hash(value: object) -> str:
    """SHA-256 of a value as canonical JSON: the same for the same content, whatever the order of its keys."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def load_dataset(path: Path | str) -> Dataset:
    """Read a file (JSON lines, CSV, YAML or Parquet, by its ending), or LangSmith's dataset for `langsmith:NAME`.

    The same content has the same hash, whatever it is written in.

    Raises BadData with every fault, or EvalError where there is no such file or dataset.
    """
    if str(path).startswith(PREFIX):
        fetched = fetch(str(path))
        return _read(Path(fetched.source), read_lines(json.dumps(each).encode() for each in fetched.records))
    path = Path(path)
    dataset = _read(path, read_records(path))
    if faults := list(_gaps(dataset)):
        raise BadData(faults)
    return dataset


def _read(path: Path, records: Iterable[Numbered]) -> Dataset:
    """The items of numbered records."""
    faults: list[Fault] = []
    items: list[Item] = []
    first_line: dict[str, int] = {}
    for number, record in records:
        found, item = _item(record, path, number)
        faults += found
        if item is None:
            continue
        if item.id in first_line:
            what = f"id {item.id!r} is that of line {first_line[item.id]} already: ids are distinct"
            faults.append(Fault(where=f"{path}:{number}: id", what=what))
        first_line.setdefault(item.id, number)
        items.append(item)
    if not items and not faults:
        faults.append(Fault(where=str(path), what='has no items: one is {"id": ..., "inputs": {}, "outputs": {}}'))
    if faults:
        raise BadData(faults)
    return Dataset(path=path, items=tuple(items))


def _gaps(dataset: Dataset) -> Iterator[Fault]:
    """Fields of inputs and outputs that most items have, and some lack: a misspelt name would be an empty question."""
    items = [item for item in dataset.items if not item.turns]
    counts = Counter((part, name) for item in items for part in PARTS for name in getattr(item, part))
    usual = {field_: count for field_, count in counts.items() if 2 * count > len(items)}
    for item in items:
        for (part, name), count in usual.items():
            if name not in getattr(item, part):
                what = f"is missing, and {count} of {len(items)} items have it: write null if that is meant"
                yield Fault(where=f"{dataset.path}:{item.line}: {part}.{name}", what=what)


def _item(record: dict[str, object] | ValueError, path: Path, number: int) -> tuple[list[Fault], Item | None]:
    """Everything that is wrong with one record, and its item if it can be told which one it is."""
    where = f"{path}:{number}"
    if isinstance(record, ValueError):
        return [Fault(where=where, what=str(record))], None
    faults = list(_faults(record, where))
    if not _is_id(record.get("id")):
        return faults, None
    if faults:  # The id is known all the same, so that a repeated one is reported along with the rest.
        return faults, Item(id=str(record["id"]), inputs={}, outputs={}, line=number)
    names = ("inputs", "outputs", "metadata", "split", "labels")
    fields_ = {name: record[name] for name in names if record.get(name) is not None}
    fields_ |= {name: tuple(cast("list[object]", record.get(name) or ())) for name in ("turns", "answers")}
    return faults, Item(id=str(record["id"]), line=number, **fields_)  # type: ignore[arg-type]  # As _faults checked.


def _faults(record: Mapping[str, object], where: str) -> Iterable[Fault]:
    if "id" not in record:
        yield Fault(where=f"{where}: id", what="is missing: a text that no other line has")
    elif not _is_id(record["id"]):
        yield Fault(where=f"{where}: id", what=f"{record['id']!r} found: a text that is not empty is expected")
    for name in PARTS:
        if name not in record:
            yield Fault(where=f"{where}: {name}", what="is missing: an object is expected")
        elif not isinstance(record[name], dict):
            yield Fault(where=f"{where}: {name}", what=f"{record[name]!r} found: an object is expected")
    metadata, split = record.get("metadata"), record.get("split")
    if metadata is not None and not isinstance(metadata, dict):
        yield Fault(where=f"{where}: metadata", what=f"{metadata!r} found: an object is expected")
    if split is not None and not isinstance(split, str):
        yield Fault(where=f"{where}: split", what=f"{split!r} found: a text is expected")
    yield from _script_faults(record, where)
    for name in record:
        # Other fields may stand there, as in LangSmith's exports; a slip of the pen must not drop an optional one.
        if name not in OPTIONAL and (near := get_close_matches(name, OPTIONAL, cutoff=0.8)):
            yield Fault(where=f"{where}: {name}", what=f"is no field: {near[0]!r} is meant?")


def _script_faults(record: Mapping[str, object], where: str) -> Iterable[Fault]:
    turns, answers, labels = record.get("turns"), record.get("answers"), record.get("labels")
    if turns is not None and not (isinstance(turns, list) and turns and all(isinstance(turn, dict) for turn in turns)):
        yield Fault(where=f"{where}: turns", what="a list of objects is expected, each of them a turn's inputs")
    if answers is not None and not isinstance(answers, list):
        yield Fault(where=f"{where}: answers", what="a list is expected: what a person answers, in this order")
    if labels is not None and not (isinstance(labels, dict) and all(map(_is_label, labels.values()))):
        yield Fault(where=f"{where}: labels", what="scorers' names and true, false or a score from 0 to 1 are expected")


def _is_label(value: object) -> bool:
    return isinstance(value, int | float) and 0 <= value <= 1


def _is_id(value: object) -> bool:
    return isinstance(value, str | int) and not isinstance(value, bool) and value != ""
