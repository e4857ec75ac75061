"""Difficulty: by shape, by like tasks' past, by a small model's doubt; calibrated on what was seen."""

from typing import Any

import pytest
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from tier_models import Said, answer

from langchain_finops import FinOpsHandler, Ledger
from langchain_finops.errors import BadArguments
from langchain_finops.levers import (
    PastFailures,
    Request,
    Tier,
    TieredChatModel,
    asked_difficulty,
    by_difficulty,
    calibrated,
    shape_difficulty,
)


def request(text: str = "hi", *more: Any, tools: int = 0, **metadata: Any) -> Request:
    names = frozenset(f"tool{number}" for number in range(tools))
    return Request(messages=[HumanMessage(text), *more], tools=names, config={"metadata": metadata})


def test_shape_counts_tools_steps_and_what_failed() -> None:
    """Ten of 20 tools are half of 0.15, two of 20 steps a tenth of 0.25, one of three faults a third of 0.35."""
    scorer = shape_difficulty()
    plain = scorer(request())
    failed = ToolMessage("no", tool_call_id="1", status="error")

    assert 0 < plain < 0.01
    assert scorer(request(tools=10)) == pytest.approx(plain + 0.075)
    steps = scorer(request("hi", AIMessage(""), AIMessage(""))) - scorer(
        request("hi", HumanMessage(""), HumanMessage(""))
    )
    assert steps == pytest.approx(0.025, abs=0.001)
    assert scorer(request("hi", failed)) - scorer(request("hi", ToolMessage("no", tool_call_id="1"))) == pytest.approx(
        0.35 / 3
    )


def test_all_at_its_largest_is_one_and_no_more() -> None:
    failed = [ToolMessage("no", tool_call_id=str(number), status="error") for number in range(9)]

    assert shape_difficulty()(request("x" * 99_999, *[AIMessage("")] * 40, *failed, tools=50)) == pytest.approx(1)


def test_failures_of_like_tasks_count_and_others_do_not() -> None:
    """Five like tasks, four of which failed, count as much as the shape: half of 0.8."""
    past = PastFailures()
    for number in range(5):
        past.learn(request(f"book a flight to Rome today {number}"), success=number == 0)
    past.learn(request("what is the weather"), success=False)
    asked = request("book a flight to Rome today please")

    assert past.rate(asked) == (0.8, 5)
    assert past.rate(request("book a flight to Rome today please", task_type="travel")) == (0.0, 0)
    assert shape_difficulty(past)(asked) == pytest.approx(0.4 + shape_difficulty()(asked) / 2)


def test_no_text_is_kept_of_tasks_and_keys_decide_who_can_compare() -> None:
    past, same = PastFailures(key=b"k"), PastFailures(key=b"k")
    past.learn(request("secretword"), success=False)

    assert "secretword" not in repr(vars(past))
    assert past._features(request("a b")) == same._features(request("b a"))
    assert past._features(request("a b")).isdisjoint(PastFailures()._features(request("a b")))


def test_a_small_models_doubt_is_the_score_and_metered_as_overhead(
    small: Said, big: Said, handler: FinOpsHandler, ledger: Ledger
) -> None:
    """Sure by 15 of 100 is difficult by 0.85."""
    asked = Said(model_name="judge", say=lambda *_: answer("15", "judge"))
    policy = by_difficulty(asked_difficulty(asked), {"big": 0.8})
    model = TieredChatModel([Tier("small", small), Tier("big", big)], policy=policy)

    message = model.invoke("hi", {"callbacks": [handler]})

    assert (message.text, message.response_metadata["finops_tier"]["score"]) == ("big", pytest.approx(0.85))
    made = [(call.model, call.attribution.role, call.attribution.tags.get("tier_for")) for call in ledger.calls()]
    assert made == [("judge", "overhead", "difficulty"), ("big", "agent", None)]


def test_calibration_pools_what_is_out_of_order() -> None:
    """Failures by score: 0.1: 0 of 4, 0.2: 2 of 2, 0.3: 1 of 4, which is less: pooled to 3 of 6; 0.9: 2 of 2."""
    seen = [(0.1, True)] * 4 + [(0.2, False)] * 2 + [(0.3, False)] + [(0.3, True)] * 3 + [(0.9, False)] * 2
    scorer = calibrated(shape_difficulty(), seen)

    assert [scorer.rate(score) for score in (0.0, 0.1, 0.2, 0.25, 0.3, 0.89, 0.9, 1.0)] == [
        0,
        0,
        0.5,
        0.5,
        0.5,
        0.5,
        1,
        1,
    ]
    with pytest.raises(BadArguments, match="ten"):
        calibrated(shape_difficulty(), seen[:9])
    with pytest.raises(BadArguments, match="between 0 and 1"):
        calibrated(shape_difficulty(), [*seen, (float("nan"), True)])


def test_a_calibrated_scorer_is_a_scorer(small: Said, big: Said) -> None:
    seen = [(0.0, False)] * 10
    model = TieredChatModel(
        [Tier("small", small), Tier("big", big)], policy=by_difficulty(calibrated(lambda _: 0.5, seen), {"big": 0.9})
    )

    assert model.invoke("hi").text == "big"
