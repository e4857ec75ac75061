"""LangSmith's client as commands use it: it sends at once, and what fails is one sentence."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from langchain_finops.errors import FinOpsError

if TYPE_CHECKING:
    from langsmith import Client

__all__ = ["langsmith_errors", "own_client"]

HOSTED = "https://api.smith.langchain.com"


def own_client(error: type[FinOpsError] = FinOpsError) -> "Client":
    """A client that sends at once and says what failed. Raises `error` where LangSmith's key is missing."""
    from langsmith import Client

    endpoint = os.environ.get("LANGSMITH_ENDPOINT") or os.environ.get("LANGCHAIN_ENDPOINT")
    key = os.environ.get("LANGSMITH_API_KEY") or os.environ.get("LANGCHAIN_API_KEY")
    if (endpoint or HOSTED).startswith(HOSTED) and not key:
        raise error("LangSmith needs a key: set LANGSMITH_API_KEY")
    # By hand: the client remembers the environment as it was when it was first asked for.
    client = Client(api_url=endpoint, api_key=key, auto_batch_tracing=False)
    client.tracing_sample_rate = None  # A sampled trace is one thing, a table with holes another.
    return client


@contextmanager
def langsmith_errors(what: str, error: type[FinOpsError] = FinOpsError) -> Iterator[None]:
    """Turn what LangSmith's client raises into `error`, and keep its log lines and tracebacks off the terminal."""
    from langsmith.utils import LangSmithError, LangSmithNotFoundError
    from requests import RequestException

    logger = logging.getLogger("langsmith.client")
    logger.addFilter(_nothing)
    try:
        yield
    except LangSmithNotFoundError as fault:
        raise error(f"{what} is not on LangSmith: {_first_line(fault)}") from fault
    except (LangSmithError, RequestException, OSError, ValueError) as fault:
        raise error(f"{what}: LangSmith says {_first_line(fault)}") from fault
    finally:
        logger.removeFilter(_nothing)


def _nothing(_: logging.LogRecord) -> bool:
    return False


def _first_line(error: Exception) -> str:
    """What went wrong in one line; bodies and stack traces are cut off."""
    text = str(error).strip().split("\n", 1)[0]
    return f"{type(error).__name__}: {text[:200]}"
