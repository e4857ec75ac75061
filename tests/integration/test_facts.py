"""What the handler relies on in LangChain and LangGraph: a new version that behaves otherwise fails here first.

No promise of this package is tested here; each test pins one fact of the host with handlers of its own.
"""

import asyncio
import inspect
import re
import threading
import warnings
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar
from typing import Any
from uuid import UUID

import langchain_core.exceptions as core_exceptions
import pytest
from graphs import ASK, NESTINGS, State, agent_script, asking, fan_out, graph_of, line_of
from langchain.agents import create_agent
from langchain.agents.middleware import SummarizationMiddleware
from langchain_core.caches import InMemoryCache
from langchain_core.callbacks import AsyncCallbackHandler, BaseCallbackHandler
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.runnables.config import var_child_runnable_config
from langchain_core.tools import StructuredTool
from langchain_core.tracers import context
from langchain_core.tracers.context import register_configure_hook
from langchain_openai import ChatOpenAI, OpenAI
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.config import get_config
from langgraph.errors import GraphBubbleUp, GraphInterrupt, GraphRecursionError, NodeTimeoutError
from langgraph.graph import END, START, StateGraph
from langgraph.types import Command, RetryPolicy, interrupt
from provider_server import Answer, ProviderServer, openai_usage
from scripted_models import Gate, ProviderError, Reply, ScriptedChat, ScriptedLLM, failing, scripted, tokens


class Log(BaseCallbackHandler):
    """Writes down every event: its kind, and what it brought."""

    run_inline = True

    def __init__(self) -> None:
        self.events: list[tuple[str, dict[str, Any]]] = []

    def __getattribute__(self, name: str) -> Any:
        if not name.startswith("on_") or name == "on_custom_event":
            return super().__getattribute__(name)
        events = self.events

        def note(*args: Any, **kwargs: Any) -> None:
            events.append((name, {"args": args, **kwargs}))

        return note

    def kinds(self) -> Counter[str]:
        return Counter(kind for kind, _ in self.events)

    def of(self, *kinds: str) -> list[dict[str, Any]]:
        return [said for kind, said in self.events if kind in kinds]


@pytest.fixture
def log() -> Log:
    return Log()


def namespaces(log: Log) -> list[str]:
    return [said["metadata"]["langgraph_checkpoint_ns"] for said in log.of("on_chat_model_start")]


# --- events --------------------------------------------------------------------------------------------------------


def test_only_starts_have_metadata_and_names(log: Log) -> None:
    """So what belongs to a call is kept by `run_id` from its start to its end."""
    graph_of({"draft": asking(ScriptedChat(), "7/3")}).invoke({"answers": []}, {"callbacks": [log]})

    for kind, said in log.events:
        assert ("metadata" in said) == kind.endswith("_start"), kind
        assert isinstance(said["run_id"], UUID)


def test_chat_and_completion_models_begin_with_events_of_their_own(log: Log) -> None:
    """`on_chat_model_start` for the ones, `on_llm_start` for the others, `on_llm_end` for both."""
    ScriptedChat().invoke("7/3", {"callbacks": [log]})
    ScriptedLLM().invoke("7/3", {"callbacks": [log]})

    assert [kind for kind, _ in log.events] == ["on_chat_model_start", "on_llm_end", "on_llm_start", "on_llm_end"]


def test_the_token_hook_fires_only_in_streams(log: Log) -> None:
    """A call that came whole has no first token."""
    ScriptedChat().invoke("7/3", {"callbacks": [log]})
    assert "on_llm_new_token" not in log.kinds()

    list(ScriptedChat().stream("7/3", {"callbacks": [log]}))
    assert log.kinds()["on_llm_new_token"] >= 2


async def test_events_v3_bring_content_blocks_besides_tokens() -> None:
    """In `astream_events` v3 a call streams by `on_stream_event`, and its text may come by the token hook as well."""
    seen: list[str] = []

    class Streams(BaseCallbackHandler):
        run_inline = True

        def on_llm_new_token(self, token: Any, **kwargs: Any) -> None:
            seen.append("token")

        def on_stream_event(self, event: Any, **kwargs: Any) -> None:
            seen.append(event["event"])

    graph = graph_of({"draft": asking(ScriptedChat(), "7/3", native_async=True)})
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The v3 streaming protocol")
        async for _ in await graph.astream_events({"answers": []}, {"callbacks": [Streams()]}, version="v3"):
            pass

    assert seen.count("content-block-delta") == seen.count("token") == 2


def test_a_router_repeats_its_nodes_metadata_under_another_name(log: Log) -> None:
    """A node's own start is the one whose name is the node's."""

    def decide(state: State) -> str:
        return END

    builder = StateGraph(State)
    builder.add_node("draft", asking(ScriptedChat(), "7/3"))
    builder.add_edge(START, "draft")
    builder.add_conditional_edges("draft", decide, [END])
    builder.compile().invoke({"answers": []}, {"callbacks": [log]})

    starts = [said["name"] for said in log.of("on_chain_start") if said["metadata"].get("langgraph_node") == "draft"]
    assert sorted(starts) == ["decide", "draft"]


def test_a_conditional_entry_is_reported_under_start(log: Log) -> None:
    """`__start__` appears as a node's name where the entry is conditional; it is none of the user's."""
    fan_out(asking(ScriptedChat()), ["1/1"]).invoke({"answers": []}, {"callbacks": [log]})

    nodes = {said["metadata"].get("langgraph_node") for said in log.of("on_chain_start")}
    assert nodes == {None, "__start__", "branch"}


# --- namespaces ------------------------------------------------------------------------------------------------------

ID = r"[0-9a-f-]{36}"


@pytest.mark.parametrize(
    ("nesting", "patterns"),
    [
        ("plain", {f"draft:{ID}", f"polish:{ID}"}),
        ("subgraph", {f"draft:{ID}", f"researcher:{ID}\\|search:{ID}"}),
        ("subgraph invoked in a node", {f"researcher:{ID}", f"researcher:{ID}\\|search:{ID}"}),
        ("Send", {f"branch:{ID}"}),
        ("@task", {f"flow:{ID}", f"flow:{ID}\\|double:{ID}"}),
        ("agent as tool", {f"model:{ID}", f"tools:{ID}\\|model:{ID}"}),
        ("with_fallbacks", {f"draft:{ID}"}),
        ("RetryPolicy", {f"draft:{ID}"}),
    ],
)
def test_the_checkpoint_namespace_names_the_way_to_a_node(nesting: str, patterns: set[str], log: Log) -> None:
    """`outer:<id>|inner:<id>`, an id for each execution: what calls are attributed by."""
    case = NESTINGS[nesting]()
    case.graph.invoke(case.input or {"answers": []}, {"callbacks": [log]})

    for pattern in patterns:
        assert any(re.fullmatch(pattern, each) for each in namespaces(log)), pattern
    for namespace in namespaces(log):
        assert any(re.fullmatch(pattern, namespace) for pattern in patterns), namespace


def test_repeated_calls_of_a_subgraph_are_numbered(log: Log) -> None:
    """Numbers stand between the names from the second call on; they are no nodes."""
    inner = graph_of({"search": asking(ScriptedChat())})

    def node(state: State) -> State:
        for _ in range(3):
            inner.invoke({"prompt": "1/1"})
        return {"answers": []}

    graph_of({"researcher": node}).invoke({"answers": []}, {"callbacks": [log]})

    assert {
        "/".join(part.split(":")[0] for part in each.split("|") if not part.isdigit()) for each in namespaces(log)
    } == {"researcher/search"}
    assert any(part.isdigit() for each in namespaces(log) for part in each.split("|"))


def test_a_retried_node_keeps_its_namespace(log: Log) -> None:
    """RetryPolicy runs the node again under the same one; that is how attempts are counted."""
    policy = RetryPolicy(initial_interval=0, jitter=False, max_attempts=3, retry_on=Exception)
    node = asking(ScriptedChat(script=failing(1)), "7/3")
    line_of({"draft": node}, retry_policy=policy).compile().invoke({"answers": []}, {"callbacks": [log]})

    assert len(namespaces(log)) == 2
    assert len(set(namespaces(log))) == 1
    assert sum(1 for said in log.of("on_chain_start") if said["name"] == "draft") == 2


def test_with_retry_tells_its_attempt_in_the_tags(log: Log) -> None:
    """`retry:attempt:2` is on the second try, nothing on the first."""
    model = ScriptedChat(script=failing(1)).with_retry(stop_after_attempt=3, wait_exponential_jitter=False)
    model.invoke("7/3", {"callbacks": [log]})

    tries = [[tag for tag in said["tags"] or [] if tag.startswith("retry:")] for said in log.of("on_chat_model_start")]
    assert tries == [[], ["retry:attempt:2"]]


def test_fallbacks_break_the_chain_of_parents(log: Log) -> None:
    """A call under RunnableWithFallbacks names a parent from beyond the node: parents cannot be relied on."""
    NESTINGS["with_fallbacks"]().graph.invoke({"answers": []}, {"callbacks": [log]})

    started = {said["run_id"]: said for said in log.of("on_chain_start", "on_chat_model_start")}
    for call in log.of("on_chat_model_start"):
        seen: dict[str, Any] | None = call
        names = []
        while seen is not None:
            names.append(seen.get("name"))
            seen = started.get(seen["parent_run_id"])
        assert "RunnableWithFallbacks" not in names


def test_metadata_of_the_run_is_inherited_everywhere(log: Log) -> None:
    """Subgraphs, tools and inner agents all carry what the root's config said."""
    for nesting in NESTINGS.values():
        case = nesting()
        case.graph.invoke(case.input or {"answers": []}, {"callbacks": [log], "metadata": {"user_id": "u-7"}})

    starts = [said for kind, said in log.events if kind.endswith("_start")]
    assert len(starts) > 40
    assert all(said["metadata"]["user_id"] == "u-7" for said in starts)


def test_of_configurable_the_thread_is_in_the_metadata_and_private_keys_are_not(log: Log) -> None:
    """`thread_id` can be read from a callback's metadata; other keys of `configurable` cannot."""
    graph = line_of({"draft": asking(ScriptedChat(), "7/3")}).compile(checkpointer=InMemorySaver())
    config = {"callbacks": [log], "configurable": {"thread_id": "th-1", "user_secret": "x"}}
    graph.invoke({"answers": []}, config)

    for said in log.of("on_chain_start", "on_chat_model_start"):
        assert said["metadata"]["thread_id"] == "th-1"
        assert "user_secret" not in said["metadata"]


def test_an_agents_name_switches_inside_an_agent_that_is_a_tool(log: Log) -> None:
    """`lc_agent_name` is the innermost agent's."""
    NESTINGS["agent as tool"]().graph.invoke(ASK, {"callbacks": [log]})

    assert [said["metadata"]["lc_agent_name"] for said in log.of("on_chat_model_start")] == [
        "support",
        "helper",
        "support",
    ]


def test_a_summarisers_call_is_marked(log: Log) -> None:
    """`lc_source` tells calls that middleware makes for itself."""
    middleware = SummarizationMiddleware(
        ScriptedChat(script=lambda *_: Reply(text="SUMMARY")), trigger=("messages", 2), keep=("messages", 1)
    )
    agent = create_agent(ScriptedChat(script=lambda *_: Reply()), [], middleware=[middleware])
    agent.invoke({"messages": [HumanMessage("a"), AIMessage("b"), HumanMessage("c")]}, {"callbacks": [log]})

    sources = [said["metadata"].get("lc_source") for said in log.of("on_chat_model_start")]
    assert sources == ["summarization", None]


def test_the_context_knows_the_config_inside_a_models_start() -> None:
    """`get_config()` works in `on_chat_model_start`, and the child config's ContextVar holds the parent's manager."""
    found: list[Any] = []

    class Looks(BaseCallbackHandler):
        run_inline = True

        def on_chat_model_start(self, *args: Any, **kwargs: Any) -> None:
            found.append((get_config()["configurable"], var_child_runnable_config.get()))

    graph_of({"draft": asking(ScriptedChat(), "7/3")}).invoke({"answers": []}, {"callbacks": [Looks()]})

    ((configurable, child),) = found
    assert configurable
    assert isinstance(child["callbacks"].parent_run_id, UUID)


# --- once ------------------------------------------------------------------------------------------------------------


def test_the_same_handler_on_a_model_and_its_config_is_told_twice(log: Log) -> None:
    """`with_config` and `invoke` together fire each hook twice: the handler must be idempotent by `run_id`."""
    ScriptedChat().with_config(callbacks=[log]).invoke("7/3", {"callbacks": [log]})

    assert log.kinds() == {"on_chat_model_start": 2, "on_llm_end": 2}
    assert len({said["run_id"] for _, said in log.events}) == 1


def test_the_same_event_brings_the_same_prompt_object(log: Log) -> None:
    """A call told twice is known by that."""
    ScriptedChat().with_config(callbacks=[log]).invoke("7/3", {"callbacks": [log]})

    first, second = (said["args"][1][0] for said in log.of("on_chat_model_start"))
    assert first is second


def test_prompts_of_one_request_share_its_usage(log: Log) -> None:
    """A completion model asked two prompts at once gives all the usage to the first, and `batch_size` to each."""
    ScriptedLLM().batch(["3/1", "4/2"], {"callbacks": [log]})

    assert [said["batch_size"] for said in log.of("on_llm_start")] == [2, 2]
    usages = [said["args"][0].llm_output["token_usage"] for said in log.of("on_llm_end")]
    assert [usage.get("total_tokens") for usage in usages] == [10, None]
    assert usages[1] == {}


@pytest.mark.parametrize("where", ["create_task", "gather", "to_thread", "batch"])
async def test_what_keeps_the_context_keeps_the_handlers(where: str, log: Log) -> None:
    """A model called without a config inside a node is seen, as long as the context goes along."""
    model = ScriptedChat()

    async def node(state: State) -> State:
        if where == "create_task":
            await asyncio.create_task(model.ainvoke("1/1"))
        elif where == "gather":
            await asyncio.gather(model.ainvoke("1/1"))
        elif where == "to_thread":
            await asyncio.to_thread(model.invoke, "1/1")
        else:
            await model.abatch(["1/1"])
        return {"answers": []}

    await graph_of({"draft": node}).ainvoke({"answers": []}, {"callbacks": [log]})

    assert log.kinds()["on_chat_model_start"] == 1


@pytest.mark.parametrize("where", ["thread", "pool", "no callbacks"])
def test_what_loses_the_context_loses_the_handlers(where: str, log: Log) -> None:
    """Raw threads, plain executors and `callbacks=[]`: that is what `attach` is for."""
    model = ScriptedChat()

    def node(state: State) -> State:
        if where == "thread":
            thread = threading.Thread(target=model.invoke, args=("1/1",))
            thread.start()
            thread.join()
        elif where == "pool":
            with ThreadPoolExecutor(1) as pool:
                pool.submit(model.invoke, "1/1").result()
        else:
            model.invoke("1/1", {"callbacks": []})
        return {"answers": []}

    graph_of({"draft": node}).invoke({"answers": []}, {"callbacks": [log]})

    assert log.kinds()["on_chat_model_start"] == 0


@pytest.fixture
def _hooks_as_they_were() -> Iterator[None]:
    before = list(context._configure_hooks)
    yield
    context._configure_hooks[:] = before


@pytest.mark.usefixtures("_hooks_as_they_were")
def test_a_configure_hook_reaches_everything_and_gives_way_to_an_explicit_handler(log: Log) -> None:
    """A ContextVar with a default is seen in raw threads too; an instance that was passed along is not joined by it."""

    class Attached(Log):
        pass

    attached = Attached()
    register_configure_hook(ContextVar("attached", default=attached), inheritable=True, handle_class=Attached)
    thread = threading.Thread(target=ScriptedChat().invoke, args=("1/1", {"callbacks": []}))
    thread.start()
    thread.join()
    assert attached.kinds()["on_chat_model_start"] == 1

    ScriptedChat().invoke("1/1", {"callbacks": [Attached()]})
    assert attached.kinds()["on_chat_model_start"] == 1


# --- ends ------------------------------------------------------------------------------------------------------------


def stuck() -> tuple[ScriptedChat, Gate]:
    gate = Gate(asyncio.Event)
    return ScriptedChat(script=lambda *_: Reply(usage=tokens(7, 3), gate=gate)), gate


async def test_a_cancelled_call_ends_by_no_event_of_its_own(log: Log) -> None:
    """Neither end nor error: only the chains around it report the cancellation."""
    model, gate = stuck()
    running = asyncio.ensure_future(
        graph_of({"ask": asking(model, "x", native_async=True)}).ainvoke({"answers": []}, {"callbacks": [log]})
    )
    await gate.reached.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running

    assert log.kinds()["on_chat_model_start"] == 1
    assert not log.of("on_llm_end", "on_llm_error")
    assert {type(said["args"][0]) for said in log.of("on_chain_error")} == {asyncio.CancelledError}


async def test_a_bare_cancelled_call_ends_by_no_event_at_all(log: Log) -> None:
    """Outside a chain nothing tells of it."""
    model, gate = stuck()
    running = asyncio.ensure_future(model.ainvoke("x", {"callbacks": [log]}))
    await gate.reached.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running

    assert log.kinds() == {"on_chat_model_start": 1}


async def test_a_left_graph_stream_ends_by_the_roots_error(log: Log) -> None:
    """A consumer that walks away leaves the call and its node open: only the root reports."""
    gate = Gate(asyncio.Event)
    reply = Reply(text="one two", usage=tokens(7, 3), gate=gate, gate_after=1)
    graph = graph_of({"ask": asking(ScriptedChat(script=lambda *_: reply), "x", native_async=True)})
    stream = graph.astream({"answers": []}, {"callbacks": [log]}, stream_mode="messages")
    async for _ in stream:
        break
    await stream.aclose()

    root = next(said["run_id"] for said in log.of("on_chain_start") if said["parent_run_id"] is None)
    assert root in {said["run_id"] for said in log.of("on_chain_error")}
    assert not log.of("on_llm_end")


def test_a_closed_model_stream_ends_by_an_error_with_what_came(log: Log) -> None:
    """`on_llm_error` with GeneratorExit and the partial message."""
    stream = ScriptedChat().stream("7/3", {"callbacks": [log]})
    next(stream)
    stream.close()

    (said,) = log.of("on_llm_error")
    assert isinstance(said["args"][0], GeneratorExit)
    assert said["response"].generations[0][0].text == "ANS"


def test_a_broken_stream_of_invoke_in_a_streamed_graph_ends_without_what_came(log: Log) -> None:
    """There the error's response is empty: the chunks must be counted as they come."""
    reply = Reply(text="one two", pieces=2, error=ConnectionResetError(), error_after=1)
    graph = graph_of({"ask": asking(ScriptedChat(script=lambda *_: reply), "x")})
    with pytest.raises(ConnectionResetError):
        list(graph.stream({"answers": []}, {"callbacks": [log]}, stream_mode="messages"))

    (said,) = log.of("on_llm_error")
    assert said["response"].generations == [[]]
    assert log.kinds()["on_llm_new_token"] == 1


async def test_time_limits_of_graphs_have_two_classes(log: Log) -> None:
    """A step's is TimeoutError, a node's NodeTimeoutError, which is none."""
    assert not issubclass(NodeTimeoutError, TimeoutError)
    model, _ = stuck()
    graph = graph_of({"ask": asking(model, "x", native_async=True)})
    graph.step_timeout = 0.01
    with pytest.raises(TimeoutError):
        await graph.ainvoke({"answers": []}, {"callbacks": [log]})
    assert not log.of("on_llm_end", "on_llm_error")


def test_a_sync_sibling_ends_before_the_root_reports_a_failure(log: Log) -> None:
    """Another branch goes on after one has raised; its usage arrives in time."""
    gate = Gate(threading.Event)
    model = ScriptedChat(script=lambda *_: Reply(usage=tokens(7, 3), gate=gate))

    def fails(state: State) -> State:
        gate.reached.wait(30)
        threading.Timer(0.02, gate.opened.set).start()
        raise ValueError

    builder = StateGraph(State)
    builder.add_node("ask", asking(model, "x"))
    builder.add_node("fails", fails)
    builder.add_edge(START, "ask")
    builder.add_edge(START, "fails")
    with pytest.raises(ValueError):
        builder.compile().invoke({"answers": []}, {"callbacks": [log]})

    root = next(said["run_id"] for said in log.of("on_chain_start") if said["parent_run_id"] is None)
    order = [kind if kind == "on_llm_end" else said["run_id"] for kind, said in log.events]
    assert order.index("on_llm_end") < len(order) - 1 - order[::-1].index(root)


# --- handlers --------------------------------------------------------------------------------------------------------


class Boom(GraphBubbleUp):
    pass


def test_a_sync_handler_that_raises_is_heard_only_with_raise_error() -> None:
    """Without `raise_error` LangChain logs a warning, which holds the error's text, and makes the call."""

    class Raises(BaseCallbackHandler):
        run_inline = True

        def on_chat_model_start(self, *args: Any, **kwargs: Any) -> None:
            raise Boom

    quiet, loud, model = Raises(), Raises(), ScriptedChat()
    loud.raise_error = True
    model.invoke("1/1", {"callbacks": [quiet]})
    assert model.calls == 1

    with pytest.raises(Boom):
        model.invoke("1/1", {"callbacks": [loud]})
    assert model.calls == 1


async def test_run_inline_keeps_hooks_in_the_event_loops_thread() -> None:
    """Without it an async run hands a sync handler's hooks to another thread, late under load."""
    threads: dict[bool, set[int]] = {True: set(), False: set()}

    class Where(BaseCallbackHandler):
        def __init__(self, *, inline: bool) -> None:
            self.run_inline = inline

        def on_chat_model_start(self, *args: Any, **kwargs: Any) -> None:
            threads[self.run_inline].add(threading.get_ident())

    await ScriptedChat().ainvoke("1/1", {"callbacks": [Where(inline=True), Where(inline=False)]})

    assert threads[True] == {threading.get_ident()}
    assert threads[False].isdisjoint(threads[True])


def test_an_async_handler_is_swallowed_in_sync_code(caplog: pytest.LogCaptureFixture) -> None:
    """So ours is a sync handler."""

    class Raises(AsyncCallbackHandler):
        raise_error = True

        async def on_chat_model_start(self, *args: Any, **kwargs: Any) -> None:
            raise Boom

    model = ScriptedChat()
    graph_of({"draft": asking(model, "1/1")}).invoke({"answers": []}, {"callbacks": [Raises()]})
    assert model.calls == 1


def test_the_token_hooks_parameter_is_named_token() -> None:
    """LangChain passes it by position, the tracer base class by that name."""
    assert list(inspect.signature(BaseCallbackHandler.on_llm_new_token).parameters)[1] == "token"


def test_the_classes_exist_that_tell_of_http_errors() -> None:
    """Core's ModelError family: an error status without a number."""
    assert hasattr(core_exceptions, "ModelError")
    assert hasattr(core_exceptions, "ModelRateLimitError")


# --- pauses ----------------------------------------------------------------------------------------------------------


def pausing(checkpointer: Any = None) -> Any:
    builder = StateGraph(State)
    builder.add_node("approve", lambda state: {"answers": [interrupt("may I?")]})
    builder.add_edge(START, "approve")
    return builder.compile(checkpointer=checkpointer)


def test_at_a_pause_the_root_ends_well_and_the_node_with_an_interrupt(log: Log) -> None:
    """The root's end does not tell of the pause; its node's error does."""
    pausing(InMemorySaver()).invoke({"answers": []}, {"callbacks": [log], "configurable": {"thread_id": "t"}})

    errors = [said["args"][0] for said in log.of("on_chain_error")]
    assert errors
    assert {type(error) for error in errors} == {GraphInterrupt}
    (end,) = log.of("on_chain_end")[-1:]
    assert "__interrupt__" not in end["args"][0]


def test_a_resume_begins_with_a_command_or_nothing(log: Log) -> None:
    """The root's inputs at a resume are the Command, or None: that is how it is told from a new run."""
    graph, config = pausing(InMemorySaver()), {"callbacks": [log], "configurable": {"thread_id": "t"}}
    graph.invoke({"answers": []}, config)
    graph.invoke(None, config)
    graph.invoke(Command(resume="yes"), config)

    inputs = [said["args"][1] for said in log.of("on_chain_start") if said["parent_run_id"] is None]
    assert inputs[0] == {"answers": []}
    assert inputs[1] is None
    assert isinstance(inputs[2], Command)


def test_a_pause_without_a_checkpointer_raises_nothing() -> None:
    """The graceful stop: the state so far, and `__interrupt__`."""
    state = pausing().invoke({"answers": ["before"]})

    assert state["answers"] == ["before"]
    assert state["__interrupt__"]


def test_a_recursion_limit_is_the_roots_error(log: Log) -> None:
    """GraphRecursionError reaches the root's `on_chain_error`."""
    builder = StateGraph(State)
    builder.add_node("loop", lambda state: {"answers": []})
    builder.add_edge(START, "loop")
    builder.add_edge("loop", "loop")
    with pytest.raises(GraphRecursionError):
        builder.compile().invoke({"answers": []}, {"callbacks": [log], "recursion_limit": 3})

    assert isinstance(log.of("on_chain_error")[-1]["args"][0], GraphRecursionError)


# --- usage -----------------------------------------------------------------------------------------------------------


def test_a_cache_hit_is_told_by_a_cost_of_zero(log: Log) -> None:
    """`total_cost: 0` in the usage of a hit, all tokens in it, and an ordinary start and end."""
    model = ScriptedChat(cache=InMemoryCache())

    def usage() -> Any:
        model.invoke("7/3", {"callbacks": [log]})
        return log.of("on_llm_end")[-1]["args"][0].generations[0][0].message.usage_metadata

    asked = dict(usage())
    cached = usage()
    assert asked == tokens(7, 3)
    assert cached == tokens(7, 3, total_cost=0)
    assert model.calls == 1


def test_a_cache_hit_changes_the_usage_that_the_first_end_brought(log: Log) -> None:
    """The memory cache hands out one object: usage is read when a call ends and copied, or it would change later."""
    model = ScriptedChat(cache=InMemoryCache())
    for _ in range(2):
        model.invoke("7/3", {"callbacks": [log]})

    first = log.of("on_llm_end")[0]["args"][0].generations[0][0].message
    assert first.usage_metadata == tokens(7, 3, total_cost=0)


def test_a_completion_that_the_cache_answers_is_not_reported(log: Log) -> None:
    """BaseLLM fires nothing for a hit."""
    model = ScriptedLLM(cache=InMemoryCache())
    for _ in range(2):
        model.invoke("7/3", {"callbacks": [log]})

    assert log.kinds() == {"on_llm_start": 1, "on_llm_end": 1}


def test_several_answers_each_carry_the_whole_usage(log: Log, provider: ProviderServer) -> None:
    """`n=3`: the first generation speaks for all."""
    provider.answers = [Answer(usage=openai_usage(100, 60), answers=3)]
    ChatOpenAI(model="m", base_url=f"{provider.url}/v1", api_key="k", n=3).invoke("x", {"callbacks": [log]})

    (said,) = log.of("on_llm_end")
    usages = [each.message.usage_metadata["total_tokens"] for each in said["args"][0].generations[0]]
    assert usages == [160, 160, 160]


def test_openai_streams_have_no_usage_where_a_base_url_is_set(log: Log, provider: ProviderServer) -> None:
    """Unless `stream_usage=True` asks for it; completions have none at all."""
    provider.answers = [Answer(usage=openai_usage(100, 20))]
    base: Any = {"base_url": f"{provider.url}/v1", "api_key": "k", "model": "m"}
    list(ChatOpenAI(**base).stream("x", {"callbacks": [log]}))
    list(ChatOpenAI(**base, stream_usage=True).stream("x", {"callbacks": [log]}))
    list(OpenAI(**base).stream("x", {"callbacks": [log]}))

    silent, told, completion = (said["args"][0] for said in log.of("on_llm_end"))
    assert silent.generations[0][0].message.usage_metadata is None
    assert told.generations[0][0].message.usage_metadata["total_tokens"] == 120
    assert not (completion.llm_output or {}).get("token_usage")


def test_the_sdks_retries_are_not_reported(log: Log, provider: ProviderServer) -> None:
    """Two requests, one start, one end."""
    provider.answers = [Answer(status=500), Answer(usage=openai_usage(1, 1))]
    ChatOpenAI(model="m", base_url=f"{provider.url}/v1", api_key="k", max_retries=1).invoke("x", {"callbacks": [log]})

    assert len(provider.seen) == 2
    assert log.kinds() == {"on_chat_model_start": 1, "on_llm_end": 1}


@pytest.mark.parametrize("error", [ProviderError(429), GraphBubbleUp()], ids=["status", "bubble"])
def test_a_models_error_reaches_its_own_hook(error: Exception, log: Log) -> None:
    """The exception itself, not a copy: its status can be read."""
    with pytest.raises(type(error)):
        scripted(Reply(error=error)).invoke("x", {"callbacks": [log]})

    assert log.of("on_llm_error")[0]["args"][0] is error


def test_tools_of_agents_report_their_names(log: Log) -> None:
    """A tool's start has its name and its node's namespace."""
    tool = StructuredTool.from_function(lambda query: "found", name="search", description="Search.")
    create_agent(ScriptedChat(script=agent_script), [tool]).invoke(ASK, {"callbacks": [log]})

    (said,) = log.of("on_tool_start")
    assert said["args"][0]["name"] == "search"
    assert said["metadata"]["langgraph_node"] == "tools"
