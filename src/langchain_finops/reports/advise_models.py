"""Models that are larger than what they are asked for: by the successes of a cheaper one, or by what they answer."""

from collections.abc import Iterator, Mapping
from math import sqrt
from typing import Any, Final

from langchain_finops.ledger.columns import Series
from langchain_finops.money import from_pico
from langchain_finops.reports.advise_look import PAID_MODES, Claims, Confidence, Finding, Look, command
from langchain_finops.reports.advise_prices import Units

__all__ = ["cheaper_success", "interval", "overhead", "small_answers"]

Name = str | None
LEAST_JUDGED: Final = 20
"""Tasks of each model: with fewer a comparison says nothing."""
MARGIN: Final = 0.10
"""How much worse a cheaper model may be at worst, by the lower bound of the difference, for a medium confidence."""
SMALL: Final = 50
"""Output tokens of a small answer: a word, a label, a route."""
LEAST_CALLS: Final = 50
MOST_SMALL: Final = 0.95
DEAR_USD: Final = 5
"""A million output tokens of a dear model cost at least that."""
LEAST_SHARE: Final = 0.10
"""Of an agent's cost: less overhead than that is not worth a change."""
Z: Final = 1.959963984540054


def interval(successes: int, tasks: int) -> tuple[float, float]:
    """Wilson's score interval of a rate at 95% (E. B. Wilson, JASA 22, 1927)."""
    rate, half = successes / tasks, Z * Z / tasks
    centre = (rate + half / 2) / (1 + half)
    spread = Z * sqrt(rate * (1 - rate) / tasks + half / (4 * tasks)) / (1 + half)
    return centre - spread, centre + spread


def _difference(ours: tuple[int, int], theirs: tuple[int, int]) -> tuple[float, float]:
    """Bounds of the first rate less the second (R. G. Newcombe, Statistics in Medicine 17, 1998, method 10)."""
    (low, high), (their_low, their_high) = interval(*ours), interval(*theirs)
    rate, other = ours[0] / ours[1], theirs[0] / theirs[1]
    worst = rate - other - sqrt((rate - low) ** 2 + (their_high - other) ** 2)
    best = rate - other + sqrt((high - rate) ** 2 + (other - their_low) ** 2)
    return worst, best


# --- a cheaper model does the same -----------------------------------------------------------------------------------


class _Side:
    """One model at a node."""

    def __init__(self, name: tuple[Name, Name], group: list[Series], tasks: set[int], look: Look) -> None:
        self.provider, self.model = name
        self.group, self.tasks = group, tasks
        said = [look.verdicts.get(look.columns.tasks[task]) for task in tasks]
        self.judged = sum(each is not None for each in said)
        self.successes = sum(each is True for each in said)
        self.pico = sum(
            pico
            for series in group
            for task, pico in zip(series.task, series.pico, strict=True)
            if task in tasks
        )  # fmt: skip
        self.unpriced = any(series.sort.unpriced for series in group)

    def row(self) -> dict[str, Any]:
        """The evidence."""
        return {
            "provider": self.provider, "model": self.model, "tasks": len(self.tasks), "judged": self.judged,
            "successes": self.successes, "success_rate": self.successes / self.judged if self.judged else None,
            "cost_usd": from_pico(self.pico),
        }  # fmt: skip


def cheaper_success(look: Look) -> Iterator[Finding]:
    """Nodes at which a cheaper model succeeds as often with the same kind of task."""
    for key, group in look.groups(lambda s: (s.sort.agent, s.sort.node, s.sort.task_type)).items():
        sides = _sides(look, group)
        found = [
            finding
            for dear in sides
            for cheap in sides
            if cheap is not dear and (finding := _swap(look, key, dear, cheap)) is not None
        ]
        best: dict[tuple[Name, Name], Finding] = {}
        for finding in sorted(found, key=lambda each: -each.claims.pico):
            best.setdefault((finding.provider, finding.model), finding)
        yield from best.values()


def _sides(look: Look, group: list[Series]) -> list[_Side]:
    """The models that had tasks of their own; a task that two of them worked on says nothing of either."""
    by_model: dict[tuple[Name, Name], list[Series]] = {}
    for series in group:
        by_model.setdefault((series.sort.provider, series.sort.model), []).append(series)
    if len(by_model) < 2:
        return []
    tasks = {name: {task for series in those for task in series.task if task >= 0} for name, those in by_model.items()}
    sides = []
    for name, those in by_model.items():
        others = set().union(*(tasks[other] for other in tasks if other != name))
        sides.append(_Side(name, those, tasks[name] - others, look))
    return [side for side in sides if side.judged >= LEAST_JUDGED]


def _swap(look: Look, key: tuple[Name, ...], dear: _Side, cheap: _Side) -> Finding | None:
    worst, best = _difference((cheap.successes, cheap.judged), (dear.successes, dear.judged))
    is_as_good = cheap.successes * dear.judged >= dear.successes * cheap.judged
    # A small difference that is sure is one all the same: with thousands of tasks five points are no equal success.
    if best < 0 or (worst < -MARGIN and not is_as_good):
        return None
    units = look.units(dear.group, sold=cheap.group)
    if units is None or cheap.unpriced or not dear.tasks:
        return None
    own = look.units(dear.group)
    claims = _at(units, dear.group, own)
    # What it costs a task to get there counts, too: a cheap model that takes twice the calls saves less.
    least = len(dear.tasks) * cheap.pico * claims.whole // (len(cheap.tasks) * dear.pico) if dear.pico else claims.whole
    claims.scale(claims.whole - least)
    if not claims.pico:
        return None
    agent, node, task_type = key
    confidence: Confidence = "medium" if worst >= -MARGIN else "low"
    return Finding(
        kind="cheaper_model",
        agent=agent, node=node, provider=dear.provider, model=dear.model, claims=claims, confidence=confidence,
        rests_on=f"{cheap.model} solved {cheap.successes} of {cheap.judged} tasks here"
        f"{'' if task_type is None else f' of type {task_type}'}, {dear.model} {dear.successes} of {dear.judged}; "
        f"at worst (95%) {100 * worst:+.0f} points. Nobody drew lots: the harder tasks may have gone to the dear one",
        evidence=[dear.row(), cheap.row()],
        see=command("economics", "--by", "agent,node,model"),
        change={"provider": cheap.provider, "model": cheap.model},
        lever=f"{cheap.model} at this node, or TieredChatModel with a cascade to {dear.model} where its answer fails",
        risk="Tasks that only the dear model solves; compare both on the same tasks (finops-eval) before switching",
    )  # fmt: skip


def _at(units: Units, group: list[Series], own: Units | None) -> Claims:
    """What the calls would save at these prices, against those that were paid, or `own` where these are lower: what a
    dearer tier costs is not the model's. Calls with meters that the prices do not tell are left out."""
    claims, signed = Claims(), 0
    for series in group:
        if series.sort.unpriced:
            continue
        for place in range(len(series)):
            if series.other[place] or not series.pico[place]:
                continue
            paid = series.pico[place] if own is None else min(series.pico[place], own.cost(series, place))
            saved = paid - units.cost(series, place)
            signed += saved
            claims.add(series, place, saved)
    claims.scale(signed)
    return claims


# --- small answers of dear models ------------------------------------------------------------------------------------


def small_answers(look: Look) -> Iterator[Finding]:
    """Nodes at which a dear model answers with a few tokens each time."""
    key = lambda s: (s.sort.agent, s.sort.node, s.sort.provider, s.sort.model)  # noqa: E731 - one line says it all
    for (agent, node, provider, model), group in look.groups(key).items():
        answered = [series for series in group if not series.sort.failed]
        calls = sum(map(len, answered))
        small = sum(output <= SMALL for series in answered for output in series.output)
        if calls < LEAST_CALLS or small < MOST_SMALL * calls:
            continue
        dear = look.units(group)
        other = look.prices.smaller(model)
        units = look.units(group, model=other) if other else None
        if not dear or not units or dear.usd_per_million_output() < DEAR_USD:
            continue
        claims = _at(units, group, dear)
        if claims.pico:
            yield _small((agent, node, provider, model), other, claims, _answers(answered, small))


def _answers(group: list[Series], small: int) -> dict[str, Any]:
    calls = sum(map(len, group))
    return {
        "calls": calls,
        "small_answers": small,
        "output_tokens_per_call": sum(sum(series.output) for series in group) / calls,
        "input_tokens_per_call": sum(sum(each) for s in group for each in (s.fresh, s.read, s.written)) / calls,
        "cost_usd": from_pico(sum(sum(series.pico) for series in group)),
    }


def _small(key: tuple[Name, Name, Name, Name], other: Name, claims: Claims, evidence: Mapping[str, Any]) -> Finding:
    agent, node, provider, model = key
    return Finding(
        kind="small_answers",
        agent=agent, node=node, provider=provider, model=model, claims=claims, confidence="low",
        rests_on=f"{evidence['small_answers']:,} of {evidence['calls']:,} answers have {SMALL} tokens or fewer. How "
        "hard they are to find, a count of tokens does not tell",
        evidence=[dict(evidence)],
        see=command("report", "--by", "node,model", *(() if agent is None else ("--agent", agent))),
        change={"provider": provider, "model": other},
        lever=f"{other} at this node",
        risk="A short answer may be a hard one: compare both on the same tasks (finops-eval) before switching",
    )  # fmt: skip


# --- overhead --------------------------------------------------------------------------------------------------------


def overhead(look: Look) -> Iterator[Finding]:
    """Agents of which a tenth or more of the cost is overhead, such as summaries of the history."""
    whole: dict[Name, int] = {}
    for series in look.columns.series:
        if series.sort.is_call and series.sort.role in {"agent", "overhead"} and series.sort.mode in PAID_MODES:
            whole[series.sort.agent] = whole.get(series.sort.agent, 0) + sum(series.pico)
    key = lambda s: (s.sort.agent, s.sort.node, s.sort.provider, s.sort.model)  # noqa: E731 - as above
    groups = look.groups(key, roles=("overhead",))
    cost: dict[Name, int] = {}
    for (agent, *_), group in groups.items():
        cost[agent] = cost.get(agent, 0) + sum(sum(series.pico) for series in group)
    for (agent, node, provider, model), group in groups.items():
        if cost[agent] and cost[agent] >= LEAST_SHARE * whole.get(agent, 0):
            yield _overhead(look, (agent, node, provider, model), group, cost[agent] / whole[agent])


def _overhead(look: Look, key: tuple[Name, Name, Name, Name], group: list[Series], share: float) -> Finding:
    agent, node, provider, model = key
    other = look.prices.smaller(model)
    units = look.units(group, model=other) if other else None
    own = look.units(group)
    claims = _at(units, group, own) if units else Claims()
    by_price = bool(claims.pico)
    if not by_price:
        claims = Claims()
        for series in group:
            for place in range(len(series)):
                claims.add(series, place, series.pico[place])
    calls = sum(map(len, group))
    return Finding(
        kind="overhead",
        agent=agent, node=node, provider=provider, model=model, claims=claims,
        confidence="medium" if by_price else "low", is_most=not by_price,
        rests_on=f"{100 * share:.0f}% of the agent's cost is overhead; "
        + (f"the same tokens at the price of {other}" if by_price else "what part can go, the ledger cannot tell"),
        evidence=[{"calls": calls, "cost_usd": from_pico(sum(sum(s.pico) for s in group)), "share": share}],
        see=command("insight", "overhead"),
        change={"provider": provider, "model": other} if by_price else {},
        lever=(f"{other} for it, and " if by_price else "")
        + "summaries only where what they save in later steps is more than they cost",
        risk="A poorer summary loses what a later step needs",
    )  # fmt: skip
