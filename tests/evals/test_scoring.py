"""`score`: stored answers judged again, none bought."""

import json
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.evals.test_judges import JUDGED_USD, NO, YES, says
from tests.evals.test_judges import SUITE as JUDGED
from tests.integration.provider_server import Answer, provider_server

from langchain_finops.errors import BadData, EvalError
from langchain_finops.evals.gating import gate
from langchain_finops.evals.labels import agreements, agreements_in_words
from langchain_finops.evals.results import read_verdicts
from langchain_finops.evals.resume import load_results, table_of
from langchain_finops.evals.scoring import ScoreOptions, score
from langchain_finops.evals.suite import load_suite
from langchain_finops.ledger import open_ledger
from langchain_finops.records import Outcome

if TYPE_CHECKING:
    from tests.evals.conftest import Workshop

LENIENT = """
target: agent:build
scorer: {type: numeric, name: near, tolerance: 1}
configurations: [{name: another}]
cards:
  hosted: [{id: hosted, match: {model: "gpt-4.1*"}, rates: {input_tokens: 1, output_tokens: 10}}]
  double: [{id: double, match: {model: "gpt-4.1*"}, rates: {input_tokens: 2, output_tokens: 20}}]
"""


@pytest.fixture(autouse=True)
def _key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JUDGE_KEY", "secret-of-the-judge")


def rescored(workshop: "Workshop", text: str) -> Path:
    path = workshop.folder / "other.yaml"
    path.write_text(text)
    return path


def test_new_scorers_judge_stored_answers_and_buy_none(workshop: "Workshop") -> None:
    """What was one off is near enough by the new scorer; no model is asked, and old verdicts stay in the file."""
    workshop.run()
    workshop.calls()

    results = score(workshop.results, load_suite(rescored(workshop, LENIENT)))

    assert workshop.calls() == []
    assert {(each.scorer, each.configuration, each.success) for each in results.verdicts} == {
        ("near", "right", True),
        ("near", "wrong", True),
    }
    assert len(results.attempts) == 4
    kept, _ = read_verdicts(workshop.results)
    assert [each.scorer for each in kept].count("exact") == 4
    assert [row["success_rate"] for row in table_of(results).rows] == [1.0, 1.0]


def test_the_ledger_has_the_new_outcomes(workshop: "Workshop") -> None:
    """A task's outcome is revised, not added to."""
    workshop.run()

    score(workshop.results, load_suite(rescored(workshop, LENIENT)))

    ledger = open_ledger(str(workshop.results / "ledger.db"))
    assert [outcome.success for outcome in ledger.outcomes()] == [True] * 4
    ledger.close()


def test_scoring_again_goes_on_with_the_same_scorers(workshop: "Workshop") -> None:
    """Without a suite, that of the last scoring counts; what is judged is not judged again."""
    workshop.run()
    score(workshop.results, load_suite(rescored(workshop, LENIENT)))
    before = (workshop.results / "scores.jsonl").read_bytes()

    results = score(workshop.results)

    assert {each.scorer for each in results.verdicts} == {"near"}
    assert (workshop.results / "scores.jsonl").read_bytes() == before


def test_a_corrected_reference_is_judged_by(workshop: "Workshop") -> None:
    """Answers stay; the dataset's new reference decides."""
    workshop.run()
    lines = workshop.dataset.read_text().replace('"answer": "2"', '"answer": "3"')
    workshop.dataset.write_text(lines)

    results = score(workshop.results)

    said = {(each.configuration, each.task): each.success for each in results.verdicts}
    assert said == {("right", "t1"): False, ("wrong", "t1"): True, ("right", "t2"): True, ("wrong", "t2"): False}


def test_another_question_is_refused(workshop: "Workshop") -> None:
    """An item whose inputs have changed has no answer, and one that is gone has no reference: both are told."""
    workshop.run()
    workshop.data(number=[1, 3])
    workshop.dataset.write_text(workshop.dataset.read_text().replace('"number": 1', '"number": 7'))

    with pytest.raises(BadData) as raised:
        score(workshop.results)

    assert "tasks.jsonl: item 't2' is gone, which was answered" in str(raised.value)
    assert "tasks.jsonl:1: asks something else than was answered" in str(raised.value)


def test_no_results_folder_is_made(workshop: "Workshop") -> None:
    """What is no results folder is refused, and left as it is."""
    with pytest.raises(EvalError, match="is no results folder"):
        score(workshop.folder / "nowhere")

    assert not (workshop.folder / "nowhere").exists()


def test_a_judge_is_asked_once_about_each_answer_and_on_the_runs_money(workshop: "Workshop") -> None:
    """Its cost is added to what the run has cost; at the maximum it stops, says so, and goes on with more."""
    workshop.suite(LENIENT.replace("{name: another}", "{name: right}, {name: wrong, wrong: true}"))
    workshop.run()
    with provider_server() as server:
        server.answers = [says(YES)]
        judged = rescored(workshop, JUDGED.format(url=server.url))

        # Four attempts have cost 0.0008. A verdict of 0.0004 fits into 0.0013, a second one does not.
        results = score(workshop.results, load_suite(judged), ScoreOptions(max_usd="0.0013"))

        assert len(server.seen) == 1
        assert "3 answers are yet to be judged" in results.run["stopped"]
        said = [each.success for each in results.verdicts if each.scorer == "right"]
        assert sorted(map(str, said)) == ["None", "True"], "the others have not been judged by any scorer"

        results = score(workshop.results, options=ScoreOptions(max_usd="0.0024"))

        assert len(server.seen) == 4
        assert sum(each.known_usd for each in results.verdicts) == 4 * JUDGED_USD
        assert results.run["stopped"] is None


def test_a_judge_that_was_not_reached_is_asked_again(workshop: "Workshop", monkeypatch: pytest.MonkeyPatch) -> None:
    """Outages are no verdicts: scoring again asks about those answers alone."""
    monkeypatch.setattr("langchain_finops.evals.court.LONGEST_WAIT_S", 0.0)
    workshop.run()
    with provider_server() as server:
        server.answers = [says(YES), Answer(status=503), Answer(status=503), Answer(status=503), says(NO)]
        judged = load_suite(rescored(workshop, JUDGED.format(url=server.url)))

        first = score(workshop.results, judged)
        assert [each.stop_reason for each in first.verdicts if each.scorer == "right"].count("infrastructure") == 1
        asked = len(server.seen)

        second = score(workshop.results)

        assert len(server.seen) == asked + 1
        last = {each.slot: each for each in second.verdicts if each.scorer == "right"}
        assert all(each.stop_reason is None for each in last.values())


def test_prices_that_have_changed_price_verdicts_again_too(workshop: "Workshop") -> None:
    """A judge's calls are in the ledger: at doubled prices its verdicts cost twice as much, and no one is asked."""
    with provider_server() as server:
        server.answers = [says(YES)]
        suite = JUDGED.format(url=server.url)
        workshop.suite(suite)
        workshop.run()
        workshop.suite(suite.replace("input_tokens: 1, output_tokens: 10", "input_tokens: 2, output_tokens: 20"))

        results = score(workshop.results)

        assert len(server.seen) == 4
    assert {each.cost_usd for each in results.verdicts if each.scorer == "right"} == {2 * JUDGED_USD}
    assert {each.cost_usd for each in results.attempts} == {Decimal("0.0004")}
    assert {each.overhead_usd for each in results.attempts} == {0}


# --- the run's end ---------------------------------------------------------------------------------------------------


def is_complete(workshop: "Workshop") -> bool:
    """Whether a gate takes the run for whole."""
    return not any(check.metric == "run" for check in gate(workshop.results, ["success_rate >= 0"]).checks)


def test_a_run_whose_last_answers_are_judged_is_finished(workshop: "Workshop") -> None:
    """Its money ended between an answer and its judge: once scored, no table or gate calls it unfinished."""
    with provider_server() as server:
        server.answers = [says(YES)]
        workshop.suite(JUDGED.format(url=server.url))
        workshop.data(number=[1])
        # By hand: an attempt is 0.0002, a verdict 0.0004. The second attempt fits, its verdict does not.
        workshop.run(max_usd="0.0005")
        stopped = workshop.run(max_usd="0.00075")
        assert str(stopped.run["stopped"]).endswith("; 1 answers are yet to be judged")
        assert stopped.run["finished_at"] is None
        assert not is_complete(workshop)

        results = score(workshop.results, options=ScoreOptions(max_usd="1"))

    assert results.run["stopped"] is None
    assert results.run["finished_at"] is not None
    assert not any("finished" in note for note in table_of(results).notes)
    assert is_complete(workshop)
    workshop.calls()
    assert workshop.run(max_usd="1").run["finished_at"] == results.run["finished_at"], "there was nothing left to do"
    assert workshop.calls() == []


def test_a_run_with_slots_left_stays_unfinished(workshop: "Workshop") -> None:
    """Scoring makes no attempts: what is missing is told as before, with the reason, and after a crash too."""
    stopped = workshop.run(max_usd="0.0005", concurrency=1).run["stopped"]
    assert stopped.endswith("2 of 4 slots are left")

    results = score(workshop.results, load_suite(rescored(workshop, LENIENT)))

    assert (results.run["stopped"], results.run["finished_at"]) == (stopped, None)
    assert not is_complete(workshop)

    (workshop.results / "run.json").write_text(json.dumps({**results.run, "stopped": None}))
    assert score(workshop.results).run["stopped"] == "2 of 4 slots are left"


def test_slots_and_answers_that_are_left_are_told_together(workshop: "Workshop") -> None:
    """What keeps new judges from all answers stands beside the attempts that are missing, and goes when they have."""
    workshop.run(max_usd="0.0005", concurrency=1)
    with provider_server() as server:
        server.answers = [says(YES)]
        judged = rescored(workshop, JUDGED.format(url=server.url))

        half = score(workshop.results, load_suite(judged), ScoreOptions(max_usd="0.0009")).run["stopped"]
        whole = score(workshop.results, options=ScoreOptions(max_usd="1")).run["stopped"]

    assert half.startswith("2 of 4 slots are left; ")
    assert half.endswith("; 1 answers are yet to be judged")
    assert whole == "2 of 4 slots are left"


def test_a_crash_between_the_last_line_and_the_end_is_mended(workshop: "Workshop") -> None:
    """All answers were on file and judged: the outcome that the ledger lacks is written, and the run is finished."""
    run = workshop.run().run
    ledger = open_ledger(str(workshop.results / "ledger.db"))
    (lost, *_) = [attempt.task_id for attempt in load_results(workshop.results).attempts]
    ledger.write(Outcome(task_id=lost, success=None, reason=None, judged_by="", at=datetime.now(UTC)))
    (workshop.results / "run.json").write_text(json.dumps({**run, "finished_at": None}))

    results = score(workshop.results)

    assert (results.run["stopped"], results.run["finished_at"] is None) == (None, False)
    assert {outcome.success for outcome in ledger.outcomes()} == {True, False}
    ledger.close()


# --- people ----------------------------------------------------------------------------------------------------------


def label(configuration: str, task: str, *, success: bool, **more: object) -> str:
    line = {"configuration": configuration, "task": task, "scorer": "exact", "success": success}
    return json.dumps(line | more) + "\n"


def test_labels_say_how_far_a_scorer_agrees_with_people(workshop: "Workshop") -> None:
    """Of 20 answers people find one wrong that the scorer finds right: 19 agree, and kappa is 0.9."""
    numbers = list(range(1, 11))
    workshop.data(number=numbers)
    workshop.run()
    lines = [label("right", f"t{n}", success=n > 1) + label("wrong", f"t{n}", success=False) for n in numbers]
    (workshop.folder / "people.jsonl").write_text("".join(lines))

    results = score(workshop.results, options=ScoreOptions(labels=workshop.folder / "people.jsonl"))

    overall, right, wrong = agreements(results)
    assert (overall["scorer"], overall["configuration"], overall["labelled"], overall["tasks"]) == (
        "exact",
        None,
        20,
        10,
    )
    # Both shares: people 9 of 20, the scorer 10 of 20. Chance: 0.45 x 0.5 + 0.55 x 0.5.
    assert overall["agreement"] == 0.95
    assert overall["kappa"] == pytest.approx((0.95 - 0.5) / 0.5)
    assert (overall["both_right"], overall["both_wrong"], overall["only_scorer_right"]) == (9, 10, 1)
    assert (right["configuration"], right["agreed"], wrong["agreed"], wrong["kappa"]) == ("right", 9, 10, None)
    (sentence,) = agreements_in_words(results)
    assert sentence.startswith("exact agrees with people on 19 of 20 answers that people judged (95%), kappa 0.90 [")
    assert agreements(load_results(workshop.results)) == agreements(results), "labels stay beside the answers"


def test_a_label_of_another_answer_is_not_counted(workshop: "Workshop") -> None:
    """A label may name the answer that was seen; one of another answer says nothing of this one."""
    workshop.run()
    seen = {"number": 1, "do": "answer", "answer": "2"}
    lines = [label("right", "t1", success=True, answer=seen), label("right", "t2", success=True, answer="something")]
    (workshop.folder / "people.jsonl").write_text("".join(lines))

    results = score(workshop.results, options=ScoreOptions(labels=workshop.folder / "people.jsonl"))

    assert [(row["labelled"], row["agreed"]) for row in agreements(results)] == [(1, 1), (1, 1)]


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("[]", "an object is expected"),
        ('{"task": "t1"}', "configuration, scorer, success missing"),
        (label("right", "t9", success=True), "there is no answer of configuration 'right', task 't9', repeat 0"),
        (label("right", "t1", success=True, scorer="judge"), "scorer 'judge' is none of the run's: those are exact"),
        (label("right", "t1", success=True, who="me"), "who not known"),
        ('{"configuration": "right", "task": "t1", "scorer": "exact", "success": 1}', "true or false is expected"),
        (label("right", "t1", success=True) + label("right", "t1", success=False), ":2: says the opposite"),
        (label("right", "t1", success=True, repeat=False), r"people.jsonl:1: repeat is False: a whole number is exp"),
        (label("right", "t1", success=True, repeat=0.0), r"people.jsonl:1: repeat is 0\.0: a whole number is expected"),
        (
            label("right", "t1", success=True, repeat=[0]),
            r"people.jsonl:1: repeat is \[0\]: a whole number is expected",
        ),
        (
            '{"configuration": ["right"], "task": 1, "scorer": {"a": 1}, "success": "yes", "answer_hash": 7}',
            (
                r"people.jsonl:1: configuration is \['right'\]: a text is .*; task is 1: a text is .*; scorer is .*; "
                r"answer_hash is 7: a text is expected; success is 'yes': true or false is expected"
            ),
        ),
    ],
)
def test_bad_labels_are_told_by_line(workshop: "Workshop", line: str, told: str) -> None:
    """Every line that is none is told, and none is kept."""
    workshop.run()
    (workshop.folder / "people.jsonl").write_text(line)

    with pytest.raises(BadData, match=told):
        score(workshop.results, options=ScoreOptions(labels=workshop.folder / "people.jsonl"))

    assert not (workshop.results / "labels.jsonl").exists()


@pytest.mark.parametrize(
    ("file", "text", "told"),
    [
        (
            "people.jsonl",
            label("typo", "t1", success=True, scorer="right"),
            "there is no answer of configuration 'typo'",
        ),
        ("results/tasks/labels.jsonl", '{"of": "old"}\n', "labels.jsonl cannot be read"),
    ],
)
def test_bad_labels_are_told_before_a_judge_is_asked(workshop: "Workshop", file: str, text: str, told: str) -> None:
    """Nothing is bought, and the run keeps its scorers."""
    workshop.run()
    before = (workshop.results / "run.json").read_bytes()
    (workshop.folder / "people.jsonl").write_text(label("right", "t1", success=True, scorer="right"))
    (workshop.folder / file).write_text(text)
    with provider_server() as server:
        server.answers = [says(YES)]
        judged = load_suite(rescored(workshop, JUDGED.format(url=server.url)))

        with pytest.raises((BadData, EvalError), match=told):
            score(workshop.results, judged, ScoreOptions(labels=workshop.folder / "people.jsonl"))

        assert server.seen == []
    assert (workshop.results / "run.json").read_bytes() == before


def test_labels_of_a_new_scorer_are_read_with_it(workshop: "Workshop") -> None:
    """A scorer that the suite has gained is known to the labels, though the run was made without it."""
    workshop.run()
    (workshop.folder / "people.jsonl").write_text(label("right", "t1", success=True, scorer="near"))

    suite = load_suite(rescored(workshop, LENIENT))
    results = score(workshop.results, suite, ScoreOptions(labels=workshop.folder / "people.jsonl"))

    assert [(row["scorer"], row["labelled"], row["agreed"]) for row in agreements(results)] == [("near", 1, 1)] * 2


def test_an_items_labels_are_of_an_answer_that_it_holds(workshop: "Workshop") -> None:
    """In a set that is made to test a judge the answer is in the item; of what an agent answers it cannot tell."""
    items = [
        {"id": "held", "inputs": {"number": 1, "said": "2"}, "outputs": {"answer": "2"}, "labels": {"exact": False}},
        {"id": "free", "inputs": {"number": 2}, "outputs": {"answer": "4"}, "labels": {"exact": True}},
    ]
    workshop.dataset.write_text("".join(json.dumps(item) + "\n" for item in items))
    workshop.run()

    rows = agreements(score(workshop.results))

    assert [(row["configuration"], row["labelled"], row["agreed"]) for row in rows] == [(None, 1, 0), ("right", 1, 0)]
