"""The one line that meters a LangGraph agent: what each node cost, offline, with a scripted model.

python examples/one_line.py
"""

from typing import Annotated, TypedDict

from langchain_core.language_models import GenericFakeChatModel, LangSmithParams
from langchain_core.messages import AIMessage, AnyMessage, HumanMessage
from langchain_core.messages.ai import UsageMetadata
from langgraph.graph import END, START, StateGraph
from langgraph.graph.message import add_messages

from langchain_finops import FinOpsHandler


class State(TypedDict):
    """The conversation so far."""

    messages: Annotated[list[AnyMessage], add_messages]


def said(text: str, *, input_tokens: int, output_tokens: int) -> AIMessage:
    """An answer as a provider reports it, with what it used."""
    total_tokens = input_tokens + output_tokens
    usage = UsageMetadata(input_tokens=input_tokens, output_tokens=output_tokens, total_tokens=total_tokens)
    answered_by = {"model_name": "gpt-4.1-mini", "model_provider": "openai"}
    return AIMessage(text, usage_metadata=usage, response_metadata=answered_by)


class Scripted(GenericFakeChatModel):
    """Says what it is given to say, and passes for a model of OpenAI's."""

    def _get_ls_params(self, *_: object, **__: object) -> LangSmithParams:
        return LangSmithParams(ls_provider="openai", ls_model_type="chat", ls_model_name="gpt-4.1-mini")


model = Scripted(
    messages=iter(
        [
            said("Search for the invoice.", input_tokens=1_000, output_tokens=50),
            said("Invoice A-47 is open.", input_tokens=2_000, output_tokens=100),
        ]
    )
)


def plan(state: State) -> State:
    """Decide what to do."""
    return {"messages": [model.invoke(state["messages"])]}


def answer(state: State) -> State:
    """Say what was found."""
    return {"messages": [model.invoke(state["messages"])]}


builder = StateGraph(State)
builder.add_node("plan", plan)
builder.add_node("answer", answer)
builder.add_edge(START, "plan")
builder.add_edge("plan", "answer")
builder.add_edge("answer", END)
graph = builder.compile(name="support")


def main() -> None:
    """Run the graph once, metered, and print what its nodes cost."""
    handler = FinOpsHandler(ledger=":memory:")  # Leave `ledger` out, and `finops report` shows it too.
    graph.invoke({"messages": [HumanMessage("Which invoice is open?")]}, {"callbacks": [handler]})
    print(handler.summary(by="node"))


if __name__ == "__main__":
    main()
