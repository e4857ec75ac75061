"""Tells an outage from a wrong answer."""

import math
from collections.abc import Iterator
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from langchain_finops.langchain import failures
from langchain_finops.langchain.failures import http_status
from langchain_finops.records import CallError

__all__ = [
    "call_error",
    "causes",
    "is_outage",
    "is_outage_error",
    "is_overload",
    "is_worth_another_try",
    "is_worth_trying_again",
    "retry_after_s",
]

TRANSIENT = frozenset({408, 409, 425, 429})
"""HTTP statuses, besides 5xx, after which the same request may succeed."""
OUTAGE = TRANSIENT | {401, 402, 403, 404, 407}
"""Statuses that tell of the service or the account, not of what was asked."""
NETWORK_CLASSES = frozenset(
    {
        *("APIConnectionError", "APITimeoutError", "ModelConnectionError", "ModelTimeoutError"),  # SDKs, LangChain
        *("TransportError", "ConnectError", "ConnectTimeout", "ReadError", "ReadTimeout", "WriteError"),  # httpx
        *("WriteTimeout", "PoolTimeout", "RemoteProtocolError"),
        *("ClientConnectionError", "ClientConnectorError", "ServerDisconnectedError", "ClientPayloadError"),  # aiohttp
        *("MaxRetryError", "NewConnectionError", "ProtocolError", "EndpointConnectionError"),  # urllib3, boto
        *("ConnectionError", "ConnectionRefusedError", "ConnectionResetError", "BrokenPipeError", "TimeoutError"),
    }
)
"""Classes of network errors, told by name, so that no client need be installed and stored errors can be read."""


def causes(error: BaseException) -> Iterator[BaseException]:
    """An error, what it was raised from, and so on; groups are walked into."""
    waiting, seen = [error], set[int]()
    while waiting:
        current = waiting.pop(0)
        if id(current) in seen:
            continue
        seen.add(id(current))
        yield current
        if isinstance(current, BaseExceptionGroup):
            waiting += current.exceptions
        context = None if current.__suppress_context__ else current.__context__
        waiting += [below for below in (current.__cause__, context) if below is not None]


def is_outage(error: BaseException) -> bool:
    """Whether the infrastructure failed: the network, the service, the account. A bad request is the target's fault."""
    status = _http_status(error)
    if status is not None:
        return status in OUTAGE or status >= 500
    return _is_network(error)


def is_outage_error(error: CallError) -> bool:
    """The same of a failed call as the ledger knows it: by its status, or its class."""
    if error.http_status is not None:
        return error.http_status in OUTAGE or error.http_status >= 500
    return error.error_class in NETWORK_CLASSES


def is_overload(error: CallError) -> bool:
    """Whether the service said that it is asked too much, and not that the account's money is used up."""
    return error.http_status in (429, 529) and _is_passing(error.http_status, error.code)


def is_worth_trying_again(error: CallError) -> bool:
    """Whether a request that failed like this may succeed in a while."""
    if error.http_status is not None:
        return _is_passing(error.http_status, error.code)
    return error.error_class in NETWORK_CLASSES


def is_worth_another_try(error: BaseException) -> bool:
    """Whether the same request may succeed in a while."""
    status = _http_status(error)
    if status is not None:
        return _is_passing(status, _code(error))
    return _is_network(error)


def call_error(error: BaseException) -> CallError:
    """How it failed, without its message, which may hold text."""
    return CallError(error_class=type(error).__name__, http_status=_http_status(error), code=_code(error))


def retry_after_s(error: BaseException) -> float | None:
    """How long the service asks to wait, in seconds."""
    for cause in causes(error):
        headers = getattr(getattr(cause, "response", None), "headers", None) or {}
        try:
            said = headers["retry-after"]
        except (KeyError, TypeError):
            continue
        if (wait_s := _seconds(said)) is not None:
            return wait_s
    return None


def _seconds(said: object) -> float | None:
    """What `retry-after` says: seconds, or the time until when."""
    try:
        wait_s = float(str(said))
    except ValueError:
        try:
            until = parsedate_to_datetime(str(said))
        except ValueError:
            return None
        wait_s = (until.replace(tzinfo=until.tzinfo or UTC) - datetime.now(UTC)).total_seconds()
    return max(wait_s, 0.0) if math.isfinite(wait_s) else None


def _is_passing(status: int, code: str | None) -> bool:
    return (status in TRANSIENT or status >= 500) and code != "insufficient_quota"


def _http_status(error: BaseException) -> int | None:
    return next((status for cause in causes(error) if (status := http_status(cause)) is not None), None)


def _code(error: BaseException) -> str | None:
    return next((code for cause in causes(error) if (code := failures.call_error(cause).code) is not None), None)


def _is_network(error: BaseException) -> bool:
    for cause in causes(error):
        if isinstance(cause, ConnectionError | TimeoutError):
            return True
        if NETWORK_CLASSES & {base.__name__ for base in type(cause).__mro__}:
            return True
    return False
