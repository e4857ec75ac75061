"""What tiers cost beside the dearest alone: every try, router and judge in it, and an estimate said to be one."""

from datetime import timedelta
from decimal import Decimal

import pytest
from langchain_core.runnables import RunnableConfig, RunnableLambda
from tier_models import BOOK, Said, answer, worded

from langchain_finops import FinOpsHandler, Ledger
from langchain_finops.errors import BadArguments
from langchain_finops.levers import Tier, TieredChatModel, cascade, routing_costs
from langchain_finops.records import CallRecord
from langchain_finops.testing.records import MONDAY, a_call
from langchain_finops.usage import Usage


def test_tries_in_vain_failures_and_judges_are_all_in_what_was_spent(
    small: Said, big: Said, handler: FinOpsHandler, ledger: Ledger
) -> None:
    """Three requests: a cent accepted, a cent rejected and ten more, a failure and ten; judges take $2 a million.

    Alone: 10 + 10 + 10 cents. Spent: 1 + 11 + 10 cents and two judges' 0.2 each.
    """
    small.say = lambda _, number: ConnectionError("down") if number == 3 else answer("ok")
    judge = Said(model_name="judge", say=lambda _, number: answer("90" if number == 1 else "10", "judge"))
    model = TieredChatModel([Tier("worker", small), Tier("brain", big)], policy=cascade(judge))
    for _ in range(3):
        model.invoke("hi", {"callbacks": [handler]})
    big.invoke("beside", {"callbacks": [handler]})

    costs = routing_costs(ledger.calls(), dearest="brain", prices=BOOK)

    failed = sum((call.cost_usd or 0 for call in ledger.calls() if call.error), Decimal(0))
    assert (costs.requests, costs.overhead_usd) == (3, Decimal("0.004"))
    assert costs.spent_usd == Decimal("0.224") + failed
    assert costs.alone_usd == Decimal("0.30")
    assert costs.saved_usd == Decimal("0.076") - failed


@pytest.mark.parametrize("outside", [True, False])
def test_where_the_dearest_tier_answered_itself_its_own_call_is_what_it_costs_alone(
    *, outside: bool, small: Said, big: Said, handler: FinOpsHandler, ledger: Ledger
) -> None:
    """Four requests, one after the other, of which the dearest answers the second and the last, with 3,000 tokens.

    It says more than the first try's 1,000: $0.30 each of these, and $0.10 each of the two that it did not see.
    """
    small.say = lambda _, number: answer("bad" if number in {2, 4} else "ok", output_tokens=1_000)
    big.say = lambda *_: answer("big", "big", output_tokens=3_000)
    model = TieredChatModel(
        [Tier("worker", small), Tier("brain", big)], policy=cascade(lambda _, said: said.text == "ok")
    )

    def all_of_them(_: object, config: RunnableConfig) -> None:
        for _number in range(4):
            model.invoke("hi", config)

    if outside:
        all_of_them(None, {"callbacks": [handler]})
    else:
        RunnableLambda(all_of_them).invoke(None, {"callbacks": [handler]})

    costs = routing_costs(reversed(list(ledger.calls())), dearest="brain", prices=BOOK)
    assert costs.alone_usd == Decimal("0.80")
    assert costs.spent_usd == Decimal("0.64")  # Four first tries of a cent each, and what the dearest took.
    assert costs.saved_usd == Decimal("0.16")


@pytest.mark.parametrize("digests", [True, False])
def test_requests_at_the_same_time_are_told_apart_by_their_prompts(*, digests: bool) -> None:
    """A (10 tokens in) is answered by the worker, rejected and answered by the brain; B (20 in), between, is accepted.

    Alone: A's own $0.30, and of B 20 tokens in at $10 a million and 1,000 out at $100. Without digests tokens tell.
    """

    def made(name: str, tier: str, seconds: tuple[int, int], tokens: tuple[int, int], usd: str) -> CallRecord:
        return a_call(
            name + tier,
            usd=usd,
            model=tier,
            started_at=MONDAY + timedelta(seconds=seconds[0]),
            ended_at=MONDAY + timedelta(seconds=seconds[1]),
            usage=Usage(input_tokens=tokens[0], output_tokens=tokens[1]),
            prompt_digests=name.encode() if digests else None,
            tags={"tier": tier, "tier_try": "1" if tier == "small" else "2"},
        )

    calls = [
        made("a", "small", (0, 1), (10, 2_000), "0.02"),
        made("b", "small", (0, 2), (20, 1_000), "0.01"),
        made("a", "big", (3, 5), (10, 3_000), "0.30"),
    ]
    costs = routing_costs(calls, dearest="big", prices=BOOK)
    assert costs.alone_usd == Decimal("0.30") + Decimal("0.1002")


def test_what_nobody_knows_is_not_saved(small: Said, big: Said, handler: FinOpsHandler, ledger: Ledger) -> None:
    """Where the dearest tier never answered, its price is unknown; where a call is unpriced, so is the sum."""
    model = TieredChatModel([Tier("worker", small), Tier("brain", big)])
    model.invoke("hi", {"callbacks": [handler]})
    assert routing_costs(ledger.calls(), dearest="brain", prices=BOOK).saved_usd is None

    unknown = Said(model_name="unheard-of", say=worded("unheard-of"))
    mixed = TieredChatModel([Tier("worker", unknown), Tier("brain", big)], policy=cascade(lambda *_: False))
    mixed.invoke("hi", {"callbacks": [handler]})
    costs = routing_costs(ledger.calls(), dearest="brain", prices=BOOK)
    assert (costs.unpriced, costs.saved_usd) == (1, None)
    assert costs.alone_usd == Decimal("0.20")


def test_calls_of_no_tier_are_no_routing(small: Said, handler: FinOpsHandler, ledger: Ledger) -> None:
    small.invoke("hi", {"callbacks": [handler]})

    with pytest.raises(BadArguments, match="TieredChatModel"):
        routing_costs(ledger.calls(), dearest="brain")
