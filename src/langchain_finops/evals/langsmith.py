"""LangSmith's datasets as golden ones: `langsmith:NAME`, or `langsmith:NAME@VERSION` for a tag or a point in time."""

import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from langchain_finops.errors import EvalError

if TYPE_CHECKING:
    from langsmith import Client
    from langsmith.schemas import Example

__all__ = ["PREFIX", "Fetched", "as_eval_errors", "dataset_name", "fetch", "own_client"]

PREFIX = "langsmith:"
HOSTED = "https://api.smith.langchain.com"


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
    from langsmith import Client

    endpoint = os.environ.get("LANGSMITH_ENDPOINT") or os.environ.get("LANGCHAIN_ENDPOINT")
    key = os.environ.get("LANGSMITH_API_KEY") or os.environ.get("LANGCHAIN_API_KEY")
    if (endpoint or HOSTED).startswith(HOSTED) and not key:
        raise EvalError("LangSmith needs a key: set LANGSMITH_API_KEY")
    # By hand: the client remembers the environment as it was when it was first asked for.
    client = Client(api_url=endpoint, api_key=key, auto_batch_tracing=False)
    client.tracing_sample_rate = None  # A sampled trace is one thing, an experiment with holes another.
    return client


@contextmanager
def as_eval_errors(what: str) -> Iterator[None]:
    """Turn what LangSmith's client raises into an EvalError, and keep its log lines and tracebacks off the terminal."""
    from langsmith.utils import LangSmithError, LangSmithNotFoundError
    from requests import RequestException

    logger = logging.getLogger("langsmith.client")
    logger.addFilter(_nothing)
    try:
        yield
    except LangSmithNotFoundError as error:
        raise EvalError(f"{what} is not on LangSmith: {_first_line(error)}") from error
    except (LangSmithError, RequestException, OSError, ValueError) as error:
        raise EvalError(f"{what}: LangSmith says {_first_line(error)}") from error
    finally:
        logger.removeFilter(_nothing)


def _nothing(_: logging.LogRecord) -> bool:
    return False


def _first_line(error: Exception) -> str:
    """What went wrong in one line; bodies and stack traces are cut off."""
    text = str(error).strip().split("\n", 1)[0]
    return f"{type(error).__name__}: {text[:200]}"
