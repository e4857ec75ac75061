"""What is an outage, and what is worth another try."""

import pytest

from langchain_finops.evals.faults import (
    call_error,
    is_outage,
    is_outage_error,
    is_worth_another_try,
    is_worth_trying_again,
    retry_after_s,
)
from langchain_finops.records import CallError


class HttpError(Exception):
    def __init__(self, status: int, code: str | None = None, headers: dict[str, str] | None = None) -> None:
        super().__init__("text of a prompt")
        self.code = code
        self.response = type("Response", (), {"status_code": status, "headers": headers or {}})()


class APIConnectionError(Exception):
    """Named as the SDKs name theirs."""


class Wrapped(Exception):
    """Raised by a target around what really happened."""


def wrapped(error: Exception) -> Exception:
    try:
        raise Wrapped from error
    except Wrapped as outer:
        return outer


def in_handler_of(error: Exception, *, suppress: bool) -> Exception:
    """Raised while another was handled; `from None` says that it has nothing to do with it."""
    try:
        try:
            raise error
        except HttpError:
            if suppress:
                raise Wrapped from None
            raise Wrapped  # noqa: B904  Without `from`, as targets do.
    except Wrapped as outer:
        return outer


@pytest.mark.parametrize(
    ("error", "outage", "again"),
    [
        (HttpError(500), True, True),
        (HttpError(529), True, True),
        (HttpError(429), True, True),
        (HttpError(429, code="insufficient_quota"), True, False),
        (HttpError(408), True, True),
        (HttpError(401), True, False),
        (HttpError(402), True, False),
        (HttpError(403), True, False),
        (HttpError(404), True, False),
        (HttpError(400), False, False),
        (HttpError(422), False, False),
        (APIConnectionError(), True, True),
        (ConnectionResetError(), True, True),
        (TimeoutError(), True, True),
        (wrapped(HttpError(503)), True, True),
        (wrapped(ConnectionRefusedError()), True, True),
        (ExceptionGroup("both", [ValueError(), HttpError(503)]), True, True),
        (in_handler_of(HttpError(503), suppress=False), True, True),
        (in_handler_of(HttpError(503), suppress=True), False, False),
        (ValueError("503"), False, False),
        (KeyError("total"), False, False),
    ],
)
def test_outages_are_told_from_faults_of_the_target(error: Exception, outage: bool, again: bool) -> None:
    """The network, the service and the account are outages; of those the passing ones are worth another try."""
    assert is_outage(error) is outage
    assert is_worth_another_try(error) is again


@pytest.mark.parametrize(
    ("error", "outage", "again"),
    [
        (CallError(error_class="InternalServerError", http_status=500), True, True),
        (CallError(error_class="AuthenticationError", http_status=401), True, False),
        (CallError(error_class="RateLimitError", http_status=429, code="insufficient_quota"), True, False),
        (CallError(error_class="BadRequestError", http_status=400), False, False),
        (CallError(error_class="APIConnectionError"), True, True),
        (CallError(error_class="ConnectionResetError"), True, True),
        (CallError(error_class="ValueError"), False, False),
    ],
)
def test_the_ledgers_errors_are_read_the_same_way(error: CallError, outage: bool, again: bool) -> None:
    """A stored error, which has no exception any more, is an outage by its status or its class."""
    assert is_outage_error(error) is outage
    assert is_worth_trying_again(error) is again


def test_no_message_is_kept() -> None:
    """Messages may hold the text of prompts."""
    assert call_error(HttpError(429, code="busy")) == CallError(error_class="HttpError", http_status=429, code="busy")


def test_the_service_says_how_long_to_wait() -> None:
    """`retry-after` in seconds or as a date is read through wrappers; without it nothing is known."""
    assert retry_after_s(wrapped(HttpError(429, headers={"retry-after": "1.5"}))) == 1.5
    assert retry_after_s(HttpError(429, headers={"retry-after": "Fri, 31 Dec 1999 23:59:59 GMT"})) == 0.0
    assert retry_after_s(HttpError(429, headers={"retry-after": "in a while"})) is None
    assert retry_after_s(ValueError()) is None


def test_causes_that_go_in_a_circle_end() -> None:
    """Exceptions may refer to each other."""
    one, two = ValueError("1"), ValueError("2")
    one.__cause__, two.__cause__ = two, one

    assert is_outage(one) is False
