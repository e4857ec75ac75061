"""Where the ledger cannot be written, the run goes on, records go to the spill file, and recover brings them in."""

import fcntl
import logging
import threading
from pathlib import Path

import pytest
from ledger_faults import largest_file, locked, nobody, spill_of

from langchain_finops.errors import BadData, LedgerError
from langchain_finops.ledger import open_ledger, recover
from langchain_finops.ledger.codec import to_text
from langchain_finops.ledger.spill import Spill
from langchain_finops.testing.records import MONDAY, a_call, a_charge, a_full_call, a_run, an_event, an_outcome
from langchain_finops.usage import Usage


def test_a_locked_ledger_spills_and_recovers(path: Path, opened, caplog: pytest.LogCaptureFixture):
    """Every kind of record comes back exactly; it is said once, and counted."""
    ledger = opened(path, hold_timeout=0.05)
    records = (a_full_call(), a_charge(), a_run(), an_outcome(), an_event(before={"a": 1}))

    with locked(path), caplog.at_level(logging.WARNING, "langchain_finops"):
        ledger.write(*records)
        ledger.write(a_call("2"))

    assert ledger.spilled == 6
    assert len(caplog.records) == 1
    assert "finops recover" in caplog.text
    assert list(ledger.calls()) == []
    assert recover(ledger) == 6
    assert [call.call_id for call in ledger.calls()] == ["2", "full"]
    assert next(call for call in ledger.calls() if call.call_id == "full") == a_full_call()
    assert [*ledger.charges(), *ledger.runs(), *ledger.outcomes(), *ledger.events()] == list(records[1:])
    assert [file.name for file in path.parent.iterdir() if "spill" in file.name] == []
    assert recover(ledger) == 0


def test_a_write_after_a_failure_waits_no_second_time(path: Path, opened):
    """A run of many calls is not held up for `hold_timeout` at each; the first that gets through ends the haste."""
    ledger = opened(path, hold_timeout=3600.0)
    ledger._writer.failing = True

    with locked(path):
        ledger.write(a_call("1"))
    ledger.write(a_call("2"))

    assert (ledger.spilled, ledger._writer.failing) == (1, False)


def test_a_full_disk_spills(path: Path, opened):
    """The database cannot grow, the smaller spill file still can; nothing that returned is lost."""
    ledger = opened(path)
    log = path.with_name("ledger.db-wal")

    with largest_file(log.stat().st_size + 20_000):
        for number in range(100):
            ledger.write(a_call(f"{number}", run_id=f"r{number}"))

    assert ledger.spilled > 0
    assert recover(ledger) == ledger.spilled
    (group,) = ledger.totals()
    assert (group.totals.calls, group.runs) == (100, 100)


def test_records_that_nothing_can_take_raise(path: Path, opened):
    """Where the spill file cannot be written either, whoever writes is told: they are lost."""
    ledger = opened(path)

    with largest_file(0), pytest.raises(LedgerError, match="1 records are lost"):
        ledger.write(a_call())

    ledger.write(a_call())
    assert len(list(ledger.calls())) == 1


def test_a_read_only_file_is_read_and_spills(folder: Path):
    """Reports work, and what is written waits beside it until somebody who may write recovers it."""
    path = folder / "ledger.db"
    owner = open_ledger(path)
    owner.write(a_call("1"))
    for file in folder.iterdir():
        file.chmod(0o444)

    with nobody():
        ledger = open_ledger(path)
        ledger.write(a_call("2"))
        assert [call.call_id for call in ledger.calls()] == ["1"]
        assert ledger.totals()[0].totals.calls == 1
        ledger.close()

    assert recover(owner) == 1
    assert len(list(owner.calls())) == 2
    owner.close()


def test_a_read_only_folder_is_read(folder: Path):
    """An archived ledger can still be reported on; who writes to it is told that nothing can take the record."""
    path = folder / "ledger.db"
    owner = open_ledger(path)
    owner.write(a_call("1"))
    owner.close()
    path.chmod(0o444)
    folder.chmod(0o555)

    with nobody():
        ledger = open_ledger(path)
        assert [call.call_id for call in ledger.calls()] == ["1"]
        assert ledger.totals()[0].totals.calls == 1
        with pytest.raises(LedgerError, match="records are lost"):
            ledger.write(a_call("2"))
        ledger.close()
    folder.chmod(0o777)


def test_recover_leaves_what_it_could_not_bring_in(path: Path, opened):
    """A recovery that fails half-way loses nothing: the next one finishes it."""
    ledger = opened(path, hold_timeout=0.01)
    with locked(path):
        ledger.write(*(a_call(f"{number}") for number in range(3)))
        ledger._writer.spill.take()
        ledger.write(a_call("later"))

    assert recover(ledger) == 4


def test_lines_that_are_no_records_are_listed_and_kept(path: Path, opened):
    """A line cut short by a kill costs no other line, and none disappears."""
    ledger = opened(path)
    spill = Spill(path)
    spill.append([a_call("1")])
    with spill_of(path).open("a") as file:
        file.write('["call", {"call_id": "cut')
    spill.append([a_call("2")])
    with spill_of(path).open("a") as file:
        file.write('["call", {"call_id": "c", "colour": 1}]\n[]\n')

    with pytest.raises(BadData) as raised:
        recover(ledger)

    assert [fault.where.rpartition(":")[2] for fault in raised.value.faults] == ["1", "2", "3"]
    assert [call.call_id for call in ledger.calls()] == ["1", "2"]
    (kept,) = [file for file in path.parent.iterdir() if "spill" in file.name]
    assert kept.read_text().splitlines() == [
        '["call", {"call_id": "cut',
        '["call", {"call_id": "c", "colour": 1}]',
        "[]",
    ]
    assert raised.value.faults[0].where == f"{kept}:1"
    assert recover(ledger) == 0


@pytest.mark.parametrize(
    "line",
    [b"\xff\xfe", b'["call", null]', b'["call",{"error":[]}]', b'["call",{"usage":{"requests":"x"}}]',
     b'["outcome",{"task_id":"t","at":1e400}]', b"[" * 100_000],
)  # fmt: skip
def test_a_line_of_anything_blocks_nothing(path: Path, opened, line: bytes):
    """A broken disk or another program may have written it."""
    ledger = opened(path)
    Spill(path).append([a_call("1")])
    with spill_of(path).open("ab") as file:
        file.write(line + b"\n")
    Spill(path).append([a_call("2")])

    with pytest.raises(BadData):
        recover(ledger)

    assert recover(ledger) == 0
    assert [call.call_id for call in ledger.calls()] == ["1", "2"]


def test_a_record_that_the_ledger_refuses_blocks_nothing(path: Path, opened):
    """It is put aside alone, and all others come in."""
    ledger = opened(path)
    Spill(path).append([a_call("1"), a_call("2", usage=Usage(web_searches=2**63)), a_call("3")])

    with pytest.raises(BadData, match="more than one call can have"):
        recover(ledger)

    assert recover(ledger) == 0
    assert [call.call_id for call in ledger.calls()] == ["1", "3"]


def test_two_that_recover_at_once_lose_and_break_nothing(path: Path, opened, monkeypatch: pytest.MonkeyPatch):
    """Another process takes away the files that this one is about to read."""
    one, other = opened(path), opened(path)
    for number in range(2):
        Spill(path).append([a_call(f"{number}")])
        Spill(path).take()
    append = one._append_patiently

    def meanwhile(records: object) -> int:
        new = append(records)
        recover(other)
        return new

    monkeypatch.setattr(one, "_append_patiently", meanwhile)

    assert recover(one) == 1
    assert [call.call_id for call in one.calls()] == ["0", "1"]


def test_a_name_with_brackets_recovers(tmp_path: Path, opened):
    """`[cx]` in a file's name is no pattern."""
    path = tmp_path / "team[cx].db"
    ledger = opened(path)
    Spill(path).append([a_call()])

    assert recover(ledger) == 1
    assert Spill(path).is_empty()


def test_what_is_there_already_is_not_new(path: Path, opened):
    """A record may be both in the ledger and in the spill file, if the ledger was only slow."""
    ledger = opened(path)
    ledger.write(a_call("1"), an_outcome(success=False))
    Spill(path).append([a_call("1"), an_outcome(success=False), a_call("2")])

    assert recover(ledger) == 1
    assert len(list(ledger.outcomes(history=True))) == 1


def test_recovering_while_others_spill_loses_nothing(path: Path, opened):
    """The file is moved away only when nobody is about to append to it."""
    ledger = opened(path)
    spill = Spill(path)

    def spill_some(thread: int) -> None:
        for number in range(40):
            spill.append([a_call(f"{thread}-{number}")])

    threads = [threading.Thread(target=spill_some, args=(thread,)) for thread in range(4)]
    for thread in threads:
        thread.start()
    recovered = 0
    while any(thread.is_alive() for thread in threads):
        recovered += recover(ledger)
    recovered += recover(ledger)

    assert recovered == ledger.totals()[0].totals.calls == 160


def test_a_file_that_is_moved_away_meanwhile_is_not_written_to(path: Path, monkeypatch: pytest.MonkeyPatch):
    """Between opening the file and locking it, a recovery may take it, and never look at it again."""
    spill, flock = Spill(path), fcntl.flock
    spill.append([a_call("1")])
    taken: list[Path] = []

    def taken_first(descriptor: int, how: int) -> None:
        if how == fcntl.LOCK_SH and not taken:
            taken.extend(spill.take())
        flock(descriptor, how)

    monkeypatch.setattr(fcntl, "flock", taken_first)
    spill.append([a_call("2")])

    assert (b'"1"' in taken[0].read_bytes(), b'"2"' in taken[0].read_bytes()) == (True, False)
    assert b'"2"' in spill.path.read_bytes()


def test_forget_reaches_what_was_spilled(path: Path, opened):
    """Or the next recovery would bring the person back."""
    ledger = opened(path)
    Spill(path).append([a_call(user_id="ada")])

    assert ledger.forget("ada") == 1
    assert [call.attribution.user_id for call in ledger.calls()] == [None]


@pytest.mark.parametrize("cut", [20, None])
def test_forget_is_not_kept_from_it_by_lines_that_are_cut_short(path: Path, opened, cut: int | None):
    """The person is gone from the ledger, and from what stays of the lines."""
    ledger = opened(path)
    ledger.write(a_call("1", user_id="ada"))
    line = to_text(a_call("2", user_id="ada"))
    torn = line[:-cut] if cut else line[: line.index("ada") + 2]
    spill_of(path).write_text(f"{torn}\n[]\n")

    assert ledger.forget("ada") == 1

    left = [file.read_bytes() for file in path.parent.iterdir() if file.suffix == ".unreadable"]
    assert left == [b"[]\n"]


def test_memory_has_nothing_to_recover():
    """So that `recover` may be called on any ledger."""
    ledger = open_ledger(":memory:")
    ledger.write(a_call(started_at=MONDAY))

    assert recover(ledger) == 0
