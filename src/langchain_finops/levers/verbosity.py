"""Output caps learnt from what was useful: how long the answers of successful tasks were, by agent, node and model.

A cap is one value of a sorted list, with no assumption on how lengths are distributed (see `stats.tolerance`). What is
independent is a task: of each successful one its longest answer at the node counts, so that the cap covers whole tasks.
Repeats of an evaluation's item are one task.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from fractions import Fraction
from typing import Any

from langchain_finops.errors import BadArguments
from langchain_finops.ledger.base import Ledger
from langchain_finops.ledger.summary import known_usd
from langchain_finops.ledger.tagged import CAP_TAG, cap_in, item_in
from langchain_finops.records import CallRecord
from langchain_finops.reports.stats.tolerance import bound_place, values_needed
from langchain_finops.reports.success_cost import QUOTIENT

__all__ = ["CAP_TAG", "AnswerCap", "AnswerCaps", "learn_caps", "needed_tokens"]

Key = tuple[str | None, str | None, str | None]
Task = tuple[str, str]
"""An evaluation's item, or a task by its id; the first says which."""
Needed = Callable[[CallRecord], int | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerCap:
    """What the calls of one model at a node of an agent needed, and what a cap there would have done to them."""

    agent: str | None
    node: str | None
    """The node path; None outside of graphs."""
    model: str | None
    """As it was asked for."""
    tokens: int | None
    """Output tokens, hidden reasoning included: the provider's limit counts it, too. None: see `why_none`."""
    why_none: str | None
    successes: int
    """Successful tasks that have told how much they needed."""
    successes_needed: int
    calls: int
    """Answered calls whose output was reported."""
    output_tokens: int
    """Of these."""
    longer: int
    """Calls whose answer was longer than the cap."""
    cut_tasks: int
    """Successful tasks that needed more: they would have lost an answer."""
    saved_usd: Decimal | None
    """At most, at each call's own output price: the list cost of what is beyond the cap. What is asked again for it is
    not taken off. None where there is no cap or no price is known."""
    unpriced: int
    """Longer calls whose output has no price of its own: in no amount."""


@dataclass(frozen=True, slots=True)
class AnswerCaps:
    """The caps of a ledger, by agent, node and model."""

    rows: tuple[AnswerCap, ...]
    """Those that would have saved most first."""
    coverage: float
    confidence: float

    def tokens(self, agent: str | None, node: str | None, model: str | None) -> int | None:
        """The cap there; None where none was learnt."""
        return next((row.tokens for row in self.rows if (row.agent, row.node, row.model) == (agent, node, model)), None)


@dataclass(slots=True)
class _Node:
    """Answers at one place."""

    calls: list[CallRecord] = field(default_factory=list)
    needs: dict[Task, float] = field(default_factory=dict)
    """By task the most that it needed; infinite where an answer was cut off."""


def learn_caps(
    ledger: Ledger,
    *,
    agent_id: str | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
    coverage: float = 0.99,
    confidence: float = 0.95,
    needed: Needed | None = None,
) -> AnswerCaps:
    """Learn output caps from a ledger with outcomes: with `confidence` each covers a share `coverage` of all successful
    tasks to come, if they are like these. Repeats of an evaluation's item are one task, with its longest answer.

    `needed`: how many tokens of its answer a call needed, hidden reasoning apart, where you know better than that it
    needed all that it had, such as by `needed_tokens`; None of it: all. Failed calls, replies of LangChain's cache,
    calls without reported usage and those of judges and overhead tell nothing. An answer that an earlier cap cut off is
    longer than any. Raises BadArguments for shares that are none and for a ledger without calls.
    """
    least = values_needed(coverage=coverage, confidence=confidence)
    good = {outcome.task_id for outcome in ledger.outcomes() if outcome.success}
    filters: dict[str, Any] = {} if agent_id is None else {"agent_id": agent_id}
    nodes: dict[Key, _Node] = {}
    for call in ledger.calls(since=since, until=until, **filters):
        if _tells(call):
            who = call.attribution
            key = (who.agent_id, who.node_path, call.requested_model or call.model)
            _note(nodes.setdefault(key, _Node()), call, good, needed)
    if not nodes:
        of = "" if agent_id is None else f" of agent {agent_id!r}"
        raise BadArguments(f"learn_caps: there is no answered call{of} with reported usage in this ledger and period")
    rows = [_cap(key, node, coverage, confidence, least) for key, node in nodes.items()]
    rows.sort(key=lambda row: (-(row.saved_usd or 0), -row.output_tokens, str((row.agent, row.node, row.model))))
    return AnswerCaps(tuple(rows), coverage, confidence)


def _tells(call: CallRecord) -> bool:
    answered = call.error is None and call.raw_usage is not None  # Without these counts the tokens are an estimate.
    return answered and call.attribution.role == "agent" and call.billing_mode != "cache"


def _note(node: _Node, call: CallRecord, good: set[str], needed: Needed | None) -> None:
    node.calls.append(call)
    task = call.attribution.task_id
    if task is None or task not in good:
        return
    tags = call.attribution.tags
    tokens, cap, item = call.usage.total_output_tokens, cap_in(tags), item_in(tags)
    said = None if needed is None else needed(call)
    if said is not None and (type(said) is not int or said < 0):
        raise BadArguments(f"learn_caps: needed said {said!r} of a call: give a whole number of 0 or more, or None")
    is_cut = cap is not None and tokens >= cap
    need: float = (
        float("inf")
        if said is None and is_cut
        else tokens
        if said is None
        else min(said + call.usage.reasoning_tokens, tokens)
    )
    key = ("task", task) if item is None else ("item", item)
    node.needs[key] = max(node.needs.get(key, 0), need)


def _cap(key: Key, node: _Node, coverage: float, confidence: float, least: int) -> AnswerCap:
    agent, node_path, model = key
    needs = sorted(node.needs.values(), reverse=True)
    place = bound_place(len(needs), coverage=coverage, confidence=confidence)
    bound = None if place is None else needs[place - 1]
    why = None
    if bound is None:
        why = (
            f"no cap can be learnt yet: calls of {len(needs):,} successful tasks are too few, {least:,} are needed for "
            f"{coverage:.4g} with confidence {confidence:.4g}"
        )
    elif bound == float("inf"):
        why = "no cap can be learnt: too many answers of successful tasks were cut off by an earlier cap"
    tokens = None if bound is None or why is not None else max(1, int(bound))
    longer = [call for call in node.calls if tokens is not None and call.usage.total_output_tokens > tokens]
    amounts = [_beyond(call, tokens or 0) for call in longer]
    known = [amount for amount in amounts if amount is not None]
    unpriced = len(amounts) - len(known)
    saved = known_usd(_dollars(sum(known, Fraction(0))), known=len(known), unknown=unpriced)
    return AnswerCap(
        agent=agent,
        node=node_path,
        model=model,
        tokens=tokens,
        why_none=why,
        successes=len(needs),
        successes_needed=least,
        calls=len(node.calls),
        output_tokens=sum(call.usage.total_output_tokens for call in node.calls),
        longer=len(longer),
        cut_tasks=0 if tokens is None else sum(need > tokens for need in needs),
        saved_usd=None if tokens is None else saved,
        unpriced=unpriced,
    )


def _beyond(call: CallRecord, tokens: int) -> Fraction | None:
    """What the output beyond so many tokens cost, the end of the answer first; None where output has no price.

    A machine that is paid by the hour has none; audio has one of its own.
    """
    usage, meters = call.usage, call.meter_usd or {}
    if call.cost_usd == 0:
        return Fraction(0)
    if usage.audio_output_tokens or "output_tokens" not in meters or not usage.output_tokens:
        return None
    cut = usage.output_tokens - tokens
    amount = Fraction(meters["output_tokens"]) * cut / usage.output_tokens
    hidden = cut - (usage.output_tokens - usage.reasoning_tokens)
    if hidden > 0 and "reasoning_tokens" in meters:  # What a token of reasoning costs more than another one.
        amount += Fraction(meters["reasoning_tokens"]) * hidden / usage.reasoning_tokens
    return amount


def _dollars(amount: Fraction) -> Decimal:
    return QUOTIENT.divide(Decimal(amount.numerator), Decimal(amount.denominator))


def needed_tokens(
    answer: str, is_right: Callable[[str], Any], *, count_tokens: Callable[[str], int] | None = None
) -> int | None:
    """How many tokens of an answer were needed: those of the shortest beginning from which on all are right.

    None where the whole answer is not right. `count_tokens`: as the model's tokenizer does; None: as many as the
    beginning has bytes, which is never too few, for no token is less than a byte.
    """
    needed = None
    for end in range(len(answer), 0, -1):
        if not is_right(answer[:end]):
            break
        needed = answer[:end]
    if needed is None:
        return None
    return len(needed.encode("utf-8", "surrogatepass")) if count_tokens is None else count_tokens(needed)


def checked_caps(caps: "AnswerCaps | Mapping[str, int]") -> "AnswerCaps | dict[str, int]":
    """The caps, if they are some. Raises BadArguments with all that is wrong with them."""
    if isinstance(caps, AnswerCaps):
        return caps
    given: object = caps
    if not isinstance(given, Mapping) or not given:
        raise BadArguments(f"caps is {given!r}: give what learn_caps returned, or tokens by node: {{'answer': 120}}")
    wrong = [
        f"{node!r}: {tokens!r}"
        for node, tokens in given.items()
        if not isinstance(node, str) or not node or type(tokens) is not int or tokens < 1
    ]
    if wrong:
        raise BadArguments(f"caps: {', '.join(wrong)}: give node names with whole numbers of 1 or more")
    return dict(caps)


def too_few(rows: Iterable[AnswerCap]) -> str:
    """Why nothing is capped, in one sentence of the first row."""
    return next((row.why_none for row in rows if row.why_none), "no cap was learnt")
