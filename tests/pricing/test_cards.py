"""A card file says what it means, or everything that is wrong with it at once."""

import re
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import yaml

from langchain_finops.errors import BadData, Fault
from langchain_finops.pricing import Card, Cost, PriceBook, parse_cards
from langchain_finops.pricing.cards import KINDS, SelfHosted, read_card_file

GOOD = """
cards:
  - id: hosted
    match: {model: "gemma-3-270m*", provider: amazon_bedrock, base_url_host: "localhost*", tags: {team: cx}}
    rates: {input_tokens: 0.02, cache_read_tokens: "0.01", output_tokens: 0.04, web_searches: 0.01}
    from: 2026-01-01
    until: "2027-01-01"
    source: "https://example.org/prices"
  - {id: own-cpu, match: {model: [a, b]}, self_hosted: {usd_per_instance_hour: 0.0672, instances: 2, concurrency: 4}}
  - {id: contract, match: {provider: openai}, factor: 0.85}
  - {id: local, free: true, from: 2026-03-01T16:00:00+08:00}
  - {id: search, tool: "web_*", usd_per_call: 0.005}
aliases: {my-azure-deployment: gpt-4.1-mini}
"""


STEP = "rates: {input_tokens: 1}, steps: [{above: %s, rates: {%s}}]"


def faults_of(text: str) -> list[str]:
    """What is wrong with a list of cards, as `where: what`."""
    with pytest.raises(BadData) as caught:
        parse_cards(yaml.safe_load(text), where="suite.yaml: cards.hosted")
    return [str(fault) for fault in caught.value.faults]


def test_all_that_a_card_can_say(tmp_path: Path) -> None:
    """Amounts per million tokens become exact dollars a token; floats are read by their repr; dates are UTC."""
    path = tmp_path / "cards.yaml"
    path.write_text(GOOD, encoding="utf-8")
    faults: list[Fault] = []
    cards, aliases = read_card_file(path, faults)
    hosted, own, contract, local, search = cards

    assert faults == []
    assert aliases == {"my-azure-deployment": "gpt-4.1-mini"}
    assert hosted.match.provider == "aws"
    assert hosted.match.model == ("gemma-3-270m*",)
    assert hosted.match.base_url_host == "localhost*"
    assert hosted.match.tags == {"team": "cx"}
    assert hosted.rates is not None
    assert {meter: rate.usd for meter, rate in hosted.rates.items()} == {
        "input_tokens": Decimal("0.00000002"),
        "cache_read_tokens": Decimal("0.00000001"),
        "output_tokens": Decimal("0.00000004"),
        "web_searches": Decimal("0.01"),
    }
    assert hosted.validity.starts == datetime(2026, 1, 1, tzinfo=UTC)
    assert hosted.validity.until == datetime(2027, 1, 1, tzinfo=UTC)
    assert hosted.source == "https://example.org/prices"
    assert own.self_hosted == SelfHosted(
        price_per_instance_hour=Decimal("0.0672"), instances=Decimal(2), concurrency=Decimal(4)
    )
    assert own.match.model == ("a", "b")
    assert contract.factor == Decimal("0.85")
    assert local.free
    assert local.validity.starts == datetime(2026, 3, 1, 8, tzinfo=UTC)
    assert (search.tool, search.price_per_call) == ("web_*", Decimal("0.005"))


@pytest.mark.parametrize(
    ("card", "fault"),
    [
        ("7", "[0]: is a number; it has to be a mapping of id, match"),
        ("{free: true}", "[0].id: is missing"),
        ("{id: '', free: true}", "[0].id: is ''; it has to be text"),
        ("{id: x}", "[0].rates: a card has exactly one of rates, factor, self_hosted, free, tool; this one has none"),
        ("{id: x, factor: 0.5, free: true}", "[0].rates: a card has exactly one of"),
        ("{id: x, rate: {input_tokens: 1}, free: true}", "[0].rate: is no field of it; there are id, match"),
        ("{id: x, rates: {input: 1}}", "[0].rates.input: is no field of it; there are input_tokens"),
        ("{id: x, rates: {}}", "[0].rates: has no rate; for a call that costs nothing say `free: true`"),
        ("{id: x, rates: [1]}", "[0].rates: is a list; it has to be a mapping"),
        ("{id: x, rates: {input_tokens: -1}}", "[0].rates.input_tokens: is -1; it has to be 0 or more"),
        ("{id: x, rates: {input_tokens: much}}", "[0].rates.input_tokens: 'much' is not an amount of money"),
        ("{id: x, rates: {input_tokens: true}}", "[0].rates.input_tokens: True is not an amount of money"),
        ("{id: x, rates: {input_tokens: [1]}}", "[0].rates.input_tokens: '[1]' is not an amount of money"),
        ("{id: x, rates: {input_tokens: .nan}}", "[0].rates.input_tokens: nan is not a finite amount"),
        ("{id: x, rates: {reasoning_tokens: 1}}", "[0].rates.reasoning_tokens: is no field of it"),
        ("{id: x, factor: -0.1}", "[0].factor: is -0.1; it has to be 0 or more"),
        ("{id: x, free: false}", "[0].free: is false; leave it out"),
        ("{id: x, free: 'yes'}", "[0].free: is 'yes'; it has to be true"),
        ("{id: x, tool: search}", "[0].usd_per_call: is missing"),
        ("{id: x, factor: 1, usd_per_call: 1}", "[0].usd_per_call: is for a card with `tool`"),
        ("{id: x, tool: search, price_per_call: 1}", "[0].price_per_call: is not known here, because the card has no"),
        ("{id: x, tool: s, usd_per_call: 1, match: {model: a}}", "[0].match: is for cards of models"),
        ("{id: x, free: true, steps: []}", "[0].steps: is for a card with `rates`"),
        ("{id: x, rates: {input_tokens: 1}, steps: []}", "[0].steps: is a list; it has to be a list such as"),
        ("{id: x, rates: {input_tokens: 1}, steps: [{above: 9}]}", "steps[0].rates: is empty; it has to be a mapping"),
        (
            f"{{id: x, {STEP % ('0', 'input_tokens: 2')}}}",
            "steps[0].above: is 0; it has to be a number of input tokens",
        ),
        (f"{{id: x, {STEP % ('yes', 'input_tokens: 2')}}}", "steps[0].above: is True; it has to be a number"),
        (
            "{id: x, rates: {input_tokens: 1}, steps: [{above: 9, rates: {input_tokens: 2}}, {above: 9, rates: {}}]}",
            "steps[1].above: is 9; it has to be a number of input tokens, more than 9",
        ),
        (f"{{id: x, {STEP % ('9', 'output_tokens: 2')}}}", "steps[0].rates.output_tokens: has no rate in the card's"),
        ("{id: x, free: true, currency: EUR}", "[0].currency: is of no use with `free`"),
        ("{id: x, rates: {input_tokens: 1}, currency: EUR}", "[0].currency: is EUR, and the file has no table `fx`"),
        ("{id: x, rates: {input_tokens: 1}, currency: Euro}", "[0].currency: is 'Euro'; write its three letters"),
        ("{id: x, rates: {input_tokens: 1e-31}}", "[0].rates.input_tokens: is 1e-31; it has more than 30 decimals"),
        ("{id: x, factor: }", "[0].rates: a card has exactly one of rates, factor, self_hosted, free, tool; this one"),
        ("{id: x, free: true, match: {base_url_host: 'http://h/v1'}}", "[0].match.base_url_host: is 'http://h/v1'"),
        ("{id: x, self_hosted: {}}", "[0].self_hosted.usd_per_instance_hour: is missing"),
        ("{id: x, self_hosted: {usd_per_instance_hour: 1, concurrency: 0}}", "concurrency: is 0; it has to be more"),
        ("{id: x, free: true, from: yesterday}", "[0].from: is 'yesterday'; it has to be a date such as 2026-01-31"),
        ("{id: x, free: true, from: 7}", "[0].from: is 7; it has to be a date"),
        ("{id: x, free: true, from: 2026-01-01T00:00:00}", "without a time zone"),
        ("{id: x, free: true, from: 2026-01-02, until: 2026-01-02}", "[0].until: is 2026-01-02"),
        ("{id: x, free: true, match: openai}", "[0].match: is text; it has to be a mapping of provider, model"),
        ("{id: x, free: true, match: {modle: a}}", "[0].match.modle: is no field of it"),
        ("{id: x, free: true, match: {model: [a, 7]}}", "[0].match.model: is 7; it has to be text"),
        ("{id: x, free: true, match: {tags: {team: 7}}}", "[0].match.tags.team: has to be text"),
        ("{id: x, free: true, match: {tags: cx}}", "[0].match.tags: is text; it has to be a mapping"),
    ],
)
def test_each_fault_is_named_with_its_place_and_its_remedy(card: str, fault: str) -> None:
    """File, list, index and field, and what would be right."""
    faults = faults_of(f"[{card}]")

    assert any(line.startswith("suite.yaml: cards.hosted") and fault in line for line in faults), faults
    assert len(faults) == 1, faults


def test_all_faults_are_named_at_once() -> None:
    """One look is enough."""
    faults = faults_of("[{id: a, rates: {input_tokens: x, output_tokens: -1}}, {id: a, free: true, until: soon}]")

    assert [fault.split(": ")[1] for fault in faults] == [
        "cards.hosted[0].rates.input_tokens",
        "cards.hosted[0].rates.output_tokens",
        "cards.hosted[1].until",
        "cards.hosted[1].id",
    ]


@pytest.mark.parametrize("data", [None, 7, {"cards": []}, "cards"])
def test_cards_are_a_list(data: object) -> None:
    """Anything else is said to be none."""
    with pytest.raises(BadData, match="has to be a list of cards"):
        parse_cards(data, where="x.yaml")


def test_no_cards_are_no_fault() -> None:
    """An empty list is a list."""
    assert parse_cards([], where="x.yaml") == ()


def test_every_file_is_read_before_anything_is_said(tmp_path: Path) -> None:
    """A missing file, a broken one and one with a bad card: three faults, each with its file."""
    (tmp_path / "broken.yaml").write_text("cards: [", encoding="utf-8")
    (tmp_path / "latin.yaml").write_bytes("cards: [] # é".encode("latin-1"))
    (tmp_path / "bad.yaml").write_text("cards: [{id: x}]\nalias: {}\naliases: {a: 7}", encoding="utf-8")
    paths = [tmp_path / name for name in ("missing.yaml", "broken.yaml", "latin.yaml", "bad.yaml")]
    with pytest.raises(BadData) as caught:
        PriceBook.load(*paths)
    wheres = [fault.where.removeprefix(f"{tmp_path}/") for fault in caught.value.faults]

    assert wheres == [
        "missing.yaml",
        "broken.yaml:1",
        "latin.yaml",
        "bad.yaml: alias",
        "bad.yaml: cards[0].rates",
        "bad.yaml: aliases.a",
    ]


def test_an_empty_file_is_no_fault(tmp_path: Path) -> None:
    """Somebody may have taken the last card out."""
    (tmp_path / "empty.yaml").write_text("# nothing\n", encoding="utf-8")

    assert PriceBook.load(tmp_path / "empty.yaml").hash == PriceBook().hash


@pytest.mark.parametrize(
    ("instances", "concurrency", "seconds", "expected"),
    [
        ("1", "1", "3600", "0.0672"),
        ("1", "1", "1.5", "0.000028"),
        ("2", "1", "1.5", "0.000056"),
        ("1", "4", "60", "0.00028"),
    ],
)
def test_a_machines_time_is_shared(instances: str, concurrency: str, seconds: str, expected: str) -> None:
    """0.0672 dollars an hour: 1.5 seconds are 0.0672 x 1.5 / 3600 = 0.000028."""
    machine = SelfHosted(
        price_per_instance_hour=Decimal("0.0672"), instances=Decimal(instances), concurrency=Decimal(concurrency)
    )

    assert machine.price(Decimal(seconds)) == Decimal(expected)


def test_a_card_may_be_made_in_code() -> None:
    """With the names of the file."""
    assert Card(id="local", free=True).match.provider is None


# --- long prompts and other currencies -------------------------------------------------------------------------------

EURO = """
fx:
  id: ecb-2026
  source: https://www.ecb.europa.eu/stats
  rates:
    EUR: {2026-07-01: 1.20, 2026-01-01: 1.175}
    GBP: {"2026-01-01": 1.34}
cards:
  - id: mistral-eu
    currency: EUR
    match: {provider: mistral}
    rates: {input_tokens: 0.50, output_tokens: 1.50}
  - {id: gpu-uk, currency: GBP, match: {model: own}, self_hosted: {price_per_instance_hour: 3.6}}
  - {id: search, currency: EUR, tool: search, price_per_call: 0.01}
  - id: long
    match: {model: long}
    rates: {input_tokens: 1.25, cache_read_tokens: 0.125, output_tokens: 10}
    steps:
      - {above: 200000, rates: {input_tokens: 2.50, output_tokens: 15}}
      - {above: 500000, rates: {input_tokens: 5}}
"""


@pytest.fixture
def euro(tmp_path: Path) -> PriceBook:
    """A book of cards in three currencies."""
    path = tmp_path / "euro.yaml"
    path.write_text(EURO, encoding="utf-8")
    return PriceBook.load(path)


def priced(book: PriceBook, provider: str, model: str, tokens: tuple[int, int], at: str, **more: Any) -> Cost:
    usage = {"input_tokens": tokens[0], "output_tokens": tokens[1], **more.pop("usage", {})}
    metadata = {"ls_provider": provider, "ls_model_name": model}
    return book.price(book.read(usage, {}, metadata, at=datetime.fromisoformat(at)), **more)


@pytest.mark.parametrize(
    ("at", "expected"),
    [
        ("2026-01-01T00:00:00Z", "0.00076375"),  # (1000 x 0.5 + 100 x 1.5) / 1e6 = 0.00065 EUR x 1.175
        ("2026-06-30T23:59:59.999999Z", "0.00076375"),
        ("2026-07-01T00:00:00Z", "0.00078"),  # 0.00065 EUR x 1.20
        ("2030-01-01T00:00:00Z", "0.00078"),
    ],
)
def test_another_currency_is_converted_by_the_rate_at_the_calls_start(euro: PriceBook, at: str, expected: str) -> None:
    """`usd` is dollars, exactly; `currency` is what the card is in, and `fx_id` the table that converted it."""
    cost = priced(euro, "mistralai", "mistral-large", (1000, 100), at)

    assert (cost.usd, cost.contracted_usd, cost.billed_usd) == (Decimal(expected),) * 3
    assert (cost.status, cost.currency, cost.fx_id, cost.card_id) == ("exact", "EUR", "ecb-2026", "mistral-eu")
    assert sum(meter.amount_usd for meter in cost.by_meter.values()) == cost.usd


def test_before_the_first_rate_of_exchange_a_call_is_unpriced(euro: PriceBook) -> None:
    """What a euro was worth then nobody said; the card is named, and so is the reason."""
    cost = priced(euro, "mistralai", "mistral-large", (1000, 100), "2025-12-31T23:59:59Z")

    assert (cost.usd, cost.status, cost.reasons, cost.card_id) == (
        None, "unpriced", ("no_fx_rate:EUR",), "mistral-eu"
    )  # fmt: skip
    assert euro.tool_price("search", at=datetime(2025, 12, 31, tzinfo=UTC)) is None


def test_machines_and_tools_are_converted_too(euro: PriceBook) -> None:
    """3.6 pounds an hour are 0.001 a second: 1.5 seconds x 1.34. A charge names the table beside the card."""
    cost = priced(euro, "ollama", "own", (10, 10), "2026-03-01T00:00:00Z", seconds=1.5)

    assert (cost.usd, cost.currency, cost.fx_id) == (Decimal("0.00201"), "GBP", "ecb-2026")
    assert euro.tool_price("search", at=datetime(2026, 7, 1, tzinfo=UTC)) == (Decimal("0.012"), "search + ecb-2026")


def test_a_conversion_is_rounded_once_for_the_whole_call(tmp_path: Path) -> None:
    """1/3 of a picodollar a token: three tokens are exactly one, and none is lost to rounding each rate."""
    path = tmp_path / "fx.yaml"
    path.write_text(
        "fx: {id: t, rates: {JPY: {2026-01-01: 0.3333333333333333}}}\n"
        "cards: [{id: c, currency: JPY, match: {model: m}, rates: {input_tokens: 0.000001, output_tokens: 0}}]",
        encoding="utf-8",
    )
    book = PriceBook.load(path)

    assert priced(book, "x", "m", (3, 0), "2026-01-01T00:00:00Z").usd == Decimal("0.000000000001")
    assert priced(book, "x", "m", (3_000_000, 0), "2026-01-01T00:00:00Z").usd == Decimal("0.000001")


@pytest.mark.parametrize(
    ("tokens", "cached", "expected"),
    [
        ((200_000, 100), 0, "0.251"),  # 200000 x 1.25 + 100 x 10, a million
        ((200_001, 100), 0, "0.5015025"),  # 200001 x 2.50 + 100 x 15
        ((200_001, 100), 1, "0.501500125"),  # the cached token keeps its 0.125: no step names it
        ((500_000, 100), 0, "1.2515"),  # 500000 x 2.50 + 100 x 15
        ((500_001, 100), 0, "2.501505"),  # 500001 x 5 + 100 x 15: output keeps the step below
    ],
)
def test_long_prompts_pay_the_rates_of_their_step(
    euro: PriceBook, tokens: tuple[int, int], cached: int, expected: str
) -> None:
    """For all of their tokens, from the first token above it on."""
    usage = {"input_token_details": {"cache_read": cached}}
    cost = priced(euro, "x", "long", tokens, "2026-03-01T00:00:00Z", usage=usage)

    assert (cost.usd, cost.status) == (Decimal(expected), "exact")
    assert (cost.currency, cost.fx_id) == ("USD", None)


@pytest.mark.parametrize(
    ("fx", "fault"),
    [
        ("7", "fx: is a number; it has to be a mapping of id, source, rates"),
        ("{rates: {EUR: {2026-01-01: 1}}}", "fx.id: is missing"),
        ("{id: t}", "fx.rates: is missing; write the dollars for one unit"),
        ("{id: t, rates: 1.2}", "fx.rates: is a number; it has to be a mapping"),
        ("{id: t, rates: {EUR: 1.17}}", "fx.rates.EUR: has to be dates with the dollars for one unit"),
        ("{id: t, rates: {EUR: {}}}", "fx.rates.EUR: has to be dates"),
        ("{id: t, rates: {euro: {2026-01-01: 1}}}", "fx.rates.euro: is no other currency; write its three letters"),
        ("{id: t, rates: {USD: {2026-01-01: 1}}}", "fx.rates.USD: is no other currency"),
        ("{id: t, rates: {EUR: {2026-01-01: 0}}}", "fx.rates.EUR.2026-01-01: is 0; it has to be more"),
        ("{id: t, rates: {EUR: {soon: 1}}}", "fx.rates.EUR.soon: is 'soon'; it has to be a date"),
        ("{id: t, rates: {EUR: {2026-01-01: x}}}", "fx.rates.EUR.2026-01-01: 'x' is not an amount of money"),
        ("{id: t, rates: {EUR: {2026-01-01: 1, '2026-01-01': 2}}}", "'2026-01-01' is given twice"),
        ("{id: t, rates: {EUR: {2026-01-01: 1, 2026-01-01T00:00:00Z: 2}}}", "is a moment that has a rate already"),
    ],
)
def test_each_fault_of_a_table_is_named(tmp_path: Path, fx: str, fault: str) -> None:
    """With its place and its remedy; a rate that could not be meant is never used."""
    path = tmp_path / "fx"
    path.write_text(f"fx: {fx}", encoding="utf-8")
    with pytest.raises(BadData) as caught:
        PriceBook.load(path)
    (told,) = (str(each) for each in caught.value.faults)

    assert fault in told.removeprefix(f"{path}: ")


def test_a_day_that_is_in_no_calendar_is_one_fault_among_the_others(tmp_path: Path) -> None:
    """It does not hide them, and is told at its place."""
    path = tmp_path / "cards.yaml"
    path.write_text(
        "cards:\n"
        "- {id: a, rates: {input_tokens: 1}, from: 2026-02-30}\n"
        "- {id: b, rates: {input_tokens: 1}, from: 2026-01-31 16:00:00+00:00, until: 2026-13-01}\n"
        "- {id: c, rates: {input_tokens: -1}}\n",
        encoding="utf-8",
    )
    with pytest.raises(BadData) as caught:
        PriceBook.load(path)

    assert [str(each).removeprefix(f"{path}: ") for each in caught.value.faults] == [
        "cards[0].from: is '2026-02-30'; it has to be a date such as 2026-01-31",
        "cards[1].until: is '2026-13-01'; it has to be a date such as 2026-01-31",
        "cards[2].rates.input_tokens: is -1; it has to be 0 or more",
    ]


def test_what_is_no_yaml_is_told_with_its_line_and_its_problem(tmp_path: Path) -> None:
    """The reader's own words for what is wrong there."""
    path = tmp_path / "cards.yaml"
    path.write_text("cards:\n  - id: a\n    match: {model: x: y}\n", encoding="utf-8")
    with pytest.raises(BadData, match=r"cards\.yaml:3: is not YAML in UTF-8: .+"):
        PriceBook.load(path)


def test_a_card_in_a_currency_that_the_table_lacks_is_a_fault(tmp_path: Path) -> None:
    """Instead of a price of one to one; and amounts named in dollars are not taken for another currency."""
    path = tmp_path / "cards.yaml"
    path.write_text(
        "fx: {id: t, rates: {EUR: {2026-01-01: 1.1}}}\n"
        "cards:\n"
        "- {id: a, currency: GBP, rates: {input_tokens: 1}}\n"
        "- {id: b, currency: EUR, tool: x, usd_per_call: 1}\n"
        "- {id: c, currency: EUR, self_hosted: {usd_per_instance_hour: 1}}\n",
        encoding="utf-8",
    )
    with pytest.raises(BadData) as caught:
        PriceBook.load(path)

    assert [str(fault).removeprefix(f"{path}: ") for fault in caught.value.faults] == [
        "cards[0].currency: is GBP, and the table `fx` has only EUR",
        "cards[1].usd_per_call: is not known here, because the card's currency is EUR: write price_per_call",
        (
            "cards[2].self_hosted.usd_per_instance_hour: "
            "is not known here, because the card's currency is EUR: write price_per_instance_hour"
        ),
    ]


def test_a_key_given_twice_is_a_fault(tmp_path: Path) -> None:
    """YAML takes the last one without a word, and a price would be lost."""
    path = tmp_path / "cards.yaml"
    path.write_text("cards:\n- id: a\n  rates: {input_tokens: 1,\n    input_tokens: 2}\n", encoding="utf-8")
    with pytest.raises(BadData, match=r"cards\.yaml:4: 'input_tokens' is given twice; keep one of them"):
        PriceBook.load(path)


def test_the_file_in_the_manual_is_right(tmp_path: Path) -> None:
    """Somebody will copy it: it has every kind of card, and no fault."""
    manual = (Path(__file__).parents[2] / "docs" / "prices.md").read_text("utf-8")
    (text,) = re.findall(r"```yaml\n(fx:.*?)```", manual, re.DOTALL)
    path = tmp_path / "prices.yaml"
    path.write_text(text, encoding="utf-8")
    faults: list[Fault] = []
    cards, aliases = read_card_file(path, faults)

    assert faults == []
    book = PriceBook.load(path)
    for name, provider in zip(aliases, ("azure", "aws"), strict=True):
        assert priced(book, provider, name, (1000, 100), "2026-11-20T00:00:00Z").status == "exact"
    assert all(any(getattr(card, name) for card in cards) for name in KINDS)
    assert {card.currency for card in cards} == {"USD", "EUR"}


def test_one_book_changes_with_the_rate_of_exchange(euro: PriceBook) -> None:
    """What it remembers of a price ends where another rate begins, whichever is asked for first."""
    moments = ["2026-03-01T00:00:00Z", "2026-08-01T00:00:00Z", "2026-03-01T00:00:00Z", "2025-01-01T00:00:00Z"]
    costs = [priced(euro, "mistralai", "mistral-large", (1000, 100), at).usd for at in moments]

    assert costs == [Decimal("0.00076375"), Decimal("0.00078"), Decimal("0.00076375"), None]
