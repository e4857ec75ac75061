"""The ledgers agree: whatever is written, the SQLite file says what memory says, and memory's sums are plain ones."""

import tempfile
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from langchain_finops.ledger import open_ledger
from langchain_finops.records import CallError, Record
from langchain_finops.testing.records import DAY, MONDAY, a_call, a_charge, a_run, an_event, an_outcome
from langchain_finops.usage import Usage

few = st.sampled_from
who = st.fixed_dictionaries(
    {},
    optional={
        "agent_id": few(["a", "b"]),
        "user_id": few(["u", "v", ""]),
        "task_id": few(["t1", "t2", "t3"]),
        "node_path": few(["plan", "plan/search"]),
        "project": few(["ours", None]),
        "step": few([1, 2]),
        "role": few(["agent", "judge"]),
        "tags": few([{}, {"team": "cx"}]),
    },
)
moments = st.integers(-3 * 24, 3 * 24).map(lambda hours: MONDAY + timedelta(hours=hours, microseconds=hours))
amounts = st.none() | st.integers(-(10**15), 10**18).map(lambda pico: Decimal(pico).scaleb(-12))
spent = st.none() | st.integers(0, 10**18).map(lambda pico: Decimal(pico).scaleb(-12))
names = few(["1", "2", "3", "4"])
runs = few(["r1", "r2"])


@st.composite
def calls(draw: Any) -> Record:
    return a_call(
        draw(names),
        **draw(who),
        run_id=draw(runs),
        invocation_id=draw(few(["i1", "i2"])),
        model=draw(few([None, "m", "n"])),
        started_at=draw(moments),
        cost_usd=draw(spent),
        contracted_usd=draw(spent),
        billed_usd=draw(spent),
        usage=Usage(input_tokens=draw(few([0, 7])), web_searches=draw(few([0, 1])), requests=draw(few([0, 1, 2]))),
        error=draw(few([None, CallError(error_class="E", http_status=429)])),
        estimated=draw(st.booleans()),
        reasons=draw(few([(), ("a",)])),
        revision=draw(st.integers(0, 3)),
    )


@st.composite
def charges(draw: Any) -> Record:
    run_id = draw(few([None, "r1", "r3"]))
    cost, at, revision = draw(amounts), draw(moments), draw(st.integers(0, 2))
    return a_charge(draw(names), **draw(who), run_id=run_id, cost_usd=cost, at=at, revision=revision)


@st.composite
def others(draw: Any) -> Record:
    kind = draw(few(["run", "outcome", "event"]))
    if kind == "event":
        return an_event(draw(names), at=draw(moments), after=draw(few([None, {"a": [1, {}]}])))
    revision = draw(st.integers(0, 3))
    if kind == "run":
        invocation = draw(few(["i1", "i2", "i3"]))
        return a_run(draw(runs), **draw(who), invocation_id=invocation, started_at=draw(moments), revision=revision)
    return an_outcome(
        draw(few(["t1", "t2", "t4"])),
        success=draw(few([True, False, None])),
        value_usd=draw(amounts),
        scores=draw(few([{}, {"csat": 1.5, "a": 0.1}])),
        at=draw(moments),
        revision=revision,
    )


steps = st.lists(
    st.lists(calls() | charges() | others(), min_size=1, max_size=4)
    | st.tuples(st.just("prune"), moments)
    | st.tuples(st.just("forget"), few(["u", "v"])),
    max_size=12,
)
dimensions = few(["agent", "user", "task", "run", "node", "model", "status", "day", "project", "role"])
bys = st.lists(dimensions, max_size=3, unique=True)
filters = st.fixed_dictionaries(
    {},
    optional={
        "agent_id": few(["a", None]),
        "user_id": few(["u", None]),
        "model": few(["m", None]),
        "tags": few([{}, {"team": "cx"}]),
        "step": few([1]),
        "estimated": few([True]),
        "kind": few(["tool"]),
        "project": few(["ours"]),
        # Whole days: of a day that was pruned, only the whole is known.
        "since": few([MONDAY.replace(hour=0) - DAY]),
        "until": few([MONDAY.replace(hour=0) + DAY]),
    },
)


@settings(max_examples=150)
@given(steps=steps, questions=st.lists(st.tuples(bys, filters), min_size=1, max_size=4), history=st.booleans())
def test_the_file_says_what_memory_says(steps: list[Any], questions: list[Any], history: bool):
    """Every reader and every sum, after any sequence of writes, revisions, prunings and forgettings."""
    with tempfile.TemporaryDirectory() as folder:
        memory, file = open_ledger(":memory:"), open_ledger(Path(folder) / "ledger.db")
        try:
            for step in steps:
                if isinstance(step, list):
                    memory.write(*step)
                    file.write(*step)
                else:
                    assert getattr(memory, step[0])(step[1]) == getattr(file, step[0])(step[1])
            for name in ("calls", "charges", "runs", "outcomes", "events"):
                assert list(getattr(memory, name)(history=history)) == list(getattr(file, name)(history=history))
            for by, picked in questions:
                assert memory.totals(by, **picked) == file.totals(by, **picked)
            assert list(memory.calls(user_id="u", since=MONDAY)) == list(file.calls(user_id="u", since=MONDAY))
            assert list(memory.calls(task_id="t1", until=MONDAY)) == list(file.calls(task_id="t1", until=MONDAY))
        finally:
            file.close()
