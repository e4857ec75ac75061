"""Who may see the page and who may change something: hosts, tokens, sessions, and what browsers are told to refuse."""

import hmac
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from ipaddress import ip_address
from typing import Final, Literal, cast
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import cookie_parser
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from langchain_finops.errors import BadArguments

__all__ = ["HEADERS", "Access", "Gate", "Role", "Session", "is_loopback"]

Role = Literal["operator", "viewer"]
SESSION_S: Final = 12 * 3600
LEAST_TOKEN: Final = 16
"""Letters of a token: a shorter one could be guessed."""
LOCAL_NAMES: Final = frozenset({"localhost", "127.0.0.1", "::1"})
OPEN_PATHS: Final = ("/login", "/static/")
HEADERS: Final = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches an address. A name that is not `localhost` may mean any."""
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """One browser, and what it may do."""

    role: Role
    cookie: str
    is_new: bool = False
    """Whether the browser has to be given its cookie."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """Tokens, and the secret that sessions are signed with. Raises BadArguments for what would be open to all."""

    host: str
    operator_token: str | None = None
    viewer_token: str | None = None
    secret: bytes = field(default_factory=lambda: secrets.token_bytes(32))
    _ended: dict[str, int] = field(default_factory=dict, init=False, repr=False, compare=False)
    """Sessions that were logged out, until when they would have lasted."""

    def __post_init__(self) -> None:
        for name, token in (("operator", self.operator_token), ("viewer", self.viewer_token)):
            if token is not None and len(token) < LEAST_TOKEN:
                raise BadArguments(
                    f"the {name} token (${name_of(name)}) has {len(token)} letters: give it {LEAST_TOKEN} or more, as "
                    "`python -c 'import secrets; print(secrets.token_urlsafe())'` makes"
                )
        if self.operator_token is not None and self.operator_token == self.viewer_token:
            raise BadArguments("the operator token and the viewer token are the same: viewers could then kill agents")
        if not self.needs_token and not is_loopback(self.host):
            raise BadArguments(
                f"--host {self.host} is open to other machines, so that a token is needed: set ${name_of('operator')}, "
                f"for those who may stop agents, or ${name_of('viewer')}, for those who may only look, or both"
            )

    @property
    def needs_token(self) -> bool:
        """Whether one has to log in."""
        return self.operator_token is not None or self.viewer_token is not None

    def role_of(self, token: str) -> Role | None:
        """Whose token it is; None for nobody's. Takes as long for a wrong one as for a right one."""
        found: Role | None = None
        for role, known in (("viewer", self.viewer_token), ("operator", self.operator_token)):
            if known is not None and hmac.compare_digest(_digest(known), _digest(token)):
                found = cast("Role", role)
        return found

    def knows_host(self, host: str | None) -> bool:
        """Whether a request names this server. Without tokens, a page of another name that was made to resolve here
        (DNS rebinding) must not read it; with tokens it has no session."""
        if self.needs_token:
            return True
        try:
            name = urlsplit(f"//{host or ''}").hostname
        except ValueError:
            return False
        return name is not None and (name in LOCAL_NAMES or name == self.host)

    def new_session(self, role: Role) -> Session:
        """A session that begins now."""
        text = f"{role}.{int(time.time()) + SESSION_S}.{secrets.token_urlsafe(16)}"
        return Session(role=role, cookie=f"{text}.{self._signed('session', text)}", is_new=True)

    def session_of(self, cookie: str | None) -> Session | None:
        """The session that a cookie stands for; None for one that is over, or that nobody here signed."""
        text, _, signature = (cookie or "").rpartition(".")
        if not text or not hmac.compare_digest(self._signed("session", text).encode(), signature.encode()):
            return None
        role, ends, _ = text.split(".", 2)
        if int(ends) <= time.time() or text in self._ended:
            return None
        return Session(role=cast("Role", role), cookie=cookie or "")

    def end(self, session: Session) -> None:
        """Let nobody in with this session's cookie any more, who may have a copy of it."""
        now = time.time()
        for text in [text for text, ends in self._ended.items() if ends <= now]:
            del self._ended[text]
        text = session.cookie.rpartition(".")[0]
        self._ended[text] = int(text.split(".", 2)[1])

    @property
    def cookie_name(self) -> str:
        """The cookie's name. It is this server's own: browsers send the cookies of all ports of a host to each."""
        return f"finops_session_{self._signed('cookie', 'name')[:12]}"

    def set_cookie(self, value: str, *, is_https: bool, max_age: int = SESSION_S) -> str:
        """The header that gives a browser its session; scripts cannot read it, requests of other sites lack it."""
        secure = "; Secure" if is_https else ""
        return f"{self.cookie_name}={value}; Path=/; Max-Age={max_age}; HttpOnly; SameSite=Strict{secure}"

    def cookie_of(self, headers: Headers) -> str | None:
        """The session's cookie in a request, whatever other programs' cookies look like."""
        return cookie_parser("; ".join(headers.getlist("cookie"))).get(self.cookie_name)

    def form_token(self, session: Session) -> str:
        """What a form of this session has to carry, and no other page can know."""
        return self._signed("form", session.cookie)

    def is_form_token(self, session: Session, token: str) -> bool:
        """Whether a form was made for this session."""
        return hmac.compare_digest(self.form_token(session).encode(), token.encode())

    def _signed(self, use: str, text: str) -> str:
        return hmac.new(self.secret, f"{use}:{text}".encode("utf-8", "surrogatepass"), sha256).hexdigest()


def name_of(role: str) -> str:
    """The environment variable of a role's token."""
    return f"FINOPS_{role.upper()}_TOKEN"


def _digest(token: str) -> bytes:
    return sha256(token.encode("utf-8", "surrogatepass")).digest()


class Gate:
    """ASGI middleware: lets through whom `Access` knows, with `session` in the request's state."""

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self._app, self._access = app, access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer or pass on one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        session = self._access.session_of(self._access.cookie_of(headers))
        if session is None and not self._access.needs_token:
            session = self._access.new_session("operator")
        refused = self._refusal(scope, headers, session)
        scope.setdefault("state", {})["session"] = session
        is_https = scope.get("scheme") == "https"

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                out = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    out.setdefault(name, value)
                if not scope["path"].startswith("/static/"):
                    out["cache-control"] = "no-store"
                    if session is not None and session.is_new:
                        out.append("set-cookie", self._access.set_cookie(session.cookie, is_https=is_https))
            await send(message)

        await (refused or self._app)(scope, receive, send_guarded)

    def _refusal(self, scope: Scope, headers: Headers, session: Session | None) -> Response | None:
        if not self._access.knows_host(headers.get("host")):
            return PlainTextResponse("This server is not known by that name: use http://127.0.0.1.", 421)
        if scope["method"] not in {"GET", "HEAD"} and not _is_own(headers):
            return PlainTextResponse("The request comes from another page.", 403)
        if session is not None or scope["path"].startswith(OPEN_PATHS):
            return None
        if scope["method"] in {"GET", "HEAD"} and "text/html" in headers.get("accept", ""):
            return RedirectResponse("/login", 303)
        return PlainTextResponse("Log in first.", 401)


def _is_own(headers: Mapping[str, str]) -> bool:
    """Whether a form was sent by a page of this server, as far as the browser says."""
    if headers.get("sec-fetch-site", "same-origin") != "same-origin":
        return False
    origin = headers.get("origin")
    return origin is None or urlsplit(origin).netloc == headers.get("host")
