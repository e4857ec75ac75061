"""Telling somebody of an alert: the log, a callable, a signed webhook, Apprise. Never in the way of a call."""

import base64
import hashlib
import hmac
import json
import logging
import random
import threading
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from functools import partial
from http.client import HTTPException
from importlib import import_module
from typing import Any, Final, Literal, NoReturn
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

from langchain_finops.budgets.background import Background
from langchain_finops.errors import BadArguments, FinOpsError, MissingExtra
from langchain_finops.ledger.forks import renew_in_child

__all__ = ["Alert", "AlertKind", "AppriseNotice", "Notifier", "Target", "TryAgain", "Webhook", "signature"]

log = logging.getLogger("langchain_finops")

AlertKind = Literal["actual", "forecast", "share", "burn_rate"]
ATTEMPTS: Final = 6
FIRST_DELAY_S = 1.0
"""The longest wait before the second attempt; it doubles with each."""
LONGEST_DELAY_S: Final = 60.0
TIMEOUT_S: Final = 10.0
MOST_WAITING: Final = 1_000
"""Deliveries that may wait; what comes beyond them is given up, counted and logged."""
PASSING = frozenset({408, 425, 429, 500, 502, 503, 504})
"""HTTP statuses after which the same request may succeed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """One thing that somebody is told, once for its window and threshold."""

    alert_id: str
    """The same in every attempt to deliver it."""
    alert: str
    """The name of the `BurnRateAlert`."""
    kind: AlertKind
    text: str
    """One sentence: what happened, against which limit, in which window."""
    budget: str
    scope: str
    """Whose balance it is, such as `agent_id=support`."""
    unit: str
    limit: Decimal
    spent: Decimal
    """Within the window."""
    threshold: Decimal
    """What was passed: a share of the limit, or a multiple of the rate that would use it up just in time."""
    value: Decimal
    """What it came to, as the threshold is counted, to 4 digits."""
    window_start: datetime
    window_end: datetime
    at: datetime


Target = Callable[[Alert], object]
"""Whom to tell. What it raises is counted and logged; TryAgain has it asked again, later and later."""


class TryAgain(Exception):
    """The delivery failed in a way that may pass. `after_s`: the receiver asks for that much patience."""

    def __init__(self, why: str, after_s: float | None = None) -> None:
        super().__init__(why)
        self.after_s = after_s


class _NoRedirect(HTTPRedirectHandler):
    """A redirected POST would arrive as a GET, without its body, and look delivered."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        """Nowhere else: the answer becomes an error."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Webhook:
    """Posts an alert as JSON, signed as https://www.standardwebhooks.com describes.

    `secret`: text, or `whsec_` and base64. Without one nothing is signed. The receiver compares the signature, refuses
    old timestamps, and takes each `webhook-id` once: an attempt whose answer was lost is made again.
    """

    url: str = field(repr=False)  # Addresses of chat services are secrets themselves.
    secret: str | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise BadArguments("a webhook's url is the address of an HTTP server, such as https://example.com/hooks/7")
        if self.secret is not None and not _key(self.secret):
            raise BadArguments("a webhook's secret is text that is not empty, or `whsec_` and base64")

    def __str__(self) -> str:
        return f"the webhook at {urlsplit(self.url).hostname}"

    def __call__(self, alert: Alert) -> None:
        """Post it once. Raises TryAgain for what may pass, FinOpsError for what will not."""
        request = Request(self.url, data=body(alert), headers=self._headers(alert), method="POST")  # noqa: S310 - checked
        try:
            with build_opener(_NoRedirect).open(request, timeout=TIMEOUT_S) as answer:
                answer.read(1)
        except HTTPError as error:
            with error:
                _refused(error)
        except (OSError, HTTPException) as error:  # Nobody there, too slow, or no HTTP.
            raise TryAgain(type(error).__name__) from error

    def _headers(self, alert: Alert) -> dict[str, str]:
        headers = {"content-type": "application/json", "user-agent": "langchain-finops", "webhook-id": alert.alert_id}
        now = int(datetime.now(UTC).timestamp())
        headers["webhook-timestamp"] = str(now)
        if self.secret is not None:
            headers["webhook-signature"] = signature(self.secret, alert.alert_id, now, body(alert))
        return headers


def _refused(error: HTTPError) -> NoReturn:
    if error.code not in PASSING:
        raise FinOpsError(f"it answered {error.code}") from error
    after = error.headers.get("retry-after", "")
    raise TryAgain(f"it answered {error.code}", float(after) if after.isdecimal() else None) from error


def signature(secret: str, message_id: str, timestamp: int, content: bytes) -> str:
    """The `webhook-signature` of a body: `v1,` and base64 of the HMAC-SHA256 of id, timestamp and body."""
    signed = b"%s.%d.%s" % (message_id.encode(), timestamp, content)
    return "v1," + base64.b64encode(hmac.digest(_key(secret), signed, hashlib.sha256)).decode()


def _key(secret: str) -> bytes:
    """The bytes to sign with; empty for what is no secret."""
    if not secret.startswith("whsec_"):
        return secret.encode()
    try:
        return base64.b64decode(secret.removeprefix("whsec_"), validate=True)
    except ValueError:
        return b""


def body(alert: Alert) -> bytes:
    """The JSON that is posted: exact decimals as text, moments in ISO 8601."""
    data = {"type": f"finops.alert.{alert.kind}", "timestamp": alert.at.isoformat(), "text": alert.text}
    return json.dumps({**data, "data": fields(alert)}, separators=(",", ":")).encode()


def fields(alert: Alert) -> dict[str, str]:
    """An alert as JSON values."""
    return {name: _plain(value) for name, value in asdict(alert).items()}


def _plain(value: object) -> str:
    return (
        value.isoformat() if isinstance(value, datetime) else f"{value:f}" if isinstance(value, Decimal) else str(value)
    )


class AppriseNotice:
    """Tells by Apprise: mail, chat, SMS, pagers and some hundred other services, one URL each. Extra `notify`."""

    def __init__(self, *urls: str) -> None:
        try:
            apprise = import_module("apprise")
        except ImportError as error:
            raise MissingExtra("notifying by Apprise", "notify") from error
        self._services = apprise.Apprise()
        for number, url in enumerate(urls, 1):
            if not self._services.add(url):  # Not shown: it holds a password.
                scheme = url.partition("://")[0]
                raise BadArguments(f"Apprise knows no service for URL {number}, which begins with {scheme[:20]!r}")

    def __str__(self) -> str:
        return "Apprise"

    def __call__(self, alert: Alert) -> None:
        """Tell every service. Raises TryAgain if one of them failed."""
        if not self._services.notify(title=f"FinOps alert: {alert.alert}", body=alert.text):
            raise TryAgain("a service failed")


class Notifier:
    """Delivers alerts on its own thread: each target on its own, again and again if need be, and not for ever."""

    def __init__(self, failed: Callable[[Exception], None]) -> None:
        self._failed = failed
        self._background = Background("finops-notify", failed, most=MOST_WAITING)
        self.given_up = 0
        """Deliveries that came to nothing."""
        self.after_fork()
        renew_in_child(self)

    def after_fork(self) -> None:
        """The child has a lock of its own."""
        self._lock = threading.RLock()

    def tell(self, alert: Alert, targets: Sequence[Target]) -> None:
        """Log the alert at once, and have every target told. Waits for nobody."""
        log.warning("%s", alert.text)
        for target in targets:
            self._submit(alert, target, 1, 0.0)

    def flush(self, timeout: float | None = None) -> bool:
        """Wait until all are delivered or given up; False if `timeout` seconds passed first."""
        return self._background.flush(timeout)

    def _submit(self, alert: Alert, target: Target, attempt: int, delay_s: float) -> None:
        if not self._background.submit(partial(self._deliver, alert, target, attempt), delay_s=delay_s):
            self._give_up(alert, target, FinOpsError(f"{MOST_WAITING} deliveries wait already"))

    def _deliver(self, alert: Alert, target: Target, attempt: int) -> None:
        try:
            target(alert)
        except TryAgain as error:
            if attempt >= ATTEMPTS:
                self._give_up(alert, target, error)
            else:
                self._submit(alert, target, attempt + 1, backoff_s(attempt, error.after_s))
        except Exception as error:  # noqa: BLE001 - whatever a callable of the user's raises.
            self._give_up(alert, target, error)

    def _give_up(self, alert: Alert, target: Target, error: Exception) -> None:
        with self._lock:
            self.given_up += 1
        # Of a foreign error the class only: its message may hold an address with a password.
        why = str(error) if isinstance(error, FinOpsError | TryAgain) else type(error).__name__
        log.error("alert %s was not delivered to %s: %s", alert.alert, _name(target), why)
        self._failed(error)


def _name(target: Target) -> str:
    if isinstance(target, Webhook | AppriseNotice):
        return str(target)
    return str(getattr(target, "__qualname__", type(target).__qualname__))


def backoff_s(attempt: int, after_s: float | None = None) -> float:
    """Seconds to wait after the failed attempt: at random up to 1, 2, 4 ... 60, but what the receiver asks at least.

    Random, or all processes whose receiver was down would come back at the same moment.
    """
    most = min(FIRST_DELAY_S * 2 ** (attempt - 1), LONGEST_DELAY_S)
    asked = min(after_s or 0.0, LONGEST_DELAY_S)
    return max(random.uniform(0, most), asked)  # noqa: S311 - spreads load, guards no secret.
