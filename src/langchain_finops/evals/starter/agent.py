"""The agent that is evaluated: finds the number of the order that a customer writes about."""

import re
from collections.abc import Mapping
from typing import Any, TypedDict

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.runnables import Runnable
from langgraph.graph import END, START, StateGraph

from langchain_finops.evals.models import chat_model

PROMPT = "Which order does this customer write about? Answer with its number alone.\n\n"


class State(TypedDict, total=False):
    """What is asked, and what is answered: `inputs` and `outputs` of tasks.jsonl have the same fields."""

    message: str
    answer: str


def build(configuration: Mapping[str, Any]) -> Runnable[Any, Any]:
    """The agent in one configuration of tasks.yaml. `finops-eval run` calls this once for each of them."""
    name = configuration["model"]
    # For a real model write `model: "openai:gpt-5-mini"` in tasks.yaml, and set OPENAI_API_KEY: nothing changes here.
    model = Scripted(rule=RULES[name], called=name) if name in RULES else chat_model(configuration)

    async def read(state: State) -> State:
        said = await model.ainvoke(PROMPT + state["message"])
        return {"answer": said.text.strip()}

    graph = StateGraph(State)
    graph.add_node("read", read)
    graph.add_edge(START, "read")
    graph.add_edge("read", END)
    return graph.compile()


RULES = {
    "scripted-small": r"\d+",  # The first number, whatever it counts.
    "scripted-large": r"(?<=order )\d+|\d{4,}",  # The one after the word, or one that is long enough.
}


class Scripted(BaseChatModel):
    """No model, but a script that stands in for one until you name one: it answers by a rule, without key or cost."""

    rule: str
    called: str

    @property
    def _llm_type(self) -> str:
        return "scripted"

    def _get_ls_params(self, *_: Any, **__: Any) -> Any:
        return {"ls_provider": "scripted", "ls_model_name": self.called}

    def _generate(self, messages: list[BaseMessage], *_: Any, **__: Any) -> ChatResult:
        text = str(messages[-1].content)
        found = re.search(self.rule, text.removeprefix(PROMPT))
        counts = {"input_tokens": len(text.split()), "output_tokens": 1}  # Words stand in for tokens.
        message = AIMessage(
            found.group() if found else "none",
            usage_metadata={**counts, "total_tokens": sum(counts.values())},
            response_metadata={"model_name": self.called},
        )
        return ChatResult(generations=[ChatGeneration(message=message)])
