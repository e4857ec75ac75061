"""The contract of every ledger: sums are exact, and everything is counted in the right place."""

from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from langchain_finops.errors import BadArguments
from langchain_finops.ledger.base import Ledger
from langchain_finops.ledger.totals import DIMENSIONS, Group
from langchain_finops.testing.records import (
    DAY,
    MONDAY,
    a_call,
    a_charge,
    a_full_call,
    a_run,
    an_outcome,
)

__all__ = ["TotalsContract", "by_key"]


def by_key(groups: list[Group]) -> dict[tuple[str | None, ...], Group]:
    """Groups by their key."""
    assert len({group.key for group in groups}) == len(groups)
    return {group.key: group for group in groups}


def only(groups: list[Group]) -> Group:
    """The one group there must be."""
    assert len(groups) == 1
    return groups[0]


class TotalsContract:
    """Sums are exact, and everything is counted in the right place."""

    def test_sums_are_exact_however_large(self, ledger: Ledger) -> None:
        """Neither floats nor 64 bits hold these sums: $24 million and a picodollar."""
        ledger.write(a_call("pico", usd="0.000000000001"), *(a_call(f"{n}", usd="8000000") for n in range(3)))
        ledger.write(*(a_charge(f"{n}", usd="-7999999.999999999999") for n in range(3)))

        totals = ledger.totals()[0].totals

        assert totals.model_usd == totals.billed_usd == totals.contracted_usd == Decimal("24000000.000000000001")
        assert totals.charge_usd == Decimal("-23999999.999999999997")

    def test_every_meter_and_count_is_summed(self, ledger: Ledger) -> None:
        """Each on its own: a mixed-up column would show."""
        usage = a_full_call().usage
        ledger.write(a_full_call(), replace(a_full_call(), call_id="b", usage=replace(usage, web_searches=60)))
        ledger.write(
            a_call(usd=None), a_charge(), a_charge("h2", usd=None), a_call("x", usd="1", billed_usd=Decimal(0))
        )

        totals = ledger.totals()[0].totals

        assert (totals.calls, totals.errors, totals.estimated, totals.unpriced) == (4, 2, 2, 1)
        assert (totals.charges, totals.charges_unpriced) == (2, 1)
        assert totals.meters["input_tokens"] == 2 * 10**12 + 200
        assert (totals.meters["cached_audio_tokens"], totals.meters["reasoning_tokens"]) == (8, 2)
        assert (totals.meters["web_searches"], totals.meters["requests"]) == (66, 2)
        assert totals.model_usd == 2 * Decimal("1234567.000000000123") + 1
        assert totals.contracted_usd == 2 * Decimal("1234566.999999999999") + 1
        assert totals.billed_usd == 0

    def test_a_superseded_version_leaves_the_group_it_was_in(self, ledger: Ledger) -> None:
        """Repricing or a corrected model moves the cost, run and task; they are not counted in both."""
        ledger.write(
            a_call(model="wrong", task_id="t1"), a_call("2", model="wrong", run_id="r2", usd="9"), an_outcome()
        )
        ledger.write(a_call(model="right", task_id="t1", usd="0.10", revision=1))
        ledger.write(a_call(model="right", task_id="t1", usd="0.20", revision=2))

        groups = by_key(ledger.totals(["model"]))

        right, wrong = groups[("right",)], groups[("wrong",)]
        assert (right.totals.calls, right.runs, right.tasks, right.successes) == (1, 1, 1, 1)
        assert (right.totals.cost_usd, right.totals.meters["input_tokens"]) == (Decimal("0.20"), 100)
        assert (wrong.totals.calls, wrong.totals.cost_usd, wrong.runs, wrong.tasks) == (1, Decimal(9), 1, 0)

    @pytest.mark.parametrize("dimension", sorted(set(DIMENSIONS) - {"day"}))
    def test_calls_and_charges_group_by_every_dimension(self, ledger: Ledger, dimension: str) -> None:
        """A field that a record does not have is None, not left out."""
        name = DIMENSIONS[dimension]
        ledger.write(a_call("1", usd="3", **{name: "judge"}), a_call("2", usd="2", **{name: "overhead"}), a_charge())

        charge = getattr(a_charge(), name, getattr(a_charge().attribution, name, None))
        groups = ledger.totals([dimension])

        assert [(group.key, group.totals.cost_usd) for group in groups] == [
            (("judge",), Decimal(3)),
            (("overhead",), Decimal(2)),
            ((charge,), Decimal("1.50")),
        ]

    def test_groups_of_several_dimensions_come_dearest_first(self, ledger: Ledger) -> None:
        """Keys keep the order asked for; charges count for what is dear."""
        ledger.write(a_call("1", agent_id="a", user_id="u", usd="1"), a_call("2", agent_id="b", user_id="u", usd="2"))
        ledger.write(a_charge(agent_id="a", user_id="u"))

        groups = ledger.totals(["user", "agent", "day"])

        assert [group.key for group in groups] == [("u", "a", "2026-03-02"), ("u", "b", "2026-03-02")]
        with pytest.raises(BadArguments, match="colour"):
            ledger.totals(["colour"])

    def test_nothing_sums_to_one_empty_group_or_none(self, ledger: Ledger) -> None:
        """`by=()` always has its one row."""
        ledger.write(an_outcome(), a_run())

        group = only(ledger.totals())

        assert (group.key, group.totals.calls, group.runs, group.tasks, group.judged) == ((), 0, 0, 0, 0)
        assert ledger.totals(["agent"]) == []

    def test_runs_and_tasks_are_counted_once_in_each_group(self, ledger: Ledger) -> None:
        """Three calls of one task are one task; in two agents it is one of each, and one of all."""
        for number, agent in enumerate(["a", "a", "b"]):
            ledger.write(a_call(f"{number}", agent_id=agent, task_id="t1", run_id="r1"))
        ledger.write(
            a_call("other", agent_id="b", task_id="t2", run_id="r2"), a_call("none", agent_id="c", run_id="r3")
        )
        ledger.write(an_outcome("t1", value_usd=Decimal(5)), an_outcome("t2", success=False))
        ledger.write(an_outcome("elsewhere"))

        groups = by_key(ledger.totals(["agent"]))
        everything = only(ledger.totals())

        counts = {key: (g.runs, g.tasks, g.judged, g.successes, g.value_pico) for key, g in groups.items()}
        assert counts == {
            ("a",): (1, 1, 1, 1, 5 * 10**12),
            ("b",): (2, 2, 2, 1, 5 * 10**12),
            ("c",): (1, 0, 0, 0, 0),
        }
        assert (everything.runs, everything.tasks, everything.judged, everything.successes) == (3, 2, 2, 1)

    def test_an_outcome_that_cannot_tell_is_not_judged(self, ledger: Ledger) -> None:
        """None is neither success nor failure; its revision replaces it."""
        ledger.write(a_call("1", task_id="t1"), a_call("2", task_id="t2"), an_outcome("t1", success=None))
        ledger.write(an_outcome("t2", success=None), an_outcome("t2", success=True, revision=1))

        group = only(ledger.totals())

        assert (group.tasks, group.judged, group.successes) == (2, 1, 1)

    def test_a_task_belongs_to_the_day_of_its_first_call(self, ledger: Ledger) -> None:
        """Its cost is on the days of its calls, its success on one day, whatever the filters; earlier charges or
        versions that were superseded do not make a first call."""
        ledger.write(a_charge(task_id="t1", at=MONDAY - 3 * DAY))
        ledger.write(a_call("1", task_id="t1", agent_id="b", started_at=MONDAY - 2 * DAY))
        ledger.write(a_call("1", task_id="t1", agent_id="b", started_at=MONDAY, revision=1))
        ledger.write(a_call("2", task_id="t1", agent_id="a", started_at=MONDAY + DAY), an_outcome("t1"))

        groups = by_key(ledger.totals(["day"]))
        filtered = by_key(ledger.totals(["day"], agent_id="a"))

        assert {key: (g.totals.calls, g.tasks, g.successes) for key, g in groups.items()} == {
            ("2026-02-27",): (0, 0, 0),
            ("2026-03-02",): (1, 1, 1),
            ("2026-03-03",): (1, 0, 0),
        }
        assert {key: (g.totals.calls, g.tasks) for key, g in filtered.items()} == {("2026-03-03",): (1, 0)}

    def test_a_task_belongs_to_the_period_of_its_first_call(self, ledger: Ledger) -> None:
        """Its later calls cost in their period, and are no second task; a task of charges alone begins with them."""
        ledger.write(a_call("1", task_id="t1"), a_call("2", task_id="t1", started_at=MONDAY + DAY), an_outcome("t1"))
        ledger.write(a_charge(task_id="t2", at=MONDAY + DAY), an_outcome("t2"))

        before, after = ledger.totals(until=MONDAY + DAY)[0], ledger.totals(since=MONDAY + DAY)[0]

        assert (before.totals.calls, before.tasks, before.successes) == (1, 1, 1)
        assert (after.totals.calls, after.totals.charges, after.runs) == (1, 1, 1)
        assert (after.tasks, after.successes) == (1, 1)

    def test_a_version_that_was_taken_back_is_no_first_call(self, ledger: Ledger) -> None:
        """When a corrected version says that the call began later that day, the task did too."""
        ledger.write(a_call(task_id="t1"), an_outcome("t1"))
        ledger.write(a_call(task_id="t1", started_at=MONDAY + DAY / 12, revision=1))

        morning, afternoon = ledger.totals(until=MONDAY + DAY / 24)[0], ledger.totals(since=MONDAY + DAY / 24)[0]

        assert (morning.totals.calls, morning.tasks) == (0, 0)
        assert (afternoon.totals.calls, afternoon.tasks, afternoon.successes) == (1, 1, 1)

    def test_filters_pick_calls_and_charges(self, ledger: Ledger) -> None:
        """Each by what it has: no charge has a model, no call a kind."""
        ledger.write(
            a_call("1", user_id="u", tags={"team": "cx"}),
            a_call("2", model="m", step=2, usd="4"),
            a_charge(user_id="u"),
        )

        def found(**filters: Any) -> tuple[int, int, Decimal]:
            totals = ledger.totals(**filters)[0].totals
            return totals.calls, totals.charges, totals.cost_usd

        assert found(user_id="u") == (1, 1, Decimal("1.75"))
        assert found(user_id="u", model="gpt-4.1-mini") == (1, 0, Decimal("0.25"))
        assert found(tags={"team": "cx"}) == (1, 0, Decimal("0.25"))
        assert found(step=2) == (1, 0, Decimal(4))
        assert found(kind="tool") == (0, 1, Decimal("1.50"))
        assert found(model=None) == (0, 1, Decimal("1.50"))
        assert found(user_id="nobody") == (0, 0, Decimal(0))

    def test_what_tasks_cost_leaves_out_judges_and_what_names_no_task(self, ledger: Ledger) -> None:
        """A cost per success divides the agent's own cost of tasks; judges and simulators are summed apart as well."""
        ledger.write(a_call("1", task_id="t1", usd="1"), a_call("2", usd="16"), a_charge("h", usd="2", task_id="t1"))
        ledger.write(a_call("3", task_id="t1", usd="4", role="judge"), a_charge("s", usd="8", role="simulator"))
        ledger.write(a_call("4", task_id="t2", usd="32", role="overhead"), a_call("5", task_id="t2", usd=None))
        ledger.write(a_charge("u", usd=None, task_id="t2"), a_call("6", task_id="t2", usd=None, role="judge"))

        for by in ([], ["agent"], ["thread"]):
            group = only(ledger.totals(by))
            spent, totals = group.task_cost, group.totals
            assert (spent.usd, spent.records, spent.unpriced, spent.charges_unpriced) == (Decimal(35), 5, 1, 1)
            assert (totals.apart_usd, totals.apart, totals.apart_unpriced) == (Decimal(12), 3, 1)
            assert totals.cost_usd == 63
        judges = by_key(ledger.totals(["role"]))[("judge",)]
        assert (judges.tasks, judges.task_cost.records, judges.task_cost.usd) == (2, 0, None)

    def test_what_a_task_cost_is_in_the_period_that_it_belongs_to(self, ledger: Ledger) -> None:
        """All of it, whenever it arose: a success is never divided into the costs of other tasks."""
        ledger.write(a_call("1", task_id="t1", usd="1"), a_call("2", task_id="t1", usd="2", started_at=MONDAY + DAY))
        ledger.write(a_charge("h", task_id="t1", usd="4", at=MONDAY - DAY))
        ledger.write(a_call("3", task_id="t2", agent_id="b", usd="8", started_at=MONDAY + DAY))
        ledger.write(a_call("4", task_id="t1", agent_id="b", usd="16", started_at=MONDAY + DAY))

        days = {key: group.task_cost.usd for key, group in by_key(ledger.totals(["day"])).items()}
        both = {key: group.task_cost.usd for key, group in by_key(ledger.totals(["agent", "day"])).items()}
        users = {key: group.task_cost.usd for key, group in by_key(ledger.totals(["user", "day"])).items()}

        monday, tuesday = "2026-03-02", "2026-03-03"
        assert days == {("2026-03-01",): None, (monday,): Decimal(23), (tuesday,): Decimal(8)}
        assert users == {(None, *key): usd for key, usd in days.items()}
        assert both[None, monday] == 7
        assert (both[None, tuesday], both["b", tuesday]) == (None, Decimal(8))
        assert ledger.totals(since=MONDAY + DAY)[0].task_cost.usd == 8
        assert ledger.totals(until=MONDAY + DAY)[0].task_cost.usd == 23
        assert ledger.totals(until=MONDAY + DAY, agent_id=None)[0].task_cost.usd == 7
