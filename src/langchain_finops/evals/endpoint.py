"""A target behind a URL: inputs and configuration are posted as JSON, and what its answer says of its cost counts.

The request is one model call in the ledger. Its cost is the `cost_usd` that the answer states, or its `usage` at the
price of the `model` that it names; else it is not known, and never 0.
"""

import json
import ssl
from collections.abc import Mapping
from decimal import Decimal
from functools import lru_cache
from typing import Any

import httpx
from langchain_core.callbacks import AsyncCallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage
from langchain_core.outputs import ChatGeneration, ChatResult

from langchain_finops.evals.models import split_model

__all__ = ["Endpoint"]

TIMEOUT = httpx.Timeout(600, connect=30)
"""Seconds. An agent thinks long; without any a connection that is gone would be waited for until the end of days."""
SPENT_FIRST = frozenset({408})
"""Statuses of 4xx that may come after something was spent."""
REFUSED_LATE = frozenset({503, 529})
"""Statuses of 5xx by which a request is turned away, as by 4xx, before anything was spent on it."""
COUNTS = ("input_tokens", "output_tokens", "prompt_tokens", "completion_tokens")
BILLED = "endpoint"
"""Provider of a call whose cost the endpoint states: `pricing` takes its word."""


class Endpoint:
    """Asks a URL."""

    def __init__(self, url: str, headers: Mapping[str, str], configuration: Mapping[str, object]) -> None:
        self._configuration = configuration
        self._post = _Post(url=url, headers_=dict(headers), asked_model=configuration.get("model"), cache=False)

    async def ask(self, inputs: object) -> object:
        """The JSON object that it answers with. Raises httpx.HTTPError, or ValueError where there is none."""
        body = json.dumps({"inputs": inputs, "configuration": self._configuration}, ensure_ascii=False, default=str)
        answer = await self._post.ainvoke([HumanMessage(body)])
        said = _object(str(answer.content))
        if said is None:
            raise ValueError("the endpoint's answer is no JSON object")
        return said


class _Post(BaseChatModel):
    """The request as a call, so that it is metered, limited in time and tried again like any other."""

    url: str
    headers_: dict[str, str]
    asked_model: Any = None
    """The configuration's model: whose price `usage` has where the answer names none."""

    @property
    def _llm_type(self) -> str:
        return BILLED

    def _get_ls_params(self, *_: Any, **__: Any) -> Any:
        """Nothing: who answers is known when it has. Named here, it would be priced by a guess where that fails."""
        return {"ls_model_type": "chat"}

    def _generate(self, *_: Any, **__: Any) -> ChatResult:
        raise NotImplementedError("an endpoint is awaited")

    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,  # noqa: ARG002  LangChain's.
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **_: Any,
    ) -> ChatResult:
        headers = {"content-type": "application/json", **self.headers_}
        async with httpx.AsyncClient(timeout=TIMEOUT, verify=_trusted()) as client:
            response = await client.post(self.url, content=str(messages[-1].content).encode(), headers=headers)
        said = _object(response.text, exact=True) or {}
        if not response.is_success and run_manager is not None and _may_have_spent(response, said):
            # Text that came is how metering tells a call that may have been billed from one that was turned away.
            await run_manager.on_llm_new_token(response.text or " ")
        response.raise_for_status()
        return ChatResult(
            generations=[ChatGeneration(message=AIMessage(response.text, response_metadata=self._of(said)))]
        )

    def _of(self, said: Mapping[str, Any]) -> dict[str, Any]:
        """What the answer says of its cost, as metering reads it."""
        usage, cost, named = said.get("usage"), said.get("cost_usd"), said.get("model") or self.asked_model
        if isinstance(named, Mapping):
            named = named.get("model")
        metadata: dict[str, Any] = {}
        if isinstance(usage, Mapping) and any(_is_count(usage.get(name)) for name in COUNTS):
            metadata["usage"] = usage
            if isinstance(named, str):  # Named without counts, it would be estimated as if it were all that was done.
                metadata["model_provider"], metadata["model_name"] = split_model(named)
        return metadata if cost is None else {**metadata, "cost_usd": cost, "model_provider": BILLED}


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _may_have_spent(response: httpx.Response, said: Mapping[str, Any]) -> bool:
    refused = 400 <= response.status_code < 500 and response.status_code not in SPENT_FIRST
    if refused or response.status_code in REFUSED_LATE:
        return "cost_usd" in said or "usage" in said
    return True


def _object(text: str, *, exact: bool = False) -> dict[str, Any] | None:
    """A JSON object; None for anything else. `exact`: amounts keep their digits."""
    try:
        found = json.loads(text, parse_float=Decimal if exact else None)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


@lru_cache(maxsize=1)
def _trusted() -> ssl.SSLContext:
    """Made once: each takes longer than a request."""
    return httpx.create_ssl_context()
