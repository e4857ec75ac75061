"""Says which stored answers lack a verdict, and what became of a slot."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from langchain_finops.evals.prepare import Prepared
from langchain_finops.evals.results import UNFINISHED, AttemptResult, Verdict, last_tries
from langchain_finops.evals.scorers import Judgement, Scorer, decide
from langchain_finops.records import Outcome

__all__ = ["Answers", "by_answer", "decided", "failed", "final", "spoken", "unjudged"]

Answers = Mapping[tuple[tuple[str, str, int], int], Mapping[str, Verdict]]
"""Verdicts by slot and try, and in there by scorer."""


def by_answer(verdicts: Iterable[Verdict]) -> Answers:
    """Verdicts by what they are on; of a scorer's several the last one counts."""
    found: dict[tuple[tuple[str, str, int], int], dict[str, Verdict]] = {}
    for verdict in verdicts:
        found.setdefault((verdict.slot, verdict.try_number), {})[verdict.scorer] = verdict
    return found


def unjudged(attempts: Sequence[AttemptResult], verdicts: Answers, prepared: Prepared) -> list[AttemptResult]:
    """Stored answers without a verdict of every scorer as it is now."""
    wanted = {scorer.name for scorer in prepared.suite.scorers}
    return [
        result
        for result in last_tries(attempts).values()
        if result.status == "completed" and final(verdicts, result, prepared).keys() != wanted
    ]


def final(verdicts: Answers, result: AttemptResult, prepared: Prepared) -> dict[str, Verdict]:
    """The verdicts on an answer that need not be asked for again, by scorer."""
    again = (*UNFINISHED, "infrastructure") if prepared.options.retry_errors else UNFINISHED
    said = verdicts.get((result.slot, result.try_number), {})
    return {scorer: verdict for scorer, verdict in said.items() if verdict.stop_reason not in again}


def spoken(scorer: Scorer, result: AttemptResult, said: Judgement, prepared: Prepared, **asked: Any) -> Verdict:
    """A scorer's line on an answer. `asked`: what asking a judge came to."""
    return Verdict(
        configuration=result.configuration,
        task=result.task,
        repeat=result.repeat,
        try_number=result.try_number,
        scorer=scorer.name,
        success=said.success,
        score=said.score,
        reason=said.reason,
        scorer_hash=prepared.scorer_hashes[scorer.name],
        item_hash=prepared.items[result.task].hash,
        **asked,
    )


def decided(result: AttemptResult, verdicts: Iterable[Verdict], prepared: Prepared) -> Outcome:
    """The outcome of a finished slot, by the verdicts on its answer, if it has one."""
    if result.status != "completed":
        return failed(result, prepared)
    said = list(verdicts)
    reasons = "; ".join(verdict.reason for verdict in said if verdict.reason) or None
    return _outcome(result, prepared, success=decide(verdict.success for verdict in said), reason=reasons)


def failed(result: AttemptResult, prepared: Prepared) -> Outcome:
    """The outcome of a slot that has no answer."""
    return _outcome(result, prepared, success=False, reason=result.stop_reason)


def _outcome(result: AttemptResult, prepared: Prepared, *, success: bool | None, reason: str | None) -> Outcome:
    """What became of the slot, for the ledger: `finops report` knows the cost of a success by it."""
    judged_by = ", ".join(scorer.name for scorer in prepared.suite.scorers)
    if reason is not None:  # It may quote half of a surrogate pair, which no ledger can keep.
        reason = reason.encode("utf-8", "replace").decode()
    return Outcome(task_id=result.task_id, success=success, reason=reason, judged_by=judged_by, at=datetime.now(UTC))
