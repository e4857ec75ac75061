"""LangSmith's datasets as golden ones: `langsmith:NAME`, or `langsmith:NAME@VERSION` for a tag or a point in time."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from langchain_finops.errors import EvalError
from langchain_finops.langchain.langsmith_client import langsmith_errors
from langchain_finops.langchain.langsmith_client import own_client as client_of_its_own

if TYPE_CHECKING:
    from langsmith import Client
    from langsmith.schemas import Example

__all__ = ["PREFIX", "Fetched", "as_eval_errors", "dataset_name", "fetch", "own_client"]

PREFIX = "langsmith:"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetched:
    """A dataset as LangSmith had it at one point in time."""

    name: str
    source: str
    """`langsmith:NAME@VERSION`, with the version that was read: the same spec reads the same examples again."""
    records: Sequence[Mapping[str, object]]
    """`id`, `inputs`, `outputs`, `metadata`, `split`, as the lines of a JSONL file have them."""


def dataset_name(spec: str) -> tuple[str, str | None]:
    """The name and the version of `langsmith:NAME@VERSION`. Raises EvalError where there is no name."""
    name, at, version = spec.removeprefix(PREFIX).rpartition("@")
    if not at:
        name, version = version, ""
    if not name:
        raise EvalError(f"dataset {spec!r} has no name: write langsmith:NAME, or langsmith:NAME@VERSION")
    return name, version or None


def fetch(spec: str, *, client: "Client | None" = None) -> Fetched:
    """Read all examples of a LangSmith dataset, in the order of their ids, whatever order pages come in.

    Without a version the latest is read, and named in `source`. Raises EvalError where there is no such dataset or
    version, the key is missing, or LangSmith cannot be reached.
    """
    name, version = dataset_name(spec)
    with as_eval_errors(f"dataset {spec!r}"):
        client = client or own_client()
        dataset = client.read_dataset(dataset_name=name)
        as_of = _moment(version) if version else _latest(client, dataset.id)
        examples = list(client.list_examples(dataset_id=dataset.id, as_of=as_of))
    seen = as_of or max((example.modified_at or example.created_at for example in examples), default=None)
    label = seen.isoformat() if isinstance(seen, datetime) else seen
    records = sorted((_record(example) for example in examples), key=lambda record: str(record["id"]))
    return Fetched(name=name, source=f"{PREFIX}{name}@{label}" if label else f"{PREFIX}{name}", records=records)


def _moment(version: str) -> datetime | str:
    """A point in time, or a tag."""
    try:
        return datetime.fromisoformat(version)
    except ValueError:
        return version


def _latest(client: "Client", dataset_id: Any) -> datetime | None:
    """When the dataset was last changed: read as of then, so that an edit meanwhile mixes no two versions. None where
    the server keeps no versions."""
    from langsmith.utils import LangSmithError

    try:
        return client.read_dataset_version(dataset_id=dataset_id, tag="latest").as_of
    except LangSmithError:
        return None


def _record(example: "Example") -> dict[str, object]:
    metadata = dict(example.metadata or {})
    # An example may be in several splits: its first one stands for it, and the metadata keep them all.
    splits = metadata.get("dataset_split") or []
    splits = [splits] if isinstance(splits, str) else list(splits)
    record: dict[str, object] = {
        "id": str(example.id),
        "inputs": dict(example.inputs or {}),
        "outputs": dict(example.outputs or {}),
    }
    return record | ({"metadata": metadata} if metadata else {}) | ({"split": str(splits[0])} if splits else {})


def own_client() -> "Client":
    """A client that sends at once and says what failed. Raises EvalError where LangSmith's key is missing."""
    return client_of_its_own(EvalError)


def as_eval_errors(what: str) -> AbstractContextManager[None]:
    """Turn what LangSmith's client raises into an EvalError, and keep its log lines and tracebacks off the terminal."""
    return langsmith_errors(what, EvalError)
