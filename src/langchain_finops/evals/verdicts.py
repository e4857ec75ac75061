"""Judges stored answers, and says what became of a slot."""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime

from langchain_finops.evals.prepare import Prepared
from langchain_finops.evals.results import AttemptResult, Verdict, last_tries
from langchain_finops.evals.scorers import decide, judge
from langchain_finops.records import Outcome

__all__ = ["Answers", "by_answer", "decided", "failed", "judged", "unjudged"]

Answers = Mapping[tuple[tuple[str, str, int], int], Mapping[str, Verdict]]
"""Verdicts by slot and try, and in there by scorer."""


async def judged(result: AttemptResult, prepared: Prepared) -> list[Verdict]:
    """What every scorer of the suite says of a stored answer."""
    item = prepared.items[result.task]
    verdicts: list[Verdict] = []
    for scorer in prepared.suite.scorers:
        function = prepared.functions.get(scorer.name)
        if function is None:
            said = judge(scorer, result.answer, item)
        else:  # In a thread: a function of the user's may take its time, and other attempts go on.
            said = await asyncio.to_thread(judge, scorer, result.answer, item, function)
        verdicts.append(
            Verdict(
                configuration=result.configuration,
                task=result.task,
                repeat=result.repeat,
                try_number=result.try_number,
                scorer=scorer.name,
                success=said.success,
                score=said.score,
                reason=said.reason,
                scorer_hash=prepared.scorer_hashes[scorer.name],
                item_hash=item.hash,
            )
        )
    return verdicts


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
        if result.status == "completed" and verdicts.get((result.slot, result.try_number), {}).keys() != wanted
    ]


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
