"""Picking items: by split and metadata, and a sample that stays the same."""

from pathlib import Path

import pytest

from langchain_finops.errors import BadArguments, BadData
from langchain_finops.evals.dataset import Dataset, Item, load_dataset
from langchain_finops.evals.selection import selected


def item(id_: str, *, split: str | None = None, **metadata: object) -> Item:
    return Item(id=id_, inputs={}, outputs={}, metadata=metadata, split=split, line=1)


DATASET = Dataset(
    path=Path("tasks.jsonl"),
    items=(
        item("a", split="train", hard=True, level=3),
        item("b", split="test", hard=False, level=3),
        item("c", split="test", hard=True, tags=["x", "y"]),
        item("d", dataset_split=["test", "late"]),
    ),
)


def ids(dataset: Dataset) -> str:
    return "".join(each.id for each in dataset.items)


def test_splits_and_metadata_pick() -> None:
    """Any of the splits, all of the values; LangSmith's list of splits counts, and values are as JSON writes them."""
    assert ids(selected(DATASET)) == "abcd"
    assert ids(selected(DATASET, splits=["test"])) == "bcd"
    assert ids(selected(DATASET, splits=["late", "train"])) == "ad"
    assert ids(selected(DATASET, where={"hard": "true"})) == "ac"
    assert ids(selected(DATASET, where={"hard": "true", "level": "3"})) == "a"
    assert ids(selected(DATASET, where={"tags": "y"})) == "c"


def test_a_larger_sample_holds_the_smaller_and_keeps_the_order() -> None:
    """The same seed draws the same items, whatever else the dataset has; another seed draws others."""
    many = Dataset(path=Path("x"), items=tuple(item(f"t{n:03}") for n in range(100)))
    ten, twenty = (selected(many, sample=size, seed=7).items for size in (10, 20))
    assert len(ten) == 10
    assert {each.id for each in ten} < {each.id for each in twenty}
    assert [each.id for each in twenty] == sorted(each.id for each in twenty)
    assert selected(many, sample=10, seed=8).items != ten

    fewer = Dataset(path=Path("x"), items=tuple(each for each in many.items if each not in ten[:1]))
    assert {each.id for each in ten[1:]} < {each.id for each in selected(fewer, sample=10, seed=7).items}
    assert len(selected(many, sample=1000).items) == 100


def test_what_leaves_nothing_is_told_with_what_there_is() -> None:
    """Splits and fields of metadata are named."""
    with pytest.raises(
        BadArguments,
        match=r"no item of tasks\.jsonl is left by --split dev --where hard=maybe: its splits are late, test, train, "
        r"its metadata has dataset_split, hard, level, tags",
    ):
        selected(DATASET, splits=["dev"], where={"hard": "maybe"})
    with pytest.raises(BadArguments, match="--sample 0 found"):
        selected(DATASET, sample=0)


def test_turns_answers_and_labels_are_read(tmp_path: Path) -> None:
    """A line may have several turns, a script for a person's answers, and what people said of an answer."""
    path = tmp_path / "tasks.jsonl"
    path.write_text(
        '{"id": "a", "inputs": {}, "outputs": {}, "turns": [{"n": 1}, {"n": 2}], "answers": ["yes", 3], '
        '"labels": {"judge": true, "polite": 0.5}}\n'
    )
    (read,) = load_dataset(path).items
    assert (read.turns, read.answers, read.labels) == (
        ({"n": 1}, {"n": 2}),
        ("yes", 3),
        {"judge": True, "polite": 0.5},
    )

    path.write_text('{"id": "a", "inputs": {}, "outputs": {}, "turns": [], "answers": "yes", "labels": {"judge": 2}}\n')
    with pytest.raises(BadData) as caught:
        load_dataset(path)
    assert [fault.where.rpartition(": ")[2] for fault in caught.value.faults] == ["turns", "answers", "labels"]
