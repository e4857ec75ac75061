"""Which dataset a recording is of: a line of it names the items, so that no answer is played for another question."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from langchain_finops.errors import EvalError
from langchain_finops.evals.dataset import Dataset

__all__ = ["RecordedDataset", "check_configuration", "check_recorded"]

SHOWN = 5
"""More items than this are counted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedDataset:
    """The dataset that the calls after this line were recorded for."""

    name: str
    hash: str
    """Of all items' content, outputs and metadata too."""
    items: Mapping[str, str]
    """The hash of what each item hands to the target: other outputs leave what was recorded as good as it was."""

    @classmethod
    def of(cls, dataset: Dataset) -> "RecordedDataset":
        """As it stands."""
        items = {item.id: item.inputs_hash for item in dataset.items}
        return cls(name=dataset.name, hash=dataset.hash, items=items)

    @classmethod
    def read(cls, fields: Mapping[str, object]) -> "RecordedDataset":
        """From what a line holds. Raises KeyError, TypeError or AttributeError for anything else."""
        held = fields["items"]
        items = {str(name): str(value) for name, value in held.items()}  # type: ignore[attr-defined]
        return cls(name=str(fields["name"]), hash=str(fields["hash"]), items=items)

    def fields(self) -> dict[str, object]:
        """As a line of a recording tells it."""
        return {"name": self.name, "hash": self.hash, "items": dict(self.items)}


def check_recorded(path: Path, dataset: Dataset) -> None:
    """Raise EvalError where a recording was made for other versions of the items; one sentence names them all.

    Items that are as they were replay, whatever became of the others. A recording that names no dataset is taken as it
    is: what differs from it is told when it is asked for.
    """
    versions = _versions(path)
    if not versions:
        return
    known: dict[str, set[str]] = {}
    for version in versions:
        for name, of in version.items.items():
            known.setdefault(name, set()).add(of)
    wanted = dataset.items
    changed = [item.id for item in wanted if item.id in known and item.inputs_hash not in known[item.id]]
    new = [item.id for item in wanted if item.id not in known]
    if changed or new:
        found = [f"{_named(changed)} changed since"] if changed else []
        found += [f"{_named(new)} not in it"] if new else []
        raise EvalError(
            f"recording {path} was made for another version of the dataset {dataset.name}, {versions[-1].hash[:12]} "
            f"and not {dataset.hash[:12]}: {' and '.join(found)}; run with --record to buy what these need and keep "
            "the rest, or replay the dataset as it was"
        )


def check_configuration(path: Path, name: str) -> None:
    """Raise EvalError where a recording has nothing of a configuration that an advice makes."""
    try:
        with path.open("rb") as lines:
            is_there = any(json.loads(line).get("configuration") == name for line in lines)
    except (ValueError, AttributeError):
        return  # Where it is no recording, opening it says so, with the line.
    if not is_there:
        raise EvalError(
            f"recording {path} has nothing of {name!r}, which the advice makes: run with --record to buy it, or "
            "with --live"
        )


def _versions(path: Path) -> list[RecordedDataset]:
    """All that a recording names; none where calls come first that may be of any, or where it cannot be read."""
    with path.open("rb") as lines:
        stated = [
            line
            for number, line in enumerate(lines)
            if line.endswith(b"\n") and (number == 0 or line.startswith(b'{"dataset"'))
        ]
    try:
        return [RecordedDataset.read(json.loads(line)["dataset"]) for line in stated]
    except (ValueError, KeyError, TypeError, AttributeError):  # Where it is no recording, opening it says so.
        return []


def _named(names: list[str]) -> str:
    more = len(names) - SHOWN
    shown = ", ".join(map(repr, names[:SHOWN])) + (f" and {more} more" if more > 0 else "")
    return f"{shown} {'was' if len(names) == 1 else 'were'}"
