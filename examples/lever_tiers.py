"""Tiers of models: a LangGraph agent that finds one fact in a customer's message, before and after the lever.

A larger model of which a recording could be made was not at hand. So the tiers are one real model, Gemma 3 270M, and
differ in what it is told: the worker is shown one worked example, the brain five. A call of the brain costs more
because its prompt is longer, and is more often right. `golden_datasets/levers/tiers.yaml` has each tier alone and
several policies of a `TieredChatModel`; this prints what they cost, from the recording, without a model or a network:

    python examples/lever_tiers.py [RESULTS]
    finops-eval run golden_datasets/levers/tiers.jsonl
"""

import os
import re
import sys
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypedDict

import openai
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.runnables import Runnable, RunnableConfig
from langgraph.graph import END, START, StateGraph

from langchain_finops.levers import Request, Tier, TieredChatModel, by_difficulty, cascade, shape_difficulty

LEVERS = Path(__file__).parent.parent / "golden_datasets" / "levers"
MODEL = "gemma-3-270m"
URL = "http://127.0.0.1:8089/v1"

# Worked examples: message, field, answer. None of them is a task of the dataset.
EXAMPLES = (
    ("The tour was planned for Friday at 10:00 but starts on Sunday at 9:30.", "day the tour starts", "Sunday"),
    ("You sent 3 lamps, I paid for 4. Order 6120, Nina Roth.", "number of lamps sent", "3"),
    ("Mr Okoro wrote the report, Ms Silva will present it in room 12.", "name of the presenter", "Ms Silva"),
    ("Invoice A-31 is paid. Invoice A-47 over 230.00 is still open.", "open invoice", "A-47"),
    ("Please change my hotel from Rome to Milan, 2 to 5 May.", "new hotel city", "Milan"),
)
SHOTS = {"worker": 1, "brain": 5}


class Ticket(TypedDict, total=False):
    """What is asked, the answer, and the tier that gave it."""

    message: str
    field: str
    answer: str
    tier: str


class ShownExamples(BaseChatModel):
    """A completion model as a chat model: it goes on from `shots` worked examples and the last message."""

    model: str
    url: str
    shots: int
    temperature: float

    @property
    def _llm_type(self) -> str:
        return "shown-examples"

    def _generate(self, messages: list[BaseMessage], *_: Any, **__: Any) -> ChatResult:
        return _result(self._client.completions.create(**self._asked(messages)))

    async def _agenerate(self, messages: list[BaseMessage], *_: Any, **__: Any) -> ChatResult:
        return _result(await self._async_client.completions.create(**self._asked(messages)))

    @cached_property
    def _client(self) -> openai.OpenAI:
        return openai.OpenAI(**self._served())

    @cached_property
    def _async_client(self) -> openai.AsyncOpenAI:
        return openai.AsyncOpenAI(**self._served())

    def _served(self) -> dict[str, Any]:
        # A replay needs no key, nor does a server of one's own; the client wants one all the same.
        return {"base_url": self.url, "api_key": os.environ.get("FINOPS_MODEL_KEY", "not needed")}

    def _asked(self, messages: list[BaseMessage]) -> dict[str, Any]:
        shown = EXAMPLES[len(EXAMPLES) - self.shots :]
        examples = "".join(f"{question(message, field)} {answer}\n\n" for message, field, answer in shown)
        prompt = examples + messages[-1].text
        return {"model": self.model, "prompt": prompt, "temperature": self.temperature, "max_tokens": 12, "stop": "\n"}


def _result(said: Any) -> ChatResult:
    usage = {
        "input_tokens": said.usage.prompt_tokens,
        "output_tokens": said.usage.completion_tokens,
        "total_tokens": said.usage.total_tokens,
    }
    choice = said.choices[0]
    told = {"model_name": said.model, "finish_reason": choice.finish_reason}
    text = choice.text.strip().strip("\"'").rstrip(".,;:!")
    message = AIMessage(text, usage_metadata=usage, response_metadata=told)
    return ChatResult(generations=[ChatGeneration(message=message)])


def question(message: str, field: str) -> str:
    """The request, with its answer left open: a base model goes on from there."""
    return f"Text: {message}\nQuestion: What is the {field}?\nAnswer:"


def is_copied(request: Request, answer: AIMessage) -> bool:
    """A judge that calls no model: the answer stands in the message, and is not half of it."""
    message, found = request.messages[-1].text.partition("\nQuestion:")[0].casefold(), answer.text.casefold()
    return found in message and len(found) <= 40


def by_what_is_asked(request: Request) -> str:
    """A rule: sums, counts and times stand beside others that look alike, and are the brain's; the rest is easy."""
    asked = request.messages[-1].text.rpartition("\nQuestion:")[2]
    return "brain" if re.search(r"\b(price|amount|total|number of|time|date|day)\b", asked) else "worker"


def chat_model(configuration: Mapping[str, object]) -> BaseChatModel:
    """A tier alone, or the tiers and what chooses among them: `model` of the configuration."""

    def shown(shots: int) -> ShownExamples:
        model = os.environ.get("FINOPS_MODEL") or MODEL
        return ShownExamples(model=model, url=os.environ.get("FINOPS_MODEL_URL") or URL, shots=shots, temperature=0.3)

    alone = {name: shown(shots) for name, shots in SHOTS.items()}
    tiers = [Tier(name, model) for name, model in alone.items()]
    ways: dict[str, Any] = {
        "cascade": None,  # The default: the next tier only where an answer is empty or cut off.
        "cascade-copied": cascade(is_copied),
        "by-rule": by_what_is_asked,
        # Nothing but the length tells these tickets apart: at this score half of the development set is long.
        "by-difficulty": by_difficulty(shape_difficulty(), {"brain": 0.00135}),
    }
    name = str(configuration["model"])
    return alone[name] if name in alone else TieredChatModel(tiers, policy=ways[name])


def build(configuration: Mapping[str, object]) -> Runnable[Ticket, Ticket]:
    """The agent in one configuration."""
    model = chat_model(configuration)

    async def read(state: Ticket, config: RunnableConfig) -> Ticket:
        """Have the model name the fact."""
        said = await model.ainvoke([HumanMessage(question(state["message"], state["field"]))], config)
        tier = said.response_metadata.get("finops_tier", {}).get("tier") or str(configuration["model"])
        return {"answer": said.text, "tier": tier}

    graph = StateGraph(Ticket)
    graph.add_node("read", read)
    graph.add_edge(START, "read")
    graph.add_edge("read", END)
    return graph.compile(name="tiered_agent")


def main(folder: Path) -> None:
    """Print each configuration's figures, the policies beside the brain alone, and beside the best single."""
    from langchain_finops.evals import Options, compare, load_dataset, load_suite, run
    from langchain_finops.evals.resume import plan_of, table_of
    from langchain_finops.evals.routers import RouterOptions, router_report
    from langchain_finops.evals.routers_table import routers_table
    from langchain_finops.reports.render import render

    data = LEVERS / "tiers.jsonl"
    results = run(load_dataset(data), load_suite(data.with_suffix(".yaml")), Options(folder=folder))
    render(table_of(results), "table", sys.stdout)
    render(compare(f"{folder}:cascade-copied", f"{folder}:brain").table(), "table", sys.stdout)
    options = RouterOptions(routers=("cascade", "cascade-copied", "by-rule", "by-difficulty"))
    report = router_report(results.attempts, results.verdicts, plan=plan_of(results), options=options)
    render(routers_table(report), "table", sys.stdout)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(Path(sys.argv[1]))
    else:
        with TemporaryDirectory() as made:
            main(Path(made) / "tiers")
