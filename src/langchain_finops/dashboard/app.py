"""The page as an ASGI application: which address shows what, and what is answered while the ledger is being read."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Any, Final

from sqlalchemy import Connection, func, select
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from langchain_finops.budgets.policy import Budget
from langchain_finops.dashboard.access import Access, Gate
from langchain_finops.dashboard.changes import Changes
from langchain_finops.dashboard.desk import Desk, Unreadable
from langchain_finops.dashboard.figures import Reader, Worth
from langchain_finops.dashboard.pages import Pages, Shown
from langchain_finops.ledger import schema
from langchain_finops.ledger.sql import SqlLedger
from langchain_finops.reports.runs import Wanted

__all__ = ["make_app"]

LOOK_S: Final = 1.0
"""How often somebody who watches is told of changes."""
KEEP_ALIVE_S: Final = 15.0
WATCHERS: Final = 200
"""Who watch at a time: each holds a connection."""
LARGE: Final = 100_000
"""Calls, from which on sums take so long that they are made in a process of their own."""
Handler = Callable[[Request], Awaitable[Shown | Response]]


def make_app(ledger: SqlLedger, access: Access, *, budgets: tuple[Budget, ...] = ()) -> Starlette:
    """Return the page of a ledger. `budgets`: those of the policy file; `app.state.closing = True` ends its streams."""
    size = ledger.look_at(_newest)[0] or 0
    desk, reader = Desk(ledger, is_large=size > LARGE), Reader(budgets=budgets)
    pages = Pages(desk, reader, access)
    changes = Changes(desk, access, pages)

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        warming = asyncio.create_task(_warm(pages))
        yield
        app.state.closing = True
        await warming
        await desk.close()

    routes = [
        Route("/", _page(pages, pages.overview)),
        Route("/runs", _page(pages, pages.runs)),
        Route("/runs/{run_id:path}", _page(pages, pages.run)),
        Route("/agents", _page(pages, pages.agents)),
        Route("/models", _page(pages, pages.models)),
        Route("/alerts", _page(pages, pages.alerts)),
        Route("/alerts/kill", changes.kill, methods=["POST"]),
        Route("/alerts/revive", changes.revive, methods=["POST"]),
        Route("/login", changes.login, methods=["GET", "POST"]),
        Route("/logout", changes.logout, methods=["POST"]),
        Route("/live", partial(_live, desk)),
        Mount("/static", StaticFiles(packages=[("langchain_finops.dashboard", "static")])),
    ]
    app = Starlette(
        routes=routes,
        middleware=[Middleware(Gate, access=access)],
        exception_handlers={HTTPException: pages.http_error, Unreadable: pages.unreadable, 500: pages.fault},
        lifespan=lifespan,
    )
    app.state.closing = False
    return app


async def _warm(pages: Pages) -> None:
    """Read what most visitors look at first, before they come."""
    for figure in (pages.now, partial(pages.over_time, "24h"), partial(pages.listed, Wanted())):
        with suppress(Unreadable):
            await figure()
    with suppress(Unreadable):
        await pages.worth(Worth())


def _page(pages: Pages, show: Handler) -> Callable[[Request], Awaitable[Response]]:
    async def answer(request: Request) -> Response:
        shown = await show(request)
        if isinstance(shown, Response):
            return shown
        return HTMLResponse(await pages.html(request, shown), status_code=shown.status, headers=shown.headers)

    return answer


def _newest(connection: Connection) -> tuple[Any, ...]:
    tables = (*schema.VERSIONED.values(), schema.outcomes, schema.events)
    numbers = [select(func.max(table.c.n)).scalar_subquery() for table in tables]
    controls = select(schema.meta.c.value).where(schema.meta.c.name == schema.CONTROLS_VERSION).scalar_subquery()
    return tuple(connection.execute(select(*numbers, controls)).one())


async def _live(desk: Desk, request: Request) -> Response:
    """Server-sent events: `changed` when the ledger did."""
    state = request.app.state
    watchers = getattr(state, "watchers", 0)
    if watchers >= WATCHERS:
        return PlainTextResponse("Too many watch already.", 503)
    # On the lane of the desk: reading a number takes no time, and must not wait for sums.
    lane = desk.lane("live")

    async def stream() -> AsyncIterator[str]:
        state.watchers = getattr(state, "watchers", 0) + 1
        try:
            last, quiet = await lane.run(lambda ledger: ledger.look_at(_newest)), 0.0
            yield "retry: 3000\n\n"
            while not state.closing:
                await asyncio.sleep(LOOK_S)
                newest = await lane.run(lambda ledger: ledger.look_at(_newest))
                quiet += LOOK_S
                if newest != last:
                    last, quiet = newest, 0.0
                    yield "event: changed\ndata: ledger\n\n"
                elif quiet >= KEEP_ALIVE_S:
                    quiet = 0.0
                    yield ": still here\n\n"
        except Unreadable:
            return
        finally:
            state.watchers -= 1

    return StreamingResponse(stream(), media_type="text/event-stream")
