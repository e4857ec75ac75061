"""Attempts and verdicts on disk: exact, a line each, whole after a crash."""

import json
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pytest

from langchain_finops.errors import BadData, EvalError
from langchain_finops.evals.results import (
    RUN_FIELDS,
    AttemptResult,
    JsonLines,
    Verdict,
    last_tries,
    read_attempts,
    read_run,
    read_verdicts,
    write_run,
)
from langchain_finops.records import CallError

ATTEMPT = AttemptResult(
    configuration="five shots",
    task="t-1",
    repeat=2,
    try_number=1,
    status="error",
    stop_reason="infrastructure",
    answer={"text": "naïve\u2028\n", "n": [1, None]},
    trajectory=("plan", "act/search"),
    cost_usd=None,
    known_usd=Decimal("1234567.000000000123"),
    contracted_usd=Decimal("0.1"),
    billed_usd=Decimal(0),
    charges_usd=Decimal("0.005"),
    costs_by_card={"hosted": Decimal("1E-12"), "own": None},
    overhead_usd=Decimal("0.000000000001"),
    usage={"input_tokens": 3},
    calls=2,
    unpriced_calls=1,
    estimated_calls=1,
    failed_calls=1,
    replayed_calls=1,
    latency_s=0.25,
    started_at=datetime(2026, 7, 4, 12, 0, 0, 123456, tzinfo=UTC),
    ended_at=datetime(2026, 7, 4, 12, 0, 1, tzinfo=UTC),
    error=CallError(error_class="APIConnectionError", http_status=503, code="busy"),
    task_id="run/five shots/t-1/2-abc",
    fingerprint="f",
    item_hash="i",
    configuration_hash="c",
)
VERDICT = Verdict(
    configuration="a",
    task="t",
    repeat=0,
    try_number=1,
    scorer="exact",
    success=None,
    score=0.5,
    reason="why",
    scorer_hash="s",
    item_hash="i",
)


def test_an_attempt_comes_back_exactly(tmp_path: Path) -> None:
    """Every field survives the file: amounts to the last digit, times to the microsecond."""
    with JsonLines(tmp_path / "attempts.jsonl") as lines:
        lines.append(ATTEMPT, replace(ATTEMPT, error=None, answer=None))

    attempts, torn = read_attempts(tmp_path)

    assert attempts == [ATTEMPT, replace(ATTEMPT, error=None, answer=None)]
    assert torn == []


def test_amounts_are_exact_decimal_strings() -> None:
    """No amount is a float, and none has an exponent that other readers stumble over."""
    plain = ATTEMPT.to_json()

    assert plain["known_usd"] == "1234567.000000000123"
    assert plain["costs_by_card"] == {"hosted": "0.000000000001", "own": None}
    assert plain["cost_usd"] is None


def test_a_verdict_comes_back(tmp_path: Path) -> None:
    """Unknown stays unknown."""
    with JsonLines(tmp_path / "scores.jsonl") as lines:
        lines.append(VERDICT)

    assert read_verdicts(tmp_path) == ([VERDICT], [])


def test_a_torn_last_line_is_told_and_left_out(tmp_path: Path) -> None:
    """What a crash cut off is no fault of the file."""
    path = tmp_path / "scores.jsonl"
    with JsonLines(path) as lines:
        lines.append(VERDICT)
    with path.open("ab") as file:
        file.write(b'{"configuration": "a", "ta')

    verdicts, torn = read_verdicts(tmp_path)

    assert verdicts == [VERDICT]
    assert [str(fault) for fault in torn] == [f"{path}:2: the last line is torn by a crash and is left out"]


def test_appending_after_a_crash_cuts_the_torn_line_off(tmp_path: Path) -> None:
    """What follows a torn line must not be glued to its rest."""
    path = tmp_path / "scores.jsonl"
    path.write_bytes(json.dumps(VERDICT.to_json()).encode() + b"\n" + b'{"torn')

    with JsonLines(path) as lines:
        lines.append(VERDICT)

    assert read_verdicts(tmp_path) == ([VERDICT, VERDICT], [])


@pytest.mark.parametrize(
    "line",
    [
        "{}",
        "[]",
        "oops",
        json.dumps({**ATTEMPT.to_json(), "status": "won"}),
        json.dumps({**ATTEMPT.to_json(), "cost_usd": 0.1}),
        json.dumps({**ATTEMPT.to_json(), "known_usd": "NaN"}),
        json.dumps({**ATTEMPT.to_json(), "known_usd": None}),
        json.dumps({**ATTEMPT.to_json(), "repeat": "2"}),
        json.dumps({**ATTEMPT.to_json(), "started_at": "2026-07-04T12:00:00"}),
        json.dumps({**ATTEMPT.to_json(), "trajectory": "plan"}),
        json.dumps({**ATTEMPT.to_json(), "error": {"http_status": 5}}),
    ],
)
def test_every_line_that_is_no_attempt_is_told(tmp_path: Path, line: str) -> None:
    """A file that was edited by hand is refused with the number of each bad line: no figure is guessed."""
    path = tmp_path / "attempts.jsonl"
    path.write_text(f"{json.dumps(ATTEMPT.to_json())}\n{line}\n{line}\n")

    with pytest.raises(BadData) as caught:
        read_attempts(tmp_path)

    assert [fault.where for fault in caught.value.faults] == [f"{path}:2", f"{path}:3"]


def test_fields_of_a_newer_version_are_left_alone(tmp_path: Path) -> None:
    """An older reader takes what it knows."""
    (tmp_path / "attempts.jsonl").write_text(json.dumps({**ATTEMPT.to_json(), "carbon_g": 1}) + "\n")

    assert read_attempts(tmp_path) == ([ATTEMPT], [])


def test_nothing_is_there_before_the_first_attempt(tmp_path: Path) -> None:
    """No file is no attempt."""
    assert read_attempts(tmp_path) == ([], [])


def test_the_last_try_decides() -> None:
    """Of a slot's tries the one written last."""
    second = replace(ATTEMPT, try_number=2, status="completed")

    assert last_tries([ATTEMPT, second]) == {("five shots", "t-1", 2): second}


def test_run_json_is_written_in_one_piece(tmp_path: Path) -> None:
    """It comes back as it was, and nothing else is left beside it."""
    run = {**dict.fromkeys(RUN_FIELDS), "run_id": "x", "dataset": {"items": {"é": ["a", "b"]}}}
    write_run(tmp_path / "new", run)

    assert read_run(tmp_path / "new") == run
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["run.json"]


@pytest.mark.parametrize(
    ("text", "message"),
    [(None, "is no results folder"), ("[", "cannot be read"), ("[]", "cannot"), ("{}", "for want of")],
)
def test_a_folder_without_a_run_is_told(tmp_path: Path, text: str | None, message: str) -> None:
    """The error names the folder or the file."""
    if text is not None:
        (tmp_path / "run.json").write_text(text)

    with pytest.raises(EvalError, match=message):
        read_run(tmp_path)
