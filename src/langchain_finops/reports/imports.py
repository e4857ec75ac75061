"""Bills and exports as records: every cent has a project and an agent where the file tells, or is unallocated.

A call of an export is a call. A line of a cost report is one, too, without tokens: what the provider stated.
Ids are the export's, or made of all that tells one line of a report from another, so that importing twice changes
nothing; a line whose amount the provider has corrected becomes a new version.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from decimal import Decimal
from hashlib import blake2b
from pathlib import Path
from typing import Any, Final

from langchain_finops.errors import BadArguments, BadData, Fault
from langchain_finops.ledger.base import Ledger
from langchain_finops.ledger.codec import check, dumps
from langchain_finops.ledger.summary import known_usd, show_usd
from langchain_finops.money import EXACT
from langchain_finops.pricing.fields import read_yaml
from langchain_finops.records import Attribution, CallError, CallRecord
from langchain_finops.reports.bills import Bill, Line
from langchain_finops.reports.render import Column, Table
from langchain_finops.usage import Usage

__all__ = ["Import", "import_bill", "read_agents"]

NO_TOKENS: Final = Usage(requests=0)
UNALLOCATED: Final = "unallocated"


@dataclass(frozen=True, slots=True, kw_only=True)
class Import:
    """What an import changed, and whose the lines of the file are."""

    new: int
    corrected: int
    """Lines that were there with another amount: they got a new version."""
    known: int
    rows: list[dict[str, Any]]
    """By project and agent, the dearest first."""
    metered: int
    """Calls of the same providers and time that a handler has recorded: the same cost may now count twice."""

    def table(self, caption: str) -> Table:
        """Return it ready to render."""
        usds = [row["cost_usd"] for row in self.rows if row["cost_usd"] is not None]
        whole = Decimal(0)
        for usd in usds:
            whole = EXACT.add(whole, usd)
        total = {"lines": sum(row["lines"] for row in self.rows), "cost_usd": whole,
                 "unpriced": sum(row["unpriced"] for row in self.rows)}  # fmt: skip
        return Table(
            rows=self.rows,
            fields=("project", "agent", "lines", "cost_usd", "unpriced"),
            columns=(
                Column(title="project", text=lambda row: row["project"] or UNALLOCATED, name=True),
                Column(title="agent", text=lambda row: row["agent"] or UNALLOCATED, name=True),
                Column(title="lines", text=lambda row: f"{row['lines']:,}"),
                Column(title="cost", text=_cost),
            ),
            total={**total, "project": "total", "agent": " "} if self.rows else None,
            caption=caption,
            notes=(f"{self.new:,} new, {self.corrected:,} corrected, {self.known:,} there already.",),
        )


def _cost(row: Mapping[str, Any]) -> str:
    if row["cost_usd"] is None:
        return "unpriced"
    unknown = f" ({row['unpriced']:,} unknown)" if row["unpriced"] else ""
    return f">= {show_usd(row['cost_usd'], bound=True)}{unknown}" if unknown else show_usd(row["cost_usd"])


def read_agents(path: Path) -> dict[str, str]:
    """Return a YAML file's agents by project, workspace, team or API key. Raises BadData with every fault."""
    faults: list[Fault] = []
    data = read_yaml(path, faults)
    found: dict[str, str] = {}
    if not isinstance(data, dict):
        faults.append(Fault(where=str(path), what="is no mapping of projects or keys to agents"))
        data = {}
    for name, agent in data.items():
        if isinstance(name, str) and isinstance(agent, str) and agent.strip():
            found[name] = agent
        else:
            faults.append(Fault(where=f"{path}: {name}", what=f"is {agent!r}; name an agent"))
    if faults:
        raise BadData(faults)
    return found


def import_bill(ledger: Ledger, bill: Bill, agents: Mapping[str, str] | None = None) -> Import:
    """Write a bill's lines, all or none. Raises BadArguments for a usage report: it tells no dollars."""
    if not bill.has_usd and bill.kind in {"openai", "anthropic"}:
        raise BadArguments(
            f"it is a usage report of {bill.kind}, which tells no dollars: import the cost report instead; "
            "`finops reconcile` takes either."
        )
    new: list[CallRecord] = []
    corrected = known = 0
    records = list(_merged(_record(bill.kind, line, agents or {}) for line in bill.lines))
    there, metered = _there(ledger, records)
    for record in records:
        earlier = there.get(record.call_id)
        if earlier is None:
            new.append(record)
        elif bill.kind in {"openai", "anthropic"} and earlier.cost_usd != record.cost_usd:
            corrected += 1
            new.append(replace(record, revision=earlier.revision + 1))
        else:
            known += 1
    if new:
        ledger.write(*new)
    return Import(new=len(new) - corrected, corrected=corrected, known=known, rows=_rows(records), metered=metered)


def _record(kind: str, line: Line, agents: Mapping[str, str]) -> CallRecord:
    who = {name: value for name, value in line.who.items() if value is not None}
    mapped = agents.get(line.key or "") or agents.get(line.project or "")
    if mapped is not None:
        who["agent_id"] = mapped
    names = (kind, line.at.isoformat(), line.until.isoformat(), line.project, line.key, line.model, line.what)
    id_ = line.id or f"{kind}:{blake2b(dumps(names).encode(), digest_size=12).hexdigest()}"
    stated = line.usd is not None
    record = CallRecord(
        call_id=id_,
        run_id=line.run_id or id_,
        invocation_id=line.run_id or id_,
        attribution=Attribution(project=line.project, **who),
        provider=line.provider,
        model=line.model,
        usage=line.usage or NO_TOKENS,
        cost_usd=line.usd,
        contracted_usd=line.usd,
        billed_usd=line.usd,
        cost_status="reported" if stated else "unpriced",
        reasons=(f"imported:{kind}",),
        card_id="reported" if stated else None,
        started_at=line.at,
        ended_at=line.until,
        error=CallError(error_class="imported") if line.error else None,
        account=line.key,
        project=line.project,
    )
    kept = check(record)
    assert isinstance(kept, CallRecord)
    return kept


def _merged(records: Iterator[CallRecord]) -> Iterator[CallRecord]:
    """One record for lines that nothing tells apart: a report may have several of them."""
    found: dict[str, CallRecord] = {}
    for record in records:
        there = found.get(record.call_id)
        if there is not None and record.reasons[0] in {"imported:openai", "imported:anthropic"}:
            record = _together(there, record)  # noqa: PLW2901
        found[record.call_id] = record
    yield from found.values()


def _together(one: CallRecord, other: CallRecord) -> CallRecord:
    """Two lines as one; where either says no amount, what both come to is not known."""
    if one.cost_usd is None or other.cost_usd is None:
        return one if one.cost_usd is None else other
    usd = EXACT.add(one.cost_usd, other.cost_usd)
    return replace(other, cost_usd=usd, contracted_usd=usd, billed_usd=usd)


def _there(ledger: Ledger, records: list[CallRecord]) -> tuple[dict[str, CallRecord], int]:
    """What the ledger has of these, and how many other calls of their providers and time that no import brought."""
    found: dict[str, CallRecord] = {}
    metered = 0
    if not records:
        return found, metered
    since, until = min(r.started_at for r in records), max(max(r.ended_at, r.started_at) for r in records)
    providers, ids = {record.provider for record in records}, {record.call_id for record in records}
    for call in ledger.calls(since=since, until=until + timedelta(microseconds=1)):
        if call.call_id in ids:
            found[call.call_id] = call
        elif call.provider in providers and not any(reason.startswith("imported:") for reason in call.reasons):
            metered += 1
    return found, metered


def _rows(records: list[CallRecord]) -> list[dict[str, Any]]:
    groups: dict[tuple[str | None, str | None], list[CallRecord]] = {}
    for record in records:
        groups.setdefault((record.attribution.project, record.attribution.agent_id), []).append(record)
    rows: list[dict[str, Any]] = []
    for (project, agent), theirs in groups.items():
        amount = Decimal(0)
        for record in theirs:
            amount = EXACT.add(amount, record.cost_usd or Decimal(0))
        unpriced = sum(record.cost_usd is None for record in theirs)
        usd = known_usd(amount, known=len(theirs) - unpriced, unknown=unpriced)
        rows.append({"project": project, "agent": agent, "lines": len(theirs), "cost_usd": usd, "unpriced": unpriced})
    return sorted(rows, key=lambda row: (-(row["cost_usd"] or Decimal(0)), row["project"] or "", row["agent"] or ""))
