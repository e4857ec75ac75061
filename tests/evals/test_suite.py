"""Suites: all faults at once, and nothing that is not enforced."""

from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from langchain_finops.errors import BadData, EvalError
from langchain_finops.evals.matrix import Configuration
from langchain_finops.evals.scorers import Scorer
from langchain_finops.evals.suite import Human, Limits, Suite, load_suite, suite_beside
from langchain_finops.evals.target import Target

if TYPE_CHECKING:
    from tests.evals.conftest import Workshop

SMALL = """
target: agent:build
scorer: exact
configurations: [{name: one}]
"""
TARGET = (
    "`module:function` of a function that takes a configuration and returns a Runnable, or one of "
    "{graph: module:object}, {call: module:function}, {url: https://...}"
)
TYPES = "one of exact, contains, regex, numeric, json, json_schema, set, trajectory, python, judge, trajectory_judge"


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "tasks.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def faults_of(path: Path) -> list[str]:
    with pytest.raises(BadData) as caught:
        load_suite(path)
    return [str(fault).removeprefix(f"{path}: ").removeprefix(str(path)) for fault in caught.value.faults]


def test_a_small_suite_has_sensible_defaults(tmp_path: Path) -> None:
    """A target, a scorer and a configuration are enough."""
    path = written(tmp_path, SMALL)

    assert load_suite(path) == Suite(
        path=path,
        target=Target(spec="agent:build"),
        scorers=(Scorer(name="exact", type="exact"),),
        configurations=(Configuration(name="one"),),
        repeats=1,
        tries=3,
        concurrency=8,
    )


def test_a_full_suite_is_read_field_by_field(tmp_path: Path) -> None:
    """Everything that can be said; the recording stands beside the suite."""
    path = written(
        tmp_path,
        """
        target: pkg.agent:make.graph
        scorers:
          - {type: numeric, name: total, tolerance: 0.1, relative_tolerance: "0.01", answer_field: a.b}
          - {type: regex, pattern: "x+", ignore: case}
          - {type: python, function: "scoring:polite", threshold: 0.5}
        configurations:
          - {name: base, model: small, options: {temperature: 0.2}}
        matrix:
          model: [small, large]
        repeats: 3
        baseline: base
        recording: tasks.recording.jsonl
        limits: {seconds: 1.5, recursion_limit: 12}
        tries: 1
        concurrency: 2
        """,
    )

    suite = load_suite(path)

    assert suite.target == Target(spec="pkg.agent:make.graph")
    assert suite.scorers == (
        Scorer(
            name="total",
            type="numeric",
            answer_field="a.b",
            tolerance=Decimal("0.1"),
            relative_tolerance=Decimal("0.01"),
        ),
        Scorer(name="regex", type="regex", pattern="x+", ignore=("case",)),
        Scorer(name="python", type="python", function="scoring:polite", threshold=0.5),
    )
    assert suite.configurations == (
        Configuration(name="base", parameters={"model": "small", "options": {"temperature": 0.2}}),
        Configuration(name="model=small", parameters={"model": "small"}),
        Configuration(name="model=large", parameters={"model": "large"}),
    )
    assert (suite.repeats, suite.baseline, suite.tries, suite.concurrency) == (3, "base", 1, 2)
    assert suite.recording == tmp_path / "tasks.recording.jsonl"
    assert suite.limits == Limits(seconds=1.5, recursion_limit=12)


def test_cards_are_named_sets(tmp_path: Path) -> None:
    """Card sets keep their order, for the first prices the run; their faults are told with the rest."""
    cards = "cards:\n  {name}: [{{id: h, match: {{model: 'm*'}}, rates: {{input_tokens: 1, output_tokens: 2}}}}]\n"
    suite = load_suite(written(tmp_path, SMALL + cards.format(name="hosted")))

    assert [card.id for card in suite.cards["hosted"]] == ["h"]
    wrong = faults_of(written(tmp_path, SMALL + "repeats: 0\ncards: {hosted: [{id: h}], 5: []}\n"))
    assert wrong[0] == "repeats: 0 found: a whole number, 1 or more, is expected"
    assert any(fault.startswith("cards.hosted") for fault in wrong)
    assert "cards.5: 5 found: a text is expected; write it in quotes" in wrong


def test_all_faults_are_told_at_once_with_their_field(tmp_path: Path) -> None:
    """One look shows all that is wrong, and what would be right."""
    path = written(
        tmp_path,
        """
        target: agent.build
        scorers:
          - fuzzy
          - {type: numeric, tolerance: -1, ignore: case}
          - {type: regex, pattern: "(", ignore: whitespace}
          - {type: python}
          - {type: exact, ignore: [case, colour]}
          - {type: exact}
          - 7
        configurations:
          - {name: no, shots: 2}
          - {shots: 2}
          - {name: a, 5: x, when: 2026-01-01}
          - {name: a}
          - b
        matrix: {model: small}
        repeats: many
        baseline: z
        recording: 5
        limits: {seconds: 0, euros: 5}
        tries: true
        concurency: 4
        """,
    )

    assert faults_of(path) == [
        "concurency: is not known: 'concurrency' is meant?",
        "configurations[0].name: False found: a text is expected; write it in quotes",
        "configurations[1].name: is missing: a text that tells it apart",
        "configurations[2].5: a parameter's name is a text: write it in quotes",
        "configurations[2].when: datetime.date(2026, 1, 1) is not plain data: write it in quotes",
        "configurations[4]: 'b' found: a mapping with a `name` and parameters is expected",
        "matrix: a mapping of parameters to lists of values is expected, such as `model: [a, b]`",
        "configurations: the name 'a' stands there twice",
        "recording: 5 found: a text is expected",
        f"target: 'agent.build' found: {TARGET}",
        f"scorers[0].type: 'fuzzy' is no scorer: {TYPES}",
        (
            "scorers[1].ignore: is not known: known are type, name, answer_field, expected_field, tolerance, "
            "relative_tolerance"
        ),
        "scorers[1].tolerance: -1 found: a number, 0 or more, is expected",
        "scorers[2].ignore: 'whitespace' found: some of case are expected",
        "scorers[2].pattern: '(' is no regular expression: missing ), unterminated subpattern at position 0",
        "scorers[3].function: is missing: `module:function` of a function of an answer and an item's outputs",
        "scorers[4].ignore: 'colour' found: some of case, whitespace, punctuation are expected",
        f"scorers[6]: 7 found: {TYPES}",
        "scorers: the name 'exact' stands there twice: give one of them another `name`",
        "repeats: 'many' found: a whole number, 1 or more, is expected",
        "baseline: 'z' is no configuration: those are a",
        "limits.euros: is not known: known are seconds, usd, recursion_limit, steps, llm_calls, tool_calls, tokens",
        "limits.seconds: 0 found: a number of seconds above 0 is expected",
        "tries: True found: a whole number, 1 or more, is expected",
    ]


def test_what_is_missing_is_told(tmp_path: Path) -> None:
    """An empty mapping lacks a target, a scorer and configurations."""
    assert faults_of(written(tmp_path, "{}")) == [
        "configurations: is missing: a list of mappings with a `name` and parameters",
        f"target: is missing: {TARGET}",
        f"scorer: is missing: {TYPES}",
    ]


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("target: [", ":2: not YAML: expected the node content, but found '<stream end>'"),
        ("target: a:b\ntarget: c:d", ":2: not YAML: 'target' stands there twice"),
        ("- 1", "a mapping with `target`, `scorer`, `configurations` is expected"),
        ("", "a mapping with `target`, `scorer`, `configurations` is expected"),
        ("x: \0", ": special characters are not allowed"),
    ],
)
def test_what_is_no_mapping_is_one_fault(tmp_path: Path, text: str, fault: str) -> None:
    """YAML that cannot be read names its line; a key that stands there twice would hide the first."""
    (found,) = faults_of(written(tmp_path, text + "\n"))

    assert fault in found


def test_a_scorer_stands_once(tmp_path: Path) -> None:
    """`scorer` and `scorers` together leave open which is meant."""
    assert faults_of(written(tmp_path, SMALL + "scorers: [contains]\n")) == [
        "scorer: stands beside `scorers`: keep one of them"
    ]


def test_a_suite_is_found_beside_its_dataset(tmp_path: Path) -> None:
    """The same stem, `.yaml` or `.yml`; where there is none, the error says what to write."""
    with pytest.raises(EvalError, match=r"has no suite: write tasks\.yaml beside it, or pass --suite FILE"):
        suite_beside(tmp_path / "tasks.jsonl")
    (tmp_path / "tasks.yml").write_text(SMALL)
    assert suite_beside(tmp_path / "tasks.jsonl") == tmp_path / "tasks.yml"
    path = written(tmp_path, SMALL)
    assert suite_beside(tmp_path / "tasks.jsonl") == path


def test_a_missing_suite_is_one_sentence(tmp_path: Path) -> None:
    """The error names the file."""
    with pytest.raises(EvalError, match=r"nowhere\.yaml cannot be read: No such file"):
        load_suite(tmp_path / "nowhere.yaml")


def test_a_suite_that_is_not_utf8_is_a_fault(tmp_path: Path) -> None:
    """A wrong encoding is told with its place."""
    path = tmp_path / "tasks.yaml"
    path.write_bytes(b"target: \xff")

    assert faults_of(path) == ["byte 9 is not UTF-8"]


def test_a_key_that_is_a_list_is_a_fault_of_its_line(tmp_path: Path) -> None:
    """YAML allows it; a suite has no use for it."""
    path = tmp_path / "tasks.yaml"
    path.write_text("? [a, b]\n: 1\n")

    with pytest.raises(BadData, match="a list or mapping cannot be a key"):
        load_suite(path)


def test_what_a_success_and_a_failure_are_worth_is_exact(tmp_path: Path) -> None:
    """0.1 is ten cents; what is negative or no amount is told with its field."""
    suite = load_suite(written(tmp_path, SMALL + "value_usd: 0.1\nfailure_usd: '5.05'\nmargin: 0.02\n"))
    assert (suite.value_usd, suite.failure_usd, suite.margin) == (Decimal("0.1"), Decimal("5.05"), Decimal("0.02"))

    told = faults_of(written(tmp_path, SMALL + "value_usd: -1\nfailure_usd: lots\nmargin: true\n"))
    assert [fault.split(":")[0] for fault in told] == ["value_usd", "failure_usd", "margin"]


def test_a_person_is_read_exactly(tmp_path: Path) -> None:
    """What a person costs and achieves is kept to the digit; a hand-off takes as long as a task unless it is said."""
    suite = load_suite(written(tmp_path, SMALL + "human: {usd_per_hour: 0.1, tasks_per_hour: '12.5'}\n"))
    assert suite.human == Human(usd_per_hour=Decimal("0.1"), tasks_per_hour=Decimal("12.5"))
    assert (suite.human.success_rate, suite.human.handoff_minutes) == (Decimal(1), None)

    human = "human: {usd_per_hour: 45, tasks_per_hour: 12, success_rate: 0.95, handoff_minutes: 0}\n"
    assert load_suite(written(tmp_path, SMALL + human)).human == Human(
        usd_per_hour=Decimal(45), tasks_per_hour=Decimal(12), success_rate=Decimal("0.95"), handoff_minutes=Decimal(0)
    )


def test_a_results_folder_tells_of_the_person(workshop: "Workshop") -> None:
    """`run.json` has the figures exactly, so that a table needs no suite; a change of theirs buys nothing again."""
    workshop.suite(SMALL + "human: {usd_per_hour: 45.1, tasks_per_hour: 12}\n")
    told = workshop.run().run["human"]
    assert told == {"usd_per_hour": "45.1", "tasks_per_hour": "12", "success_rate": "1", "handoff_minutes": None}
    assert workshop.calls()

    workshop.suite(SMALL + "human: {usd_per_hour: 50, tasks_per_hour: 12, handoff_minutes: 2.5}\n")
    told = workshop.run().run["human"]
    assert (told["usd_per_hour"], told["handoff_minutes"]) == ("50", "2.5")
    assert workshop.calls() == []


def test_all_that_is_wrong_with_a_person_is_told_at_once(tmp_path: Path) -> None:
    """A person who does nothing, or nothing right, cannot be compared with: division by zero is told as a fault."""
    human = "human: {usd_per_hour: 0, success_rate: 0, handoff_minutes: -1, usd_per_our: 5}\n"
    assert faults_of(written(tmp_path, SMALL + human)) == [
        "human.usd_per_our: is not known: 'usd_per_hour' is meant?",
        "human.usd_per_hour: 0 found: an amount above 0 is expected",
        "human.tasks_per_hour: is missing: how many of these tasks a person does in an hour",
        "human.success_rate: 0 found: a number above 0, and not above 1, is expected",
        "human.handoff_minutes: -1 found: a number, 0 or more, is expected",
    ]
    for wrong in ("95%", "1.01", "true", ".nan"):
        (told,) = faults_of(
            written(tmp_path, SMALL + f"human: {{usd_per_hour: 1, tasks_per_hour: 1, success_rate: {wrong}}}\n")
        )
        assert told.startswith("human.success_rate: ")
    (told,) = faults_of(written(tmp_path, SMALL + "human: 45\n"))
    assert told.startswith("human: 45 found: a mapping is expected")
