"""What an exception means for money: whether a call was billed, how a run ended, what may be written down of it."""

import asyncio
import re
import socket

from langchain_core import exceptions as core
from langgraph.errors import GraphDrained, GraphInterrupt, GraphRecursionError

from langchain_finops.records import CallError, RunStatus

__all__ = ["call_error", "is_pause", "not_charged", "not_started", "reason_of", "run_status"]

CORE_STATUS: tuple[tuple[str, int], ...] = (
    ("ModelAuthenticationError", 401),
    ("ModelPermissionDeniedError", 403),
    ("ModelNotFoundError", 404),
    ("ModelRateLimitError", 429),
    ("ModelInvalidRequestError", 400),
    ("ModelAPIError", 500),
)
# Older versions of langchain-core lack some of them.
CORE_CLASSES = tuple((getattr(core, name), status) for name, status in CORE_STATUS if hasattr(core, name))

UNSENT = frozenset(
    {
        *("ConnectError", "ConnectTimeout", "PoolTimeout", "UnsupportedProtocol", "InvalidURL"),  # httpx
        *(
            "NewConnectionError",
            "NameResolutionError",
            "ConnectTimeoutError",
            "EndpointConnectionError",
        ),  # urllib3, boto
        *("ClientConnectorError", "ClientConnectorDNSError"),  # aiohttp
    }
)
"""Exceptions that HTTP clients raise before a request's first byte is sent, by name: none of them is imported here."""
START_HOOKS = frozenset({"on_chat_model_start", "on_llm_start"})
CODE = re.compile(r"[A-Za-z0-9_.:-]{1,64}")


def call_error(error: BaseException) -> CallError:
    """Class, HTTP status and the provider's code. Never the message, which may hold a prompt's text."""
    return CallError(error_class=type(error).__name__, http_status=http_status(error), code=_code(error))


def http_status(error: BaseException) -> int | None:
    """The HTTP status an exception tells of, itself, in its response, in its cause, or by its class."""
    for each in (error, error.__cause__):
        for holder in (each, getattr(each, "response", None)):
            status = getattr(holder, "status_code", None)
            if isinstance(status, int) and not isinstance(status, bool):
                return int(status)
    return next((status for kind, status in CORE_CLASSES if isinstance(error, kind)), None)


def _code(error: BaseException) -> str | None:
    code = getattr(error, "code", None)
    if isinstance(code, int) and not isinstance(code, bool):
        return str(int(code))
    # Some libraries put a sentence there.
    return code if isinstance(code, str) and CODE.fullmatch(code) else None


def not_charged(error: BaseException) -> str | None:
    """Why a failed call costs nothing: `http_error` or `not_sent`. None: it may well have been billed."""
    status = http_status(error)
    if status is not None and 400 <= status <= 599:
        return "http_error"
    return "not_sent" if _never_sent(error) else None


def _never_sent(error: BaseException) -> bool:
    """Whether the connection was never made. Only causes count: a context may be of another, earlier request."""
    seen: BaseException | None = error
    for _ in range(8):
        if seen is None:
            return False
        if isinstance(seen, ConnectionRefusedError | socket.gaierror) or type(seen).__name__ in UNSENT:
            return True
        reason = getattr(seen, "reason", None) or (seen.args[0] if seen.args else None)
        # urllib3 and requests wrap by an attribute or argument, not by `raise ... from`.
        seen = seen.__cause__ or (reason if isinstance(reason, BaseException) else None)
    return False


def _chain(error: BaseException) -> list[BaseException]:
    """The exception and its causes; a cause may be its own, so there is an end to it."""
    chain = [error]
    while chain[-1].__cause__ is not None and len(chain) < 8:
        chain.append(chain[-1].__cause__)
    return chain


def not_started(error: BaseException) -> bool:
    """Whether another handler raised at a model's start, so that its request was never made."""
    traceback = error.__traceback__
    while traceback is not None:
        if traceback.tb_frame.f_code.co_name in START_HOOKS:
            return True
        traceback = traceback.tb_next
    return False


def reason_of(error: BaseException) -> str:
    """Short code for why an answer is not whole."""
    if isinstance(error, asyncio.CancelledError):
        return "cancelled"
    if isinstance(error, GeneratorExit):
        return "stream_left"
    chain = _chain(error)
    if any(isinstance(each, TimeoutError) or "Timeout" in type(each).__name__ for each in chain):
        return "timed_out"
    if any(isinstance(each, ConnectionError) or "Connect" in type(each).__name__ for each in chain):
        return "connection_lost"
    return "failed"


def is_pause(error: BaseException) -> bool:
    """Whether it is LangGraph's way of pausing, which is no failure."""
    return isinstance(error, GraphInterrupt)


def run_status(error: BaseException) -> tuple[RunStatus, str]:
    """How a run stands that ended in an exception, and why."""
    name = type(error).__name__
    if isinstance(error, GraphRecursionError):
        return "stopped", "recursion_limit"
    if isinstance(error, GraphDrained):
        return "stopped", "drained"
    if isinstance(error, GraphInterrupt):
        return "interrupted", "interrupt"
    if isinstance(error, asyncio.CancelledError | GeneratorExit | KeyboardInterrupt | SystemExit):
        return "cancelled", name
    return "failed", name
