"""Answers that are longer than those of any task that succeeded: what an output cap would have left unpaid."""

from collections.abc import Iterator
from typing import Any, Final

from langchain_finops.ledger.columns import Series
from langchain_finops.money import from_pico
from langchain_finops.reports.advise_look import Claims, Finding, Look, as_paid, command
from langchain_finops.reports.advise_prices import Units
from langchain_finops.reports.stats.tolerance import bound_place

__all__ = ["long_answers"]

Name = str | None
COVERAGES: Final = (0.99, 0.95)
"""Of the tasks that succeed, so many need no more than the cap: the first for which there are enough of them."""
CONFIDENCE: Final = 0.95
CUT_OFF: Final = float("inf")
"""What a task needed whose answer an earlier cap cut off: more than it shows."""
LEAST_LONGER: Final = 20
"""Calls that answered with more than the cap."""
LEAST_BEYOND: Final = 0.2
"""Of the node's output tokens, how many lie beyond the cap."""


def long_answers(look: Look) -> Iterator[Finding]:
    """Nodes whose answers in successful tasks are much shorter than their others."""
    key = lambda s: (s.sort.agent, s.sort.node, s.sort.provider, s.sort.model)  # noqa: E731 - one line says it all
    for names, group in look.groups(key).items():
        answered = [series for series in group if not series.sort.failed]
        needs = _needs(look, answered)
        found = _bound(len(needs))
        if found is None:
            continue
        coverage, place = found
        if needs[place - 1] == CUT_OFF:  # Nobody knows how long they would have been.
            continue
        cap = max(1, int(needs[place - 1]))
        counts = {
            "calls": sum(map(len, answered)),
            "longer": sum(output > cap for series in answered for output in series.output),
            "output_tokens": sum(sum(series.output) for series in answered),
            "tokens_beyond": sum(max(0, output - cap) for series in answered for output in series.output),
            "cap_tokens": cap,
            "successful_tasks": len(needs),
            "successful_tasks_cut": sum(need > cap for need in needs),
        }
        if counts["longer"] >= LEAST_LONGER and counts["tokens_beyond"] >= LEAST_BEYOND * counts["output_tokens"]:
            units = look.units(answered)
            claims = _beyond(units, answered, cap)
            if claims.pico or units is None or claims.unpriced:
                yield _finding(names, claims, counts, coverage, is_unknown=units is None)


def _bound(tasks: int) -> tuple[float, int] | None:
    """The share that is covered, and which of the longest answers does; None where there are too few."""
    places = ((share, bound_place(tasks, coverage=share, confidence=CONFIDENCE)) for share in COVERAGES)
    return next(((share, place) for share, place in places if place is not None), None)


def _needs(look: Look, answered: list[Series]) -> list[float]:
    """The longest answer in each task that succeeded, longest first; repeats of an evaluation's item are one task."""
    longest: dict[int, float] = {}
    for series in answered:
        for task, output in zip(series.task, series.output, strict=True):
            if task >= 0 and output >= longest.get(task, 0):
                longest[task] = output
    longest |= {series.task[place]: CUT_OFF for series in answered for place in series.cut if series.task[place] >= 0}
    tasks, items = look.columns.tasks, look.columns.items
    needs: dict[int | str, float] = {}
    for task, need in longest.items():
        if look.verdicts.get(tasks[task]):
            key = items.get(task, task)
            needs[key] = max(needs.get(key, 0), need)
    return sorted(needs.values(), reverse=True)


def _beyond(units: Units | None, answered: list[Series], cap: int) -> Claims:
    """What is beyond the cap, at the price of output; a call with audio in it is left out."""
    claims = Claims()
    for series in answered:
        for place, output in enumerate(series.output):
            if output > cap and not series.other[place]:
                saved = 0 if units is None else as_paid(units, (series, place), units.pico(output=output - cap))
                claims.add(series, place, saved)
    return claims


def _finding(
    names: tuple[Name, ...], claims: Claims, counts: dict[str, Any], coverage: float, *, is_unknown: bool
) -> Finding:
    agent, node, provider, model = names
    cap, tasks, cut = counts["cap_tokens"], counts["successful_tasks"], counts["successful_tasks_cut"]
    share = 100 * counts["tokens_beyond"] / counts["output_tokens"]
    return Finding(
        kind="long_answers",
        agent=agent,
        node=node,
        provider=provider,
        model=model,
        claims=claims,
        confidence="medium" if coverage == COVERAGES[0] else "low",
        is_most=True,
        is_unknown=is_unknown,
        rests_on=f"{cap:,} output tokens are enough for {coverage:.0%} of the tasks that succeed here (95% confidence, "
        f"{tasks:,} tasks); {counts['longer']:,} of {counts['calls']:,} answers took more, and {share:.0f}% of the "
        "output lies beyond. What is asked again for being cut off is not taken off",
        evidence=[{**counts, "cost_usd": from_pico(claims.whole)}],
        see=command("insight", "verbosity"),
        lever=f"cap_answers(model, {{{node or 'NODE'!r}: {cap}}}) or CapMiddleware, and a prompt that asks for short "
        "answers",
        change={"tokens": cap},
        risk=f"Answers that are longer are cut off, in {cut:,} of the {tasks:,} successful tasks; hidden reasoning "
        "counts on the cap as well. Compare both on the same tasks (finops-eval) before switching",
    )
