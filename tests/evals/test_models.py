"""Models as suites name them: made by one function, and checked before anything is bought."""

import sys
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from langchain_anthropic import ChatAnthropic
from langchain_openai import ChatOpenAI
from pydantic import SecretStr
from tests.integration.provider_server import Answer, openai_usage, provider_server

from langchain_finops.errors import BadData, EvalError
from langchain_finops.evals.matrix import Configuration
from langchain_finops.evals.models import PROVIDERS, chat_model, model_faults, offline, split_model
from langchain_finops.pricing import PriceBook, parse_cards

if TYPE_CHECKING:
    from tests.evals.conftest import Workshop

KEYS = [key for provider in PROVIDERS.values() for key in provider.keys]


@pytest.fixture(autouse=True)
def without_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for key in (*KEYS, "OPENAI_BASE_URL", "OPENAI_API_BASE"):
        monkeypatch.delenv(key, raising=False)


def test_a_model_is_made_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """A text, or a mapping with the model's parameters."""
    monkeypatch.setenv("OPENAI_API_KEY", "k")

    plain = chat_model({"name": "one", "model": "openai:gpt-5-mini"})
    tuned = chat_model({"model": {"model": "openai:gpt-4.1-mini", "temperature": 0, "max_tokens": 7}})

    assert isinstance(plain, ChatOpenAI)
    assert plain.model_name == "gpt-5-mini"
    assert isinstance(tuned, ChatOpenAI)
    assert (tuned.model_name, tuned.temperature, tuned.max_tokens) == ("gpt-4.1-mini", 0, 7)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("opnai:gpt-5", "'opnai:gpt-5': 'opnai' is no provider that is known: 'openai' is meant?"),
        ("gpt-5", "'gpt-5': a provider is missing: write provider:model, with one of anthropic, "),
        ({"model": "acme:m"}, "'acme:m': 'acme' is no provider that is known: write provider:model, with one of "),
        (None, "None found as model: write `model: provider:name`"),
        ({"name": "x"}, "{'name': 'x'} found as model: write `model: provider:name`"),
        ("cohere:command-a", "model 'cohere:command-a': its package is missing: pip install langchain-cohere"),
        ("openai:gpt-5-mini", "model 'openai:gpt-5-mini': its key is missing: set OPENAI_API_KEY"),
        (
            {"model": "openai:gpt-5-mini", "base_url": "http://x", "temperatur": 0},
            "model 'openai:gpt-5-mini': 'temperatur' is no parameter: 'temperature' is meant?",
        ),
        (
            {"model": "openai:gpt-5-mini", "api_key": "sk-secret"},
            "model 'openai:gpt-5-mini': its api_key would be written down with the results: write ${NAME} of a",
        ),
        ({"model": "openai:m", "api_key": "${MINE}"}, "model 'openai:m': its key is missing: set MINE"),
    ],
)
def test_a_model_that_cannot_be_made_is_told_in_one_sentence(model: object, message: str) -> None:
    """With the remedy, on one line."""
    with pytest.raises(EvalError) as caught:
        chat_model({"model": model})

    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)
    assert "sk-secret" not in str(caught.value)


def test_a_key_of_ones_own_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """By the variable that the suite names; a server of one's own needs none."""
    monkeypatch.setenv("MINE", "k")
    made = chat_model({"model": {"model": "openai:m", "api_key": "${MINE}"}})
    own = chat_model({"model": {"model": "openai:m", "base_url": "http://127.0.0.1:9/v1"}})

    assert isinstance(made, ChatOpenAI)
    assert isinstance(made.openai_api_key, SecretStr)
    assert made.openai_api_key.get_secret_value() == "k"
    assert isinstance(own, ChatOpenAI)
    assert own.openai_api_base == "http://127.0.0.1:9/v1"


def test_a_replay_needs_no_key() -> None:
    """A recording answers: the client gets a made-up key, and the environment's where there is one."""
    with offline():
        made = chat_model({"model": "openai:gpt-5-mini"})
        other = chat_model({"model": {"model": "anthropic:claude-haiku-4-5", "api_key": "${NOWHERE}"}})
    assert isinstance(made, ChatOpenAI)
    assert isinstance(other, ChatAnthropic)
    with pytest.raises(EvalError, match="its key is missing"):
        chat_model({"model": "openai:gpt-5-mini"})


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("openai:gpt-5", ("openai", "gpt-5")),
        ("google-genai:gemini", ("google_genai", "gemini")),
        ("ollama:llama3:8b", ("ollama", "llama3:8b")),
        ("llama3:8b", (None, "llama3:8b")),
        ("gpt-5", (None, "gpt-5")),
    ],
)
def test_a_colon_parts_a_name_where_a_provider_stands_before_it(name: str, parts: tuple[str | None, str]) -> None:
    """Models' own names have colons too."""
    assert split_model(name) == parts


def faults(models: Mapping[str, Any], *, cards: object = None, **given: bool) -> list[str]:
    found = model_faults(
        [Configuration(name=name, parameters={"model": model}) for name, model in models.items()],
        suite=Path("s.yaml"),
        prices=PriceBook.default().with_cards(parse_cards(cards, where="cards")) if cards else PriceBook.default(),
        **{"without_key": False, "needs_prices": False, **given},
    )
    return [str(fault) for fault in found]


MODELS = {
    "a": "openai:gpt-5-mini",
    "b": {"model": "openai:gpt-4.1", "temperature": 0},
    "c": "cohere:command-a",
    "d": "antropic:claude",
    "e": {"model": "acme:m"},
    "f": {"model": "openai:own", "base_url": "http://localhost:1/v1"},
    "g": "llama3:8b",
    "h": {"size": "large"},
    "i": 5,
}


def test_all_that_keeps_models_from_being_asked_is_told_at_once() -> None:
    """One key that is missing is told once; what names no provider is the target's own affair."""
    found = faults(MODELS)

    assert [fault.partition(": write provider")[0] for fault in found] == [
        "s.yaml: a: model: 'openai:gpt-5-mini': its key is missing: set OPENAI_API_KEY",
        "s.yaml: c: model: 'cohere:command-a': its package is missing: pip install langchain-cohere",
        "s.yaml: d: model: 'antropic:claude': 'antropic' is no provider that is known: 'anthropic' is meant?",
        "s.yaml: e: model: 'acme:m': 'acme' is no provider that is known",
    ]


def test_a_replay_is_not_kept_from_by_keys() -> None:
    """All else is told as ever."""
    assert [fault.split(": ")[1] for fault in faults(MODELS, without_key=True)] == ["c", "d", "e"]


def test_where_money_is_limited_every_model_has_a_price(monkeypatch: pytest.MonkeyPatch) -> None:
    """A limit that no price stands behind would refuse every call, or hold none; the suite's own cards are prices."""
    monkeypatch.setenv("OPENAI_API_KEY", "k")
    models = {"a": "openai:gpt-5-mini", "b": "openai:nobody-knows", "c": {"model": "openai:nobody-knows", "top_p": 1}}
    told = (
        "s.yaml: b: model: the price of 'openai:nobody-knows' is not known, so that no limit in USD can be held: add a "
        "card to the suite's `cards`, or leave the limit out"
    )

    assert faults(models) == []
    assert faults(models, needs_prices=True) == [told]
    card = {"id": "own", "match": {"model": "nobody-*"}, "rates": {"input_tokens": 1, "output_tokens": 2}}
    assert faults(models, cards=[card], needs_prices=True) == []


AGENT = """
from langgraph.graph import MessagesState, StateGraph
from langchain_finops.evals.models import chat_model


first = chat_model({"model": "openai:gpt-4.1-mini"})  # As soon as the module is imported.


def build(configuration):
    chat_model(configuration)  # Where the target is built.

    async def ask(state):
        model = chat_model(configuration)  # In the node: each attempt makes its own.
        return {"messages": [await model.ainvoke(state["messages"])]}

    graph = StateGraph(MessagesState)
    graph.add_node("ask", ask)
    graph.set_entry_point("ask")
    return graph.compile()
"""
SUITE = """
target: asking:build
scorer: contains
configurations:
  - name: one
    model: {{model: "openai:{model}", base_url: "{url}", api_key: "${{OPENAI_API_KEY}}", max_retries: 0}}
recording: tasks.rec.jsonl
cards: {{own: [{{id: own, match: {{model: "gpt-4.1*"}}, rates: {{input_tokens: 1, output_tokens: 10}}}}]}}
"""


def test_a_suite_with_models_is_recorded_with_a_key_and_replayed_without(
    workshop: "Workshop", monkeypatch: pytest.MonkeyPatch
) -> None:
    """The model is asked as the suite says, at the provider's price, and replayed where no key is."""
    line = '{"id": "a", "inputs": {"messages": [["human", "hi"]]}, "outputs": {"answer": "hello"}}\n'
    workshop.dataset.write_text(line)
    (workshop.folder / "asking.py").write_text(AGENT)
    monkeypatch.setenv("OPENAI_API_KEY", "k")
    with provider_server() as server:
        server.answers[:] = [Answer(text="hello", usage=openai_usage(100, 10), model="gpt-4.1-mini")]
        workshop.suite(SUITE.format(url=server.url, model="gpt-4.1-mini"))
        (recorded,) = workshop.run(mode="record").attempts
    monkeypatch.delenv("OPENAI_API_KEY")
    sys.modules.pop("asking")

    (replayed,) = workshop.run().attempts

    assert recorded.cost_usd == (100 * Decimal(1) + 10 * Decimal(10)) / 1_000_000
    assert (replayed.status, replayed.answer, replayed.cost_usd) == ("completed", recorded.answer, recorded.cost_usd)


def test_models_are_checked_before_anything_is_bought_or_written(workshop: "Workshop") -> None:
    """Every configuration's fault, in one look, beside those of the data; no folder is made."""
    suite = (workshop.folder / "tasks.yaml").read_text()
    suite = suite.replace("{name: right}", '{name: right, model: "openai:gpt-5-mini"}')
    workshop.suite(suite.replace("{name: wrong,", '{name: wrong, model: {model: "acme:m"},'))

    with pytest.raises(BadData) as caught:
        workshop.run()

    assert [str(fault).partition("tasks.yaml: ")[2].partition(": write")[0] for fault in caught.value.faults] == [
        "right: model: 'openai:gpt-5-mini': its key is missing: set OPENAI_API_KEY",
        "wrong: model: 'acme:m': 'acme' is no provider that is known",
    ]
    assert not workshop.results.parent.exists()
