"""The pages: which figures each shows, and what it says while they are read for the first time."""

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from functools import partial
from http import HTTPStatus
from typing import Any, Final

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response

from langchain_finops.budgets.switch import whoami
from langchain_finops.dashboard.access import HEADERS, Access
from langchain_finops.dashboard.charts import line_of, span_of, spend_chart
from langchain_finops.dashboard.desk import Desk, Figure
from langchain_finops.dashboard.figures import (
    PERIODS,
    WASTE,
    Guards,
    Now,
    Reader,
    Worth,
    economics_of,
    models_of,
    nodes_of_agent,
    spend_of,
    waste_of,
)
from langchain_finops.dashboard.wording import environment
from langchain_finops.errors import BadArguments
from langchain_finops.money import usd
from langchain_finops.reports.economics import Economics, Human
from langchain_finops.reports.economics_table import economics_table
from langchain_finops.reports.insight import Insight
from langchain_finops.reports.insight_table import finding_table
from langchain_finops.reports.live import HOUR, PACE
from langchain_finops.reports.live_table import per_hour
from langchain_finops.reports.models import ModelRow
from langchain_finops.reports.one_run import OneRun
from langchain_finops.reports.runs import SORTS, STATUSES, RunList, Wanted
from langchain_finops.reports.spend import SPANS, Nodes, OverTime

__all__ = ["LASTS", "Pages", "Shown"]

log = logging.getLogger("langchain_finops")

LASTS: Final[dict[str, int | None]] = {"": None, "1h": 3600, "4h": 4 * 3600, "24h": 24 * 3600}
"""How long a kill may last: until somebody allows it again, or so many seconds."""
CALLS: Final = 200
"""Calls of a run on one page."""
CONTEXTS: Final = 4
NODES: Final = 500
LEAST: Final = Decimal("0.000001")
MOST: Final = Decimal("1e12")
MAIN_RANK: Final = 6
"""Columns of economics that a narrow terminal keeps longer than others; the page shows the others on demand."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """A page in the making."""

    template: str
    values: Mapping[str, Any] = field(default_factory=dict)
    status: int = 200
    headers: Mapping[str, str] | None = None


READING: Final = Shown(template="reading.html", status=503, headers={"retry-after": "1"})


class Pages:
    """The handlers of GET. Each asks the desk for figures, and shows them."""

    def __init__(self, desk: Desk, reader: Reader, access: Access) -> None:
        self._desk, self._reader, self._access = desk, reader, access
        self._templates = environment()
        self.default_name = "operator" if access.needs_token else whoami()

    # --- figures -----------------------------------------------------------------------------------------------------

    async def now(self) -> Figure[Now] | None:
        """What `finops top` shows."""
        return await self._desk.figure("now", "live", self._reader.now)

    async def over_time(self, span: str) -> Figure[OverTime] | None:
        """Spend by agent."""
        return await self._desk.figure(("spend", span), "sums", partial(spend_of, span=span))

    async def listed(self, wanted: Wanted) -> Figure[RunList] | None:
        """A page of runs."""
        return await self._desk.figure(wanted, "runs", lambda ledger, at: self._reader.runs(ledger, at, wanted))

    async def worth(self, worth: Worth) -> Figure[Economics] | None:
        """Unit economics by agent."""
        return await self._desk.figure(worth, "slow", partial(economics_of, worth=worth))

    async def _nodes(self, agent: str | None, period: str) -> Figure[Nodes] | None:
        if agent is None:
            return None
        make = partial(nodes_of_agent, agent=agent or None, period=period)
        return await self._desk.figure(("nodes", agent, period), "sums", make)

    async def _waste(self, period: str) -> Figure[Insight] | None:
        return await self._desk.figure(("waste", period), "slow", partial(waste_of, period=period), patience_s=0.1)

    # --- pages -------------------------------------------------------------------------------------------------------

    async def overview(self, request: Request) -> Shown:
        """What is spent now, by whom, and what stands against it."""
        span = _one_of(request, "span", SPANS, "24h")
        now, over = await asyncio.gather(self.now(), self.over_time(span))
        if now is None or over is None:
            return READING
        live = now.value.live
        values = {
            "now": now.value,
            "live": live,
            "rate": per_hour(live.pace, PACE),
            "rates": {key: per_hour(spent, HOUR) for key, spent in live.top["agent"]},
            "over": over.value,
            "chart": spend_chart(over.value),
            "span": span,
            "spans": list(SPANS),
            "at": now.at,
            "chart_at": over.at,
        }
        return Shown(template="overview.html", values=values)

    async def runs(self, request: Request) -> Shown:
        """Runs: filtered, searched, sorted, in pages."""
        wanted = _wanted(request)
        found = await self.listed(wanted)
        if found is None:
            return READING
        asked = {
            "q": wanted.text,
            "agent": wanted.agent,
            "status": wanted.status,
            "sort": None if wanted.sort == "began" else wanted.sort,
            "order": "up" if wanted.ascending else None,
        }
        values = {"found": found.value, "wanted": wanted, "asked": asked, "statuses": STATUSES, "at": found.at}
        return Shown(template="runs.html", values=values)

    async def run(self, request: Request) -> Shown:
        """One run."""
        run_id = request.path_params["run_id"]
        found = await self._desk.figure(
            ("run", run_id), "runs", lambda ledger, at: self._reader.run(ledger, at, run_id)
        )
        if found is None:
            return READING
        if found.value is None:
            values = {"title": "No such run", "text": "No call, charge or end of a run has this id. Its calls may have "
                      "been folded into daily sums by `finops prune`."}  # fmt: skip
            return Shown(template="error.html", values=values, status=404)
        return Shown(template="run.html", values=_run_values(request, found.value, found.at))

    async def agents(self, request: Request) -> Shown:
        """Unit economics by agent, and one agent's nodes."""
        worth, faults = _worth(request)
        agent = request.query_params.get("agent")
        now, found, of_agent, waste = await asyncio.gather(
            self.now(), self.worth(worth), self._nodes(agent, worth.period), self._waste(worth.period)
        )
        if now is None or found is None or (agent is not None and of_agent is None):
            return READING
        nodes = None if of_agent is None else of_agent.value
        table = economics_table(found.value)
        named, rest = table.columns[:1], sorted(table.columns[1:], key=lambda column: column.title != "cost")
        values = {
            "table": table,
            "main_columns": [*named, *(column for column in rest if column.rank <= MAIN_RANK)],
            "more_columns": [*named, *(column for column in rest if column.rank > MAIN_RANK)],
            "now": now.value,
            "worth": worth,
            "asked": _asked(request),
            "faults": faults,
            "agent": agent,
            "is_named": agent is not None,
            "nodes": nodes,
            "node_rows": [] if nodes is None else nodes.rows[:NODES],
            "waste": None if waste is None else _waste_tables(waste.value, agent),
            "waste_at": None if waste is None else waste.at,
            "periods": list(PERIODS),
            "at": found.at,
        }
        return Shown(template="agents.html", values=values)

    async def models(self, request: Request) -> Shown:
        """What each model costs."""
        period = _one_of(request, "period", PERIODS, "7d")
        found: Figure[list[ModelRow]] | None = await self._desk.figure(
            ("models", period), "sums", partial(models_of, period=period)
        )
        if found is None:
            return READING
        whole = sum(row.spent.pico for row in found.value)
        values = {"rows": found.value, "whole": whole, "period": period, "periods": list(PERIODS), "at": found.at}
        return Shown(template="models.html", values=values)

    async def alerts(self, request: Request) -> Shown:
        """Kills, budgets, alerts and changes, and the kill switch; read anew: who has just killed must see it."""
        at = datetime.now(UTC)
        found: Guards = await self._desk.lane("live").run(lambda ledger: self._reader.guards(ledger, at))
        asked = request.query_params
        values = {
            "guards": found,
            "scope": asked.get("scope", "agent_id"),
            "value": asked.get("value", ""),
            "lasts": LASTS,
            "by": self.default_name,
            "at": at,
        }
        return Shown(template="alerts.html", values=values)

    # --- what is not a page of figures ------------------------------------------------------------------------------

    async def html(self, request: Request, shown: Shown) -> str:
        """The page as text."""
        session = request.state.session
        return self._templates.get_template(shown.template).render(
            path=request.url.path,
            can_change=session is not None and session.role == "operator",
            role=session.role if self._access.needs_token and session is not None else None,
            form_token="" if session is None else self._access.form_token(session),
            **shown.values,
        )

    def login_page(self, *, wrong: bool) -> str:
        """Where a token is asked for."""
        return self._templates.get_template("login.html").render(wrong=wrong)

    async def http_error(self, request: Request, error: Exception) -> Response:
        """A page that is not there, or a form that was refused."""
        assert isinstance(error, HTTPException)
        text = error.detail if error.detail != HTTPStatus(error.status_code).phrase else ""
        return await self._told(request, error.status_code, HTTPStatus(error.status_code).phrase, text)

    async def unreadable(self, request: Request, _error: Exception) -> Response:
        """The ledger did not answer. Where it is, and what it said, stands in the server's own output."""
        text = "The ledger does not answer now. Nothing was changed; the server's own output says why."
        return await self._told(request, 503, "The ledger cannot be used now", text)

    async def fault(self, request: Request, _error: Exception) -> Response:
        """A fault of ours; uvicorn logs it."""
        text = "The server's own output says what went wrong."
        response = await self._told(request, 500, "This should not happen", text)
        response.headers.update(HEADERS)  # Starlette answers faults outside of the gate.
        return response

    async def _told(self, request: Request, status: int, title: str, text: str) -> Response:
        if getattr(request.state, "session", None) is None:
            return PlainTextResponse(f"{title}. {text}", status)
        shown = Shown(template="error.html", values={"title": title, "text": text})
        return HTMLResponse(await self.html(request, shown), status)


def _one_of(request: Request, field_name: str, known: Mapping[str, Any], default: str) -> str:
    value = request.query_params.get(field_name, default)
    return value if value in known else default


def _wanted(request: Request) -> Wanted:
    asked = request.query_params
    page, sort, status = asked.get("page", "1"), asked.get("sort", "began"), asked.get("status")
    return Wanted(
        text=asked.get("q", "").strip()[:200],
        agent=asked.get("agent") or None,
        status=status if status in STATUSES else None,
        sort=sort if sort in SORTS else "began",
        ascending=asked.get("order") == "up",
        page=int(page) if page.isascii() and page.isdigit() and len(page) < 9 else 1,
    )


_AMOUNTS: Final = {
    "wage": "What a person costs an hour",
    "pace": "Tasks that person does an hour",
    "value": "Worth of a success",
}


def _asked(request: Request) -> dict[str, str]:
    """The fields of the form of agents, as they were sent."""
    return {name: request.query_params.get(name, "")[:40] for name in ("period", *_AMOUNTS)}


def _within_reason(amount: Decimal) -> Decimal:
    """The amount; raises ValueError for one so large or small that no quotient of two can be shown."""
    if amount and not LEAST <= abs(amount) <= MOST:
        raise ValueError("it is below 0.000001 or above 1,000,000,000,000")
    return amount


def _worth(request: Request) -> tuple[Worth, list[str]]:
    """What the economics are asked by; what cannot be read is told, and left out."""
    asked, faults, read = _asked(request), [], dict[str, Decimal]()
    for name, label in _AMOUNTS.items():
        try:
            if asked[name].strip():
                read[name] = _within_reason(usd(asked[name].strip()))
        except ValueError as error:
            faults.append(f"{label}: {error}; write it as 5 or 0.25.")
    human = None
    if "wage" in read and "pace" in read:
        try:
            human = Human(usd_per_hour=read["wage"], tasks_per_hour=read["pace"])
        except BadArguments as error:
            faults.append(f"{error}.")
    elif "wage" in read or "pace" in read:
        faults.append("A person needs both: what an hour costs, and how many tasks are done in it.")
    period = _one_of(request, "period", PERIODS, "7d")
    return Worth(period=period, human=human, value_usd=read.get("value")), faults


def _waste_tables(found: Insight, agent: str | None) -> list[tuple[str, Any]]:
    """Findings that have rows, of one agent where one is meant."""
    rows = {
        name: [row for row in found.rows[name] if agent is None or row["agent"] == (agent or None)] for name in WASTE
    }
    mine = Insight(rows={**found.rows, **rows}, cost_usd=found.cost_usd)
    return [(name, finding_table(mine, name, "")) for name in WASTE if rows[name]]


def _run_values(request: Request, run: OneRun, at: datetime) -> dict[str, Any]:
    pages = max(-(-len(run.calls) // CALLS), 1)
    asked = request.query_params.get("page", "1")
    page = min(max(int(asked) if asked.isascii() and asked.isdigit() and len(asked) < 9 else 1, 1), pages)
    last = max((call.ended_at for call in run.calls), default=run.newest)
    first = min((call.started_at for call in run.calls), default=run.began)
    highest = max((tokens for context in run.contexts for _, tokens in context.points), default=0)
    shown = run.calls[(page - 1) * CALLS : page * CALLS]
    folded = [f"{n:,} {what}" for n, what in ((run.folded_calls, "calls"), (run.folded_charges, "charges")) if n]
    return {
        "run": run,
        "folded": " and ".join(folded),
        "at": at,
        "took": (run.ended or (at if run.status == "running" else run.newest)) - run.began,
        "calls": [(call, span_of(call.started_at, call.ended_at, first, last)) for call in shown],
        "page": page,
        "pages": pages,
        "nodes": run.tree[:NODES],
        "contexts": [(each, line_of(each, highest)) for each in run.contexts[:CONTEXTS]],
        "charges": run.charges[:CALLS],
    }
