"""Whether a call, a tool or a step may begin, what is held for it, and what it counts for in the end."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from worlds import AT, CARDS, WHO, World, spent, tokens

from langchain_finops.budgets.estimate import WRITE_METERS
from langchain_finops.budgets.keys import balance_keys
from langchain_finops.budgets.loops import LoopGuard
from langchain_finops.budgets.models import ModelPolicy
from langchain_finops.budgets.policy import Budget
from langchain_finops.budgets.refusal import OnExceed, Refusal
from langchain_finops.budgets.run_state import RunState
from langchain_finops.clock import CALL_CLOCK, CallClock
from langchain_finops.errors import BadArguments
from langchain_finops.ledger import open_ledger
from langchain_finops.ledger.holds import Balance
from langchain_finops.ledger.memory import MemoryLedger
from langchain_finops.meter import Answer, Endpoint, OpenCall, Request
from langchain_finops.pricing import PriceBook, parse_cards
from langchain_finops.records import Attribution, CallError, ChargeRecord, RunRecord

# --- the acceptance of it all ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("scope", ["run", "all", "agent_id", "node", "thread_id"])
def test_the_call_that_would_break_a_budget_is_refused(scope: str) -> None:
    """A cent a call and a budget of 3.5 cents make three calls, whoever keeps the balance."""
    world = World((Budget(usd="0.035", scope=scope),))

    assert world.until_refused() == 3
    assert world.faults.count == 0


def test_a_refusal_says_what_was_estimated_from_what_and_how_to_change_it() -> None:
    """A person can act on it without looking anything up."""
    world = World((Budget(usd="0.035", scope="agent_id", name="daily"),))
    for _ in range(3):
        world.made()

    refusal = world.refused(Request(50, 1000, 1))

    assert refusal == Refusal(
        kind="budget",
        reason=(
            "budget 'daily' of agent_id=support has $0.03 spent of $0.035, and a call of m is estimated at $0.0101 "
            "(50 input tokens from the prompt and its tools, 1,000 output tokens from the request's own maximum). "
            "To go on, raise the limit, or shorten the prompt or lower max_tokens."
        ),
        budget="daily",
        scope="agent_id=support",
        unit="usd",
        limit=Decimal("0.035"),
        spent=Decimal("0.03"),
        held=Decimal(0),
        estimate=Decimal("0.0101"),
        node_path="a",
        run_id="run",
        on_exceed="raise",
        approval="usd agent_id daily",
    )


def test_a_full_budget_does_not_ask_for_a_smaller_call() -> None:
    """Where nothing is left, a shorter prompt helps as little as a longer one."""
    world = World((Budget(usd="0.03", per="day", scope="agent_id"),))
    for _ in range(3):
        world.made()

    refusal = world.refused(Request(50, 1000, 1))
    assert refusal.reason.endswith("To go on, raise the limit, or wait for the next day.")


def test_without_guards_nothing_is_measured_held_or_remembered() -> None:
    """Who sets no limit pays for none."""
    world = World()
    call = world.call()
    call.request = lambda: pytest.fail("the prompt was measured")

    assert world.meter.open(call, world.state) is None
    assert (call.hold, call.state) == (None, None)


# --- units -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("limit", "calls"),
    [({"tokens": 3500}, 3), ({"llm_calls": 4}, 4), ({"usd": "0.04"}, 4), ({"tokens": 3500, "llm_calls": 2}, 2)],
)
@pytest.mark.parametrize("scope", ["run", "all"])
def test_each_unit_is_counted(limit: dict[str, Any], calls: int, scope: str) -> None:
    """1,000 tokens and a cent a call; of several limits the one that is reached first holds."""
    world = World((Budget(**limit, scope=scope),))

    assert world.until_refused() == calls


def test_a_prompt_is_not_measured_for_a_limit_on_calls() -> None:
    """Reading a long prompt takes longer than counting to one."""
    world = World((Budget(llm_calls=5),))
    call = world.call()
    call.request = lambda: pytest.fail("the prompt was measured")

    assert world.meter.open(call, world.state) is None


@pytest.mark.parametrize("scope", ["run", "all", "node"])
def test_steps_are_counted_at_node_starts(scope: str) -> None:
    """Three nodes may begin, the fourth may not, and nothing after it."""
    world = World((Budget(steps=3, scope=scope),))
    answers = [world.meter.open_step(world.state, WHO) for _ in range(5)]

    assert [answer is None for answer in answers] == [True, True, True, False, False]
    refusal = answers[3]
    assert refusal is not None
    assert (refusal.unit, refusal.spent, refusal.held, refusal.estimate) == ("steps", 3, 0, 1)
    assert "has 3 steps spent of 3 steps, and a step in node 'a' takes 1 step." in refusal.reason


def test_steps_on_a_shared_budget_are_settled_with_the_run() -> None:
    """Until a run has ended its steps are held, afterwards they are spent; the next run finds them."""
    budget = Budget(steps=5, per="year", scope="agent_id")
    world = World((budget,))
    for _ in range(3):
        assert world.meter.open_step(world.state, WHO) is None
    assert (spent(world, budget).spent, spent(world, budget).held) == (0, 3)

    world.meter.close_run(world.state, run_record(steps=3))
    other = world.run("other")
    answers = [world.meter.open_step(other, WHO) for _ in range(3)]

    assert (spent(world, budget).spent, spent(world, budget).held) == (3, 2)
    assert [answer is None for answer in answers] == [True, True, False]
    assert answers[2] is not None
    assert (answers[2].spent, answers[2].estimate) == (5, 1)
    world.meter.close_run(other, run_record("other", steps=2))
    assert spent(world, budget) == Balance(balance=spent(world, budget).balance, spent=5)
    assert [run.steps for run in world.ledger.runs()] == [3, 2]


def test_steps_are_settled_once_however_many_invocations_of_a_run_end() -> None:
    """Two that share a run end one after the other, and a step that begins in between is settled by the second."""
    budget = Budget(steps=9, per="year", scope="agent_id")
    world = World((budget,))
    for _ in range(3):
        assert world.meter.open_step(world.state, WHO) is None
    world.meter.close_run(world.state, run_record(steps=3))
    assert world.meter.open_step(world.state, WHO) is None
    assert (spent(world, budget).spent, spent(world, budget).held) == (3, 1)
    for revision in (1, 2):
        again = replace(run_record(steps=4), invocation_id=f"again-{revision}", revision=revision)
        world.meter.close_run(world.state, again)

    assert (spent(world, budget).spent, spent(world, budget).held) == (4, 0)


@pytest.mark.parametrize("per", [None, "year"])
def test_two_limits_on_one_balance_count_a_step_once(per: str | None) -> None:
    """The smaller one refuses the sixth, and five are held, or spent where the run keeps them."""
    world = World((Budget(steps=5, per=per), Budget(steps=8, per=per)))
    answers = [world.meter.open_step(world.state, WHO) for _ in range(6)]

    assert [answer is None for answer in answers] == [True] * 5 + [False]
    assert answers[5] is not None
    assert (answers[5].spent, answers[5].held) == (5, 0)
    balance = spent(world, Budget(steps=5, per=per))
    assert balance.spent + balance.held == 5


def run_record(run_id: str = "run", steps: int = 0, **fields: Any) -> RunRecord:
    return RunRecord(
        **{
            "run_id": run_id,
            "invocation_id": f"{run_id}-invocation",
            "status": "completed",
            "started_at": AT,
            "ended_at": AT + timedelta(seconds=5),
            "steps": steps,
            **fields,
        }
    )


def test_the_time_of_a_run_is_checked_at_every_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten seconds are for the whole run, whatever it does in them, and whatever the wall clock says."""
    now = [100.0]
    world = World((Budget(seconds=10, warn_at=()),))
    world.state = RunState("run", "invocation", clock=lambda: now[0])
    world.made()
    now[0] += 9.5
    assert world.meter.open_step(world.state, WHO) is None
    now[0] += 0.5

    refusal = world.refused()

    assert (refusal.unit, refusal.limit, refusal.spent) == ("seconds", 10, 10)
    assert world.meter.open_step(world.state, WHO) == refusal


def test_seconds_of_calls_add_up_for_every_other_scope() -> None:
    """A call of a minute leaves no room, within 100 seconds, for another that is expected to take as long."""
    world = World((Budget(seconds=100, scope="agent_id", warn_at=()),))
    call = world.admitted()
    call.started_at -= timedelta(minutes=1)
    world.meter.close(call, Answer(usage=tokens(0, 10)))

    refusal = world.refused()

    assert (refusal.unit, refusal.spent) == ("seconds", refusal.estimate)
    assert refusal.spent is not None
    assert 60 <= refusal.spent < 65
    assert isinstance(world.open(state=world.run("other"), who=replace(WHO, node_path="b")), OpenCall)


def test_a_tool_counts_its_call_and_its_card() -> None:
    """Half a cent a search: 1.2 cents pay for two, and a tool without a card is a call and no money."""
    money, calls = Budget(usd="0.012", scope="agent_id"), Budget(tool_calls=4)
    world = World((money, calls))
    for number in range(2):
        assert ran(world, "search", f"tool-{number}")
    assert ran(world, "other", "tool-3")

    refusal = world.meter.open_tool(world.state, WHO, tool_id="tool-4", name="search")

    assert isinstance(refusal, Refusal)
    assert (refusal.budget, refusal.spent, refusal.estimate) == (money.label, Decimal("0.01"), Decimal("0.005"))
    assert (spent(world, money).spent, spent(world, money).held) == (10**10, 0)
    assert spent(world, calls).spent == 3
    assert [charge.cost_usd for charge in world.ledger.charges()] == [Decimal("0.005"), Decimal("0.005"), None]


def ran(world: World, name: str, tool_id: str) -> bool:
    hold = world.meter.open_tool(world.state, WHO, tool_id=tool_id, name=name)
    if isinstance(hold, Refusal):
        return False
    charge = ChargeRecord(charge_id=tool_id, kind="tool", name=name, source="callback", attribution=WHO, at=AT)
    world.meter.charge(charge, state=world.state, hold=hold)
    return True


def test_tool_calls_are_counted_whatever_came_of_them() -> None:
    """A tool that fails in a loop is what the limit is for."""
    world = World((Budget(tool_calls=2, scope="all"),))
    hold = world.meter.open_tool(world.state, WHO, tool_id="t", name="other")
    assert not isinstance(hold, Refusal)
    error = CallError(error_class="HTTPError", http_status=500)
    charge = ChargeRecord(charge_id="t", kind="tool", source="callback", at=AT, cost_usd=Decimal(0), error=error)
    world.meter.charge(charge, state=world.state, hold=hold)

    assert [ran(world, "other", name) for name in ("a", "b")] == [True, False]


def test_a_tool_that_somebody_charges_by_hand_is_no_call_of_ours() -> None:
    """What it cost counts; that it ran in this graph nobody says."""
    budget = Budget(tool_calls=5)
    world = World((budget,))
    charge = ChargeRecord(charge_id="c", kind="tool", name="search", source="user", attribution=WHO, at=AT)
    world.meter.charge(charge, state=world.state)

    assert spent(world, budget).spent == 0


def test_a_recorded_charge_counts_without_a_hold() -> None:
    """It was spent already: it is never refused, and leaves less for what comes next."""
    own, shared = Budget(usd="0.035"), Budget(usd=1, scope="agent_id")
    world = World((own, shared))
    charge = ChargeRecord(
        charge_id="c", kind="human", cost_usd=Decimal("0.02"), cost_status="reported", attribution=WHO, at=AT
    )
    world.meter.charge(charge, state=world.state)

    assert world.until_refused() == 1
    assert spent(world, shared).spent == 3 * 10**10
    assert [each.charge_id for each in world.ledger.charges()] == ["c"]


# --- estimates -------------------------------------------------------------------------------------------------------


def estimate_of(world: World, request: Request, **call: Any) -> int:
    """What is held for a call, in the smallest unit."""
    opened = world.admitted(request, **call)
    assert opened.hold is not None
    (share,) = opened.hold.shares
    world.meter.release(opened)
    return share.amount


def test_the_estimate_follows_the_request() -> None:
    """60 tokens of prompt at $2 a million, and as much output as each of its answers may have at $10."""
    world = World((Budget(usd=1),))

    assert estimate_of(world, Request(60, 100, 1)) == 60 * 2_000_000 + 100 * 10_000_000
    assert estimate_of(world, Request(60, 100, 3)) == 60 * 2_000_000 + 300 * 10_000_000


def test_an_estimate_is_made_at_the_price_of_its_time() -> None:
    """A price that changed a minute ago counts for the call that begins now, and not for the one before."""
    old = {"id": "old", "match": {"model": "m"}, "until": "2026-03-01", "rates": {"output_tokens": "10"}}
    new = {"id": "new", "match": {"model": "m"}, "from": "2026-03-01", "rates": {"output_tokens": "30"}}
    prices = PriceBook(cards=parse_cards([old, new], where="test"), catalog=False)
    world = World((Budget(usd=1),), prices=prices)
    held = []
    for began in (datetime(2026, 2, 28, 23, 59, tzinfo=UTC), datetime(2026, 3, 1, tzinfo=UTC)):
        call = world.call()
        call.started_at = began
        assert world.meter.open(call, world.state) is None
        assert call.hold is not None
        held.append(call.hold.shares[0].amount)

    assert held == [10**10, 3 * 10**10]


def test_output_without_a_maximum_is_the_past_of_node_and_model_else_what_the_budget_expects_else_a_thousand() -> None:
    """In this order; another node's past is none of it."""
    world, told = World((Budget(tokens=10**6),)), World((Budget(tokens=10**6, expected_output_tokens=70),))
    asked = Request(0, None, 1)
    assert (estimate_of(world, asked), estimate_of(told, asked)) == (1000, 70)

    for each in (world, told):
        each.made(output=40, request=asked)
        each.made(output=61, request=asked)

    assert (estimate_of(world, asked), estimate_of(told, asked)) == (51, 51)  # 101 / 2, rounded up.
    assert estimate_of(told, asked, who=replace(WHO, node_path="b")) == 70


def test_a_prompt_is_corrected_by_what_this_models_calls_really_used() -> None:
    """A model that counts 150 tokens where we see 100 counts 300 where we see 200; another one's prompts stay."""
    world = World((Budget(tokens=10**6),))
    world.made(output=0, input_=150, request=Request(100, 0, 1))

    assert estimate_of(world, Request(200, 0, 1)) == 300
    assert estimate_of(world, Request(200, 0, 1), model="m2") == 200


def test_two_budgets_may_estimate_a_call_differently() -> None:
    """Each by its own promise; the prompt is measured once."""
    world = World((Budget(tokens=10**6, expected_output_tokens=5), Budget(tokens=10**6, name="other")))
    measured = []
    call = world.call()
    call.request = lambda: measured.append(1) or Request(1, None, 1)  # type: ignore[func-returns-value]

    assert world.meter.open(call, world.state) is None
    assert call.hold is not None
    assert {share.label: share.amount for share in call.hold.shares} == {"1000000 tokens per run": 6, "other": 1001}
    assert measured == [1]


def test_a_self_hosted_model_is_held_by_past_seconds_else_a_minute() -> None:
    """$3.60 an hour is a tenth of a cent a second: six cents for a minute, two for what took 20 seconds."""
    world = World((Budget(usd=1),))
    first = world.admitted(model="own")
    assert first.hold is not None
    assert first.hold.shares[0].amount == 6 * 10**10
    first.started_at = datetime.now(UTC) - timedelta(seconds=20)
    world.meter.close(first, Answer(usage=tokens(5, 5)))

    second = world.admitted(model="own")

    assert second.hold is not None
    assert 2 * 10**10 <= second.hold.shares[0].amount < 2.1 * 10**10


@pytest.mark.parametrize("scope", ["run", "agent_id"])
def test_a_maximum_that_no_ledger_could_keep_is_refused(scope: str) -> None:
    """Not a fault of ours that lets it pass."""
    refusal = World((Budget(tokens=10**6, scope=scope),)).refused(Request(0, 10**30, 1))

    assert (refusal.kind, refusal.unit) == ("budget", "tokens")


def test_a_call_that_nobody_can_measure_is_held_for_what_its_model_answers() -> None:
    """A prompt that breaks our measure is no way around a budget."""
    world = World((Budget(usd="0.035"),))

    def broken() -> Request:
        raise RecursionError

    for expected in (True, True, True, False):
        call = world.call()
        call.request = broken
        refusal = world.meter.open(call, world.state)
        assert (refusal is None) is expected
        if refusal is None:
            world.meter.close(call, Answer(usage=tokens(0, 1000)))


# --- strict ----------------------------------------------------------------------------------------------------------


def test_a_strict_budget_holds_bytes_and_the_requests_maximum() -> None:
    """No token is less than a byte of the prompt."""
    world = World((Budget(tokens=10**6, admission="strict"),))
    call = world.call(Request(60, 100, 2))

    assert world.meter.open(call, world.state, prompt_bytes=lambda: 240) is None
    assert call.hold is not None
    assert call.hold.shares[0].amount == 240 + 200


def test_a_strict_budget_refuses_what_nothing_bounds() -> None:
    """It names what would bound it; a promise of the user's is a bound."""
    world = World((Budget(usd=1, admission="strict"),))
    refusal = world.refused(Request(60, None, 1))
    promised = World((Budget(usd=1, admission="strict", expected_output_tokens=50),))

    assert "max_tokens" in refusal.reason
    assert "expected_output_tokens" in refusal.reason
    assert (refusal.kind, refusal.estimate) == ("budget", None)
    assert estimate_of(promised, Request(0, None, 2)) == 2 * 50 * 10_000_000


def test_a_strict_budget_refuses_a_prompt_that_nobody_can_measure() -> None:
    """It names what keeps the prompt from being measured; where an expectation will do, the call is made."""
    asked = Request(60, 100, 1, unmeasured="a file that it names by its id or address")
    refusal = World((Budget(usd=1, admission="strict"),)).refused(asked)

    assert "a file that it names by its id or address" in refusal.reason
    assert "admission='expected'" in refusal.reason
    assert estimate_of(World((Budget(usd=1),)), asked) == 60 * 2_000_000 + 100 * 10_000_000


def test_a_call_of_anthropic_is_held_at_the_price_of_its_place() -> None:
    """A tenth more where it is to be inferred in the US: claude-opus-4-6 answers at $27.50 a million instead of $25."""
    world = World((Budget(usd=1),), prices=PriceBook())
    amounts = []
    for region in (None, "us"):
        call = world.call(Request(0, 1_000, 1), model="claude-opus-4-6")
        call.metadata = {"ls_provider": "anthropic", "ls_model_name": "claude-opus-4-6"}
        call.endpoint, call.started_at = Endpoint(region=region), datetime(2026, 11, 20, tzinfo=UTC)
        assert world.meter.open(call, world.state) is None
        assert call.hold is not None
        amounts.append(call.hold.shares[0].amount)

    assert amounts == [1_000 * 25_000_000, 1_000 * 27_500_000]


WRITES = [
    {
        "id": "writes",
        "match": {"model": "w"},
        "rates": {"input_tokens": "2", "cache_write_5m_tokens": "2.5", "cache_write_1h_tokens": "4",
                  "output_tokens": "10", "audio_output_tokens": "30"},
    }
]  # fmt: skip
WRITTEN = PriceBook(cards=parse_cards(WRITES, where="test"), catalog=False)


@pytest.mark.parametrize(
    ("provider", "meters", "input_usd", "output_usd"),
    [
        ("anthropic", (), 2, 10),
        ("anthropic", WRITE_METERS, 4, 10),
        ("openai", (), 4, 10),  # It writes prompts to its cache unasked.
        ("openai", ("audio_output_tokens",), 4, 30),
    ],
)
def test_a_strict_budget_holds_the_dearest_rate_that_may_be_charged(
    provider: str, meters: tuple[str, ...], input_usd: int, output_usd: int
) -> None:
    """240 bytes written to a cache for an hour at $4 a million, and 100 tokens that may be spoken at $30."""
    world = World((Budget(usd=1, admission="strict"),), prices=WRITTEN)
    call = world.call(Request(60, 100, 1, meters=meters), model="w")
    call.metadata = {"ls_provider": provider, "ls_model_name": "w"}

    assert world.meter.open(call, world.state, prompt_bytes=lambda: 240) is None
    assert call.hold is not None
    assert call.hold.shares[0].amount == (240 * input_usd + 100 * output_usd) * 1_000_000


@pytest.mark.parametrize("admission", ["expected", "strict"])
def test_a_call_is_held_at_the_tier_that_it_asks_for(admission: Any) -> None:
    """gpt-4.1-mini at priority: $0.70 and $2.80 a million, and $0.40 and $1.60 as usual."""
    world = World((Budget(usd=1, admission=admission),), prices=PriceBook())
    amounts = []
    for terms in ((("service_tier", "priority"),), ()):
        call = world.call(Request(10, 1_000, 1, terms), model="gpt-4.1-mini")
        call.metadata = {"ls_provider": "openai", "ls_model_name": "gpt-4.1-mini"}
        call.started_at = datetime(2026, 11, 20, tzinfo=UTC)
        assert world.meter.open(call, world.state, prompt_bytes=lambda: 10) is None
        assert call.hold is not None
        amounts.append(call.hold.shares[0].amount)

    assert amounts == [10 * 700_000 + 1_000 * 2_800_000, 10 * 400_000 + 1_000 * 1_600_000]


def test_an_answer_above_its_bound_is_recorded_as_overspend_and_ends_the_run() -> None:
    """The promise was 50 tokens; whoever broke it, nothing further is paid for."""
    world = World((Budget(usd=1, scope="agent_id", admission="strict", expected_output_tokens=50),))
    asked = Request(0, None, 1)
    world.meter.close(world.admitted(asked), Answer(usage=tokens(0, 51)))

    refusal = world.refused(asked)

    assert [call.reasons for call in world.ledger.calls()] == [("overspend",)]
    assert "a call took $0.00051, more than its bound of $0.0005" in refusal.reason
    assert world.meter.open_step(world.state, WHO) == refusal
    assert isinstance(world.open(asked, world.run("another")), OpenCall)


@pytest.mark.parametrize("on_exceed", ["warn", lambda _: "warn"])
def test_an_answer_above_the_bound_of_a_budget_that_only_warns_ends_nothing(
    on_exceed: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """It is on the record and in the log, once; a resumed run goes on as well. Another strict budget ends the run."""
    warning = Budget(usd=1, admission="strict", expected_output_tokens=50, on_exceed=on_exceed, warn_at=())
    world, asked = World((warning,)), Request(0, None, 1)
    for _ in range(2):
        world.made(51, request=asked)

    assert [call.reasons for call in world.ledger.calls()] == [("overspend",)] * 2
    assert list(world.ledger.events()) == []
    (entry,) = caplog.records
    assert "more than its bound of $0.0005. " in entry.getMessage()
    assert entry.getMessage().endswith("The run goes on, because on_exceed is warn.")

    both = World((warning, Budget(tokens=10_000, admission="strict", expected_output_tokens=50)))
    both.made(51, request=asked)
    assert both.refused(asked).budget == "10000 tokens per run"


# --- unpriced --------------------------------------------------------------------------------------------------------


def test_a_call_without_a_known_price_is_refused_where_a_budget_is_in_dollars() -> None:
    """Nobody could say when the budget is used up."""
    refusal = World((Budget(usd=1),)).refused(model="unknown")

    assert (refusal.kind, refusal.budget) == ("unpriced", "$1 per run")
    assert "unpriced='estimate'" in refusal.reason
    assert isinstance(World((Budget(tokens=5000),)).open(model="unknown"), OpenCall)


def test_with_unpriced_estimate_such_a_call_passes_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    """It counts as nothing, and says so once for its model."""
    budget = Budget(usd=1, unpriced="estimate")
    world = World((budget,))
    for _ in range(2):
        world.made(model="unknown")

    assert spent(world, budget).spent == 0
    (entry,) = caplog.records
    assert "a call of unknown has no known price" in entry.getMessage()
    assert [call.cost_status for call in world.ledger.calls()] == ["unpriced", "unpriced"]


# --- settling --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scope", ["run", "agent_id"])
def test_the_truth_replaces_the_estimate(scope: str) -> None:
    """While it is in flight a cent is held; it took a quarter of that."""
    budget = Budget(usd=1, scope=scope)
    world = World((budget,))
    call = world.admitted()
    assert (spent(world, budget).spent, spent(world, budget).held) == (0, 10**10)

    world.meter.close(call, Answer(usage=tokens(0, 250)))

    assert (spent(world, budget).spent, spent(world, budget).held) == (25 * 10**8, 0)


@pytest.mark.parametrize("scope", ["run", "agent_id"])
@pytest.mark.parametrize("reason", ["http_error", "not_sent"])
def test_what_is_not_charged_counts_for_nothing(scope: str, reason: str) -> None:
    """A provider that is down must not use a budget up, in any unit."""
    money, calls = Budget(usd=1, scope=scope), Budget(llm_calls=1, scope=scope)
    world = World((money, calls))
    answer = Answer(charged=False, whole=False, reasons=(reason,), error=CallError(error_class="E", http_status=503))
    world.meter.close(world.admitted(), answer)

    assert [(spent(world, each).spent, spent(world, each).held) for each in (money, calls)] == [(0, 0), (0, 0)]
    assert isinstance(world.open(), OpenCall)


@pytest.mark.parametrize("scope", ["run", "agent_id"])
def test_a_released_call_leaves_nothing(scope: str) -> None:
    """It was never sent, and never written down."""
    budget = Budget(usd="0.01", scope=scope)
    world = World((budget,))
    world.meter.release(world.admitted())

    assert world.until_refused() == 1
    assert len(list(world.ledger.calls())) == 1


def test_a_cancelled_call_is_charged_what_was_held_or_what_its_text_shows() -> None:
    """The larger of the two: hidden reasoning is billed too. 6,000 bytes are 1,500 tokens, more than the 1,000 held."""
    budget = Budget(usd=1, scope="agent_id")
    world = World((budget,))
    world.meter.close(world.admitted(), Answer(whole=False, reasons=("cancelled",)))
    assert spent(world, budget).spent == 10**10

    call = world.admitted()
    call.received_bytes = 6_000
    world.meter.close(call, Answer(whole=False, reasons=("cancelled",)))

    assert spent(world, budget).spent == 10**10 + 15 * 10**9
    assert [call.usage.output_tokens for call in world.ledger.calls()] == [1000, 1500]


def test_a_cancelled_call_is_charged_what_its_budget_held() -> None:
    """Where a strict budget held its bound, that is the charge: nobody knows that it was less."""
    world = World((Budget(tokens=10**6, admission="strict"),))
    call = world.call(Request(60, 100, 1))
    assert world.meter.open(call, world.state, prompt_bytes=lambda: 240) is None

    record = world.meter.close(call, Answer(whole=False, reasons=("cancelled",)))

    assert (record.usage.input_tokens, record.usage.output_tokens) == (240, 100)


def test_a_cancelled_call_is_charged_the_largest_of_what_its_budgets_held() -> None:
    """One held 240 bytes and 50 tokens that were promised, the other 60 tokens and 1,000 that it expected."""
    strict = Budget(tokens=10**6, admission="strict", expected_output_tokens=50)
    world = World((strict, Budget(tokens=10**6, scope="all")))
    call = world.call(Request(60, None, 1))
    assert world.meter.open(call, world.state, prompt_bytes=lambda: 240) is None

    record = world.meter.close(call, Answer(whole=False, reasons=("cancelled",)))

    assert (record.usage.input_tokens, record.usage.output_tokens) == (240, 1000)


def test_a_local_cache_hit_counts_for_nothing() -> None:
    """Nothing was sent."""
    money, calls = Budget(usd=1), Budget(llm_calls=1, scope="all")
    world = World((money, calls))
    world.meter.close(world.admitted(), Answer(usage={**tokens(0, 500), "total_cost": 0}))

    assert (spent(world, money).spent, spent(world, calls).spent) == (0, 0)
    assert isinstance(world.open(), OpenCall)


def test_a_replayed_call_counts_at_list_cost() -> None:
    """As if it had been sent: a replay stops where the recorded run did."""
    budget = Budget(usd="0.035")
    world = World((budget,))
    token = CALL_CLOCK.set(CallClock())
    try:
        for _ in range(3):
            call = world.admitted()
            assert call.clock is not None
            call.clock.started_at, call.clock.ended_at, call.clock.replayed = AT, AT, True
            world.meter.close(call, Answer(usage=tokens(0, 1000)))
        refusal = world.refused()
    finally:
        CALL_CLOCK.reset(token)

    assert refusal.spent == Decimal("0.03")
    assert {call.billed_usd for call in world.ledger.calls()} == {0}


def test_a_replay_counts_at_list_cost_whatever_the_contract_leaves() -> None:
    """Nothing is paid, so there is nothing to take a discount from."""
    contract = {"id": "deal", "match": {"model": "m"}, "factor": "0.5"}
    budget = Budget(usd=1)
    world = World((budget,), prices=PriceBook(cards=parse_cards([contract, CARDS[0]], where="test"), catalog=False))
    token = CALL_CLOCK.set(CallClock())
    try:
        call = world.admitted()
        assert call.clock is not None
        call.clock.started_at, call.clock.ended_at, call.clock.replayed = AT, AT, True
        world.meter.close(call, Answer(usage=tokens(0, 1000)))
    finally:
        CALL_CLOCK.reset(token)

    assert spent(world, budget).spent == 10**10


@pytest.mark.parametrize("scope", ["run", "agent_id"])
def test_an_answer_whose_price_nobody_knows_counts_as_what_was_held(scope: str) -> None:
    """It heard ten tokens of audio, which the card has no rate for; that is not the same as free."""
    budget = Budget(usd=1, scope=scope)
    world = World((budget,))
    usage = {**tokens(10, 10), "input_token_details": {"audio": 10}}
    record = world.meter.close(world.admitted(), Answer(usage=usage))

    assert record.cost_usd is None
    assert (spent(world, budget).spent, spent(world, budget).held) == (10**10, 0)


def test_a_request_for_several_prompts_takes_its_time_once() -> None:
    """The second prompt's call went along with the first."""
    budget = Budget(seconds=1000, scope="agent_id")
    world = World((budget,))
    for elsewhere in (False, True):
        call = world.admitted()
        call.started_at -= timedelta(minutes=1)
        world.meter.close(call, Answer(usage=tokens(0, 10), timed_elsewhere=elsewhere))

    assert 60 * 10**6 <= spent(world, budget).spent < 65 * 10**6


def test_a_contract_counts_at_what_it_leaves_to_pay() -> None:
    """Half the list price lets twice as many calls pass."""
    contract = {"id": "deal", "match": {"model": "m"}, "factor": "0.5"}
    cards = parse_cards([contract, CARDS[0]], where="test")
    world = World((Budget(usd="0.035"),), prices=PriceBook(cards=cards, catalog=False))

    assert world.until_refused() == 7


def test_a_late_answer_settles_the_difference() -> None:
    """A cancelled call was charged a cent; its answer came after all and says a fifth of one."""
    own, shared = Budget(usd=1), Budget(usd=1, scope="agent_id")
    world = World((own, shared))
    call = world.admitted()
    world.meter.close(call, Answer(whole=False, reasons=("cancelled",)))

    world.meter.supersede(call.call_id, Answer(usage=tokens(0, 200)), world.state)

    assert (spent(world, own).spent, spent(world, shared).spent) == (2 * 10**9, 2 * 10**9)


def test_a_late_answer_to_a_call_without_a_price_leaves_what_was_held() -> None:
    """A cent was counted, because nobody knew; adding the late price to it would count the call twice."""
    budget = Budget(usd=1, scope="agent_id")
    world = World((budget,))
    call = world.admitted()
    audio = {**tokens(10, 10), "input_token_details": {"audio": 10}}
    world.meter.close(call, Answer(usage=audio, whole=False, reasons=("cancelled",)))

    versions = world.meter.supersede(call.call_id, Answer(usage=tokens(0, 200)), world.state)

    assert versions is not None
    assert [version.cost_usd for version in versions] == [None, Decimal("0.002")]
    assert spent(world, budget).spent == 10**10


def test_a_hold_settles_in_the_window_it_was_made_in() -> None:
    """A call over midnight counts on the day it began."""
    budget = Budget(usd=1, per="day", scope="all")
    world = World((budget,))
    call = world.call()
    call.started_at = datetime.now(UTC) - timedelta(days=1)
    assert world.meter.open(call, world.state) is None
    world.meter.close(call, Answer(usage=tokens(0, 1000)))

    (limit,) = budget.limits()
    (before,) = balance_keys(limit, WHO, call.started_at, run_id="run")
    assert world.ledger.balances(before)[0].spent == 10**10
    assert spent(world, budget).spent == 0


def test_a_call_settles_even_where_the_ledger_breaks_its_contract(monkeypatch: pytest.MonkeyPatch) -> None:
    """The run's own balance has it, the fault is counted, and the run goes on."""
    own = Budget(usd="0.035")
    world = World((own, Budget(usd=1, scope="all")))
    call = world.admitted()
    monkeypatch.setattr(world.ledger, "settle", lambda *_: 1 / 0)

    world.meter.close(call, Answer(usage=tokens(0, 1000)))

    assert (spent(world, own).spent, spent(world, own).held) == (10**10, 0)
    assert world.faults.count == 1


# --- all or none, outermost first ------------------------------------------------------------------------------------


def test_all_is_held_or_nothing() -> None:
    """A run that has no more room leaves nothing on the shared budgets, nor the other way round."""
    own, shared = Budget(usd="0.015"), Budget(usd=1, scope="agent_id")
    world = World((own, shared))
    world.made()
    assert world.refused().budget == own.label
    assert (spent(world, shared).spent, spent(world, shared).held) == (10**10, 0)

    small = Budget(usd="0.015", scope="agent_id")
    wide = Budget(usd=1)
    other = World((small, wide))
    other.made()
    assert other.refused().budget == small.label
    assert (spent(other, wide).spent, spent(other, wide).held) == (10**10, 0)


@pytest.mark.parametrize("order", [1, -1])
def test_the_refusal_names_the_outermost_budget_that_does_not_fit(order: int) -> None:
    """In whatever order they were given, and whoever keeps their balances."""
    run, agent, everyone = (Budget(usd="0.015", scope=scope) for scope in ("run", "agent_id", "all"))
    world = World((run, agent, everyone)[::order])
    world.made()

    assert world.refused().budget == everyone.label


def test_budgets_on_one_balance_each_check_their_own_limit() -> None:
    """A soft limit under a hard one: they share what is spent, and hold it once."""
    soft, hard = Budget(usd="0.025", per="year", on_exceed="warn"), Budget(usd="0.045", per="year")
    world = World((soft, hard))
    call = world.admitted()
    assert spent(world, hard).held == 10**10
    world.meter.close(call, Answer(usage=tokens(0, 1000)))

    assert world.until_refused() == 3
    assert spent(world, hard).spent == 4 * 10**10


@pytest.mark.parametrize("scope", ["run", "agent_id"])
def test_budgets_on_one_balance_hold_the_larger_of_their_estimates(scope: str) -> None:
    """One expects 5 tokens, the other 50; the balance is one, and so is what it held and gives back."""
    small, large = (Budget(tokens=10**6 + each, scope=scope, expected_output_tokens=each) for each in (5, 50))
    world = World((small, large))
    call = world.admitted(Request(0, None, 1))
    assert spent(world, small).held == 50

    world.meter.release(call)
    assert spent(world, small).held == 0


def test_a_budget_per_node_counts_on_each_node_of_the_path() -> None:
    """A call in researcher/search counts for both; one in researcher alone leaves search as it was."""
    world = World((Budget(llm_calls=2, scope="node"),))
    inner, outer = replace(WHO, node_path="researcher/search"), replace(WHO, node_path="researcher")
    world.made(who=inner)
    world.made(who=outer)

    assert world.refused(who=inner).scope == "node=researcher"
    assert isinstance(World((Budget(llm_calls=2, scope="node"),)).open(who=inner), OpenCall)


def test_a_budget_counts_only_what_it_matches() -> None:
    """The writer's calls are none of the researcher's limit."""
    world = World((Budget(llm_calls=1, match={"node": "researcher"}),))

    assert world.until_refused() == 100
    assert world.until_refused(who=replace(WHO, node_path="researcher/search")) == 1


def test_a_limit_lowered_below_what_is_spent_refuses_everything() -> None:
    """Another handler on the ledger sets less than the first one's calls have taken."""
    ledger = MemoryLedger()
    World((Budget(usd=1, scope="agent_id"),), ledger).made()

    refusal = World((Budget(usd="0.005", scope="agent_id"),), ledger).refused(Request(0, 1, 1))

    assert (refusal.spent, refusal.limit) == (Decimal("0.01"), Decimal("0.005"))


def test_two_handlers_with_different_budgets_each_count_the_call() -> None:
    """Both on one ledger and one call: it is written once, and counts on the balances of both."""
    ledger = MemoryLedger()
    day, month = Budget(usd=1, per="day", scope="agent_id"), Budget(usd=1, per="month", scope="agent_id")
    first, second = World((day,), ledger), World((month,), ledger)
    calls = [(world, world.admitted()) for world in (first, second)]
    for world, call in calls:
        world.meter.close(call, Answer(usage=tokens(0, 1000)))

    assert (spent(first, day).spent, spent(second, month).spent) == (10**10, 10**10)
    assert len(list(ledger.calls())) == 1


def test_two_handlers_with_one_budget_count_the_call_once() -> None:
    """They share the balance, and hold the larger of their estimates."""
    ledger, budget = MemoryLedger(), Budget(usd=1, scope="agent_id")
    worlds = World((budget,), ledger), World((budget,), ledger)
    calls = [(world, world.admitted()) for world in worlds]
    assert spent(worlds[0], budget).held == 10**10
    for world, call in calls:
        world.meter.close(call, Answer(usage=tokens(0, 1000)))

    assert (spent(worlds[0], budget).spent, spent(worlds[0], budget).held) == (10**10, 0)


# --- what happens at the limit ---------------------------------------------------------------------------------------


def test_a_refusal_is_final_for_its_run() -> None:
    """Nothing more is admitted in it, however cheap, nor in any other node; other runs go on."""
    world = World((Budget(usd="0.015"), Budget(llm_calls=1000, scope="all")))
    world.made()
    refusal = world.refused()
    cheap, elsewhere = Request(0, 1, 1), replace(WHO, node_path="b", step=2)

    assert world.refused(cheap) == refusal
    assert world.refused(cheap, who=elsewhere) == replace(refusal, node_path="b")
    assert world.meter.open_step(world.state, elsewhere) == replace(refusal, node_path="b")
    assert world.meter.open_tool(world.state, WHO, tool_id="t", name="search") == refusal
    assert isinstance(world.open(cheap, world.run("other")), OpenCall)


def test_warn_admits_and_says_so_once(caplog: pytest.LogCaptureFixture) -> None:
    """The run goes on, and what it spends is counted."""
    budget = Budget(usd="0.015", on_exceed="warn", warn_at=())
    world = World((budget,))

    assert world.until_refused() == 100
    assert spent(world, budget).spent == 10**12
    (entry,) = caplog.records
    assert "on_exceed is warn" in entry.getMessage()


@pytest.mark.parametrize("word", ["raise", "interrupt", "drain"])
def test_the_word_at_the_limit_is_in_the_refusal(word: OnExceed) -> None:
    """What becomes of it is the caller's business."""
    world = World((Budget(usd="0.015", on_exceed=word),))
    world.made()

    assert world.refused().on_exceed == word


def test_a_function_decides_at_the_limit() -> None:
    """It sees the refusal, and its word counts."""
    seen: list[Refusal] = []

    def decide(refusal: Refusal) -> OnExceed:
        seen.append(refusal)
        return "drain" if len(seen) > 1 else "warn"

    world = World((Budget(usd="0.015", on_exceed=decide),))

    assert world.until_refused() == 2
    assert [refusal.spent for refusal in seen] == [Decimal("0.01"), Decimal("0.02")]


@pytest.mark.parametrize("decide", [lambda _: "later", lambda _: 1 / 0])
def test_a_function_that_fails_or_talks_nonsense_refuses(decide: Callable[[Refusal], OnExceed]) -> None:
    """A fault in the user's code is no open door."""
    world = World((Budget(usd="0.015", on_exceed=decide),))

    assert world.until_refused() == 1
    assert world.refused().on_exceed == "raise"


def test_a_drain_lets_the_superstep_finish() -> None:
    """The execution that was refused gets nothing more; others go on while they fit, until the graph has drained."""
    world = World((Budget(usd="0.025", on_exceed="drain"),))
    world.made()
    world.made()
    assert world.refused().on_exceed == "drain"
    cheap, sibling = Request(0, 1, 1), replace(WHO, node_path="b", step=2)

    assert world.refused(cheap).on_exceed == "drain"
    assert isinstance(world.open(cheap, who=sibling), OpenCall)
    assert world.state.draining is not None


@pytest.mark.parametrize(("amount", "more"), [(None, 2), (Decimal("0.03"), 3)])
def test_an_approval_raises_this_runs_limit(amount: Decimal | None, more: int) -> None:
    """By what was approved, else by as much again; other runs keep the limit as it was."""
    world = World((Budget(usd="0.015", on_exceed="interrupt"), Budget(usd=5, per="year")))
    assert world.until_refused() == 1
    world.meter.approve(world.state, world.refused(), amount, by="ann")

    assert world.until_refused() == more
    assert world.until_refused(state=world.run("other")) == 1
    (event,) = world.ledger.events()
    assert (event.action, event.subject, event.actor) == ("approve", "run", "ann")
    assert event.before == {"limit": "0.015"}


def test_an_approval_raises_the_budget_that_was_refused_and_no_other_of_its_name() -> None:
    """Six more calls for the run, and four a year for everybody: the fifth is the other budget's to refuse."""
    run, year = Budget(llm_calls=2, name="cap", on_exceed="interrupt"), Budget(llm_calls=4, per="year", name="cap")
    world = World((run, year))
    assert world.until_refused() == 2
    world.meter.approve(world.state, world.refused(), Decimal(6))

    assert world.until_refused() == 2
    refusal = world.refused()
    assert (refusal.scope, refusal.limit) == ("all", 4)
    resumed = world.run("run", resumed=True)
    assert (resumed.raised_by("llm_calls run cap"), resumed.raised_by("llm_calls/year all cap")) == (6, 0)


@pytest.mark.parametrize(
    ("world", "call"),
    [
        (World((Budget(usd=1, on_exceed="interrupt"),)), {"model": "unknown"}),
        (World((Budget(usd=1, admission="strict", on_exceed="interrupt"),)), {"request": Request(0, None, 1)}),
    ],
    ids=["unpriced", "unbounded"],
)
def test_what_has_no_limit_to_raise_is_let_through_by_an_approval(world: World, call: dict[str, Any]) -> None:
    """For this run, from then on; others ask again."""
    refusal = world.refused(**call)
    assert refusal.on_exceed == "interrupt"
    world.meter.approve(world.state, refusal, by="ann")

    assert all(isinstance(world.open(**call), OpenCall) for _ in range(2))
    assert isinstance(world.open(state=world.run("other"), **call), Refusal)


def test_a_denial_ends_the_run() -> None:
    """Whatever the budget would have done, from now on everything is refused."""
    world = World((Budget(usd="0.015", on_exceed="interrupt"),))
    world.until_refused()
    world.meter.deny(world.state, world.refused(), by="ann")

    assert world.refused(Request(0, 1, 1)).on_exceed == "raise"
    assert [event.action for event in world.ledger.events()] == ["deny"]


# --- strict handlers, models, loops, protected nodes -----------------------------------------------------------------


def test_a_strict_handler_wants_to_know_whose_call_it_is() -> None:
    """It says what is missing, and how to say it."""
    world = World((Budget(usd=1),), options={"strict": True, "require": ("agent_id", "user_id")})
    refusal = world.refused(who=replace(WHO, user_id=None))

    assert (refusal.kind, refusal.on_exceed) == ("strict", "raise")
    assert "user_id" in refusal.reason
    assert "agent_id" not in refusal.reason
    assert isinstance(world.open(state=world.run("other")), OpenCall)


def test_a_strict_handler_wants_a_limit_on_every_run() -> None:
    """A budget that does not apply to the call is none."""
    world = World((Budget(usd=1, match={"node": "b"}),), options={"strict": True})

    assert world.refused().kind == "strict"
    assert isinstance(world.open(state=world.run("other"), who=replace(WHO, node_path="b")), OpenCall)


def test_a_model_policy_refuses_or_warns(caplog: pytest.LogCaptureFixture) -> None:
    """Where it matches, and only there."""
    policy = ModelPolicy(match={"node": "router"}, allow=["*mini*"])
    world, router = World(models=(policy,)), replace(WHO, node_path="router")
    assert isinstance(world.open(), OpenCall)
    assert isinstance(world.open(model="m-mini", who=router), OpenCall)
    assert world.refused(who=router).kind == "model_policy"

    warned = World(models=(replace_policy(policy, "warn"),))
    assert isinstance(warned.open(who=router), OpenCall)
    assert "does not allow a call of m here: use another model, or change the policy. The run goes on" in caplog.text


def replace_policy(policy: ModelPolicy, on_exceed: OnExceed) -> ModelPolicy:
    return ModelPolicy(match=policy.match, allow=policy.allow, on_exceed=on_exceed)


def looped(world: World, digest: str, who: Attribution = WHO) -> Refusal | None:
    call = world.call(who=who)
    refusal = world.meter.open(call, world.state, digest=lambda: digest)
    if refusal is None:
        world.meter.close(call, Answer(usage=tokens(0, 1)))
    return refusal


def test_a_loop_is_refused() -> None:
    """The same prompt in the same node a fourth time, and nothing after it."""
    world = World(loops=(LoopGuard(repeats=3, window=12),))
    answers = [looped(world, "same") for _ in range(4)]

    assert [answer is None for answer in answers] == [True, True, True, False]
    assert answers[3] is not None
    assert answers[3].kind == "loop"
    assert looped(world, "another") is not None


def test_a_loop_that_somebody_approved_may_go_on() -> None:
    """The guard begins anew; it is not gone."""
    world = World(loops=(LoopGuard(repeats=1, window=4, on_exceed="interrupt"),))
    assert looped(world, "same") is None
    refusal = looped(world, "same")
    assert refusal is not None
    world.meter.approve(world.state, refusal)

    assert [looped(world, "same") is None for _ in range(2)] == [True, False]


def test_a_tool_poll_whose_result_changes_is_no_loop() -> None:
    """The guard is told what came of each call."""

    def polls(results: str) -> list[bool]:
        world = World(loops=(LoopGuard(repeats=2, window=12),))
        return [polled(world, f"poll-{number}", result) for number, result in enumerate(results)]

    assert polls("abcdef") == [True] * 6
    assert polls("aaaa") == [True, True, False, False]


def polled(world: World, tool_id: str, result: str) -> bool:
    hold = world.meter.open_tool(world.state, WHO, tool_id=tool_id, name="poll", digest=lambda: "args")
    if isinstance(hold, Refusal):
        return False
    charge = ChargeRecord(charge_id=tool_id, kind="tool", name="poll", source="callback", at=AT)
    world.meter.charge(charge, state=world.state, hold=hold, result=lambda: result)
    return True


def test_protected_nodes_are_admitted_in_a_refused_run_and_counted() -> None:
    """Cutting cost must not cut validation; what it costs is spent all the same."""
    budget = Budget(usd="0.015")
    world = World((budget, Budget(steps=1)), options={"protect": ("validate",)})
    world.made()
    world.refused()
    validate = replace(WHO, node_path="sub/validate", step=2)

    world.made(who=validate)

    assert spent(world, budget).spent == 2 * 10**10
    assert world.meter.open_step(world.state, validate) is None
    assert isinstance(world.open(), Refusal)


def test_a_protected_node_above_its_bound_does_not_end_the_run() -> None:
    """Its bound was held, and would not have refused it either."""
    budget = Budget(usd=1, admission="strict", expected_output_tokens=50)
    world = World((budget,), options={"protect": ("validate",)})
    world.made(output=51, request=Request(0, None, 1), who=replace(WHO, node_path="validate"))

    assert isinstance(world.open(Request(0, None, 1)), OpenCall)


def test_protected_nodes_need_no_price_and_no_bound() -> None:
    """A budget that cannot be checked does not stop them either."""
    world = World((Budget(usd=1, admission="strict"),), options={"protect": ("validate",)})

    assert isinstance(
        world.open(Request(0, None, 1), model="unknown", who=replace(WHO, node_path="validate")), OpenCall
    )


# --- words to the user -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scope", ["run", "agent_id"])
def test_each_share_of_a_limit_is_told_once(scope: str, caplog: pytest.LogCaptureFixture) -> None:
    """Half of ten cents at the fifth call, and 80 percent at the eighth."""
    world = World((Budget(usd="0.1", scope=scope, name="b"),))
    said = []
    for number in range(1, 11):
        caplog.clear()
        world.made()
        said += [(number, entry.getMessage().rpartition(", past ")[2]) for entry in caplog.records]

    assert said == [(5, "50% of it"), (8, "80% of it")]


def test_what_expected_holds_let_pass_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    """A call took five cents where one was expected: three cents too much."""
    world = World((Budget(usd="0.02", warn_at=()),))
    world.made(output=5000)

    (entry,) = caplog.records
    assert "$0.05 spent of $0.02, which is $0.03 too much" in entry.getMessage()


def test_what_protected_nodes_spend_beyond_the_limit_is_no_surprise(caplog: pytest.LogCaptureFixture) -> None:
    """Somebody said that they may."""
    world = World((Budget(usd="0.005", warn_at=()),), options={"protect": ("validate",)})
    world.made(output=5000, who=replace(WHO, node_path="validate"))

    assert caplog.records == []


# --- reach -----------------------------------------------------------------------------------------------------------


def test_a_budget_that_is_to_reach_further_than_its_ledger_is_refused_at_construction(tmp_path: Any) -> None:
    """Nobody is to believe that other machines see a file."""
    file = open_ledger(f"sqlite:///{tmp_path}/l.db")
    try:
        for ledger, reach in ((MemoryLedger(), "host"), (MemoryLedger(), "fleet"), (file, "fleet")):
            with pytest.raises(BadArguments, match=f"reach='{reach}'"):
                World((Budget(usd=1, per="day", reach=reach),), ledger)
        World((Budget(usd=1, per="day", reach="host"),), file)
        World((Budget(usd=1, per="day", reach="process"),))
    finally:
        file.close()
