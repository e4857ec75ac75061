"""What a visitor can change: kills, and who the visitor is. Each needs a form that this server made for the session."""

from datetime import UTC, datetime, timedelta
from typing import Any, Final
from urllib.parse import parse_qsl, unquote

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from langchain_finops.budgets import switch
from langchain_finops.dashboard.access import Access, Session
from langchain_finops.dashboard.desk import Desk
from langchain_finops.dashboard.pages import LASTS, Pages
from langchain_finops.errors import BadArguments

__all__ = ["Changes"]

LARGEST: Final = 20_000
"""Bytes of a form."""
FIELDS: Final = 20
"""Fields of a form."""
LONGEST: Final = 300
"""Letters of a reason."""


class Changes:
    """The handlers of POST."""

    def __init__(self, desk: Desk, access: Access, pages: Pages) -> None:
        self._desk, self._access, self._pages = desk, access, pages

    async def kill(self, request: Request) -> Response:
        """Refuse the calls that the form names."""
        form = await self._checked(request)
        scope, value = _scope_of(form)
        lasts = form.get("lasts", "")
        if lasts not in LASTS:
            raise HTTPException(400, f"{lasts!r} is no time that a kill can last.")
        span, by, reason = LASTS[lasts], self._by(form), form.get("reason", "")[:LONGEST].strip()

        def work(ledger: Any) -> None:
            until = None if span is None else datetime.now(UTC) + timedelta(seconds=span)
            switch.kill(ledger, scope, value, by=by, reason=reason or None, until=until, now="now" in form)

        await self._change(work)
        return RedirectResponse("/alerts#standing", 303)

    async def revive(self, request: Request) -> Response:
        """Let the calls through again that the form names."""
        form = await self._checked(request)
        scope, value = _scope_of(form)
        by, reason = self._by(form), form.get("reason", "")[:LONGEST].strip()
        await self._change(lambda ledger: switch.revive(ledger, scope, value, by=by, reason=reason or None))
        return RedirectResponse("/alerts#standing", 303)

    async def login(self, request: Request) -> Response:
        """Give a session to who has a token."""
        if not self._access.needs_token:
            return RedirectResponse("/", 303)
        if request.method == "GET":
            return HTMLResponse(self._pages.login_page(wrong=False))
        role = self._access.role_of((await _form(request)).get("token", "").strip())
        if role is None:
            return HTMLResponse(self._pages.login_page(wrong=True), 403)
        response = RedirectResponse("/", 303)
        cookie = self._access.new_session(role).cookie
        response.headers.append("set-cookie", self._access.set_cookie(cookie, is_https=request.url.scheme == "https"))
        return response

    async def logout(self, request: Request) -> Response:
        """End the session."""
        await self._checked(request, viewers_too=True)
        self._access.end(request.state.session)
        response = RedirectResponse("/login", 303)
        over = self._access.set_cookie("", is_https=request.url.scheme == "https", max_age=0)
        response.headers.append("set-cookie", over)
        return response

    async def _checked(self, request: Request, *, viewers_too: bool = False) -> dict[str, str]:
        """The form, if its sender may change something and this server made it."""
        session: Session = request.state.session
        if session.role != "operator" and not viewers_too:
            raise HTTPException(403, "Viewers can look, and change nothing.")
        form = await _form(request)
        if not self._access.is_form_token(session, form.get("form_token", "")):
            raise HTTPException(403, "The form is not from this session: open the page again, and send it from there.")
        return form

    def _by(self, form: dict[str, str]) -> str:
        """Who says so, for the audit trail."""
        named = form.get("by", "")[:LONGEST].strip()
        return f"{named or self._pages.default_name} (web page)"

    async def _change(self, work: Any) -> None:
        try:
            await self._desk.lane("live").run(work)
        except BadArguments as error:
            raise HTTPException(400, f"{error}.") from error
        self._desk.outdate("now")


async def _form(request: Request) -> dict[str, str]:
    """The fields of a form; the last one of a name counts."""
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > LARGEST:
            raise HTTPException(413, "The form is too large.")
    try:
        return dict(parse_qsl(body.decode("utf-8", "replace"), keep_blank_values=True, max_num_fields=FIELDS))
    except ValueError as error:
        raise HTTPException(400, f"The form has more than {FIELDS} fields.") from error


def _scope_of(form: dict[str, str]) -> tuple[switch.KillScope, str | None]:
    scope, value = form.get("scope", ""), form.get("value", "")
    # Browsers take line breaks out of a field, or change them: the name that was meant stands beside it, encoded.
    meant = unquote(form.get("exact", ""))
    if _one_line(meant) == _one_line(value):
        value = meant
    if scope not in switch.KILL_SCOPES:
        raise HTTPException(400, f"{scope!r} is nothing that can be killed.")
    return scope, None if scope == "all" else value


def _one_line(text: str) -> str:
    return text.replace("\r", "").replace("\n", "")
