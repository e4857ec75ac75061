"""What lies behind a row of the table: tasks with their attempts, and one task's tries with their steps and errors."""

import json
from collections import Counter
from collections.abc import Sequence
from typing import Any

from langchain_finops.errors import BadArguments
from langchain_finops.evals import shown
from langchain_finops.evals.arms import Slot, arms_of
from langchain_finops.evals.costs import whole_usd
from langchain_finops.evals.results import AttemptResult, Verdict
from langchain_finops.evals.resume import Results, check_cards, plan_of
from langchain_finops.reports.render import Column, Row, Table

__all__ = ["attempts_table", "tasks_table"]

TASK_FIELDS = (
    *("task", "configuration", "attempts", "successes", "unjudged", "stopped", "handed_off", "errors", "reasons"),
    *("cost_usd", "known_usd", "calls", "steps", "tool_calls", "latency_s"),
)
TRY_FIELDS = (
    *("task", "configuration", "repeat", "try_number", "decides", "status", "stop_reason", "success", "score"),
    *("verdicts", "cost_usd", "known_usd", "judge_cost_usd", "calls", "estimated_calls", "failed_calls"),
    *("replayed_calls", "steps", "tool_calls", "turns", "input_tokens", "output_tokens", "latency_s"),
    *("error", "nodes", "costs_by_node", "answer", "ledger_task_id"),
)
LONGEST_ANSWER = 160


def tasks_table(results: Results, *, scorer: str | None = None, cards: str | None = None) -> Table:
    """Return a row for each task and configuration that was tried, in the order of the dataset."""
    chosen = check_cards(results, cards)
    arms, planned = arms_of(results.attempts, results.verdicts, plan_of(results), scorer=scorer, cards=chosen)
    rows = [_task_row(task, arm.name, arm.by_task[task]) for task in planned for arm in arms if task in arm.by_task]
    failed = sum(row["successes"] < row["attempts"] for row in rows)
    counted = f"{len(rows):,} tasks by configuration, {failed:,} with an attempt that is no success."
    more = f"`finops-eval show {results.folder} TASK` shows one task's attempts."
    return Table(rows=rows, fields=TASK_FIELDS, columns=_TASK_COLUMNS, notes=(counted, more))


def _task_row(task: str, name: str, slots: Sequence[Slot]) -> Row:
    tries = [attempt for slot in slots for attempt in slot.tries]
    statuses = Counter(slot.last.status for slot in slots)
    reasons = Counter(slot.last.stop_reason for slot in slots if slot.last.stop_reason)
    unknown = any(slot.unknown for slot in slots)
    known = sum((slot.cost_usd for slot in slots), start=slots[0].cost_usd * 0)
    return {
        "task": task,
        "configuration": name,
        "attempts": len(slots),
        "successes": sum(slot.success for slot in slots),
        "unjudged": sum(not slot.judged for slot in slots),
        "stopped": statuses["stopped"],
        "handed_off": statuses["handed_off"],
        "errors": statuses["error"],
        "reasons": ", ".join(f"{reason} {count}" for reason, count in sorted(reasons.items())) or None,
        "cost_usd": None if unknown else known,
        "known_usd": known,
        "calls": sum(attempt.calls for attempt in tries),
        "steps": sum(attempt.steps for attempt in tries),
        "tool_calls": sum(attempt.tool_calls for attempt in tries),
        "latency_s": sum(slot.last.latency_s for slot in slots),
    }


def attempts_table(results: Results, task: str, *, scorer: str | None = None, cards: str | None = None) -> Table:
    """Return a row for each try at a task, in the order of configurations and repeats. Raises BadArguments for a task
    that the results do not have."""
    chosen = check_cards(results, cards)
    items = results.run["dataset"]["items"]
    if task not in items:
        near = [item for item in items if task.lower() in item.lower()]
        told = ", ".join((near or list(items))[:5])
        raise BadArguments(f"{results.folder} has no task {task!r}: it has {len(items):,}, such as {told}")
    arms, _ = arms_of(results.attempts, results.verdicts, plan_of(results), scorer=scorer, cards=chosen)
    said: dict[tuple[Any, int], list[Verdict]] = {}
    for verdict in results.verdicts:
        said.setdefault((verdict.slot, verdict.try_number), []).append(verdict)
    rows = [
        _try_row(attempt, slot, said.get((attempt.slot, attempt.try_number), []), chosen, results)
        for arm in arms
        for slot in sorted(arm.by_task.get(task, ()), key=lambda slot: slot.last.repeat)
        for attempt in slot.tries
    ]
    notes = ["No attempts at it yet."] if not rows else [f"Nodes in the order in which they began. Task: {task}."]
    return Table(rows=rows, fields=TRY_FIELDS, columns=_TRY_COLUMNS, notes=tuple(notes))


def _try_row(
    attempt: AttemptResult, slot: Slot, verdicts: Sequence[Verdict], cards: str | None, results: Results
) -> Row:
    decides = attempt is slot.last
    own_prices = cards is None or cards == results.run["cards"]
    cost = attempt.cost_usd if own_prices else attempt.costs_by_card.get(str(cards))
    usage = Counter(attempt.usage)
    return {
        "task": attempt.task,
        "configuration": attempt.configuration,
        "repeat": attempt.repeat,
        "try_number": attempt.try_number,
        "decides": decides,
        "status": attempt.status,
        "stop_reason": attempt.stop_reason,
        "success": (slot.success if slot.judged else None) if decides else False,
        "score": slot.score if decides else None,
        "verdicts": "; ".join(map(_said, verdicts)) or None,
        "cost_usd": cost,
        "known_usd": attempt.known_usd if own_prices else cost,
        "judge_cost_usd": whole_usd([verdict.cost_usd for verdict in verdicts]),
        **{name: getattr(attempt, name) for name in _ALIKE},
        "input_tokens": usage.total() - usage["output_tokens"] - usage["audio_output_tokens"],
        "output_tokens": usage["output_tokens"] + usage["audio_output_tokens"],
        "error": _error(attempt),
        "nodes": " > ".join(attempt.trajectory) or None,
        "costs_by_node": json.dumps({node: usd and f"{usd:f}" for node, usd in attempt.costs_by_node.items()}),
        "answer": None if attempt.answer is None else json.dumps(attempt.answer, ensure_ascii=False),
        "ledger_task_id": attempt.task_id,
    }


_ALIKE = (*("calls", "estimated_calls", "failed_calls", "replayed_calls", "steps", "tool_calls", "turns", "latency_s"),)


def _said(verdict: Verdict) -> str:
    word = {True: "success", False: "no success", None: "could not tell"}[verdict.success]
    return f"{verdict.scorer}: {word}{f' ({verdict.reason})' if verdict.reason else ''}"


def _error(attempt: AttemptResult) -> str | None:
    if attempt.error is None:
        return None
    status = f" {attempt.error.http_status}" if attempt.error.http_status else ""
    code = f" ({attempt.error.code})" if attempt.error.code else ""
    return f"{attempt.error.error_class}{status}{code}"


# --- for people --------------------------------------------------------------------------------------------------


def _cost(row: Row) -> str:
    if row["cost_usd"] is not None:
        return shown.usd(row["cost_usd"])
    return f">= {shown.usd(row['known_usd'])}" if row["known_usd"] else "unknown"


def _right(row: Row) -> str:
    unjudged = f", {row['unjudged']} unscored" if row["unjudged"] else ""
    return f"{row['successes']} of {row['attempts']}{unjudged}"


def _end(row: Row) -> str:
    status = str(row["status"]).replace("_", " ")
    return f"{status}: {row['stop_reason']}" if row["stop_reason"] else status


def _success(row: Row) -> str:
    return {True: "yes", False: "no", None: "?"}[row["success"]]


def _answer(row: Row) -> str:
    answer = row["answer"] or ""
    return answer if len(answer) <= LONGEST_ANSWER else f"{answer[:LONGEST_ANSWER]}... ({len(answer):,} characters)"


_TASK_COLUMNS = (
    Column(title="task", text=lambda row: row["task"], name=True),
    Column(title="configuration", text=lambda row: row["configuration"], name=True),
    Column(title="right", text=_right),
    Column(title="cost", text=_cost),
    Column(title="calls", text=lambda row: f"{row['calls']:,}", rank=1),
    Column(title="steps", text=lambda row: f"{row['steps']:,}", rank=1),
    Column(title="tools", text=lambda row: f"{row['tool_calls']:,}", rank=3),
    Column(title="seconds", text=lambda row: f"{row['latency_s']:.2f}", rank=2),
    Column(title="ended by", text=lambda row: row["reasons"] or "", rank=0),
)
_TRY_COLUMNS = (
    Column(title="configuration", text=lambda row: row["configuration"], name=True),
    Column(title="repeat", text=lambda row: str(row["repeat"])),
    Column(title="try", text=lambda row: str(row["try_number"]), rank=3),
    Column(title="end", text=_end),
    Column(title="success", text=_success),
    Column(title="cost", text=_cost),
    Column(title="calls", text=lambda row: f"{row['calls']:,}", rank=1),
    Column(title="steps", text=lambda row: f"{row['steps']:,}", rank=1),
    Column(title="tokens in", text=lambda row: f"{row['input_tokens']:,}", rank=4),
    Column(title="tokens out", text=lambda row: f"{row['output_tokens']:,}", rank=4),
    Column(title="seconds", text=lambda row: f"{row['latency_s']:.2f}", rank=2),
    Column(title="error", text=lambda row: row["error"] or "", below=True),
    Column(title="verdicts", text=lambda row: row["verdicts"] or "", below=True),
    Column(title="nodes", text=lambda row: row["nodes"] or "", below=True),
    Column(title="answer", text=_answer, below=True),
)
