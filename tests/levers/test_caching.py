"""`cache_policy`: what goes over the wire, by the providers' own SDKs, and when nothing does."""

import asyncio
import copy
import json
import os
import pickle
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from blockbuster import blockbuster_ctx
from langchain.agents import create_agent
from langchain_anthropic import ChatAnthropic, convert_to_anthropic_tool
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.runnables import RunnableLambda
from langchain_core.tools import StructuredTool
from langchain_openai import ChatOpenAI
from provider_server import Answer, ProviderServer, anthropic_usage, openai_usage, provider_server
from pydantic import BaseModel, SecretStr
from tier_models import Said

from langchain_finops import Budget, BudgetExceeded, FinOpsHandler, LoopDetected, LoopGuard, PriceBook, open_ledger
from langchain_finops.errors import BadArguments
from langchain_finops.langchain import tag_requests
from langchain_finops.levers import Tier, TieredChatModel, caching, cascade
from langchain_finops.levers.cache_middleware import PromptCacheMiddleware
from langchain_finops.levers.caching import PromptCachePolicy, cache_policy

SYSTEM = SystemMessage("Look it up before you answer. " * 200)
"""6,000 bytes: about 1,500 tokens, and Claude Sonnet caches from 1,024."""
LOOK = StructuredTool.from_function(lambda query="": "found", name="look", description="Look.")
BIG_TOOL = StructuredTool.from_function(lambda query="": "found", name="search", description="Search. " * 600)
FIVE, HOUR = {"type": "ephemeral", "ttl": "5m"}, {"type": "ephemeral", "ttl": "1h"}


class Reply(BaseModel):
    """A reply."""

    city: str


class Clock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def policy(clock: Clock) -> PromptCachePolicy:
    return cache_policy(clock=clock)


@pytest.fixture
def server() -> Iterator[ProviderServer]:
    with provider_server() as server:
        server.answers = [Answer(text="Rome", usage=anthropic_usage(10, 5), model="claude-sonnet-5")]
        yield server


@pytest.fixture
def claude(server: ProviderServer) -> ChatAnthropic:
    return ChatAnthropic(model="claude-sonnet-5", base_url=server.url, api_key="x", max_retries=0, max_tokens=100)  # type: ignore[call-arg, arg-type]


@pytest.fixture
def gpt(server: ProviderServer) -> ChatOpenAI:
    server.answers = [Answer(text="Rome", usage=openai_usage(10, 5), model="gpt-4.1")]
    return ChatOpenAI(model="gpt-4.1", base_url=f"{server.url}/v1", api_key="x", max_retries=0, stream_usage=True)  # type: ignore[arg-type]


@pytest.fixture(autouse=True)
def _secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FINOPS_USER_KEY", "a key that is kept secret")


def conversation(steps: int) -> list[BaseMessage]:
    """What an agent's model is asked at its nth step."""
    messages: list[BaseMessage] = [SYSTEM, HumanMessage("Where is it?")]
    for step in range(1, steps):
        call = {"name": "look", "args": {"query": str(step)}, "id": f"call-{step}", "type": "tool_call"}
        messages += [AIMessage("", tool_calls=[call]), ToolMessage("a page " * 100, tool_call_id=f"call-{step}")]
    return messages


def system_mark(body: dict[str, Any]) -> Any:
    system = body["system"]
    return None if isinstance(system, str) else system[-1].get("cache_control")


def marks(body: dict[str, Any]) -> tuple[Any, Any, Any]:
    """Where a request to Anthropic has marks: at its last tool, its system message, and for its last message."""
    tools = body.get("tools") or [{}]
    return tools[-1].get("cache_control"), system_mark(body), body.get("cache_control")


Ask = Callable[..., AIMessage]

# --- Anthropic -------------------------------------------------------------------------------------------------------


def test_a_loop_is_marked_as_soon_as_that_would_have_paid_and_its_messages_are_as_they_were(
    ask: Ask, policy: PromptCachePolicy, clock: Clock, claude: ChatAnthropic, server: ProviderServer
) -> None:
    """Nothing is known at the first step; at the second the system message comes again within seconds. Of the other
    messages, 7 and then 193 tokens, only 7 came again, and writing all would have cost more: 193 / 4 against 7 x 0.9.
    At the third 7 + 193 came again, of 379 in all."""
    model = policy.bind(claude)
    for step in (1, 2, 3):
        before = copy.deepcopy(conversation(step))
        messages = conversation(step)
        assert ask(model, messages).text.strip() == "Rome"
        assert messages == before
        clock.now += 5

    assert [marks(seen.body) for seen in server.seen] == [(None, None, None), (None, FIVE, None), (None, FIVE, FIVE)]
    first, second, _ = (seen.body for seen in server.seen)
    assert second["system"] == [{"type": "text", "text": SYSTEM.content, "cache_control": FIVE}]
    assert first["system"] == SYSTEM.content
    assert second["messages"][0] == first["messages"][0]


def test_tools_are_marked_where_they_are_bound(
    ask: Ask, policy: PromptCachePolicy, clock: Clock, claude: ChatAnthropic, server: ProviderServer
) -> None:
    """At the last one, which caches all of them; the bound ones are not changed."""
    model: Any = policy.bind(claude).bind_tools([LOOK, BIG_TOOL])
    for step in (1, 2):
        ask(model, conversation(step))
        clock.now += 5

    assert marks(server.seen[0].body) == (None, None, None)
    assert marks(server.seen[1].body) == (FIVE, FIVE, None)
    assert "cache_control" not in server.seen[1].body["tools"][0]
    assert "cache_control" not in model.kwargs["tools"][-1]


def test_a_tool_that_is_found_by_a_search_takes_no_mark_and_is_no_part_of_what_is_cached(
    policy: PromptCachePolicy, clock: Clock, claude: ChatAnthropic, server: ProviderServer
) -> None:
    """Anthropic refuses a mark on it, and has it behind the prompt's beginning: the last one that is loaded is marked,
    where those are long enough without it."""
    search: Any = {"type": "tool_search_tool_regex_20251119", "name": "tool_search_tool_regex"}
    hidden = BIG_TOOL.model_copy(update={"name": "hidden", "extras": {"defer_loading": True}})
    short = [SystemMessage("Be brief."), HumanMessage("Where?")]
    for tools, marked in (
        ([BIG_TOOL, LOOK, hidden], "look"),
        ([hidden, LOOK, search, hidden], None),
        ([hidden, hidden], None),
    ):
        for _ in range(3):
            policy.bind(claude).bind_tools(tools).invoke(short)
            clock.now += 5
        sent = server.seen[-1].body["tools"]
        assert [tool["name"] for tool in sent if "cache_control" in tool] == ([marked] if marked else [])
        assert [tool.get("defer_loading") for tool in sent] == [True if tool is hidden else None for tool in tools]


def test_a_system_message_that_changes_leaves_the_tools_marked_alone(
    policy: PromptCachePolicy, clock: Clock, claude: ChatAnthropic, server: ProviderServer
) -> None:
    """A time stamp in it: nothing behind the tools is ever the same."""
    model = policy.bind(claude).bind_tools([BIG_TOOL])
    for minute in range(6):
        model.invoke([SystemMessage(f"It is 10:0{minute}. {SYSTEM.content}"), HumanMessage("Where?")])
        clock.now += 60

    assert marks(server.seen[-1].body) == (FIVE, None, None)


def test_single_questions_far_apart_are_sent_as_they_are(
    policy: PromptCachePolicy, clock: Clock, claude: ChatAnthropic, server: ProviderServer
) -> None:
    """Two hours apart nothing can be read: each would pay a quarter more, or twice as much, for nothing."""
    model = policy.bind(claude)
    for question in range(8):
        model.invoke([SYSTEM, HumanMessage(f"Question {question}")])
        clock.now += 7_200

    assert [marks(seen.body) for seen in server.seen] == [(None, None, None)] * 8
    assert all(seen.body["system"] == SYSTEM.content for seen in server.seen)


def test_uses_ten_minutes_apart_are_cached_for_an_hour(
    policy: PromptCachePolicy, clock: Clock, claude: ChatAnthropic, server: ProviderServer
) -> None:
    """Of three uses one writes and two read: 2 + 2 x 0.1 against 3. Of two, 2 + 0.1 against 2: not yet."""
    model = policy.bind(claude)
    for question in range(4):
        model.invoke([SYSTEM, HumanMessage(f"Question {question}")])
        clock.now += 600

    assert [system_mark(seen.body) for seen in server.seen] == [None, None, HOUR, HOUR]
    assert [seen.body.get("cache_control") for seen in server.seen] == [None] * 4


def test_without_the_hour_they_are_not_cached(clock: Clock, claude: ChatAnthropic, server: ProviderServer) -> None:
    """`ttls` says which caches there are to choose from."""
    model = cache_policy(ttls=["5m"], clock=clock).bind(claude)
    for question in range(4):
        model.invoke([SYSTEM, HumanMessage(f"Question {question}")])
        clock.now += 600

    assert [system_mark(seen.body) for seen in server.seen] == [None] * 4


def test_a_prefix_below_the_providers_least_is_not_marked(
    policy: PromptCachePolicy, clock: Clock, claude: ChatAnthropic, server: ProviderServer
) -> None:
    """1,000 estimated tokens are too few for Sonnet, which caches from 1,024."""
    small = SystemMessage("x" * 3_900)
    for _ in range(5):
        policy.bind(claude).invoke([small, HumanMessage("Where?")])
        clock.now += 5

    assert [marks(seen.body) for seen in server.seen] == [(None, None, None)] * 5


@pytest.mark.parametrize(("calls", "told"), [(9, False), (9, True), (10, False), (11, False)])
def test_steps_of_20_blocks_leave_the_messages_unmarked(
    calls: int, told: bool, *, policy: PromptCachePolicy, clock: Clock, server: ProviderServer
) -> None:
    """A mark finds what ended fewer than 20 blocks before it: calls made at once, their results, and what is said with
    them if Claude's own blocks are sent back, the calls once. Behind ten calls the prompt before is out of sight, where
    others sell Claude."""
    model = policy.bind(sold_by_others(server))
    messages: list[BaseMessage] = [SYSTEM, HumanMessage("Where is it?")]
    for step in range(5):
        model.invoke(messages)
        clock.now += 5
        asked = [{"name": "look", "args": {}, "id": f"{step}-{n}", "type": "tool_call"} for n in range(calls)]
        blocks = [{"type": "tool_use", "name": "look", "input": {}, "id": each["id"]} for each in asked]
        said: Any = [{"type": "text", "text": "I look."}, *blocks] if told else ""
        messages = [
            *messages,
            AIMessage(said, tool_calls=asked),
            *(ToolMessage("a page " * 100, tool_call_id=str(each["id"])) for each in asked),
        ]
    before, last = (
        sum(1 if isinstance(each["content"], str) else len(each["content"]) for each in seen.body["messages"])
        for seen in server.seen[-2:]
    )

    assert last - before == 2 * calls + told
    assert cached_of(server.seen[-1].body) == (["tool_result of 8"] if last - before < 20 else [])
    assert system_mark(server.seen[-1].body) == FIVE


@pytest.mark.parametrize(
    ("calls", "texts", "is_found"), [(30, 0, True), (30, 17, True), (30, 18, False), (1, 18, False)]
)
@pytest.mark.parametrize("told", [True, False])
def test_the_claude_api_counts_calls_in_a_row_as_one_block_and_results_in_a_row(
    calls: int,
    texts: int,
    is_found: bool,
    told: bool,
    *,
    policy: PromptCachePolicy,
    clock: Clock,
    claude: ChatAnthropic,
    server: ProviderServer,
) -> None:
    """30 calls at once are one block and their 30 results are one: with 17 texts 19 in all, and 20 with one more. Calls
    that are told in the answer's own blocks count the same."""
    model = policy.bind(claude)
    messages: list[BaseMessage] = [SYSTEM, HumanMessage("Where is it?")]
    for step in range(4):
        model.invoke(messages)
        clock.now += 5
        asked = [{"name": "look", "args": {}, "id": f"{step}-{n}", "type": "tool_call"} for n in range(calls)]
        blocks: Any = [{"type": "tool_use", "name": "look", "input": {}, "id": each["id"]} for each in asked]
        texts_read: Any = [{"type": "text", "text": f"Page {n}."} for n in range(texts)]
        messages = [
            *messages,
            AIMessage(blocks if told else "", tool_calls=asked),
            *(ToolMessage("a page " * 100, tool_call_id=str(each["id"])) for each in asked),
            *([HumanMessage(texts_read)] if texts else []),
        ]

    assert server.seen[-1].body.get("cache_control") == (FIVE if is_found else None)


def test_runs_of_calls_end_where_something_stands_between_them(
    policy: PromptCachePolicy, clock: Clock, claude: ChatAnthropic, server: ProviderServer
) -> None:
    """Ten calls one after the other, each with its result, are 20 blocks; nine are 18."""
    found = []
    for calls in (9, 10):
        model = policy.bind(claude)
        messages: list[BaseMessage] = [SYSTEM, HumanMessage(f"Where is it? {calls}")]
        for step in range(6):
            model.invoke(messages)
            clock.now += 5
            for n in range(calls):
                call = {"name": "look", "args": {}, "id": f"{step}-{n}", "type": "tool_call"}
                messages += [
                    AIMessage("", tool_calls=[call]),
                    ToolMessage("a page " * 100, tool_call_id=str(call["id"])),
                ]
        found.append(server.seen[-1].body.get("cache_control"))
        policy = cache_policy(clock=clock)

    assert found == [FIVE, None]


def test_what_the_user_marked_stays_and_nothing_is_added(
    policy: PromptCachePolicy, clock: Clock, claude: ChatAnthropic, server: ProviderServer
) -> None:
    """In a message, in a setting of the call, or at a tool."""
    own = SystemMessage([{"type": "text", "text": SYSTEM.content, "cache_control": HOUR}])
    tool = LOOK.model_copy(update={"extras": {"cache_control": HOUR}})
    model = policy.bind(claude)
    for step in (1, 2, 3):
        model.invoke([own, *conversation(step)[1:]])
        model.invoke(conversation(step), cache_control=HOUR)
        model.bind_tools([tool]).invoke(conversation(step))
        clock.now += 5

    assert [marks(seen.body) for seen in server.seen] == 3 * [
        (None, HOUR, None),
        (None, None, HOUR),
        (HOUR, None, None),
    ]


RESULT = {"type": "tool_result", "tool_use_id": "c", "content": [{"type": "text", "text": "t", "cache_control": HOUR}]}
DOCUMENT = {"type": "document", "source": {"type": "content", "content": RESULT["content"]}}
ASKED = AIMessage("", tool_calls=[{"name": "look", "args": {}, "id": "c", "type": "tool_call"}])


@pytest.mark.parametrize(
    ("messages", "model_settings"),
    [
        ([HumanMessage("Where?"), ASKED, HumanMessage([RESULT])], {}),
        ([HumanMessage([DOCUMENT])], {}),
        ([HumanMessage("Where?")], {"tools": [{"name": "own", "input_schema": {}, "cache_control": HOUR}]}),
        ([HumanMessage("Where?")], {"system": [{"type": "text", "text": "Be brief.", "cache_control": HOUR}]}),
    ],
)
def test_a_mark_of_the_users_counts_wherever_it_stands(
    messages: list[Any],
    model_settings: dict[str, Any],
    *,
    policy: PromptCachePolicy,
    clock: Clock,
    claude: ChatAnthropic,
    server: ProviderServer,
) -> None:
    """In a tool's result, in a document, in the model's own settings: with three of ours they could be too many."""
    model = policy.bind(claude.model_copy(update={"model_kwargs": model_settings}))
    tools = {} if "tools" in model_settings else {"tools": [convert_to_anthropic_tool(BIG_TOOL)]}
    for _ in range(3):
        model.invoke([SYSTEM, *messages], **tools)
        clock.now += 5

    assert [json.dumps(seen.body).count("cache_control") for seen in server.seen] == [1, 1, 1]


def test_what_a_tool_takes_is_no_mark(
    policy: PromptCachePolicy, clock: Clock, claude: ChatAnthropic, server: ProviderServer
) -> None:
    """A tool that sets the `cache_control` of something is marked like any other."""
    taking = {"type": "object", "properties": {"cache_control": {"type": "string"}}}
    tool = {"name": "publish", "description": "Publish. " * 600, "input_schema": taking}
    for _ in range(2):
        policy.bind(claude).invoke([SYSTEM, HumanMessage("Where?")], tools=[tool])
        clock.now += 5

    assert marks(server.seen[-1].body)[:2] == (FIVE, FIVE)


def test_known_loops_are_marked_from_the_first_step(
    clock: Clock, claude: ChatAnthropic, server: ProviderServer
) -> None:
    """Who says that five uses follow is believed until five were seen; after five in vain no more."""
    model = cache_policy(expected_uses=5, clock=clock).bind(claude)
    for question in range(9):
        model.invoke([SYSTEM, HumanMessage(f"Question {question}")])
        clock.now += 7_200

    assert system_mark(server.seen[0].body) == FIVE
    assert system_mark(server.seen[-1].body) is None


def test_calls_at_the_same_time_do_not_count_as_reads(
    policy: PromptCachePolicy, clock: Clock, claude: ChatAnthropic, server: ProviderServer
) -> None:
    """What is still on its way cannot be read: four at once would each have written."""
    gate = threading.Event()
    server.answers = [Answer(text="Rome", usage=anthropic_usage(10, 5), wait_for=gate)]

    async def fan_out() -> None:
        model = policy.bind(claude)
        asking = [asyncio.create_task(model.ainvoke([SYSTEM, HumanMessage(f"Part {n}")])) for n in range(4)]
        while len(server.seen) < 4:
            await asyncio.sleep(0.005)
        gate.set()
        await asyncio.gather(*asking)

    asyncio.run(fan_out())
    assert [marks(seen.body) for seen in server.seen] == [(None, None, None)] * 4

    clock.now += 5
    policy.bind(claude).invoke([SYSTEM, HumanMessage("And then?")])
    # Five uses, of which the last alone could read: 4 x 1.25 + 0.1 is more than 5.
    assert marks(server.seen[-1].body) == (None, None, None)


def test_a_call_that_failed_has_cached_nothing(
    policy: PromptCachePolicy, clock: Clock, claude: ChatAnthropic, server: ProviderServer
) -> None:
    """A provider that refused the first has nothing for the second to read."""
    server.answers = [Answer(status=400), Answer(text="Rome", usage=anthropic_usage(10, 5))]
    model = policy.bind(claude)
    with pytest.raises(Exception, match="SECRET"):
        model.invoke(conversation(1))
    clock.now += 5
    model.invoke(conversation(1))

    assert marks(server.seen[-1].body) == (None, None, None)


def test_an_agent_of_create_agent_is_marked_by_middleware(
    policy: PromptCachePolicy, claude: ChatAnthropic, server: ProviderServer
) -> None:
    """Its system prompt and its tools, by the real middleware, in sync and async code."""
    agent: Any = create_agent(claude, [BIG_TOOL], system_prompt=SYSTEM, middleware=[PromptCacheMiddleware(policy)])
    question = {"messages": [HumanMessage("Where?")]}
    agent.invoke(question)
    asyncio.run(agent.ainvoke(question))

    assert marks(server.seen[0].body) == (None, None, None)
    assert marks(server.seen[1].body)[:2] == (FIVE, FIVE)


def test_a_tier_is_marked_by_what_that_tier_was_sent(
    policy: PromptCachePolicy, clock: Clock, claude: ChatAnthropic, server: ProviderServer
) -> None:
    """Each model has caches of its own: the first step that goes to the dear one finds nothing in its cache."""
    cheap = Said(model_name="small", say=lambda messages, number: AIMessage("no" if len(messages) > 2 else "yes"))
    tiers = TieredChatModel(
        [Tier("worker", cheap), Tier("brain", claude.with_retry(stop_after_attempt=1))],
        policy=cascade(lambda request, answer: answer.text == "yes"),
    )
    model = policy.bind(tiers)
    for step in (1, 2, 3):
        model.bind_tools([LOOK]).invoke(conversation(step))
        clock.now += 5

    assert isinstance(model, TieredChatModel)
    assert [marks(seen.body) for seen in server.seen] == [(None, None, None), (None, FIVE, FIVE)]


def test_schemas_fallbacks_tags_and_copies_keep_the_policy(
    policy: PromptCachePolicy, clock: Clock, claude: ChatAnthropic, server: ProviderServer
) -> None:
    """Whatever LangChain makes of a model, and whichever of the two goes first."""
    server.answers = [Answer(text='{"city": "Rome"}', usage=anthropic_usage(10, 5))]
    small = claude.model_copy(update={"model": "claude-sonnet-4-5"})
    several: list[Any] = [
        policy.bind(claude).with_structured_output(Reply, method="json_schema"),
        policy.bind(small.with_fallbacks([claude])),
        tag_requests(policy.bind(claude.model_copy(update={"model": "claude-sonnet-4-0"})), "gateway"),
        policy.bind(tag_requests(claude.model_copy(update={"model": "claude-opus-4-1"}), "gateway")),
        policy.bind(policy.bind(claude.model_copy(update={"model": "claude-sonnet-4-6"}))),
    ]
    for model in several:
        for step in (1, 2):
            model.invoke(conversation(step), {"metadata": {"agent_id": "a"}})
            clock.now += 5

    assert [marks(seen.body) for seen in server.seen] == len(several) * [(None, None, None), (None, FIVE, None)]
    assert [seen.headers["x-agent-id"] for seen in server.seen[4:8]] == ["a"] * 4


def test_a_bound_model_is_of_its_class_and_goes_to_another_process(policy: PromptCachePolicy) -> None:
    model = ChatAnthropic(model="claude-sonnet-5", api_key="x")  # type: ignore[call-arg, arg-type]
    bound = cache_policy().bind(model)
    again = pickle.loads(pickle.dumps(bound))

    assert isinstance(bound, ChatAnthropic)
    assert type(again).__name__ == "ChatAnthropic"
    assert hasattr(again, "__finops_caches__")
    assert not hasattr(model, "__finops_caches__")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system has no fork")
def test_a_child_that_is_forked_while_a_thread_notes_a_prompt_goes_on(
    policy: PromptCachePolicy, clock: Clock, claude: ChatAnthropic
) -> None:
    """It would wait for that thread's lock, for ever; and it knows what its parent has sent."""
    policy.answered(policy.prepared(claude, conversation(1), None, {}))
    clock.now += 5
    with policy._prefixes._lock:
        child = os.fork()
        if child == 0:
            signal.alarm(5)
            marked = policy.prepared(claude, conversation(1), None, {}).messages[0].content
            os._exit(0 if isinstance(marked, list) else 1)

    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


class SoldByOthers(ChatAnthropic):
    """Claude by another transport, as Bedrock's class is one."""

    @property
    def _llm_type(self) -> str:
        return "anthropic-of-others"


def sold_by_others(server: ProviderServer) -> SoldByOthers:
    return SoldByOthers(model="claude-sonnet-5", base_url=server.url, api_key="x", max_retries=0, max_tokens=100)  # type: ignore[call-arg, arg-type]


def cached_of(body: dict[str, Any]) -> list[str]:
    """Kinds of the marked blocks of a request's messages, and in which message each stands."""
    return [
        f"{block['type']} of {at}"
        for at, message in enumerate(body["messages"])
        for block in (message["content"] if isinstance(message["content"], list) else ())
        if "cache_control" in block
    ]


def test_where_others_sell_claude_the_last_message_is_marked_in_a_copy(
    policy: PromptCachePolicy, clock: Clock, server: ProviderServer
) -> None:
    """They take no `cache_control` of the request. A result is marked, and what the user has stays as it is."""
    claude = sold_by_others(server)
    for step in (1, 2, 3, 4):
        messages = conversation(step)
        policy.bind(claude).invoke(messages)
        assert messages == conversation(step)
        clock.now += 5

    assert [marks(seen.body) for seen in server.seen] == [(None, None, None), *[(None, FIVE, None)] * 3]
    assert [cached_of(seen.body) for seen in server.seen] == [[], [], ["tool_result of 4"], ["tool_result of 6"]]


THOUGHT = AIMessage([{"type": "thinking", "thinking": "Well.", "signature": "s"}])
FILE = {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "Where it is. " * 600}}
BY_CODE = {"type": "tool_use", "name": "look", "input": {}, "id": "c", "caller": {"type": "code_execution_20250825"}}


@pytest.mark.parametrize(
    ("last", "marked"),
    [
        ([HumanMessage("Where is it? " * 600)], ["text of 0"]),
        ([HumanMessage([{"type": "text", "text": "Where?"}, FILE])], []),
        ([HumanMessage("Where? " * 900), THOUGHT], []),
        ([HumanMessage("Where? " * 900), AIMessage([BY_CODE]), ToolMessage("here", tool_call_id="c")], []),
    ],
)
def test_there_only_what_is_sure_to_take_a_mark_gets_one(
    last: list[BaseMessage], marked: list[str], policy: PromptCachePolicy, clock: Clock, server: ProviderServer
) -> None:
    """No file, no thought and no result of a call by code; the user's own message is never marked."""
    claude = sold_by_others(server)
    before = copy.deepcopy(last)
    for _ in range(3):
        policy.bind(claude).invoke([SYSTEM, *last])
        clock.now += 5

    assert last == before
    assert marks(server.seen[-1].body) == (None, FIVE, None)
    assert cached_of(server.seen[-1].body) == marked


def test_what_one_account_has_cached_another_cannot_read(
    policy: PromptCachePolicy, clock: Clock, claude: ChatAnthropic, server: ProviderServer
) -> None:
    """Two keys, and a third of another host: each begins anew."""
    with provider_server() as elsewhere:
        elsewhere.answers = list(server.answers)
        several = [
            claude,
            claude.model_copy(update={"anthropic_api_key": SecretStr("y")}),
            claude.model_copy(update={"anthropic_api_url": elsewhere.url}),
        ]
        for _ in range(2):
            for model in several:
                policy.bind(model).invoke(conversation(1))
                clock.now += 5

        assert [system_mark(seen.body) for seen in server.seen] == [None, None, FIVE, FIVE]
        assert [system_mark(seen.body) for seen in elsewhere.seen] == [None, FIVE]


def test_prices_are_the_handlers_in_all_ways_to_ask(
    ask: Ask, policy: PromptCachePolicy, clock: Clock, claude: ChatAnthropic, server: ProviderServer
) -> None:
    """Of a handler whose book knows no model, in a node that calls without a config: there nothing is known to pay."""
    handler = FinOpsHandler(ledger=open_ledger(":memory:"), prices=PriceBook(catalog=False))
    model = policy.bind(claude)
    for callbacks in ([handler], []):
        for _ in range(2):
            RunnableLambda(lambda _: ask(model, conversation(1))).invoke("", {"callbacks": callbacks})
            clock.now += 5

    assert [system_mark(seen.body) for seen in server.seen] == [None, None, FIVE, FIVE]


@pytest.mark.parametrize("marked", [False, True])
def test_a_budget_sees_what_the_marks_may_cost(
    marked: bool, clock: Clock, claude: ChatAnthropic, server: ProviderServer
) -> None:
    """A strict one: 6,000 bytes at $2 a million are 1.2 cents at most; written for an hour 2.4, and that is refused."""
    budget = Budget(usd="0.018", admission="strict")
    handler = FinOpsHandler(ledger=open_ledger(":memory:"), budgets=[budget])
    short: Any = claude.model_copy(update={"max_tokens": 1})
    model = cache_policy(ttls=["1h"], expected_uses=9, clock=clock).bind(short) if marked else short

    if marked:
        with pytest.raises(BudgetExceeded):
            model.invoke([SYSTEM, HumanMessage("Where?")], {"callbacks": [handler]})
    else:
        model.invoke([SYSTEM, HumanMessage("Where?")], {"callbacks": [handler]})
    assert len(server.seen) == (0 if marked else 1)


def test_a_prompt_is_the_same_with_marks_and_without(
    policy: PromptCachePolicy, clock: Clock, claude: ChatAnthropic, server: ProviderServer
) -> None:
    """A loop of one prompt is seen although its marks come later: the third of the same is one too many."""
    guard = LoopGuard(repeats=2)
    handler = FinOpsHandler(ledger=open_ledger(":memory:"), budgets=[guard])
    model = policy.bind(claude)

    def ask_thrice(_: Any, config: Any) -> None:
        for _ in range(3):
            model.invoke(conversation(1), config)
            clock.now += 5

    with pytest.raises(LoopDetected):
        RunnableLambda(ask_thrice).invoke("", {"callbacks": [handler]})
    assert [system_mark(seen.body) for seen in server.seen] == [None, FIVE]


def test_a_stream_that_writes_for_an_hour_is_charged_for_an_hour(
    clock: Clock, claude: ChatAnthropic, server: ProviderServer
) -> None:
    """Streams do not tell for how long was written; the request's marks do: 1,000 x $4 and 100 x $2 a million, 5 out at
    $10. Whole answers tell by themselves."""
    server.answers = [Answer(text="Rome", usage=anthropic_usage(100, 5, written_1h=1_000), model="claude-sonnet-5")]
    model = cache_policy(ttls=["1h"], expected_uses=9, clock=clock).bind(claude)
    handler = FinOpsHandler(ledger=open_ledger(":memory:"))
    config: Any = {"callbacks": [handler]}
    list(model.stream(conversation(1), config))
    model.invoke(conversation(1), config)

    assert [call.usage.cache_write_1h_tokens for call in handler.ledger.calls()] == [1_000, 1_000]
    assert [call.usage.cache_write_5m_tokens for call in handler.ledger.calls()] == [0, 0]
    assert {call.cost_usd for call in handler.ledger.calls()} == {Decimal("0.00425")}
    assert all("cache_ttl_assumed" not in call.reasons for call in handler.ledger.calls())
    assert handler.faults == 0


# --- OpenAI ----------------------------------------------------------------------------------------------------------


def keys(server: ProviderServer) -> list[Any]:
    return [seen.body.get("prompt_cache_key") for seen in server.seen]


def test_openai_gets_a_key_once_a_long_beginning_comes_again(
    ask: Ask, policy: PromptCachePolicy, clock: Clock, gpt: ChatOpenAI, server: ProviderServer
) -> None:
    """The same key for all that begin alike, and none of the user's text in it."""
    model = policy.bind(gpt)
    for question in ("Where?", "Who?", "When?"):
        ask(model, [SYSTEM, HumanMessage(question)])
        clock.now += 60

    first, second, third = keys(server)
    assert first is None
    assert second == third
    assert second.startswith("finops-")
    assert len(second) <= 64
    assert all(seen.body["messages"][0]["content"] == SYSTEM.content for seen in server.seen)


def test_the_key_is_the_same_in_every_process_with_the_secret_and_not_without(
    clock: Clock, gpt: ChatOpenAI, server: ProviderServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else each process would be sent to a machine of its own, and read nothing that another one had written."""
    for secret in ("one", "one", "two"):
        monkeypatch.setenv("FINOPS_USER_KEY", secret)
        model = cache_policy(clock=clock, expected_uses=1).bind(gpt)
        model.invoke([SYSTEM, HumanMessage("Where?")])

    one, same, other = keys(server)
    assert one == same != other


@pytest.mark.parametrize("streams", [False, True])
def test_no_file_is_read_on_an_event_loop_nor_twice(
    streams: bool,
    *,
    gpt: ChatOpenAI,
    server: ProviderServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: Any,
) -> None:
    """The key's and that of the prices, under blockbuster; both are kept, and the second call needs them no more."""
    (tmp_path / "prices.yaml").write_text("cards: []\n", encoding="utf-8")
    monkeypatch.setenv("FINOPS_PRICES", str(tmp_path / "prices.yaml"))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    monkeypatch.delenv("FINOPS_USER_KEY")
    model = cache_policy(expected_uses=1).bind(gpt)

    async def ask_twice() -> None:
        with blockbuster_ctx("langchain_finops"):
            for _ in range(2):
                if streams:
                    [chunk async for chunk in model.astream([SYSTEM, HumanMessage("Where?")])]
                else:
                    await model.ainvoke([SYSTEM, HumanMessage("Where?")])
                for file in tmp_path.rglob("*"):
                    file.write_text("This is broken.") if file.is_file() else None

    asyncio.run(ask_twice())
    first, second = keys(server)
    assert first == second
    assert first.startswith("finops-")
    assert not [record.message for record in caplog.records if "cache_policy" in record.message]


class Offline(ChatOpenAI):
    """Answers without a request, and so without a thread of its own."""

    async def _agenerate(self, messages: list[BaseMessage], *_: Any, **settings: Any) -> ChatResult:
        said = AIMessage(settings.get("prompt_cache_key") or "no key")
        return ChatResult(generations=[ChatGeneration(message=said)])


@pytest.mark.parametrize("fault", ["none", "key", "prices"])
def test_only_the_first_call_on_an_event_loop_goes_to_a_thread(
    fault: str, monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    """Later ones are answered while every thread of the pool is busy, whether or not the first one needed the key, and
    what could not be read then is not read again."""
    read: list[str] = []
    faults = {"key": (caching, "key_of"), "prices": (PriceBook, "default")}

    def fails(*_: object) -> None:
        read.append(threading.current_thread().name)
        raise OSError("it cannot be read")

    if fault in faults:
        monkeypatch.setattr(*faults[fault], fails)
    model = cache_policy().bind(Offline(model="gpt-4.1", api_key="x"))  # type: ignore[arg-type]
    gate = threading.Event()

    async def ask() -> list[str]:
        await model.ainvoke([SystemMessage("Be brief."), HumanMessage("Where?")])
        loop = asyncio.get_running_loop()
        loop.set_default_executor(ThreadPoolExecutor(1))
        busy = loop.run_in_executor(None, gate.wait)
        try:
            return [
                str((await asyncio.wait_for(model.ainvoke([SYSTEM, HumanMessage(str(n))]), 10)).content)
                for n in range(4)
            ]
        finally:
            gate.set()
            await busy

    said = asyncio.run(ask())
    assert said[-1].startswith("finops-" if fault == "none" else "no key")
    assert len(read) == (0 if fault == "none" else 1)
    assert threading.main_thread().name not in read
    assert any("cannot be read" in record.message for record in caplog.records) == (fault != "none")


@pytest.mark.parametrize("way", ["short", "far", "own", "own in the model"])
def test_openai_gets_no_key_of_ours_where_it_does_not_pay_or_there_is_one(
    way: str, policy: PromptCachePolicy, clock: Clock, gpt: ChatOpenAI, server: ProviderServer
) -> None:
    """A short beginning, uses an hour apart, a key of the user's."""
    system = SystemMessage("Be brief.") if way == "short" else SYSTEM
    own: dict[str, Any] = {"prompt_cache_key": "mine"}
    model = policy.bind(gpt.model_copy(update={"model_kwargs": own}) if way == "own in the model" else gpt)
    for question in range(4):
        model.invoke([system, HumanMessage(f"Question {question}")], **(own if way == "own" else {}))
        clock.now += 3_600 if way == "far" else 5

    assert keys(server) == [("mine" if way.startswith("own") else None)] * 4


# --- others ----------------------------------------------------------------------------------------------------------


def test_a_model_that_has_no_way_to_ask_is_left_alone(policy: PromptCachePolicy, small: Said) -> None:
    assert policy.bind(small) is small


def test_a_model_without_a_known_price_is_sent_as_it_is_and_that_is_said_once(
    policy: PromptCachePolicy, clock: Clock, claude: ChatAnthropic, server: ProviderServer, caplog: Any
) -> None:
    model = policy.bind(claude.model_copy(update={"model": "claude-of-tomorrow"}))
    for step in (1, 2, 3):
        model.invoke(conversation(step))
        clock.now += 5

    assert [marks(seen.body) for seen in server.seen] == [(None, None, None)] * 3
    said = [record.message for record in caplog.records if "cache_policy" in record.message]
    assert said == ["cache_policy: no price of a prompt cache is known for claude-of-tomorrow; nothing is set for it"]


def test_a_fault_of_ours_costs_no_answer(claude: ChatAnthropic, server: ProviderServer, caplog: Any) -> None:
    """A clock that breaks: the prompt is sent without marks, and that is told once."""

    def broken() -> float:
        raise RuntimeError("no time")

    model = cache_policy(clock=broken).bind(claude)
    assert model.invoke("Where?").text == model.invoke("Where?").text == "Rome"
    assert len([record for record in caplog.records if "fault of ours" in record.message]) == 1


def test_no_text_is_kept(policy: PromptCachePolicy, claude: ChatAnthropic, server: ProviderServer) -> None:
    """What is remembered are keyed hashes, counts and times."""
    policy.bind(claude).invoke([SystemMessage("A secret of ours. " * 400), HumanMessage("Another secret.")])
    prefixes = policy._prefixes
    kept = repr([(store.keys(), store.values()) for store in (prefixes._uses, prefixes._agents, prefixes._prompts)])

    assert "secret" not in kept


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"ttls": ["2h"]}, "ttls has '2h': use '5m' or '1h'"),
        ({"ttls": []}, "ttls is empty"),
        ({"expected_uses": 0}, "expected_uses=0: a whole number of 1 or more"),
        ({"expected_uses": -3}, "expected_uses=-3"),
        ({"expected_uses": float("nan")}, "expected_uses=nan"),
        ({"expected_uses": True}, "expected_uses=True"),
        ({"prices": "book"}, "prices is a str"),
        ({"clock": 3}, "clock is a int"),
    ],
)
def test_arguments_that_make_no_sense_are_refused_in_one_sentence(arguments: Any, said: str) -> None:
    with pytest.raises(BadArguments) as refused:
        cache_policy(**arguments)
    assert said in str(refused.value)
    assert str(refused.value).count("\n") == 0


def test_all_faults_are_told_at_once() -> None:
    with pytest.raises(BadArguments, match=r"ttls has .*; expected_uses=0: .*"):
        cache_policy(ttls=["1d"], expected_uses=0)


def test_what_is_no_model_is_refused(policy: PromptCachePolicy) -> None:
    with pytest.raises(BadArguments, match="binds chat models, and this is a str"):
        policy.bind("gpt-4.1")  # type: ignore[type-var]
