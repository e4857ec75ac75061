"""Outcomes from files: all of a file or nothing, twice is once, every fault at once."""

from datetime import UTC, datetime
from decimal import Decimal

import pytest

from langchain_finops.errors import BadData
from langchain_finops.ledger import open_ledger
from langchain_finops.reports.outcomes import Imported, import_outcomes, read_outcomes
from langchain_finops.testing.records import MONDAY, a_call, an_outcome

CSV = """task_id,success,value_usd,score,scores,at,reason
t1,true,5.10,0.5,"{""csat"": 4}",2026-03-02T12:00:00Z,solved
"t,2",failed,,,,2026-03-02T13:00:00+01:00,"wrong
account"
t3,,,,,2026-03-03,
"""


@pytest.fixture
def ledger(tmp_path):
    opened = open_ledger(tmp_path / "ledger.db")
    yield opened
    opened.close()


def written(tmp_path, text, name="tickets.csv"):
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode("utf-8"))
    return path


def test_a_csv_says_what_became_of_tasks(tmp_path):
    """Quotes, empty fields, words for success, times with and without a zone; the file's name is who says so."""
    one, two, three = read_outcomes(written(tmp_path, CSV))

    assert (one.task_id, one.success, one.value_usd, one.score, one.scores) == (
        "t1",
        True,
        Decimal("5.1"),
        0.5,
        {"csat": 4},
    )
    assert (two.task_id, two.success, two.at, two.reason) == ("t,2", False, MONDAY, "wrong\naccount")
    assert (three.success, three.at, three.judged_by) == (None, datetime(2026, 3, 3, tzinfo=UTC), "tickets.csv")


def test_jsonl_says_the_same(tmp_path):
    """Amounts are exact, whether strings or numbers; every plane of Unicode is a name."""
    line = '{"task_id":"\U0001f9ea\\u0000\u202e=1","success":true,"value_usd":0.1,"at":"2026-03-02T12:00:00Z"}\n\n'
    (one,) = read_outcomes(written(tmp_path, line, "x.jsonl"), judged_by="anna")
    assert (one.task_id, one.value_usd, one.judged_by) == ("\U0001f9ea\x00\u202e=1", Decimal("0.1"), "anna")


def test_importing_twice_changes_nothing_and_late_ones_are_history(ledger, tmp_path):
    """The second import finds all there. A verdict older than the current one does not replace it; a newer one does."""
    ledger.write(a_call(task_id="t1"), an_outcome("t1", success=False, at=MONDAY.replace(hour=20)))
    said = read_outcomes(written(tmp_path, CSV))

    assert import_outcomes(ledger, said) == Imported(new=3, revised=1, known=0, unknown=2, example="t,2")
    assert {each.task_id: each.success for each in ledger.outcomes()} == {"t1": False, "t,2": False, "t3": None}
    assert len(list(ledger.outcomes(history=True))) == 4
    assert import_outcomes(ledger, said).known == 3
    assert len(list(ledger.outcomes(history=True))) == 4
    later = written(tmp_path, "task_id,success,at\nt1,yes,2026-03-02T21:00:00Z\n")
    assert import_outcomes(ledger, read_outcomes(later)).revised == 1
    assert {each.task_id: each.success for each in ledger.outcomes()}["t1"] is True


def test_amounts_below_a_picodollar_and_repeated_lines_are_one(ledger, tmp_path):
    """What a ledger rounds is the same outcome the second time, as is a line that stands twice."""
    line = '{"task_id":"t","success":true,"value_usd":"0.00000000000049","at":"2026-03-02T12:00:00Z"}\n'
    said = read_outcomes(written(tmp_path, line * 2, "x.jsonl"))
    assert import_outcomes(ledger, said).new == 1
    assert import_outcomes(ledger, said).new == 0


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("x.jsonl", '{"task_id":"t","success":tr', ["x.jsonl:1: is no JSON"]),
        ("x.jsonl", "[1]", ["x.jsonl:1: is no object"]),
        ("x.csv", 'task_id,success,at\nt,true,"2026-03-02', ["is no CSV"]),
        ("x.csv", "task_id,success,at\nt,true", ["x.csv:2: has 2 fields, the header has 3"]),
        ("x.csv", "task_id,task_id\n", ["x.csv:1: is no header"]),
        ("x.csv", "", ["x.csv:1: is no header"]),
        ("x.csv", b"task_id\xff", ["is no UTF-8"]),
        (
            "x.csv",
            "task_id,success,at,score,value_usd,colour\n,maybe,soon,7,NaN,red\nt,yes,2026-03-02,1,1e99,\n",
            ["'colour'", ":2: success", ":2: at", ":2: score", ":2: value_usd", ":2: task_id", ":3: value_usd"],
        ),
        ("x.jsonl", '{"task_id":7,"at":1,"value_usd":true,"scores":[1]}',
         [": task_id", ": at", ": value_usd", ": scores"]),
        ("x.jsonl", '{"task_id":"t","at":"2026-03-02"}', ["success: is missing"]),
        ("x.jsonl", '{"task_id":"t","success":true}', ["at: is missing"]),
    ],
)  # fmt: skip
def test_every_fault_is_told_at_once(tmp_path, name, text, told):
    """With file, line, field and what would be right."""
    with pytest.raises(BadData) as raised:
        read_outcomes(written(tmp_path, text, name))
    for part in told:
        assert part in str(raised.value)
