"""What is said under the evaluation table: what was counted, assumed and seen, and what it can and cannot tell."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence

from langchain_finops.evals.arms import Plan
from langchain_finops.evals.rows import Computed, TableOptions
from langchain_finops.reports.render import Row

__all__ = ["notes_of"]


def notes_of(computed: Computed, plan: Plan) -> Iterator[str]:
    """The checklist, one sentence a line."""
    if not computed.arms:
        yield "No attempts yet."
        return
    options = computed.options
    yield _counted(computed, options)
    yield from (f"Not finished: {why}." for why in plan.stopped)
    yield _priced(computed, plan, options)
    yield from _called(computed, plan)
    yield from _verdicts(computed, options)
    yield from _precision(computed, options)
    yield _looked(plan)
    yield from _marks(computed)
    yield from _unusual(computed, options)
    yield from _valued(computed, plan)


def _called(computed: Computed, plan: Plan) -> Iterator[str]:
    """Of which calls the figures are."""
    own = [row for row in computed.rows if row["configuration"] not in plan.foreign]
    foreign = [row["configuration"] for row in computed.rows if row["configuration"] in plan.foreign]
    if own:
        calls, unpriced, estimated, replayed = (
            sum(row[name] for row in own) for name in ("calls", "unpriced_calls", "estimated_calls", "replayed_calls")
        )
        live = "all live"
        if replayed:
            live = f"{replayed:,} were replayed: list costs and latencies as recorded, nothing was billed for them"
        yield f"{calls:,} calls of the agents: {unpriced:,} unpriced, {estimated:,} estimated, {live}."
        judged = sum(row["judge_calls"] for row in own)
        unknown = [row["configuration"] for row in own if row["judge_cost_usd"] is None]
        if judged or unknown:
            cost = f"; what they cost is unknown for {', '.join(unknown)}" if unknown else ""
            yield f"{judged:,} calls of judges{cost}."
    if foreign:
        yield f"From a file that tells costs and successes, and nothing else: {', '.join(foreign)}."
    targets = {attempt.fingerprint for arm in computed.arms for attempt in arm.tries if arm.name not in plan.foreign}
    if len(targets) > 1:
        yield f"Answers come from {len(targets)} versions of the target."


def _looked(plan: Plan) -> str:
    """Who looks while the figures grow, and stops at what pleases, sees differences where there are none."""
    if plan.looks is None:
        return "How often these figures were looked at while they grew is not known; intervals hold for one look."
    if plan.looks <= 1:
        return "Looks taken: 1, for which the intervals hold."
    return (
        f"Looks taken: {plan.looks:,}; intervals hold for one: stopping at a look that pleases makes "
        "differences where there are none."
    )


def _valued(computed: Computed, plan: Plan) -> Iterator[str]:
    """What a person and a success are taken to be worth."""
    human = plan.human
    if human is not None:
        told = f"a success by a person costs ${_amount(human.usd_per_success)}"
        text = f"ROI against people: {told} (${human.usd_per_hour:f} an hour, {human.tasks_per_hour:f} tasks an hour"
        right = "" if human.success_rate == 1 else f", {float(human.success_rate):.0%} right"
        minutes = f"{human.minutes_per_handoff.normalize():f} minutes"
        yield f"{text}{right}); a hand-off takes {minutes} of them, which are priced in."
        known = [f"{row['configuration']} {row['roi']:,.1f}" for row in computed.rows if row["roi"] is not None]
        if known:
            yield f"ROI: {', '.join(known)}."
    if plan.value_usd is not None:
        yield f"A success is worth ${plan.value_usd:f} by the suite: margins are of that."


def _amount(amount: object) -> str:
    return f"{float(str(amount)):,.2f}"


def _level(options: TableOptions) -> str:
    return f"{options.level * 100:g}%"


def _counted(computed: Computed, options: TableOptions) -> str:
    tasks = len(computed.planned)
    repeats = {len(each) for each in computed.planned.values()}
    times = f" x {max(repeats)} repeats" if len(repeats) == 1 and repeats != {1} else ""
    attempts = sum(row["attempts"] for row in computed.rows)
    clusters = ", repeats of a task counted as one cluster" if times or len(repeats) > 1 else ""
    scorer = f" Success as judged by {options.scorer}." if options.scorer else ""
    return f"{tasks:,} tasks{times}, {attempts:,} attempts. {_level(options)} intervals over tasks{clusters}.{scorer}"


def _priced(computed: Computed, plan: Plan, options: TableOptions) -> str:
    seen = dict.fromkeys(name for arm in computed.arms for attempt in arm.tries for name in attempt.costs_by_card)
    names = [*plan.cards, *(name for name in seen if name not in plan.cards)]
    used = options.cards or plan.priced_by
    told = {name: f"{name} ({plan.cards[name]})" if plan.cards.get(name) else name for name in names}
    others = [told[name] for name in names if name != used]
    text = f"Costs are list costs by card set {told.get(used, used)}" if used else "Costs are list costs"
    if others and used:
        text += f"; --cards chooses {', '.join(others)}"
    elif others:
        text += f"; card sets: {', '.join(others)}"
    return f"{text}. Judges and harness are apart, in no other figure."


def _verdicts(computed: Computed, options: TableOptions) -> Iterator[str]:
    said: dict[str, list[str]] = {}
    for row in computed.rows:
        if row["verdict"] is not None:
            why = f" ({row['verdict_why']})" if row["verdict_why"] else ""
            said.setdefault(f"{row['verdict']}{why}", []).append(row["configuration"])
    if not said:
        return
    margin = f", not inferior up to +{options.margin:.0%}" if options.margin else ""
    findings = "; ".join(f"{finding}: {', '.join(names)}" for finding, names in said.items())
    yield (
        f"Cost per success against {computed.baseline}, paired by task, Holm-adjusted{margin}; needs "
        f"{options.min_tasks} tasks and {options.min_successes} successes: {findings}."
    )


def _precision(computed: Computed, options: TableOptions) -> Iterator[str]:
    tasks = len(computed.planned)
    for name, what in (("tasks_needed", "a cost per success"), ("vs_baseline_tasks_needed", "a ratio to the baseline")):
        needed = [row[name] for row in computed.rows if row[name] is not None]
        if needed:
            fewest, most = min(needed), max(needed)
            span = f"{fewest:,}" if fewest == most else f"{fewest:,} to {most:,}"
            width = f"+-{options.half_width:.0%}"
            yield f"To know {what} to {width}, about {span} tasks are needed; there are {tasks:,}."
    if len(computed.arms) > 1 and tasks < options.min_tasks:
        yield f"A set of {tasks:,} tasks cannot rank close configurations."


def _marks(computed: Computed) -> Iterator[str]:
    rows = computed.rows
    placed = [row for row in rows if row["frontier"] is not None]
    of = f"the {len(placed)} placed" if len(placed) < len(rows) else f"{len(rows)}"
    if any(row["frontier"] for row in rows):
        yield "*: on the cost/quality frontier: none costs less and succeeds as often, nor does a mix of two."
    for row in rows:
        if row["selected"]:
            yield (
                f"selected: {row['configuration']}, on the frontier too, has the lowest cost per success of "
                f"{of}; picked by its figure, so its interval is too good: confirm it on fresh tasks."
            )
    unplaced = [row["configuration"] for row in rows if row["frontier"] is None]
    if unplaced:
        yield f"?: not placed, for want of attempts, costs or verdicts: {', '.join(unplaced)}."


def _unusual(computed: Computed, options: TableOptions) -> Iterator[str]:
    """Sentences on whatever keeps a figure from being what it seems."""
    rows = computed.rows
    for row in rows:
        if not row["complete"]:
            yield (
                f"{row['configuration']}: {row['attempts']:,} of {row['planned_attempts']:,} attempts were made; its "
                "own figures are over those, comparisons over the tasks that are complete on both sides."
            )
    yield from _listed(rows, lambda row: row["basis"] != "sums", "per-task means, as tasks have unequal slots")
    yield from _listed(rows, lambda row: row["unknown_costs"], ">=: attempts of unknown cost, no upper bound")
    yield from _listed(rows, lambda row: row["imputed_costs"], "unknown costs filled with the dearest attempt")
    bounded = [row for row in rows if row["cost_per_success_bound"] == ">" and row["cost_per_success_usd"] is not None]
    yield from _listed(
        bounded, lambda _: True, f">: no success; one-sided {_level(options)} bound by the number of tasks"
    )
    yield from _listed(
        rows,
        lambda row: row["unjudged"],
        "attempts without a verdict, counted as no success",
    )
    if any(row["unscored_won_cost_per_success_usd"] is not None for row in rows):
        yield (
            "Their rates and costs are ranges, from none of those as successes to all; ROI and margins count none; "
            "scores, pass^k and the share spent on failures are unknown."
        )
    yield from _listed(
        rows, lambda row: row["unpriced_charges"], "charges without a price, such as tools without a card, left out"
    )
    yield from _listed(rows, lambda row: row["estimated_calls"], "calls whose tokens were estimated, counted as such")
    yield from _ends(computed)


def _listed(rows: Sequence[Row], wanted: Callable[[Row], object], what: str) -> Iterator[str]:
    """One sentence with the names, and the counts where `wanted` gives them."""
    found = [(row["configuration"], wanted(row)) for row in rows if wanted(row)]
    if found:
        names = [name if count is True else f"{name} {count:,}" for name, count in found]
        yield f"{what[0].upper()}{what[1:]}: {', '.join(names)}."


def _ends(computed: Computed) -> Iterator[str]:
    """How attempts ended that did not complete; each counts, with its cost, as no success."""
    ends = [slot.last for arm in computed.arms for slot in arm.slots if slot.last.status != "completed"]
    reasons = Counter(f"{last.status} ({last.stop_reason or 'no reason given'})" for last in ends)
    if reasons:
        told = ", ".join(f"{count:,} {reason}" for reason, count in sorted(reasons.items()))
        yield f"Counted as no success, with their cost: {told}."
    again = Counter(
        attempt.stop_reason
        for arm in computed.arms
        for slot in arm.slots
        for attempt in slot.tries
        if attempt is not slot.last
    )
    why = {"infrastructure": "infrastructure errors", "interrupted": "a crash or Ctrl-C"}
    for reason, count in sorted(again.items(), key=str):
        yield f"{count:,} tries were repeated after {why.get(reason or '', reason)}; their cost is in their attempt's."
