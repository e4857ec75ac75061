"""A LangGraph agent that finds one fact in a customer's message, with a small completion model.

It reads (`extract`), checks that what it read really stands in the message (`check`), reads again where it does not,
and, where the configuration wants answers that agree, asks for a second reading (`verify`) until enough of them do.
`golden_datasets/tickets.yaml` runs it in several configurations:

    finops-eval run golden_datasets/tickets.jsonl            # from the recording: no model, no key, no network
    FINOPS_MODEL_URL=http://127.0.0.1:8000/v1 finops-eval run golden_datasets/tickets.jsonl --live
"""

import os
from collections import Counter
from collections.abc import Mapping
from operator import add
from typing import Annotated, Literal, TypedDict

from langchain_core.runnables import Runnable, RunnableConfig
from langchain_openai import OpenAI
from langgraph.graph import END, START, StateGraph
from pydantic import SecretStr

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


class Ticket(TypedDict, total=False):
    """What is asked, what was read so far, and the answer."""

    message: str
    field: str
    readings: Annotated[list[str], add]
    answer: str


def build(configuration: Mapping[str, object]) -> Runnable[Ticket, Ticket]:
    """The agent in one configuration.

    `shots`: worked examples in the prompt, 0 to 5. `temperature`. `agree`: how many readings must agree.
    `readings`: how many are paid for at most. `model`, `url`: where it is served.
    """
    shots, agree, most = (_whole(configuration, name) for name in ("shots", "agree", "readings"))
    model = _model(configuration)

    async def extract(state: Ticket, config: RunnableConfig) -> Ticket:
        """Read the fact, the examples in their order."""
        examples = EXAMPLES[len(EXAMPLES) - shots :]
        return await _read(model, prompt(examples, state), config)

    async def verify(state: Ticket, config: RunnableConfig) -> Ticket:
        """Read it once more, the examples in reverse: a reader that is led less by the last one."""
        examples = EXAMPLES[len(EXAMPLES) - shots :][::-1]
        return await _read(model, prompt(examples, state), config)

    def check(state: Ticket) -> Literal["extract", "verify", "answer"]:
        """Enough readings agree, or enough were paid for: answer. Nothing usable yet: read again."""
        found = usable(state)
        if len(state["readings"]) >= most or (found and max(Counter(found).values()) >= agree):
            return "answer"
        return "verify" if found else "extract"

    def answer(state: Ticket) -> Ticket:
        """What most usable readings say, the earliest of them where it is a draw."""
        found = usable(state) or state["readings"]
        return {"answer": Counter(found).most_common(1)[0][0]}

    graph = StateGraph(Ticket)
    graph.add_node("extract", extract)
    graph.add_node("verify", verify)
    graph.add_node("answer", answer)
    graph.add_edge(START, "extract")
    graph.add_conditional_edges("extract", check)
    graph.add_conditional_edges("verify", check)
    graph.add_edge("answer", END)
    return graph.compile(name="ticket_agent")


def prompt(examples: tuple[tuple[str, str, str], ...], state: Ticket) -> str:
    """Examples, then the ticket with its answer left open: a base model goes on from there."""
    asked = [_question(message, field) + f" {answer}\n\n" for message, field, answer in examples]
    return "".join(asked) + _question(state["message"], state["field"])


def usable(state: Ticket) -> list[str]:
    """Readings that are copied from the message, and not half of it."""
    message = state["message"].casefold()
    return [found for found in state["readings"] if found and found.casefold() in message and len(found) <= 40]


def _question(message: str, field: str) -> str:
    return f"Text: {message}\nQuestion: What is the {field}?\nAnswer:"


async def _read(model: OpenAI, text: str, config: RunnableConfig) -> Ticket:
    said = await model.ainvoke(text, config, stop=["\n"])
    return {"readings": [said.strip().strip("\"'").rstrip(".,;:!")]}


def _model(configuration: Mapping[str, object]) -> OpenAI:
    return OpenAI(
        model=str(os.environ.get("FINOPS_MODEL") or configuration.get("model") or MODEL),
        base_url=str(os.environ.get("FINOPS_MODEL_URL") or configuration.get("url") or URL),
        # A replay needs no key, nor does a server of one's own; the client wants one all the same.
        api_key=SecretStr(os.environ.get("FINOPS_MODEL_KEY", "not needed")),
        temperature=float(str(configuration["temperature"])),
        max_tokens=12,
    )


def _whole(configuration: Mapping[str, object], name: str) -> int:
    value = configuration[name]
    if not isinstance(value, int):
        raise TypeError(f"{name}: {value!r} found, a whole number is expected")
    return value
