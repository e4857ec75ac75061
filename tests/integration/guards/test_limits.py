"""Every kind of limit on real graphs: steps, loops, tools, tokens, seconds, nodes, models, prices, protected nodes."""

import logging
from decimal import Decimal
from typing import Any

import pytest
from guarded_scenes import FITS_THREE, State, asking, both, cents, ending, fan_out, line, looping, statuses
from langchain_core.caches import InMemoryCache
from langchain_core.messages import AIMessage
from langchain_core.tools import StructuredTool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.errors import GraphDrained, GraphRecursionError
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode
from langgraph.types import Command
from scripted_models import Reply, ScriptedChat, tokens

from langchain_finops import Budget, BudgetExceeded, CallRefused, FinOpsHandler, Ledger, LoopGuard, stopped
from langchain_finops.budgets.models import ModelPolicy
from langchain_finops.errors import BadArguments
from langchain_finops.langchain import answers
from langchain_finops.langchain.refusals import LoopDetected, UnpricedCall

# --- counts ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("limit", "calls"),
    [({"llm_calls": 4}, 4), ({"tokens": 2_500}, 2), ({"steps": 5}, 5), ({"usd": 0.025}, 2), ({"usd": "0.1"}, 9),
     ({"usd": 1, "llm_calls": 3}, 3)],
)  # fmt: skip
@pytest.mark.parametrize("scope", ["run", "thread_id"])
def test_each_unit_stops_a_loop(limit: Any, calls: int, scope: str, guarded: Any, play: Any) -> None:
    """Ten cents are not ten calls: the tenth's prompt is estimated, too, so nine are sent."""
    model = cents()
    graph = looping(asking(model), rounds=30, checkpointer=InMemorySaver())

    refusal = ending(play, graph, {"said": []}, guarded(Budget(**limit, scope=scope)), thread="t")

    assert isinstance(refusal, BudgetExceeded)
    assert model.calls == calls


def test_steps_are_counted_at_any_depth(guarded: Any, play: Any, ledger: Ledger) -> None:
    """A subgraph's nodes are steps, and so is the node it is in: a, deep, deep/x, deep/y, z is the fifth."""
    model = cents()
    inner = line({"x": asking(model), "y": asking(model)})
    graph = line({"a": asking(model), "deep": inner, "z": asking(model)})

    assert isinstance(ending(play, graph, {"said": []}, guarded(Budget(steps=4))), BudgetExceeded)
    assert model.calls == 3
    assert ending(play, graph, {"said": []}, guarded(Budget(steps=5))) is None


def test_a_recursion_limit_is_a_stop(guarded: Any, play: Any, ledger: Ledger) -> None:
    """LangGraph's own limit is recorded as one, and `stopped` reads it."""
    with pytest.raises(GraphRecursionError) as caught:
        play(looping(asking(cents()), rounds=50), {"said": []}, guarded(Budget(usd=1)), recursion_limit=5)
    assert statuses(ledger) == [("stopped", "recursion_limit")]
    assert stopped(caught.value).reason == "recursion_limit"  # type: ignore[union-attr]


def test_tools_are_limited_and_refused_before_they_run(guarded: Any, play: Any) -> None:
    """Three of five tools of one message run; the message does not hear of the refusal."""
    ran: list[str] = []

    def look(place: str) -> str:
        """Look."""
        ran.append(place)
        return place

    wanted = [{"name": "look", "args": {"place": f"p{n}"}, "id": f"i{n}", "type": "tool_call"} for n in range(5)]
    builder = StateGraph(MessagesState)
    builder.add_node("tools", ToolNode([look], handle_tool_errors=True))
    builder.add_edge(START, "tools")

    refusal = ending(
        play, builder.compile(), {"messages": [AIMessage("", tool_calls=wanted)]}, guarded(Budget(tool_calls=3))
    )
    assert isinstance(refusal, BudgetExceeded)
    assert len(ran) == 3


def test_seconds_of_a_run_are_checked_at_every_start(guarded: Any, play: Any) -> None:
    """A run that has taken longer than its limit starts nothing any more; a limit of an hour stops nobody."""
    model = cents()

    refusal = ending(play, looping(asking(model), rounds=30), {"said": []}, guarded(Budget(seconds="0.000001")))
    assert isinstance(refusal, BudgetExceeded)
    assert model.calls == 0
    assert ending(play, looping(asking(model), rounds=3), {"said": []}, guarded(Budget(seconds=3_600))) is None


def test_one_node_is_capped_and_the_others_are_not(guarded: Any, play: Any, ledger: Ledger) -> None:
    """`match={"node": "search"}` counts the node wherever it stands in a path; others go on until the refusal."""
    model = cents()
    inner = line({"search": asking(model)})
    graph = line({"a": asking(model), "r1": inner, "b": asking(model), "r2": inner, "c": asking(model)})

    refusal = ending(play, graph, {"said": []}, guarded(Budget(usd="0.015", match={"node": "search"})))

    assert isinstance(refusal, BudgetExceeded)
    assert refusal.node_path == "r2/search"
    assert model.calls == 3


def test_a_budget_for_each_node(guarded: Any, play: Any) -> None:
    """`scope="node"`: each has two calls of its own, so the third of any is refused."""
    model = cents()
    graph = line({name: asking(model, f"{name}") for name in "abcd"})
    assert ending(play, graph, {"said": []}, guarded(Budget(llm_calls=2, scope="node"))) is None

    model = cents()
    refusal = ending(play, looping(asking(model)), {"said": []}, guarded(Budget(llm_calls=2, scope="node")))
    assert isinstance(refusal, BudgetExceeded)
    assert model.calls == 2


def test_a_node_path_is_a_prefix(guarded: Any, play: Any) -> None:
    """`match={"node_path": "r1"}` is what lies under r1, and not under r10."""
    model = cents()
    inner = line({"search": asking(model)})
    graph = line({"r10": inner, "r1": inner, "r100": inner})

    refusal = ending(play, graph, {"said": []}, guarded(Budget(llm_calls=1, match={"node_path": "r1"})))
    assert refusal is None
    assert model.calls == 3


def test_fan_out_of_one_node_is_capped(guarded: Any, play: Any) -> None:
    """Per-node limits are right in parallel, too."""
    model = cents()
    refusal = ending(
        play, fan_out(asking(model), 20), {"said": []}, guarded(Budget(usd=FITS_THREE, match={"node": "branch"}))
    )
    assert isinstance(refusal, BudgetExceeded)
    assert model.calls == 3


def test_users_and_agents_have_balances_of_their_own(guarded: Any, play: Any) -> None:
    """One handler, three users, one of whom does not say who: each has two calls."""
    model, handler = cents(), guarded(Budget(usd="0.025", scope="user_id"))
    graph = looping(asking(model), rounds=5)

    for metadata in ({"user_id": "ada"}, {"user_id": "bob"}, {}, {"user_id": "ada"}, {}):
        assert isinstance(ending(play, graph, {"said": []}, handler, metadata=metadata), BudgetExceeded)
    assert model.calls == 6


# --- loops -----------------------------------------------------------------------------------------------------------


def test_the_same_prompt_in_the_same_node_is_a_loop(guarded: Any, play: Any, ledger: Ledger) -> None:
    """Three times, whatever it answers; the fourth is not sent."""
    model = cents()

    refusal = ending(play, looping(asking(model, "the same")), {"said": []}, guarded(LoopGuard(repeats=3)))

    assert isinstance(refusal, LoopDetected)
    assert model.calls == 3
    assert statuses(ledger) == [("stopped", "loop")]


def test_prompts_that_move_on_are_no_loop(guarded: Any, play: Any) -> None:
    """Twelve rounds with a prompt of their own each."""
    model = cents()
    assert ending(play, looping(asking(model), rounds=12), {"said": []}, guarded(LoopGuard(repeats=2))) is None
    assert model.calls == 12


def test_two_agents_that_hand_back_and_forth_are_a_loop(guarded: Any, play: Any) -> None:
    """A cycle of two nodes is found as such."""
    model = cents()
    builder = StateGraph(State)
    builder.add_node("ask", asking(model, "question"))
    builder.add_node("answer", asking(model, "answer"))
    builder.add_edge(START, "ask").add_edge("ask", "answer").add_edge("answer", "ask")

    refusal = ending(play, builder.compile(), {"said": []}, guarded(LoopGuard(repeats=3)), recursion_limit=60)
    assert isinstance(refusal, LoopDetected)
    assert model.calls == 6


@pytest.mark.parametrize("branches", [8, 20])
def test_a_healthy_fan_out_is_no_loop(branches: int, guarded: Any, play: Any) -> None:
    """The same prompt in twenty branches at once, and twice in a row: parallel is no repetition."""
    model = cents()
    graph = line(
        {"one": fan_out(asking(model, "the same"), branches), "two": fan_out(asking(model, "the same"), branches)}
    )

    assert ending(play, graph, {"said": []}, guarded(LoopGuard(repeats=3))) is None
    assert model.calls == 2 * branches


def calling(tool: StructuredTool, rounds: int, **arguments: Any) -> Any:
    """A graph that calls a tool with the same arguments again and again."""

    def node(state: State) -> State:
        return {"said": [str(tool.invoke(arguments))]}

    async def anode(state: State) -> State:
        return {"said": [str(await tool.ainvoke(arguments))]}

    return looping(both(node, anode), rounds=rounds)


def test_a_tool_that_says_the_same_is_a_loop_and_a_poll_is_none(guarded: Any, play: Any) -> None:
    """The same arguments with the same result: three times. With a result that changes: as often as it takes."""
    said: list[int] = []

    def status(job: str) -> str:
        """Ask for a job's status."""
        said.append(1)
        return "waiting"

    def progress(job: str) -> str:
        """Ask for a job's progress."""
        said.append(1)
        return f"{len(said)} %"

    stuck = StructuredTool.from_function(status)
    assert isinstance(ending(play, calling(stuck, 20, job="j"), {"said": []}, guarded(LoopGuard())), LoopDetected)
    assert len(said) == 3
    poll = StructuredTool.from_function(progress)
    assert ending(play, calling(poll, 20, job="j"), {"said": []}, guarded(LoopGuard())) is None


def test_a_loop_can_ask_and_be_let_through(guarded: Any, play: Any) -> None:
    """`LoopGuard(on_exceed="interrupt")`: a yes begins the count anew."""
    model, handler = cents(), guarded(LoopGuard(on_exceed="interrupt"))
    graph = looping(asking(model, "the same"), rounds=5, checkpointer=InMemorySaver())

    result = play(graph, {"said": []}, handler, thread="t")
    assert model.calls == 3
    result = play(graph, Command(resume=answers(result, {"approve": True})), handler, thread="t")
    assert (stopped(result), model.calls) == (None, 5)


# --- what may be called ----------------------------------------------------------------------------------------------


def test_a_model_without_a_price_is_refused_under_dollars_only(guarded: Any, play: Any, ledger: Ledger) -> None:
    """Unknown is not free. A budget in calls, or `unpriced="estimate"`, lets it through."""
    model = cents(model_name="nobody-knows")

    refusal = ending(play, line({"a": asking(model)}), {"said": []}, guarded(Budget(usd=1)))
    assert isinstance(refusal, UnpricedCall)
    assert model.calls == 0
    assert statuses(ledger) == [("stopped", "unpriced")]
    assert ending(play, line({"a": asking(model)}), {"said": []}, guarded(Budget(llm_calls=1))) is None
    assert ending(play, line({"a": asking(model)}), {"said": []}, guarded(Budget(usd=1, unpriced="estimate"))) is None
    assert model.calls == 2


def test_small_models_first_as_a_rule(guarded: Any, play: Any, caplog: pytest.LogCaptureFixture) -> None:
    """The router may only use small models; other nodes what they like. `warn` lets it through and says so."""
    small, large = cents(model_name="scripted-mini"), cents(model_name="scripted-large")
    policy = {"match": {"node": "router"}, "allow": ["*mini*", "*haiku*"]}

    assert (
        ending(play, line({"router": asking(small), "b": asking(large)}), {"said": []}, guarded(ModelPolicy(**policy)))
        is None
    )
    assert large.calls == 1
    refusal = ending(play, line({"router": asking(large)}), {"said": []}, guarded(ModelPolicy(**policy)))
    assert isinstance(refusal, CallRefused)
    assert refusal.kind == "model_policy"
    assert large.calls == 1
    with caplog.at_level(logging.WARNING, "langchain_finops"):
        graph = line({"router": asking(large)})
        assert ending(play, graph, {"said": []}, guarded(ModelPolicy(**policy, on_exceed="warn"))) is None
    assert "scripted-large" in caplog.text


def test_strict_wants_a_limit_and_names(guarded: Any, play: Any) -> None:
    """Without a limit, or without who it is for, nothing is called."""
    model = cents()
    who = {"user_id": "u", "task_id": "t"}
    graph = line({"a": asking(model)})

    for handler, metadata in (
        (guarded(strict=True), who),
        (guarded(Budget(usd=1), strict=True), {"user_id": "u"}),
        (guarded(Budget(usd=1, match={"agent_id": "other"}), strict=True), who),
    ):
        refusal = ending(play, graph, {"said": []}, handler, metadata=metadata)
        assert isinstance(refusal, CallRefused)
        assert refusal.kind == "strict"
    assert model.calls == 0
    assert ending(play, graph, {"said": []}, guarded(Budget(usd=1), strict=True), metadata=who) is None
    assert ending(play, graph, {"said": []}, guarded(Budget(usd=1), strict=True, require=()), metadata={}) is None


# --- admission -------------------------------------------------------------------------------------------------------


def bounded(output_tokens: int, said: int, **fields: Any) -> ScriptedChat:
    """A model that may say so much and says so much."""
    return ScriptedChat(
        script=lambda _p, _c: Reply(text="x", usage=tokens(0, said)), max_tokens=output_tokens, **fields
    )


def test_strict_admission_holds_the_most_and_never_overspends(guarded: Any, play: Any, ledger: Ledger) -> None:
    """8 at once, each bounded by 1,000 tokens and using all of them: three are made, and three cents are spent."""
    model = bounded(1_000, 1_000)

    refusal = ending(
        play,
        fan_out(asking(model), 8),
        {"said": []},
        guarded(Budget(usd=FITS_THREE, scope="agent_id", admission="strict")),
    )
    assert isinstance(refusal, BudgetExceeded)
    assert model.calls == 3
    assert sum(call.cost_usd or 0 for call in ledger.calls()) == Decimal("0.03")


def test_strict_admission_refuses_what_nothing_bounds(guarded: Any, play: Any) -> None:
    """A model without a maximum is refused, naming `max_tokens`; the user's promise is a bound."""
    model = cents()
    refusal = ending(play, line({"a": asking(model)}), {"said": []}, guarded(Budget(usd=1, admission="strict")))
    assert isinstance(refusal, BudgetExceeded)
    assert "max_tokens" in str(refusal)
    assert model.calls == 0
    promised = Budget(usd=1, admission="strict", expected_output_tokens=1_000)
    assert ending(play, line({"a": asking(model)}), {"said": []}, guarded(promised)) is None


def test_a_hostile_answer_above_its_bound_is_overspend_and_ends_the_run(
    guarded: Any, play: Any, ledger: Ledger, caplog: pytest.LogCaptureFixture
) -> None:
    """Bounded by 100 tokens, it says 50,000 for 50 cents: recorded in full, kept, and the last of its run."""
    model = bounded(100, 50_000)

    with caplog.at_level(logging.WARNING, "langchain_finops"):
        refusal = ending(
            play,
            line({"a": asking(model), "b": asking(model)}),
            {"said": []},
            guarded(Budget(usd="10", admission="strict")),
        )
    assert isinstance(refusal, BudgetExceeded)
    assert model.calls == 1
    assert sum(call.cost_usd or 0 for call in ledger.calls()) == Decimal("0.5")


def test_warnings_come_once_per_threshold(guarded: Any, play: Any, caplog: pytest.LogCaptureFixture) -> None:
    """A budget of ten cents with `warn_at=(0.5, 0.8)`, nine calls: two warnings."""
    with caplog.at_level(logging.WARNING, "langchain_finops"):
        play(looping(asking(cents()), rounds=9), {"said": []}, guarded(Budget(usd="0.1", scope="agent_id")))
    said = [record.getMessage() for record in caplog.records if record.name.startswith("langchain_finops")]
    assert len(said) == 2
    assert "50" in said[0]
    assert "80" in said[1]


def test_warn_lets_everything_through(guarded: Any, play: Any, ledger: Ledger) -> None:
    """`on_exceed="warn"` refuses nothing, and counts on."""
    model = cents()
    budget = Budget(usd=FITS_THREE, scope="agent_id", on_exceed="warn")
    assert ending(play, looping(asking(model), rounds=6), {"said": []}, guarded(budget)) is None
    assert model.calls == 6
    assert [each.spent for each in ledger.balances()] == [6 * 10**10]


@pytest.mark.parametrize(("word", "ends"), [("raise", BudgetExceeded), ("drain", GraphDrained), ("warn", None)])
def test_a_function_decides(word: Any, ends: Any, guarded: Any, play: Any) -> None:
    """It sees the refusal, once for each call in question, and says one of the words."""
    model, seen = cents(), []

    def decide(refusal: Any) -> Any:
        seen.append((refusal.spent, refusal.node_path))
        return word

    handler = guarded(Budget(usd=FITS_THREE, on_exceed=decide))
    if ends is None:
        play(looping(asking(model), rounds=5), {"said": []}, handler)
        assert model.calls == 5
    else:
        with pytest.raises(ends):
            play(looping(asking(model), rounds=5), {"said": []}, handler)
        assert model.calls == 3
    assert seen[0] == (Decimal("0.03"), "agent")


def test_cache_hits_are_free_and_not_refused(guarded: Any, play: Any, ledger: Ledger) -> None:
    """LangChain's cache answers from the second time on: nine hits, one cent."""
    model = cents(cache=InMemoryCache())

    play(looping(asking(model, "the same"), rounds=10), {"said": []}, guarded(Budget(usd=FITS_THREE, scope="agent_id")))

    assert model.calls == 1
    assert [each.spent for each in ledger.balances()] == [10**10]
    assert sum(call.billed_usd or 0 for call in ledger.calls()) == Decimal("0.01")


# --- protected nodes -------------------------------------------------------------------------------------------------


def test_a_protected_node_runs_in_a_refused_run_and_counts(guarded: Any, play: Any, ledger: Ledger) -> None:
    """A swallowed refusal does not cost the validation: it runs, pays, and nothing after it does."""
    model, validator = cents(), cents(model_name="scripted-validator")
    graph = line(
        {
            "a": asking(model),
            "b": asking(model),
            "c": asking(model, swallow=True),
            "validate": asking(validator),
            "d": asking(model),
        }
    )
    handler = guarded(Budget(usd="0.025", scope="agent_id"), protect=["validate"])

    refusal = ending(play, graph, {"said": []}, handler)

    assert isinstance(refusal, BudgetExceeded)
    assert (model.calls, validator.calls) == (2, 1)
    assert [each.spent for each in ledger.balances()] == [3 * 10**10]


def test_what_was_not_validated_is_named(guarded: Any, play: Any) -> None:
    """A raise ends the graph before its protected node: the exception and the stop say so."""
    model, validator = cents(), cents(model_name="scripted-validator")
    graph = line({"a": asking(model), "b": asking(model), "c": asking(model), "validate": asking(validator)})
    handler = guarded(Budget(usd="0.025"), protect=["validate"])

    refusal = ending(play, graph, {"said": []}, handler)

    assert isinstance(refusal, BudgetExceeded)
    assert validator.calls == 0
    assert "validate" in str(refusal)
    assert stopped(refusal).unvalidated == ("validate",)  # type: ignore[union-attr]


def test_what_was_validated_is_not_named(guarded: Any, play: Any) -> None:
    """The protected node ran last: nothing changed after it."""
    model = cents()
    graph = line({"a": asking(model), "validate": asking(model), "c": asking(model)})

    refusal = ending(play, graph, {"said": []}, guarded(Budget(usd="0.025"), protect=["validate"]))
    assert stopped(refusal).unvalidated == ()  # type: ignore[union-attr]


# --- arguments -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "wrong",
    [{"usd": 0}, {"usd": -1}, {"tokens": 0}, {"steps": -5}, {"seconds": 0}, {}, {"usd": "nan"}, {"usd": "inf"},
     {"usd": 1, "per": "fortnight"}, {"usd": 1, "scope": "planet"}, {"usd": 1, "on_exceed": "explode"},
     {"llm_calls": 1.5}, {"usd": True}, {"usd": 1, "warn_at": (2,)}, {"usd": 1, "time_zone": "Mars/Olympus"}],
)  # fmt: skip
def test_nonsense_is_refused_at_construction(wrong: Any) -> None:
    """Zero and negative limits first of all."""
    with pytest.raises(BadArguments):
        Budget(**wrong)


def test_a_budget_for_a_fleet_wants_a_ledger_for_a_fleet(tmp_path: Any) -> None:
    """`reach="fleet"` on a file of this machine is refused when the handler is made."""
    with pytest.raises(BadArguments):
        FinOpsHandler(budgets=[Budget(usd=1, per="day", reach="fleet")], ledger=tmp_path / "ledger.db")


def test_text_is_a_budget(guarded: Any, play: Any) -> None:
    """`budgets=["3 llm_calls"]`."""
    model = cents()
    refusal = ending(play, looping(asking(model)), {"said": []}, guarded("3 llm_calls", "$20/day per agent_id"))
    assert isinstance(refusal, BudgetExceeded)
    assert model.calls == 3
