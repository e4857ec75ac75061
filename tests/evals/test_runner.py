"""The runner on a real graph: what is tried, judged, counted and bought, and what is not bought twice."""

import asyncio
import json
import threading
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from typing import TYPE_CHECKING

import pytest
from langsmith.utils import get_env_var

from langchain_finops.errors import BadArguments, BadData, EvalError, TargetChanged
from langchain_finops.evals.backoff import Throttle
from langchain_finops.evals.dataset import load_dataset
from langchain_finops.evals.prepare import Options
from langchain_finops.evals.results import read_attempts
from langchain_finops.evals.runner import Progress, arun, run
from langchain_finops.evals.suite import load_suite
from langchain_finops.ledger import default_path, open_ledger
from langchain_finops.money import sum_usd
from langchain_finops.records import CallError

if TYPE_CHECKING:
    from tests.evals.conftest import Workshop

ONE_CALL = (100 * Decimal(1) + 10 * Decimal(10)) / 1_000_000
"""What a call of the scripted model costs by the suite's first card set."""


def test_every_slot_is_tried_and_judged_once(workshop: "Workshop") -> None:
    """Configurations x tasks x repeats: each has an answer, a trajectory, its exact cost and a verdict."""
    workshop.suite(suite_with("repeats: 2"))

    results = workshop.run()

    assert {(result.slot, result.try_number) for result in results.attempts} == {
        ((configuration, task, repeat), 1)
        for configuration in ("right", "wrong")
        for task in ("t1", "t2")
        for repeat in (0, 1)
    }
    for result in results.attempts:
        assert result.status == "completed"
        assert result.trajectory == ("solve", "check")
        assert result.cost_usd == result.known_usd == result.contracted_usd == result.billed_usd == ONE_CALL
        assert result.costs_by_card == {"hosted": ONE_CALL, "double": 2 * ONE_CALL}
        assert result.usage == {"input_tokens": 100, "output_tokens": 10, "requests": 1}
        assert (result.calls, result.unpriced_calls, result.overhead_usd) == (1, 0, 0)
    assert {(said.configuration, said.success) for said in results.verdicts} == {("right", True), ("wrong", False)}
    assert len(results.verdicts) == 8
    assert workshop.calls() == sorted(["answer 1", "answer 2"] * 4)


def test_the_ledger_adds_up_to_the_results(workshop: "Workshop") -> None:
    """Every call is in the run's own ledger, by configuration and node, with the outcome of every slot."""
    results = workshop.run()

    ledger = open_ledger(workshop.results / "ledger.db")
    (total,) = ledger.totals()
    assert total.totals.cost_usd == sum_usd([result.cost_usd for result in results.attempts])
    by_agent = {group.key: group for group in ledger.totals(("agent", "node"))}
    assert by_agent[("right", "solve")].totals.cost_usd == 2 * ONE_CALL
    assert (by_agent[("right", "solve")].judged, by_agent[("right", "solve")].successes) == (2, 2)
    assert (by_agent[("wrong", "solve")].judged, by_agent[("wrong", "solve")].successes) == (2, 0)
    assert {outcome.task_id for outcome in ledger.outcomes()} == {result.task_id for result in results.attempts}
    assert all(call.attribution.tags["configuration"] == call.attribution.agent_id for call in ledger.calls())
    ledger.close()
    assert not default_path().exists()


def test_the_ledger_is_the_one_named(workshop: "Workshop", monkeypatch: pytest.MonkeyPatch) -> None:
    """`ledger=` goes before $FINOPS_LEDGER, which goes before the results folder; `run.json` says which it was."""
    monkeypatch.setenv("FINOPS_LEDGER", str(workshop.folder / "env.db"))
    assert workshop.run().run["ledger"] == str(workshop.folder / "env.db")
    assert (workshop.folder / "env.db").exists()

    named = workshop.run(ledger=workshop.folder / "named.db", folder=workshop.folder / "other")
    assert named.run["ledger"] == str(workshop.folder / "named.db")
    assert not (workshop.results / "ledger.db").exists()


def test_a_finished_run_is_shown_again_and_buys_nothing(workshop: "Workshop") -> None:
    """The same command on a finished run neither asks the model nor changes a figure."""
    first = workshop.run()
    workshop.calls()

    again = workshop.run()

    assert workshop.calls() == []
    assert list(again.attempts) == list(first.attempts)
    assert list(again.verdicts) == list(first.verdicts)
    assert again.run == first.run


def test_a_changed_item_runs_again_alone(workshop: "Workshop") -> None:
    """Other items keep their answers; what the changed one's old answers cost is on file and in no figure."""
    workshop.run()
    workshop.calls()
    workshop.dataset.write_text(
        workshop.dataset.read_text().replace('"number": 2', '"number": 3').replace('"4"', '"6"')
    )

    results = workshop.run()

    assert workshop.calls() == ["answer 3", "answer 3"]
    assert results.outdated == 2
    assert len(results.attempts) == len(results.verdicts) == 4
    assert {said.success for said in results.verdicts if said.configuration == "right"} == {True}
    assert [result.try_number for result in results.attempts] == [1, 1, 2, 2]


def test_a_corrected_reference_judges_again_and_buys_nothing(workshop: "Workshop") -> None:
    """Answers are kept apart from verdicts: the ledger's outcome follows the new verdict."""
    workshop.run()
    workshop.calls()
    workshop.dataset.write_text(workshop.dataset.read_text().replace('"answer": "4"', '"answer": "5"'))

    results = workshop.run()

    assert workshop.calls() == []
    said = {(verdict.configuration, verdict.task): verdict.success for verdict in results.verdicts}
    assert said == {("right", "t1"): True, ("wrong", "t1"): False, ("right", "t2"): False, ("wrong", "t2"): True}
    ledger = open_ledger(workshop.results / "ledger.db")
    outcomes = {tuple(outcome.task_id.split("/")[1:3]): outcome.success for outcome in ledger.outcomes()}
    ledger.close()
    assert outcomes == said


def test_a_new_scorer_judges_stored_answers(workshop: "Workshop") -> None:
    """Another scorer, or a scorer's other code, rescores without buying answers."""
    workshop.run()
    workshop.calls()
    scoring = workshop.folder / "scoring.py"
    scoring.write_text("def score(answer, outputs):\n    return True\n")
    workshop.suite(suite_with("", scorer='{type: python, function: "scoring:score"}'))

    results = workshop.run()

    assert workshop.calls() == []
    assert {verdict.scorer for verdict in results.verdicts} == {"python"}
    assert {verdict.success for verdict in results.verdicts} == {True}


def test_more_repeats_buy_only_what_is_missing(workshop: "Workshop") -> None:
    """Raising `repeats` adds slots; lowering it leaves them out of the figures."""
    workshop.run()
    workshop.calls()
    workshop.suite(suite_with("repeats: 2"))
    assert len(workshop.run().attempts) == 8
    assert workshop.calls() == sorted(["answer 1", "answer 2"] * 2)

    workshop.suite(suite_with(""))
    assert len(workshop.run().attempts) == 4
    assert workshop.calls() == []


def test_a_changed_configuration_runs_again_alone(workshop: "Workshop") -> None:
    """Answers of the parameters before are no answers of these."""
    workshop.run()
    workshop.calls()
    workshop.suite(suite_with("", wrong="{name: wrong, wrong: true, model: gpt-4.1}"))

    results = workshop.run()

    assert workshop.calls() == ["answer 1", "answer 2"]
    assert len(results.attempts) == 4


def test_a_changed_target_is_refused(workshop: "Workshop") -> None:
    """Old answers are not passed off as the new code's; `allow_mixed` keeps them, `fresh` starts anew."""
    (workshop.folder / "helper.py").write_text("X = 1\n")
    agent = workshop.folder / "agent.py"
    agent.write_text("import helper\n" + agent.read_text())
    workshop.run()
    workshop.calls()
    (workshop.folder / "helper.py").write_text("X = 2\n")

    with pytest.raises(TargetChanged, match=r"code has changed since 4 of the stored attempts.*--fresh.*--allow-mixed"):
        workshop.run()
    assert len(workshop.run(allow_mixed=True).attempts) == 4
    assert workshop.calls() == []

    workshop.run(fresh=True)
    assert len(workshop.calls()) == 4
    (aside,) = workshop.results.parent.glob("tasks-until-*")
    assert len(read_attempts(aside)[0]) == 4


def test_outages_are_tried_again_and_their_cost_adds_up(workshop: "Workshop") -> None:
    """A transient error is tried again within its slot, each try a line of its own; the last one decides."""
    workshop.data(number=[1], do=["status-503-2"])
    workshop.suite(suite_with("", wrong=""))

    results = workshop.run()

    assert [(result.try_number, result.status, result.stop_reason) for result in results.attempts] == [
        (1, "error", "infrastructure"),
        (2, "error", "infrastructure"),
        (3, "completed", None),
    ]
    assert results.attempts[0].error == CallError(error_class="Refused", http_status=503)
    assert [result.cost_usd for result in results.attempts] == [0, 0, ONE_CALL]
    assert len({result.task_id for result in results.attempts}) == 1
    assert [verdict.success for verdict in results.verdicts] == [True]


def test_tries_are_bounded_and_errors_stay_errors(workshop: "Workshop") -> None:
    """After the last try the slot is an error, without a verdict; it is tried again only when asked to."""
    workshop.data(number=[1], do=["status-429-5"])
    workshop.suite(suite_with("tries: 2", wrong=""))

    results = workshop.run()
    assert [result.status for result in results.attempts] == ["error", "error"]
    assert results.verdicts == []
    ledger = open_ledger(workshop.results / "ledger.db")
    assert [(outcome.success, outcome.reason) for outcome in ledger.outcomes()] == [(False, "infrastructure")]
    ledger.close()

    assert len(workshop.run().attempts) == 2
    assert [result.status for result in workshop.run(retry_errors=True).attempts] == ["error"] * 4
    assert [result.status for result in workshop.run(retry_errors=True).attempts] == ["error"] * 5 + ["completed"]


@pytest.mark.parametrize(
    ("act", "reason", "error"),
    [
        ("status-401-9", "infrastructure", CallError(error_class="Refused", http_status=401)),
        ("status-400-9", "target", CallError(error_class="Refused", http_status=400)),
        ("bug", "target", CallError(error_class="KeyError")),
    ],
)
def test_what_would_fail_again_is_not_tried_again(
    workshop: "Workshop", act: str, reason: str, error: CallError
) -> None:
    """A refused key, a bad request and a bug of the target are errors at once, told apart."""
    workshop.data(number=[1], do=[act])
    workshop.suite(suite_with("", wrong=""))

    (result,) = workshop.run().attempts

    assert (result.status, result.stop_reason, result.error, result.answer) == ("error", reason, error, None)


def test_a_swallowed_outage_is_no_wrong_answer(workshop: "Workshop") -> None:
    """A target that answers although no call came through was not wrong: the infrastructure failed."""
    workshop.data(number=[1], do=["swallow"])
    workshop.suite(suite_with("tries: 1", wrong=""))

    (result,) = workshop.run().attempts

    assert (result.status, result.stop_reason, result.failed_calls) == ("error", "infrastructure", 1)
    assert result.error == CallError(error_class="ConnectionError")


def test_an_outage_ends_the_run(workshop: "Workshop") -> None:
    """Ten slots in a row without an answer end the run with a sentence; the same command goes on, errors on request."""
    workshop.data(number=list(range(1, 31)), do=["status-401-10"] * 30)
    workshop.suite(suite_with("concurrency: 1", wrong=""))

    with pytest.raises(EvalError, match=r"10 attempts in a row ended in Refused \(HTTP status 401\).*--retry-errors"):
        workshop.run()
    assert len(read_attempts(workshop.results)[0]) == 10

    results = workshop.run(retry_errors=True)
    assert len(results.verdicts) == 30


def test_a_time_limit_stops_an_attempt_and_counts_its_cost(workshop: "Workshop") -> None:
    """What was bought before the limit counts; the attempt is stopped, which is neither an error nor an answer."""
    workshop.data(number=[1], do=["hang"])
    workshop.suite(suite_with("limits: {seconds: 0.2}", wrong=""))

    (result,) = workshop.run().attempts

    assert (result.status, result.stop_reason, result.error) == ("stopped", "time_limit", None)
    assert result.cost_usd == ONE_CALL
    assert workshop.calls() == ["answer 1"]


def test_a_thread_is_stopped_at_its_next_call(workshop: "Workshop") -> None:
    """A target without an `ainvoke` runs in a thread, and its time limit holds there too."""
    agent = workshop.folder / "agent.py"
    agent.write_text(agent.read_text() + THREADED)
    workshop.suite(suite_with("limits: {seconds: 0.2}", wrong="").replace("agent:build", "agent:threaded"))

    results = workshop.run()

    assert [(result.status, result.stop_reason) for result in results.attempts] == [("stopped", "time_limit")] * 2
    assert all(result.cost_usd == ONE_CALL for result in results.attempts)
    assert workshop.calls() == ["answer 1", "answer 2"]


THREADED = '''

from langchain_core.runnables import Runnable


class Threaded(Runnable):
    """Asks once, waits until it is told that its time is up, and asks again."""

    def invoke(self, input, config=None, **_):
        assert threading.current_thread() is not threading.main_thread()
        model = Scripted()
        model.invoke(f"answer {input['number']}", config)
        watch = next(handler for handler in config["callbacks"].handlers if hasattr(handler, "watch")).watch
        while watch._deadline > 0:
            threading.Event().wait(0.01)
        return {"answer": model.invoke(f"answer {input['number']}", config).content}


def threaded(configuration):
    return Threaded()
'''


def test_a_recursion_limit_stops_an_attempt(workshop: "Workshop") -> None:
    """LangGraph's own limit is handed on; each step before it counts."""
    workshop.data(number=[1], do=["loop"])
    workshop.suite(suite_with("limits: {recursion_limit: 5}", wrong=""))

    (result,) = workshop.run().attempts

    assert (result.status, result.stop_reason) == ("stopped", "recursion_limit")
    assert result.trajectory == ("solve", "check", "solve", "check", "solve")
    assert result.cost_usd == 3 * ONE_CALL


def test_a_graph_that_asks_a_person_hands_off(workshop: "Workshop") -> None:
    """An interrupt that no script answers is no answer, and no limit's stop."""
    workshop.data(number=[1], do=["interrupt"])
    workshop.suite(suite_with("", wrong=""))

    (result,) = workshop.run().attempts

    assert (result.status, result.stop_reason) == ("handed_off", "interrupt")


def test_an_unknown_price_is_unknown(workshop: "Workshop") -> None:
    """A model without a price makes the attempt's cost unknown, not zero."""
    workshop.suite(suite_with("", wrong="{name: wrong, model: nobody-knows-1}"))

    results = workshop.run()

    unknown = [result for result in results.attempts if result.configuration == "wrong"]
    assert all(result.cost_usd is None for result in unknown)
    assert all(result.known_usd == 0 and result.unpriced_calls == 1 for result in unknown)
    assert all(result.costs_by_card == {"hosted": None, "double": None} for result in unknown)


def test_the_card_set_is_chosen(workshop: "Workshop") -> None:
    """The ledger and the attempts are priced by the set that is named."""
    results = workshop.run(cards="double")

    assert {result.cost_usd for result in results.attempts} == {2 * ONE_CALL}
    assert results.run["cards"] == "double"
    with pytest.raises(BadArguments, match=r"'triple' is no card set of .*: it has hosted, double"):
        workshop.run(cards="triple")


def test_nothing_runs_where_something_is_wrong(workshop: "Workshop") -> None:
    """References and names are checked first; all faults are told at once, and nothing is written."""
    workshop.suite(suite_with("", scorer="{type: numeric, expected_field: total}").replace("agent:build", "agent:bild"))

    with pytest.raises(BadData) as caught:
        workshop.run()

    assert [fault.where.rpartition("/")[2] for fault in caught.value.faults] == [
        "tasks.jsonl:1: outputs.total",
        "tasks.jsonl:2: outputs.total",
        "tasks.yaml: target",
    ]
    assert "has no 'bild'" in caught.value.faults[2].what
    assert workshop.calls() == []
    assert not workshop.results.exists()


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("raise RuntimeError('no key')", r"cannot be built for configurations 'right', 'wrong': RuntimeError: no key"),
        ("return 5", r"'agent:broken' returned int, which is no Runnable"),
    ],
)
def test_a_target_that_cannot_be_built_is_told_before_anything_is_bought(
    workshop: "Workshop", body: str, message: str
) -> None:
    """Every configuration is built first."""
    agent = workshop.folder / "agent.py"
    agent.write_text(agent.read_text() + f"\n\ndef broken(configuration):\n    {body}\n")
    workshop.suite(suite_with("").replace("agent:build", "agent:broken"))

    with pytest.raises(BadData, match=message):
        workshop.run()
    assert workshop.calls() == []
    assert not workshop.results.parent.exists()


def test_one_run_at_a_time_in_a_folder(workshop: "Workshop") -> None:
    """A second run into the same folder is refused: it would buy the same answers."""
    from langchain_finops.evals.resume import folder_lock

    with folder_lock(workshop.results), pytest.raises(EvalError, match="another run is writing here"):
        workshop.run()
    assert len(workshop.run().attempts) == 4


def test_a_torn_line_is_tried_again_and_told(workshop: "Workshop") -> None:
    """A crash in the middle of a line costs that line only; files before it are as they were."""
    workshop.suite(suite_with("concurrency: 1"))
    workshop.run()
    workshop.calls()
    path = workshop.results / "attempts.jsonl"
    path.write_bytes(path.read_bytes()[:-20])

    results = workshop.run()

    assert workshop.calls() == ["answer 2"]
    # The call of the torn line is in the ledger, so it was paid for: it counts as an interrupted try.
    assert [(result.try_number, result.status, result.stop_reason) for result in results.attempts[-2:]] == [
        (1, "error", "interrupted"),
        (2, "completed", None),
    ]
    assert sum_usd([result.known_usd for result in results.attempts]) == 5 * ONE_CALL
    assert all(json.loads(line) for line in path.read_text().splitlines())


def test_a_folder_of_another_mode_is_refused(workshop: "Workshop") -> None:
    """Replayed and live answers never mix."""
    workshop.run()
    run = json.loads((workshop.results / "run.json").read_text())
    (workshop.results / "run.json").write_text(json.dumps({**run, "mode": "replay"}))

    with pytest.raises(EvalError, match="holds a replay run, which a live run must not be mixed with"):
        workshop.run()


def test_progress_is_told(workshop: "Workshop") -> None:
    """The observer hears of every finished slot, and what was spent."""
    seen: list[Progress] = []
    dataset, suite = load_dataset(workshop.dataset), load_suite(workshop.folder / "tasks.yaml")

    asyncio.run(arun(dataset, suite, Options(concurrency=1), observer=seen.append))

    assert [(stand.done, stand.total) for stand in seen] == [(0, 4), (1, 4), (2, 4), (3, 4), (4, 4)]
    assert seen[-1].known_usd == 4 * ONE_CALL


@pytest.mark.parametrize("trace", [False, True])
def test_langsmith_sees_attempts_only_when_asked(
    workshop: "Workshop", monkeypatch: pytest.MonkeyPatch, trace: bool
) -> None:
    """Tracing that the environment turns on is off during attempts unless `trace` is on."""
    agent = workshop.folder / "agent.py"
    agent.write_text(agent.read_text() + TRACED)
    workshop.suite(suite_with("", wrong="").replace("agent:build", "agent:traced"))
    monkeypatch.setenv("LANGSMITH_TRACING", "true")
    get_env_var.cache_clear()  # LangSmith remembers what the environment said at first.

    results = workshop.run(trace=trace)

    get_env_var.cache_clear()
    assert {result.answer["answer"] for result in results.attempts} == {str(trace)}


TRACED = """

from langchain_core.runnables import Runnable
from langsmith.utils import tracing_is_enabled


class Traced(Runnable):
    async def ainvoke(self, input, config=None, **_):
        return {"answer": str(bool(tracing_is_enabled()))}

    def invoke(self, input, config=None, **_):
        raise NotImplementedError


def traced(configuration):
    return Traced()
"""


def suite_with(more: str, *, wrong: str = "{name: wrong, wrong: true}", scorer: str = "exact") -> str:
    """The workshop's suite with other parts."""
    second = f"\n  - {wrong}" if wrong else ""
    return f"""
target: agent:build
scorer: {scorer}
configurations:
  - {{name: right}}{second}
cards:
  hosted: [{{id: hosted, match: {{model: "gpt-4.1*"}}, rates: {{input_tokens: 1, output_tokens: 10}}}}]
  double: [{{id: double, match: {{model: "gpt-4.1*"}}, rates: {{input_tokens: 2, output_tokens: 20}}}}]
{more}
"""


def test_changed_prices_price_stored_answers_again(workshop: "Workshop") -> None:
    """A corrected card, or another card set, changes every figure, in the ledger too, and buys nothing."""
    workshop.run()
    workshop.calls()
    text = (workshop.folder / "tasks.yaml").read_text()
    workshop.suite(text.replace("input_tokens: 1,", "input_tokens: 3,"))
    corrected = (100 * Decimal(3) + 10 * Decimal(10)) / 1_000_000

    results = workshop.run()

    assert results.repriced == 4
    assert {result.cost_usd for result in results.attempts} == {corrected}
    assert all(result.costs_by_card == {"hosted": corrected, "double": 2 * ONE_CALL} for result in results.attempts)
    assert list(read_attempts(workshop.results)[0]) == list(results.attempts)
    ledger = open_ledger(workshop.results / "ledger.db")
    assert [(call.cost_usd, call.revision) for call in ledger.calls()] == [(corrected, 1)] * 4
    assert len(list(ledger.calls(history=True))) == 8
    ledger.close()

    double = workshop.run(cards="double")
    assert {result.cost_usd for result in double.attempts} == {2 * ONE_CALL}
    ledger = open_ledger(workshop.results / "ledger.db")
    (total,) = ledger.totals()
    ledger.close()
    assert total.totals.cost_usd == 8 * ONE_CALL
    assert workshop.calls() == []


def test_prices_that_cannot_be_looked_up_again_are_told(workshop: "Workshop") -> None:
    """Without the calls no figure is guessed: the error names the ledger and the remedy."""
    workshop.run()
    before = (workshop.results / "attempts.jsonl").read_bytes()
    (workshop.results / "ledger.db").unlink()

    with pytest.raises(EvalError, match=r"prices have changed, and the ledger .*ledger\.db does not have the calls"):
        workshop.run(cards="double")
    assert (workshop.results / "attempts.jsonl").read_bytes() == before


def test_a_target_that_cancels_itself_is_an_error(workshop: "Workshop") -> None:
    """A stray CancelledError of the target ends its attempt, not the run."""
    agent = workshop.folder / "agent.py"
    agent.write_text(agent.read_text() + CANCELLING)
    workshop.suite(suite_with("concurrency: 1", wrong="").replace("agent:build", "agent:cancelling"))

    results = workshop.run()

    assert [(result.status, result.stop_reason) for result in results.attempts] == [("error", "target")] * 2
    assert results.run["finished_at"] is not None


CANCELLING = """

from langchain_core.runnables import RunnableLambda


async def _cancel(_):
    raise asyncio.CancelledError


def cancelling(configuration):
    return RunnableLambda(_cancel)
"""


def test_an_outcome_that_a_crash_lost_is_logged_later(workshop: "Workshop") -> None:
    """A line may be on disk before its outcome is in the ledger: the next run adds what is missing, once."""
    workshop.data(number=[1], do=["bug"])
    workshop.suite(suite_with("", wrong=""))
    first = workshop.run()
    (workshop.results / "ledger.db").unlink()
    run = {**first.run, "finished_at": None}
    (workshop.results / "run.json").write_text(json.dumps(run))

    workshop.run()
    workshop.run()

    ledger = open_ledger(workshop.results / "ledger.db")
    assert [(outcome.success, outcome.reason) for outcome in ledger.outcomes(history=True)] == [(False, "target")]
    ledger.close()


def test_at_most_so_many_attempts_at_once(workshop: "Workshop") -> None:
    """The concurrency limit holds, and is used."""
    agent = workshop.folder / "agent.py"
    agent.write_text(agent.read_text() + COUNTING)
    workshop.data(number=list(range(12)))
    workshop.suite(suite_with("concurrency: 3", wrong="").replace("agent:build", "agent:counting"))

    results = workshop.run()

    assert max(result.answer["running"] for result in results.attempts) == 3
    assert [result.slot for result in results.attempts] == [("right", f"t{n}", 0) for n in range(12)]


COUNTING = """

from langchain_core.runnables import RunnableLambda

RUNNING = 0


async def _count(_):
    global RUNNING
    RUNNING += 1
    for _ in range(5):
        await asyncio.sleep(0)
    seen = RUNNING
    RUNNING -= 1
    return {"running": seen, "answer": "x"}


def counting(configuration):
    return RunnableLambda(_count)
"""


def test_a_full_service_is_asked_less(workshop: "Workshop", monkeypatch: pytest.MonkeyPatch) -> None:
    """Four attempts at once meet 429: the slots are tried again, and nothing is lost or counted twice."""
    throttles: list[Throttle] = []

    def noted(self: Throttle, provider: str, wait_s: float | None) -> None:
        throttles.append(self)
        refused(self, provider, wait_s)

    refused = Throttle.refused
    monkeypatch.setattr(Throttle, "refused", noted)
    workshop.data(number=list(range(6)), do=["status-429-2", *["answer"] * 5])
    workshop.suite(suite_with("concurrency: 4", wrong=""))

    results = workshop.run()

    completed = [result.task for result in results.attempts if result.status == "completed"]
    assert sorted(completed) == [f"t{n}" for n in range(6)]
    assert [result.status for result in results.attempts if result.task == "t0"] == ["error", "error", "completed"]
    assert len(throttles) == 2
    assert throttles[0].pace("openai").limit < 4


async def test_a_notebook_awaits_its_run(workshop: "Workshop") -> None:
    """Under a running loop `arun` is awaited, and leaves the loop's own threads as they were; `run` says so."""
    loop = asyncio.get_running_loop()
    executor = ThreadPoolExecutor(1, "own")
    loop.set_default_executor(executor)
    dataset, suite = load_dataset(workshop.dataset), load_suite(workshop.folder / "tasks.yaml")

    with pytest.raises(BadArguments, match=r"an event loop is running here.*use `await arun\(\.\.\.\)`"):
        run(dataset, suite)
    results = await arun(dataset, suite)

    assert len(results.verdicts) == 4
    assert (await asyncio.to_thread(threading.current_thread)).name.startswith("own")


def test_progress_forecasts_what_all_will_cost(workshop: "Workshop") -> None:
    """Eight slots of two configurations; after one of each at $0.0002 the rest is known, before that nothing is."""
    workshop.data(number=[1, 2, 3, 4])
    seen: list[Progress] = []
    dataset, suite = load_dataset(workshop.dataset), load_suite(workshop.folder / "tasks.yaml")

    asyncio.run(arun(dataset, suite, Options(concurrency=1), observer=seen.append))

    assert [stand.forecast_usd for stand in seen] == [None, None, *[8 * ONE_CALL] * 7]
