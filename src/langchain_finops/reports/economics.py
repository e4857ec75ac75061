"""Was it worth it: what a success costs, earns and saves, by agent or whatever else a cost belongs to.

Every figure is over the tasks that began in the period, with all that was done for them, whenever that was; judges and
simulators apart. docs/economics.md defines each.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from difflib import get_close_matches
from math import ceil
from typing import Any, Final

from langchain_finops.errors import BadArguments
from langchain_finops.ledger.base import Ledger
from langchain_finops.ledger.codec import to_micros
from langchain_finops.ledger.grouping import Key, Period
from langchain_finops.ledger.summary import known_usd
from langchain_finops.ledger.totals import DIMENSIONS, TaskCost
from langchain_finops.ledger.work import Task, Work, work_done
from langchain_finops.money import EXACT, PICO_PER_USD, from_pico, to_pico
from langchain_finops.reports.shares import divided
from langchain_finops.reports.success_cost import QUOTIENT, above, success_cost

__all__ = ["DIMENSIONS_OF_TASKS", "Economics", "Human", "check_dimension", "economics"]

DIMENSIONS_OF_TASKS: Final = tuple(name for name in DIMENSIONS if name not in {"day", "run", "task"})
"""What economics can be told by: a run, a task and a day have too few successes for it."""
EconomicsRow = dict[str, Any]
"""A row mixes names, counts and amounts; `FIELDS` has their names."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Human:
    """The person who would do it otherwise. Raises BadArguments for what is no wage or no pace."""

    usd_per_hour: Decimal
    tasks_per_hour: Decimal

    def __post_init__(self) -> None:
        for name, amount in (("usd_per_hour", self.usd_per_hour), ("tasks_per_hour", self.tasks_per_hour)):
            if not amount.is_finite() or amount <= 0:
                raise BadArguments(f"human {name} is {amount}: it is a number above 0")

    @property
    def usd_per_task(self) -> Decimal:
        """What a task costs when a person does it."""
        return QUOTIENT.divide(self.usd_per_hour, self.tasks_per_hour)


@dataclass(slots=True)
class Sums:
    """A row in the making."""

    work: Work = field(default_factory=Work)
    """Of the tasks."""
    rest: Work = field(default_factory=Work)
    """Of the period, naming no task."""
    tasks: int = 0
    judged: int = 0
    successes: int = 0
    credit: int = 0
    """Successes in millionths of millionths: one that several rows worked on is divided among them."""
    first_pass: int = 0
    accepted: int = 0
    too_young: int = 0
    reopened: int = 0
    ripe: Work = field(default_factory=Work)
    """Of the tasks whose verdict is old enough to be accepted."""
    ripe_tasks: int = 0
    ripe_judged: int = 0
    failed: Work = field(default_factory=Work)
    open: Work = field(default_factory=Work)
    """Of the tasks that nobody judged."""
    value_pico: int = 0
    without_value: int = 0
    """Successes that nobody said the worth of."""
    useful_tokens: int = 0
    generated_tokens: int = 0
    folded: int = 0
    """Tasks of which some calls are daily sums only."""
    calls_of_tasks: list[int] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class Economics:
    """The rows, dearest first, and one for everything; tasks that several rows worked on count once in it."""

    by: tuple[str, ...]
    rows: list[EconomicsRow]
    total: EconomicsRow
    human: Human | None
    value_usd: Decimal | None
    accept_after: timedelta
    unallocated_usd: Decimal | None
    """Cost of calls and charges in `rows` that lack one of the names asked for."""
    unallocated_share: float | None

    @property
    def fields(self) -> tuple[str, ...]:
        """Names and order of the rows' fields, which an empty report has as well."""
        return (*self.by, *FIELDS)


def economics(
    ledger: Ledger,
    by: Sequence[str] = ("agent",),
    *,
    since: datetime | None = None,
    until: datetime | None = None,
    human: Human | None = None,
    value_usd: Decimal | None = None,
    accept_after: timedelta = timedelta(days=7),
    at: datetime | None = None,
) -> Economics:
    """Return unit economics by these dimensions; no dimension gives one row of everything.

    A task belongs to the period that its first call began in. `value_usd` is the worth of a success whose outcome does
    not say it. A success counts as accepted once it has stood for `accept_after` at the time `at` (now). Raises
    BadArguments for names that nothing can be told by, and for a worth or time that is none.
    """
    keys = tuple(dict.fromkeys(by))
    for name in keys:
        check_dimension(name)
    if value_usd is not None and not value_usd.is_finite():
        raise BadArguments(f"value_usd is {value_usd}: it is an amount of dollars")
    if accept_after < timedelta(0):
        raise BadArguments(f"accept_after is {accept_after}: it is a span of time, 0 or more")
    done = work_done(ledger, keys, Period.of(since, until))
    ripe_before = to_micros((at or datetime.now(UTC)) - accept_after)
    worth = None if value_usd is None else to_pico(value_usd)
    rows: dict[Key, Sums] = {}
    whole = Sums()
    for task in done.tasks.values():
        _count(rows, whole, task, ripe_before=ripe_before, worth=worth)
    for key, work in done.rest.items():
        rows.setdefault(key, Sums()).rest.merge(work)
        whole.rest.merge(work)
    return _told(keys, rows, whole, human=human, value_usd=value_usd, accept_after=accept_after)


def check_dimension(name: str) -> None:
    """Raise BadArguments for what is none of `DIMENSIONS_OF_TASKS`."""
    if name in DIMENSIONS_OF_TASKS:
        return
    near = get_close_matches(name, DIMENSIONS_OF_TASKS, n=1)
    guess = f"did you mean {near[0]!r}? " if near else ""
    raise BadArguments(f"{name!r} is nothing to tell economics by: {guess}Choose from {', '.join(DIMENSIONS_OF_TASKS)}")


def _told(keys: tuple[str, ...], rows: Mapping[Key, Sums], whole: Sums, **options: Any) -> Economics:
    made = [
        dict(zip(keys, key, strict=True)) | _row(sums, options["human"])
        for key, sums in sorted(rows.items(), key=_dearest_first)
    ]
    lost = Work()
    for key, sums in rows.items():
        if None in key:
            lost.merge(sums.work)
            lost.merge(sums.rest)
    total = _row(whole, options["human"])
    known = total["agent_usd"]
    unallocated = _usd(lost)
    share = None if not known or unallocated is None else float(unallocated / known)
    return Economics(
        by=keys,
        rows=made if keys or whole.tasks or whole.rest.calls or whole.rest.charges else [],
        total=dict.fromkeys(keys) | total,
        unallocated_usd=unallocated,
        unallocated_share=share,
        **options,
    )


def _dearest_first(entry: tuple[Key, Sums]) -> tuple[int, tuple[tuple[bool, str], ...]]:
    key, sums = entry
    return -(sums.work.pico + sums.rest.pico), tuple((value is None, value or "") for value in key)


# --- counting ------------------------------------------------------------------------------------------------------


def _count(rows: dict[Key, Sums], whole: Sums, task: Task, *, ripe_before: int, worth: int | None) -> None:
    """Count a task in each row that worked on it, and once in the whole."""
    works = list(task.work.items())
    verdict = task.verdict
    succeeded = verdict is not None and verdict.success is True
    value = verdict.value_pico if verdict is not None else None
    if value is None and succeeded:
        value = worth
    if len(works) == 1:
        ((key, work),) = works
        for sums in (rows.setdefault(key, Sums()), whole):
            _count_in(sums, task, work, ripe_before)
            _credit(sums, PICO_PER_USD * succeeded, value, work.answer_tokens)
        return
    together = Work()
    for _, work in works:
        together.merge(work)
    _count_in(whole, task, together, ripe_before)
    _credit(whole, PICO_PER_USD * succeeded, value, together.answer_tokens)
    weights = [max(work.pico, 0) for _, work in works]
    weights = weights if any(weights) else [work.calls for _, work in works]
    credit, values = divided(PICO_PER_USD * succeeded, weights), divided(value or 0, weights)
    last = max(range(len(works)), key=lambda place: (works[place][1].answered_at, works[place][1].answer_tokens))
    for place, (key, work) in enumerate(works):
        sums = rows.setdefault(key, Sums())
        _count_in(sums, task, work, ripe_before)
        final = work.answer_tokens if place == last else 0
        _credit(sums, credit[place], None if value is None else values[place], final, is_success=succeeded)


def _credit(sums: Sums, credit: int, value: int | None, final_tokens: int, *, is_success: bool | None = None) -> None:
    succeeded = bool(credit) if is_success is None else is_success
    sums.credit += credit
    if value is not None:
        sums.value_pico += value
    elif succeeded:
        sums.without_value += 1
    if succeeded:
        sums.useful_tokens += final_tokens


def _count_in(sums: Sums, task: Task, work: Work, ripe_before: int) -> None:
    verdict = task.verdict
    success = None if verdict is None else verdict.success
    sums.tasks += 1
    sums.work.merge(work)
    sums.calls_of_tasks.append(work.calls)
    sums.generated_tokens += work.output_tokens
    sums.folded += bool(work.folded)
    stood_since = task.first if verdict is None or success is None else verdict.since
    if stood_since <= ripe_before:
        sums.ripe.merge(work)
        sums.ripe_tasks += 1
        sums.ripe_judged += success is not None
        sums.accepted += success is True
    else:
        sums.too_young += success is True
    if verdict is not None:
        sums.reopened += verdict.reopened
    if success is None:
        sums.open.merge(work)
        return
    sums.judged += 1
    if success:
        sums.successes += 1
        sums.first_pass += task.runs <= 1 and not task.retried
    else:
        sums.failed.merge(work)


# --- rows ----------------------------------------------------------------------------------------------------------

FIELDS: Final = (
    *("tasks", "judged", "successes", "credited_successes", "success_rate", "reopened"),
    *("tasks_usd", "unpriced", "charges_unpriced", "cost_per_success_usd", "cost_per_success_above_usd"),
    *("cost_per_success_statement", "accepted", "not_yet_accepted", "cost_per_accepted_usd"),
    *(
        "cost_per_accepted_above_usd",
        "cost_per_accepted_unpriced",
        "failure_usd",
        "failure_unpriced",
        "failure_share",
        "not_judged_usd",
    ),
    *("tokens_per_success", "tokens_per_success_above", "token_efficiency", "final_tokens", "generated_tokens"),
    *("first_pass", "first_pass_rate", "calls_per_task_p50", "calls_per_task_p95", "calls_per_task"),
    *("handoffs", "handoffs_unpriced", "handoff_usd", "no_task_usd", "no_task_unpriced", "agent_usd", "agent_unpriced"),
    *("human_usd_per_task", "human_usd", "gain_usd", "gain_per_task_usd", "roi"),
    *("cost_per_loop_usd", "break_even_loops", "value_usd", "without_value", "margin_usd", "margin", "folded_tasks"),
)
"""Of every row, after the names it is of."""


def _row(sums: Sums, human: Human | None) -> EconomicsRow:
    work, rest = sums.work, sums.rest
    everything = Work()
    everything.merge(work)
    everything.merge(rest)
    row: EconomicsRow = {
        "tasks": sums.tasks,
        "judged": sums.judged,
        "successes": sums.successes,
        "credited_successes": from_pico(sums.credit),
        "success_rate": _ratio(sums.successes, sums.judged),
        "reopened": sums.reopened,
        "tasks_usd": _usd(work) if sums.tasks else Decimal(0),
        "unpriced": work.unpriced,
        "charges_unpriced": work.charges_unpriced,
        "not_judged_usd": _usd(sums.open),
        "first_pass": sums.first_pass,
        "first_pass_rate": _ratio(sums.first_pass, sums.judged),
        "calls_per_task_p50": _quantile(sums.calls_of_tasks, 0.50),
        "calls_per_task_p95": _quantile(sums.calls_of_tasks, 0.95),
        "calls_per_task": _ratio(work.calls, sums.tasks),
        "handoffs": everything.people,
        "handoffs_unpriced": everything.people_unpriced,
        "handoff_usd": known_usd(
            from_pico(everything.people_pico),
            known=everything.people - everything.people_unpriced,
            unknown=everything.people_unpriced,
        ),
        "no_task_usd": _usd(rest),
        "no_task_unpriced": rest.unpriced,
        "agent_usd": _usd(everything),
        "agent_unpriced": everything.unpriced,
        "folded_tasks": sums.folded,
    }
    row |= _per_success(sums) | _per_accepted(sums) | _tokens(sums)
    row |= _against_people(sums, human, row["agent_usd"]) | _worth(sums, row["agent_usd"])
    return {name: row[name] for name in FIELDS}


def _per_success(sums: Sums) -> EconomicsRow:
    cost = success_cost(_task_cost(sums.work), tasks=sums.tasks, judged=sums.judged, successes=sums.successes)
    failed = _usd(sums.failed)
    known = from_pico(sums.work.pico)
    return {
        "cost_per_success_usd": cost.usd,
        "cost_per_success_above_usd": cost.above_usd,
        "cost_per_success_statement": cost.statement,
        "failure_usd": failed,
        "failure_unpriced": sums.failed.unpriced,
        "failure_share": None if failed is None or not known or not sums.judged else float(failed / known),
    }


def _per_accepted(sums: Sums) -> EconomicsRow:
    cost = _usd(sums.ripe)
    is_number = bool(sums.accepted) and cost is not None
    is_bound = not sums.accepted and 0 < sums.ripe_tasks == sums.ripe_judged and bool(cost)
    return {
        "accepted": sums.accepted,
        "not_yet_accepted": sums.too_young,
        "cost_per_accepted_usd": QUOTIENT.divide(cost or Decimal(0), Decimal(sums.accepted)) if is_number else None,
        "cost_per_accepted_above_usd": above(cost or Decimal(0), sums.ripe_tasks) if is_bound else None,
        "cost_per_accepted_unpriced": sums.ripe.unpriced,
    }


def _tokens(sums: Sums) -> EconomicsRow:
    tokens, all_judged = sums.work.tokens, sums.judged == sums.tasks
    is_bound = bool(sums.judged) and not sums.successes and all_judged and tokens > 0
    bound = int(above(Decimal(tokens), sums.judged)) if is_bound else None
    # Of tasks whose calls were folded nobody knows the final answer: a ratio that left it out would be too low.
    efficiency = None if sums.folded or not sums.judged else _ratio(sums.useful_tokens, sums.generated_tokens)
    return {
        "tokens_per_success": _ratio(tokens, sums.successes),
        "tokens_per_success_above": bound,
        "token_efficiency": efficiency,
        "final_tokens": None if sums.folded else sums.useful_tokens,
        "generated_tokens": sums.generated_tokens,
    }


def _against_people(sums: Sums, human: Human | None, agent_usd: Decimal | None) -> EconomicsRow:
    """What it saves against a person. A task that nobody judged saves nothing; unpriced calls make these bounds."""
    loop = QUOTIENT.divide(from_pico(sums.work.pico), Decimal(sums.work.calls)) if sums.work.calls else None
    row: EconomicsRow = dict.fromkeys(
        ("human_usd_per_task", "human_usd", "gain_usd", "gain_per_task_usd", "roi", "break_even_loops")
    )
    row["cost_per_loop_usd"] = None if _usd(sums.work) is None else loop
    if human is None:
        return row
    row["human_usd_per_task"] = human.usd_per_task
    if not sums.judged or agent_usd is None:
        return row
    row["human_usd"] = EXACT.multiply(human.usd_per_task, from_pico(sums.credit))
    row["gain_usd"] = EXACT.subtract(row["human_usd"], agent_usd)
    row["gain_per_task_usd"] = QUOTIENT.divide(row["gain_usd"], Decimal(sums.tasks))
    row["roi"] = QUOTIENT.divide(row["gain_usd"], agent_usd) if agent_usd > 0 else None
    if row["cost_per_loop_usd"]:
        saved = QUOTIENT.divide(row["human_usd"], Decimal(sums.tasks))
        row["break_even_loops"] = QUOTIENT.divide(saved, row["cost_per_loop_usd"])
    return row


def _worth(sums: Sums, agent_usd: Decimal | None) -> EconomicsRow:
    """What it earns. Successes of unknown worth make the value a lower bound, and the margin unknown."""
    value = from_pico(sums.value_pico)
    is_known = bool(sums.judged) and not sums.without_value and agent_usd is not None
    margin = EXACT.subtract(value, agent_usd or Decimal(0)) if is_known else None
    return {
        "value_usd": value if sums.value_pico or (sums.judged and not sums.without_value) else None,
        "without_value": sums.without_value,
        "margin_usd": margin,
        "margin": None if margin is None or value <= 0 else QUOTIENT.divide(margin, value),
    }


def _task_cost(work: Work) -> TaskCost:
    return TaskCost(
        records=work.calls + work.charges,
        unpriced=work.unpriced,
        charges_unpriced=work.charges_unpriced,
        pico=work.pico,
    )


def _usd(work: Work) -> Decimal | None:
    """What is known of its cost; None where nothing is."""
    unknown = work.unpriced + work.charges_unpriced
    return known_usd(from_pico(work.pico), known=work.calls + work.charges - unknown, unknown=unknown)


def _ratio(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def _quantile(counts: Sequence[int], share: float) -> int | None:
    """The least count that no fewer than this share of the tasks do not exceed (nearest rank)."""
    return sorted(counts)[ceil(share * len(counts)) - 1] if counts else None
