"""How long an answer may be that a middleware asks for."""

from dataclasses import replace
from typing import Any

import pytest
from worlds import WHO, World

from langchain_finops.budgets.policy import Budget
from langchain_finops.meter import Request


def affordable(world: World, **call: Any) -> int | None:
    return world.meter.affordable_output_tokens(
        world.call(Request(0, None, 1), **call), world.state, prompt_bytes=lambda: 0
    )


@pytest.mark.parametrize("scope", ["run", "agent_id"])
def test_an_answer_may_be_as_long_as_the_tightest_budget_affords(scope: str) -> None:
    """A cent of 3.5 is spent, 2.5 buy 2,500 tokens, and 5,000 tokens less the first 1,000 are more than that."""
    world = World((Budget(usd="0.035", scope=scope), Budget(tokens=5_000)))
    world.made()

    assert affordable(world) == 2_500


@pytest.mark.parametrize("scope", ["run", "agent_id"])
def test_a_budget_that_only_warns_bounds_no_answer(scope: str) -> None:
    """It is used up, and another one has room for 2,000 tokens more."""
    world = World((Budget(tokens=500, scope=scope, on_exceed="warn"), Budget(tokens=3_000, scope=scope)))
    assert affordable(world) == 3_000
    world.made()

    assert affordable(world) == 2_000
    assert affordable(World((Budget(tokens=500, scope=scope, on_exceed="warn"),))) is None


def test_answers_of_protected_nodes_are_not_bounded() -> None:
    """No limit stops them, so none is to cut their answers short either."""
    world = World((Budget(tokens=500),), options={"protect": ("validate",)})

    assert affordable(world, who=replace(WHO, node_path="sub/validate")) is None
    assert affordable(world) == 500
