"""A LangGraph agent that looks facts up in a shop's catalogue with a tool, and the model that judges its answers.

It asks the model which product and which fact to look up (`plan`), looks it up (`tools`), asks again where there is no
such product, and then has the model put the fact into words (`answer`). With `votes` above 1 it plans several times and
looks up what most plans name. `golden_datasets/shop.yaml` runs it in three configurations, with a judge:

    finops-eval run golden_datasets/shop.jsonl               # from the recording: no model, no key, no network
    FINOPS_MODEL_URL=http://127.0.0.1:8000/v1 finops-eval run golden_datasets/shop.jsonl --live
"""

import os
from collections import Counter
from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypedDict
from uuid import uuid4

from langchain_core.messages import AIMessage, AnyMessage, HumanMessage, ToolMessage
from langchain_core.runnables import Runnable, RunnableConfig
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI, OpenAI
from langgraph.graph import END, START, StateGraph, add_messages
from langgraph.prebuilt import ToolNode
from pydantic import SecretStr

MODEL = "gemma-3-270m"
URL = "http://127.0.0.1:8089/v1"
CATALOGUE = {
    "desk lamp": {"price": "24.50", "stock": "3", "colour": "black"},
    "rain jacket": {"price": "79.00", "stock": "12", "colour": "yellow"},
    "travel mug": {"price": "14.90", "stock": "40", "colour": "green"},
    "bike bell": {"price": "8.25", "stock": "27", "colour": "silver"},
    "wall clock": {"price": "31.00", "stock": "5", "colour": "white"},
    "camping stove": {"price": "56.40", "stock": "9", "colour": "red"},
    "picnic blanket": {"price": "22.75", "stock": "16", "colour": "blue"},
    "garden hose": {"price": "35.60", "stock": "7", "colour": "orange"},
}
# Worked examples: question, product, fact, what was found, answer. None of them is a task of the dataset.
EXAMPLES = (
    ("What does the coffee grinder cost?", "coffee grinder", "price", "45.00", "It costs 45.00."),
    ("How many yoga mats do you have?", "yoga mat", "stock", "18", "There are 18 left."),
    ("Is the umbrella red or blue?", "umbrella", "colour", "blue", "It is blue."),
)
NOTHING = "no such product"


class Shop(TypedDict, total=False):
    """What is asked, what was looked up, and the answer."""

    question: str
    messages: Annotated[list[AnyMessage], add_messages]
    answer: str


@tool
def look_up(product: str, field: str) -> str:
    """Look up the price, the pieces in stock or the colour of a product."""
    return CATALOGUE.get(product, {}).get(field, NOTHING)


def build(configuration: Mapping[str, object]) -> Runnable[Shop, Shop]:
    """The agent in one configuration.

    `shots`: worked examples in the prompts, 0 to 3. `temperature`. `votes`: how often each look-up is planned.
    `lookups`: how many look-ups are made at most. `model`, `url`: where it is served.
    """
    shots, votes, lookups = (int(str(configuration[name])) for name in ("shots", "votes", "lookups"))
    temperature = float(str(configuration["temperature"]))
    model = OpenAI(**_served(configuration), temperature=temperature, max_tokens=16)

    async def plan(state: Shop, config: RunnableConfig) -> Shop:
        """Have the model name product and fact, and look up what most of its plans name."""
        prompt = _plan_prompt(state["question"], shots)
        plans = [(await model.ainvoke(prompt, config, stop=["\n"])).strip().lower() for _ in range(votes)]
        product, _, field = Counter(plans).most_common(1)[0][0].partition(",")
        asked = [] if state.get("messages") else [HumanMessage(state["question"])]
        call = {"name": "look_up", "args": {"product": product.strip(), "field": field.strip()}, "id": uuid4().hex}
        return {"messages": [*asked, AIMessage("", tool_calls=[call])]}

    def found(state: Shop) -> Literal["plan", "answer"]:
        """Nothing was found, and there are look-ups left: plan again."""
        results = [message.content for message in state["messages"] if isinstance(message, ToolMessage)]
        return "plan" if results[-1] == NOTHING and len(results) < lookups else "answer"

    async def answer(state: Shop, config: RunnableConfig) -> Shop:
        """Have the model put what was found into words."""
        prompt = _answer_prompt(state["question"], str(state["messages"][-1].content), shots)
        said = (await model.ainvoke(prompt, config, stop=["\n"])).strip()
        return {"messages": [AIMessage(said)], "answer": said}

    graph = StateGraph(Shop)
    graph.add_node("plan", plan)
    graph.add_node("tools", ToolNode([look_up]))
    graph.add_node("answer", answer)
    graph.add_edge(START, "plan")
    graph.add_edge("plan", "tools")
    graph.add_conditional_edges("tools", found)
    graph.add_edge("answer", END)
    return graph.compile(name="shop_agent")


def _plan_prompt(question: str, shots: int) -> str:
    """A text that ends where product and fact are to be named: a base model goes on from there."""
    known = f"Products: {', '.join(CATALOGUE)}.\nFacts: price, stock, colour.\n\n"
    shown = [f"Question: {asked}\nProduct, fact: {product}, {field}\n\n" for asked, product, field, _, _ in EXAMPLES]
    return f"{known}{''.join(shown[:shots])}Question: {question}\nProduct, fact:"


def _answer_prompt(question: str, fact: str, shots: int) -> str:
    shown = [f"Question: {asked}\nFound: {held}\nAnswer: {said}\n\n" for asked, _, _, held, said in EXAMPLES]
    return f"{''.join(shown[:shots])}Question: {question}\nFound: {fact}\nAnswer:"


class Judge(ChatOpenAI):
    """A judge behind a server that keeps to a schema where a tool is called, and nowhere else."""

    def with_structured_output(self, schema: Any = None, **options: Any) -> Runnable[Any, Any]:
        """Ask for the verdict as a tool call."""
        return super().with_structured_output(schema, **{**options, "method": "function_calling"})


def judge() -> Judge:
    """The same small model, at temperature 0: its word is worth what it is worth."""
    return Judge(**_served({}), temperature=0, max_completion_tokens=16)


def _served(configuration: Mapping[str, object]) -> dict[str, Any]:
    return {
        "model": str(os.environ.get("FINOPS_MODEL") or configuration.get("model") or MODEL),
        "base_url": str(os.environ.get("FINOPS_MODEL_URL") or configuration.get("url") or URL),
        # A replay needs no key, nor does a server of one's own; the client wants one all the same.
        "api_key": SecretStr(os.environ.get("FINOPS_MODEL_KEY", "not needed")),
    }
