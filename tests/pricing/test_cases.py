"""What calls cost, by hand from the providers' pages: one table a family of providers in `cases/`.

An expectation is written as on paper: `600 x 0.40` are tokens at dollars a million, `2 x $0.01` things at dollars each.
"""

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from pathlib import Path

import pytest
import yaml
from langchain_core.messages import AIMessage

from langchain_finops.money import sum_usd
from langchain_finops.pricing import Cost, PriceBook

NOON = "2026-11-20T12:00:00+00:00"
Case = Mapping[str, object]

CASES = [
    pytest.param({"source": table["source"], **case}, id=f"{path.stem}: {case['is']}")
    for path in sorted(Path(__file__).parent.joinpath("cases").glob("*.yaml"))
    for table in [yaml.safe_load(path.read_text(encoding="utf-8"))]
    for case in table["cases"]
]


def dollars(sum_on_paper: object) -> Decimal | None:
    """What `600 x 0.40 + 2 x $0.01` comes to; None for no amount."""
    if sum_on_paper is None:
        return None
    total = Decimal(0)
    for part in str(sum_on_paper).split("+"):
        count, price = part.split("x")
        each = Decimal(price.strip().removeprefix("$"))
        total += Decimal(count.strip()) * (each if "$" in price else each / 1_000_000)
    return total


def message_of(case: Case) -> AIMessage:
    """The answer, as LangChain hands it on."""
    inputs, outputs = case.get("tokens", [1000, 100])
    usage: dict[str, object] = {"input_tokens": inputs, "output_tokens": outputs, "total_tokens": inputs + outputs}
    if "input" in case:
        usage["input_token_details"] = case["input"]
    if "output" in case:
        usage["output_token_details"] = case["output"]
    if case.get("cache_hit"):
        usage["total_cost"] = 0
    message = AIMessage(content=case.get("content", "answer"), response_metadata=case.get("said", {}))
    message.usage_metadata = None if case.get("usage") == "none" else usage  # type: ignore[assignment]
    return message


def cost_of(case: Case, book: PriceBook) -> Cost:
    """Price the case through the API that a user has, or the handler's where only it knows the host."""
    if "aliases" in case:
        book = PriceBook(aliases=case["aliases"])  # type: ignore[arg-type]
    provider, model = case["ask"]
    metadata = {"ls_provider": provider, "ls_model_name": model}
    at = datetime.fromisoformat(str(case.get("at", NOON)))
    message, context = message_of(case), case.get("context")
    if "host" not in case:
        return book.price_message(message, metadata=metadata, at=at, context=context)  # type: ignore[arg-type]
    said, host = message.response_metadata, str(case["host"])
    return book.price(book.read(message.usage_metadata, said, metadata, at=at, base_url_host=host))  # type: ignore[arg-type]


@pytest.mark.parametrize("case", CASES)
def test_a_call_costs_what_it_does_on_paper(case: Case, book: PriceBook) -> None:
    """To the last digit, with the status that its source allows, and its meters add up."""
    cost = cost_of(case, book)
    expected, status = dollars(case["costs"]), case.get("status", "exact")

    assert (cost.usd, cost.status) == (expected, status), cost.reasons
    assert set(case.get("reasons", ())) <= set(cost.reasons)
    if status in ("exact", "reported", "free"):
        assert cost.reasons == ()
    if "billed" in case:
        assert cost.billed_usd == dollars(case["billed"])
    assert sum_usd(part.amount_usd for part in cost.by_meter.values()) == (expected or 0)


def test_the_tables_are_large_and_say_who_says_so() -> None:
    """At least 140 cases; what is exact names the page it was computed from, and when it was read."""
    cases = [param.values[0] for param in CASES]

    assert len(cases) >= 140
    assert len({param.id for param in CASES}) == len(cases)
    for case in cases:
        if case.get("status", "exact") in ("exact", "reported", "free"):
            assert "20" in case["source"], case["is"]
            assert "http" in case["source"], case["is"]
