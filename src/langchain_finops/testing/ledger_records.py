"""The contract of every ledger: what is written can be read."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from typing import Any

import pytest

from langchain_finops.errors import BadArguments
from langchain_finops.ledger.base import Ledger
from langchain_finops.records import Record
from langchain_finops.testing.records import (
    DAY,
    MONDAY,
    TICK,
    a_call,
    a_charge,
    a_full_call,
    a_run,
    an_event,
    an_outcome,
)
from langchain_finops.usage import Usage

__all__ = ["RecordsContract"]


def readers(ledger: Ledger) -> tuple[Callable[..., Iterator[Record]], ...]:
    """All of them."""
    return ledger.calls, ledger.charges, ledger.runs, ledger.outcomes, ledger.events


class RecordsContract:
    """What is written can be read."""

    def test_a_record_comes_back_as_it_was(self, ledger: Ledger) -> None:
        """No field is lost or rounded: floats for money, or seconds for times, would show here."""
        call, charge, run = a_full_call(), a_charge(quantity=Decimal("1.10"), user_id="u"), a_run(steps=3, step=1)
        outcome = an_outcome(score=0.1, scores={"csat": 4.5}, value_usd=Decimal("0.000000000001"), judged_by="qa")
        event = an_event(before={"usd": "1"}, after=None, reason="more work")

        ledger.write(call, charge, run, outcome, event)

        assert list(ledger.calls()) == [call]
        assert list(ledger.charges()) == [charge]
        assert list(ledger.runs()) == [run]
        assert list(ledger.outcomes()) == [outcome]
        assert list(ledger.events()) == [event]

    def test_an_unknown_price_is_not_zero(self, ledger: Ledger) -> None:
        """None comes back as None, and free as 0."""
        ledger.write(a_call("unknown", usd=None), a_call("free", usd="0"), a_charge("unknown", usd=None))

        assert {call.call_id: call.cost_usd for call in ledger.calls()} == {"unknown": None, "free": Decimal(0)}
        assert [charge.cost_usd for charge in ledger.charges()] == [None]

    def test_writing_twice_changes_nothing(self, ledger: Ledger) -> None:
        """An id and revision count once, in whatever batch they come."""
        records = (a_call(), a_charge(), a_run(), an_outcome(), an_event())

        ledger.write(*records, *records)
        ledger.write(*records)
        ledger.write(a_call(usd="99"), a_charge(usd="99"))

        assert [len(list(read(history=True))) for read in readers(ledger)] == [1, 1, 1, 1, 1]
        assert ledger.totals()[0].totals.cost_usd == Decimal("1.75")

    def test_a_newer_revision_supersedes_and_the_older_one_stays_in_history(self, ledger: Ledger) -> None:
        """Nothing is overwritten: the old figure can still be seen."""
        old, new = a_call(), a_call(usd="0.30", revision=1)
        ledger.write(old)
        ledger.write(new)

        assert list(ledger.calls()) == [new]
        assert list(ledger.calls(history=True)) == [old, new]

    def test_an_older_revision_that_comes_late_is_history(self, ledger: Ledger) -> None:
        """The higher revision is the current one, not the one written last."""
        ledger.write(a_call(usd="0.30", revision=5))
        ledger.write(a_call(usd="0.25", revision=4))

        assert [call.revision for call in ledger.calls()] == [5]
        assert {call.revision for call in ledger.calls(history=True)} == {4, 5}
        assert ledger.totals()[0].totals.cost_usd == Decimal("0.30")

    def test_a_batch_is_written_whole_or_not_at_all(self, ledger: Ledger) -> None:
        """A record that no ledger can keep takes its batch with it."""
        with pytest.raises(BadArguments, match="time zone"):
            ledger.write(a_call(), a_call("naive", started_at=datetime(2026, 3, 2)))  # noqa: DTZ001 - the fault

        assert list(ledger.calls()) == []

    def test_odd_names_and_counts_lose_no_record(self, ledger: Ledger) -> None:
        """A lone surrogate, as file names have, a number for a name, raw usage that is not quite JSON."""
        odd = a_call("\ud83d", agent_id="caf\udce9", user_id=42, run_id="r\udce9", raw_usage={1: {("a", 1): (1, 2)}})
        ledger.write(odd, a_charge("\ud83d", user_id="caf\udce9"), an_outcome("\ud83d"), an_event("\ud83d"))

        call = next(ledger.calls(), a_call())
        assert (call.call_id, call.run_id, call.attribution.agent_id) == ("\\ud83d", "r\\udce9", "caf\\udce9")
        assert call.attribution.user_id == "42"
        assert call.raw_usage == {"1": {"('a', 1)": [1, 2]}}
        assert [outcome.task_id for outcome in ledger.outcomes()] == ["\\ud83d"]
        assert [event.event_id for event in ledger.events()] == ["\\ud83d"]
        assert ledger.forget("caf\udce9") == 1

    def test_nul_in_names_becomes_its_escape(self, ledger: Ledger) -> None:
        """PostgreSQL's text has no NUL, and a name is the same in every ledger; asking for one is no error."""
        odd = a_call("a\0b", user_id="\0", model="m\0", raw_usage={"text": "\0"})
        ledger.write(
            odd, a_charge("\0"), a_run("r\0"), an_outcome("t\0", reason="\0"), an_event("\0", after={"a": "\0"})
        )

        (call,) = ledger.calls()
        assert (call.call_id, call.attribution.user_id, call.model) == ("a\\x00b", "\\x00", "m\\x00")
        assert [outcome.reason for outcome in ledger.outcomes(task_id="t\\x00")] == ["\0"]
        assert list(ledger.calls(call_id="\0", user_id="\ud800")) == []
        assert ledger.totals(["model"], user_id="\0") == []
        assert ledger.forget("\0") == 1

    def test_what_no_table_can_hold_is_refused(self, ledger: Ledger) -> None:
        """By name, rather than failing once it is in the spill file."""
        for wrong in (a_call(usage=Usage(web_searches=2**63)), a_call(revision=2**63), a_run(revision=-(2**63))):
            with pytest.raises(BadArguments, match=r"more than one call can have|out of range"):
                ledger.write(wrong)

        assert [len(list(read())) for read in readers(ledger)] == [0, 0, 0, 0, 0]

    def test_a_resumed_run_whose_revision_is_taken_gets_the_next(self, ledger: Ledger) -> None:
        """Another process that does not know the earlier invocation must not lose its own."""
        ledger.write(a_run(status="interrupted"))
        ledger.write(a_run(invocation_id="i2", status="completed"))
        ledger.write(a_run(invocation_id="i2", status="completed"))

        assert [(run.status, run.revision) for run in ledger.runs()] == [("completed", 1)]
        assert [run.status for run in ledger.runs(history=True)] == ["interrupted", "completed"]

    def test_the_outcome_written_last_counts(self, ledger: Ledger) -> None:
        """A second judgement is a revision, whoever makes it; the first one stays in the history."""
        ledger.write(an_outcome(success=True))
        ledger.write(an_outcome(success=False, judged_by="qa"))

        assert [outcome.success for outcome in ledger.outcomes()] == [False]
        assert [(o.success, o.revision, o.supersedes) for o in ledger.outcomes(history=True)] == [
            (True, 0, None),
            (False, 1, 0),
        ]

    def test_a_run_or_outcome_that_comes_late_is_history(self, ledger: Ledger) -> None:
        """What another process spilled, and recovered after the task was judged anew, takes nothing back."""
        ledger.write(
            a_run(invocation_id="i2", ended_at=MONDAY + DAY),
            an_outcome(success=True, at=MONDAY + DAY),
            an_outcome(success=True, at=MONDAY + 2 * DAY, judged_by="qa"),
        )
        late = (a_run(status="interrupted"), an_outcome(success=False))

        for _ in range(2):
            ledger.write(*late)

        assert [run.status for run in ledger.runs()] == ["completed"]
        assert [outcome.success for outcome in ledger.outcomes()] == [True]
        assert len(list(ledger.runs(history=True))) == 2
        assert [outcome.success for outcome in ledger.outcomes(history=True)] == [False, True, True]
        ledger.write(a_call(task_id="t1"))
        assert ledger.totals()[0].successes == 1

    def test_readers_yield_oldest_first(self, ledger: Ledger) -> None:
        """By when it began, then by when it was written; not by id, nor by when it was written alone."""
        ledger.write(a_call("a", started_at=MONDAY + TICK), a_call("c"), a_call("b"))
        ledger.write(an_outcome("t2", at=MONDAY + TICK), an_outcome("t1"))

        assert [call.call_id for call in ledger.calls()] == ["c", "b", "a"]
        assert [outcome.task_id for outcome in ledger.outcomes()] == ["t1", "t2"]

    def test_a_period_includes_its_beginning_and_not_its_end(self, ledger: Ledger) -> None:
        """To the microsecond, so that periods that meet count nothing twice."""
        ledger.write(
            a_call("before", started_at=MONDAY - TICK), a_call("first"), a_call("last", started_at=MONDAY + DAY - TICK)
        )
        ledger.write(a_call("after", started_at=MONDAY + DAY))

        found = ledger.calls(since=MONDAY, until=MONDAY + DAY)

        assert [call.call_id for call in found] == ["first", "last"]
        assert ledger.totals(since=MONDAY, until=MONDAY + DAY)[0].totals.calls == 2
        with pytest.raises(BadArguments, match="time zone"):
            ledger.calls(since=datetime(2026, 3, 2))  # noqa: DTZ001 - the fault

    def test_filters_name_fields_of_the_record_or_its_attribution(self, ledger: Ledger) -> None:
        """All must match, None means that it does not say, and a wrong name is an error, not everything."""
        ledger.write(a_call("1", user_id="u", task_id="t"), a_call("2", user_id="u", model="m"), a_call("3", step=2))
        ledger.write(a_call("4", attribution=replace(a_full_call().attribution, project="ours"), project="theirs"))

        def found(**filters: Any) -> list[str]:
            return [call.call_id for call in ledger.calls(**filters)]

        assert found(user_id="u") == ["1", "2"]
        assert found(user_id="u", model="m") == ["2"]
        assert found(task_id="t") == ["1"]
        assert found(user_id=None) == ["3"]
        assert found(step=2) == ["3"]
        assert (found(project="ours"), found(project="theirs")) == (["4"], [])
        assert [o.task_id for o in ledger.outcomes(task_id="nobody")] == []
        for wrong in (ledger.calls, ledger.outcomes, ledger.totals):
            with pytest.raises(BadArguments, match="agent_name"):
                wrong(agent_name="support")

    def test_many_records_come_in_order_and_once(self, ledger: Ledger) -> None:
        """However a ledger pages: 2,500 calls, most of which began at the same moment."""
        ledger.write(*(a_call(f"{number:04}", started_at=MONDAY + TICK * (number // 2000)) for number in range(2500)))

        assert [call.call_id for call in ledger.calls()] == [f"{number:04}" for number in range(2500)]
