"""Caps are learnt from what successful tasks needed, with what they would have saved and cut; no more is claimed."""

from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from langgraph.graph import START, MessagesState, StateGraph
from tier_models import BOOK, Said, answer

from langchain_finops import FinOpsHandler, Ledger, open_ledger
from langchain_finops.errors import BadArguments
from langchain_finops.levers import learn_caps, needed_tokens
from langchain_finops.levers.verbosity import CAP_TAG
from langchain_finops.records import Attribution, CallRecord, Outcome
from langchain_finops.reports.stats.tolerance import bound_place, values_needed
from langchain_finops.usage import Usage

NOW = datetime(2026, 11, 1, tzinfo=UTC)


def call(number: int, tokens: int, *, task: str | None = None, **fields: Any) -> CallRecord:
    """A call of a node `answer` with so many output tokens, at $10 a million."""
    cost = Decimal(tokens) / 100_000
    who = {"agent_id": "support", "node": "answer", "node_path": "answer", "task_id": task or f"t{number}"}
    plain = {
        "call_id": f"c{number}-{task}-{tokens}",
        "run_id": f"r{number}",
        "invocation_id": f"r{number}",
        "attribution": Attribution(**{**who, **fields.pop("who", {})}),
        "provider": "test",
        "model": "small",
        "usage": Usage(output_tokens=tokens),
        "raw_usage": {"output_tokens": tokens},
        "cost_usd": cost,
        "contracted_usd": cost,
        "billed_usd": cost,
        "meter_usd": {"output_tokens": cost},
        "cost_status": "exact",
        "started_at": NOW + timedelta(minutes=number),
        "ended_at": NOW + timedelta(minutes=number, seconds=1),
    }
    return CallRecord(**{**plain, **fields})


def written(calls: Iterable[CallRecord], failed: Iterable[str] = ()) -> Ledger:
    """A ledger of these calls, whose tasks have succeeded unless they are said to have failed."""
    ledger, bad = open_ledger(":memory:"), set(failed)
    given = list(calls)
    tasks = {each.attribution.task_id for each in given if each.attribution.task_id}
    ledger.write(*given, *(Outcome(task_id=task, success=task not in bad, at=NOW) for task in sorted(tasks)))
    return ledger


@pytest.mark.parametrize(
    ("values", "coverage", "place"),
    [(298, 0.99, None), (299, 0.99, 1), (58, 0.95, None), (59, 0.95, 1), (92, 0.95, 1), (93, 0.95, 2), (123, 0.95, 2),
     (124, 0.95, 3), (29, 0.90, 1)],
)  # fmt: skip
def test_the_bound_is_the_value_that_wilks_table_names(values: int, coverage: float, place: int | None) -> None:
    """The known sizes for 95% confidence: 59, 93, 124 for 95%, 299 for 99%, 29 for 90%; one value less will not do."""
    assert bound_place(values, coverage=coverage, confidence=0.95) == place


def test_so_many_are_needed() -> None:
    """The least n with 1 - 0.99^n >= 0.95 is 299: 0.99^298 is 0.05003 and 0.99^299 is 0.04953."""
    assert values_needed(coverage=0.99, confidence=0.95) == 299
    assert 1 - 0.99**298 < 0.95 <= 1 - 0.99**299


def test_a_cap_is_what_successful_tasks_needed_and_a_graph_tells_it() -> None:
    """Of 29 tasks that a real graph solved the longest answer has 290 tokens, so 90% of all have no more, with 95%
    confidence; three that failed ran on to 1,000 each. $10 a million: 3 x 710 tokens are $0.0213."""
    ledger = open_ledger(":memory:")
    handler = FinOpsHandler(ledger=ledger, prices=BOOK, agent_id="support")
    lengths = [10 * (1 + number) for number in range(29)] + [1_000] * 3
    model = Said(say=lambda _messages, number: answer(output_tokens=lengths[number - 1]))
    built = StateGraph(MessagesState).add_node("answer", lambda state: {"messages": [model.invoke(state["messages"])]})
    graph = built.add_edge(START, "answer").compile()
    for number in range(len(lengths)):
        task = f"t{number}"
        graph.invoke({"messages": [("user", "hi")]}, {"callbacks": [handler], "metadata": {"task_id": task}})
        handler.log_outcome(task_id=task, success=number < 29)

    caps = learn_caps(ledger, coverage=0.90)

    (row,) = caps.rows
    assert (row.agent, row.node, row.model, row.tokens) == ("support", "answer", "small", 290)
    assert (row.successes, row.successes_needed, row.calls, row.longer, row.cut_tasks) == (29, 29, 32, 3, 0)
    assert row.saved_usd == Decimal("0.0213")
    assert caps.tokens("support", "answer", "small") == 290
    assert caps.tokens("support", "answer", "big") is caps.tokens("other", "answer", "small") is None


def test_the_second_largest_cuts_one_useful_answer_and_says_so() -> None:
    """46 tasks at 90%: P(Bin(46, 0.1) <= 1) = 0.9^46 + 46 x 0.1 x 0.9^45 = 0.0480 <= 0.05. One of 5,000 is cut."""
    row = learn_caps(written([call(n, 100 + n) for n in range(45)] + [call(45, 5_000)]), coverage=0.90).rows[0]

    assert (row.tokens, row.longer, row.cut_tasks) == (144, 1, 1)
    assert row.saved_usd == Decimal(5_000 - 144) / 100_000


def test_too_few_successes_learn_nothing_and_say_how_many_are_needed() -> None:
    """298 successes are one too few for 99% with 95% confidence, however many failures there are beside."""
    ledger = written([call(n, 10) for n in range(298)] + [call(300 + n, 900) for n in range(50)],
                     failed=[f"t{300 + n}" for n in range(50)])  # fmt: skip
    (row,) = learn_caps(ledger).rows

    assert (row.tokens, row.saved_usd, row.longer) == (None, None, 0)
    assert row.why_none is not None
    assert row.why_none.startswith(
        "no cap can be learnt yet: calls of 298 successful tasks are too few, 299 are needed"
    )


def test_a_task_counts_once_with_its_longest_answer() -> None:
    """29 tasks with two calls each: the independent thing is the task, and 58 calls are no more evidence than 29."""
    calls = [call(n, 10 + n, task=f"t{n}") for n in range(29)] + [
        call(100 + n, 50 + n, task=f"t{n}") for n in range(29)
    ]
    ledger = written(calls)

    assert learn_caps(ledger, coverage=0.90).rows[0].tokens == 50 + 28
    assert learn_caps(ledger, coverage=0.95).rows[0].why_none is not None


def test_repeats_of_an_evaluations_item_are_one_task() -> None:
    """Each attempt has a task of its own in the ledger: 28 items twice are 28 tasks, one too few for 90%; of 29 the
    longest answer of all counts. The tag `item` outside of an evaluation is the user's own and says nothing."""

    def attempts(items: int, **tags: str) -> list[CallRecord]:
        return [
            call(n + 100 * r, 10 + n + r, task=f"run/brain/t{n}/{r}", who={"tags": {**tags, "item": f"t{n}"}})
            for n in range(items)
            for r in range(2)
        ]

    (few,) = learn_caps(written(attempts(28, evaluation_run="run")), coverage=0.90).rows
    assert few.why_none is not None
    assert "calls of 28 successful tasks are too few, 29 are needed" in few.why_none
    (row,) = learn_caps(written(attempts(29, evaluation_run="run")), coverage=0.90).rows
    assert (row.successes, row.tokens, row.calls) == (29, 10 + 28 + 1, 58)
    assert learn_caps(written(attempts(28)), coverage=0.90).rows[0].successes == 56


def test_what_has_no_price_of_its_own_is_in_no_amount() -> None:
    """Of three answers that are 100 tokens too long one is priced by the hour and one not at all: $0.001 is known."""
    long = [call(100, 128, task="a"), call(101, 128, task="b", meter_usd={"seconds": Decimal(1)}),
            call(102, 128, task="c", cost_usd=None, meter_usd=None, cost_status="unpriced")]  # fmt: skip
    short = [call(n, n) for n in range(29)]
    row = learn_caps(written([*short, *long], failed="abc"), coverage=0.90).rows[0]
    assert (row.tokens, row.longer, row.saved_usd, row.unpriced) == (28, 3, Decimal("0.001"), 2)

    row = learn_caps(written([*short, long[2]], failed="c"), coverage=0.90).rows[0]
    assert (row.saved_usd, row.unpriced) == (None, 1)


def test_hidden_reasoning_is_output_and_is_cut_last() -> None:
    """1,000 tokens, 600 of them reasoning at $4 a million on top of $10: 900 too many are 400 visible ones and 500 of
    reasoning, so 900 x $10 and 500 x $4 a million."""
    usage = Usage(output_tokens=1_000, reasoning_tokens=600)
    meters = {"output_tokens": Decimal("0.01"), "reasoning_tokens": Decimal("0.0024")}
    dear = call(100, 1_000, task="x", usage=usage, meter_usd=meters, cost_usd=Decimal("0.0124"))
    row = learn_caps(written([*(call(n, 100) for n in range(29)), dear], failed="x"), coverage=0.90).rows[0]

    assert row.tokens == 100
    assert row.saved_usd == (900 * Decimal(10) + 500 * Decimal(4)) / 1_000_000


def test_an_answer_that_an_earlier_cap_cut_off_is_longer_than_any() -> None:
    """What reached the cap of 50 that stood then would make a new cap of 50 look enough."""
    cut = [call(n, 50, who={"tags": {CAP_TAG: "50"}}) for n in range(5)]
    whole = [call(10 + n, 20 + n, who={"tags": {CAP_TAG: "50"}}) for n in range(24)]
    row = learn_caps(written([*cut, *whole]), coverage=0.90).rows[0]

    assert (row.tokens, row.why_none) == (
        None,
        "no cap can be learnt: too many answers of successful tasks were cut off by an earlier cap",
    )


@pytest.mark.parametrize(
    "fields",
    [{"raw_usage": None}, {"billing_mode": "cache"}, {"who": {"role": "judge"}}, {"who": {"role": "overhead"}}],
)
def test_what_tells_nothing_of_an_answer_is_left_out(fields: dict[str, Any]) -> None:
    """Estimated counts, cached replies, judges and overhead: 900 tokens each, and none is a need."""
    calls = [call(n, 10) for n in range(29)] + [call(100 + n, 900, **fields) for n in range(29)]

    assert learn_caps(written(calls), coverage=0.90).rows[0].tokens == 10


def test_each_node_model_and_agent_has_a_cap_of_its_own() -> None:
    nodes = [call(n, 10 + n) for n in range(29)]
    nodes += [replace(call(n, 500 + n, who={"node_path": "team/plan"}), call_id=f"p{n}") for n in range(29)]
    nodes += [replace(call(n, 70 + n, who={"agent_id": "sales"}), call_id=f"s{n}") for n in range(29)]
    nodes += [
        replace(call(n, 90 + n), call_id=f"m{n}", model="big-2026-01-01", requested_model="big") for n in range(29)
    ]
    ledger = written(nodes)

    caps = learn_caps(ledger, coverage=0.90)
    assert caps.tokens("support", "answer", "small") == 38
    assert caps.tokens("support", "team/plan", "small") == 528
    assert caps.tokens("sales", "answer", "small") == 98
    assert caps.tokens("support", "answer", "big") == 118
    assert [row.agent for row in learn_caps(ledger, agent_id="sales", coverage=0.90).rows] == ["sales"]


def test_what_an_answer_needed_is_the_shortest_beginning_that_stays_right() -> None:
    """`Rome` ends at letter 8, so eight tokens at most; more where a later beginning is wrong again. An umlaut has two
    bytes, and may be two tokens; whoever has a tokenizer counts with it."""
    text = "ans Rome" + "." * 92

    assert needed_tokens(text, lambda said: "Rome" in said) == 8
    assert needed_tokens(text, lambda said: said.startswith("ans") and len(said) != 40) == 41
    assert needed_tokens(text, lambda said: "Paris" in said) is None
    assert needed_tokens("", lambda said: True) is None
    assert needed_tokens("Köln.", lambda said: "Köln" in said) == 5
    assert needed_tokens(text, lambda said: "Rome" in said, count_tokens=lambda said: len(said.split())) == 2


def test_what_was_needed_of_long_answers_is_learnt_from_it() -> None:
    """All 29 answers run to their limit of 128; a scorer says that 5 to 33 tokens of them were needed."""
    ledger = written([call(n, 128) for n in range(29)])

    assert learn_caps(ledger, coverage=0.90).rows[0].tokens == 128
    row = learn_caps(ledger, coverage=0.90, needed=lambda each: 5 + int((each.attribution.task_id or "")[1:])).rows[0]
    assert (row.tokens, row.longer, row.cut_tasks) == (33, 29, 0)
    assert row.saved_usd == 29 * Decimal(95) / 100_000


def test_hidden_reasoning_is_needed_beside_what_the_answer_needed() -> None:
    """100 tokens of 128 are reasoning, and of the rest five were needed: a cap below 105 would cut the answer off."""
    usage = Usage(output_tokens=128, reasoning_tokens=100)
    ledger = written([call(n, 128, usage=usage) for n in range(29)])

    assert learn_caps(ledger, coverage=0.90, needed=lambda _: 5).rows[0].tokens == 105


def test_bad_input_is_one_sentence() -> None:
    """A share given as a percentage, an empty ledger, an unheard-of agent, and a need that is no count."""
    ledger = written([call(0, 10)])
    for share in (99, 0, True, "0.9"):
        with pytest.raises(BadArguments, match=r"coverage is .*: it must lie between 0 and 1, such as 0\.99"):
            learn_caps(ledger, coverage=share)  # type: ignore[arg-type]
    with pytest.raises(BadArguments, match="confidence is 95"):
        learn_caps(ledger, confidence=95)
    with pytest.raises(BadArguments, match="no answered call with reported usage in this ledger and period"):
        learn_caps(open_ledger(":memory:"))
    with pytest.raises(BadArguments, match="no answered call of agent 'nobody'"):
        learn_caps(ledger, agent_id="nobody")
    with pytest.raises(BadArguments, match=r"needed said -1 of a call: give a whole number of 0 or more, or None"):
        learn_caps(ledger, needed=lambda _: -1)
