"""Golden datasets: every bad line is told at once, and what was not asked for stays harmless."""

from pathlib import Path

import pytest

from langchain_finops.errors import BadData, EvalError
from langchain_finops.evals.dataset import Dataset, Item, content_hash, load_dataset

GOOD = '{"id": "a", "inputs": {"n": 1}, "outputs": {"answer": "2"}}'


def written(tmp_path: Path, *lines: str) -> Path:
    path = tmp_path / "tasks.jsonl"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def faults_of(path: Path) -> list[str]:
    with pytest.raises(BadData) as caught:
        load_dataset(path)
    return [f"{fault.where.removeprefix(f'{path}:')} | {fault.what}" for fault in caught.value.faults]


def test_a_line_is_an_item(tmp_path: Path) -> None:
    """Each line becomes an item in the order of the file; optional fields are kept, blank lines skipped."""
    path = written(
        tmp_path,
        GOOD,
        "",
        '{"id": "b", "inputs": {}, "outputs": {}, "metadata": {"hard": true}, "split": "test", "created_at": "x"}',
    )

    dataset = load_dataset(path)

    assert dataset.name == "tasks"
    assert dataset.items == (
        Item(id="a", inputs={"n": 1}, outputs={"answer": "2"}, line=1),
        Item(id="b", inputs={}, outputs={}, metadata={"hard": True}, split="test", line=3),
    )


def test_every_bad_line_is_told_at_once_with_file_line_and_field(tmp_path: Path) -> None:
    """One look shows all that is wrong; nothing of the file is used."""
    path = written(
        tmp_path,
        GOOD,
        '{"id": "a", "inputs": {"n": 2}, "outputs": {}}',
        '{"inputs": [], "outputs": {}}',
        '{"id": "c", "inputs": {}}',
        "{oops",
        "[1]",
        '{"id": "d", "inputs": {}, "outputs": {}, "metadata": 5, "split": ["x"]}',
        '{"id": "", "inputs": {}, "outputs": {}}',
        '{"id": "e", "id": "f", "inputs": {}, "outputs": {}}',
        '{"id": "g", "inputs": {"x": NaN}, "outputs": {}}',
        '{"id": "h", "inputs": {}, "outputs": {}, "metdata": {}}',
        '{"id": "c", "inputs": {}, "outputs": {}}',
    )

    assert faults_of(path) == [
        "2: id | id 'a' is that of line 1 already: ids are distinct",
        "3: id | is missing: a text that no other line has",
        "3: inputs | [] found: an object is expected",
        "4: outputs | is missing: an object is expected",
        "5 | not JSON: Expecting property name enclosed in double quotes at column 2",
        "6 | list found: an object is expected",
        "7: metadata | 5 found: an object is expected",
        "7: split | ['x'] found: a text is expected",
        "8: id | '' found: a text that is not empty is expected",
        "9 | the field 'id' stands there twice",
        "10 | NaN is not JSON",
        "11: metdata | is no field: 'metadata' is meant?",
        "12: id | id 'c' is that of line 4 already: ids are distinct",
    ]


def test_a_file_that_is_not_utf8_names_the_line(tmp_path: Path) -> None:
    """A wrong encoding is a fault of its line, not a traceback."""
    path = tmp_path / "tasks.jsonl"
    path.write_bytes(GOOD.encode() + b"\n{\xff\n")

    assert faults_of(path) == ["2 | byte 2 is not UTF-8"]


def test_a_line_nested_too_deep_is_a_fault(tmp_path: Path) -> None:
    """What Python cannot read is told like any other fault."""
    path = written(tmp_path, '{"id": "a", "inputs": {"x": ' + "[" * 100_000 + "]" * 100_000 + '}, "outputs": {}}')

    assert faults_of(path) == ["1 | nested too deep"]


def test_an_empty_file_is_told(tmp_path: Path) -> None:
    """A run over nothing would look like a success."""
    path = tmp_path / "tasks.jsonl"
    path.write_text("\n")

    with pytest.raises(BadData, match="has no items"):
        load_dataset(path)


def test_a_missing_file_is_one_sentence(tmp_path: Path) -> None:
    """The error names the file and what is the matter with it."""
    with pytest.raises(EvalError, match=r"nowhere\.jsonl cannot be read: No such file"):
        load_dataset(tmp_path / "nowhere.jsonl")


def test_a_windows_file_reads_the_same(tmp_path: Path) -> None:
    """A byte order mark and carriage returns change nothing, not even the hash."""
    unix, windows = tmp_path / "unix.jsonl", tmp_path / "windows.jsonl"
    unix.write_bytes(GOOD.encode() + b"\n")
    windows.write_bytes(b"\xef\xbb\xbf" + GOOD.encode() + b"\r\n")

    assert load_dataset(windows).items == load_dataset(unix).items
    assert load_dataset(windows).hash == load_dataset(unix).hash


def test_numbers_may_be_ids(tmp_path: Path) -> None:
    """An id that is a number is used as text, and clashes with the text that reads the same."""
    path = written(tmp_path, GOOD.replace('"a"', "7"), GOOD.replace('"a"', '"7"'))

    assert faults_of(path) == ["2: id | id '7' is that of line 1 already: ids are distinct"]


def test_hashes_follow_content_only(tmp_path: Path) -> None:
    """Inputs decide whether an answer still counts, the reference whether a verdict does; layout decides nothing."""
    item = Item(id="a", inputs={"x": 1, "y": 2}, outputs={"answer": "2"}, line=1)
    same = Item(id="a", inputs={"y": 2, "x": 1}, outputs={"answer": "2"}, line=9)
    corrected = Item(id="a", inputs={"x": 1, "y": 2}, outputs={"answer": "3"}, line=1)

    assert item.inputs_hash == same.inputs_hash == corrected.inputs_hash
    assert item.hash == same.hash != corrected.hash
    one = Dataset(path=tmp_path, items=(item, Item(id="b", inputs={}, outputs={}, line=2)))
    other = Dataset(path=tmp_path, items=tuple(reversed(one.items)))
    assert one.hash == other.hash
    assert one.hash != Dataset(path=tmp_path, items=(corrected, one.items[1])).hash


@pytest.mark.parametrize(
    "said", ['"split": "test"', '"turns": [{"n": 2}]', '"answers": ["yes"]', '"labels": {"exact": true}']
)
def test_whatever_an_item_says_is_in_the_hash_of_its_dataset(tmp_path: Path, said: str) -> None:
    """Two versions that differ in a turn, an answer, a label or a split are two versions."""
    plain = load_dataset(written(tmp_path, GOOD)).hash

    assert load_dataset(written(tmp_path, GOOD.removesuffix("}") + f", {said}}}")).hash != plain


def test_hash_is_pinned() -> None:
    """A stored hash must mean the same in every version, or answers would be bought again."""
    # printf '{"a":[1,"\u00e9"]}' | sha256sum
    expected = "5db14a2cddc92d31365806bb5d82ed2bc436bf6960d10cd4654140f7bdadce1c"

    assert content_hash({"a": [1, "\u00e9"]}) == expected
