"""A node's cap reaches the provider under its own name, never above the user's bound, in all ways to ask a model."""

import asyncio
import pickle
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain_anthropic import ChatAnthropic
from langchain_core.caches import InMemoryCache
from langchain_core.language_models import BaseChatModel, BaseLLM
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.outputs import ChatGeneration, ChatResult, Generation, LLMResult
from langchain_core.prompt_values import StringPromptValue
from langchain_core.runnables import RunnableLambda
from langchain_core.tools import StructuredTool
from langchain_openai import ChatOpenAI, OpenAI
from langgraph.graph import START, MessagesState, StateGraph
from provider_server import Answer, ProviderServer, anthropic_usage, openai_usage, provider_server
from pydantic import BaseModel, PrivateAttr
from tier_models import BOOK, Said, answer

from langchain_finops import Budget, BudgetExceeded, FinOpsHandler, Ledger
from langchain_finops.errors import BadArguments
from langchain_finops.langchain import tag_requests
from langchain_finops.levers import AnswerCap, AnswerCaps, CapMiddleware, Tier, TieredChatModel, cap_answers

LOOK = StructuredTool.from_function(lambda query="": "found", name="look", description="Look.")
CAPS = {"answer": 120}


class Reply(BaseModel):
    """A reply."""

    city: str


def learnt(tokens: int | None, *, agent: str = "support", node: str = "answer", model: str = "small") -> AnswerCaps:
    """Caps with one row."""
    row = AnswerCap(
        agent=agent, node=node, model=model, tokens=tokens, why_none=None if tokens else "no cap can be learnt yet",
        successes=0, successes_needed=299, calls=0, output_tokens=0, longer=0, cut_tasks=0, saved_usd=None, unpriced=0,
    )  # fmt: skip
    return AnswerCaps((row,), 0.99, 0.95)


def in_node(asks: Callable[[Any], Any], name: str = "answer", **config: Any) -> Any:
    """What `asks` gives when it is called in a node of a graph."""
    said: list[Any] = []

    def run(state: MessagesState) -> dict[str, Any]:
        said.append(asks(state["messages"]))
        return {}

    graph = StateGraph(MessagesState).add_node(name, run).add_edge(START, name).compile()
    graph.invoke({"messages": [("user", "hi")]}, config)  # type: ignore[arg-type]
    return said[0]


async def in_async_node(asks: Callable[[Any], Any]) -> Any:
    """The same in async code."""
    said: list[Any] = []

    async def run(state: MessagesState) -> dict[str, Any]:
        said.append(await asks(state["messages"]))
        return {}

    graph = StateGraph(MessagesState).add_node("answer", run).add_edge(START, "answer").compile()
    await graph.ainvoke({"messages": [("user", "hi")]})
    return said[0]


def bounds(model: Said) -> list[int | None]:
    return [settings.get("max_tokens") for _, settings in model.asked]


def cut(model: str = "small", tokens: int = 120) -> AIMessage:
    return answer("a part", model, output_tokens=tokens, response_metadata={"finish_reason": "length"})


# --- where, and how much ---------------------------------------------------------------------------------------------


def test_a_cap_is_set_at_its_node_and_nowhere_else(small: Said) -> None:
    """By the node's name, in a path too; not in another node, and not outside of graphs."""
    model = cap_answers(small, {"answer": 120, "team/plan": 60})

    for name in ("answer", "other", "plan"):
        in_node(model.invoke, name)
    model.invoke("hi")
    assert bounds(small) == [120, None, None, None]


def test_a_learnt_cap_is_for_its_agent_and_model(small: Said, big: Said, handler: FinOpsHandler) -> None:
    """As the ledger will have them: by the handler, the run's metadata, or, without a handler, the metadata alone."""
    caps = learnt(120)
    model, other = cap_answers(small, caps), cap_answers(big, caps)
    support: Any = {"metadata": {"agent_id": "support"}}

    in_node(model.invoke, **support)
    in_node(model.invoke, callbacks=[handler], **support)
    in_node(model.invoke, metadata={"agent_id": "sales"})
    in_node(model.invoke, callbacks=[FinOpsHandler(ledger=handler.ledger, agent_id="support", prices=BOOK)])
    in_node(model.invoke)
    in_node(other.invoke, **support)

    assert bounds(small) == [120, 120, None, 120, None]
    assert bounds(big) == [None]


@pytest.mark.parametrize(
    "own", [{"metadata": {"mine": 1}}, {"metadata": {"mine": 1}, "callbacks": []}, {"tags": ["mine"]}]
)
@pytest.mark.parametrize("metered", [False, True])
def test_a_config_of_the_users_own_hides_no_node(
    own: dict[str, Any], metered: bool, small: Said, handler: FinOpsHandler
) -> None:
    """Metadata of theirs takes the place of the node's in the config; with callbacks of theirs, too, nothing is left
    of it but the context."""
    model = cap_answers(small, CAPS)
    in_node(lambda messages: model.invoke(messages, own), callbacks=[handler] if metered else [])  # type: ignore[arg-type]

    assert bounds(small) == [120]


@pytest.mark.parametrize(("own", "sent"), [(80, 80), (120, 120), (500, 120)])
def test_it_is_never_more_than_the_user_set(own: int, sent: int, small: Said) -> None:
    """By a bound argument of the call, whatever it is called."""
    model = cap_answers(small, CAPS)
    in_node(lambda messages: model.bind(max_tokens=own).invoke(messages))
    in_node(lambda messages: model.invoke(messages, max_completion_tokens=own))

    assert bounds(small) == [sent, None]
    assert small.asked[1][1]["max_completion_tokens"] == sent


@pytest.mark.parametrize("way", ["invoke", "stream"])
@pytest.mark.parametrize("run_async", [False, True])
def test_it_holds_in_every_way_to_ask(way: str, run_async: bool, small: Said) -> None:
    model = cap_answers(small, CAPS)

    async def streamed(messages: Any) -> str:
        return "".join([chunk.text async for chunk in model.astream(messages)])

    async def asked(messages: Any) -> str:
        return (await model.ainvoke(messages)).text

    if run_async:
        text = asyncio.run(in_async_node(asked if way == "invoke" else streamed))
    elif way == "invoke":
        text = in_node(lambda messages: model.invoke(messages).text)
    else:
        text = in_node(lambda messages: "".join(chunk.text for chunk in model.stream(messages)))
    assert text == "small"
    assert bounds(small) == [120]


@pytest.mark.filterwarnings("ignore::langchain_core._api.LangChainBetaWarning")
def test_events_of_the_newest_version_are_capped(small: Said) -> None:
    """`stream_events(version="v3")` and its async twin go another way through LangChain."""

    async def all_of(stream: Any) -> str:
        return (await (await stream)).text

    in_node(lambda messages: str(cap_answers(small, CAPS).stream_events(messages, version="v3").output.text))
    model = cap_answers(small, CAPS)
    asyncio.run(in_async_node(lambda messages: all_of(model.astream_events(messages, version="v3"))))

    assert bounds(small) == [120, 120]


def test_bound_tools_and_batches_are_capped(small: Said) -> None:
    in_node(lambda messages: cap_answers(small, CAPS).bind_tools([LOOK]).batch([messages, messages]))

    assert bounds(small) == [120, 120]
    assert [len(settings["tools"]) for _, settings in small.asked] == [1, 1]


def test_the_ledger_tells_of_it_and_budgets_hold_no_more(small: Said, handler: FinOpsHandler) -> None:
    """1,200 tokens of `small` are $0.012: a budget of that lets a call through whose answer is bounded by 1,200, and
    none that could have 1,201."""
    budget = FinOpsHandler(ledger=handler.ledger, prices=BOOK, budgets=[Budget(usd="0.01201")])
    with pytest.raises(BudgetExceeded):
        in_node(cap_answers(small, {"answer": 1_201}).invoke, callbacks=[budget])
    in_node(cap_answers(small, {"answer": 1_200}).invoke, callbacks=[budget])

    assert [call.attribution.tags.get("answer_cap") for call in handler.ledger.calls() if call.error is None] == [
        "1200"
    ]


def test_langchains_cache_keeps_capped_answers_apart(small: Said) -> None:
    """An answer that was cut off at one node is not the answer at another."""
    small.cache = InMemoryCache()
    model = cap_answers(small, CAPS)
    for name in ("answer", "other", "answer", "other"):
        in_node(model.invoke, name)

    assert bounds(small) == [120, None]


class Completes(BaseLLM):
    """A scripted completion model that keeps the limit of each prompt it was asked with."""

    max_tokens: int = 256
    model_name: str = "small"
    _asked: list[tuple[str, int]] = PrivateAttr(default_factory=list)

    @property
    def _llm_type(self) -> str:
        return "completes"

    @property
    def asked(self) -> list[tuple[str, int]]:
        return self._asked

    def _generate(self, prompts: list[str], stop: Any = None, run_manager: Any = None, **given: Any) -> LLMResult:
        self._asked.extend((prompt, given.get("max_tokens", self.max_tokens)) for prompt in prompts)
        return LLMResult(generations=[[Generation(text=f"{prompt}!")] for prompt in prompts])


WAYS: dict[str, Callable[[Any], Any]] = {
    "batch": lambda model: model.batch(["a", "b"]),
    "bound": lambda model: model.bind(stop=["x"]).batch(["a", "b"]),
    "one at a time": lambda model: model.batch(["a", "b"], {"max_concurrency": 1}),
    "in a chain": lambda model: (model | RunnableLambda(str)).batch(["a", "b"]),
    "generate": lambda model: texts(model.generate(["a", "b"])),
    "generate_prompt": lambda model: texts(model.generate_prompt([StringPromptValue(text=text) for text in "ab"])),
    "abatch": lambda model: asyncio.run(model.abatch(["a", "b"])),
    "agenerate": lambda model: texts(asyncio.run(model.agenerate(["a", "b"]))),
}


def texts(result: LLMResult) -> list[str]:
    return [answers[0].text for answers in result.generations]


@pytest.mark.parametrize("way", WAYS)
def test_no_way_to_ask_a_completion_model_goes_past_the_cap(way: str) -> None:
    """LangChain asks several prompts at once by another way than one."""
    model = Completes()
    assert in_node(lambda _: WAYS[way](cap_answers(model, CAPS))) == ["a!", "b!"]
    assert in_node(lambda _: WAYS[way](cap_answers(model, CAPS)), "other") == ["a!", "b!"]

    assert sorted(model.asked) == [("a", 120), ("a", 256), ("b", 120), ("b", 256)]


@pytest.mark.parametrize("run_async", [False, True])
def test_generate_of_a_chat_model_is_capped_and_asks_for_nothing_again(
    run_async: bool, small: Said, handler: FinOpsHandler
) -> None:
    """Of two prompts the first is cut off. The ledger tells of the cap, beside the user's own tag."""
    small.say = lambda messages, number: cut()
    model = cap_answers(small, CAPS, retry=True)
    asks = [[HumanMessage("a")], [HumanMessage("b")]]
    more: Any = {"callbacks": [handler], "metadata": {"tags": {"team": "cx"}}}
    in_node(lambda _: asyncio.run(model.agenerate(asks, **more)) if run_async else model.generate(asks, **more))

    assert bounds(small) == [120, 120]
    assert [call.attribution.tags for call in handler.ledger.calls()] == [{"team": "cx", "answer_cap": "120"}] * 2


@pytest.mark.parametrize("run_async", [False, True])
@pytest.mark.parametrize("again", [False, True])
def test_prompts_may_be_named_as_the_class_names_them(run_async: bool, again: bool, small: Said) -> None:
    """`messages` of a chat model, `prompts` of a completion model; with a cap around a cap, too."""

    def ask(model: Any, **given: Any) -> Any:
        model = cap_answers(cap_answers(model, {"answer": 150}), CAPS) if again else cap_answers(model, CAPS)
        return in_node(lambda _: asyncio.run(model.agenerate(**given)) if run_async else model.generate(**given))

    completes = Completes()
    assert texts(ask(small, messages=[[HumanMessage("a")]], stop=["x"])) == ["small"]
    assert texts(ask(completes, prompts=["a", "b"])) == ["a!", "b!"]

    assert bounds(small) == [120]
    assert completes.asked == [("a", 120), ("b", 120)]
    with pytest.raises(TypeError, match="missing the argument 'messages'"):
        ask(small, prompts=["a"])


@pytest.mark.parametrize("run_async", [False, True])
def test_prompts_of_a_batch_are_capped_each_by_its_own_config(run_async: bool, handler: FinOpsHandler) -> None:
    """The cap is that of the agent `support`: the others keep their limit, and the answers their order."""
    model = Completes()
    capped = cap_answers(model, learnt(120))
    configs: Any = [
        {"callbacks": [handler], "metadata": {"agent_id": agent, "langgraph_checkpoint_ns": "answer:1", "tags": tags}}
        for agent, tags in (("sales", {}), ("support", {"team": "cx"}), ("sales", {}), ("support", {}))
    ]
    said = asyncio.run(capped.abatch([*"abcd"], configs)) if run_async else capped.batch([*"abcd"], configs)

    assert said == ["a!", "b!", "c!", "d!"]
    assert sorted(model.asked) == [("a", 256), ("b", 120), ("c", 256), ("d", 120)]
    tags = [dict(call.attribution.tags) for call in handler.ledger.calls()]
    assert sorted(tags, key=len) == [{}, {}, {"answer_cap": "120"}, {"team": "cx", "answer_cap": "120"}]


class Strict(BaseChatModel):
    """A model that takes no arguments of a call, and has no limit."""

    @property
    def _llm_type(self) -> str:
        return "strict"

    def _generate(self, messages: Any, stop: Any = None, run_manager: Any = None) -> ChatResult:
        return ChatResult(generations=[ChatGeneration(message=AIMessage("as ever"))])


def test_a_model_that_can_be_told_no_limit_is_left_alone(caplog: pytest.LogCaptureFixture) -> None:
    """It answers as without us, and that is said once; with request tags, too."""
    for model in (cap_answers(Strict(), CAPS), cap_answers(tag_requests(Strict()), CAPS)):
        assert in_node(model.invoke).text == "as ever"

    assert caplog.text.count("Strict has no field for a limit such as max_tokens, and takes no argument") == 1


# --- on the wire -----------------------------------------------------------------------------------------------------


@pytest.fixture
def server() -> Iterator[ProviderServer]:
    with provider_server() as server:
        yield server


def openai(server: ProviderServer, **fields: Any) -> ChatOpenAI:
    server.answers = [Answer(text="Rome", usage=openai_usage(10, 5), model="gpt-4.1-nano")]
    return ChatOpenAI(model="gpt-4.1-nano", base_url=f"{server.url}/v1", api_key="x", max_retries=0, **fields)


def anthropic(server: ProviderServer, **fields: Any) -> ChatAnthropic:
    server.answers = [Answer(text="Rome", usage=anthropic_usage(10, 5), model="claude-sonnet-5")]
    return ChatAnthropic(model="claude-sonnet-5", base_url=server.url, api_key="x", max_retries=0, **fields)  # type: ignore[call-arg]


NAMES = ("max_tokens", "max_completion_tokens", "max_output_tokens")


def sent(server: ProviderServer) -> list[dict[str, Any]]:
    return [{name: seen.body[name] for name in NAMES if name in seen.body} for seen in server.seen]


def test_it_survives_pickling_and_tagging(server: ProviderServer) -> None:
    """Process pools pickle models; a request is tagged and capped whichever of the two came first, or both again."""
    model = anthropic(server, max_tokens=500)
    capped, tagged = cap_answers(model, CAPS), tag_requests(model, "gateway")
    for each in (capped, cap_answers(tagged, CAPS), tag_requests(capped, "gateway")):
        in_node(tag_requests(pickle.loads(pickle.dumps(each)), "gateway").invoke, metadata={"agent_id": "support"})

    assert sent(server) == [{"max_tokens": 120}] * 3
    assert [seen.headers["x-agent-id"] for seen in server.seen] == ["support"] * 3


@pytest.mark.filterwarnings("ignore:Parameters")  # LangChain wants it as a field, and takes it as it is.
@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, {"max_completion_tokens": 120}),
        ({"max_tokens": 500}, {"max_completion_tokens": 120}),
        ({"max_tokens": 80}, {"max_completion_tokens": 80}),
        ({"model_kwargs": {"max_completion_tokens": 500}}, {"max_completion_tokens": 120}),
        ({"model_kwargs": {"max_completion_tokens": 80}}, {"max_completion_tokens": 80}),
        ({"extra_body": {"max_tokens": 500}}, {"max_tokens": 120}),
        ({"use_responses_api": True}, {"max_output_tokens": 120}),
        ({"use_responses_api": True, "max_tokens": 500}, {"max_output_tokens": 120}),
    ],
)
def test_openais_client_sends_it_by_the_right_name(
    fields: dict[str, Any], expected: dict[str, int], server: ProviderServer
) -> None:
    """And never two names for it, which OpenAI refuses; a compatible server's own name is lowered where it stands."""
    in_node(cap_answers(openai(server, **fields), CAPS).invoke)

    assert sent(server) == [expected]


@pytest.mark.parametrize(
    ("fields", "given", "expected"),
    [
        ({"max_tokens": 80}, {"max_tokens": 4_000}, {"max_completion_tokens": 120}),
        ({"max_tokens": 80}, {"max_completion_tokens": 4_000}, {"max_completion_tokens": 120}),
        ({"max_tokens": 4_000}, {"max_tokens": 80}, {"max_completion_tokens": 80}),
        (
            {"max_tokens": 80, "extra_body": {"max_tokens": 9_000}},
            {},
            {"max_completion_tokens": 80, "max_tokens": 120},
        ),
    ],
)
def test_a_small_bound_in_one_place_hides_no_larger_one_in_another(
    fields: dict[str, Any], given: dict[str, int], expected: dict[str, int], server: ProviderServer
) -> None:
    """Whichever of them is sent, it is no more than the cap."""
    in_node(lambda messages: cap_answers(openai(server, **fields), CAPS).invoke(messages, **given))

    assert sent(server) == [expected]


def test_a_small_bound_of_anthropics_model_hides_no_larger_one_of_the_call(server: ProviderServer) -> None:
    in_node(lambda messages: cap_answers(anthropic(server, max_tokens=80), CAPS).invoke(messages, max_tokens=9_000))

    assert sent(server) == [{"max_tokens": 120}]


@pytest.mark.filterwarnings("ignore:Parameters")
@pytest.mark.parametrize(
    ("fields", "given", "expected"),
    [
        ({}, {"max_tokens": None}, {"max_completion_tokens": 120}),
        ({}, {"max_completion_tokens": None}, {"max_completion_tokens": 120}),
        ({}, {"max_tokens": None, "max_completion_tokens": None}, {"max_completion_tokens": 120}),
        ({"max_tokens": 80}, {"max_tokens": None}, {"max_completion_tokens": 120}),
        ({"max_tokens": 80}, {"max_completion_tokens": None}, {"max_completion_tokens": 80}),
        ({"max_tokens": 500}, {"max_completion_tokens": None}, {"max_completion_tokens": 120}),
        ({}, {"max_tokens": -1}, {"max_completion_tokens": 120}),
        ({"extra_body": {"max_tokens": -1}}, {}, {"max_tokens": 120}),
        ({"extra_body": {"max_tokens": None}}, {}, {"max_completion_tokens": 120}),
        ({}, {"extra_body": {"max_tokens": None, "top_k": 3}}, {"max_completion_tokens": 120}),
        ({"model_kwargs": {"max_completion_tokens": None}}, {}, {"max_completion_tokens": 120}),
        ({"use_responses_api": True}, {"max_output_tokens": None}, {"max_output_tokens": 120}),
        ({"use_responses_api": True}, {"max_tokens": None}, {"max_output_tokens": 120}),
    ],
)
def test_no_limit_said_in_so_many_words_is_capped(
    fields: dict[str, Any], given: dict[str, Any], expected: dict[str, int], server: ProviderServer
) -> None:
    """None, or a negative number, lifts a limit: it does not lift the cap. Both of a call and bound to the model."""
    model = cap_answers(openai(server, **fields), CAPS)
    in_node(lambda messages: model.invoke(messages, **given))
    in_node(lambda messages: model.bind(**given).invoke(messages))

    assert sent(server) == [expected] * 2


def test_no_limit_of_a_model_without_a_field_for_it_is_capped(server: ProviderServer, small: Said) -> None:
    """And of Anthropic's, where None of the call hides the model's own."""
    in_node(lambda messages: cap_answers(anthropic(server), CAPS).invoke(messages, max_tokens=None))
    in_node(lambda messages: cap_answers(small, CAPS).invoke(messages, max_tokens=None))
    in_node(lambda messages: cap_answers(small, CAPS).invoke(messages, num_predict=None))

    assert sent(server) == [{"max_tokens": 120}]
    assert [settings for _, settings in small.asked] == [{"max_tokens": 120}] * 2


def test_what_the_users_own_bound_cut_off_is_not_asked_for_again(server: ProviderServer) -> None:
    """80 tokens, by the call's bound and not by the cap of 120: the second answer would end there as well."""
    model = openai(server, max_tokens=500)
    server.answers = [Answer(text="Ro", usage=openai_usage(10, 80), is_cut=True)]
    in_node(lambda messages: cap_answers(model, CAPS, retry=True).invoke(messages, max_tokens=80))

    assert sent(server) == [{"max_completion_tokens": 80}]


def test_openais_responses_api_is_sent_no_less_than_it_takes(server: ProviderServer, handler: FinOpsHandler) -> None:
    """It refuses a limit below 16: that is sent, and what the ledger tells; 12 goes out as it is elsewhere."""
    for fields in ({"use_responses_api": True}, {}):
        in_node(cap_answers(openai(server, **fields), {"answer": 12}).invoke, callbacks=[handler])

    assert sent(server) == [{"max_output_tokens": 16}, {"max_completion_tokens": 12}]
    assert [call.attribution.tags["answer_cap"] for call in handler.ledger.calls()] == ["16", "12"]


@pytest.mark.parametrize(("tokens", "is_told"), [(360, 0), (361, 1)])
def test_several_answers_have_the_limit_each(
    tokens: int, is_told: int, server: ProviderServer, caplog: pytest.LogCaptureFixture
) -> None:
    """Three of 120 tokens are 360 in the usage, and no server that did not keep to it."""
    model = openai(server, n=3)
    server.answers = [Answer(text="long", usage=openai_usage(10, tokens))]
    in_node(cap_answers(model, {"answer": 120}).invoke)

    assert caplog.text.count("its server does not know the limit by the name it is sent") == is_told


@pytest.mark.parametrize(("own", "expected"), [(None, 120), (500, 120), (80, 80)])
def test_anthropics_client_sends_it(own: int | None, expected: int, server: ProviderServer) -> None:
    """Its default of thousands is no bound that anybody asked for, and is lowered as one that somebody did."""
    model = anthropic(server) if own is None else anthropic(server, max_tokens=own)
    in_node(cap_answers(model, CAPS).invoke)

    assert sent(server) == [{"max_tokens": expected}]


def test_no_cap_is_set_that_leaves_no_room_beside_thinking(
    server: ProviderServer, caplog: pytest.LogCaptureFixture
) -> None:
    """Anthropic refuses a maximum that is not above the budget for thinking: the request goes out as it was."""
    thinking = {"type": "enabled", "budget_tokens": 1_024}
    in_node(cap_answers(anthropic(server, max_tokens=2_000, thinking=thinking), CAPS).invoke)

    assert sent(server) == [{"max_tokens": 2_000}]
    assert "leaves no answer beside 1,024 tokens of thinking" in caplog.text


def test_a_completion_model_is_capped_too(server: ProviderServer) -> None:
    """LangChain's own default of 256 is lowered."""
    server.answers = [Answer(text="Rome", usage=openai_usage(10, 5))]
    model = OpenAI(model="davinci", base_url=f"{server.url}/v1", api_key="x", max_retries=0)  # type: ignore[call-arg]
    assert in_node(cap_answers(model, CAPS).invoke) == "Rome"

    assert sent(server) == [{"max_tokens": 120}]


def test_streams_and_schemas_of_both_clients_are_capped(server: ProviderServer) -> None:
    """Tools and response formats go out as without the cap."""
    for model in (openai(server), anthropic(server)):
        text = "Rome"
        in_node(lambda messages, model=model: list(cap_answers(model, CAPS).stream(messages)))
        server.answers = [Answer(text='{"city": "Rome"}', usage=openai_usage(10, 5))]
        if isinstance(model, ChatAnthropic):
            continue
        structured = cap_answers(model, CAPS).with_structured_output(Reply)
        assert in_node(structured.invoke) == Reply(city=text)
    assert sent(server) == [{"max_completion_tokens": 120}, {"max_completion_tokens": 120}, {"max_tokens": 120}]
    assert server.seen[1].body["response_format"]["type"] == "json_schema"


def test_a_server_that_does_not_know_the_limit_is_told_of(
    server: ProviderServer, caplog: pytest.LogCaptureFixture
) -> None:
    """500 tokens came where 120 were asked for: nothing was saved, and that is said, once."""
    model = cap_answers(openai(server), CAPS)
    server.answers = [Answer(text="long", usage=openai_usage(10, 500))]
    for _ in range(2):
        in_node(model.invoke)

    assert caplog.text.count("its server does not know the limit by the name it is sent") == 1


# --- answers that are cut off ----------------------------------------------------------------------------------------


def test_an_answer_that_reaches_the_cap_is_given_as_it_is_and_says_so(small: Said) -> None:
    small.say = lambda messages, number: cut()
    said = in_node(cap_answers(small, CAPS).invoke)

    assert (said.text, said.response_metadata["finish_reason"], small.calls) == ("a part", "length", 1)


@pytest.mark.parametrize("way", ["invoke", "stream"])
@pytest.mark.parametrize("run_async", [False, True])
def test_it_is_asked_for_once_more_without_the_cap_where_that_is_wanted(
    way: str, run_async: bool, small: Said, handler: FinOpsHandler
) -> None:
    """Both calls are in the ledger: 120 tokens are $0.0012 and 1,000 are $0.01."""
    small.say = lambda messages, number: cut() if number == 1 else answer("all of it")
    model = cap_answers(small, CAPS, retry=True)
    config: Any = {"callbacks": [handler]}

    async def streamed(messages: Any) -> str:
        return "".join([chunk.text async for chunk in model.astream(messages, config)])

    async def asked(messages: Any) -> str:
        return (await model.ainvoke(messages, config)).text

    if run_async:
        text = asyncio.run(in_async_node(asked if way == "invoke" else streamed))
    elif way == "invoke":
        text = in_node(lambda messages: model.invoke(messages, config).text)
    else:
        text = in_node(lambda messages: "".join(chunk.text for chunk in model.stream(messages, config)))

    assert text == "all of it"
    assert bounds(small) == [120, None]
    first, second = handler.ledger.calls()
    assert [str(each.cost_usd.normalize()) for each in (first, second) if each.cost_usd] == ["0.0012", "0.01"]
    assert first.attribution.tags == {"answer_cap": "120"}
    assert second.attribution.tags == {"answer_cap_again": "120"}


def test_a_part_that_is_thrown_away_is_not_seen_in_a_graphs_stream(small: Said) -> None:
    small.say = lambda messages, number: cut() if number == 1 else answer("all of it")
    model = cap_answers(small, CAPS, retry=True)
    graph = StateGraph(MessagesState).add_node("answer", lambda state: {"messages": [model.invoke(state["messages"])]})
    stream = graph.add_edge(START, "answer").compile().stream({"messages": [("user", "hi")]}, stream_mode="messages")  # type: ignore[arg-type]

    assert "".join(message.text for message, _ in stream if message.type != "human") == "all of it"  # type: ignore[union-attr]


def test_a_schema_that_the_client_could_not_fill_is_asked_for_once_more(server: ProviderServer) -> None:
    """OpenAI's client raises for an answer that was cut off: without the retry that error is the user's."""
    model = openai(server)
    broken = Answer(text='{"city": "Ro', usage=openai_usage(10, 120), is_cut=True)
    whole = Answer(text='{"city": "Rome"}', usage=openai_usage(10, 130))
    server.answers = [broken, whole]
    assert in_node(cap_answers(model, CAPS, retry=True).with_structured_output(Reply).invoke) == Reply(city="Rome")

    server.answers = [broken]
    with pytest.raises(Exception, match="length limit"):
        in_node(cap_answers(model, CAPS).with_structured_output(Reply).invoke)
    assert sent(server) == [{"max_completion_tokens": 120}, {}, {"max_completion_tokens": 120}]


def test_anthropics_answer_that_was_cut_off_is_asked_for_once_more(server: ProviderServer) -> None:
    model = anthropic(server, max_tokens=500)
    part = Answer(text="Ro", usage=anthropic_usage(10, 120), is_cut=True)
    server.answers = [part, Answer(text="Rome", usage=anthropic_usage(10, 130))]
    assert in_node(cap_answers(model, CAPS, retry=True).invoke).text == "Rome"

    assert sent(server) == [{"max_tokens": 120}, {"max_tokens": 500}]


# --- with tiers, and in create_agent ---------------------------------------------------------------------------------


def test_a_cascade_takes_an_answer_that_was_cut_off_for_failed(small: Said, big: Said, handler: FinOpsHandler) -> None:
    """The cap is one tier's, or all tiers'; the next tier answers."""
    small.say = lambda messages, number: cut()
    tiers = TieredChatModel([Tier("worker", cap_answers(small, CAPS)), Tier("brain", big)])
    said = in_node(tiers.invoke, callbacks=[handler])

    assert said.response_metadata["finops_tier"]["tried"] == ["worker", "brain"]
    assert said.response_metadata["finops_tier"]["why"] == "cut_off"
    in_node(cap_answers(TieredChatModel([Tier("worker", small), Tier("brain", big)]), CAPS).bind_tools([LOOK]).invoke)
    assert (bounds(small), bounds(big)) == ([120, 120], [None, 120])
    first, _ = handler.ledger.calls()
    assert first.attribution.tags["tier"] == "worker"
    assert first.attribution.tags["answer_cap"] == "120"


@pytest.mark.parametrize("run_async", [False, True])
def test_the_middleware_caps_an_agents_model(run_async: bool, server: ProviderServer) -> None:
    """The node of `create_agent`'s model is `model`; tools are bound as without it, and a smaller bound of the user's
    stays. Cut off, it is asked once more."""
    server.answers = [Answer(text="Ro", usage=openai_usage(10, 50), is_cut=True), Answer(text="Rome")]
    model = ChatOpenAI(model="gpt-4.1-nano", base_url=f"{server.url}/v1", api_key="x", max_retries=0)  # type: ignore[arg-type]
    agent: Any = create_agent(model, tools=[LOOK], middleware=[CapMiddleware({"model": 50}, retry=True)])
    question = {"messages": [("user", "Where?")]}

    done = asyncio.run(agent.ainvoke(question)) if run_async else agent.invoke(question)

    assert done["messages"][-1].text == "Rome"
    assert sent(server) == [{"max_completion_tokens": 50}, {}]
    assert [seen.body["tools"][0]["function"]["name"] for seen in server.seen] == ["look", "look"]


def test_the_middleware_caps_by_what_was_learnt(small: Said, handler: FinOpsHandler, ledger: Ledger) -> None:
    """For the agent's own name, as the ledger has it."""
    middleware = CapMiddleware(learnt(70, agent="helper", node="model"))
    agent: Any = create_agent(small, name="helper", middleware=[middleware])
    agent.invoke({"messages": [("user", "hi")]}, {"callbacks": [handler]})

    assert bounds(small) == [70]
    assert [call.attribution.agent_id for call in ledger.calls()] == ["helper"]


# --- bad input -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("caps", "said"),
    [
        ({}, r"caps is \{\}: give what learn_caps returned, or tokens by node: \{'answer': 120\}"),
        (120, "caps is 120: give what learn_caps returned"),
        (
            {"answer": 0, "": 5, "plan": True},
            "caps: 'answer': 0, '': 5, 'plan': True: give node names with whole numbers",
        ),
    ],
)
def test_what_are_no_caps_is_one_sentence(caps: Any, said: str, small: Said) -> None:
    """All that is wrong with them at once, for the model and the middleware."""
    for make in (lambda: cap_answers(small, caps), lambda: CapMiddleware(caps)):
        with pytest.raises(BadArguments, match=said):
            make()


def test_what_is_no_model_is_one_sentence(small: Said) -> None:
    with pytest.raises(BadArguments, match="cap the model first, then bind tools, schemas or fallbacks to it"):
        cap_answers(small.bind(stop=["x"]), CAPS)  # type: ignore[type-var]
    with pytest.raises(BadArguments, match="retry=True needs a chat model"):
        cap_answers(OpenAI(model="davinci", api_key="x"), CAPS, retry=True)  # type: ignore[call-arg, arg-type]


def test_caps_of_which_none_was_learnt_are_told_of(small: Said, caplog: pytest.LogCaptureFixture) -> None:
    """Nothing is capped, and the log says why."""
    in_node(cap_answers(small, learnt(None)).invoke, metadata={"agent_id": "support"})

    assert bounds(small) == [None]
    assert "cap_answers: nothing is capped: no cap can be learnt yet" in caplog.text
