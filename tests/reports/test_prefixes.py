"""What a prompt cache could have read and what broke it, by digests that real graphs left; amounts by hand."""

from collections.abc import Iterator
from datetime import timedelta
from decimal import Decimal
from itertools import count
from typing import Any

import pytest
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langgraph.graph import END, START, MessagesState, StateGraph

from langchain_finops import FinOpsHandler, Ledger, open_ledger
from langchain_finops.ledger.codec import to_micros
from langchain_finops.ledger.marks import End, Marks
from langchain_finops.reports.insight import FIELDS, insight
from langchain_finops.testing.records import DAY, MONDAY, a_call
from langchain_finops.usage import Usage

RULES = "Ask before you pay. " * 400
"""8,000 bytes: 2,000 tokens, as a token is four bytes here."""
MESSAGE = "so it is. " * 80
"""800 bytes, 200 tokens."""


class Said(BaseChatModel):
    """A scripted model that answers with a message of 200 tokens; four bytes of a prompt and its tools are a token."""

    name_: str = "claude-sonnet-4-5"
    provider_: str = "anthropic"

    @property
    def _llm_type(self) -> str:
        return "said"

    def _get_ls_params(self, stop: Any = None, **kwargs: Any) -> Any:
        return {"ls_provider": self.provider_, "ls_model_name": self.name_, "ls_model_type": "chat"}

    def bind_tools(self, tools: Any, **kwargs: Any) -> Any:
        return self.bind(tools=tools, **kwargs)

    def _generate(self, messages: Any, stop: Any = None, run_manager: Any = None, **kwargs: Any) -> ChatResult:
        asked = (
            sum(len(message.text) for message in messages) // 4
            + sum(each["bytes"] for each in kwargs.get("tools", ())) // 4
        )
        usage = {"input_tokens": asked, "output_tokens": 200, "total_tokens": asked + 200}
        answer = AIMessage(MESSAGE, usage_metadata=usage, response_metadata={"model_name": self.name_})
        return ChatResult(generations=[ChatGeneration(message=answer)])


def tool(name: str) -> dict[str, Any]:
    """A tool whose JSON has 2,000 bytes."""
    found = {"name": name, "bytes": 2000, "description": ""}
    return found | {"description": "x" * (2000 - len('{"name": "a", "bytes": 2000, "description": ""}'))}


def agent(model: Any, *, system: Any = lambda: RULES, steps: int = 4) -> Any:
    """An agent that answers itself so many times, and keeps all of it."""

    def think(state: MessagesState) -> dict[str, Any]:
        asked = model() if not isinstance(model, BaseChatModel) else model
        return {"messages": [asked.invoke([SystemMessage(system()), *state["messages"]])]}

    builder = StateGraph(MessagesState)
    builder.add_node("think", think)
    builder.add_edge(START, "think")
    builder.add_conditional_edges("think", lambda state: END if len(state["messages"]) > steps else "think")
    return builder.compile(name="thinker")


@pytest.fixture
def ledger(tmp_path: Any) -> Iterator[Ledger]:
    opened = open_ledger(tmp_path / "ledger.db", hold_timeout=60.0)
    yield opened
    opened.close()


def run(ledger: Ledger, graph: Any, times: int, message: str = MESSAGE) -> dict[str, Any]:
    """The row of the graph's node after so many runs, each with a question of its own."""
    handler = FinOpsHandler(ledger=ledger)
    for number in range(times):
        question: list[BaseMessage] = [HumanMessage(f"{number:>4}{message[4:]}")]
        graph.invoke({"messages": question}, {"callbacks": [handler], "metadata": {"task_id": f"t{number}"}})
    handler.flush(60)
    assert handler.faults == 0
    (row,) = insight(ledger, only=["prefixes"]).rows["prefixes"]
    assert tuple(row) == FIELDS["prefixes"]
    return row


def test_a_growing_history_is_shared_from_call_to_call(ledger: Ledger) -> None:
    """Three runs of four calls: 2,200, 2,400, 2,600 and 2,800 tokens. Each reads what the one before had sent, and the
    first of a later run the 2,000 of the system prompt; nothing broke."""
    row = run(ledger, agent(Said()), 3)
    assert (row["agent"], row["node"], row["calls"], row["input_tokens"]) == ("thinker", "think", 12, 30_000)
    assert (row["prefix_tokens"], row["prefix_parts"], row["prefix_repeats"]) == (2000, 1, 11)
    reads = 3 * (2200 + 2400 + 2600) + 2 * 2000
    assert (row["repeats"], row["shared_tokens"], row["within_5m"]) == (11, reads, 1.0)
    # Claude Sonnet 4.5: $3 a million, $3.75 written for five minutes, $6 for an hour, $0.30 read.
    by_name = {(each["name"], each["after"]): each for each in row["caches"]}
    million = Decimal(1_000_000)
    saved = (reads * Decimal("2.7") - (30_000 - reads) * Decimal("0.75")) / million
    assert by_name["5m", "each prompt"]["saved_usd"] == saved
    assert (
        by_name["1h", "each prompt"]["saved_usd"] == (reads * Decimal("2.7") - (30_000 - reads) * Decimal(3)) / million
    )
    head = (11 * 2000 * Decimal("2.7") - 2000 * Decimal("0.75")) / million
    assert by_name["5m", "the system prompt"]["saved_usd"] == head
    assert (row["best_cache"], row["could_save_usd"]) == ("5m, each prompt", max(saved, head))
    # Writing costs 0.75 more than input, reading 2.70 less: one read pays it. For an hour it is 3 to 2.7: two do.
    assert [by_name[name, "each prompt"]["least_reads"] for name in ("5m", "1h")] == [1, 2]
    assert (row["broken_by"], row["lost_tokens"], row["breaks"], row["cached_usd"]) == (None, 0, [], 0)


def test_a_time_stamp_at_the_head_of_the_system_prompt_breaks_it(ledger: Ledger) -> None:
    """Nothing is shared; without the seconds, which are told apart by their digits, all that the call before had sent
    would be: in a run 2,200, 2,400 and 2,600 tokens, between runs the system prompt's 2,000."""
    seconds = count(10)
    row = run(ledger, agent(Said(), system=lambda: f"It is 10:0{next(seconds)}. {RULES[14:]}"), 3)
    assert row["repeats"] == 0
    (broken,) = row["breaks"]
    assert (broken["cause"], broken["calls"]) == ("time_stamp", 11)
    assert row["broken_by"] == "time stamp in the system prompt"
    lost = 3 * (2200 + 2400 + 2600) + 2 * 2000
    assert broken["tokens"] == row["lost_tokens"] == lost
    assert row["lost_usd"] == lost * Decimal("2.7") / 1_000_000
    assert row["could_save_usd"] == 0


def test_tools_in_another_order_break_it(ledger: Ledger) -> None:
    """Two tools of 500 tokens, in turn this way and that: each call lost what it could share with the one before, but
    for what it shares with the one before that."""
    orders = count()

    def model() -> Any:
        tools = [tool("a"), tool("b")]
        return Said().bind_tools(tools if next(orders) % 2 else tools[::-1])

    row = run(ledger, agent(model), 1)
    assert [each["cause"] for each in row["breaks"]] == ["tools_reordered"]
    # Calls of 3,200, 3,400, 3,600 and 3,800: the third finds the first's 3,200, the fourth the second's 3,400.
    lost = 3200 + (3400 - 3200) + (3600 - 3400)
    assert (row["breaks"][0]["calls"], row["lost_tokens"]) == (3, lost)


def test_other_tools_and_another_history_break_it(ledger: Ledger) -> None:
    """A tool more each time: of 2,200, 2,400 and 2,600 tokens of system prompt and history nothing is read."""
    numbers = count()
    row = run(ledger, agent(lambda: Said().bind_tools([tool("abcdef"[next(numbers)])])), 1)
    assert [(each["cause"], each["tokens"]) for each in row["breaks"]] == [("tools_changed", 2200 + 2400 + 2600)]


def test_a_pruned_history_breaks_it(ledger: Ledger) -> None:
    """The node keeps the last two messages: what is sent is new from the first of them on."""

    def think(state: MessagesState) -> dict[str, Any]:
        texts = [(f"{number} {message.text}", message) for number, message in enumerate(state["messages"])]
        kept = [type(message)(text) for text, message in texts][-3:]
        return {"messages": [Said().invoke([SystemMessage(RULES), *kept])]}

    builder = StateGraph(MessagesState)
    builder.add_node("think", think)
    builder.add_edge(START, "think")
    builder.add_conditional_edges("think", lambda state: END if len(state["messages"]) > 5 else "think")
    row = run(ledger, builder.compile(name="thinker"), 1)
    # Three messages of 802 bytes each: 602 tokens of the call's 2,601 came before, in another place, and 1,999 stayed.
    assert [(each["cause"], each["calls"]) for each in row["breaks"]] == [("history_rewritten", 2)]
    assert row["lost_tokens"] == 2 * 602
    assert row["broken_by"] == "history rewritten"


def test_other_questions_under_one_system_prompt_are_clean(ledger: Ledger) -> None:
    """One call a task: the system prompt comes again, and nothing else could. An own prompt each shares nothing."""
    row = run(ledger, agent(Said(), steps=1), 5)
    assert (row["repeats"], row["shared_tokens"], row["breaks"]) == (4, 4 * 2000, [])
    assert row["best_cache"] == "5m, the system prompt"
    assert row["could_save_usd"] == (4 * 2000 * Decimal("2.7") - 2000 * Decimal("0.75")) / 1_000_000


# --- calls by hand ---------------------------------------------------------------------------------------------------


def marked(
    name: str,
    at: float,
    *,
    system: bytes = b"systemsy",
    masked: bytes | None = None,
    took: float = 1,
    provider: str = "openai",
    **more: Any,
) -> Any:
    """A call of 2,000 tokens: a system prompt of 1,500 and a message of its own; `at` in seconds."""
    digests = Marks(
        whole=f"{name:>8}".encode(), size=8000, system=system, system_masked=masked or system, system_size=6000,
        ends=(End("human", 1, 2000, f"{name:>8}".encode()),), recent=(b"aaaa",),
    )  # fmt: skip
    began = MONDAY + timedelta(seconds=at)
    parts = {"model": "gpt-4.1", "usage": Usage(input_tokens=2000), "prompt_digests": digests.to_bytes()}
    return a_call(name, provider=provider, started_at=began, ended_at=began + timedelta(seconds=took), **(parts | more))


def rows(*calls: Any, where: Any = ":memory:") -> list[dict[str, Any]]:
    ledger = open_ledger(where)
    ledger.write(*calls)
    found = insight(ledger, only=["prefixes"]).rows["prefixes"]
    ledger.close()
    return found


def test_pauses_are_told_and_decide_which_cache_reads() -> None:
    """1,500 tokens again after 60 s, 1,000 s and 10,000 s: OpenAI's memory keeps them five minutes, 24 h at most."""
    (row,) = rows(*(marked(str(at), at) for at in (0, 60, 1060, 11060)))
    assert (row["every_s"], row["within_5m"], row["within_30m"], row["within_1h"]) == (1000.0, 1 / 3, 2 / 3, 2 / 3)
    caches = {each["name"]: each for each in row["caches"]}
    assert {name: each["read_tokens"] for name, each in caches.items()} == {"in_memory": 1500, "24h": 4500}
    assert caches["in_memory"]["saved_usd"] == 1500 * Decimal("1.5") / 1_000_000
    assert (caches["in_memory"]["least_reads"], caches["24h"]["is_most"]) == (1, True)


def said(name: str, at: float, count: int, ends: tuple[int, ...], *, recent: bytes = b"", **more: Any) -> Any:
    """A call of so many messages of 4,000 bytes, 1,000 tokens each, of which these ends are marked; `recent`: of the
    last ones, a letter each."""
    digests = Marks(
        whole=f"{name:>8}".encode(), size=4000 * count,
        ends=tuple(End("tool", each, 4000 * each, f"{each:>8}".encode()) for each in ends),
        recent=tuple(bytes([letter]) * 4 for letter in recent),
    )  # fmt: skip
    own = {"usage": Usage(input_tokens=1000 * count), "prompt_digests": digests.to_bytes(), "run_id": "r"}
    return marked(name, at, **(own | more))


def test_a_mark_finds_nothing_that_lies_20_blocks_before_it() -> None:
    """Nine messages more, taken for two blocks each, are found by Claude's mark; ten are not, and all is written
    again. OpenAI needs no mark."""
    calls = (("1", 0, 2, (1, 2)), ("2", 60, 11, (1, 2, 11)), ("3", 120, 21, (1, 2, 11, 21)))
    claude = {"provider": "anthropic", "model": "claude-sonnet-4-5"}
    (row,) = rows(*(said(*each, **claude) for each in calls))
    (whole,) = (each for each in row["caches"] if (each["name"], each["after"]) == ("5m", "each prompt"))
    assert (whole["read_tokens"], whole["write_tokens"]) == (2000, 2000 + 9_000 + 21_000)
    assert whole["saved_usd"] == (2000 * Decimal("2.7") - 32_000 * Decimal("0.75")) / 1_000_000
    assert (row["best_cache"], row["could_save_usd"], row["shared_tokens"]) == ("none", 0, 13_000)
    (row,) = rows(*(said(*each) for each in calls))
    assert {each["read_tokens"] for each in row["caches"]} == {13_000}


@pytest.mark.parametrize(
    ("count", "ends", "recent", "broken"),
    [
        (12, (1, 8, 12), b"cdefghij", None),  # Two messages more: the tenth's end is not marked.
        (12, (1, 12), b"cdexghij", "history rewritten"),  # The eighth is another one, and the last two are there.
        (11, (1, 8, 11), b"cdefghij", "history rewritten"),  # One of the first ten is gone.
        (12, (1, 9, 12), b"cdefghij", None),
    ],
)
def test_a_history_is_rewritten_only_where_messages_are_not_as_they_were(
    count: int, ends: tuple[int, ...], recent: bytes, broken: str | None
) -> None:
    """Ten messages, and the last eight of them; then the same ones and more, or others."""
    before = said("1", 0, 10, (1, 8, 10), recent=b"abcdefgh")
    (row,) = rows(before, said("2", 60, count, ends, recent=recent))
    assert row["broken_by"] == broken


def test_a_summary_in_place_of_as_many_messages_is_a_rewritten_history() -> None:
    """The first eight are other ones now, by their end; the last ones are the same."""
    before = said("1", 0, 10, (1, 8, 10), recent=b"abcdefgh")
    first = End("human", 1, 4000, f"{1:>8}".encode())
    ends = (first, End("ai", 8, 32_000, b"summary."), End("ai", 12, 48_000, b"end....."))
    after = Marks(
        whole=b"another.", size=48_000, ends=ends, recent=tuple(bytes([letter]) * 4 for letter in b"cdefghij"),
    )  # fmt: skip
    (row,) = rows(before, said("2", 60, 12, (1,), prompt_digests=after.to_bytes()))
    assert row["broken_by"] == "history rewritten"


def test_calls_made_at_once_read_nothing_from_each_other() -> None:
    """What nobody has answered yet no cache has; who comes after the first answer reads it."""
    (row,) = rows(*(marked(str(n), n / 1000, took=5) for n in range(4)), marked("5", 4), marked("6", 6))
    assert {each["read_tokens"] for each in row["caches"]} == {1500}


def test_a_model_without_a_known_cache_has_no_dollars() -> None:
    """How often it comes again is told all the same: unknown is not nothing."""
    (row,) = rows(marked("1", 0, provider="nobody"), marked("2", 1, provider="nobody"))
    assert (row["repeats"], row["caches"], row["could_save_usd"], row["cached_usd"]) == (1, [], None, None)


@pytest.mark.parametrize(
    ("tiers", "saved"),
    [
        # GPT-5: $1.25 a million and $0.125 read; priority twice that, flex $0.625, and what it reads for is not known.
        ((None, None, "default"), 2 * Decimal("1.125")),
        (("priority",) * 3, 2 * Decimal("2.25")),
        ((None, None, "priority"), Decimal("1.125") + Decimal("2.25")),
        (("fast",) * 3, 2 * Decimal("2.25")),
        (("flex",) * 3, None),
        ((None, None, "flex"), None),
    ],
)
def test_a_call_is_priced_at_its_own_tier(tiers: tuple[str | None, ...], saved: Decimal | None) -> None:
    """1,500 tokens read twice; what a tier's cache costs is not guessed from another tier."""
    (row,) = rows(*(marked(str(n), 60 * n, model="gpt-5", service_tier=tier) for n, tier in enumerate(tiers)))
    expected = None if saved is None else 1500 * saved / 1_000_000
    assert {each["saved_usd"] for each in row["caches"]} == {row["could_save_usd"]} == {expected}


def test_a_batch_and_what_broke_it_are_priced_as_a_batch() -> None:
    """Claude Sonnet 4.5 at half the price: $1.50 a million, $1.875 written, $0.15 read."""
    batch = {"provider": "anthropic", "model": "claude-sonnet-4-5", "service_tier": "batch"}
    (row,) = rows(*(marked(str(n), 60 * n, **batch) for n in range(3)))
    assert row["could_save_usd"] == (3000 * Decimal("1.35") - 1500 * Decimal("0.375")) / 1_000_000
    changed = [marked(str(n), 60 * n, system=f"{n:>8}".encode(), masked=b"maskmask", **batch) for n in range(3)]
    (row,) = rows(*changed)
    assert (row["lost_tokens"], row["lost_usd"]) == (3000, 3000 * Decimal("1.35") / 1_000_000)


def test_what_caches_saved_so_far_is_by_the_providers_counts() -> None:
    """1,500 of 2,000 tokens read: $1.50 a million less than input."""
    used = {"usage": Usage(input_tokens=500, cache_read_tokens=1500)}
    (row,) = rows(marked("1", 0), marked("2", 60, **used), marked("3", 90, **used))
    assert (row["cache_read_tokens"], row["cached_usd"]) == (3000, 3000 * Decimal("1.5") / 1_000_000)


def test_what_is_saved_already_cannot_be_saved_again() -> None:
    """Claude Sonnet 4.5: $2.70 less for what is read, $0.75 more for what is written, $3.00 more for an hour.

    1,500 of 2,000 tokens, in use as far as it goes; not in use; half; and written again and again for an hour, unread,
    where a cache of five minutes would have read twice.
    """
    claude = {"provider": "anthropic", "model": "claude-sonnet-4-5"}
    first = {"usage": Usage(input_tokens=500, cache_write_5m_tokens=1500)}
    then = {"usage": Usage(input_tokens=500, cache_read_tokens=1500)}
    plain: dict[str, Any] = {}
    kept = {"usage": Usage(input_tokens=500, cache_write_1h_tokens=1500)}
    best = (3000 * Decimal("2.7") - 1500 * Decimal("0.75")) / 1_000_000
    half = (1500 * Decimal("2.7") - 1500 * Decimal("0.75")) / 1_000_000
    unread = -4500 * Decimal(3) / 1_000_000
    for used, cached in (
        ((first, then, then), best),
        ((plain, plain, plain), Decimal(0)),
        ((first, then, plain), half),
        ((kept, kept, kept), unread),
    ):
        (row,) = rows(*(marked(str(n), 60 * n, **claude, **more) for n, more in enumerate(used)))
        assert (row["best_cache"], row["cached_usd"]) == ("5m, the system prompt", cached)
        assert row["could_save_usd"] == best - cached
    # Alone in its hour nothing is read, and no cache is the best: what was written for nothing could be saved.
    (row,) = rows(marked("1", 0, **claude, **first), marked("2", 7200, **claude, **first))
    assert (row["best_cache"], row["could_save_usd"]) == ("none", 3000 * Decimal("0.75") / 1_000_000)


def test_rows_come_by_what_more_can_be_saved() -> None:
    """What is cached already comes after a smaller amount that is not."""
    used = {"usage": Usage(input_tokens=500, cache_read_tokens=1500)}
    done = [marked(f"d{n}", 60 * n, agent_id="done", **(used if n else {})) for n in range(5)]
    found = rows(*done, marked("1", 0, agent_id="not yet"), marked("2", 60, agent_id="not yet"))
    assert [row["agent"] for row in found] == ["not yet", "done"]
    assert [row["could_save_usd"] for row in found] == [1500 * Decimal("1.5") / 1_000_000, 0]


def test_short_prompts_judges_and_what_a_local_cache_answered_are_left_out(tmp_path: Any) -> None:
    """As are digests that a later version wrote, and versions that are superseded; memory and file say the same."""
    calls = [marked("1", 0), marked("2", 10), marked("3", 20, role="judge"), marked("4", 30, billing_mode="cache")]
    calls += [marked("5", 40, prompt_digests=b"\x09new"), marked("6", 50, prompt_digests=None)]
    again = marked("2", 10, revision=1)
    for where in (":memory:", tmp_path / "l.db"):
        (row,) = rows(*calls, again, where=where)
        assert (row["calls"], row["repeats"], row["shared_tokens"]) == (2, 1, 1500)


def test_a_period_and_pruned_days_are_left_out(tmp_path: Any) -> None:
    """What was folded has no digests any more."""
    ledger = open_ledger(tmp_path / "l.db")
    ledger.write(marked("1", 0), marked("2", 10), marked("3", 2 * 86_400), marked("4", 2 * 86_400 + 10))
    assert insight(ledger, since=MONDAY + DAY, only=["prefixes"]).rows["prefixes"][0]["calls"] == 2
    ledger.prune(MONDAY + DAY)
    assert insight(ledger, only=["prefixes"]).rows["prefixes"][0]["calls"] == 2
    ledger.close()
    assert to_micros(MONDAY) > 0
