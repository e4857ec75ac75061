"""How much is said for a success: tokens and output of each node, by what became of the tasks that it worked on."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from langchain_finops.ledger.base import Ledger
from langchain_finops.ledger.doings import Doing, with_doings
from langchain_finops.ledger.grouping import Period
from langchain_finops.ledger.totals import APART

__all__ = ["verbosity_rows"]

Row = dict[str, Any]
Key = tuple[str | None, str | None, str | None]
MILLION = 1_000_000


@dataclass(slots=True)
class _Node:
    """What one model was asked at a node."""

    calls: int = 0
    estimated: int = 0
    """Those that did not report their tokens or price."""
    tokens: int = 0
    output: int = 0
    of_tasks: dict[str, tuple[int, int]] = field(default_factory=dict)
    """Tokens and output by task."""

    def add(self, doing: Doing) -> None:
        tokens = doing.input_tokens + doing.output_tokens
        self.calls += 1
        self.estimated += doing.kind.estimated
        self.tokens += tokens
        self.output += doing.output_tokens
        if doing.task_id is not None:
            whole, output = self.of_tasks.get(doing.task_id, (0, 0))
            self.of_tasks[doing.task_id] = whole + tokens, output + doing.output_tokens


def verbosity_rows(ledger: Ledger, *, since: datetime | None = None, until: datetime | None = None) -> Iterator[Row]:
    """Yield a row for each agent, node and model that was asked in a period, most output in failed tasks first.

    What `finops prune` folded is left out: daily sums do not say of which task they are.
    """
    nodes = with_doings(ledger, Period.of(since, until), _see)
    verdicts = {outcome.task_id: outcome.success for outcome in ledger.outcomes()}
    found = sorted(((_failed_output(node, verdicts), key, node) for key, node in nodes.items()), key=_wordiest)
    for failed, key, node in found:
        yield _row(key, node, failed, verdicts)


def _see(doings: Iterable[Doing]) -> dict[Key, _Node]:
    nodes: dict[Key, _Node] = {}
    for doing in doings:
        kind = doing.kind
        if kind.is_call and kind.role not in APART and not doing.is_folded:
            nodes.setdefault((kind.agent, kind.node, kind.model), _Node()).add(doing)
    return nodes


def _failed_output(node: _Node, verdicts: dict[str, bool | None]) -> int:
    return sum(output for task, (_, output) in node.of_tasks.items() if verdicts.get(task) is False)


def _wordiest(entry: tuple[int, Key, _Node]) -> tuple[int, int, tuple[str, ...]]:
    failed, key, node = entry
    return -failed, -node.output, tuple(name or "" for name in key)


def _row(key: Key, node: _Node, failed_output: int, verdicts: dict[str, bool | None]) -> Row:
    said = {task: verdicts.get(task) for task in node.of_tasks}
    judged = [task for task, success in said.items() if success is not None]
    successes = sum(success is True for success in said.values())
    tokens = sum(whole for whole, _ in node.of_tasks.values())
    judged_output = sum(node.of_tasks[task][1] for task in judged)
    agent, name, model = key
    return {
        "agent": agent,
        "node": name,
        "model": model,
        "calls": node.calls,
        "estimated": node.estimated,
        "tasks": len(said),
        "judged": len(judged),
        "successes": successes,
        "output_tokens": node.output,
        "output_per_call": node.output / node.calls,
        "output_share": _ratio(node.output, node.tokens),
        "tokens_per_success": _ratio(tokens, successes),
        "successes_per_million": _ratio(successes * MILLION, tokens) if judged else None,
        "failed_output_share": _ratio(failed_output, judged_output),
    }


def _ratio(part: int, whole: int) -> float | None:
    return part / whole if whole else None
