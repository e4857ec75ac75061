"""FOCUS files: what checkers ask, and what they do not: prices times quantities, and the ledger's own sums."""

import csv
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from focus_data_toolkit import Mode, convert_to_focus_1_4, lint_focus_1_4_structure
from langchain_core.messages import AIMessage
from pyarrow import parquet

from langchain_finops.errors import BadArguments
from langchain_finops.exports.focus import Options, export_focus
from langchain_finops.exports.focus_columns import fields_of
from langchain_finops.ledger import open_ledger
from langchain_finops.money import sum_usd
from langchain_finops.pricing.book import PriceBook
from langchain_finops.records import CallError
from langchain_finops.reports.allocation import read_allocation
from langchain_finops.reports.close import adjustments, close_period, closed_periods
from langchain_finops.testing.records import DAY, MONDAY, a_call, a_charge
from langchain_finops.usage import Usage

PICO = Decimal("1e-12")
HAIKU = {"provider": "anthropic", "model": "claude-haiku-4-5"}


def cached_call(call_id="cached", **changes):
    """300 tokens at $1, 600 read at $0.10, 100 written at $1.25, 50 out at $5 a million: $0.000735."""
    usage = Usage(input_tokens=300, cache_read_tokens=600, cache_write_5m_tokens=100, output_tokens=50)
    meters = {
        "input_tokens": Decimal("0.0003"),
        "cache_read_tokens": Decimal("0.00006"),
        "cache_write_5m_tokens": Decimal("0.000125"),
        "output_tokens": Decimal("0.00025"),
    }
    parts = {"usd": "0.000735", "usage": usage, "meter_usd": meters, **HAIKU, **changes}
    return a_call(call_id, **parts)


def records():
    """One of everything that can stand in a ledger."""
    third = Decimal("0.000244999997")  # A discount that leaves fractions of a picodollar to share out.
    tags, stated = {"team": "cx", "agent": "x"}, Decimal("0.001234567891")
    reasoning = {"output_tokens": Decimal("0.00001"), "reasoning_tokens": Decimal("0.00003")}
    return (
        cached_call(agent_id="support", node_path="plan", task_id="t1", user_id="ada", tags=tags),
        cached_call("discounted", contracted_usd=third, billed_usd=third, account="org-7", project="proj", region="eu"),
        cached_call("hit", billed_usd=Decimal(0), billing_mode="cache"),
        cached_call("batch", service_tier="batch", contracted_usd=None, billed_usd=None),
        a_call("stated", usd=str(stated), cost_status="reported", meter_usd={"requests": stated}),
        a_call("whole", usd="0.25"),
        a_call("free", usd="0", cost_status="free", provider="ollama", model="=qwen"),
        a_call("refused", usd="0", usage=Usage(requests=0), error=CallError(error_class="RateLimitError")),
        a_call("unknown", usd=None, model="new-model"),
        a_call("thinking", usd="0.00004", usage=Usage(input_tokens=0, output_tokens=15, reasoning_tokens=10),
               meter_usd=reasoning, provider=None),
        a_call("machine", usd="0.000166666667", billing_mode="self_hosted", ended_at=MONDAY + timedelta(seconds=3),
               meter_usd={"seconds": Decimal("0.000166666667")}),
        a_call("december", usd="-0.5", started_at=MONDAY.replace(month=12, day=31)),
        a_charge("tool", usd="0.01"),
        a_charge("many", usd="0.123456789", kind="embedding", name="ada", quantity=Decimal(31_000_007), unit="tokens"),
        a_charge("minutes", usd="1.25", kind="human", name=None, quantity=Decimal(3), unit="minutes"),
        a_charge("nothing", usd=None),
        a_charge("credit", usd="-2", kind="credit", name="goodwill"),
    )  # fmt: skip


@pytest.fixture
def ledger(tmp_path):
    made = open_ledger(tmp_path / "ledger.db")
    made.write(*records())
    yield made
    made.close()


def rows_of(path):
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def exported(ledger, tmp_path, version="1.4", **more):
    """The file's rows, and what was told of it."""
    told = export_focus(ledger, tmp_path / "focus.csv", version, **more)
    return rows_of(tmp_path / "focus.csv"), told


def test_the_1_4_file_passes_the_toolkits_lint(ledger, tmp_path):
    """Columns, formats, null rules, single-row rules, with unit pricing and pricing categories declared."""
    rows, _ = exported(ledger, tmp_path)
    supports = ("SupportsUnitPricing", "SupportsMultiplePricingCategories")
    report = lint_focus_1_4_structure("Cost and Usage", rows, supported_conditions=supports)
    assert report.messages() == []
    assert report.row_count == len(rows) == 28


def test_the_1_2_file_converts_to_1_4_and_passes(ledger, tmp_path):
    """The toolkit takes it for 1.2, and finds nothing wrong with what it makes of it."""
    rows, _ = exported(ledger, tmp_path, "1.2")
    assert {"ProviderName", "PublisherName"} <= rows[0].keys()
    assert not {"ServiceProviderName", "HostProviderName"} & rows[0].keys()
    made = convert_to_focus_1_4(rows, mode=Mode.STRICT, source_version="1.2")
    report = lint_focus_1_4_structure("Cost and Usage", made.datasets["Cost and Usage"])
    assert report.messages() == []
    assert {row["ServiceProviderName"] for row in made.datasets["Cost and Usage"]} >= {
        "Anthropic",
        "OpenAI",
        "Internal",
    }


@pytest.mark.parametrize("version", ["1.2", "1.4"])
def test_each_cost_is_its_unit_price_times_its_quantity(ledger, tmp_path, version):
    """To the picodollar, which no checker looks at; all that has a price has a quantity."""
    rows, _ = exported(ledger, tmp_path, version)
    checked = 0
    for row in rows:
        for name in ("List", "Contracted"):
            if row["SkuPriceId"]:
                product = Decimal(row[f"{name}UnitPrice"]) * Decimal(row["PricingQuantity"])
                assert product.quantize(PICO) == Decimal(row[f"{name}Cost"]), row["x_CallId"]
                checked += 1
    assert checked == 2 * 26  # All but two credits.


def test_the_rows_add_up_to_the_ledgers_sums(ledger, tmp_path):
    """List, contracted and billed cost, each to the picodollar, however discounts are rounded."""
    rows, told = exported(ledger, tmp_path)
    (group,) = ledger.totals(())
    totals = group.totals
    charged = Decimal("-0.616543211")  # 0.01 + 0.123456789 + 1.25 - 2
    assert totals.charge_usd == charged
    for name, usd in (
        ("ListCost", totals.model_usd),
        ("ContractedCost", totals.contracted_usd),
        ("BilledCost", totals.billed_usd),
    ):
        assert sum_usd(Decimal(row[name]) for row in rows) == usd + charged
        assert told.costs[name] == usd + charged
    assert told.agrees
    assert all(row["EffectiveCost"] == row["BilledCost"] for row in rows)


def test_what_has_no_price_has_no_row_and_is_counted(ledger, tmp_path):
    """Nothing unknown stands as $0; what is known to be free does; what used nothing has nothing to show."""
    rows, told = exported(ledger, tmp_path)
    ids = {row["x_CallId"] for row in rows}
    assert not ids & {"unknown", "nothing", "refused"}
    assert (told.unpriced_calls, told.unpriced_tokens, told.unpriced_charges, told.unused) == (1, 120, 1, 1)
    assert (told.calls, told.charges, told.rows) == (12, 5, len(rows))
    free = [row for row in rows if row["x_CallId"] == "free"]
    assert [(row["ConsumedQuantity"], row["ListCost"], row["x_CostStatus"]) for row in free] == [
        ("100.0", "0.0", "free"),
        ("20.0", "0.0", "free"),
    ]


def test_a_call_is_one_row_for_each_meter(ledger, tmp_path):
    """Cached tokens only on their own row; prices a million tokens as the price list has them."""
    rows, _ = exported(ledger, tmp_path)
    columns = ("SkuId", "SkuMeter", "ConsumedQuantity", "PricingQuantity", "ListUnitPrice", "ListCost")
    shown = [tuple(row[name] for name in columns) for row in rows if row["x_CallId"] == "cached"]  # fmt: skip
    assert shown == [
        ("claude-haiku-4-5-input", "Input Tokens", "300.0", "0.0003", "1.0", "0.0003"),
        ("claude-haiku-4-5-cache-read-input", "Cache Read Input Tokens", "600.0", "0.0006", "0.1", "0.00006"),
        ("claude-haiku-4-5-cache-write-input", "Cache Write Input Tokens", "100.0", "0.0001", "1.25", "0.000125"),
        ("claude-haiku-4-5-output", "Output Tokens", "50.0", "0.00005", "5.0", "0.00025"),
    ]
    first = next(row for row in rows if row["x_CallId"] == "cached")
    assert (first["PricingUnit"], first["ConsumedUnit"]) == ("1000000 Tokens", "Tokens")
    assert (first["ServiceName"], first["InvoiceIssuerName"], first["HostProviderName"]) == (
        "Claude API",
        "Anthropic",
        "Anthropic",
    )
    assert (first["ChargePeriodStart"], first["ChargePeriodEnd"]) == ("2026-03-02T12:00:00Z", "2026-03-02T12:00:02Z")
    assert (first["BillingPeriodStart"], first["BillingPeriodEnd"]) == ("2026-03-01T00:00:00Z", "2026-04-01T00:00:00Z")
    assert json.loads(first["Tags"]) == {"agent": "x", "node": "plan", "team": "cx"}  # Your own tag is never replaced.
    assert (first["x_PrincipalId"], first["x_ConsumerId"], first["BillingAccountId"]) == ("support", "", "default")


def test_price_variants_hits_machines_and_reasoning_are_told_apart(ledger, tmp_path):
    """Another tier is another price; a hit costs nothing; a machine's second has a price; reasoning its own row."""
    rows, _ = exported(ledger, tmp_path)
    by_call = {row["x_CallId"]: row for row in rows}  # The last row of each.
    assert by_call["batch"]["SkuPriceId"] == "claude-haiku-4-5-output-batch"
    assert by_call["cached"]["SkuPriceId"] == "claude-haiku-4-5-output-ondemand"
    hit = by_call["hit"]
    assert (hit["ListCost"], hit["BilledCost"], hit["x_BillingMode"]) == ("0.00025", "0.0", "cache")
    machine = by_call["machine"]
    assert (machine["ConsumedQuantity"], machine["PricingUnit"]) == ("3.0", "Seconds")
    assert (machine["ServiceName"], machine["ServiceProviderName"]) == ("Self-hosted models", "Internal")
    thinking = [row for row in rows if row["x_CallId"] == "thinking"]
    assert [(row["SkuMeter"], row["ConsumedQuantity"]) for row in thinking] == [
        ("Output Tokens", "5.0"),
        ("Reasoning Output Tokens", "10.0"),
    ]
    assert by_call["stated"]["x_CostSource"] == "provider"
    assert by_call["december"]["ChargeCategory"] == "Credit"
    assert by_call["december"]["BillingPeriodEnd"] == "2027-01-01T00:00:00Z"
    assert by_call["discounted"]["BillingAccountId"] == "org-7"
    assert by_call["free"]["SkuId"] == "'=qwen-output"  # No spreadsheet runs a model's name.


def test_real_prices_leave_no_fraction(tmp_path):
    """What the price book makes of a call, every meter used, comes out at the price list's own unit prices."""
    ledger = open_ledger(tmp_path / "priced.db")
    book = PriceBook.default()
    message = AIMessage(
        "",
        response_metadata={"model_name": "gpt-5-mini", "model_provider": "openai"},
        usage_metadata={"input_tokens": 12_345, "output_tokens": 777, "total_tokens": 13_122,
                        "input_token_details": {"cache_read": 2_345}},
    )  # fmt: skip
    cost = book.price_message(message, at=MONDAY)
    meters = {meter: share.amount_usd for meter, share in cost.by_meter.items()}
    counts = Usage(input_tokens=10_000, cache_read_tokens=2_345, output_tokens=777)
    call = a_call("1", usd=str(cost.usd), usage=counts, meter_usd=meters, model="gpt-5-mini")
    ledger.write(call)
    rows, told = exported(ledger, tmp_path)
    ledger.close()
    assert told.agrees
    assert [Decimal(row["ListUnitPrice"]) for row in rows] == [
        share.unit_price_usd * 1_000_000 for share in cost.by_meter.values()
    ]
    assert len(rows) == 3


def test_closed_periods_stay_and_corrections_are_named(tmp_path):
    """A call of closed March that is priced again in May: March's rows keep their sum, May has the correction."""
    ledger = open_ledger(tmp_path / "closed.db")
    old = a_call("late", usd="1")
    ledger.write(old)
    march, april, may = (MONDAY.replace(month=month, day=1, hour=0) for month in (3, 4, 5))
    close_period(ledger, "2026-03", march, april, actor="ada", at=april)
    new = a_call("late", usd="1.5", revision=1)
    ledger.write(new, *adjustments(closed_periods(ledger), [(old, new)], at=may + DAY))
    in_march, told = exported(ledger, tmp_path, since=march, until=april)
    assert told.agrees
    assert sum_usd(Decimal(row["BilledCost"]) for row in in_march) == 1
    (correction,), _ = exported(ledger, tmp_path, since=april)
    ledger.close()
    assert (correction["ChargeCategory"], correction["ChargeClass"], correction["BilledCost"]) == (
        "Adjustment",
        "Correction",
        "0.5",
    )
    assert correction["ChargeDescription"] == "Adjustment: late priced again"
    assert correction["BillingPeriodStart"] == "2026-05-01T00:00:00Z"
    assert lint_focus_1_4_structure("Cost and Usage", [*in_march, correction]).messages() == []


def test_shares_name_who_bears_a_row(ledger, tmp_path):
    """One bearer has columns of its own; several are named with their shares; the rest is nobody's."""
    (tmp_path / "shares.yaml").write_text(
        "rules:\n- where: {agent: support}\n  to: [{team: cx, cost_centre: '4711', share: 1}]\n"
        "- where: {provider: openai}\n  to: [{team: a, share: '1/3'}]\n  remainder: {team: b}\n",
        "utf-8",
    )
    rows, told = exported(ledger, tmp_path, allocation=read_allocation(tmp_path / "shares.yaml"))
    by_call = {row["x_CallId"]: row for row in rows}
    assert (by_call["cached"]["x_Team"], by_call["cached"]["x_CostCentre"]) == ("cx", "4711")
    assert json.loads(by_call["whole"]["x_AllocatedShares"]) == {"a": "1/3", "b": "2/3"}
    assert (by_call["batch"]["x_Team"], by_call["batch"]["x_AllocatedShares"]) == ("", "")
    assert told.agrees


def test_parquet_has_the_same_rows(ledger, tmp_path):
    """Decimals and times as such; the sums are the same."""
    _, told = exported(ledger, tmp_path)
    again = export_focus(
        ledger, tmp_path / "focus.parquet", "1.2", options=Options(users=True, billing_account="org-1")
    )
    table = parquet.read_table(tmp_path / "focus.parquet")
    assert (again.costs, table.num_rows) == (told.costs, told.rows)
    assert sum_usd(table.column("ListCost").to_pylist()) == told.costs["ListCost"]
    assert str(table.schema.field("ListUnitPrice").type) == "decimal128(38, 24)"
    assert table.column("x_ConsumerId").to_pylist()[:4] == ["ada"] * 4
    assert table.column_names == [field.name for field in fields_of("1.2")]


def test_folded_days_are_told(ledger, tmp_path):
    """`finops prune` leaves sums: the file says what it is short of."""
    ledger.prune(MONDAY + DAY)
    rows, told = exported(ledger, tmp_path)
    assert [row["x_CallId"] for row in rows] == ["december"]
    assert not told.agrees
    assert from_sums(ledger) == told.costs["ListCost"] + Decimal(told.elsewhere["ListCost"]) / 10**12


def from_sums(ledger):
    (group,) = ledger.totals(())
    return group.totals.cost_usd


def test_an_unknown_version_is_refused(ledger, tmp_path):
    """There is a mapping for two."""
    with pytest.raises(BadArguments, match=r"choose one of 1\.2, 1\.4"):
        export_focus(ledger, tmp_path / "focus.csv", "1.3")
    assert not (tmp_path / "focus.csv").exists()


NAMES = (
    "=1+1",
    "+1",
    "@x",
    "\t=1",
    "\r\n=x",
    "\u202e=x",
    'a,b"c\nd',
    "\x00x",
    "\U00010000\U0001f389\U000e0001",
    "'q",
    " ",
    "",
)


def test_names_of_every_kind_make_a_sound_file(tmp_path):
    """Formulas, line ends, planes of Unicode, blanks: the file keeps its rows, passes, and runs nothing."""
    ledger = open_ledger(":memory:")
    for number, name in enumerate(NAMES):
        who = {"agent_id": name, "node_path": name, "tags": {name or "k": name}}
        where = {
            "account": name,
            "project": name,
            "region": name,
            "service_tier": name,
            "model": name,
            "provider": name,
        }
        ledger.write(a_call(str(number), meter_usd={"input_tokens": Decimal("0.25")}, **who, **where))
        ledger.write(a_charge(str(number), name=name, unit=name, quantity=Decimal(number)))
    last = datetime(9999, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC)
    ledger.write(replace(a_call("last"), started_at=last, ended_at=last), a_call("back", ended_at=MONDAY - DAY))
    rows, told = exported(ledger, tmp_path)
    assert told.agrees
    assert len(rows) == 2 * len(NAMES) + 2
    assert lint_focus_1_4_structure("Cost and Usage", rows).messages() == []
    assert not [value for row in rows for value in row.values() if value.strip()[:1] in ("=", "+", "-", "@")]
