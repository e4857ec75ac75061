"""Scorers of data: JSON, schemas, sets, and tool calls of real messages."""

import asyncio
import socket
import sys
from decimal import Decimal
from pathlib import Path

import pytest
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage

from langchain_finops.errors import BadData, MissingExtra
from langchain_finops.evals.dataset import Dataset, Item
from langchain_finops.evals.plain import plain
from langchain_finops.evals.scorers import Judgement, Scorer, judge, reference_faults
from langchain_finops.evals.suite import load_suite

JSON = Scorer(name="j", type="json")


def item(**outputs: object) -> Item:
    return Item(id="a", inputs={}, outputs=outputs, line=1)


@pytest.mark.parametrize(
    ("answer", "expected", "right"),
    [
        ('{"b": [1, 2.0], "a": null}', {"a": None, "b": [1.0, 2]}, True),
        ('```json\n{"a": 1}\n```', {"a": 1}, True),
        ('Here it is: {"a": 1}', {"a": 1}, False),
        ({"a": 1}, '{"a": 1}', True),
        ([1, 2], [2, 1], False),
        ({"a": 1}, {"a": True}, False),
        ({"a": 1}, {"a": "1"}, False),
        ({"a": 1, "b": 2}, {"a": 1}, False),
        ({"a": 1}, {"a": 1, "b": None}, False),
        ('{"a": 0.30000000000000004}', {"a": 0.3}, False),
        ('{"a": 0.3000000000000000000001}', {"a": 0.3}, False),
        ('{"a": 1, "a": 1}', {"a": 1}, False),
        ('{"a": NaN}', {"a": 1}, False),
        ("[" * 100_000, [], False),
    ],
)
def test_json_is_the_same_data(answer: object, expected: object, right: bool) -> None:
    """White space, fences and the order of fields do not matter; what is no JSON is wrong."""
    assert judge(JSON, {"data": answer}, item(data=expected)).success is right


def test_json_says_where_it_differs() -> None:
    """The first difference is told by its place, without the answer's text."""
    assert judge(JSON, '{"a": [1, {"b": 2}]}', item(data={"a": [1, {"b": 3}]})).reason == "at a.1.b: differs"
    assert judge(JSON, '{"a": [1]}', item(data={"a": []})).reason == "at a: 1 entries, 0 expected"


def test_json_takes_a_whole_mapping_as_the_answer() -> None:
    """A target that returns the data itself needs no field around it."""
    assert judge(JSON, {"x": 1, "y": 2}, item(data={"y": 2, "x": 1})).success is True


def test_numbers_in_json_may_be_near() -> None:
    """Tolerances hold for each number, inclusive and exact; texts and booleans are no numbers."""
    scorer = Scorer(name="j", type="json", tolerance=Decimal("0.1"))

    assert judge(scorer, '{"a": 0.3}', item(data={"a": 0.2})).success is True
    assert judge(scorer, '{"a": 0.31}', item(data={"a": 0.2})).success is False
    assert judge(scorer, '{"a": true}', item(data={"a": 1})).success is False
    assert judge(Scorer(name="j", type="json", relative_tolerance=Decimal("0.5")), "[15]", item(data=[10])).success


SCHEMA = {"type": "object", "required": ["n"], "properties": {"n": {"type": "integer", "minimum": 1}}}


def test_a_schema_of_the_suite_or_of_the_item_is_kept_to() -> None:
    """It says what is broken and where; an answer that is no JSON is wrong."""
    scorer = Scorer(name="s", type="json_schema", schema=SCHEMA)

    assert judge(scorer, '{"n": 1}', item()).success is True
    assert judge(scorer, '{"n": 0}', item()) == Judgement(success=False, score=0.0, reason="at $.n: breaks 'minimum'")
    assert judge(scorer, "n = 1", item()).success is False
    assert judge(Scorer(name="s", type="json_schema"), '{"n": 1.5}', item(schema=SCHEMA)).success is False


def test_a_schema_never_asks_the_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """A reference to a schema elsewhere cannot tell: it is not fetched."""

    opened: list[object] = []
    monkeypatch.setattr(socket, "create_connection", lambda *given, **_: opened.append(given))
    scorer = Scorer(name="s", type="json_schema", schema={"$ref": "http://127.0.0.1:9/other.json"})

    judged = judge(scorer, "{}", item())

    assert opened == []
    assert judged.success is None
    assert judged.reason is not None
    assert judged.reason.startswith("the schema refers to what is not in it")


def test_without_jsonschema_the_pip_line_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A suite with a schema is refused before anything runs, with what to install."""
    path = tmp_path / "s.yaml"
    path.write_text("target: 'a:b'\nconfigurations: [{name: a}]\nscorer: {type: json_schema, schema: {type: object}}\n")
    monkeypatch.setitem(sys.modules, "jsonschema", None)

    with pytest.raises(MissingExtra, match=r"langchain-finops\[eval\]"):
        load_suite(path)


@pytest.mark.parametrize(
    ("metric", "score"),
    # Said {a, b, c, d}, wanted {a, b, e}: 2 in both, 4 said, 3 wanted, 5 in all.
    [("precision", 2 / 4), ("recall", 2 / 3), ("f1", 4 / 7), ("jaccard", 2 / 5)],
)
def test_sets_overlap_by_the_metric(metric: str, score: float) -> None:
    """Entries count once, in whatever order; the threshold is inclusive."""
    scorer = Scorer(name="s", type="set", metric=metric, threshold=score, ignore=("case",))  # type: ignore[arg-type]

    for answer in (["a", "b", "c", "d", "A"], "a, b,c , d", '["d", "c", "b", "a"]'):
        judged = judge(scorer, answer, item(tags=["a", "b", "e"]))
        assert (judged.success, judged.score) == (True, score)
        assert judged.reason == "1 missing, 2 not expected"
    stricter = Scorer(name="s", type="set", metric=metric, threshold=score + 1e-9)  # type: ignore[arg-type]
    assert judge(stricter, "a,b,c,d", item(tags="a,b,e")).success is False


@pytest.mark.parametrize(
    ("answer", "wanted", "scores"),
    [([], [], (1, 1, 1, 1)), ([], ["a"], (0, 0, 0, 0)), (["a"], [], (0, 1, 0, 0))],
)
def test_empty_sets_have_scores(answer: list[str], wanted: list[str], scores: tuple[float, ...]) -> None:
    """Nothing wanted and nothing said is right; of nothing wanted all is recalled. Nothing divides by 0."""
    for metric, score in zip(("precision", "recall", "f1", "jaccard"), scores, strict=True):
        scorer = Scorer(name="s", type="set", metric=metric)  # type: ignore[arg-type]
        assert judge(scorer, answer, item(tags=wanted)).score == score


def called(*calls: tuple[str, dict[str, object]]) -> object:
    """A real agent's messages, a call in each, as they are stored."""
    messages: list[object] = [HumanMessage("?")]
    for number, (name, args) in enumerate(calls):
        call = {"name": name, "args": args, "id": str(number), "type": "tool_call"}
        messages += [AIMessage("", tool_calls=[call]), ToolMessage("ok", tool_call_id=str(number))]  # type: ignore[list-item]
    return plain({"messages": [*messages, AIMessage("done")]})


SEARCH, READ, PAY = ("search", {"q": "x"}), ("read", {"id": 1}), ("pay", {"usd": 5})


@pytest.mark.parametrize(
    ("calls", "strict", "unordered", "subset", "superset"),
    [
        ((SEARCH, READ), True, True, True, True),
        ((READ, SEARCH), False, True, True, True),
        ((SEARCH,), False, False, True, False),
        ((SEARCH, READ, PAY), False, False, False, True),
        ((SEARCH, SEARCH, READ), False, False, False, True),
        ((), False, False, True, False),
        ((("search", {"q": "y"}), READ), False, False, False, False),
    ],
)
def test_tool_calls_match_as_the_suite_says(
    calls: tuple[tuple[str, dict[str, object]], ...], strict: bool, unordered: bool, subset: bool, superset: bool
) -> None:
    """The messages' tool calls, in their order, against those wanted; a call made twice is two calls."""
    reference = item(calls=[{"name": "search", "args": {"q": "x"}}, "read"])
    for match, right in {"strict": strict, "unordered": unordered, "subset": subset, "superset": superset}.items():
        scorer = Scorer(name="t", type="trajectory", match=match)  # type: ignore[arg-type]
        assert judge(scorer, called(*calls), reference).success is right, match


def test_arguments_can_be_left_aside() -> None:
    """Names alone count then; else those arguments that the reference tells, 1 and 1.0 alike."""
    reference = item(calls=[{"name": "read", "args": {"id": 1.0}}])

    assert judge(Scorer(name="t", type="trajectory"), called(READ), reference).success is True
    assert judge(Scorer(name="t", type="trajectory"), called(("read", {"id": 2})), reference).success is False
    names = Scorer(name="t", type="trajectory", arguments=False)
    assert judge(names, called(("read", {"id": 2})), reference).success is True


def test_a_call_that_takes_any_arguments_leaves_the_other_its_own() -> None:
    """Wanted are any search, and the search for x: made in whichever order, both are there."""
    scorer = Scorer(name="t", type="trajectory", match="unordered")
    reference = item(calls=["search", {"name": "search", "args": {"q": "x"}}])

    assert judge(scorer, called(SEARCH, ("search", {"q": "y"})), reference).success is True
    assert judge(scorer, called(("search", {"q": "y"}), ("search", {"q": "z"})), reference).success is False


def test_openai_shaped_calls_are_read_too() -> None:
    """Plain dicts with `function` and arguments as a text of JSON."""
    call = {"id": "1", "type": "function", "function": {"name": "read", "arguments": '{"id": 1}'}}
    answer = {"messages": [{"role": "assistant", "tool_calls": [call]}]}

    assert judge(Scorer(name="t", type="trajectory"), answer, item(calls=[{"name": "read", "args": {"id": 1}}])).success


def test_no_messages_cannot_tell() -> None:
    """An answer without messages tells nothing of tool calls: that is not a failure."""
    judged = judge(Scorer(name="t", type="trajectory"), {"output": "done"}, item(calls=["read"]))

    assert judged.success is None
    field = Scorer(name="t", type="trajectory", answer_field="log")
    assert judge(field, {"log": [{"name": "read", "args": {}}]}, item(calls=["read"])).success is True


def test_references_of_the_wrong_kind_are_told() -> None:
    """Before anything is bought: no JSON, no schema, no list of calls."""
    items = (Item(id="a", inputs={}, outputs={"x": "{"}, line=1), Item(id="b", inputs={}, outputs={"x": [5]}, line=2))
    dataset = Dataset(path=Path("d.jsonl"), items=items)

    def wheres(kind: str) -> list[str]:
        return [fault.where for fault in reference_faults(Scorer(name="s", type=kind), dataset)]  # type: ignore[arg-type]

    assert wheres("json") == ["d.jsonl:1: outputs.x"]
    assert wheres("json_schema") == wheres("trajectory") == ["d.jsonl:1: outputs.x", "d.jsonl:2: outputs.x"]
    assert wheres("set") == []


def test_a_suite_says_all_of_it(tmp_path: Path) -> None:
    """Every option is read, and every wrong one is told at once."""
    suite = "target: 'agent:build'\nconfigurations: [{name: a}]\nscorers:\n"
    path = tmp_path / "s.yaml"
    path.write_text(
        suite + "- {type: json, tolerance: 0.1}\n- {type: json_schema, schema: {type: object}}\n"
        "- {type: set, metric: recall, threshold: 0.5, separator: ';', ignore: case}\n"
        "- {type: trajectory, match: superset, arguments: false}\n"
    )
    assert load_suite(path).scorers == (
        Scorer(name="json", type="json", tolerance=Decimal("0.1")),
        Scorer(name="json_schema", type="json_schema", schema={"type": "object"}),
        Scorer(name="set", type="set", metric="recall", threshold=0.5, separator=";", ignore=("case",)),
        Scorer(name="trajectory", type="trajectory", match="superset", arguments=False),
    )
    path.write_text(
        suite + "- {type: json_schema, schema: {type: 5}}\n- {type: set, metric: f2}\n"
        "- {type: trajectory, match: fuzzy, arguments: 1}\n"
    )
    with pytest.raises(BadData) as caught:
        load_suite(path)
    assert [str(fault).partition(": ")[2] for fault in caught.value.faults] == [
        "scorers[0].schema: no JSON schema: 5 is not valid under any of the given schemas",
        "scorers[1].metric: 'f2' found: one of f1, precision, recall, jaccard is expected",
        "scorers[2].match: 'fuzzy' found: one of strict, unordered, subset, superset is expected",
        "scorers[2].arguments: 1 found: true or false is expected",
    ]


async def test_a_coroutine_function_scores() -> None:
    """It runs in a loop of its own, in the thread that judges; what it raises cannot tell."""
    scorer = Scorer(name="p", type="python", function="m:f")

    async def right(answer: object, outputs: object) -> bool:
        await asyncio.sleep(0)
        return answer == "x"

    async def cancelled(answer: object, outputs: object) -> bool:
        raise asyncio.CancelledError

    assert (await asyncio.to_thread(judge, scorer, "x", item(), right)).success is True
    assert (await asyncio.to_thread(judge, scorer, "y", item(), right)).success is False
    assert (await asyncio.to_thread(judge, scorer, "x", item(), cancelled)).success is None


def test_verdicts_of_before_still_hold() -> None:
    """Options that came later leave the hash of a scorer without them as it was: nothing is judged anew."""
    assert (
        Scorer(name="exact", type="exact").hash() == "231026cbda7a3ffe5656fe905a8fb729bceb11a6552924f8e2a2bb663f412bfa"
    )
    assert (
        Scorer(name="p", type="python", function="m:f", threshold=0.5).hash("v1")
        == "978e035b941bec0cc93351ca52a70270b75901ef2e823419029029ab03a1b28c"
    )
    assert Scorer(name="t", type="trajectory", match="subset").hash() != Scorer(name="t", type="trajectory").hash()
