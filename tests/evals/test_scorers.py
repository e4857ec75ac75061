"""Scorers: a right, a wrong and an undecidable answer of each kind."""

from decimal import Decimal
from pathlib import Path

import pytest

from langchain_finops.evals.dataset import Dataset, Item
from langchain_finops.evals.scorers import Judgement, Scorer, decide, judge, reference_faults


def item(**outputs: object) -> Item:
    return Item(id="a", inputs={"n": 1}, outputs=outputs, line=3)


def success(scorer: Scorer, said: object, /, **outputs: object) -> bool | None:
    return judge(scorer, said, item(**outputs)).success


EXACT = Scorer(name="exact", type="exact")


@pytest.mark.parametrize(
    ("answer", "expected", "right"),
    [
        ("Paris", "Paris", True),
        ("paris", "Paris", False),
        ("Paris ", "Paris", False),
        (5, "5", True),
        ("5", 5, True),
        (True, 1, False),
        (["a", 1], ["a", 1], True),
        ({"y": 1, "x": 2}, {"x": 2, "y": 1}, True),
        ("", "Paris", False),
    ],
)
def test_exact_is_exact(answer: object, expected: object, right: bool) -> None:
    """Only the same text, or the same data, is right."""
    assert success(EXACT, {"answer": answer}, answer=expected) is right


@pytest.mark.parametrize(
    ("ignore", "answer", "right"),
    [
        (("case",), "STRASSE", True),
        (("whitespace",), " Straße\n", True),
        (("punctuation",), "Straße.", True),
        (("case", "punctuation"), "straße!", True),
        (("case", "punctuation", "whitespace"), " STRASSE ! ", True),
        (("case",), "STRASSE ", False),
    ],
)
def test_what_is_ignored_is_chosen(ignore: tuple[str, ...], answer: str, right: bool) -> None:
    """Case, white space and punctuation matter unless the suite says that they do not."""
    assert success(Scorer(name="e", type="exact", ignore=ignore), answer, answer="Straße") is right


def test_contains_wants_every_text() -> None:
    """A list of references must all be in the answer."""
    scorer = Scorer(name="contains", type="contains", ignore=("case",))

    assert success(scorer, "It is Paris, in FRANCE.", answer=["paris", "France"]) is True
    assert success(scorer, "It is Paris.", answer=["paris", "France"]) is False
    assert success(scorer, "It is Paris.", answer="Paris") is True


def test_regex_searches_with_the_suites_pattern_or_the_items() -> None:
    """The pattern stands in the suite, or is the item's reference."""
    assert success(Scorer(name="r", type="regex", pattern=r"\d{4}-\d\d"), "on 2026-07-04") is True
    assert success(Scorer(name="r", type="regex"), "Room 12", room=r"^room 1\d$") is False
    assert success(Scorer(name="r", type="regex", ignore=("case",)), "Room 12", room=r"^room 1\d$") is True


@pytest.mark.parametrize(
    ("answer", "right"),
    [
        (1234.5, True),
        ("1234.5", True),
        ("It costs $1,234.50.", True),
        ("First 7, then 1234.5", True),
        ("1234.5 or rather 7", False),
        ("1,234.59", True),
        ("1,234.61", False),
        ("-1234.5", False),
        ("\N{MINUS SIGN}1234.5", False),
        ("12.345e2", True),
        ("no idea", False),
        (float("nan"), False),
        (True, False),
        ("٣", False),
    ],
)
def test_numeric_reads_the_last_number(answer: object, right: bool) -> None:
    """The last number counts, within the tolerance, which is inclusive; no number is wrong."""
    scorer = Scorer(name="n", type="numeric", tolerance=Decimal("0.1"))

    assert success(scorer, answer, total="1234.5") is right


def test_a_dash_is_no_minus() -> None:
    """`10-20` ends in 20, not in -20."""
    assert success(Scorer(name="n", type="numeric"), "10-20", total=20) is True


def test_tolerances_are_exact_and_the_wider_counts() -> None:
    """0.1 off is within 0.1, whatever binary floats make of it; a relative tolerance is a share of the reference."""
    assert success(Scorer(name="n", type="numeric", tolerance=Decimal("0.1")), 0.3, total=0.2) is True
    assert success(Scorer(name="n", type="numeric", relative_tolerance=Decimal("0.01")), 198, total=200) is True
    assert success(Scorer(name="n", type="numeric", relative_tolerance=Decimal("0.01")), 197.9, total=200) is False


@pytest.mark.parametrize(
    ("answer", "found"),
    [
        ("x", "x"),
        ({"answer": "x", "n": 1}, "x"),
        ({"output": "x"}, "x"),
        ({"messages": [{"type": "human", "content": "?"}, {"type": "ai", "content": "x"}]}, "x"),
        ({"type": "ai", "content": [{"type": "text", "text": "x"}]}, "x"),
    ],
)
def test_the_answer_is_found_where_it_usually_is(answer: object, found: str) -> None:
    """The reference's field, the only field, a message, or the last message of a state."""
    assert success(EXACT, answer, answer=found) is True


def test_fields_can_be_named() -> None:
    """A dotted path says where the answer and the reference stand."""
    scorer = Scorer(name="e", type="exact", answer_field="order.items.-1.name", expected_field="item")

    assert success(scorer, {"order": {"items": [{"name": "a"}, {"name": "b"}]}}, item="b", other=1) is True
    assert judge(scorer, {"order": {}}, item(item="b")) == Judgement(
        success=False, score=0.0, reason="the answer has no field 'order.items.-1.name'"
    )


def test_an_empty_answer_is_wrong() -> None:
    """None is no answer."""
    assert judge(EXACT, None, item(answer="x")) == Judgement(success=False, score=0.0, reason="the answer is empty")


PYTHON = Scorer(name="p", type="python", function="m:f")


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (True, Judgement(success=True, score=1.0)),
        (False, Judgement(success=False, score=0.0)),
        (None, Judgement(success=None, reason="the scorer could not tell")),
        (1, Judgement(success=True, score=1.0)),
        (0.7, Judgement(success=False, score=0.7)),
        ({"score": 0.7, "comment": "nearly"}, Judgement(success=False, score=0.7, reason="nearly")),
        ({"success": True, "score": 0.7}, Judgement(success=True, score=0.7)),
        ({"key": "x", "score": True}, Judgement(success=True, score=1.0)),
        ({"score": None}, Judgement(success=None, reason="the scorer could not tell")),
    ],
)
def test_a_function_says_success_score_or_nothing(said: object, expected: Judgement) -> None:
    """True, False, None, a share, or LangSmith's mapping; a share is a success from the threshold on."""
    assert judge(PYTHON, "x", item(answer="x"), lambda answer, outputs: said) == expected


@pytest.mark.parametrize("said", ["yes", 1.5, -1, float("nan"), object()])
def test_what_a_function_may_not_return_cannot_tell(said: object) -> None:
    """Anything else is no verdict, never a failure."""
    judged = judge(PYTHON, "x", item(answer="x"), lambda answer, outputs: said)

    assert judged.success is None
    assert judged.reason is not None
    assert judged.reason.startswith("the scorer returned ")


def test_a_threshold_makes_a_score_a_success() -> None:
    """From the threshold on, inclusive."""
    scorer = Scorer(name="p", type="python", function="m:f", threshold=0.7)

    assert judge(scorer, "x", item(), lambda answer: 0.7).success is True
    assert judge(scorer, "x", item(), lambda answer: 0.69).success is False


def test_a_function_that_raises_cannot_tell() -> None:
    """A broken scorer does not turn paid answers into failures."""

    def broken(answer: object, outputs: object) -> bool:
        raise KeyError("total")

    assert judge(PYTHON, "x", item(), broken) == Judgement(success=None, reason="the scorer raised KeyError: 'total'")


def test_evaluators_of_langsmith_work_as_they_are() -> None:
    """A function with LangSmith's parameter names is called by them, and gets a mapping as outputs."""
    seen: dict[str, object] = {}

    def evaluator(inputs: dict[str, object], outputs: dict[str, object], reference_outputs: dict[str, object]) -> bool:
        seen.update(inputs=inputs, outputs=outputs, reference_outputs=reference_outputs)
        return outputs["output"] == reference_outputs["answer"]

    assert judge(PYTHON, "x", item(answer="x"), evaluator).success is True
    assert seen == {"inputs": {"n": 1}, "outputs": {"output": "x"}, "reference_outputs": {"answer": "x"}}


def test_references_are_checked_before_anything_runs() -> None:
    """Every item that a scorer could not compare with is told, with its line."""
    items = (
        Item(id="a", inputs={}, outputs={"answer": "1"}, line=1),
        Item(id="b", inputs={}, outputs={"answer": "one"}, line=2),
        Item(id="c", inputs={}, outputs={}, line=3),
        Item(id="d", inputs={}, outputs={"answer": None}, line=4),
    )
    dataset = Dataset(path=Path("d.jsonl"), items=items)

    assert [str(fault) for fault in reference_faults(Scorer(name="n", type="numeric"), dataset)] == [
        "d.jsonl:2: outputs.answer: 'one' found: scorer 'n' needs a number",
        "d.jsonl:3: outputs: has 0 fields: scorer 'n' needs `expected_field` to know which one",
        "d.jsonl:4: outputs.answer: is missing: scorer 'n' compares with it",
    ]
    assert reference_faults(Scorer(name="r", type="regex", pattern="x"), dataset) == []
    assert reference_faults(PYTHON, dataset) == []


def test_patterns_and_empty_texts_among_references_are_told() -> None:
    """A reference that is no pattern, or that every answer contains, is a fault of the dataset."""
    items = (Item(id="a", inputs={}, outputs={"p": "("}, line=1), Item(id="b", inputs={}, outputs={"p": ""}, line=2))
    dataset = Dataset(path=Path("d.jsonl"), items=items)

    regex, contains = Scorer(name="r", type="regex"), Scorer(name="c", type="contains")
    assert [fault.where for fault in reference_faults(regex, dataset)] == ["d.jsonl:1: outputs.p"]
    assert [fault.where for fault in reference_faults(contains, dataset)] == ["d.jsonl:2: outputs.p"]


def test_several_scorers_must_agree() -> None:
    """One failure is a failure; else one that cannot tell leaves it open."""
    assert decide([True, True]) is True
    assert decide([True, False, None]) is False
    assert decide([True, None]) is None
    assert decide([]) is None


def test_a_changed_scorer_has_another_hash() -> None:
    """Its definition and its function's code decide whether verdicts still hold."""
    assert EXACT.hash() == Scorer(name="exact", type="exact").hash()
    assert EXACT.hash() != Scorer(name="exact", type="exact", ignore=("case",)).hash()
    assert PYTHON.hash("v1") != PYTHON.hash("v2")
