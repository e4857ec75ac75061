"""What tiers cost beside the dearest alone: every try, router and judge in it, and an estimate said to be one."""

from decimal import Decimal

import pytest
from langchain_core.runnables import RunnableConfig, RunnableLambda
from tier_models import BOOK, Said, answer, worded

from langchain_finops import FinOpsHandler, Ledger
from langchain_finops.errors import BadArguments
from langchain_finops.levers import Tier, TieredChatModel, cascade, routing_costs


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
