"""Which price wins, what it says of itself, and that nothing a provider writes can break it."""

import os
import pickle
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from langchain_finops.errors import BadArguments, BadData
from langchain_finops.money import sum_usd
from langchain_finops.pricing import Card, Cost, PriceBook, Reading, parse_cards
from langchain_finops.pricing.book import REMEMBERED
from langchain_finops.usage import METERS, Usage

AT = datetime(2026, 11, 20, 12, tzinfo=UTC)
LIST_USD = Decimal("0.00056")
"""1000 input and 100 output tokens of gpt-4.1-mini: 1000 x 0.40 + 100 x 1.60, a million of a dollar each."""


@dataclass(frozen=True, kw_only=True)
class Message:
    """An AIMessage as `price_message` sees it."""

    usage_metadata: Mapping[str, object] | None = None
    response_metadata: Mapping[str, object] = field(default_factory=dict)


def cards(text: str) -> tuple[Card, ...]:
    """Cards as in a file."""
    return parse_cards(yaml.safe_load(text), where="cards.yaml")


def reading(book: PriceBook, usage: Mapping[str, object] | None = None, **more: object) -> Reading:
    """One call of gpt-4.1-mini at OpenAI."""
    counts = {"input_tokens": 1000, "output_tokens": 100, "total_tokens": 1100} if usage is None else usage
    said = more.pop("said", {})
    asked = {"ls_provider": more.pop("provider", "openai"), "ls_model_name": more.pop("model", "gpt-4.1-mini")}
    at = more.pop("at", AT)
    return book.read(counts, said, asked, at=at, **more)  # type: ignore[arg-type]


def priced(book: PriceBook, text: str, seconds: float | Decimal | None = None, **more: object) -> Cost:
    """The cost of one call with cards above the shipped book."""
    with_cards = book.with_cards(cards(text))
    return with_cards.price(reading(with_cards, **more), seconds=seconds)  # type: ignore[arg-type]


def test_the_catalogue_prices_a_known_model(book: PriceBook) -> None:
    """Exactly, with the card's id and each meter's share."""
    cost = book.price(reading(book))

    assert (cost.usd, cost.contracted_usd, cost.billed_usd) == (LIST_USD, LIST_USD, LIST_USD)
    assert (cost.status, cost.billing_mode, cost.currency, cost.fx_id) == ("exact", "payg", "USD", None)
    assert cost.card_id is not None
    assert cost.card_id.endswith(":openai/gpt-4.1-mini")
    assert cost.by_meter["output_tokens"].quantity == 100
    assert cost.by_meter["output_tokens"].unit_price_usd == Decimal("0.0000016")
    assert cost.by_meter["output_tokens"].amount_usd == Decimal("0.00016")
    assert set(cost.by_meter) == {"input_tokens", "output_tokens"}


def test_the_users_card_goes_before_the_catalogue(book: PriceBook) -> None:
    """1000 x 1 + 100 x 2 millionths; the first card that fits wins."""
    text = """
    - {id: other, match: {model: "o3*"}, rates: {input_tokens: 9, output_tokens: 9}}
    - {id: mine, match: {model: "gpt-4.1*"}, rates: {input_tokens: 1, output_tokens: 2}}
    - {id: never, rates: {input_tokens: 7, output_tokens: 7}}
    """
    cost = priced(book, text)

    assert (cost.usd, cost.status, cost.card_id) == (Decimal("0.0012"), "exact", "mine")


def test_a_card_counts_in_its_time(book: PriceBook) -> None:
    """From its first moment to just before its last; in between times the catalogue stands."""
    text = "[{id: spring, rates: {input_tokens: 1, output_tokens: 2}, from: 2026-03-01, until: 2026-06-01}]"
    with_card = book.with_cards(cards(text))

    def cost_at(moment: str) -> Decimal | None:
        return with_card.price(reading(with_card, at=datetime.fromisoformat(moment))).usd

    assert cost_at("2026-02-28T23:59:59Z") == LIST_USD
    assert cost_at("2026-03-01T00:00:00Z") == Decimal("0.0012")
    assert cost_at("2026-05-31T23:59:59Z") == Decimal("0.0012")
    assert cost_at("2026-06-01T00:00:00Z") == LIST_USD
    assert cost_at("2026-03-01T00:00:00+01:00") == LIST_USD


def test_a_contract_changes_what_is_paid_and_not_the_list(book: PriceBook) -> None:
    """85% of the list: 0.00056 x 0.85 = 0.000476."""
    cost = priced(book, "[{id: contract, match: {provider: openai}, factor: 0.85}]")

    assert cost.usd == LIST_USD
    assert cost.contracted_usd == cost.billed_usd == Decimal("0.000476")
    assert cost.status == "exact"
    assert cost.card_id is not None
    assert cost.card_id.endswith(":openai/gpt-4.1-mini + contract")
    assert sum_usd(part.amount_usd for part in cost.by_meter.values()) == LIST_USD


def test_a_contract_is_rounded_half_even(book: PriceBook) -> None:
    """Five picodollars at a half are 2.5, so 2; seven are 3.5, so 4."""
    text = """
    - {id: half, factor: 0.5}
    - {id: tiny, rates: {input_tokens: 0.000001, output_tokens: 0.000001}}
    """
    five = priced(book, text, usage={"input_tokens": 3, "output_tokens": 2})
    seven = priced(book, text, usage={"input_tokens": 3, "output_tokens": 4})

    assert (five.usd, five.contracted_usd) == (Decimal("5e-12"), Decimal("2e-12"))
    assert (seven.usd, seven.contracted_usd) == (Decimal("7e-12"), Decimal("4e-12"))


def test_a_card_that_stands_above_a_contract_ends_the_search(book: PriceBook) -> None:
    """What a machine of one's own costs is not discounted by a provider."""
    text = """
    - {id: own, match: {base_url_host: "localhost*"}, rates: {input_tokens: 1, output_tokens: 2}}
    - {id: contract, match: {provider: openai}, factor: 0.5}
    - {id: second, match: {provider: openai}, factor: 0.1}
    """

    assert priced(book, text, base_url_host="localhost:8000").contracted_usd == Decimal("0.0012")
    assert priced(book, text).contracted_usd == LIST_USD / 2  # The first contract, and it alone.


def test_a_contract_without_a_list_price_is_unpriced(book: PriceBook) -> None:
    """A part of nothing known is nothing known."""
    cost = priced(book, "[{id: contract, factor: 0.85}]", model="gpt-99")

    assert (cost.usd, cost.contracted_usd, cost.status, cost.reasons) == (None, None, "unpriced", ("unknown_model",))


def test_free_says_so(book: PriceBook) -> None:
    """Zero, status `free`, even where nobody counted tokens."""
    text = "[{id: local, match: {base_url_host: 'localhost*'}, free: true}]"
    cost = priced(book, text, base_url_host="localhost:11434", usage={})

    assert (cost.usd, cost.billed_usd, cost.status, cost.card_id) == (0, 0, "free", "local")
    assert dict(cost.by_meter) == {}


def test_a_machine_of_ones_own_costs_its_wall_time(book: PriceBook) -> None:
    """0.0672 dollars an hour x 1.5 s / 3600 = 0.000028, tokens or not."""
    text = "[{id: own-cpu, self_hosted: {usd_per_instance_hour: 0.0672}}]"
    cost = priced(book, text, seconds=1.5)

    assert (cost.usd, cost.billed_usd, cost.status) == (Decimal("0.000028"), Decimal("0.000028"), "exact")
    assert (cost.billing_mode, cost.card_id) == ("self_hosted", "own-cpu")
    assert cost.by_meter["seconds"].quantity == Decimal("1.5")
    assert cost.by_meter["seconds"].amount_usd == cost.usd
    assert priced(book, text, seconds=1.5, usage={}).usd == Decimal("0.000028")


def test_wall_time_is_read_by_its_repr_and_rounded_half_even(book: PriceBook) -> None:
    """36 cents an hour are 100 microdollars a second: 0.1 s are ten of them, and not 10.000000000000000555."""
    text = "[{id: own, self_hosted: {usd_per_instance_hour: 0.36}}]"

    assert priced(book, text, seconds=0.1).usd == Decimal("0.00001")
    assert priced(book, text, seconds=Decimal("0.1")).usd == Decimal("0.00001")
    assert priced(book, text, seconds=0.1).by_meter["seconds"].quantity == Decimal("0.1")
    assert priced(book, text, seconds=0.000000025).usd == Decimal("2e-12")  # 2.5 picodollars.
    assert priced(book, text, seconds=0.000000035).usd == Decimal("4e-12")  # 3.5 picodollars.
    assert priced(book, text, seconds=0.0).usd == 0


@pytest.mark.parametrize("seconds", [None, -1.0, float("nan"), float("inf")])
def test_without_its_wall_time_a_self_hosted_call_is_unpriced(book: PriceBook, seconds: float | None) -> None:
    """Not zero."""
    cost = priced(book, "[{id: own, self_hosted: {usd_per_instance_hour: 1}}]", seconds=seconds)

    assert (cost.usd, cost.status, cost.reasons) == (None, "unpriced", ("no_wall_time",))


def test_a_reported_cost_goes_before_every_card(book: PriceBook) -> None:
    """OpenRouter says what it billed: a card's factor would take the discount off twice."""
    text = "[{id: contract, factor: 0.5}, {id: mine, rates: {input_tokens: 1, output_tokens: 2}}]"
    cost = priced(book, text, provider="openrouter", said={"cost": 0.00123})

    assert (cost.usd, cost.contracted_usd, cost.billed_usd) == (Decimal("0.00123"),) * 3
    assert (cost.status, cost.card_id) == ("reported", "reported")
    assert sum_usd(part.amount_usd for part in cost.by_meter.values()) == cost.usd


def test_a_reported_zero_is_free(book: PriceBook) -> None:
    """The only zero that needs no card."""
    cost = priced(book, "[]", provider="openrouter", said={"cost": 0})

    assert (cost.usd, cost.status) == (0, "free")


@pytest.mark.parametrize(
    ("text", "usd", "status"),
    [
        ("[]", LIST_USD, "exact"),
        ("[{id: mine, rates: {input_tokens: 1, output_tokens: 2}}]", Decimal("0.0012"), "exact"),
        ("[{id: contract, factor: 0.5}]", LIST_USD, "exact"),
    ],
)
def test_a_cache_hit_has_its_list_cost_and_nothing_billed(
    book: PriceBook, text: str, usd: Decimal, status: str
) -> None:
    """Whichever card prices it."""
    cost = priced(book, text, usage={"input_tokens": 1000, "output_tokens": 100, "total_cost": 0})

    assert (cost.usd, cost.billed_usd, cost.billing_mode, cost.status) == (usd, 0, "cache", status)


def test_an_unpriced_cache_hit_is_known_to_cost_nothing(book: PriceBook) -> None:
    """Its list cost stays unknown."""
    cost = priced(book, "[]", model="gpt-99", usage={"input_tokens": 1, "output_tokens": 1, "total_cost": 0})

    assert (cost.usd, cost.billed_usd, cost.billing_mode, cost.status) == (None, 0, "cache", "unpriced")


def test_no_usage_is_unpriced(book: PriceBook) -> None:
    """The meter may put an estimate in its place, and the cost then says so."""
    silent = reading(book, usage={})
    cost = book.price(silent)
    guessed = book.price(replace(silent, usage=Usage(input_tokens=1000, output_tokens=100), estimated=True))

    assert (cost.usd, cost.status, cost.reasons) == (None, "unpriced", ("no_usage_reported",))
    assert (guessed.usd, guessed.status, guessed.reasons) == (LIST_USD, "estimated", ("no_usage_reported",))


def test_a_reading_without_usage_says_so_whoever_made_it(book: PriceBook) -> None:
    """An unpriced cost always has its reason."""
    cost = book.price(replace(reading(book), usage=None))

    assert (cost.usd, cost.status, cost.reasons) == (None, "unpriced", ("no_usage_reported",))


def test_a_call_that_used_nothing_is_free_and_says_why(book: PriceBook) -> None:
    """A request that was never answered: zero tokens, by our own account."""
    cost = book.price(replace(reading(book), usage=Usage()))

    assert (cost.usd, cost.status, cost.reasons) == (0, "free", ("nothing_used",))


def test_a_rate_of_zero_is_free_and_says_so(book: PriceBook) -> None:
    """A card may say zero; it is not a silent one."""
    cost = priced(book, "[{id: gift, rates: {input_tokens: 0, output_tokens: 0}}]")

    assert (cost.usd, cost.status, cost.reasons) == (0, "free", ("zero_rate",))


def test_less_than_a_picodollar_is_not_free(book: PriceBook) -> None:
    """It is rounded to zero, and estimated."""
    cost = priced(
        book,
        "[{id: dust, rates: {input_tokens: 0.0000001, output_tokens: 0.0000001}}]",
        usage={"input_tokens": 1, "output_tokens": 1},
    )

    assert (cost.usd, cost.status, cost.reasons) == (0, "estimated", ("below_one_picodollar",))


def test_a_fraction_of_a_picodollar_is_rounded_once(book: PriceBook) -> None:
    """Three tokens at 0.5 picodollars and five at 0.5 are 4, and the meters add up to it: 2 and 2."""
    cost = priced(
        book,
        "[{id: dust, rates: {input_tokens: 0.0000005, output_tokens: 0.0000005}}]",
        usage={"input_tokens": 3, "output_tokens": 5},
    )

    assert cost.usd == Decimal("4e-12")
    assert [part.amount_usd for part in cost.by_meter.values()] == [Decimal("2e-12"), Decimal("2e-12")]


def test_a_users_card_does_not_know_tiers(book: PriceBook) -> None:
    """It has one price; what the tier does to it is not known."""
    text = "[{id: mine, rates: {input_tokens: 1, output_tokens: 2}}]"
    cost = priced(book, text, said={"service_tier": "flex"})

    assert (cost.usd, cost.status, cost.reasons) == (Decimal("0.0012"), "estimated", ("no_rate:service_tier=flex",))


def test_a_users_card_is_exact_wherever_the_call_went(book: PriceBook) -> None:
    """An unknown host makes the catalogue's price doubtful, and not the user's."""
    text = "[{id: mine, match: {base_url_host: '127.0.0.1*'}, rates: {input_tokens: 1, output_tokens: 2}}]"

    assert priced(book, text, base_url_host="127.0.0.1:8000").status == "exact"


def test_cards_are_chosen_by_tags(book: PriceBook) -> None:
    """Two teams, two contracts, one book."""
    text = """
    - {id: cx, match: {tags: {team: cx}}, factor: 0.5}
    - {id: all, factor: 0.9}
    """
    with_cards = book.with_cards(cards(text))

    def paid(**tags: str) -> Decimal | None:
        return with_cards.price(reading(with_cards, tags=tags)).contracted_usd

    assert paid(team="cx") == LIST_USD / 2
    assert paid(team="ops") == LIST_USD * Decimal("0.9")
    assert paid(team="cx", other="x") == LIST_USD / 2
    assert paid() == LIST_USD * Decimal("0.9")


def test_an_alias_names_the_model_behind_a_deployment() -> None:
    """And the price is the model's."""
    aliased = PriceBook(aliases={"my-deployment": "gpt-4.1-mini"})
    cost = aliased.price(reading(aliased, provider="azure", model="my-deployment"))

    assert (cost.usd, cost.status) == (LIST_USD, "exact")


def test_a_card_may_be_for_the_model_as_requested(book: PriceBook) -> None:
    """Two names that are answered by one model may have two prices."""
    text = "[{id: mine, match: {model: gpt-4.1-mini}, rates: {input_tokens: 1, output_tokens: 2}}]"
    with_card = book.with_cards(cards(text))
    answered = {"model_name": "gpt-4.1-mini-2025-04-14"}

    assert with_card.price(reading(with_card, said=answered)).card_id == "mine"
    assert with_card.price(reading(with_card, said=answered, model="gpt-4.1-mini-latest")).usd == LIST_USD


def test_new_cards_stand_above_the_old_ones(book: PriceBook) -> None:
    """And the book they were added to is as it was."""
    old = book.with_cards(cards("[{id: old, rates: {input_tokens: 1, output_tokens: 2}}]"))
    new = old.with_cards(cards("[{id: new, match: {model: 'gpt-4.1*'}, rates: {input_tokens: 3, output_tokens: 4}}]"))

    assert new.price(reading(new)).card_id == "new"
    assert new.price(reading(new, model="o3")).card_id == "old"
    assert old.price(reading(old)).card_id == "old"


def test_a_book_without_the_catalogue_knows_its_cards_alone() -> None:
    """Everything else is unpriced."""
    bare = PriceBook(
        cards=cards("[{id: mine, match: {model: o3}, rates: {input_tokens: 1, output_tokens: 2}}]"), catalog=False
    )

    assert bare.price(reading(bare, model="o3")).usd == Decimal("0.0012")
    assert bare.price(reading(bare)).reasons == ("not_on_a_card",)


def test_tools_have_a_price_a_call(book: PriceBook) -> None:
    """By name, in their time; a tool that is on no card has none, and a tool's card prices no model."""
    text = """
    - {id: old, tool: web_search, usd_per_call: 0.004, until: 2026-06-01}
    - {id: search, tool: "web_*", usd_per_call: 0.005}
    """
    with_tools = book.with_cards(cards(text))

    assert with_tools.tool_price("web_search", at=AT) == (Decimal("0.005"), "search")
    assert with_tools.tool_price("web_search", at=datetime(2026, 5, 31, 23, 59, 59, tzinfo=UTC)) == (
        Decimal("0.004"),
        "old",
    )
    assert with_tools.tool_price("calculator", at=AT) is None
    assert with_tools.price(reading(with_tools)).usd == LIST_USD


def test_books_that_give_the_same_prices_have_the_same_hash(book: PriceBook) -> None:
    """Cards, their order, aliases and the catalogue change it; loading again does not."""
    one = "{id: a, rates: {input_tokens: 1, output_tokens: 2}}"
    two = "{id: b, factor: 0.5}"
    hashes = [
        book.hash,
        PriceBook(catalog=False).hash,
        PriceBook(aliases={"a": "b"}).hash,
        book.with_cards(cards(f"[{one}, {two}]")).hash,
        book.with_cards(cards(f"[{two}, {one}]")).hash,
        book.with_cards(cards("[{id: a, rates: {input_tokens: 1, output_tokens: 3}}]")).hash,
    ]

    assert len(set(hashes)) == len(hashes)
    assert PriceBook().hash == book.hash
    assert book.with_cards(cards(f"[{one}, {two}]")).hash == hashes[3]


def test_the_default_book_reads_the_files_of_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Several, separated as in $PATH, the first one above; aliases likewise."""
    first, second = tmp_path / "first.yaml", tmp_path / "second.yaml"
    first.write_text("cards: [{id: first, match: {model: o3}, free: true}]\naliases: {x: o3}", encoding="utf-8")
    second.write_text("cards: [{id: second, free: true}]\naliases: {x: gpt-4.1, y: o3}", encoding="utf-8")
    monkeypatch.setenv("FINOPS_PRICES", f"{first}{os.pathsep}{second}")
    default = PriceBook.default()

    assert default.price(reading(default, model="o3")).card_id == "first"
    assert default.price(reading(default, model="x")).card_id == "first"
    assert default.price(reading(default, model="y")).card_id == "first"
    assert default.price(reading(default)).card_id == "second"


def test_the_default_book_is_the_shipped_one(book: PriceBook) -> None:
    """Without $FINOPS_PRICES."""
    assert PriceBook.default().hash == book.hash


def test_a_file_that_is_not_there_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """Prices that somebody wanted and that are not in force must not be missed."""
    monkeypatch.setenv("FINOPS_PRICES", "/nowhere/cards.yaml")
    with pytest.raises(BadData, match=r"/nowhere/cards\.yaml: cannot be read"):
        PriceBook.default()


def test_a_message_is_priced_as_it_stands(book: PriceBook) -> None:
    """With what the callback knows, or with what the message says of itself."""
    counts = {"input_tokens": 1000, "output_tokens": 100, "total_tokens": 1100}
    message = Message(
        usage_metadata=counts, response_metadata={"model_name": "gpt-4.1-mini", "model_provider": "openai"}
    )

    assert book.price_message(message).usd == LIST_USD
    assert book.price_message(message, metadata={"ls_provider": "azure"}, at=AT).usd == LIST_USD
    assert book.price_message(message, context={"processing": "batch"}, at=AT).usd == LIST_USD / 2
    assert book.price_message(object()).status == "unpriced"


def test_seconds_are_a_callers_knowledge(book: PriceBook) -> None:
    """A message does not say how long it took."""
    own = book.with_cards(cards("[{id: own, self_hosted: {usd_per_instance_hour: 3.6}}]"))

    assert own.price_message(Message(), context={"seconds": 2}).usd == Decimal("0.002")
    assert own.price_message(Message(), context={"seconds": Decimal(3)}).usd == Decimal("0.003")
    assert own.price_message(Message(), context={"seconds": Decimal("NaN")}).status == "unpriced"
    assert own.price_message(Message(), context={"seconds": "long"}).reasons == ("no_usage_reported", "no_wall_time")


def test_a_time_without_a_zone_is_refused(book: PriceBook) -> None:
    """It could mean two prices."""
    with pytest.raises(BadArguments, match="has no time zone"):
        book.price_message(Message(), at=datetime(2026, 1, 1))  # noqa: DTZ001  # That is the point.


@pytest.mark.parametrize(
    ("at", "fault"),
    [
        ("2026-01-01", "at='2026-01-01' is a str: give a datetime"),
        (date(2026, 1, 1), "is a date: give a datetime"),
        (datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=14))), "is out of the calendar in UTC"),
        (datetime(9999, 12, 31, 23, tzinfo=timezone(timedelta(hours=-14))), "is out of the calendar in UTC"),
    ],
)
def test_a_moment_that_is_none_is_the_callers_fault(book: PriceBook, at: object, fault: str) -> None:
    """One error with the remedy, of the kind that the API says."""
    with pytest.raises(BadArguments, match=fault):
        book.price_message(Message(), at=at)  # type: ignore[arg-type]


def test_a_remembered_price_ends_where_another_begins(book: PriceBook) -> None:
    """Going through time in either direction gives what a fresh book gives."""
    moments = [datetime(2025, 6, 9, 22, tzinfo=UTC) + timedelta(minutes=30 * step) for step in range(10)]

    def costs(order: list[datetime], each: PriceBook | None) -> dict[datetime, Decimal | None]:
        found = {}
        for moment in order:
            used = each or PriceBook()
            found[moment] = used.price(reading(used, model="o3", at=moment)).usd
        return found

    fresh = costs(moments, None)

    assert costs(moments, book) == costs(moments[::-1], book) == fresh
    assert len(set(fresh.values())) == 2


def test_what_a_book_remembers_is_bounded() -> None:
    """Names that vary by call must not fill the memory."""
    bare = PriceBook(catalog=False)
    for number in range(REMEMBERED + 10):
        bare.price(reading(bare, model=f"model-{number}"))

    assert len(bare._quotes) <= REMEMBERED
    assert len(bare._identities) <= REMEMBERED


def test_importing_prices_loads_no_catalogue() -> None:
    """The 0.3 seconds are spent when the first book is made, and by a book that needs it."""
    script = (
        "import sys, langchain_finops.pricing as p\n"
        "assert not {'genai_prices', 'yaml', 'pydantic'} & set(sys.modules)\n"
        "p.PriceBook(catalog=False)\n"
        "assert 'genai_prices' not in sys.modules\n"
        "p.PriceBook()\n"
        "assert 'genai_prices' in sys.modules\n"
    )

    subprocess.run([sys.executable, "-c", script], check=True)


def test_a_cost_survives_a_process_pool(book: PriceBook) -> None:
    """With its breakdown."""
    cost = book.price(reading(book))

    assert pickle.loads(pickle.dumps(cost)) == cost


TEXT = st.text(max_size=8) | st.sampled_from(
    [
        "openai",
        "anthropic",
        "google_genai",
        "openrouter",
        "gpt-4.1",
        "claude-opus-4-5",
        "gemini-2.5-flash",
        "deepseek-chat",
        "flex",
        "priority",
        "batch",
        "us",
        "",
    ]
)
COUNT = st.integers(min_value=-5, max_value=10**7) | st.integers()
DETAILS = st.dictionaries(
    st.sampled_from(["cache_read", "cache_creation", "audio", "reasoning", "flex", "ephemeral_1h_input_tokens"]), COUNT
)
MESSAGES = st.builds(
    Message,
    usage_metadata=st.fixed_dictionaries(
        {"input_tokens": COUNT, "output_tokens": COUNT},
        optional={"input_token_details": DETAILS, "output_token_details": DETAILS, "total_cost": st.just(0)},
    )
    | st.none(),
    response_metadata=st.fixed_dictionaries(
        {},
        optional={
            "model_name": TEXT,
            "model_provider": TEXT,
            "service_tier": TEXT,
            "cost": st.floats() | COUNT,
            "usage": st.fixed_dictionaries({}, optional={"service_tier": TEXT, "speed": TEXT, "inference_geo": TEXT}),
        },
    ),
)
CONTEXT = st.none() | st.fixed_dictionaries(
    {},
    optional={
        "processing": TEXT,
        "service_tier": TEXT,
        "region": TEXT,
        "seconds": st.floats() | st.integers(),
        "server_tools": st.dictionaries(st.just("web_search"), COUNT),
    },
)
METADATA = st.fixed_dictionaries({}, optional={"ls_provider": TEXT, "ls_model_name": TEXT})
MOMENTS = st.datetimes(timezones=st.just(UTC))


@given(MESSAGES, METADATA, CONTEXT, MOMENTS)
def test_any_message_has_a_cost(
    book: PriceBook,
    message: Message,
    metadata: Mapping[str, object],
    context: Mapping[str, object] | None,
    at: datetime,
) -> None:
    """It adds up, it is no silent zero, and an unpriced one has no amount."""
    cost = book.price_message(message, metadata=metadata, context=context, at=at)

    assert (cost.usd is None) == (cost.status == "unpriced")
    assert cost.status != "exact" or cost.reasons == ()
    assert cost.status not in {"estimated", "unpriced"} or cost.reasons
    if cost.usd is not None:
        assert sum_usd(part.amount_usd for part in cost.by_meter.values()) == cost.usd
        assert cost.usd >= 0
        assert cost.usd or cost.status == "free" or cost.reasons
        assert cost.usd == cost.usd.quantize(Decimal("1e-12"))


GROWING = [meter for meter in METERS if meter not in {"requests", "web_searches"}]
SMALL = st.dictionaries(st.sampled_from(GROWING), st.integers(min_value=0, max_value=10**4))


@given(
    st.sampled_from([("openai", "gpt-4.1"), ("openai", "gpt-audio"), ("anthropic", "claude-opus-4-5"),
                     ("google_genai", "gemini-2.5-flash"), ("deepseek", "deepseek-flash")]),
    SMALL,
    st.sampled_from(GROWING),
    st.integers(min_value=1, max_value=10**4),
)  # fmt: skip
def test_more_tokens_never_cost_less(
    book: PriceBook, who: tuple[str, str], counts: dict[str, int], meter: str, more: int
) -> None:
    """On whichever meter, within a size of prompt."""
    base = reading(book, provider=who[0], model=who[1])
    less = book.price(replace(base, usage=Usage(**counts)))
    greater = book.price(replace(base, usage=Usage(**{**counts, meter: counts.get(meter, 0) + more})))

    if less.usd is not None and greater.usd is not None:
        assert greater.usd >= less.usd
