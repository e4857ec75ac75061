"""Tags on the wire: what ChatOpenAI and ChatAnthropic send, seen by the server that they talk to."""

import asyncio
import copy
import logging
import pickle
import re
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from blockbuster import blockbuster_ctx
from graphs import graph_of
from langchain.agents import create_agent
from langchain_anthropic import ChatAnthropic
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.language_models import BaseChatModel, GenericFakeChatModel
from langchain_core.load import dumpd
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.runnables import ConfigurableField, RunnableLambda
from langchain_core.tools import tool
from langchain_core.tracers import BaseTracer
from langchain_openai import ChatOpenAI
from provider_server import Answer, ProviderServer, anthropic_usage, openai_usage
from pydantic import BaseModel

from langchain_finops import FinOpsHandler, attach, detach
from langchain_finops.errors import BadArguments
from langchain_finops.langchain import TaggingMiddleware, hashed_user, tag_requests
from langchain_finops.langchain.calls import Calls
from langchain_finops.langchain.tagging_styles import STYLES
from langchain_finops.langchain.tagging_users import warn_once

KEY = "a key of the tests"
ADA = hashed_user("ada", KEY)
METADATA = {"agent_id": "support", "user_id": "ada", "task_id": "t-42"}
RUN = "00000000-0000-4000-8000-000000000001"
CONFIG: Any = {"metadata": METADATA, "run_id": UUID(RUN)}
HEADERS = ("X-Agent-Id", "X-User-Id", "X-Task-Id", "X-Run-Id")


def openai_chat(server: ProviderServer, **fields: Any) -> ChatOpenAI:
    return ChatOpenAI(
        model="scripted-model",
        base_url=f"{server.url}/v1",
        api_key="k",
        **{"max_retries": 0, "stream_usage": True, **fields},
    )


def anthropic_chat(server: ProviderServer, **fields: Any) -> ChatAnthropic:
    return ChatAnthropic(
        model_name="scripted-model", base_url=server.url, api_key="k", **{"max_retries": 0, "max_tokens": 64, **fields}
    )


MAKERS: dict[str, Callable[..., Any]] = {"openai": openai_chat, "anthropic": anthropic_chat}
USAGE = {"openai": openai_usage(100, 20), "anthropic": anthropic_usage(100, 20)}
both = pytest.mark.parametrize("kind", ["openai", "anthropic"])


def sent(server: ProviderServer, number: int = -1) -> dict[str, str | None]:
    """The four headers of a request."""
    return {name: server.seen[number].headers.get(name) for name in HEADERS}


@tool
def look_up(question: str) -> str:
    """Look it up."""
    return question


class Verdict(BaseModel):
    """What the model is to say."""

    good: bool


async def _drain(chunks: AsyncIterator[Any]) -> Any:
    whole = None
    async for chunk in chunks:
        whole = chunk if whole is None else whole + chunk
    return whole


def _add(chunks: Iterator[Any]) -> Any:
    whole = None
    for chunk in chunks:
        whole = chunk if whole is None else whole + chunk
    return whole


async def _events(model: BaseChatModel, config: Any) -> None:
    async for _ in model.astream_events("hi", config, version="v2"):
        pass


WAYS: dict[str, Callable[[Any, Any], Any]] = {
    "invoke": lambda model, config: model.invoke("hi", config),
    "ainvoke": lambda model, config: model.ainvoke("hi", config),
    "stream": lambda model, config: _add(model.stream("hi", config)),
    "astream": lambda model, config: _drain(model.astream("hi", config)),
    "batch": lambda model, config: model.batch(["hi"], config)[0],
    "generate": lambda model, config: model.generate([[HumanMessage("hi")]], metadata=config["metadata"]),
    "events": _events,
    "tools": lambda model, config: model.bind_tools([look_up]).invoke("hi", config),
    "schema": lambda model, config: model.with_structured_output(Verdict, include_raw=True).invoke("hi", config),
    "bound": lambda model, config: model.bind(stop=["x"]).with_retry().with_config(tags=["a"]).invoke("hi", config),
    "fallback": lambda model, config: model.with_fallbacks([model]).invoke("hi", config),
}


@both
@pytest.mark.parametrize("way", WAYS)
async def test_every_way_of_asking_is_tagged(provider: ProviderServer, kind: str, way: str) -> None:
    """Agent, user, task and run are on each request, streams report their usage, and the model is of its class."""
    provider.answers = [Answer(text='{"good": true}', usage=USAGE[kind])]
    plain = MAKERS[kind](provider)
    model = tag_requests(plain, ["auto", kind], user_key=KEY)
    assert isinstance(model, type(plain))

    handler = FinOpsHandler(ledger=":memory:")
    said = WAYS[way](model, {**CONFIG, "callbacks": [handler]} if way != "generate" else {"metadata": METADATA})
    said = await said if asyncio.iscoroutine(said) else said

    run = sent(provider)["X-Run-Id"]
    assert sent(provider) == {"X-Agent-Id": "support", "X-User-Id": ADA, "X-Task-Id": "t-42", "X-Run-Id": run}
    if way not in {"generate", "bound", "fallback", "schema", "batch"}:  # Those have runs of their own.
        assert run == RUN
    if way != "generate":
        (call,) = handler.ledger.calls()
        assert run == call.run_id
    field = {"openai": "safety_identifier", "anthropic": "metadata"}[kind]
    assert provider.seen[-1].body[field] == {"openai": ADA, "anthropic": {"user_id": ADA}}[kind]
    if way in {"stream", "astream"}:
        assert said.usage_metadata["input_tokens"] == 100


@both
def test_a_graph_tells_what_the_handler_knows(provider: ProviderServer, kind: str) -> None:
    """The run is the one in the ledger, from anywhere in a graph; its handler's defaults fill the gaps."""
    model = tag_requests(MAKERS[kind](provider), user_key=KEY)

    def ask(state: Any) -> dict[str, Any]:
        model.invoke("hi")
        return {}

    handler = FinOpsHandler(agent_id="support", task_id="t-42", ledger=":memory:")
    graph_of({"ask": ask}).invoke({}, {"callbacks": [handler], "metadata": {"user_id": "ada"}})

    (run,) = handler.ledger.runs()
    assert sent(provider) == dict(zip(HEADERS, ("support", ADA, "t-42", run.run_id), strict=True))


@both
async def test_a_graph_that_streams_messages_is_tagged(provider: ProviderServer, kind: str) -> None:
    """There `invoke` streams underneath, without telling the model of its run: the tags are there, and the usage."""
    provider.answers = [Answer(usage=USAGE[kind])]
    model, handler = tag_requests(MAKERS[kind](provider), user_key=KEY), FinOpsHandler(ledger=":memory:")

    async def ask(state: Any) -> dict[str, Any]:
        await model.ainvoke("hi")
        return {}

    config: Any = {"callbacks": [handler], "metadata": METADATA}
    async for _ in graph_of({"ask": ask}).astream({}, config, stream_mode="messages"):
        pass

    (call,) = handler.ledger.calls()
    assert provider.seen[-1].body["stream"]
    assert sent(provider) == dict(zip(HEADERS, ("support", ADA, "t-42", call.run_id), strict=True))
    assert (call.usage.total_input_tokens, call.estimated) == (100, False)


@pytest.mark.parametrize("how", ["metadata", "run_id", "tracer", "nobody"])
async def test_without_a_handler_the_run_is_whoever_names_it(provider: ProviderServer, how: str) -> None:
    """Metadata, the graph's own config, or a tracer; where nobody names it no other run's id is sent in its place."""

    class Quiet(BaseTracer):
        def _persist_run(self, run: Any) -> None:
            self.root = str(run.id)

    model, tracer = tag_requests(openai_chat(provider), user_key=KEY), Quiet()

    async def ask(state: Any) -> dict[str, Any]:
        await model.ainvoke("hi")
        return {}

    config: Any = {"metadata": dict(METADATA), "callbacks": [tracer] if how == "tracer" else []}
    config |= {"run_id": UUID(RUN)} if how == "run_id" else {}
    config["metadata"] |= {"run_id": "r-1"} if how == "metadata" else {}
    await graph_of({"ask": ask}).ainvoke({}, config)

    wanted = {"metadata": "r-1", "run_id": RUN, "tracer": getattr(tracer, "root", None), "nobody": None}[how]
    assert sent(provider) == dict(zip(HEADERS, ("support", ADA, "t-42", wanted), strict=True))


def test_an_attached_handler_counts_as_well(provider: ProviderServer) -> None:
    """`attach()` reaches the tags, too."""
    attach(FinOpsHandler(agent_id="support", user_id="ada", task_id="t-42", ledger=":memory:"))
    try:
        tag_requests(openai_chat(provider), user_key=KEY).invoke("hi")
    finally:
        detach()

    assert sent(provider)["X-Task-Id"] == "t-42"


async def test_concurrent_tenants_do_not_mix(provider: ProviderServer) -> None:
    """One model, 40 tenants at once, in threads and on an event loop: each request names its own tenant."""
    model = tag_requests(openai_chat(provider), users="plain")

    def config(number: int) -> Any:
        return {"metadata": {"user_id": f"u-{number}", "task_id": f"t-{number}"}}

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: model.invoke(f"u-{number}", config(number)), range(20)))
    await asyncio.gather(*(model.ainvoke(f"u-{number}", config(number)) for number in range(20, 30)))
    model.batch([f"u-{number}" for number in range(30, 40)], [config(number) for number in range(30, 40)])

    assert len(provider.seen) == 40
    for each in provider.seen:
        tenant = each.body["messages"][0]["content"]
        assert (each.headers["X-User-Id"], each.headers["X-Task-Id"]) == (tenant, tenant.replace("u-", "t-"))
        assert each.body.get("user") is None


def test_two_calls_of_one_id_stay_apart(provider: ProviderServer) -> None:
    """A run id that the user gives twice names two calls at once: each request names its own user all the same."""
    provider.answers = [Answer(wait_for=threading.Event())]
    model, handler = tag_requests(openai_chat(provider), users="plain"), FinOpsHandler(ledger=":memory:")

    def ask(user: str) -> None:
        model.invoke(user, {"run_id": UUID(RUN), "callbacks": [handler], "metadata": {"user_id": user}})

    with ThreadPoolExecutor(2) as pool:
        asked = [pool.submit(ask, user) for user in ("ada", "bob")]
        while len(provider.seen) < 2:
            provider.arrived.wait(30)
            provider.arrived.clear()
        provider.answers[0].wait_for.set()  # type: ignore[union-attr]
        [each.result() for each in asked]

    assert all(each.body["messages"][0]["content"] == each.headers["X-User-Id"] for each in provider.seen)


@both
def test_models_that_share_the_client_stay_untagged(provider: ProviderServer, kind: str) -> None:
    """Neither the model it was made from nor another at the same address sends any of it, before or after."""
    plain = MAKERS[kind](provider)
    model = tag_requests(plain, user_key=KEY)
    model.invoke("hi", CONFIG)
    for other in (plain, MAKERS[kind](provider)):
        other.invoke("hi", CONFIG)
        assert sent(provider) == dict.fromkeys(HEADERS)
        assert "metadata" not in provider.seen[-1].body


@both
def test_what_the_user_has_set_stays(provider: ProviderServer, kind: str) -> None:
    """A header in any case, an identifier, an entry of the metadata: ours are added beside, never in their place."""
    own = {"openai": {"safety_identifier": "mine"}, "anthropic": {"metadata": {"user_id": "mine"}}}[kind]
    model = MAKERS[kind](provider, default_headers={"x-agent-id": "theirs"}).model_copy(update={"model_kwargs": own})
    tag_requests(model, ["auto", kind], user_key=KEY).invoke(
        "hi", CONFIG, extra_headers={"x-TASK-id": "t-1", "X-A": "b"}
    )

    seen = provider.seen[-1]
    assert [value for name, value in seen.headers.items() if name.lower() == "x-agent-id"] == ["theirs"]
    assert seen.headers["X-A"] == "b"
    assert [value for name, value in seen.headers.items() if name.lower() == "x-task-id"] == ["t-1"]
    assert seen.headers["X-User-Id"] == ADA
    assert {name: seen.body[name] for name in own} == own


def test_openai_metadata_only_where_answers_are_stored(provider: ProviderServer) -> None:
    """OpenAI refuses metadata of a completion that is not stored; else it takes 16 pairs, the user's first."""
    tag_requests(openai_chat(provider), "openai", user_key=KEY).invoke("hi", CONFIG)
    assert "metadata" not in provider.seen[-1].body

    mine = {f"key-{number}": "x" for number in range(13)} | {"task_id": "mine"}
    stored = openai_chat(provider, store=True, extra_body={"metadata": mine})
    tag_requests(stored, "openai", user_key=KEY).invoke("hi", CONFIG)
    assert provider.seen[-1].body["metadata"] == {**mine, "agent_id": "support", "user_id": ADA}
    assert sent(provider) == dict.fromkeys(HEADERS)

    tag_requests(openai_chat(provider, use_responses_api=True), "openai", user_key=KEY).invoke("hi", CONFIG)
    assert provider.seen[-1].path.endswith("/responses")
    assert provider.seen[-1].body["metadata"] == {**METADATA, "user_id": ADA, "run_id": RUN}
    assert provider.seen[-1].body["safety_identifier"] == ADA


NASTY = "a\r\nX-Evil: 1, \u00e4 %\U0001f600 " + "x" * 600


@both
def test_no_name_breaks_a_header(provider: ProviderServer, kind: str) -> None:
    """Line breaks, blanks, letters beyond ASCII and any length: one header each, readable, and the call is made."""
    model = tag_requests(MAKERS[kind](provider), users="plain")
    model.invoke("hi", {"metadata": {"agent_id": NASTY, "user_id": NASTY + "2", "task_id": "\ud800\0 "}})

    headers = provider.seen[-1].headers
    assert "X-Evil" not in headers
    assert headers["X-Agent-Id"].startswith("a%0D%0AX-Evil:%201%2C%20%C3%A4%20%25%F0%9F%98%80%20xxx")
    assert len(headers["X-Agent-Id"]) == 256
    assert headers["X-Agent-Id"] != headers["X-User-Id"]  # Alike to the last letter, and told apart by the digest.
    assert headers["X-Task-Id"] == "?%00%20"


async def test_hooks_of_an_event_loop_are_not_blocked(provider: ProviderServer) -> None:
    """The key was read when the model was tagged: a request on an event loop touches no file."""
    model = tag_requests(openai_chat(provider))
    with blockbuster_ctx() as guard:
        for function in guard.functions.values():
            function.can_block_in("ssl.py", "create_default_context")
            function.can_block_in("platform.py", "uname")
        await model.ainvoke("hi", CONFIG)

    assert len(str(sent(provider)["X-User-Id"])) == 32


@pytest.mark.parametrize("asynchronous", [False, True])
async def test_an_agents_requests_are_tagged_by_the_middleware(provider: ProviderServer, asynchronous: bool) -> None:
    """`create_agent` with TaggingMiddleware: the same tags, on the model the agent was given."""
    provider.answers = [Answer(usage=USAGE["openai"])]
    agent = create_agent(openai_chat(provider), [look_up], middleware=[TaggingMiddleware(user_key=KEY)], name="support")
    handler = FinOpsHandler(ledger=":memory:")
    config = {"callbacks": [handler], "metadata": {"user_id": "ada", "task_id": "t-42"}}
    question = {"messages": [("user", "hi")]}
    if asynchronous:
        await agent.ainvoke(question, config)
    else:
        agent.invoke(question, config)

    (run,) = handler.ledger.runs()
    assert sent(provider) == dict(zip(HEADERS, ("support", ADA, "t-42", run.run_id), strict=True))
    assert provider.seen[-1].body["tools"]


WRAPPED: dict[str, Callable[[Any], Any]] = {
    "bound": lambda model: model.bind(temperature=1),
    "retried": lambda model: model.with_retry(),
    "first of two": lambda model: model.with_fallbacks([GenericFakeChatModel(messages=iter([]))]),
    "configured": lambda model: model.with_retry().with_config(tags=["a"]).bind(temperature=1),
}


@pytest.mark.parametrize("wrapped", WRAPPED)
@pytest.mark.parametrize("asynchronous", [False, True])
async def test_the_middleware_tags_the_model_inside(provider: ProviderServer, wrapped: str, asynchronous: bool) -> None:
    """An agent whose model is bound, retried or has fallbacks is answered as without the middleware, and tagged."""
    model = WRAPPED[wrapped](openai_chat(provider))
    agent = create_agent(model, [], middleware=[TaggingMiddleware("gateway", user_key=KEY)])
    question = {"messages": [("user", "hi")]}
    if asynchronous:
        await agent.ainvoke(question, {"metadata": METADATA})
    else:
        agent.invoke(question, {"metadata": METADATA})

    assert [sent(provider)[name] for name in HEADERS[:3]] == ["support", ADA, "t-42"]
    assert provider.seen[-1].body.get("temperature") == (1 if wrapped in {"bound", "configured"} else None)


def test_the_middleware_tags_the_fallback(provider: ProviderServer) -> None:
    """The model that answers in the first one's place tags its request, too."""
    nobody = openai_chat(provider).model_copy(update={"model_name": "refused"})
    provider.answers = [Answer(status=500), Answer()]
    agent = create_agent(
        nobody.with_fallbacks([openai_chat(provider).bind(temperature=1)]),
        [],
        middleware=[TaggingMiddleware("gateway", user_key=KEY)],
    )
    agent.invoke({"messages": [("user", "hi")]}, {"metadata": METADATA})

    assert [sent(provider, number)["X-Agent-Id"] for number in (0, 1)] == ["support", "support"]
    assert provider.seen[1].body["temperature"] == 1


def test_an_agent_is_answered_where_its_model_cannot_be_tagged(
    provider: ProviderServer, warned: Callable[[], list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is no chat model, and a fault of ours: one warning each, and the request goes as it was."""
    chat = openai_chat(provider)
    question = {"messages": [("user", "hi")]}
    middleware = TaggingMiddleware("gateway", user_key=KEY)
    for _ in range(2):
        create_agent(RunnableLambda(chat.invoke), [], middleware=[middleware]).invoke(question)  # type: ignore[arg-type]
    assert sent(provider) == dict.fromkeys(HEADERS)
    assert warned() == ["requests of RunnableLambda are not tagged: no chat model is found in it"]

    monkeypatch.setattr("langchain_finops.langchain.tagging.tagged", lambda *_: 1 / 0)
    create_agent(chat, [], middleware=[middleware]).invoke(question)
    assert sent(provider) == dict.fromkeys(HEADERS)
    assert warned()[1:] == ["requests of ChatOpenAI (ZeroDivisionError) could not be tagged and are sent without tags"]
    assert len(provider.seen) == 3


@pytest.fixture
def warned(caplog: pytest.LogCaptureFixture) -> Iterator[Callable[[], list[str]]]:
    warn_once.cache_clear()
    caplog.set_level(logging.WARNING, "langchain_finops")
    yield lambda: [record.getMessage() for record in caplog.records if record.name == "langchain_finops"]
    warn_once.cache_clear()


def test_a_model_without_fields_is_left_as_it_is(warned: Callable[[], list[str]]) -> None:
    """A model that takes no tags answers as before, and one warning says that its requests have none."""
    model = tag_requests(GenericFakeChatModel(messages=iter([AIMessage("a"), AIMessage("b")])))

    assert [model.invoke("hi", CONFIG).text for _ in range(2)] == ["a", "b"]
    (warning,) = warned()
    assert warning.startswith("requests of GenericFakeChatModel are not tagged: no field for tags is known there.")


def test_a_fault_of_ours_sends_the_request_as_it_was(provider: ProviderServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever goes wrong while tags are looked up, the answer comes, and the handler counts the fault."""

    monkeypatch.setattr(Calls, "whose", lambda *_: 1 / 0)
    model = tag_requests(openai_chat(provider), user_key=KEY)
    handler = FinOpsHandler(ledger=":memory:")
    assert model.invoke("hi", {**CONFIG, "callbacks": [handler]}).text
    assert handler.faults == 1
    assert sent(provider) == dict.fromkeys(HEADERS)


async def test_a_model_that_can_only_stream_in_sync_is_tagged_in_async_code(provider: ProviderServer) -> None:
    """LangChain streams from it on another thread; each token is reported once there, as without us."""

    class OnlySync(ChatOpenAI):
        _astream = BaseChatModel._astream

    provider.answers = [Answer(text="one two", usage=USAGE["openai"])]
    model = OnlySync(model="scripted-model", base_url=f"{provider.url}/v1", api_key="k")
    async for _ in tag_requests(model, user_key=KEY).astream("hi", CONFIG):
        pass

    assert sent(provider)["X-Task-Id"] == "t-42"


def test_tokens_are_reported_as_often_as_without_tags(provider: ProviderServer) -> None:
    """A stream's handlers hear of each token once: two words and the frame around them."""

    class Counting(BaseCallbackHandler):
        heard = 0

        def on_llm_new_token(self, *args: Any, **kwargs: Any) -> None:
            self.heard += 1

    provider.answers = [Answer(text="one two", usage=USAGE["openai"])]
    plain, counted = openai_chat(provider), []
    for model in (plain, tag_requests(plain, user_key=KEY)):
        handler = Counting()
        list(model.stream("hi", {"callbacks": [handler]}))
        counted.append(handler.heard)
    assert counted[0] == counted[1] > 2


def test_models_made_of_a_tagged_one_are_tagged(provider: ProviderServer) -> None:
    """Configurable fields and copies; tagged twice, the last settings hold."""
    model = tag_requests(tag_requests(openai_chat(provider), user_key=KEY), users="omitted")
    asked = model.configurable_fields(temperature=ConfigurableField(id="temperature"))
    asked.with_config(configurable={"temperature": 0.3}).invoke("hi", CONFIG)

    assert provider.seen[-1].body["temperature"] == 0.3
    assert sent(provider)["X-Task-Id"] == "t-42"
    assert sent(provider)["X-User-Id"] is None


def test_a_tagged_model_goes_to_other_processes(provider: ProviderServer) -> None:
    """One that can be pickled still can be, tags and all; LangChain's cache takes it for the model it was made from."""
    plain = anthropic_chat(provider)
    model = pickle.loads(pickle.dumps(tag_requests(plain, user_key=KEY)))
    model.invoke("hi", CONFIG)

    assert sent(provider)["X-User-Id"] == ADA
    assert dumpd(model) == dumpd(plain)
    assert model._get_llm_string() == plain._get_llm_string()
    copy.deepcopy(tag_requests(plain, user_key=KEY)).invoke("hi", CONFIG)
    assert sent(provider)["X-User-Id"] == ADA


def test_what_cannot_be_tagged_is_said_at_once(provider: ProviderServer) -> None:
    """Not a chat model, an unknown style or way, a style of another provider, an empty key: one sentence each."""
    model = openai_chat(provider)
    with pytest.raises(BadArguments, match=r"takes a chat model, and this is a [A-Za-z_]+: tag the model first"):
        tag_requests(model.bind(stop=["x"]))  # type: ignore[type-var]
    with pytest.raises(BadArguments, match="style 'opnai': use auto, openai, azure"):
        tag_requests(model, "opnai")
    with pytest.raises(BadArguments, match="style 'bedrock': requests of ChatOpenAI have no such field"):
        tag_requests(model, "bedrock")
    with pytest.raises(BadArguments, match="users='none': use hashed, plain or omitted"):
        tag_requests(model, users="none")  # type: ignore[arg-type]
    with pytest.raises(BadArguments, match="user_key is empty"):
        tag_requests(model, user_key=" ")


async def test_the_event_hook_of_langgraph_v3_streams_is_tagged(provider: ProviderServer) -> None:
    """`stream_events(version="v3")` goes another way through LangChain, to the same request."""
    provider.answers = [Answer(usage=USAGE["openai"])]
    model = tag_requests(openai_chat(provider), user_key=KEY)
    stream = model.stream_events("hi", CONFIG, version="v3")
    assert stream.output.usage_metadata["input_tokens"] == 100

    assert sent(provider)["X-Task-Id"] == "t-42"


def test_the_python_of_the_documentation_runs() -> None:
    """Each block of docs/tagging.md, one after the other; its table names every style."""
    page = (Path(__file__).parents[2] / "docs" / "tagging.md").read_text(encoding="utf-8")
    names: dict[str, Any] = {}
    for block in re.findall(r"^```python\n(.*?)^```", page, flags=re.MULTILINE | re.DOTALL):
        exec(block, names)

    assert {"model", "agent"} <= names.keys()
    assert re.findall(r"^\| `(\w+)` \|", page, flags=re.MULTILINE) == list(STYLES)


def test_a_chain_outside_of_a_graph_is_tagged(provider: ProviderServer) -> None:
    """Without a handler, where LangGraph knows of no runtime: the metadata are enough."""
    chain = RunnableLambda(lambda text: text) | tag_requests(openai_chat(provider), "gateway")

    chain.invoke("hi", {"metadata": {"agent_id": "support"}})

    assert provider.seen[0].headers["x-agent-id"] == "support"
