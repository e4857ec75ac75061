"""What an exception means for money, and what may be written down of it."""

import asyncio
import socket
from collections.abc import Callable
from http import HTTPStatus
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest
from langchain_core import exceptions as core
from langchain_core.callbacks import AsyncCallbackManager, BaseCallbackHandler, CallbackManager
from langgraph.errors import GraphDrained, GraphInterrupt, GraphRecursionError

from langchain_finops.langchain import failures
from langchain_finops.records import CallError


def made(name: str = "Failure", cause: BaseException | None = None, **fields: Any) -> Exception:
    """An exception of a class of that name, with these attributes."""
    error: Exception = type(name, (Exception,), {})("SECRET")
    for field, value in fields.items():
        setattr(error, field, value)
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (made(status_code=429), 429),
        (made(status_code=HTTPStatus.BAD_GATEWAY), 502),
        (made(response=SimpleNamespace(status_code=500)), 500),
        (made(cause=made(status_code=503)), 503),
        (made(cause=made(response=SimpleNamespace(status_code=503))), 503),
        (made(cause=made(cause=made(status_code=503))), None),
        (made(response={"ResponseMetadata": {"HTTPStatusCode": 429}}), 429),
        (made(code=429), 429),
        (made(code=HTTPStatus.SERVICE_UNAVAILABLE), 503),
        (made(code=7), None),
        (made(code=True), None),
        (made(response={"ResponseMetadata": None}), None),
        (made(status_code="429"), None),
        (made(status_code=True), None),
        (made(), None),
    ],
)
def test_a_status_is_found_where_sdks_put_it(error: Exception, status: int | None) -> None:
    """On the exception, its response or its cause, as an integer."""
    assert failures.http_status(error) == status


@pytest.mark.parametrize(
    ("name", "status"),
    [
        ("ModelAuthenticationError", 401),
        ("ModelPermissionDeniedError", 403),
        ("ModelNotFoundError", 404),
        ("ModelRateLimitError", 429),
        ("ModelInvalidRequestError", 400),
        ("ModelAPIError", 500),
        ("ModelConnectionError", None),
        ("ModelTimeoutError", None),
    ],
)
def test_core_classes_name_a_status(name: str, status: int | None) -> None:
    """LangChain's own classes say what happened even where the SDK's exception does not."""
    if not hasattr(core, name):
        pytest.skip("this langchain-core does not have it")
    assert failures.http_status(getattr(core, name)("SECRET")) == status


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (made(status_code=400), "http_error"),
        (made(status_code=599), "http_error"),
        (made(status_code=200), None),
        (made(status_code=399), None),
        (made(status_code=600), None),
        (ConnectionRefusedError(), "not_sent"),
        (socket.gaierror(), "not_sent"),
        (made("ConnectError"), "not_sent"),
        (made("APIConnectionError", cause=made("ConnectError", cause=ConnectionRefusedError())), "not_sent"),
        (made("MaxRetryError", reason=made("NewConnectionError")), "not_sent"),
        (Exception(made("NewConnectionError")), "not_sent"),
        (made("ReadTimeout"), None),
        (made("APIConnectionError", cause=made("ReadError")), None),
        (ConnectionResetError(), None),
        (TimeoutError(), None),
        (RuntimeError(), None),
    ],
)
def test_only_refused_and_unsent_requests_are_free(error: Exception, reason: str | None) -> None:
    """Whatever may have reached the provider may have been billed."""
    assert failures.not_charged(error) == reason


def test_an_earlier_failure_says_nothing_of_a_later_request() -> None:
    """A refused first try is the context of a second one that timed out, and not its cause."""
    error = TimeoutError()
    error.__context__ = ConnectionRefusedError()

    assert failures.not_charged(error) is None


@pytest.mark.parametrize(
    ("code", "kept"),
    [
        ("rate_limit_exceeded", "rate_limit_exceeded"),
        (-32000, "-32000"),
        ("You said: SECRET", None),
        ("SECRET", None),
        ("x" * 65, None),
        (None, None),
        (True, None),
    ],
)
def test_a_code_is_kept_and_a_sentence_is_not(code: object, kept: str | None) -> None:
    """The message may hold a prompt's text; so may what some libraries call a code."""
    error = made("APIError", code=code, status_code=429)

    assert failures.call_error(error) == CallError(error_class="APIError", http_status=429, code=kept)


def test_a_word_of_whoever_is_no_code() -> None:
    """Only what answers with a status is a provider, whose codes are names."""
    assert failures.call_error(made(code="secret-word")).code is None


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (GraphRecursionError("SECRET"), ("stopped", "recursion_limit")),
        (GraphDrained("SECRET"), ("stopped", "drained")),
        (GraphInterrupt(()), ("interrupted", "interrupt")),
        (asyncio.CancelledError(), ("cancelled", "CancelledError")),
        (GeneratorExit(), ("cancelled", "GeneratorExit")),
        (KeyboardInterrupt(), ("cancelled", "KeyboardInterrupt")),
        (TimeoutError("SECRET"), ("failed", "TimeoutError")),
        (made("APIError"), ("failed", "APIError")),
    ],
)
def test_how_a_run_stands_that_ended_in_an_exception(error: BaseException, status: tuple[str, str]) -> None:
    """The reason is a class or a word of ours, never a text."""
    assert failures.run_status(error) == status


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (asyncio.CancelledError(), "cancelled"),
        (GeneratorExit(), "stream_left"),
        (TimeoutError(), "timed_out"),
        (made("APITimeoutError"), "timed_out"),
        (made("APIConnectionError", cause=made("ReadTimeout")), "timed_out"),
        (made("APIConnectionError", cause=made("ReadError")), "connection_lost"),
        (ConnectionResetError(), "connection_lost"),
        (RuntimeError(), "failed"),
    ],
)
def test_why_an_answer_is_not_whole(error: BaseException, reason: str) -> None:
    """A time-out inside a connection error is a time-out."""
    assert failures.reason_of(error) == reason


def raised(error: Exception, by: Callable[[Exception], None]) -> Exception:
    try:
        by(error)
    except Exception as caught:
        return caught
    raise AssertionError


def test_a_refusal_is_of_the_call_whose_start_was_being_told() -> None:
    """LangChain's frames in the traceback say which; an error of the request itself refuses nothing."""

    class Refusing(BaseCallbackHandler):
        raise_error = run_inline = True

        def on_chat_model_start(self, *_: Any, **__: Any) -> None:
            raise ValueError

        on_chain_start = on_chat_model_start

    run_id = uuid4()
    managers = CallbackManager([Refusing()]), AsyncCallbackManager([Refusing()])
    sync = raised(ValueError(), lambda _: managers[0].on_chat_model_start({}, [[]], run_id=run_id))
    native = raised(ValueError(), lambda _: asyncio.run(managers[1].on_chat_model_start({}, [[]], run_id=run_id)))
    chain = raised(ValueError(), lambda _: managers[0].on_chain_start({}, {}, run_id=run_id))

    assert [failures.refused_call(error) for error in (sync, native)] == [run_id, run_id]
    assert [failures.refused_call(error) for error in (chain, ValueError())] == [None, None]
