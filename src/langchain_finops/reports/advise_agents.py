"""Agents that run for nothing, that nobody waits for, that go on with what fails, or whose load fills a machine."""

from collections import Counter
from collections.abc import Iterable, Iterator, Set
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from itertools import groupby
from math import ceil
from typing import Any, Final

from langchain_finops.errors import BadArguments
from langchain_finops.ledger.columns import Series
from langchain_finops.ledger.summary import show_usd
from langchain_finops.ledger.totals import APART
from langchain_finops.money import EXACT, from_pico, to_pico
from langchain_finops.reports.advise_look import PAID_MODES, Claims, Finding, Look, command
from langchain_finops.reports.insight import RunWay, idle_runs, pause_of

__all__ = ["Machine", "idle_polling", "late_handoff", "not_waited_for", "self_hosting"]

Name = str | None
MICROS: Final = 1_000_000
HOUR: Final = 3600 * MICROS
HOURS_A_DAY: Final = 24
LEAST_PAUSE: Final = 60 * MICROS
"""Runs that follow each other faster come from a loop or from load, and not from a clock."""
NO_NEWS: Final = 50
"""Output tokens of a run that had nothing to tell."""
LEAST_SUCCESSES, LEAST_FAILURES = 20, 5
SURE_SUCCESSES: Final = 50
LEAST_SHARE: Final = 0.05
"""Of the agent's cost."""
USUAL_TIERS: Final = frozenset({None, "default", "standard", "standard_only", "on_demand"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """What one machine of your own costs and does: your figures. Raises BadArguments for what is no price or pace."""

    usd_per_hour: Decimal
    tokens_per_second: Decimal
    """Input and output together, that it goes on doing."""

    def __post_init__(self) -> None:
        for name in ("usd_per_hour", "tokens_per_second"):
            amount = getattr(self, name)
            if not amount.is_finite() or amount <= 0:
                raise BadArguments(f"machine {name} is {amount}: it is a number above 0")


def _of_agents(look: Look) -> dict[Name, list[Series]]:
    """Calls and tools by agent, as far as they are the agents' own and paid for by what is used."""
    found: dict[Name, list[Series]] = {}
    for series in look.columns.series:
        sort = series.sort
        is_tool = sort.tool is not None
        if sort.role not in APART and series.at and (is_tool or (sort.is_call and sort.mode in PAID_MODES)):
            found.setdefault(sort.agent, []).append(series)
    return found


def _touched(look: Look, group: Iterable[Series], column: str) -> set[int]:
    """The runs, or tasks, that went through a protected node."""
    return {number for series in group if look.is_protected(series) for number in getattr(series, column)}


# --- agents that poll ------------------------------------------------------------------------------------------------


def idle_polling(look: Look) -> Iterator[Finding]:
    """Agents that look at regular times whether there is something to do, and mostly find nothing."""
    solved = {task for task, success in look.verdicts.items() if success}
    for agent, group in _of_agents(look).items():
        # Few agents have a clock, and what their runs did takes long to put together.
        if pause_of(sorted(_began(group).values())) is None:
            continue
        numbers, runs = _runs(look, group)
        found = idle_runs(runs, solved)
        if found is None:
            continue
        idle, pause = found
        if pause < LEAST_PAUSE:
            continue
        chosen = {numbers[id(run)] for run in idle}
        output = sum(
            tokens for series in group for run, tokens in zip(series.run, series.output, strict=True) if run in chosen
        )
        found_work = len(idle) < len(runs)
        says_nothing = output <= NO_NEWS * len(idle)
        # Without either it may as well be a report that is written each day, and is wanted.
        if not (found_work or says_nothing) or chosen & _touched(look, group, "run"):
            continue
        claims = Claims()
        for series in group:
            for place, run in enumerate(series.run):
                if run in chosen:
                    claims.add(series, place, series.pico[place])
        if claims.pico or claims.unpriced:
            yield _idle(agent, claims, len(runs), len(idle), pause, found_work=found_work)


def _began(group: Iterable[Series]) -> dict[int, int]:
    """When each run of these began."""
    began: dict[int, int] = {}
    for series in group:
        for run, at in zip(series.run, series.at, strict=True):
            if run >= 0 and (run not in began or at < began[run]):
                began[run] = at
    return began


def _runs(look: Look, group: list[Series]) -> tuple[dict[int, int], list[RunWay]]:
    """The runs of an agent, and the number of each by its identity."""
    ways: dict[int, RunWay] = {}
    for series in group:
        sort = series.sort
        step = ("node", sort.node or "") if sort.is_call else ("tool", sort.tool or "")
        for run, at, task in zip(series.run, series.at, series.task, strict=True):
            if run < 0:
                continue
            way = ways.get(run)
            if way is None:
                way = ways[run] = RunWay(way=Counter())
            way.began = min(way.began, at)
            way.way[step] += 1
            if task >= 0:
                way.task = look.columns.tasks[task]
    return {id(way): run for run, way in ways.items()}, list(ways.values())


def _idle(agent: Name, claims: Claims, runs: int, idle: int, pause: float, *, found_work: bool) -> Finding:
    every = timedelta(seconds=round(pause / MICROS))
    return Finding(
        kind="idle_polling",
        agent=agent, claims=claims, confidence="medium" if found_work else "low",
        rests_on=f"{runs:,} runs, one every {every}; {idle:,} of them went the same way without a success"
        + ("" if found_work else ", all with hardly a word"),
        evidence=[{"runs": runs, "idle_runs": idle, "every_s": pause / MICROS, "calls": claims.calls}],
        see=command("insight", "idle"),
        lever="An event that starts the agent (a webhook, a queue, a change of the inbox), or a plain check without a "
        "model before it",
        risk="An event that is lost: keep a seldom run as a net",
    )  # fmt: skip


# --- runs that nobody waits for --------------------------------------------------------------------------------------


def not_waited_for(look: Look) -> Iterator[Finding]:
    """Agents that nobody waits for, and whose models are cheaper by a slower way."""
    for agent, group in _of_agents(look).items():
        calls = [series for series in group if series.sort.is_call]
        began = _began(calls)
        is_said = agent is not None and agent in look.unattended
        pause = pause_of(sorted(began.values()))
        is_clocked = pause is not None and pause >= LEAST_PAUSE
        if not began or not (is_said or (is_clocked and look.columns.waited_for.isdisjoint(began))):
            continue
        is_single = sum(map(len, calls)) == len(began)
        yield from _slower(look, agent, calls, is_single=is_single, is_said=is_said, pause=pause)


def _slower(
    look: Look, agent: Name, calls: list[Series], *, is_single: bool, is_said: bool, pause: float | None
) -> Iterator[Finding]:
    by_model: dict[tuple[Name, Name], list[Series]] = {}
    for series in calls:
        sort = series.sort
        if sort.tier in USUAL_TIERS and not look.is_protected(series) and not sort.unpriced:
            by_model.setdefault((sort.provider, sort.model), []).append(series)
    for (provider, model), group in by_model.items():
        batch = look.units(group, batch=True) if is_single else None
        units = batch or look.units(group, tier="flex")
        if units is None:
            continue
        claims = Claims()
        for series in group:
            for place in range(len(series)):
                if not series.other[place] and series.pico[place]:
                    claims.add(series, place, series.pico[place] - units.cost(series, place))
        if claims.pico:
            way = "the batch API" if batch else "service tier flex"
            yield _patient(agent, (provider, model), claims, way, pause=None if is_said else pause)


def _patient(agent: Name, names: tuple[Name, Name], claims: Claims, way: str, *, pause: float | None) -> Finding:
    provider, model = names
    why = (
        "You say that nobody waits for this agent"
        if pause is None
        else f"No run names a user or a thread, and they begin at regular times, every "
        f"{timedelta(seconds=round(pause / MICROS))}. That nobody waits is inferred from it"
    )
    return Finding(
        kind="not_waited_for",
        agent=agent, provider=provider, model=model, claims=claims, confidence="high" if pause is None else "low",
        rests_on=f"{why}. The price is the listed one of {way} for the same tokens",
        evidence=[{"calls": claims.calls, "price_by": way}],
        see=command("report", "--by", "user,thread", *(() if agent is None else ("--agent", agent))),
        change={"way": "batch" if way.endswith("batch API") else "flex"},
        lever=f"{way[0].upper()}{way[1:]} for this agent",
        risk="Answers come later, up to a day by a batch, and a request may be refused when the provider is busy",
    )  # fmt: skip


# --- going on with what fails ----------------------------------------------------------------------------------------


def late_handoff(look: Look) -> Iterator[Finding]:
    """Agents that go on with tasks which fail, past the number of calls that any success took."""
    for agent, group in _of_agents(look).items():
        calls = _calls_by_task(group)
        by_verdict: dict[bool | None, list[int]] = {}
        for task in calls:
            by_verdict.setdefault(look.verdicts.get(look.columns.tasks[task]), []).append(task)
        successes, failures = by_verdict.get(True, []), by_verdict.get(False, [])
        if len(successes) < LEAST_SUCCESSES or len(failures) < LEAST_FAILURES:
            continue
        most = max(calls[task] for task in successes)
        late = {task for task in failures if calls[task] > most} - _touched(look, group, "task")
        claims = Claims()
        for places in _places(group, late):
            for series, place in _after(places, most):
                claims.add(series, place, series.pico[place])
        whole = sum(sum(series.pico) for series in group)
        if len(late) >= LEAST_FAILURES and (claims.pico or claims.unpriced) and claims.pico >= LEAST_SHARE * whole:
            yield _handoff(agent, claims, most, (len(successes), len(failures), len(late)))


def _calls_by_task(group: list[Series]) -> Counter[int]:
    """How many calls each task took, 0 where it was done by tools alone."""
    calls: Counter[int] = Counter()
    for series in group:
        calls.update(series.task if series.sort.is_call else dict.fromkeys(series.task, 0))
    del calls[-1]
    return calls


def _places(group: list[Series], tasks: Set[int]) -> Iterator[list[tuple[Series, int]]]:
    """What was done for each of these tasks, in the order in which it began."""
    places = sorted(
        (task, at, number, place)
        for number, series in enumerate(group)
        for place, (task, at) in enumerate(zip(series.task, series.at, strict=True))
        if task in tasks
    )
    for _, those in groupby(places, key=lambda each: each[0]):
        yield [(group[number], place) for _, _, number, place in those]


def _after(places: list[tuple[Series, int]], most: int) -> list[tuple[Series, int]]:
    """What was done from the call on that is one too many."""
    calls = 0
    for number, (series, _) in enumerate(places):
        calls += series.sort.is_call
        if calls > most:
            return places[number:]
    return []


def _handoff(agent: Name, claims: Claims, most: int, counts: tuple[int, int, int]) -> Finding:
    successes, failures, late = counts
    evidence: dict[str, Any] = {
        "successes": successes, "failures": failures, "most_calls_of_a_success": most, "failures_with_more": late,
        "calls_after": claims.calls,
    }  # fmt: skip
    return Finding(
        kind="late_handoff",
        agent=agent, claims=claims, confidence="medium" if successes >= SURE_SUCCESSES else "low",
        rests_on=f"None of {successes:,} successes took more than {most:,} calls; {late:,} of {failures:,} failed "
        "tasks went on past that",
        evidence=[evidence],
        see=command("insight", "failed_tasks"),
        change={"calls": most},
        lever=f"A hand-off to a person after {most:,} calls of a task: handoff(...), or "
        f"Budget(llm_calls={most}, scope='task_id', on_exceed='interrupt')",
        risk="A success that would have come later. What the person costs is not counted: the tasks failed anyway",
    )  # fmt: skip


# --- a machine of one's own ------------------------------------------------------------------------------------------


def self_hosting(look: Look, machine: Machine, days: int) -> Iterator[Finding]:
    """Models whose load costs more than machines that could bear its busiest hour, by the user's own figures."""
    by_model = look.groups(lambda s: (s.sort.provider, s.sort.model), roles=("agent", "overhead"))
    for (provider, model), group in by_model.items():
        hours: Counter[int] = Counter()
        for series in group:
            for at, *tokens in zip(series.at, series.fresh, series.read, series.written, series.output, strict=True):
                hours[at // HOUR] += sum(tokens)
        capacity = EXACT.multiply(machine.tokens_per_second, Decimal(3600))
        peak, whole = max(hours.values()), sum(hours.values())
        machines = max(1, ceil(Decimal(peak) / capacity))
        own = EXACT.multiply(machine.usd_per_hour, Decimal(machines * days * HOURS_A_DAY))
        paid = sum(sum(series.pico) for series in group)
        if paid <= to_pico(own):
            continue
        claims = Claims()
        for series in group:
            for place in range(len(series)):
                claims.add(series, place, series.pico[place])
        claims.scale(paid - to_pico(own))
        evidence: dict[str, Any] = {
            "tokens": whole, "busiest_hour_tokens": peak, "machines": machines, "machines_usd": own,
            "utilisation": float(Decimal(whole) / (capacity * machines * days * HOURS_A_DAY)),
            "break_even_utilisation": float(
                Decimal(whole) / (capacity * machines * days * HOURS_A_DAY) * own / from_pico(paid)
            ),
            "cost_usd": from_pico(paid),
        }  # fmt: skip
        yield _hosted(provider, model, claims, machine, evidence)


def _hosted(provider: Name, model: Name, claims: Claims, machine: Machine, evidence: dict[str, Any]) -> Finding:
    return Finding(
        kind="self_hosting",
        provider=provider, model=model, claims=claims, confidence="low",
        rests_on=f"Your figures: {show_usd(machine.usd_per_hour)} an hour for {machine.tokens_per_second:f} tokens a "
        f"second. {evidence['machines']} bear the busiest hour, paid around the clock; {evidence['utilisation']:.1%} "
        f"of what they can do is used, and {evidence['break_even_utilisation']:.1%} would do to break even",
        evidence=[evidence],
        see=command("report", "--by", "model,day"),
        lever="An open model of the same use on machines of your own, metered by a self_hosted card",
        risk="Another model gives other answers; people, idle hours and peaks within the hour are not counted",
    )  # fmt: skip
