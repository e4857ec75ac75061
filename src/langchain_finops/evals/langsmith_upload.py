"""A run as experiments on LangSmith: one a configuration, a run for each attempt, cost and success as feedback.

What was sent is written down beside the results, and ids are derived from the run's: sent again, nothing is doubled.
"""

import inspect
import json
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid5

from langchain_finops.errors import BadArguments, EvalError
from langchain_finops.evals.arms import Slot, arms_of
from langchain_finops.evals.dataset import content_hash
from langchain_finops.evals.langsmith import PREFIX, as_eval_errors, dataset_name, own_client
from langchain_finops.evals.results import cut_torn_line
from langchain_finops.evals.resume import Results, plan_of
from langchain_finops.reports.render import exact

if TYPE_CHECKING:
    from langsmith import Client

    from langchain_finops.evals.dataset import Dataset, Item
    from langchain_finops.evals.results import Verdict

__all__ = ["SENT", "Uploaded", "upload"]

SENT = "langsmith.jsonl"
"""In the results folder: what was sent."""
NAMESPACE = UUID("6f0c7a52-3a1e-5d0b-9a57-0b5ad0c0f1a4")
AT_ONCE = 8
MICRO = Decimal(1_000_000)


@dataclass(frozen=True, slots=True, kw_only=True)
class Uploaded:
    """What is on LangSmith now."""

    dataset: str
    """The dataset's name there."""
    experiments: Mapping[str, str]
    """Names of the experiments, by configuration."""
    attempts: int
    """All of this run that are there."""
    sent: int
    """Those that were sent or mended this time."""


def upload(results: Results, dataset: "Dataset", *, client: "Client | None" = None) -> Uploaded:
    """Put a run on LangSmith, or what of it is new since the last time.

    Raises EvalError where that fails: the results are as they were, and the same call goes on. Raises BadArguments for
    a dataset that the results are not of.
    """
    items = _items(results, dataset)
    path = results.folder / SENT
    with as_eval_errors(f"upload of {results.folder}"):
        client = client or own_client()
        there = _dataset(client, results, dataset, items)
        experiments = _experiments(client, results, there)
        entries = list(_entries(results, items, there.examples))
        sent = _sent(path)
        waiting = [entry for entry in entries if sent.get(entry.key) != entry.digest]
        _send_all(client, experiments, waiting, sent, path)
        if results.run["finished_at"] is not None:
            _close(client, results, experiments)
    return Uploaded(
        dataset=there.name,
        experiments={configuration: project.name for configuration, project in experiments.items()},
        attempts=len(entries),
        sent=len(waiting),
    )


def _items(results: Results, dataset: "Dataset") -> dict[str, "Item"]:
    """The items that the run is of, which may be a split or a sample of the dataset."""
    known = {item.id: item for item in dataset.items}
    wanted = results.run["dataset"]["items"]
    if any(task not in known or known[task].hash != hashes[1] for task, hashes in wanted.items()):
        raise BadArguments(f"{results.folder} is not of the items in {dataset.path}: run it again on them first")
    return {task: known[task] for task in wanted}


# --- the dataset -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class _There:
    """The dataset on LangSmith."""

    id: Any
    name: str
    examples: Mapping[str, str]
    """Ids of the examples, by item."""


def _dataset(client: "Client", results: Results, dataset: "Dataset", items: Mapping[str, "Item"]) -> _There:
    """The dataset that the items came from; for those of a file one of our own, with the content's hash in its name."""
    from langsmith.utils import LangSmithNotFoundError

    if str(dataset.path).startswith(PREFIX):
        name, _ = dataset_name(str(dataset.path))
        found = client.read_dataset(dataset_name=name)
        return _There(id=found.id, name=name, examples={item: item for item in items})
    name = f"{dataset.name} {results.run['dataset']['hash'][:8]}"
    try:
        found = client.read_dataset(dataset_name=name)
    except LangSmithNotFoundError:
        found = client.create_dataset(name, description=f"{dataset.path.name}, uploaded by langchain-finops")
    examples = {item.id: str(uuid5(NAMESPACE, f"{found.id} {item.id} {item.hash}")) for item in items.values()}
    known = {str(example.id) for example in client.list_examples(dataset_id=found.id)}
    missing = [_example(item, examples[item.id]) for item in items.values() if examples[item.id] not in known]
    if missing:
        client.create_examples(dataset_id=found.id, examples=missing)
    return _There(id=found.id, name=name, examples=examples)


def _example(item: "Item", example_id: str) -> dict[str, object]:
    from langsmith.schemas import ExampleCreate

    # Older clients know the one name, newer ones warn of it.
    outputs = "reference_outputs" if "reference_outputs" in ExampleCreate.__annotations__ else "outputs"
    example: dict[str, object] = {
        "id": example_id,
        "inputs": dict(item.inputs),
        outputs: dict(item.outputs),
        "metadata": {**item.metadata, "finops:item": item.id},
    }
    return example | ({"split": item.split} if item.split else {})


# --- experiments -------------------------------------------------------------------------------------------------


def _experiments(client: "Client", results: Results, there: _There) -> dict[str, Any]:
    """A LangSmith project for each configuration; one that is there already is taken as it is."""
    return {
        entry["name"]: client.create_project(
            f"{results.run['run_id']} {entry['name']}",
            upsert=True,
            reference_dataset_id=there.id,
            metadata=_described(results, entry),
        )
        for entry in results.run["configurations"]
    }


def _described(results: Results, configuration: Mapping[str, Any]) -> dict[str, object]:
    run = results.run
    return {
        "finops:run_id": run["run_id"],
        "finops:configuration": configuration["name"],
        "finops:parameters": configuration["parameters"],
        "finops:dataset_hash": run["dataset"]["hash"],
        "finops:mode": run["mode"],
        "finops:fingerprint": run.get("fingerprint"),
        "finops:repeats": run["repeats"],
    }


def _close(client: "Client", results: Results, experiments: Mapping[str, Any]) -> None:
    """Tell that nothing more comes."""
    from datetime import datetime

    ended = datetime.fromisoformat(results.run["finished_at"])
    for entry in results.run["configurations"]:
        metadata = _described(results, entry)
        client.update_project(experiments[entry["name"]].id, end_time=ended, metadata=metadata)


# --- attempts ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class _Entry:
    """One attempt, as it is sent: a run, and feedback on it."""

    key: str
    configuration: str
    run: Mapping[str, Any]
    feedback: Sequence[Mapping[str, Any]]

    @property
    def digest(self) -> str:
        """Changes with whatever is sent: a new verdict or price is sent again, under the same ids."""
        return content_hash([self.run, self.feedback])


def _entries(results: Results, items: Mapping[str, "Item"], examples: Mapping[str, str]) -> Iterator[_Entry]:
    arms, _ = arms_of(results.attempts, results.verdicts, plan_of(results))
    said: dict[tuple[tuple[str, str, int], int], dict[str, Verdict]] = {}
    for verdict in results.verdicts:
        said.setdefault((verdict.slot, verdict.try_number), {})[verdict.scorer] = verdict
    run_id = str(results.run["run_id"])
    for arm in arms:
        for slot in arm.slots:
            last = slot.last
            key = json.dumps([run_id, *last.slot])
            verdicts = list(said.get((last.slot, last.try_number), {}).values())
            yield _Entry(
                key=key,
                configuration=arm.name,
                run=_run(key, slot, items[last.task], examples[last.task]),
                feedback=[
                    {**feedback, "feedback_id": str(uuid5(NAMESPACE, f"{key} {feedback['key']}"))}
                    for feedback in _feedback(slot, verdicts)
                ],
            )


def _run(key: str, slot: Slot, item: "Item", example: str) -> dict[str, Any]:
    last = slot.last
    first = slot.tries[0]
    trace = str(uuid5(NAMESPACE, key))
    answer = last.answer if isinstance(last.answer, dict) else {"output": last.answer}
    metadata = {
        "finops:configuration": last.configuration,
        "finops:item": last.task,
        "finops:repeat": last.repeat,
        "finops:status": last.status,
        "finops:stop_reason": last.stop_reason,
        "finops:cost_usd": None if slot.unknown else exact(slot.cost_usd),
        "finops:tries": len(slot.tries),
        "finops:task_id": last.task_id,
    }
    return {
        "id": trace,
        "trace_id": trace,
        "dotted_order": f"{first.started_at:%Y%m%dT%H%M%S%f}Z{trace}",
        "name": last.configuration,
        "run_type": "chain",
        "inputs": dict(item.inputs),
        "outputs": answer if last.status == "completed" else None,
        "error": None if last.status == "completed" else f"{last.status}: {last.stop_reason or 'no reason given'}",
        "start_time": first.started_at,
        "end_time": last.ended_at,
        "reference_example_id": example,
        "extra": {"metadata": metadata},
    }


def _feedback(slot: Slot, verdicts: Sequence["Verdict"]) -> Iterator[dict[str, Any]]:
    """Cost, success, and what each scorer said. LangSmith keeps four decimals of a score: a cost goes along as exact
    text, and in millionths of a dollar, or it would be shown as nothing."""
    if slot.unknown:
        yield {"key": "cost_usd", "value": "unknown", "comment": f"at least ${exact(slot.cost_usd)}"}
    else:
        known = slot.cost_usd
        rounded = abs(round(known, 4) - known) <= abs(known) / 100
        yield {"key": "cost_usd", "score": float(known) if rounded else None, "value": exact(known)}
        yield {"key": "cost_microusd", "score": float(known * MICRO)}
    last = slot.last
    if slot.judged:
        why = None if last.status == "completed" else f"{last.status}: {last.stop_reason}"
        yield {"key": "success", "score": int(slot.success), "comment": why}
    for verdict in verdicts:
        score = verdict.score if verdict.score is not None else verdict.success
        if score is not None:
            yield {"key": f"scorer:{verdict.scorer}", "score": float(score), "comment": verdict.reason}


def _send_all(
    client: "Client", experiments: Mapping[str, Any], waiting: Sequence[_Entry], sent: dict[str, str], path: Path
) -> None:
    """Send what waits, several at once. What is there is written down, and the next time goes on behind it."""
    if not waiting:
        return
    cut_torn_line(path) if path.exists() else None
    with path.open("ab") as file, ThreadPoolExecutor(AT_ONCE) as pool:
        futures = [pool.submit(_send, client, experiments[e.configuration], e, e.key in sent) for e in waiting]
        try:
            for entry, future in zip(waiting, futures, strict=True):
                future.result()
                file.write(json.dumps([entry.key, entry.digest]).encode() + b"\n")
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _send(client: "Client", project: Any, entry: _Entry, again: bool) -> None:
    run = deepcopy(dict(entry.run))  # The client writes into what it is given.
    if again:
        kept = {name: run[name] for name in ("outputs", "error", "end_time", "extra", "trace_id", "dotted_order")}
        client.update_run(run["id"], **kept)
    else:
        client.create_run(**run, project_name=project.name)
    for feedback in entry.feedback:
        client.create_feedback(run["id"], **feedback, **_session(client, project), stop_after_attempt=2)


def _session(client: "Client", project: Any) -> dict[str, Any]:
    """Newer clients want to know the project of a run; older ones do not know the word."""
    known = inspect.signature(client.create_feedback).parameters
    return {"session_id": project.id} if "session_id" in known else {}


def _sent(path: Path) -> dict[str, str]:
    """Digests of what was sent, by attempt. A line that a crash has torn was not written down: it is sent again."""
    if not path.exists():
        return {}
    found: dict[str, str] = {}
    for number, line in enumerate(path.read_bytes().split(b"\n")[:-1], start=1):
        try:
            key, digest = json.loads(line)
        except ValueError as error:
            raise EvalError(f"{path}:{number} cannot be read: {error}; delete the file to send all again") from error
        found[key] = digest
    return found
