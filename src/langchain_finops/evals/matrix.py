"""Configurations x tasks x repeats: what is tried, and in which order."""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from langchain_finops.evals.dataset import Item, content_hash

__all__ = ["Configuration", "Trial", "expand", "in_shard", "trials"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Configuration:
    """One way to run the target: a name for tables and the parameters that the target is built from."""

    name: str
    parameters: Mapping[str, object] = field(default_factory=dict)

    @property
    def hash(self) -> str:
        """Of the parameters: answers of a changed configuration are bought again."""
        return content_hash(self.parameters)

    def for_target(self) -> dict[str, object]:
        """What the target function is given: its parameters and its `name`."""
        return {**self.parameters, "name": self.name}


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """What one slot needs to be tried. Plain data, so that it can be handed to another process."""

    configuration: Configuration
    item: Item
    repeat: int

    @property
    def slot(self) -> tuple[str, str, int]:
        """Configuration, task, repeat."""
        return self.configuration.name, self.item.id, self.repeat


def expand(axes: Mapping[str, Sequence[object]]) -> list[Configuration]:
    """Every combination of a matrix's values, the last axis changing fastest, named `axis=value, axis=value`."""
    names = tuple(axes)
    return [
        Configuration(
            name=", ".join(f"{name}={value}" for name, value in zip(names, values, strict=True)),
            parameters=dict(zip(names, values, strict=True)),
        )
        for values in itertools.product(*axes.values())
    ]


def trials(configurations: Sequence[Configuration], items: Sequence[Item], repeats: int) -> Iterator[Trial]:
    """All trials, interleaved over configurations, so that drift of a model or a network hits all of them alike."""
    for repeat, item, configuration in itertools.product(range(repeats), items, configurations):
        yield Trial(configuration=configuration, item=item, repeat=repeat)


def in_shard(slot: tuple[str, str, int], shard: tuple[int, int]) -> bool:
    """Whether a slot is of this one, counted from 1, of so many parts.

    By a hash of task and repeat: all configurations of one are tried in the same part, as paired comparisons want it,
    and items that come or go move no others.
    """
    number, parts = shard
    return int(content_hash([slot[1], slot[2]]), 16) % parts == number - 1
