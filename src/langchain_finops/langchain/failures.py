"""What an exception means for money: whether a call was billed, how a run ended, what may be written down of it."""

import asyncio
import re
import socket
from collections.abc import Mapping
from uuid import UUID

from langchain_core import exceptions as core
from langgraph.errors import GraphDrained, GraphInterrupt, GraphRecursionError

from langchain_finops.langchain.refusals import CallRefused
from langchain_finops.records import CallError, RunStatus

__all__ = ["call_error", "is_pause", "is_refusal", "not_charged", "reason_of", "refused_call", "run_status"]

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
EVENTS = frozenset({"handle_event", "ahandle_event"})
"""LangChain's functions that tell handlers of an event."""
CODE = re.compile(r"[a-z0-9_.-]{1,64}")


def call_error(error: BaseException) -> CallError:
    """Class, HTTP status and the provider's code. Never the message, which may hold a prompt's text."""
    return CallError(error_class=type(error).__name__, http_status=http_status(error), code=_code(error))


def http_status(error: BaseException) -> int | None:
    """The HTTP status an exception tells of, itself, in its response, in its cause, or by its class."""
    for each in (error, error.__cause__):
        response = getattr(each, "response", None)
        stated = (getattr(each, "status_code", None), getattr(response, "status_code", None), _boto_status(response))
        for status in stated:
            if isinstance(status, int) and not isinstance(status, bool):
                return int(status)
        code = getattr(each, "code", None)  # Google's; others keep codes of their own there.
        if isinstance(code, int) and 400 <= code <= 599:
            return int(code)
    return next((status for kind, status in CORE_CLASSES if isinstance(error, kind)), None)


def _boto_status(response: object) -> object:
    metadata = response.get("ResponseMetadata") if isinstance(response, Mapping) else None
    return metadata.get("HTTPStatusCode") if isinstance(metadata, Mapping) else None


def _code(error: BaseException) -> str | None:
    code = getattr(error, "code", None)
    if isinstance(code, int) and not isinstance(code, bool):
        return str(int(code))
    # Some libraries put a sentence there, and only of an answer's error do we know that it is the provider's word.
    if isinstance(code, str) and CODE.fullmatch(code) and http_status(error) is not None:
        return code
    return None


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


def refused_call(error: BaseException) -> UUID | None:
    """The call that another handler refused by raising at its start, so that its request was never made."""
    traceback = error.__traceback__
    while traceback is not None:
        frame = traceback.tb_frame
        if frame.f_code.co_name in EVENTS and frame.f_locals.get("event_name") in START_HOOKS:
            run_id = (frame.f_locals.get("kwargs") or {}).get("run_id")
            return run_id if isinstance(run_id, UUID) else None
        traceback = traceback.tb_next
    return None


def reason_of(error: BaseException) -> str:
    """Short code for why an answer is not whole."""
    if isinstance(error, asyncio.CancelledError):
        return "cancelled"
    if isinstance(error, GeneratorExit):
        return "stream_left"
    if isinstance(error, CallRefused):
        return error.stop_reason.partition(":")[0]
    chain = _chain(error)
    if any(isinstance(each, TimeoutError) or "Timeout" in type(each).__name__ for each in chain):
        return "timed_out"
    if any(isinstance(each, ConnectionError) or "Connect" in type(each).__name__ for each in chain):
        return "connection_lost"
    return "failed"


def is_pause(error: BaseException) -> bool:
    """Whether it is LangGraph's way of pausing, which is no failure."""
    return isinstance(error, GraphInterrupt)


def is_refusal(error: BaseException) -> bool:
    """Whether it is a guard's refusal, or was raised because of one."""
    each: BaseException | None = error
    for _ in range(8):
        if each is None or isinstance(each, CallRefused):
            return each is not None
        each = each.__cause__ or each.__context__
    return False


def run_status(error: BaseException) -> tuple[RunStatus, str]:
    """How a run stands that ended in an exception, and why."""
    name = type(error).__name__
    if isinstance(error, GraphRecursionError):
        return "stopped", "recursion_limit"
    if isinstance(error, GraphDrained):
        return "stopped", "drained"
    if isinstance(error, CallRefused):
        return "stopped", error.stop_reason
    if isinstance(error, GraphInterrupt):
        return "interrupted", "interrupt"
    if isinstance(error, asyncio.CancelledError | GeneratorExit | KeyboardInterrupt | SystemExit):
        return "cancelled", name
    return "failed", name
