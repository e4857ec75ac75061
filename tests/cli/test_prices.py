"""`finops prices` and `finops reprice`, as a user meets them."""

import csv
import io
import json
import os
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from langchain_finops import PriceBook
from langchain_finops.cli.common import run
from langchain_finops.cli.finops import app
from langchain_finops.ledger import open_ledger
from langchain_finops.pricing import catalog
from langchain_finops.pricing.cards import KINDS
from langchain_finops.pricing.snapshots import folder
from langchain_finops.records import CallRecord, ChargeRecord
from langchain_finops.usage import Usage

AT = datetime(2026, 3, 1, 12, tzinfo=UTC)
CARDS = """
fx: {id: ecb, rates: {EUR: {2026-01-01: 1.17, 2026-06-01: 1.20}}}
cards:
  - id: contract
    match: {provider: openai}
    factor: 0.85
  - id: eu
    match: {model: "our-*"}
    currency: EUR
    rates: {input_tokens: 1, output_tokens: 2}
    steps: [{above: 1000, rates: {input_tokens: 3}}]
    source: https://example.org/contract
  - {id: gpu, match: {model: own}, self_hosted: {usd_per_instance_hour: 1.2, concurrency: 4}}
  - {id: laptop, match: {base_url_host: "localhost*"}, free: true}
  - {id: nothing, match: {model: gratis}, free: true}
  - {id: search, tool: search, usd_per_call: 0.005}
aliases: {my-deployment: our-model}
"""

Finops = Callable[..., tuple[int, str, str]]


@pytest.fixture
def finops(capsys: pytest.CaptureFixture[str]) -> Finops:
    """Run a command line; return exit code, stdout and stderr."""

    def command(*words: object) -> tuple[int, str, str]:
        code = run(app, "finops", [str(word) for word in words])
        out, err = capsys.readouterr()
        return code, out, err

    return command


@pytest.fixture
def cards(tmp_path: Path) -> Path:
    path = tmp_path / "prices.yaml"
    path.write_text(CARDS, encoding="utf-8")
    return path


# --- check ----------------------------------------------------------------------------------------------------------


def test_check_of_a_file_without_a_fault_exits_0(finops: Finops, cards: Path) -> None:
    """It says what it found, so that an empty file is not taken for a good one."""
    assert finops("prices", "check", cards) == (0, f"{cards}: 6 cards and 1 alias, converted by ecb, no fault\n", "")


def test_check_tells_all_faults_and_exits_1(finops: Finops, tmp_path: Path) -> None:
    """The answer is no: one line a fault on stderr, nothing on stdout."""
    path = tmp_path / "bad.yaml"
    path.write_text("cards: [{id: a}, {id: b, factor: x}]\ncard: 1", encoding="utf-8")
    code, out, err = finops("prices", "check", path)

    assert (code, out) == (1, "")
    assert err.splitlines() == [
        f"Error: {path}: card: is no field of it; there are cards, aliases, fx",
        f"Error: {path}: cards[0].rates: a card has exactly one of {', '.join(KINDS)}; this one has none",
        f"Error: {path}: cards[1].factor: 'x' is not an amount of money",
    ]


def test_check_of_no_file_could_not_run(finops: Finops, tmp_path: Path) -> None:
    """That is another answer than no."""
    code, out, err = finops("prices", "check", tmp_path / "none.yaml")

    assert (code, out) == (2, "")
    assert err == f"Error: {tmp_path / 'none.yaml'}: there is no such file; name the YAML file of your cards.\n"


def test_check_warns_of_what_is_hardly_meant(finops: Finops, tmp_path: Path) -> None:
    """A card that another hides, and a provider that nobody is called: right in form, and without effect."""
    path = tmp_path / "odd.yaml"
    path.write_text(
        "cards: [{id: c, match: {provider: opnai}, factor: 0.9}, {id: all, free: true}, {id: late, free: true},"
        "{id: t, tool: s, usd_per_call: 1}]",
        encoding="utf-8",
    )
    code, _, err = finops("prices", "check", path)

    assert code == 0
    assert err.splitlines() == [
        f"Warning: {path}: card 'c' is for provider 'opnai', which no integration of LangChain names",
        f"Warning: {path}: card 'late' is never used: 'all' above it is for every call",
    ]


# --- show -----------------------------------------------------------------------------------------------------------


def shown(finops: Finops, *words: object) -> list[dict[str, Any]]:
    code, out, err = finops("prices", "show", *words, "--format", "json")
    assert (code, err) == (0, "")
    found: list[dict[str, Any]] = json.loads(out)
    return found


def test_show_tells_the_price_in_force_and_who_says_so(finops: Finops, monkeypatch: pytest.MonkeyPatch) -> None:
    """At 80 columns, with the catalogue's page; the provider is told by the name."""
    monkeypatch.setenv("COLUMNS", "80")
    code, out, err = finops("prices", "show", "gpt-4.1-mini", "--at", "2026-11-20")

    assert (code, err) == (0, "")
    assert out.startswith("gpt-4.1-mini of openai; * in force at 2026-11-20 00:00 UTC\n")
    standard = next(line.split() for line in out.splitlines() if "standard" in line)
    assert standard[:4] == ["*", "standard", "0.4", "0.1"]
    assert standard[-2:] == ["1.6", "~0.01"]  # Which of two tools searched, an answer does not say.
    assert "`~`: not known for sure, but charged" in out
    assert not any(line.split()[1:2] == ["us"] for line in out.splitlines())  # It costs the same there.
    assert "the catalogue genai-prices-" in out
    assert "https://developers.openai.com/api/docs/pricing" in out
    assert all(len(line) <= 80 for line in out.splitlines())


def test_show_at_a_date_is_the_price_then(finops: Finops) -> None:
    """Both sides of the day on which Gemini 2.5 Pro's cached price changed; the history has both at any time."""
    then = shown(finops, "gemini-2.5-pro", "--provider", "google", "--at", "2025-12-31T23:59")
    now = shown(finops, "gemini-2.5-pro", "--provider", "google", "--at", "2026-11-20")
    both = [[row for row in rows if row["condition"] == "standard"] for rows in (then, now)]

    for rows, at in zip(both, ("2025-12-31T23:59:00+00:00", "2026-11-20T00:00:00+00:00"), strict=True):
        small, large = (row for row in rows if row["in_force"])
        assert (small["above_input_tokens"], large["above_input_tokens"]) == (None, 200_000)
        assert (small["input_tokens_usd"], large["input_tokens_usd"]) == ("1.25", "2.5")
        assert (small["from"] or "") <= at < (small["until"] or "9")
    assert {(row["from"], row["until"]) for row in both[0]} == {(row["from"], row["until"]) for row in both[1]}


def test_show_tells_hours_of_the_week(finops: Finops) -> None:
    """DeepSeek's peak is from 01:00 to 04:00 and 06:00 to 10:00 UTC on weekdays."""
    rows = shown(finops, "deepseek-v4-flash", "--provider", "deepseek", "--at", "2026-11-20T12:00")
    in_force = {row["condition"]: row["input_tokens_usd"] for row in rows if row["in_force"]}

    assert in_force == {"standard": "0.15", "mon-fri 01:00-04:00, 06:00-10:00": "0.3"}


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["our-x", "--at", "2026-03-01"], {"input_tokens_usd": "1.17", "output_tokens_usd": "2.34", "currency": "EUR"}),
        (["our-x", "--at", "2026-07-01"], {"input_tokens_usd": "1.2", "fx_id": "ecb", "pages": ["https://example.org/contract"]}),
        (["my-deployment"], {"model": "our-model", "card_id": "eu", "source": "card"}),
        (["own"], {"kind": "self_hosted", "hours_usd": "0.3"}),  # 1.2 an hour, shared by four calls
        (["gratis"], {"kind": "free", "card_id": "nothing"}),
        (["gpt-4.1-mini"], {"input_tokens_usd": "0.4", "contract_factor": "0.85", "source": "catalogue"}),
        (["our-x", "--at", "2025-03-01"], {"kind": "unpriced", "reasons": ["no_fx_rate:EUR"], "card_id": "eu"}),
    ],
)  # fmt: skip
def test_show_knows_your_cards(finops: Finops, cards: Path, words: list[str], expected: dict[str, Any]) -> None:
    """Rates in dollars by the table of that time, machines by the hour, contracts beside the list."""
    rows = shown(finops, *words, "--prices", cards)
    first = next(row for row in rows if row["in_force"])

    assert {name: first[name] for name in expected} == expected


def test_show_tells_a_step_of_a_card(finops: Finops, cards: Path) -> None:
    """And the table reads as the file was meant."""
    out = finops("prices", "show", "our-x", "--at", "2026-03-01", "--prices", cards)[1]

    assert any(line.split() == ["*", "2026-01-01", "2026-06-01", ">1k", "3.51", "2.34"]
               for line in out.splitlines())  # fmt: skip
    assert "your card eu, https://example.org/contract. The card is in EUR, converted by the table ecb." in " ".join(
        out.split()
    )


def test_an_unknown_model_is_said_to_have_no_price(finops: Finops) -> None:
    """With the reason and the remedy; programs get a row that says so. No price is an answer, not an error."""
    code, out, err = finops("prices", "show", "nobody-knows", "--at", "2026-11-20")
    (row,) = shown(finops, "nobody-knows")

    assert (code, err) == (0, "")
    assert out == (
        "nobody-knows has no price at 2026-11-20 00:00 UTC: unknown_provider.\n"
        "Name the provider with --provider, or give the model a card in a file that $FINOPS_PRICES names.\n"
    )
    assert (row["kind"], row["in_force"], row["input_tokens_usd"]) == ("unpriced", True, None)


def test_a_name_that_is_nearly_one_is_told_what_there_is(finops: Finops) -> None:
    """Who named the provider is not told to name it."""
    out = finops("prices", "show", "claude-sonnet-4-5", "--provider", "aws", "--at", "7d")[1]

    assert "anthropic.claude-sonnet-4-5-20250929-v1:0" in out
    assert "Name the model as its answers do, or give the model a card" in out
    assert "--provider" not in out


def test_what_stands_in_for_a_price_is_marked(finops: Finops) -> None:
    """A batch of Gemini reads its cache at the standard price: nobody says so, and it is charged."""
    out = finops("prices", "show", "gemini-2.5-pro", "--provider", "google", "--at", "2026-11-20")[1]
    rows = shown(finops, "gemini-2.5-pro", "--provider", "google", "--at", "2026-11-20")
    batch = next(row for row in rows if row["in_force"] and row["condition"] == "batch")
    line = next(line.split() for line in out.splitlines() if line.split()[:3] == ["*", "2026-10-14", "batch"])

    assert line[3:5] == ["0.625", "~0.125"]
    assert (batch["cache_read_tokens_usd"], "cache_read_tokens" in batch["stand_ins"]) == ("0.125", True)
    assert any("≥200k" in text for text in finops("prices", "show", "grok-4.7", "--at", "2026-11-20")[1].split())


@pytest.mark.parametrize("output_format", ["table", "json", "csv", "markdown"])
def test_show_and_diff_have_every_format(finops: Finops, cards: Path, tmp_path: Path, output_format: str) -> None:
    """Nothing but the table on stdout."""
    other = tmp_path / "new.yaml"
    other.write_text(CARDS.replace("0.85", "0.8"), encoding="utf-8")
    for words in (["show", "gpt-4.1-mini"], ["diff", cards, other]):
        code, out, err = finops("prices", *words, "--format", output_format)
        assert (code, err) == (0, "")
        if output_format == "json":
            assert isinstance(json.loads(out), list)
        if output_format == "csv":
            assert len(list(csv.DictReader(io.StringIO(out)))) > 0


# --- diff -----------------------------------------------------------------------------------------------------------


def test_diff_of_card_files_tells_what_changed_by_how_much(finops: Finops, cards: Path, tmp_path: Path) -> None:
    """A rate, a factor, a rate of exchange; a card that went, an alias that came."""
    new = tmp_path / "new.yaml"
    text = CARDS.replace("0.85", "0.68").replace("input_tokens: 3", "input_tokens: 4.5").replace("1.20", "1.26")
    text = text.replace("  - {id: search, tool: search, usd_per_call: 0.005}\n", "")
    new.write_text(text.replace("{my-dep", "{b: c, my-dep"), encoding="utf-8")
    code, out, _ = finops("prices", "diff", cards, new, "--format", "json")
    found = {
        (row["name"], row["what"]): (row["change"], row["old"], row["new"], row["ratio"]) for row in json.loads(out)
    }

    assert code == 0
    assert found == {
        ("aliases", "b"): ("added", None, "c", None),
        ("contract", "factor"): ("changed", "0.85", "0.68", "-0.2"),
        ("eu", "input_tokens above 1,000"): ("changed", "3", "4.5", "0.5"),
        ("fx ecb", "dollars"): ("changed", "1.2", "1.26", "0.05"),
        ("search", "currency"): ("removed", "USD", None, None),
        ("search", "price_per_call"): ("removed", "0.005", None, None),
        ("search", "tool"): ("removed", "search", None, None),
    }


def test_diff_without_a_difference_says_so(finops: Finops, cards: Path) -> None:
    """And programs get an empty array."""
    assert finops("prices", "diff", cards, cards) == (0, f"No price differs between {cards} and {cards}\n", "")
    assert finops("prices", "diff", cards, cards, "--format", "json") == (0, "[]\n", "")


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (None, "there is no such file; name a card file, a catalogue, or `shipped`"),
        ("cards: 7", "cards: is a number; it has to be a list of cards"),
        ("{", "is no catalogue that the installed genai-prices can read: JSONDecodeError"),
        ("[]", "is no catalogue of genai-prices: no model is in it"),
    ],
)
def test_diff_of_what_cannot_be_read(
    finops: Finops, tmp_path: Path, cards: Path, content: str | None, told: str
) -> None:
    """One sentence with the file."""
    path = tmp_path / ("x.json" if content in {"{", "[]"} else "x.yaml")
    if content is not None:
        path.write_text(content, encoding="utf-8")
    code, out, err = finops("prices", "diff", cards, path)

    assert (code, out) == (2, "")
    assert told in err
    assert str(path) in err


# --- update ---------------------------------------------------------------------------------------------------------


def model(number: int, price: float | dict[str, Any] = 1.5) -> dict[str, Any]:
    return {"id": f"m-{number}", "match": {"equals": f"m-{number}"}, "prices": {"input_mtok": price, "output_mtok": 3}}


def catalogue(*models: dict[str, Any]) -> bytes:
    """A catalogue as genai-prices publishes it."""
    provider = {
        "id": "acme",
        "name": "Acme",
        "api_pattern": "acme",
        "pricing_urls": ["https://acme.example/prices"],
        "provider_match": {"equals": "acme"},
        "models": list(models),
    }
    return json.dumps([provider]).encode()


MANY = [model(number) for number in range(2000)]


@pytest.fixture
def publisher() -> Iterator[tuple[str, dict[str, bytes | int]]]:
    """A server on the loopback interface: its address, and what it answers at each path."""
    answers: dict[str, bytes | int] = {}

    class Answer(BaseHTTPRequestHandler):
        def log_message(self, *args: object) -> None: ...

        def do_GET(self) -> None:
            found = answers.get(self.path, 404)
            self.send_response(found if isinstance(found, int) else 200)
            self.end_headers()
            if isinstance(found, bytes):
                self.wfile.write(found)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", answers
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def fresh() -> Iterator[None]:
    """A process that has not chosen its catalogue yet, and leaves the choice to the next test."""
    catalog.current_catalog.cache_clear()
    yield
    catalog.current_catalog.cache_clear()


def kept() -> list[str]:
    return sorted(path.name for path in folder().iterdir()) if folder().exists() else []


@pytest.mark.usefixtures("fresh")
def test_update_puts_a_newer_catalogue_into_use(finops: Finops, publisher: tuple[str, dict[str, Any]]) -> None:
    """The next book of any process of this user prices by it, says so on its cards, and has another hash."""
    url, answers = publisher
    answers["/data.json"] = catalogue(*MANY)
    before = PriceBook()
    code, out, err = finops("prices", "update", "--url", f"{url}/data.json")
    catalog.current_catalog.cache_clear()  # As in a new process.
    after = PriceBook()
    (row,) = shown(finops, "m-7", "--provider", "acme")

    assert (code, err) == (0, "")
    assert "added" in out
    assert str(folder()) in out
    assert len(kept()) == 1
    assert (row["input_tokens_usd"], row["pages"]) == ("1.5", ["https://acme.example/prices"])
    assert row["card_id"].startswith("genai-prices-")
    assert after.hash != before.hash
    assert row["card_id"] == f"{kept()[0].removesuffix('.json')}:acme/m-7"


@pytest.mark.usefixtures("fresh")
def test_the_same_catalogue_again_is_up_to_date(finops: Finops, publisher: tuple[str, dict[str, Any]]) -> None:
    """Whoever runs it every night fills no disk."""
    url, answers = publisher
    answers["/data.json"] = catalogue(*MANY)
    finops("prices", "update", "--url", f"{url}/data.json")
    code, out, _ = finops("prices", "update", "--url", f"{url}/data.json")

    assert (code, len(kept())) == (0, 1)
    assert out.startswith("Up to date: ")


@pytest.mark.usefixtures("fresh")
def test_a_few_catalogues_stay_the_newest_is_used(
    finops: Finops, publisher: tuple[str, dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last three, so that there is one to go back to; a newest that is broken since gives way, and is told."""
    url, answers = publisher
    for number in range(5):
        answers["/data.json"] = catalogue(*MANY, model(5000, 2 + number))
        finops("prices", "update", "--url", f"{url}/data.json")
        for path in folder().iterdir():  # The clock of names counts in seconds, and this loop is faster.
            stem, _, rest = path.name.partition("+")
            if not rest.startswith("2000"):
                path.rename(folder() / f"{stem}+2000010{number + 1}T000000{rest[15:]}")
    names = kept()
    (folder() / names[-1]).write_text("[", encoding="utf-8")
    catalog.current_catalog.cache_clear()
    (row,) = shown(finops, "m-5000", "--provider", "acme")

    assert len(names) == 3
    assert row["input_tokens_usd"] == "5"  # The fourth of the five: 2 + 3.


@pytest.mark.usefixtures("fresh")
@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (500, "cannot be downloaded"),
        (404, "cannot be downloaded"),
        (b"<html>", "is no catalogue that the installed genai-prices can read"),
        (b"{}", "no model is in it"),
        (b"[]", "no model is in it"),
        (catalogue(), "no model is in it"),
        (catalogue(*MANY[:900]), "900 models are in it, and "),
        (catalogue(*MANY, model(-1, -0.5)), "the price of input_tokens of acme/m--1 is no price"),
        (catalogue(*MANY, {"id": "x"}), "is no catalogue that the installed genai-prices can read"),
        (catalogue(*MANY)[:-10], "is no catalogue that the installed genai-prices can read"),
        (catalogue(*MANY, model(-1, {"bas": 1})), "is no catalogue that the installed genai-prices can read"),
    ],
)
def test_what_is_no_newer_catalogue_replaces_nothing(
    finops: Finops, publisher: tuple[str, dict[str, Any]], answer: bytes | int, told: str
) -> None:
    """One sentence that names the address; the data directory stays as it is, without a left-over part."""
    url, answers = publisher
    answers["/good.json"] = catalogue(*MANY)
    finops("prices", "update", "--url", f"{url}/good.json")
    names = kept()
    answers["/data.json"] = answer
    code, out, err = finops("prices", "update", "--url", f"{url}/data.json")

    assert (code, out) == (2, "")
    assert told in err
    assert f"{url}/data.json" in err
    assert kept() == names
    assert len(err.splitlines()) == 1


@pytest.mark.usefixtures("fresh")
@pytest.mark.parametrize("url", ["file:///etc/passwd", "data.json", "http://127.0.0.1:9/", ""])
def test_an_address_that_gives_nothing(finops: Finops, url: str) -> None:
    """No file of this machine is read, and no server is waited for for long."""
    code, out, err = finops("prices", "update", "--url", url)

    assert (code, out, kept()) == (2, "", [])
    assert err.startswith("Error: ")
    assert ("no address" in err) == (not url.startswith("http") and url != "")


@pytest.mark.usefixtures("fresh")
def test_another_version_of_genai_prices_brings_its_own_catalogue(
    finops: Finops, publisher: tuple[str, dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was downloaded over an older one no longer counts: nobody knows which of the two is newer."""
    url, answers = publisher
    answers["/data.json"] = catalogue(*MANY)
    finops("prices", "update", "--url", f"{url}/data.json")
    monkeypatch.setattr(catalog, "catalog_version", lambda: "genai-prices-9.9.9")
    catalog.current_catalog.cache_clear()

    assert catalog.current_catalog() is catalog.shipped_catalog()


@pytest.mark.usefixtures("fresh")
def test_a_data_directory_that_cannot_be_written_is_told(
    finops: Finops, publisher: tuple[str, dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With its path; root may write anywhere, so a file stands where the directory would be."""
    url, answers = publisher
    answers["/data.json"] = catalogue(*MANY)
    (tmp_path / "home").write_text("", encoding="utf-8")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "home"))
    code, _, err = finops("prices", "update", "--url", f"{url}/data.json")

    assert code == 2
    assert str(tmp_path / "home") in err


# --- reprice --------------------------------------------------------------------------------------------------------


@pytest.fixture
def ledger(tmp_path: Path) -> Path:
    """Two calls priced by a card of last year's, one that nobody priced, and a tool."""
    path = tmp_path / "ledger.db"
    records: list[Any] = []
    for number, (name, usd) in enumerate([("our-model", "0.001"), ("our-model", "0.001"), ("own", None)]):
        cost = None if usd is None else Decimal(usd)
        records.append(
            CallRecord(
                call_id=f"c{number}", run_id="r", invocation_id="i", provider="p", model=name, requested_model=name,
                usage=Usage(input_tokens=500, output_tokens=100),
                raw_usage={"input_tokens": 500, "output_tokens": 100},
                cost_usd=cost, contracted_usd=cost, billed_usd=cost, cost_status="exact" if usd else "unpriced",
                card_id="old", started_at=AT + timedelta(days=number), ended_at=AT + timedelta(days=number, seconds=6),
            )
        )  # fmt: skip
    records.append(ChargeRecord(charge_id="t", kind="tool", name="search", at=AT))
    opened = open_ledger(path)
    opened.write(*records)
    opened.close()
    return path


def test_reprice_shows_and_then_writes_what_changes(finops: Finops, cards: Path, ledger: Path) -> None:
    """The dry run and the run say the same; a second run has nothing to do; the old cost is history."""
    words = ["reprice", "--ledger", ledger, "--prices", cards, "--format", "json"]
    dry, real, again = (finops(*words, *more) for more in (["--dry-run"], [], []))
    rows = {row["model"]: row for row in json.loads(real[1])}
    opened = open_ledger(ledger)
    costs = [call.cost_usd for call in opened.calls(call_id="c0", history=True)]
    (event,) = opened.events()
    opened.close()

    assert dry == real
    assert real[0] == 0
    # (500 x 1 + 100 x 2) / 1,000,000 EUR x 1.17, for each of two; 6 seconds at 1.2 an hour / 4; a search.
    assert (rows["our-model"]["cost_before_usd"], rows["our-model"]["cost_after_usd"]) == ("0.002", "0.001638")
    assert (rows["own"]["newly_priced"], rows["own"]["cost_after_usd"]) == (1, "0.0005")
    assert (rows["search"]["charges"], rows["search"]["cost_after_usd"]) == (1, "0.005")
    assert all(row["changed"] == 0 for row in json.loads(again[1]))
    assert sorted(costs, key=str) == [Decimal("0.000819"), Decimal("0.001")]
    assert (event.action, event.after["changed"]) == ("reprice", 4)


def test_reprice_reads_at_80_columns(
    finops: Finops, cards: Path, ledger: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """How many changed, from how much to how much, and what that means."""
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("FINOPS_PRICES", str(cards))
    code, out, err = finops("reprice", "--ledger", ledger, "--until", "2026-03-03")
    lines = out.splitlines()

    assert (code, err) == (0, "")
    assert " ".join(lines[:2]).replace(os.linesep, " ").startswith("Priced again, until 2026-03-03, in ")
    assert any(line.split()[:1] == ["total"] and "$0.0020" in line for line in lines)
    assert "The old figures stay in the ledger's history." in " ".join(lines)
    assert all(len(line) <= 80 for line in lines)


def test_reprice_of_nothing_says_so(finops: Finops, ledger: Path) -> None:
    """A period without a call."""
    code, out, _ = finops("reprice", "--since", "2030-01-01", "--ledger", ledger)

    assert code == 0
    assert out.startswith("No calls or charges to price again, since 2030-01-01, in ")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--since", "soon"], "--since 'soon' is no time"),
        (["--since", "2026-02-01", "--until", "2026-01-01"], "nothing lies between them"),
        (["--prices", "nowhere.yaml"], "nowhere.yaml: cannot be read: No such file or directory; check the path"),
        (["--format", "xml"], "Invalid value for '--format': 'xml' is not one of"),
    ],
)
def test_bad_arguments_of_reprice(finops: Finops, ledger: Path, words: list[str], told: str) -> None:
    """One sentence, exit 2, and nothing written."""
    code, out, err = finops("reprice", "--ledger", ledger, *words)
    opened = open_ledger(ledger)

    assert (code, out) == (2, "")
    assert told in err
    assert len(list(opened.calls(history=True))) == 3
    opened.close()


def test_reprice_needs_a_ledger(finops: Finops, tmp_path: Path) -> None:
    """A mistyped path is no empty ledger."""
    code, _, err = finops("reprice", "--ledger", tmp_path / "none.db")

    assert code == 2
    assert "no ledger at" in err
    assert not (tmp_path / "none.db").exists()


def test_prices_alone_show_their_help(finops: Finops) -> None:
    """A question, not an error."""
    code, out, err = finops("prices")

    assert (code, err) == (0, "")
    assert "update" in out
