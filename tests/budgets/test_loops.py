"""Loops: what goes in circles is seen before it is done once more, and what only looks like it is left alone."""

import pickle
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from langchain_finops.budgets.loops import BRANCHES, LoopGuard, LoopWatch, Places
from langchain_finops.errors import BadArguments


def starts(watch: LoopWatch, digests: Iterable[object], node: str = "agent") -> list[bool]:
    """Whether each of some model calls, one after the other, would be one too many."""
    return [watch.see(node, "llm", digest) is not None for digest in digests]


def tools(watch: LoopWatch, results: Iterable[object], tool: str = "search", args: object = "x") -> list[bool]:
    """Whether each of some tool calls with the same arguments would be one too many, given their results."""
    found = []
    for number, result in enumerate(results):
        found.append(watch.see("tools", "tool", args, tool=tool, event_id=f"{tool}{number}") is not None)
        watch.ended(f"{tool}{number}", result)
    return found


def test_the_same_prompt_in_the_same_node_comes_three_times_and_not_four() -> None:
    """Three are made, the fourth start is refused, and so is each after it."""
    assert starts(LoopWatch(LoopGuard()), "aaaaa") == [False, False, False, True, True]


def test_once_may_be_all_there_is() -> None:
    """`repeats=1` allows each thing once."""
    assert starts(LoopWatch(LoopGuard(repeats=1, window=2)), "abba") == [False, False, True, False]


def test_other_prompts_are_no_loop() -> None:
    """An agent whose prompt grows with each turn goes on."""
    assert not any(starts(LoopWatch(LoopGuard()), range(100)))


def test_the_same_prompt_in_another_node_is_another_call() -> None:
    """A planner and a critic may be asked the same."""
    watch = LoopWatch(LoopGuard())

    assert not any(watch.see(node, "llm", "same") for node in ("a", "b", "c", "a/b") * 3)
    assert watch.see("b", "llm", "same")


def test_calls_outside_a_graph_are_seen_too() -> None:
    """A plain loop around a model is one."""
    watch = LoopWatch(LoopGuard())

    assert [watch.see(None, "llm", "q") for _ in range(4)] == [
        None,
        None,
        None,
        "the model outside a graph came 3 times with the same prompt within 12 events",
    ]


def test_a_model_call_counts_whatever_it_answers() -> None:
    """Another answer to the same prompt is not progress: a result told of a model is not looked at."""
    watch = LoopWatch(LoopGuard())
    found = []
    for number in range(4):
        found.append(watch.see("agent", "llm", "q", event_id=str(number)) is not None)
        watch.ended(str(number), result=number)

    assert found == [False, False, False, True]


def test_only_the_last_events_count() -> None:
    """With a window of 12, the event itself and the 11 before it: the fourth within them is refused."""
    assert starts(LoopWatch(LoopGuard()), ["a", "a", "a", *range(8), "a"])[-1] is True
    assert starts(LoopWatch(LoopGuard()), ["a", "a", "a", *range(9), "a"])[-1] is False


@pytest.mark.parametrize("period", [2, 3])
def test_a_cycle_is_stopped_before_its_fourth_round(period: int) -> None:
    """A B A B A B and no A; of three different calls as well."""
    rounds = list(range(period)) * 4
    found = starts(LoopWatch(LoopGuard()), rounds)

    assert found == [False] * 3 * period + [True] * period


def test_a_longer_cycle_needs_a_longer_window() -> None:
    """The window must hold three rounds and the start of the fourth: of four calls, 13 events."""
    rounds = list(range(4)) * 4

    assert not any(starts(LoopWatch(LoopGuard()), rounds))
    assert starts(LoopWatch(LoopGuard(window=13)), rounds).index(True) == 12


def test_a_cycle_of_model_and_tool_is_named_in_its_order() -> None:
    """The reader sees what goes round."""
    watch = LoopWatch(LoopGuard())
    for _ in range(3):
        assert watch.see("agent", "llm", "q") is None
        assert watch.see("tools", "tool", "x", tool="search") is None

    assert watch.see("agent", "llm", "q") == (
        "the model in node 'agent' -> tool 'search' went round 3 times within 12 events"
    )


def test_what_comes_back_without_a_pattern_is_no_cycle_by_name() -> None:
    """It is refused for the call that came again."""
    watch = LoopWatch(LoopGuard())

    assert starts(watch, ["a", 1, "a", 2, 3, "a", 4]) == [False] * 7
    assert watch.see("agent", "llm", "a") == (
        "the model in node 'agent' came 3 times with the same prompt within 12 events"
    )


def test_a_tool_with_the_same_arguments_and_result_is_a_loop() -> None:
    """In whatever node: agents that hand the same question round are one."""
    watch = LoopWatch(LoopGuard())
    found = []
    for number, node in enumerate(("a/tools", "b/tools", "a/tools", "b/tools")):
        found.append(watch.see(node, "tool", "x", tool="search", event_id=str(number)))
        watch.ended(str(number), "nothing found")

    assert found == [None] * 3 + ["tool 'search' came 3 times with the same arguments and result within 12 events"]


def test_a_tool_whose_result_is_not_told_is_a_loop() -> None:
    """Nothing shows that anything moves."""
    assert tools(LoopWatch(LoopGuard()), [None] * 4) == [False, False, False, True]


def test_other_arguments_or_another_tool_are_no_loop() -> None:
    """A list that is worked through goes on."""
    watch = LoopWatch(LoopGuard())

    assert not any(watch.see("tools", "tool", args, tool="search") for args in range(50))
    assert not any(watch.see("tools", "tool", "x", tool=f"tool-{number}") for number in range(50))


def test_a_poll_whose_result_changes_is_no_loop() -> None:
    """A progress bar that moves may be asked for as often as it moves."""
    assert not any(tools(LoopWatch(LoopGuard()), range(50)))
    assert not any(tools(LoopWatch(LoopGuard()), [0, 0, 1, 1, 2, 2, 3, 3]))
    assert not any(tools(LoopWatch(LoopGuard()), [0, 1] * 20))


def test_a_poll_that_stands_still_is_a_loop() -> None:
    """Three equal results in a row, whatever came before them."""
    assert tools(LoopWatch(LoopGuard()), [1, 2, 3, 3, 3, 3]) == [False] * 5 + [True]
    assert tools(LoopWatch(LoopGuard()), [1, 1, 2, 1, 1, 1]) == [False] * 6
    assert tools(LoopWatch(LoopGuard()), [1, 1, 2, 1, 1, 1, 1]) == [False] * 6 + [True]


def test_what_spent_nothing_may_be_tried_again() -> None:
    """An HTTP error that a retry follows is no repetition."""
    watch = LoopWatch(LoopGuard())
    for number in range(20):
        assert watch.see("agent", "llm", "q", event_id=str(number)) is None
        watch.released(str(number))

    assert starts(watch, "qqqq") == [False, False, False, True]


def test_after_an_approval_it_begins_anew() -> None:
    """A person who lets the run go on lets it go round as often again."""
    watch = LoopWatch(LoopGuard())
    starts(watch, "aaaa")
    watch.forget()

    assert starts(watch, "aaaa") == [False, False, False, True]


def test_an_end_that_nobody_began_is_nothing() -> None:
    """It comes twice, or after an approval."""
    watch = LoopWatch(LoopGuard())
    watch.ended("x", "result")
    watch.released("x")

    assert starts(watch, "aaaa") == [False, False, False, True]


# --- what is parallel ---------------------------------------------------------------------------------------------


def fan_out(watch: LoopWatch, places: Places, superstep: int, branches: int = 20, node: str = "worker") -> list[bool]:
    """The same call in each of some branches of a superstep, one after the other as with `max_concurrency=1`."""
    found = []
    for number in range(branches):
        namespace = f"{node}:{superstep}-{number}"
        places.enter(namespace, superstep)
        event_id = f"{namespace}!"
        found.append(watch.see(node, "llm", "q", event_id=event_id, place=places.of(namespace)) is not None)
        watch.ended(event_id)
        places.leave(namespace)
    return found


def test_the_same_call_in_each_branch_of_a_superstep_is_no_loop() -> None:
    """Twenty `Send` branches may ask the same, and run one after the other where no more are allowed at once."""
    assert not any(fan_out(LoopWatch(LoopGuard()), Places(), superstep=1))


def test_a_fan_out_that_comes_again_and_again_is_a_loop() -> None:
    """Each superstep of twenty branches is one repetition; in the fourth every branch is refused."""
    watch, places = LoopWatch(LoopGuard()), Places()
    found = [fan_out(watch, places, superstep) for superstep in range(1, 5)]

    assert found == [[False] * 20] * 3 + [[True] * 20]


def test_a_branch_that_goes_in_circles_is_seen_among_others() -> None:
    """Each branch has a window of its own: what the others do does not push its past out of sight."""
    watch, places = LoopWatch(LoopGuard()), Places()
    for branch in range(BRANCHES):
        places.enter(f"worker:{branch}", 1)
    found = []
    for turn in range(4):
        for branch in range(BRANCHES):
            namespace = f"worker:{branch}|agent:{branch}-{turn}"
            places.enter(namespace, turn)
            place = places.of(namespace)
            digest = "q" if branch == 7 else (branch, turn)
            found.append((turn, branch, watch.see("worker/agent", "llm", digest, place=place) is not None))

    assert [(turn, branch) for turn, branch, is_loop in found if is_loop] == [(3, 7)]


def test_the_same_call_deep_in_parallel_agents_is_no_loop() -> None:
    """Branches part at the outer graph: what their subgraphs do in steps of their own is parallel, too."""
    watch, places = LoopWatch(LoopGuard()), Places()
    for branch in range(20):
        places.enter(f"worker:{branch}", 1)
        for step in (1, 2):
            namespace = f"worker:{branch}|agent:{branch}-{step}"
            places.enter(namespace, step)
            assert watch.see("worker/agent", "llm", step, place=places.of(namespace)) is None


def test_nodes_of_one_superstep_are_parallel_but_turns_of_one_are_not() -> None:
    """Two nodes side by side that each ask three times: neither has asked six times."""
    watch, places = LoopWatch(LoopGuard()), Places()
    for turn in range(4):
        for branch in ("a", "b"):
            namespace = f"pair:{branch}"
            places.enter(namespace, 1)
            found = watch.see("pair", "llm", "q", place=places.of(namespace))
            assert (found is not None) is (turn == 3)


def test_tasks_one_after_the_other_are_a_loop() -> None:
    """All `@task`s of an entrypoint are in one superstep: they are entered without it, and their time tells."""
    watch, places = LoopWatch(LoopGuard()), Places()
    places.enter("flow:1", 0)
    found = []
    for number in range(4):
        namespace = f"flow:1|ask:{number}"
        places.enter(namespace, None)
        found.append(watch.see("flow/ask", "llm", "q", event_id=str(number), place=places.of(namespace)) is not None)
        watch.ended(str(number))

    assert found == [False, False, False, True]


def test_tasks_at_the_same_time_are_no_loop() -> None:
    """They were all started before any had ended."""
    watch, places = LoopWatch(LoopGuard()), Places()
    places.enter("flow:1", 0)
    for number in range(20):
        namespace = f"flow:1|ask:{number}"
        places.enter(namespace, None)
        assert watch.see("flow/ask", "llm", "q", event_id=str(number), place=places.of(namespace)) is None


def test_samples_of_one_prompt_at_the_same_time_are_no_loop() -> None:
    """`gather` and `batch` ask one prompt many times in one node, to vote on the answers; four rounds of it are one."""
    watch = LoopWatch(LoopGuard())
    for turn in range(4):
        for sample in range(5):
            found = watch.see("vote", "llm", "q", event_id=f"{turn}-{sample}", place=(("vote:1", (0, 1)),))
            assert (found is not None) is (turn == 3)
        for sample in range(5):
            watch.ended(f"{turn}-{sample}")


def test_a_subgraph_that_its_node_invokes_again_is_a_loop() -> None:
    """LangGraph numbers those in the namespace, and each begins at the same superstep."""
    watch, places = LoopWatch(LoopGuard()), Places()
    places.enter("outer:1", 1)
    found = []
    for number in ("", "1|", "2|", "3|"):
        namespace = f"outer:1|{number}model:{number}"
        places.enter(namespace, 1)
        found.append(watch.see("outer/model", "llm", "q", place=places.of(namespace)) is not None)

    assert found == [False, False, False, True]


def test_a_graph_that_a_chain_invokes_again_is_a_loop() -> None:
    """Its supersteps begin anew with `__start__`: the same number is not the same superstep."""
    watch, places = LoopWatch(LoopGuard()), Places()
    found = []
    for turn in range(4):
        places.enter(f"__start__:{turn}", 0)
        places.enter(f"model:{turn}", 1)
        found.append(watch.see("model", "llm", "q", place=places.of(f"model:{turn}")) is not None)

    assert found == [False, False, False, True]


def test_calls_inside_a_tool_come_after_its_start() -> None:
    """An agent used as a tool is open while its own calls go round: they are no branches of it."""
    watch, places = LoopWatch(LoopGuard()), Places()
    places.enter("tools:1", 2)
    watch.see("tools", "tool", "x", tool="ask_agent", event_id="outer", place=places.of("tools:1"))
    found = []
    for turn in range(4):
        namespace = f"tools:1|agent:{turn}"
        places.enter(namespace, turn)
        found.append(watch.see("tools/agent", "llm", "q", event_id=str(turn), place=places.of(namespace)) is not None)
        watch.ended(str(turn))

    assert found == [False, False, False, True]


def test_a_node_that_was_never_entered_is_told_by_its_time() -> None:
    """A handler that was attached inside the graph has not seen the nodes start."""
    watch, places = LoopWatch(LoopGuard()), Places()
    calls = [watch.see("a", "llm", "q", place=places.of(f"a:{number}")) is not None for number in range(4)]

    assert calls == [False, False, False, True]
    assert places.of(None) == places.of("") == ()


def test_nothing_of_a_long_run_is_kept_but_its_last_events() -> None:
    """The memory is bounded by the window, and that of places by the open nodes."""
    watch, places = LoopWatch(LoopGuard(window=4)), Places()
    for number in range(10_000):
        places.enter(f"a:{number}", number)
        watch.see("a", "llm", number, event_id=str(number), place=places.of(f"a:{number}"))
        watch.ended(str(number))
        places.leave(f"a:{number}")

    assert len(watch._events) == len(watch._counts) == 4 * BRANCHES
    assert not watch._open
    assert not places._supersteps


@given(
    digests=st.lists(st.integers(0, 4), max_size=60),
    repeats=st.integers(1, 4),
    extra=st.integers(1, 10),
)
def test_a_run_without_branches_is_counted_as_by_hand(digests: list[int], repeats: int, extra: int) -> None:
    """Each start is one too many exactly where the window before it holds its like `repeats` times."""
    window = repeats + extra
    expected = [digests[max(0, at - window + 1) : at].count(digest) >= repeats for at, digest in enumerate(digests)]

    assert starts(LoopWatch(LoopGuard(repeats=repeats, window=window)), digests) == expected


# --- the guard ----------------------------------------------------------------------------------------------------


def test_a_guard_says_what_it_was_given() -> None:
    """It hashes and pickles, and is called by its name or by what it says."""
    guard = LoopGuard(5, 20, on_exceed="interrupt", match={"node": "agent"})

    assert (guard.repeats, guard.window, guard.on_exceed, guard.match) == (5, 20, "interrupt", (("node", "agent"),))
    assert guard.label == "loop guard: 5 repeats within 20 events where node=agent"
    assert LoopGuard(name="no circles").label == "no circles"
    assert pickle.loads(pickle.dumps(guard)) == guard
    assert len({guard, LoopGuard(), LoopGuard(3, 12)}) == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"repeats": 0}, "repeats: must be a whole number of at least 1, not 0"),
        ({"repeats": 2.5}, "repeats: must be a whole number of at least 1, not 2.5"),
        ({"repeats": True}, "repeats: must be a whole number of at least 1, not True"),
        ({"window": 3}, "window: must be more than repeats=3, or nothing is ever refused, not 3"),
        ({"window": 1001}, "window: must be at most 1000, not 1001"),
        ({"on_exceed": "stop"}, "on_exceed: must be one of raise, interrupt, drain, warn, or a function"),
        ({"match": {"nodes": "a"}}, "match: knows no 'nodes'"),
        ({"name": ""}, "name: must be a text, not ''"),
        ({"repeats": 0, "window": "x"}, "repeats: .*; window: must be a whole number of at least 1, not 'x'"),
    ],
)
def test_a_guard_that_makes_no_sense_is_refused(arguments: dict[str, object], message: str) -> None:
    """All faults at once, each naming its field."""
    with pytest.raises(BadArguments, match=f"^LoopGuard: {message}"):
        LoopGuard(**arguments)  # type: ignore[arg-type]
