"""Closed periods: their figures never change; what is corrected later is posted to the open period.

The ledger appends and supersedes, so a call of March that is priced again in May would change March's sums. Where March
is closed, two charges of kind `adjustment` go with the new version: one takes the difference back, at the time of the
call, so that March stays as it was; the other posts it now. Both name the original. Together they are 0, so that the
sum over all time is right. What came late (a spill file that was recovered, an import) is found when the period is
closed again, and is adjusted in the same way by agent.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, Final

from langchain_finops.errors import BadArguments
from langchain_finops.ledger.base import Ledger
from langchain_finops.ledger.summary import show_usd
from langchain_finops.money import EXACT, from_pico
from langchain_finops.records import Attribution, CallRecord, ChargeRecord, Event
from langchain_finops.reports.render import Column, Table

__all__ = ["Closed", "Closing", "adjustments", "close_period", "closed_periods", "closed_table", "show_cost"]

ACTION: Final = "close"
BY: Final = ("agent", "project", "customer", "environment", "task_type")
"""What a closing keeps the sums by, and late records are adjusted by."""
TICK: Final = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Closed:
    """A closed period, with its figures as they were."""

    name: str
    since: datetime
    until: datetime
    closed_at: datetime
    closed_by: str
    cost_pico: int
    unpriced: int = 0
    """Calls and charges without a price: the cost is then a lower bound."""
    groups: Mapping[tuple[str | None, ...], int] = field(default_factory=dict)
    """The same by `BY`."""

    def holds(self, at: datetime) -> bool:
        """Whether a moment is in it."""
        return self.since <= at < self.until

    @property
    def event_id(self) -> str:
        """Of the event that closed it: there is one, whoever closes it how often."""
        return f"close:{self.since.isoformat()}:{self.until.isoformat()}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Closing:
    """What closing a period came to."""

    period: Closed
    is_new: bool
    late_usd: Decimal
    """What came late and was posted to the open period."""
    posted: int
    """How many adjustments that took, not counting those that take it back."""


def closed_periods(ledger: Ledger) -> list[Closed]:
    """Return the closed periods, the earliest first."""
    found = [_read(event) for event in ledger.events(action=ACTION)]
    return sorted(found, key=lambda closed: (closed.since, closed.until))


def close_period(
    ledger: Ledger, name: str, since: datetime, until: datetime, *, actor: str, at: datetime | None = None
) -> Closing:
    """Close a period that is over, or look for what came late into one that is closed.

    Closing twice changes nothing. Raises BadArguments for a period that is not over.
    """
    now = at or datetime.now(UTC)
    if until > now:
        raise BadArguments(f"{name} is not over: it ends at {until:%Y-%m-%d %H:%M} UTC. Close it then.")
    there = _closed(ledger, since, until)
    if there is None:
        groups = _sums(ledger, since, until)
        made = Closed(
            name=name, since=since, until=until, closed_at=now, closed_by=actor, cost_pico=sum(groups.values()),
            unpriced=_unpriced(ledger, since, until), groups=groups,
        )  # fmt: skip
        ledger.write(_event(made))
        there = _closed(ledger, since, until)
        assert there is not None
        if there == made:
            return Closing(period=made, is_new=True, late_usd=Decimal(0), posted=0)
    records = _late(ledger, there, now)
    if records:
        ledger.write(*records)
    posted = [record.cost_usd for record in records if record.at == now and record.cost_usd is not None]
    late = Decimal(0)
    for usd in posted:
        late = EXACT.add(late, usd)
    return Closing(period=there, is_new=False, late_usd=late, posted=len(posted))


def adjustments(
    closed: Sequence[Closed], changed: Iterable[tuple[CallRecord | ChargeRecord, CallRecord | ChargeRecord]],
    *, at: datetime,
) -> list[ChargeRecord]:  # fmt: skip
    """Return what must be written with new versions of records, so that closed periods stay as they are.

    `changed` are the versions before and after. Ids are those of the versions: writing it twice changes nothing.
    """
    records: list[ChargeRecord] = []
    for old, new in changed:
        began = old.started_at if isinstance(old, CallRecord) else old.at
        if not any(period.holds(began) for period in closed):
            continue
        more = EXACT.subtract(new.cost_usd or Decimal(0), old.cost_usd or Decimal(0))
        if more:
            id_ = old.call_id if isinstance(old, CallRecord) else old.charge_id
            records += _pair(f"{id_}:{new.revision}", f"{id_} priced again", old.attribution, more, then=began, now=at)
    return records


def _pair(
    id_: str, name: str, who: Attribution, more: Decimal, *, then: datetime, now: datetime
) -> tuple[ChargeRecord, ChargeRecord]:
    """Take an amount back at one time, and post it at another."""
    common: dict[str, Any] = {
        "kind": "adjustment", "attribution": who, "name": name, "unit": "adjustments", "cost_status": "exact",
        "source": "finops close",
    }  # fmt: skip
    return (
        ChargeRecord(charge_id=f"adjust:{id_}:back", cost_usd=-more, at=then, **common),
        ChargeRecord(charge_id=f"adjust:{id_}:post", cost_usd=more, at=now, **common),
    )


def _sums(ledger: Ledger, since: datetime, until: datetime) -> dict[tuple[str | None, ...], int]:
    groups = ledger.totals(BY, since=since, until=until)
    return {group.key: group.totals.cost_pico + group.totals.charge_pico for group in groups}


def _unpriced(ledger: Ledger, since: datetime, until: datetime) -> int:
    groups = ledger.totals((), since=since, until=until)
    return sum(group.totals.unpriced + group.totals.charges_unpriced for group in groups)


def show_cost(cost: Decimal, unpriced: int) -> str:
    """Return a closed period's cost for a reader: `>= $X (k unknown)` where some has no price."""
    return f">= {show_usd(cost, bound=True)} ({unpriced:,} unknown)" if unpriced else show_usd(cost)


def _late(ledger: Ledger, closed: Closed, now: datetime) -> list[ChargeRecord]:
    """The adjustments for what the period's sums differ by from those it was closed with."""
    sums = _sums(ledger, closed.since, closed.until)
    before = sum(1 for charge in ledger.charges(kind="adjustment") if charge.charge_id.startswith(_late_id(closed)))
    records: list[ChargeRecord] = []
    for key in sorted({*sums, *closed.groups}, key=lambda key: [name or "" for name in key]):
        more = sums.get(key, 0) - closed.groups.get(key, 0)
        if more:
            agent, project, customer, environment, task_type = key
            who = Attribution(
                agent_id=agent, project=project, customer_id=customer, environment=environment, task_type=task_type
            )
            # The number makes a second look at the same moment, in another process, write the same record.
            id_ = f"{_late_id(closed).removeprefix('adjust:')}{before + len(records)}"
            then = closed.until - TICK
            records += _pair(id_, f"{closed.name} came late", who, from_pico(more), then=then, now=now)
    return records


def _late_id(closed: Closed) -> str:
    return f"adjust:late:{closed.event_id}:"


def _closed(ledger: Ledger, since: datetime, until: datetime) -> Closed | None:
    return next((each for each in closed_periods(ledger) if (each.since, each.until) == (since, until)), None)


def _event(closed: Closed) -> Event:
    return Event(
        event_id=closed.event_id,
        at=closed.closed_at,
        actor=closed.closed_by,
        action=ACTION,
        subject=closed.name,
        after={
            "since": closed.since.isoformat(),
            "until": closed.until.isoformat(),
            "cost_pico": str(closed.cost_pico),
            "unpriced": closed.unpriced,
            "groups": [[*key, str(pico)] for key, pico in closed.groups.items()],
        },
    )


def _read(event: Event) -> Closed:
    after = event.after or {}
    return Closed(
        name=event.subject,
        since=datetime.fromisoformat(after["since"]),
        until=datetime.fromisoformat(after["until"]),
        closed_at=event.at,
        closed_by=event.actor,
        cost_pico=int(after["cost_pico"]),
        unpriced=int(after["unpriced"]),
        groups={tuple(key): int(pico) for *key, pico in after["groups"]},
    )


NOTE: Final = (
    "cost: as it was closed. late: what came since and is in the sums until the period is closed again. posted later: "
    "corrections that count in the periods in which they were made."
)
FIELDS: Final = (
    "period",
    "since",
    "until",
    "closed_at",
    "closed_by",
    "cost_usd",
    "now_usd",
    "late_usd",
    "adjusted_usd",
)


def closed_table(ledger: Ledger, caption: str) -> Table:
    """Return the closed periods with their figures, what the ledger says now, and what was posted elsewhere."""
    rows = []
    charges = list(ledger.charges(kind="adjustment"))
    for closed in closed_periods(ledger):
        now = sum(_sums(ledger, closed.since, closed.until).values())
        back = Decimal(0)
        for charge in charges:
            if charge.charge_id.endswith(":back") and closed.holds(charge.at) and charge.cost_usd is not None:
                back = EXACT.subtract(back, charge.cost_usd)
        rows.append(
            {
                "period": closed.name,
                "since": closed.since,
                "until": closed.until,
                "closed_at": closed.closed_at,
                "closed_by": closed.closed_by,
                "cost_usd": from_pico(closed.cost_pico),
                "unpriced": closed.unpriced,
                "now_usd": from_pico(now),
                "late_usd": from_pico(now - closed.cost_pico),
                "adjusted_usd": back,
            }
        )
    return Table(
        rows=rows,
        fields=FIELDS,
        columns=(
            Column(title="period", text=lambda row: row["period"], name=True),
            Column(title="until", text=lambda row: f"{row['until']:%Y-%m-%d %H:%M}", rank=3),
            Column(title="closed by", text=lambda row: row["closed_by"], name=True, rank=4),
            Column(title="closed at", text=lambda row: f"{row['closed_at']:%Y-%m-%d %H:%M}", rank=4),
            Column(title="cost", text=lambda row: show_cost(row["cost_usd"], row["unpriced"])),
            Column(title="late", text=lambda row: show_usd(row["late_usd"])),
            Column(title="posted later", text=lambda row: show_usd(row["adjusted_usd"])),
        ),
        caption=caption,
        notes=(NOTE,),
    )
