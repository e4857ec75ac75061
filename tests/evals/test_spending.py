"""A run's money: no attempt begins that may break the maximum, and what is unknown is never counted as nothing."""

import asyncio
import json
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING

import pytest

from langchain_finops.errors import BadArguments
from langchain_finops.evals.results import AttemptResult, Verdict, read_attempts
from langchain_finops.evals.spending import Allowance, Spending
from langchain_finops.money import sum_usd

if TYPE_CHECKING:
    from tests.evals.conftest import Workshop

ONE_CALL = Decimal("0.0002")
"""By hand: (100 x $1 + 10 x $10) / 1,000,000."""

SUITE = """
target: agent:build
scorer: exact
concurrency: {concurrency}
configurations: [{configurations}]
cards:
  hosted: [{{id: hosted, match: {{model: "gpt-4.1*"}}, rates: {{input_tokens: 1, output_tokens: 10}}}}]
"""


def an_attempt(usd: str) -> AttemptResult:
    """A try of configuration `a` that cost this."""
    now = datetime(2026, 11, 26, tzinfo=UTC)
    amount = Decimal(usd)
    return AttemptResult(
        configuration="a",
        task="t",
        repeat=0,
        try_number=1,
        status="completed",
        cost_usd=amount,
        known_usd=amount,
        contracted_usd=amount,
        billed_usd=amount,
        latency_s=0.0,
        started_at=now,
        ended_at=now,
        task_id="r/a/t/0",
        fingerprint="f",
    )


def suite(workshop: "Workshop", *, concurrency: int = 1, configurations: str = "{name: right}", more: str = "") -> None:
    workshop.suite(SUITE.format(concurrency=concurrency, configurations=configurations) + more)


def test_a_run_stops_before_the_attempt_that_may_break_its_maximum(workshop: "Workshop") -> None:
    """Two calls fit into $0.0005 and a third does not: it is not made, and the results say why there is no more."""
    workshop.data(number=[1, 2, 3, 4, 5])
    suite(workshop)

    results = workshop.run(max_usd="0.0005")

    assert workshop.calls() == ["answer 1", "answer 2"]
    assert [result.status for result in results.attempts] == ["completed"] * 2
    assert results.run["finished_at"] is None
    assert results.run["stopped"] == (
        "$0.0004 of at most $0.0005 are spent, and the next attempt, of 'right', may cost $0.0002: "
        "run again with a higher --max-usd; 3 of 5 slots are left"
    )


def test_a_higher_maximum_goes_on_and_buys_nothing_twice(workshop: "Workshop") -> None:
    """What earlier runs spent counts; the same maximum buys nothing more, a higher one the rest."""
    workshop.data(number=[1, 2, 3, 4, 5])
    suite(workshop)
    workshop.run(max_usd="0.0005")
    workshop.calls()

    assert len(workshop.run(max_usd="0.0005").attempts) == 2
    assert workshop.calls() == []

    results = workshop.run(max_usd="0.001")
    assert workshop.calls() == ["answer 3", "answer 4", "answer 5"]
    assert (results.run["stopped"], len(results.verdicts)) == (None, 5)
    assert results.run["finished_at"] is not None


@pytest.mark.parametrize("concurrency", [1, 4, 16])
def test_attempts_at_once_do_not_pass_the_maximum(workshop: "Workshop", concurrency: int) -> None:
    """What attempts in flight may cost is set aside: five calls fit into $0.0011, at any concurrency."""
    workshop.data(number=list(range(20)))
    suite(workshop, concurrency=concurrency)

    results = workshop.run(max_usd="0.0011")

    assert sum_usd([result.known_usd for result in results.attempts]) == 5 * ONE_CALL
    assert len(workshop.calls()) == 5


def test_the_first_attempt_of_a_configuration_begins_alone(workshop: "Workshop") -> None:
    """Nobody knows what it costs: eight of them at once might cost eight times the maximum."""
    workshop.data(number=[1, 2, 3, 4], do=["loop"] * 4)
    suite(workshop, concurrency=4)

    results = workshop.run(max_usd="0.001")

    (result,) = results.attempts
    assert (result.status, result.stop_reason) == ("error", "max_usd")
    assert result.known_usd <= Decimal("0.001")
    assert "what is left of --max-usd is not enough" in results.run["stopped"]


def test_a_slot_that_met_the_maximum_is_tried_again_with_a_higher_one(workshop: "Workshop") -> None:
    """It says nothing of the target: no outcome is written, and its cost counts."""
    workshop.data(number=[1], do=["loop"])
    suite(workshop, more="limits: {recursion_limit: 9}\n")
    first = workshop.run(max_usd="0.0006")
    assert [(result.status, result.stop_reason) for result in first.attempts] == [("error", "max_usd")]

    results = workshop.run(max_usd="1")

    assert [(result.try_number, result.status, result.stop_reason) for result in results.attempts] == [
        (1, "error", "max_usd"),
        (2, "stopped", "recursion_limit"),
    ]
    assert results.attempts[0].known_usd == first.attempts[0].known_usd > 0
    assert results.run["stopped"] is None


def test_a_call_of_unknown_price_is_not_made(workshop: "Workshop") -> None:
    """It would count as nothing: the run ends before it, with the remedy, and its slot is not decided."""
    workshop.data(number=[1, 2])
    suite(workshop, configurations="{name: unknown, model: nobody-knows-1}")

    results = workshop.run(max_usd="1")

    assert workshop.calls() == []
    assert [(result.status, result.stop_reason, result.cost_usd) for result in results.attempts] == [
        ("error", "max_usd", 0)
    ]
    assert "price" in results.run["stopped"]


def test_stored_attempts_of_unknown_price_refuse_a_maximum(workshop: "Workshop") -> None:
    """They were bought without one; what they cost is not known, and not nothing."""
    workshop.data(number=[1, 2])
    suite(workshop, configurations="{name: unknown, model: nobody-knows-1}")
    workshop.run()

    with pytest.raises(BadArguments, match=r"--max-usd cannot be held: 2 stored attempts or verdicts are of unknown"):
        workshop.run(max_usd="1")


def test_a_try_that_a_kill_ended_counts_as_the_dearest(workshop: "Workshop") -> None:
    """What it cost is not known; a maximum counts at least what another one has cost."""
    workshop.data(number=[1, 2, 3])
    suite(workshop)
    workshop.run(max_usd="0.0003")
    workshop.calls()
    path = workshop.results / "attempts.jsonl"
    (line,) = path.read_text().splitlines()
    lost = {**json.loads(line), "task": "t2", "status": "error", "stop_reason": "interrupted", "in_the_dark": True}
    item = json.loads(line)["item_hash"]
    lost = {**lost, "cost_usd": None, "known_usd": "0", "item_hash": item}
    path.write_text(f"{line}\n{json.dumps(lost)}\n")

    results = workshop.run(max_usd="0.0005")

    assert workshop.calls() == []
    assert "$0.0004 of at most $0.0005 are spent" in results.run["stopped"]
    assert len(read_attempts(workshop.results)[0]) == 2


@pytest.mark.parametrize("amount", ["0", "-1", "much", "nan"])
def test_a_maximum_is_an_amount(workshop: "Workshop", amount: str) -> None:
    """Anything else is told before anything is read or written."""
    with pytest.raises(BadArguments, match=f"--max-usd {amount} found: an amount above 0 is expected"):
        workshop.run(max_usd=amount)
    assert not workshop.results.exists()


def test_the_known_part_of_a_judgement_is_spent() -> None:
    """An answer of $0.10, judged by two calls of which one, $0.03, has a price: at least $0.13 are gone."""
    verdict = Verdict(
        configuration="a",
        task="t",
        repeat=0,
        try_number=1,
        scorer="judge",
        success=True,
        cost_usd=None,
        known_usd=Decimal("0.03"),
        calls=2,
    )
    spending = Spending(Decimal(1), None)
    spending.settle(Allowance("a", None), an_attempt("0.10"), [verdict])

    assert spending.spent_usd == Decimal("0.13")


async def test_what_is_set_aside_is_given_back() -> None:
    """Three tries that may cost $0.10 each fit into $0.30; where one costs $0.04 there is room for no fourth of $0.10,
    but after a second cheap one there is."""
    spending = Spending(Decimal("0.30"), Decimal("0.10"))
    first, second, third = [await spending.reserve("a") for _ in range(3)]
    assert first is not None
    assert second is not None
    assert third is not None

    spending.settle(first, an_attempt("0.04"))
    spending.settle(second, an_attempt("0.06"))
    fourth = await spending.reserve("a")

    assert fourth is not None
    assert (spending.spent_usd, spending.stopped) == (Decimal("0.10"), None)


# --- judges ----------------------------------------------------------------------------------------------------------


def a_verdict(task: str, usd: str | None, **more: object) -> Verdict:
    """Of configuration `a`, whose judge's one call cost this."""
    of = {"configuration": "a", "task": task, "repeat": 0, "try_number": 1, "scorer": "judge", "success": True}
    cost = None if usd is None else Decimal(usd)
    return Verdict(**{**of, "cost_usd": cost, "known_usd": cost or Decimal(0), "calls": 1, **more})


async def test_the_first_attempt_that_is_judged_begins_alone() -> None:
    """A limit bounds the attempt and not its judge: what that costs is known once one was asked."""
    spending = Spending(Decimal(1), Decimal("0.01"), judges=True)
    first = await spending.reserve("a")
    assert first is not None
    assert first.usd == 1
    second = asyncio.create_task(spending.reserve("a"))
    await asyncio.sleep(0)
    assert not second.done()

    spending.settle(first, an_attempt("0.005"), [a_verdict("t", "0.20")])

    allowed = await second
    assert allowed is not None
    # Its limit, and what the dearest verdicts have cost; 0.205 are spent, so that three of them fit at once.
    assert allowed.usd == Decimal("0.21")
    assert [(await spending.reserve("a")) is not None for _ in range(2)] == [True, True]
    fourth = asyncio.create_task(spending.reserve("a"))
    await asyncio.sleep(0)
    assert not fourth.done()
    fourth.cancel()


async def test_a_judge_that_needs_more_gets_what_nobody_else_holds_and_gives_it_back() -> None:
    """While it has all that is left, another one waits; where all that hold something need more, there is none."""
    spending = Spending(Decimal(1), Decimal("0.10"))
    one, other = await spending.reserve("a"), await spending.reserve("a")
    assert one is not None
    assert other is not None

    assert await spending.extend(one)
    assert one.usd == Decimal("0.90")
    waiting = asyncio.create_task(spending.extend(other))
    await asyncio.sleep(0)
    assert not waiting.done()
    spending.shrink(one, Decimal("0.10"))
    assert await waiting
    assert (one.usd, other.usd) == (Decimal("0.10"), Decimal("0.90"))

    first = asyncio.create_task(spending.extend(one))
    await asyncio.sleep(0)
    assert not await spending.extend(other), "one waits for the other already: neither would ever free any"
    spending.stop("there is no more")
    assert not await first


def test_a_verdict_of_unknown_cost_counts_as_the_dearest() -> None:
    """A judge that was killed in the middle has cost something: what the dearest one has, and that is a guess."""
    spending = Spending(Decimal(1), None, judges=True)
    lost = a_verdict("u", None, calls=0, stop_reason="interrupted", success=None)

    spending.begin([], [a_verdict("t", "0.40"), lost])

    assert (spending.spent_usd, spending.guessed) == (Decimal("0.80"), 1)
