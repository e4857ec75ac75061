"""Files of calls, charges, runs and outcomes: every field, exactly, or nothing."""

import csv
import json
from dataclasses import fields
from datetime import timedelta
from decimal import Decimal

import pytest
from pyarrow import parquet

from langchain_finops.errors import BadArguments
from langchain_finops.exports.files import Field, write_rows
from langchain_finops.exports.records import FIELDS, export_records
from langchain_finops.ledger import open_ledger
from langchain_finops.ledger.marks import Marks
from langchain_finops.records import Attribution, CallRecord, ChargeRecord, Outcome, RunRecord
from langchain_finops.testing.records import MONDAY, a_call, a_charge, a_full_call, a_run, an_outcome
from langchain_finops.usage import Usage


@pytest.fixture
def ledger():
    with_records = open_ledger(":memory:")
    with_records.write(
        a_full_call(),
        a_call("evil", usd=None, agent_id="=HYPERLINK(1)", started_at=MONDAY + timedelta(days=2)),
        a_charge("credit", usd="-2", kind="credit", name="+refund"),
        a_run(stop_reason="budget:day"),
        an_outcome(success=None, scores={"csat": 4.5}),
        an_outcome("t2", value_usd=Decimal("0.1")),
    )
    return with_records


def rows_of(path):
    """A CSV's rows by field."""
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_a_csv_has_every_field_and_unknown_is_empty(ledger, tmp_path):
    """Amounts are exact decimals; what nobody knows is empty and never 0; names cannot be run as formulas."""
    assert export_records(ledger, "calls", tmp_path / "calls.csv").rows == 2
    full, evil = rows_of(tmp_path / "calls.csv")
    assert (full["cost_usd"], full["billed_usd"]) == ("1234567.000000000123", "0.0")
    assert full["started_at"] == "2026-03-02T23:59:59.999999Z"
    assert json.loads(full["tags"]) == {"team": "cx", "cost": "ä 0.1"}
    assert (full["project"], full["provider_project"]) == ("the project", "the project")
    assert (full["error_class"], full["http_status"], full["estimated"]) == ("APITimeoutError", "504", "true")
    assert json.loads(full["reasons"]) == ["no_usage_reported", "unknown_tier"]
    assert (evil["cost_usd"], evil["billed_usd"], evil["meter_usd"]) == ("", "", "")
    assert (evil["agent_id"], evil["input_tokens"], evil["http_status"]) == ("'=HYPERLINK(1)", "100", "")


def test_json_lines_are_objects_with_exact_decimals_as_strings(ledger, tmp_path):
    """One object a line; lists and objects stay what they are."""
    export_records(ledger, "calls", tmp_path / "calls.jsonl")
    full, evil = map(json.loads, (tmp_path / "calls.jsonl").read_text("utf-8").splitlines())
    assert list(full) == [field.name for field in FIELDS["calls"]]
    assert full["meter_usd"] == {"input_tokens": "0.00000000000000123", "requests": "1000"}
    assert (full["cost_usd"], full["tags"]["team"], evil["cost_usd"]) == ("1234567.000000000123", "cx", None)


def test_parquet_keeps_types(ledger, tmp_path):
    """Decimals, times and whole numbers are columns of their types; unknown is null."""
    export_records(ledger, "calls", tmp_path / "calls.parquet")
    table = parquet.read_table(tmp_path / "calls.parquet")
    assert table.column("cost_usd").to_pylist() == [Decimal("1234567.000000000123"), None]
    assert str(table.schema.field("started_at").type) == "timestamp[us, tz=UTC]"
    assert table.column("input_tokens").to_pylist() == [10**12, 100]


def test_charges_runs_and_outcomes_are_written_too(ledger, tmp_path):
    """A credit is negative, and no formula; a verdict that could not be told is empty."""
    for kind in ("charges", "runs", "outcomes"):
        export_records(ledger, kind, tmp_path / f"{kind}.csv")
    (credit,) = rows_of(tmp_path / "charges.csv")
    assert (credit["cost_usd"], credit["name"], credit["quantity"]) == ("-2.0", "'+refund", "1.0")
    (run,) = rows_of(tmp_path / "runs.csv")
    assert (run["status"], run["stop_reason"]) == ("completed", "budget:day")
    unknown, valued = rows_of(tmp_path / "outcomes.csv")
    assert (unknown["success"], unknown["value_usd"], json.loads(unknown["scores"])) == ("", "", {"csat": 4.5})
    assert (valued["success"], valued["value_usd"]) == ("true", "0.1")


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_an_empty_ledger_is_an_empty_file_with_its_fields(suffix, tmp_path):
    """No rows, and no fault."""
    assert export_records(open_ledger(":memory:"), "calls", tmp_path / f"calls{suffix}").rows == 0
    if suffix == ".csv":
        assert (tmp_path / "calls.csv").read_text("utf-8").startswith("call_id,run_id,")
    if suffix == ".parquet":
        assert parquet.read_table(tmp_path / "calls.parquet").column_names[0] == "call_id"


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_what_fails_in_the_middle_leaves_the_old_file_and_nothing_else(suffix, tmp_path):
    """A file is replaced whole or not at all."""
    path = tmp_path / f"calls{suffix}"
    path.write_text("the old one", "utf-8")

    def rows():
        for number in range(20_000):
            yield (number,)
        raise RuntimeError("the ledger is gone")

    with pytest.raises(RuntimeError, match="the ledger is gone"):
        write_rows(path, [Field(name="n", kind="integer", meaning="")], rows())
    assert path.read_text("utf-8") == "the old one"
    assert list(tmp_path.iterdir()) == [path]


def test_a_link_stays_a_link(tmp_path):
    """What it points to is replaced."""
    (tmp_path / "real.csv").write_text("old", "utf-8")
    (tmp_path / "calls.csv").symlink_to(tmp_path / "real.csv")
    export_records(open_ledger(":memory:"), "runs", tmp_path / "calls.csv")
    assert (tmp_path / "calls.csv").is_symlink()
    assert (tmp_path / "real.csv").read_text("utf-8").startswith("run_id,")


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("calls.xlsx", "no ending that tells its format"),
        ("none/calls.csv", "there is no folder"),
        ("calls.csv", "no ordinary file"),
    ],
)
def test_a_file_that_cannot_be_written_is_told_before_anything_is_read(name, told, tmp_path):
    """In one sentence."""
    if name == "calls.csv":
        (tmp_path / name).mkdir()
    with pytest.raises(BadArguments, match=told):
        write_rows(tmp_path / name, [], iter(()))


def test_folded_calls_are_counted_as_left_out(tmp_path):
    """`finops prune` leaves sums only: the file says by how much it is short of them."""
    ledger = open_ledger(tmp_path / "ledger.db")
    ledger.write(a_call("1"), a_call("2", started_at=MONDAY + timedelta(days=3)))
    ledger.prune(MONDAY + timedelta(days=1))
    done = export_records(ledger, "calls", tmp_path / "calls.csv")
    ledger.close()
    assert (done.rows, done.left_out) == (1, 1)


@pytest.mark.parametrize(
    ("kind", "record", "elsewhere"),
    [
        ("calls", CallRecord, {"usage", "raw_usage", "attribution", "error", "project", "prompt_digests"}),
        ("charges", ChargeRecord, {"attribution", "error"}),
        ("runs", RunRecord, {"attribution"}),
        ("outcomes", Outcome, set()),
    ],
)
def test_no_field_of_a_record_is_forgotten(kind, record, elsewhere):
    """All that a record says is in its file; only raw counts and the digests of prefixes are left out."""
    named = {field.name for field in FIELDS[kind]}
    wanted = {field.name for field in fields(record)} - elsewhere
    wanted |= {field.name for field in fields(Attribution)} if "attribution" in elsewhere else set()
    wanted |= {field.name for field in fields(Usage)} if "usage" in elsewhere else set()
    assert wanted <= named


def test_equal_prompts_have_one_digest(tmp_path):
    """The digest of the whole prompt, in hexadecimal; nothing for a short prompt, nor for what nobody can read."""
    digests = [Marks(whole=bytes(7) + b"\x0a", size=900).to_bytes(), None, b"\xff\xff"]
    ledger = open_ledger(":memory:")
    ledger.write(*(a_call(str(n), prompt_digests=digest) for n, digest in enumerate(digests)))
    export_records(ledger, "calls", tmp_path / "calls.csv")
    assert [row["prompt_digest"] for row in rows_of(tmp_path / "calls.csv")] == ["000000000000000a", "", ""]


def test_what_a_parquet_column_cannot_hold_is_one_sentence(tmp_path):
    """A quantity of forty digits: nothing is written, and CSV has it."""
    ledger = open_ledger(":memory:")
    ledger.write(a_charge("vast", quantity=Decimal(10) ** 20))
    with pytest.raises(BadArguments, match=r"write \.csv instead"):
        export_records(ledger, "charges", tmp_path / "charges.parquet")
    assert list(tmp_path.iterdir()) == []
    export_records(ledger, "charges", tmp_path / "charges.csv")
    assert rows_of(tmp_path / "charges.csv")[0]["quantity"] == "100000000000000000000.0"
