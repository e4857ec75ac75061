"""Hand-made prices, a ledger, a handler on both, and a model that says what the test tells it to."""

import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langsmith import Client

sys.path.insert(0, str(Path(__file__).parent))  # Tests are imported by path and have no package.

from langsmith_server import LangSmithServer

from langchain_finops import FinOpsHandler, Ledger, PriceBook, open_ledger
from langchain_finops.pricing import parse_cards

CARDS = [
    {"id": "m", "match": {"model": "m"}, "rates": {"input_tokens": "2", "output_tokens": "10"}},
    {"id": "search", "tool": "search", "usd_per_call": "0.005"},
]


class Scripted(BaseChatModel):
    """Calls `say` for each answer: an AIMessage, or an exception to raise."""

    say: Any

    @property
    def _llm_type(self) -> str:
        return "scripted"

    def _get_ls_params(self, stop: Any = None, **kwargs: Any) -> Any:
        return {"ls_provider": "test", "ls_model_name": "m", "ls_model_type": "chat"}

    def _answer(self) -> AIMessage:
        answer = self.say()
        if isinstance(answer, BaseException):
            raise answer
        return answer

    def _generate(self, messages: Any, stop: Any = None, run_manager: Any = None, **kwargs: Any) -> ChatResult:
        return ChatResult(generations=[ChatGeneration(message=self._answer())])

    async def _agenerate(self, messages: Any, stop: Any = None, run_manager: Any = None, **kwargs: Any) -> ChatResult:
        answer = self.say()
        if hasattr(answer, "__await__"):
            answer = await answer
        return ChatResult(generations=[ChatGeneration(message=answer)])


class Streamed(Scripted):
    """The same in one chunk a word."""

    def _stream(
        self, messages: Any, stop: Any = None, run_manager: Any = None, **kwargs: Any
    ) -> Iterator[ChatGenerationChunk]:
        for word in self._answer().text.split():
            yield ChatGenerationChunk(message=AIMessageChunk(word))

    async def _astream(
        self, messages: Any, stop: Any = None, run_manager: Any = None, **kwargs: Any
    ) -> AsyncIterator[ChatGenerationChunk]:
        for chunk in self._stream(messages):
            yield chunk


def answer(input_tokens: int = 7, output_tokens: int = 3, text: str = "ok") -> AIMessage:
    """An answer that reports its usage."""
    usage = {
        "input_tokens": input_tokens,
        "output_tokens": output_tokens,
        "total_tokens": input_tokens + output_tokens,
    }
    return AIMessage(text, usage_metadata=usage, response_metadata={"model_name": "m"})  # type: ignore[arg-type]


@pytest.fixture
def model() -> Callable[..., Scripted]:
    """Makes a model: by default each answer is of 7 input and 3 output tokens."""
    return lambda say=answer, streamed=False: Streamed(say=say) if streamed else Scripted(say=say)


@pytest.fixture
def prices() -> PriceBook:
    """$2 and $10 for a million tokens of model `m`, half a cent for a search."""
    return PriceBook(cards=parse_cards(CARDS, where="test"), catalog=False)


@pytest.fixture
def ledger() -> Ledger:
    return open_ledger(":memory:")


@pytest.fixture
def handler(ledger: Ledger, prices: PriceBook) -> FinOpsHandler:
    return FinOpsHandler(ledger=ledger, prices=prices)


@pytest.fixture
def faultless(handler: FinOpsHandler) -> Iterator[None]:
    """The test is worth nothing if the handler swallowed a fault of its own meanwhile."""
    yield
    assert handler.faults == 0


@pytest.fixture
def server() -> Iterator[LangSmithServer]:
    server = LangSmithServer()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def client(server: LangSmithServer) -> Client:
    return Client(api_url=server.url, api_key="x", auto_batch_tracing=False)
