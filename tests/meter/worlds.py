"""A meter with guards, and what tests ask of it."""

import threading
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from langchain_finops.budgets.guard import Guard
from langchain_finops.budgets.keys import balance_keys
from langchain_finops.budgets.loops import LoopGuard
from langchain_finops.budgets.models import ModelPolicy
from langchain_finops.budgets.policy import Budget
from langchain_finops.budgets.policy_file import Policies
from langchain_finops.budgets.refusal import Refusal
from langchain_finops.budgets.run_state import RunState
from langchain_finops.ledger import open_ledger
from langchain_finops.ledger.base import Ledger
from langchain_finops.ledger.holds import Balance
from langchain_finops.ledger.memory import MemoryLedger
from langchain_finops.meter import Answer, Faults, Meter, OpenCall, Request
from langchain_finops.pricing import PriceBook, parse_cards
from langchain_finops.records import Attribution

AT = datetime(2026, 3, 1, 12, tzinfo=UTC)
WHO = Attribution(agent_id="support", user_id="u-7", task_id="t-1", node="a", node_path="a", step=1)
CARDS = [
    {"id": "m", "match": {"model": "m*"}, "rates": {"input_tokens": "2", "output_tokens": "10"}},
    {"id": "own", "match": {"model": "own"}, "self_hosted": {"usd_per_instance_hour": "3.6", "instances": 1}},
    {"id": "search", "tool": "search", "usd_per_call": "0.005"},
]
BOOK = PriceBook(cards=parse_cards(CARDS, where="test"), catalog=False)
CENT = Request(0, 1000, 1)
"""At most 1,000 tokens of output at $10 a million: a cent."""


def tokens(input_tokens: int, output_tokens: int) -> dict[str, int]:
    """Usage as an integration reports it."""
    total = input_tokens + output_tokens
    return {"input_tokens": input_tokens, "output_tokens": output_tokens, "total_tokens": total}


@dataclass
class World:
    """A meter with guards, and one run of it."""

    budgets: tuple[Budget, ...] = ()
    ledger: Ledger = field(default_factory=MemoryLedger)
    loops: tuple[LoopGuard, ...] = ()
    models: tuple[ModelPolicy, ...] = ()
    options: dict[str, Any] = field(default_factory=dict)
    prices: PriceBook = BOOK

    def __post_init__(self) -> None:
        policies = Policies(budgets=self.budgets, loop_guards=self.loops, models=self.models)
        self.faults = Faults()
        self.guard = Guard(policies, ledger=self.ledger, **self.options)
        self.meter = Meter(ledger=self.ledger, prices=self.prices, faults=self.faults, guard=self.guard)
        self.state = self.run("run")
        self._count = 0
        self._lock = threading.Lock()

    def run(self, run_id: str, *, resumed: bool = False) -> RunState:
        return self.meter.open_run(run_id, f"{run_id}-invocation", resumed=resumed)

    def call(self, request: Request = CENT, who: Attribution = WHO, model: str = "m", run: str = "run") -> OpenCall:
        with self._lock:
            self._count += 1
            number = self._count
        ids = (f"{run}-call-{number}", run, f"{run}-invocation")
        return OpenCall(ids, who, {"ls_provider": "test", "ls_model_name": model}, lambda: request)

    def open(self, request: Request = CENT, state: RunState | None = None, **call: Any) -> OpenCall | Refusal:
        """An admitted call, or why it was refused."""
        state = state or self.state
        opened = self.call(request, run=state.run_id, **call)
        return self.meter.open(opened, state) or opened

    def admitted(self, *args: Any, **kwargs: Any) -> OpenCall:
        opened = self.open(*args, **kwargs)
        assert isinstance(opened, OpenCall), opened
        return opened

    def refused(self, *args: Any, **kwargs: Any) -> Refusal:
        refusal = self.open(*args, **kwargs)
        assert isinstance(refusal, Refusal)
        assert refusal.reason.endswith("."), "more sentences follow it in logs and exceptions"
        return refusal

    def made(self, output: int = 1000, input_: int = 0, **call: Any) -> None:
        """A call from its start to its end."""
        self.meter.close(self.admitted(**call), Answer(usage=tokens(input_, output)))

    def until_refused(self, **call: Any) -> int:
        """Calls that are made before one is refused, at most 100."""
        for count in range(100):
            opened = self.open(**call)
            if isinstance(opened, Refusal):
                return count
            self.meter.close(opened, Answer(usage=tokens(0, 1000)))
        return 100


def spent(world: World, budget: Budget, who: Attribution = WHO, run: str = "run") -> Balance:
    """What stands against a budget of one limit, wherever that is kept."""
    (limit,) = budget.limits()
    key = balance_keys(limit, who, datetime.now(UTC), run_id=run)[-1]
    own = world.state.balance(key)
    return own if own != Balance(balance=key) else world.ledger.balances(key)[0]


def spend_until_refused(job: tuple[str, str, str]) -> int:
    """What a process of its own does: a cent a call on a shared budget, until it is refused."""
    url, usd, run = job
    ledger = open_ledger(url, hold_timeout=30)
    try:
        world = World((Budget(usd=usd, scope="agent_id", warn_at=()),), ledger)
        return world.until_refused(state=world.run(run))
    finally:
        ledger.close()
