"""A card file says what it means, or everything that is wrong with it at once."""

from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pytest
import yaml

from langchain_finops.errors import BadData, Fault
from langchain_finops.pricing import Card, PriceBook, parse_cards
from langchain_finops.pricing.cards import SelfHosted, read_card_file

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
        usd_per_instance_hour=Decimal("0.0672"), instances=Decimal(2), concurrency=Decimal(4)
    )
    assert own.match.model == ("a", "b")
    assert contract.factor == Decimal("0.85")
    assert local.free
    assert local.validity.starts == datetime(2026, 3, 1, 8, tzinfo=UTC)
    assert (search.tool, search.usd_per_call) == ("web_*", Decimal("0.005"))


@pytest.mark.parametrize(
    ("card", "fault"),
    [
        ("7", "[0]: is a int; it has to be a mapping of id, match"),
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
        ("{id: x, tool: search}", "[0].usd_per_call: a tool card has `tool` and `usd_per_call`, both of them"),
        ("{id: x, factor: 1, usd_per_call: 1}", "[0].usd_per_call: a tool card has"),
        ("{id: x, self_hosted: {}}", "[0].self_hosted.usd_per_instance_hour: is missing"),
        ("{id: x, self_hosted: {usd_per_instance_hour: 1, concurrency: 0}}", "concurrency: is 0; it has to be more"),
        ("{id: x, free: true, from: yesterday}", "[0].from: is 'yesterday'; it has to be a date such as 2026-01-31"),
        ("{id: x, free: true, from: 7}", "[0].from: is 7; it has to be a date"),
        ("{id: x, free: true, from: 2026-01-01T00:00:00}", "without a time zone"),
        ("{id: x, free: true, from: 2026-01-02, until: 2026-01-02}", "[0].until: is 2026-01-02"),
        ("{id: x, free: true, match: openai}", "[0].match: is a str; it has to be a mapping of provider, model"),
        ("{id: x, free: true, match: {modle: a}}", "[0].match.modle: is no field of it"),
        ("{id: x, free: true, match: {model: [a, 7]}}", "[0].match.model: is 7; it has to be text"),
        ("{id: x, free: true, match: {tags: {team: 7}}}", "[0].match.tags.team: has to be text"),
        ("{id: x, free: true, match: {tags: cx}}", "[0].match.tags: is a str; it has to be a mapping"),
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
        usd_per_instance_hour=Decimal("0.0672"), instances=Decimal(instances), concurrency=Decimal(concurrency)
    )

    assert machine.usd(Decimal(seconds)) == Decimal(expected)


def test_a_card_may_be_made_in_code() -> None:
    """With the names of the file."""
    assert Card(id="local", free=True).match.provider is None
