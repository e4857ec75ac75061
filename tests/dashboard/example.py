"""A ledger as a team has one: four agents over a week, one of which has begun to go round in circles."""

import random
from collections.abc import Iterator
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path

from langchain_finops.budgets.keys import balance_keys
from langchain_finops.budgets.outside import set_budget
from langchain_finops.budgets.policy import Budget
from langchain_finops.ledger import open_ledger
from langchain_finops.ledger.base import Ledger
from langchain_finops.ledger.holds import Settlement
from langchain_finops.records import Attribution, CallError, CallRecord, ChargeRecord, Event, Outcome, RunRecord
from langchain_finops.usage import Usage

BUDGETS = (
    Budget(usd=25, per="day", scope="agent_id"),
    Budget(usd=60, per="day", name="team"),
    Budget(usd=3),
)
PLANS = {
    "support": (("triage", "claude-haiku-4-5"), ("answer", "gpt-5-mini")),
    "research": (
        *(("plan", "gpt-5"), ("researcher/search", "gpt-5-mini")),
        *(("researcher/read", "gpt-5-mini"), ("write", "gpt-5")),
    ),
    "coder": (("plan", "claude-sonnet-4-5"), ("edit", "claude-sonnet-4-5"), ("test", "claude-haiku-4-5")),
    "billing": (("classify", "gpt-5-mini"), ("draft", "local-llama")),
}  # fmt: skip
PRICES = {"gpt-5": (1.25, 0.125, 10), "gpt-5-mini": (0.25, 0.025, 2), "claude-haiku-4-5": (1, 0.1, 5),
          "claude-sonnet-4-5": (3, 0.3, 15)}  # fmt: skip
SUCCESS = {"support": 0.9, "research": 0.7, "coder": 0.45, "billing": 0.8}
WORTH = {"support": "1.50", "research": "6", "coder": "2", "billing": "1"}


def write_example(path: Path, now: datetime, *, runs: int = 260) -> None:
    """Write it; some runs are still running at `now`."""
    rng = random.Random(11)
    ledger = open_ledger(path)
    for budget in BUDGETS:
        set_budget(ledger, budget, by="anna", reason="the plan for this quarter")
    for number in range(runs):
        agent = rng.choices(tuple(PLANS), (5, 3, 2, 2))[0]
        back = rng.uniform(0, 7 * 24 * 60) if number < runs * 0.8 else rng.uniform(14, 600)
        _write_run(ledger, rng, f"run-{number:04}", agent, now - timedelta(minutes=back), now=now, ended=True)
    for number, agent in enumerate(("coder", "coder", "coder", "research", "support")):
        began = now - timedelta(minutes=12 - 2 * number)
        _write_run(ledger, rng, f"live-{number:04}", agent, began, now=now, ended=False)
    ledger.write(
        _alert(now - timedelta(minutes=4), "coder", "$25/day per agent_id: spent at 6 times the rate that lasts a day")
    )
    ledger.write(_alert(now - timedelta(hours=7), "research", "$3 per run: 80% spent by run-0107"))
    ledger.close()


def _alert(at: datetime, agent: str, text: str) -> Event:
    return Event(event_id=f"alert-{text}", at=at, actor="langchain-finops", action="alert", subject=agent, reason=text)


def _write_run(
    ledger: Ledger, rng: random.Random, run: str, agent: str, began: datetime, *, now: datetime, ended: bool
) -> None:
    plan, at = PLANS[agent], began
    in_circles = agent == "coder" and now - began < timedelta(hours=3)
    steps = rng.randint(30, 55) if in_circles else rng.randint(len(plan), 3 * len(plan))
    who = Attribution(agent_id=agent)
    for call in _calls(rng, run, agent, began, steps, in_circles=in_circles):
        who, at = call.attribution, call.ended_at
        if at > now:
            break
        amounts = {
            key: int((call.cost_usd or 0) * 10**12)
            for budget in BUDGETS[:2]
            for key in balance_keys(budget.limits()[0], who, call.started_at, run_id=run)
        }
        ledger.settle(Settlement(record=call, amounts=amounts))
    if agent == "research" and at <= now:
        ledger.write(ChargeRecord(
            charge_id=f"{run}-search", kind="tool", run_id=run, invocation_id=run, attribution=who, name="web_search",
            quantity=Decimal(3), cost_usd=Decimal("0.03"), cost_status="exact", at=at,
        ))  # fmt: skip
    if ended and at <= now:
        bad = rng.random() < 0.06
        status, reason = (
            ("stopped", "budget:$3 per run")
            if in_circles
            else ("failed", "TimeoutError")
            if bad
            else ("completed", None)
        )
        ledger.write(RunRecord(
            run_id=run, invocation_id=run, attribution=who, name=f"{agent}-graph", status=status, stop_reason=reason,
            started_at=began, ended_at=at, steps=steps,
        ))  # fmt: skip
        success = not in_circles and not bad and rng.random() < SUCCESS[agent]
        worth = Decimal(WORTH[agent]) if success else None
        if rng.random() < 0.9:
            ledger.write(Outcome(task_id=f"task-{run}", success=success, value_usd=worth, at=at, judged_by="check"))


def _calls(
    rng: random.Random, run: str, agent: str, began: datetime, steps: int, *, in_circles: bool
) -> Iterator[CallRecord]:
    plan, at, context = PLANS[agent], began, rng.randint(600, 2500)
    for step in range(1, steps + 1):
        node, model = plan[1 + step % (len(plan) - 1)] if step > 1 else plan[0]
        cached = context * 7 // 10 if step > 2 else 0
        output = rng.randint(80, 700)
        took = timedelta(seconds=rng.uniform(0.8, 7))
        who = Attribution(
            agent_id=agent, user_id=f"user-{rng.randint(1, 40)}", task_id=f"task-{run}", thread_id=f"thread-{run}",
            node=node.rpartition("/")[2], node_path=node, step=step, attempt=2 if rng.random() < 0.03 else 1,
        )  # fmt: skip
        failed = rng.random() < 0.015
        price = PRICES.get(model)
        cost = None
        if price is not None:
            fresh, read, out = (Decimal(str(each)) for each in price)
            cost = ((context - cached) * fresh + cached * read + output * out) / 1_000_000
        yield CallRecord(
            call_id=f"{run}-{step}", run_id=run, invocation_id=run, attribution=who,
            provider=None if price is None else "openai" if model.startswith("gpt") else "anthropic", model=model,
            usage=Usage(input_tokens=context - cached, cache_read_tokens=cached, output_tokens=output),
            cost_usd=cost, contracted_usd=cost, billed_usd=cost, cost_status="unpriced" if cost is None else "exact",
            started_at=at, ended_at=at + took, service_tier=rng.choice((None, None, "priority")),
            error=CallError(error_class="RateLimitError", http_status=429) if failed else None,
        )  # fmt: skip
        at += took + timedelta(seconds=rng.uniform(0.1, 2))
        context += rng.randint(900, 2600) if in_circles else rng.randint(100, 900)
