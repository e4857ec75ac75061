"""What was done for tasks: the tables say what the records say, whatever was written, revised or folded."""

import tempfile
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from langchain_finops.ledger import open_ledger
from langchain_finops.ledger.doings import daily_costs, with_doings
from langchain_finops.ledger.grouping import Period
from langchain_finops.ledger.work import Verdict, known_tasks, work_done
from langchain_finops.records import CallError, Record
from langchain_finops.testing.records import DAY, MONDAY, a_call, a_charge, an_outcome
from langchain_finops.usage import Usage

few = st.sampled_from
moments = st.integers(-72, 72).map(lambda hours: MONDAY + timedelta(hours=hours, microseconds=hours))
who = st.fixed_dictionaries(
    {"agent_id": few(["a", "b", None]), "task_id": few(["t1", "t2", None]), "user_id": few(["u", None])},
    optional={"role": few(["judge", "overhead"]), "attempt": few([1, 2]), "step": few([1, 3])},
)
usds = few([None, "0", "0.5", "3"])


@st.composite
def records(draw: Any) -> Record:
    kind, revision = draw(few(["call", "call", "charge", "outcome"])), draw(st.integers(0, 2))
    if kind == "outcome":
        task, value = draw(few(["t1", "t2"])), draw(few([None, 0, 5]))
        success = draw(few([True, False, None]))
        return an_outcome(task, success=success, value_usd=value, at=draw(moments), revision=revision)
    names = draw(few(["1", "2", "3", "4", "5"]))
    if kind == "charge":
        type_ = draw(few(["human", "tool"]))
        return a_charge(names, usd=draw(usds), kind=type_, at=draw(moments), revision=revision, **draw(who))
    error = draw(few([None, CallError(error_class="E", http_status=429)]))
    usage = Usage(input_tokens=draw(few([0, 7])), output_tokens=draw(few([0, 20])), audio_output_tokens=1)
    return a_call(
        names, usd=draw(usds), usage=usage, error=error, run_id=draw(few(["r1", "r2"])), started_at=draw(moments),
        revision=revision, **draw(who),
    )  # fmt: skip


steps = st.lists(st.lists(records(), min_size=1, max_size=5) | st.tuples(st.just("prune"), moments), max_size=8)
bys = few([(), ("agent",), ("user",), ("agent", "user"), ("model", "user", "agent")])


@settings(max_examples=60)
@given(steps=steps, by=bys, from_monday=st.booleans())
def test_the_file_says_what_memory_says(steps: list[Any], by: tuple[str, ...], from_monday: bool):
    """Work, runs, retries, verdicts and what names no task, after revisions and foldings of either kind."""
    period = Period.of(MONDAY.replace(hour=0), None) if from_monday else Period()
    with tempfile.TemporaryDirectory() as folder:
        memory, file = open_ledger(":memory:"), open_ledger(Path(folder) / "ledger.db")
        try:
            for step in steps:
                for ledger in (memory, file):
                    ledger.write(*step) if isinstance(step, list) else ledger.prune(step[1])
            folded = any(not isinstance(step, list) for step in steps)
            if not (folded and from_monday):  # Of a folded day, when in it something was is not known to a file.
                assert _plain(work_done(file, by, period)) == _plain(work_done(memory, by, period))
        finally:
            file.close()


def _plain(done: Any) -> Any:
    work = sorted((id_, str(key), str(work)) for id_, task in done.tasks.items() for key, work in task.work.items())
    tasks = sorted((id_, task.runs, task.retried, str(task.verdict)) for id_, task in done.tasks.items())
    return work, tasks, sorted((str(key), str(work)) for key, work in done.rest.items())


@pytest.fixture(params=["memory", "file"])
def ledger(request, tmp_path):
    opened = open_ledger(":memory:" if request.param == "memory" else tmp_path / "ledger.db")
    yield opened
    opened.close()


def test_the_last_answered_call_of_an_agent_is_the_final_answer(ledger):
    """Neither a failed call nor a summariser's or a judge's is; a call that was priced again counts once."""
    out = {number: Usage(output_tokens=number) for number in (10, 20, 30, 40, 50)}
    failed = CallError(error_class="E", http_status=500)
    for number, changes in (
        (10, {}), (20, {}), (30, {"error": failed}), (40, {"role": "overhead"}), (50, {"role": "judge"}),
    ):  # fmt: skip
        at = MONDAY + timedelta(seconds=number)
        ledger.write(a_call(str(number), task_id="t", usage=out[number], started_at=at, **changes))
    ledger.write(
        a_call("20", usd="9", task_id="t", usage=out[20], started_at=MONDAY + timedelta(seconds=20), revision=1)
    )

    (work,) = work_done(ledger, ()).tasks["t"].work.values()
    assert (work.answer_tokens, work.output_tokens, work.calls) == (20, 100, 4)
    assert work.pico == (9 * 4 + 3) * 250_000_000_000  # $9 and three of $0.25


def test_a_verdict_stands_since_the_first_that_says_the_same(ledger):
    """Success on day 0, reopened on day 1, success on days 2 and 3: it stands since day 2, and was reopened."""
    ledger.write(a_call(task_id="t"))
    for day, success in enumerate([True, False, True, True]):
        ledger.write(an_outcome("t", success=success, value_usd=day, at=MONDAY + day * DAY))

    verdict = work_done(ledger, ()).tasks["t"].verdict
    assert verdict == Verdict(
        success=True, value_pico=3 * 10**12, since=round((MONDAY + 2 * DAY).timestamp() * 10**6), reopened=True
    )


def test_a_second_try_of_a_node_is_noted(ledger):
    """`attempt` 2 makes a task retried, 1 and none do not."""
    for task, attempt in (("one", 1), ("two", 2), ("none", None)):
        ledger.write(a_call(task, task_id=task, step=1, attempt=attempt))

    assert {id_: task.retried for id_, task in work_done(ledger, ()).tasks.items()} == {
        "one": False, "two": True, "none": False,
    }  # fmt: skip


def test_known_tasks_are_those_that_any_record_names(ledger):
    """Folded ones too; an outcome alone does not make a task known."""
    ledger.write(a_call("1", task_id="t1"), a_charge("2", task_id="t2"), an_outcome("t3"))
    ledger.prune(MONDAY + 3 * DAY)
    assert known_tasks(ledger) == {"t1", "t2"}


def test_every_database_says_the_same(postgres_url, tmp_path):
    """PostgreSQL, SQLite and memory: work, retries, verdicts, days and doings, revisions and foldings included."""
    ledgers = [open_ledger(where) for where in (":memory:", tmp_path / "ledger.db", postgres_url)]
    failed = CallError(error_class="E", http_status=500)
    for ledger in ledgers:
        for day in range(6):
            at = MONDAY + day * DAY
            who = {"agent_id": f"a{day % 2}", "user_id": "u", "task_id": f"t{day % 3}", "started_at": at}
            ledger.write(
                a_call(f"c{day}", usd=f"1{day}", run_id=f"r{day}", step=2, attempt=day % 3 or None, **who),
                a_call(f"f{day}", usd=None, run_id=f"r{day}", error=failed, **who),
                a_charge(f"h{day}", usd="3", kind="human", agent_id="a0", at=at),
                an_outcome(f"t{day % 3}", success=day % 2 == 0, value_usd=day or None, at=at),
            )
            ledger.write(
                a_call(f"c{day}", usd="7", run_id=f"r{day}", step=2, attempt=day % 3 or None, revision=1, **who)
            )
        ledger.prune(MONDAY + DAY)
    seen = [
        (
            _plain(work_done(ledger, ("agent", "user"))),
            known_tasks(ledger),
            with_doings(ledger, Period.of(MONDAY + DAY, None), lambda doings: sorted(map(str, doings))),
            sorted(map(str, daily_costs(ledger, Period.of(MONDAY + DAY, None)).items())),
        )
        for ledger in ledgers
    ]
    for ledger in ledgers:
        ledger.close()
    assert seen[0] == seen[1] == seen[2]
    assert len(seen[0][2]) == 15
