"""What tiers cost beside the dearest alone: every try, router and judge in it, and an estimate said to be one."""

from decimal import Decimal

import pytest
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
