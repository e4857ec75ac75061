"""Datasets in other files than JSON lines: the same items with the same hash, and every bad row told at once."""

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from langchain_finops.errors import BadData, EvalError, MissingExtra
from langchain_finops.evals.dataset import Item, load_dataset
from langchain_finops.evals.suite import suite_beside

ROWS: list[dict[str, Any]] = [
    {
        "id": "a",
        "inputs": {"text": 'Order 17, "late"', "n": 1},
        "outputs": {"answer": "17"},
        "split": "test",
        "metadata": {"lang": "en"},
        "labels": {"exact": True},
    },
    {
        "id": "b",
        "inputs": {"text": "zwei\nZeilen \u00e9", "n": None},
        "outputs": {"answer": "007"},
        "metadata": {"lang": "de"},
        "labels": {"exact": 0.5},
    },
]
JSONL = "\n" + "".join(f"{json.dumps(row)}\n" for row in ROWS)
CSV = """id,inputs.text,inputs.n:json,outputs.answer,split,metadata.lang,labels.exact
a,"Order 17, ""late""\",1,17,test,en,true
b,"zwei
Zeilen \u00e9\",,007,,de,0.5
"""
YAML = """
- id: a
  inputs: {text: 'Order 17, "late"', n: 1}
  outputs: {answer: "17"}
  split: test
  metadata: {lang: en}
  labels: {exact: true}

- id: b
  inputs:
    text: |-
      zwei
      Zeilen \u00e9
    n: null
  outputs: {answer: "007"}
  metadata: {lang: de}
  labels: {exact: 0.5}
"""


def parquet(path: Path, rows: list[dict[str, Any]], schema: Any = None) -> Path:
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), path)
    return path


def written(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8", newline="")
    return path


def faults_of(path: Path) -> list[str]:
    with pytest.raises(BadData) as caught:
        load_dataset(path)
    return [str(fault).removeprefix(str(path)) for fault in caught.value.faults]


def test_the_same_content_has_the_same_hash_in_every_file(tmp_path: Path) -> None:
    """Texts that look like numbers stay texts, line breaks, quotes and empty fields too; results can be told apart by
    the hash alone."""
    base = load_dataset(written(tmp_path / "a.jsonl", JSONL))
    others = [
        written(tmp_path / "a.csv", CSV),
        written(tmp_path / "crlf.csv", "\ufeff" + CSV.replace("\n", "\r\n").replace("zwei\r\n", "zwei\n")),
        written(tmp_path / "a.yaml", YAML),
        written(tmp_path / "b.YML", YAML),
        parquet(
            tmp_path / "json.parquet",
            [
                {key: value if isinstance(value, str) else json.dumps(value) for key, value in row.items()}
                for row in ROWS
            ],
        ),
        parquet(
            tmp_path / "dotted.parquet",
            [
                {"id": row["id"], "inputs.text": row["inputs"]["text"], "inputs.n": row["inputs"]["n"]}
                | {"outputs.answer": row["outputs"]["answer"], "split": row.get("split")}
                | {"metadata.lang": row["metadata"]["lang"], "labels.exact:json": json.dumps(row["labels"]["exact"])}
                for row in ROWS
            ],
        ),
    ]

    for path in others:
        dataset = load_dataset(path)
        assert dataset.hash == base.hash, path
        assert [item.hash for item in dataset.items] == [item.hash for item in base.items]
    assert load_dataset(others[0]).items[1] == Item(
        id="b",
        inputs={"text": "zwei\nZeilen \u00e9", "n": None},
        outputs={"answer": "007"},
        metadata={"lang": "de"},
        labels={"exact": 0.5},
        line=3,
    )
    assert [item.line for item in load_dataset(others[2]).items] == [2, 9]


def test_parquet_has_structures(tmp_path: Path) -> None:
    """Fields of a structure that a row lacks are null, as tables have it."""
    rows = [
        {"id": 1, "inputs": {"text": "x", "deep": {"n": [1, 2]}}, "outputs": {"answer": 0.5}, "metadata": {"a": "b"}},
        {"id": 2, "inputs": {"text": None, "deep": {"n": []}}, "outputs": {"answer": 1.0}, "metadata": {"a": None}},
    ]

    first, second = load_dataset(parquet(tmp_path / "a.parquet", rows)).items

    assert (first.id, first.inputs, first.metadata) == ("1", {"text": "x", "deep": {"n": [1, 2]}}, {"a": "b"})
    assert (second.inputs, second.outputs, second.metadata) == (
        {"text": None, "deep": {"n": []}},
        {"answer": 1.0},
        {},
    )


def test_every_bad_row_of_a_csv_is_told_at_once(tmp_path: Path) -> None:
    """With the line where the row begins, though cells may have several."""
    path = written(
        tmp_path / "a.csv",
        "id,inputs.text,inputs.n:json,outputs.answer\n"
        'a,"two\nlines",1,x\n'
        "b,y,one,x\n"
        "c,y,1\n"
        "\n"
        ",y,1,x\n"
        "a,y,1,x\n"
        'd,y,"{""k"": 1, ""k"": 2}",x\n',
    )

    assert faults_of(path) == [
        ":4: column 'inputs.n:json': 'one' is not JSON: Expecting value",
        ":5: 3 cells found: 4 columns are named in the first line",
        ":7: id: None found: a text that is not empty is expected",
        ":8: id: id 'a' is that of line 2 already: ids are distinct",
        ":9: column 'inputs.n:json': '{\"k\": 1, \"k\": 2}' is not JSON: the field 'k' stands there twice",
    ]


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("id,id,inputs,outputs\n", ":1: the column 'id' stands there twice"),
        (
            "id,inputs,inputs.a,outputs\n",
            ":1: the column 'inputs' stands beside columns of its fields: keep one or the",
        ),
        ("id;inputs.a;outputs.b\n1;2;3\n", ":1: columns are expected between commas, not semicolons"),
        ("id,inputs.a\n", ": has no items: one is "),
        ('id,inputs.a,outputs.b\n1,"2,3\n', ":2: not CSV: unexpected end of data"),
        ('id,inputs.a,outputs.b\n1,"2"x,3\n', ":2: not CSV: "),
    ],
)
def test_a_csv_that_cannot_be_told_apart_is_a_fault(tmp_path: Path, text: str, fault: str) -> None:
    """Whatever would let a column vanish."""
    assert faults_of(written(tmp_path / "a.csv", text))[0].startswith(fault)


def test_a_long_cell_is_no_fault(tmp_path: Path) -> None:
    """A document is longer than what Python's reader takes unasked."""
    (item,) = load_dataset(written(tmp_path / "a.csv", f"id,inputs.text,outputs.a\n1,{'x' * 200_000},y\n")).items
    assert item.inputs == {"text": "x" * 200_000}


def test_every_bad_entry_of_a_yaml_file_is_told_at_once(tmp_path: Path) -> None:
    """With the line where it begins; what JSON cannot hold is told, and not turned into a text."""
    path = written(
        tmp_path / "a.yaml",
        "- {id: a, inputs: {when: 2026-01-01}, outputs: {}}\n"
        "- {id: b, inputs: {1: x}, outputs: {}}\n"
        "- {id: c, inputs: {x: [.nan]}, outputs: {}}\n"
        "- 7\n"
        "- {id: d, outputs: {}}\n",
    )

    assert faults_of(path) == [
        ":1: inputs.when: date 2026-01-01 found: write it as a text, in quotes",
        ":2: inputs: the key 1 is no text: write it in quotes",
        ":3: inputs.x[0]: nan is not JSON",
        ":4: int found: an object is expected",
        ":5: inputs: is missing: an object is expected",
    ]


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("- {id: a, id: b}\n", ":1: not YAML: 'id' stands there twice"),
        ("- [\n", ":2: not YAML: "),
        ("target: a:b\n", ": a list of items is expected, each with `id`, `inputs`, `outputs`; a suite is passed by"),
        ("", ": a list of items is expected"),
        ("- &a {id: x, inputs: {x: *a}, outputs: {}}\n", ":1: nested too deep"),
        ("[" * 1000, ": nested too deep"),
    ],
)
def test_yaml_that_is_no_list_of_items_is_one_fault(tmp_path: Path, text: str, fault: str) -> None:
    """A suite that is given in a dataset's place is told apart from one."""
    assert faults_of(written(tmp_path / "a.yaml", text))[0].startswith(fault)


def test_what_parquet_holds_and_json_cannot_is_told(tmp_path: Path) -> None:
    """Times, exact decimals and not-a-numbers have no one text that they are: the author says which."""
    rows = [
        {"id": "a", "inputs": {"x": Decimal("0.10"), "y": 1.0}, "outputs.a": "x"},
        {"id": "b", "inputs": {"x": None, "y": float("nan")}, "outputs.a": "x"},
        {"id": None, "inputs": None, "outputs.a": "x"},
    ]

    assert faults_of(parquet(tmp_path / "a.parquet", rows)) == [
        ":1: inputs.x: Decimal 0.10 found: write it as a text, in quotes",
        ":2: inputs.y: nan is not JSON",
        ":3: id: None found: a text that is not empty is expected",
        ":3: inputs: None found: an object is expected",
    ]


def test_a_file_that_is_no_parquet_is_one_sentence(tmp_path: Path) -> None:
    """And so is one that is not there."""
    assert faults_of(written(tmp_path / "a.parquet", "PAR1 oops"))[0].startswith(": not Parquet: ")
    for ending in ("parquet", "csv", "yaml"):
        with pytest.raises(EvalError, match=rf"dataset .*nowhere\.{ending} cannot be read: No such file"):
            load_dataset(tmp_path / f"nowhere.{ending}")


def test_without_the_extra_parquet_names_the_line_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Other datasets need none of it."""
    path = parquet(tmp_path / "a.parquet", ROWS[:1])
    monkeypatch.setitem(__import__("sys").modules, "pyarrow.parquet", None)

    with pytest.raises(MissingExtra, match=r"a Parquet dataset needs an extra: pip install 'langchain-finops\[eval\]'"):
        load_dataset(path)


def test_items_that_lack_what_most_have_are_told(tmp_path: Path) -> None:
    """A misspelt field would be an empty question; null says that it is meant. What few have is optional."""
    lines = [{"id": str(n), "inputs": {"text": "x"}, "outputs": {"answer": "y"}} for n in range(4)]
    lines[1]["inputs"] = {"txet": "x"}
    lines[2]["outputs"] = {}
    lines[3] |= {"inputs": {"text": None, "hint": "rare"}}
    path = written(tmp_path / "a.jsonl", "".join(json.dumps(line) + "\n" for line in lines))

    assert faults_of(path) == [
        ":2: inputs.text: is missing, and 3 of 4 items have it: write null if that is meant",
        ":3: outputs.answer: is missing, and 3 of 4 items have it: write null if that is meant",
    ]


def test_items_with_turns_need_no_inputs_of_their_own(tmp_path: Path) -> None:
    """What they are asked stands in the turns."""
    lines = [{"id": str(n), "inputs": {"text": "x"}, "outputs": {}} for n in range(3)]
    lines.append({"id": "t", "inputs": {}, "outputs": {}, "turns": [{"text": "x"}]})  # type: ignore[dict-item]
    path = written(tmp_path / "a.jsonl", "".join(json.dumps(line) + "\n" for line in lines))

    assert len(load_dataset(path).items) == 4


def test_a_yaml_dataset_is_not_its_own_suite(tmp_path: Path) -> None:
    """Its suite is `STEM.suite.yaml`; those of other datasets are `STEM.yaml`."""
    data = written(tmp_path / "tasks.yaml", YAML)
    with pytest.raises(EvalError, match=r"has no suite: write tasks\.suite\.yaml beside it, or pass --suite FILE"):
        suite_beside(data)
    suite = written(tmp_path / "tasks.suite.yaml", "target: a:b")
    with pytest.raises(
        EvalError, match=r"tasks\.suite\.yaml is a suite, and no dataset: pass the dataset, and the suite"
    ):
        suite_beside(suite)

    assert suite_beside(data) == suite
    assert suite_beside(tmp_path / "tasks.csv") == data


def test_a_suite_leads_to_its_dataset_whatever_that_is_written_in(tmp_path: Path) -> None:
    """`finops-eval shadow` takes either of the two."""
    from langchain_finops.cli.eval_shadow import _files

    suite = written(tmp_path / "tasks.suite.yaml", "target: a:b")
    data = written(tmp_path / "tasks.yaml", YAML)
    assert _files(suite, None) == (data, suite)
    assert _files(data, None) == (data, suite)
    table = written(tmp_path / "table.csv", CSV)
    of_table = written(tmp_path / "table.yaml", "target: a:b")
    assert _files(of_table, None) == (table, of_table)
    assert _files(table, None) == (table, of_table)
