"""Picks items of a dataset: by split, by metadata, and some of many by a seed."""

import json
from collections.abc import Collection, Mapping
from dataclasses import replace

from langchain_finops.errors import BadArguments
from langchain_finops.evals.dataset import Dataset, Item, content_hash

__all__ = ["selected"]

SPLITS = "dataset_split"
"""Key of an item's metadata under which LangSmith lists all splits that it is in."""


def selected(
    dataset: Dataset,
    *,
    splits: Collection[str] = (),
    where: Mapping[str, str] | None = None,
    sample: int | None = None,
    seed: int = 0,
) -> Dataset:
    """The items of any of these splits that have all of these values in their metadata; or `sample` of them.

    Which ones are drawn depends on seed and ids alone: a larger sample holds the smaller, and items that come or go
    change no other's place. Raises BadArguments, with what there is, where none is left.
    """
    where = where or {}
    kept = [item for item in dataset.items if _is_in(item, splits) and _says(item, where)]
    if not kept:
        raise BadArguments(_nothing(dataset, splits, where))
    if sample is not None:
        if sample < 1:
            raise BadArguments(f"--sample {sample} found: a whole number, 1 or more, is expected")
        drawn = sorted(kept, key=lambda item: content_hash([seed, item.id]))[:sample]
        ids = {item.id for item in drawn}
        kept = [item for item in kept if item.id in ids]
    return replace(dataset, items=tuple(kept))


def _is_in(item: Item, splits: Collection[str]) -> bool:
    return not splits or not set(splits).isdisjoint(_splits(item))


def _splits(item: Item) -> set[str]:
    named = item.metadata.get(SPLITS)
    more = {each for each in named if isinstance(each, str)} if isinstance(named, list) else set()
    return more if item.split is None else {*more, item.split}


def _says(item: Item, where: Mapping[str, str]) -> bool:
    return all(name in item.metadata and wanted in _texts(item.metadata[name]) for name, wanted in where.items())


def _texts(value: object) -> set[str]:
    """How a value may be written on a command line: as JSON does, a text as it is, a list by any of it."""
    if isinstance(value, list):
        return {text for each in value for text in _texts(each)}
    return {value} if isinstance(value, str) else {json.dumps(value)}


def _nothing(dataset: Dataset, splits: Collection[str], where: Mapping[str, str]) -> str:
    wanted = [*(f"--split {name}" for name in splits), *(f"--where {name}={value}" for name, value in where.items())]
    known = sorted({split for item in dataset.items for split in _splits(item)})
    fields = sorted({name for item in dataset.items for name in item.metadata})
    return (
        f"no item of {dataset.path} is left by {' '.join(wanted)}: its splits are {', '.join(known) or 'none'}, its "
        f"metadata has {', '.join(fields) or 'nothing'}"
    )
