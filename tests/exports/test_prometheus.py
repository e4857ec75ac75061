"""The Prometheus endpoint, scraped over HTTP, and the dashboard that shows it."""

import json
import re
import socket
from datetime import UTC, datetime
from decimal import Decimal
from urllib.request import urlopen

import pytest
from prometheus_client.parser import text_string_to_metric_families

from langchain_finops import Budget
from langchain_finops.budgets.keys import balance_keys
from langchain_finops.budgets.outside import set_budget
from langchain_finops.errors import BadArguments, LedgerError
from langchain_finops.exports.grafana import dashboard
from langchain_finops.exports.names import COUNTERS, GAUGES, METRICS, READABLE
from langchain_finops.exports.prometheus import LedgerCollector, serving
from langchain_finops.ledger import open_ledger
from langchain_finops.ledger.holds import Settlement
from langchain_finops.records import Attribution
from langchain_finops.testing.records import a_call, a_charge


@pytest.fixture
def ledger(tmp_path):
    made = open_ledger(tmp_path / "ledger.db")
    yield made
    made.close()


def scraped(where):
    """Samples of a scrape: by name and labels, the value."""
    host, port = where
    with urlopen(f"http://{host}:{port}/metrics", timeout=30) as answer:
        text = answer.read().decode()
    return {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def labels(agent="", node="", model="gpt-4.1-mini"):
    return ("agent", agent), ("model", model), ("node", node)


def test_each_scrape_has_what_is_new(ledger):
    """Dollars by agent, node and model; names with quotes and line ends arrive as they are."""
    ledger.write(a_call("1", usd="0.25", agent_id='a "b"\n\\c', node_path="plan"))
    with serving(LedgerCollector(ledger), host="127.0.0.1", port=0) as where:
        first = scraped(where)
        ledger.write(a_call("2", usd="0.5", agent_id='a "b"\n\\c', node_path="plan"), a_charge("h", usd="1"))
        second = scraped(where)
    ours = labels('a "b"\n\\c', "plan")
    assert (first["finops_cost_usd_total", *ours], second["finops_cost_usd_total", *ours]) == (0.25, 0.75)
    assert second["finops_calls_total", *ours] == 2
    assert second["finops_taken_back_cost_usd_total", *ours] == 0  # A nought, so that its first growth is one.
    assert second["finops_cost_usd_total", *labels(model="")] == 1
    assert second[READABLE.prometheus,] == 1
    assert {name for name, *_ in second} >= {metric.prometheus for metric in COUNTERS.values()}


def test_a_restart_goes_on_where_the_last_one_was(ledger):
    """The first scrape of a new exporter is the ledger's sum, not nothing."""
    ledger.write(a_call("1", usd="0.25"))
    values = []
    for number in (2, 3):
        with serving(LedgerCollector(ledger), host="127.0.0.1", port=0) as where:
            values.append(scraped(where)["finops_cost_usd_total", *labels()])
        ledger.write(a_call(str(number), usd="0.25"))  # While nobody looks.
    assert values == [0.25, 0.5]


def test_budgets_of_the_ledger_and_the_policy_file_are_gauges(ledger):
    """The limit, and what is spent of the fullest balance."""
    set_budget(ledger, Budget(usd=2, per="month", scope="user_id", name="monthly"))
    balance = next(key for key in _keys(ledger))
    ledger.settle(Settlement(record=a_call("1", usd="0.5"), amounts={balance: 500_000_000_000}))
    collector = LedgerCollector(ledger, lambda: [Budget(llm_calls=10, per="day", name="calls")])
    with serving(collector, host="127.0.0.1", port=0) as where:
        found = scraped(where)
    monthly, calls = (("budget", "monthly"), ("unit", "usd")), (("budget", "calls"), ("unit", "llm_calls"))
    assert [found[GAUGES[name].prometheus, *monthly] for name in ("limit", "spent", "share")] == [2, 0.5, 0.25]
    assert [found[GAUGES[name].prometheus, *calls] for name in ("limit", "spent", "share")] == [10, 0, 0]


def _keys(ledger):
    """The balance of the monthly budget that a call of ada's now counts on."""
    (limit,) = Budget(usd=2, per="month", scope="user_id", name="monthly").limits()
    return balance_keys(limit, Attribution(user_id="ada"), datetime.now(UTC), run_id="r1")


def test_a_ledger_that_cannot_be_read_has_no_figures(ledger, monkeypatch, caplog):
    """No old ones, no noughts; one word in the log, and the next scrape has them again."""
    ledger.write(a_call("1", usd="0.25"))
    with serving(LedgerCollector(ledger), host="127.0.0.1", port=0) as where:
        with monkeypatch.context() as patch:

            def away(*_: object) -> None:
                raise LedgerError("the disk is away")

            patch.setattr(type(ledger), "look_at", away)
            assert scraped(where) == {(READABLE.prometheus,): 0}
            assert scraped(where) == {(READABLE.prometheus,): 0}
        again = scraped(where)
    assert again["finops_cost_usd_total", *labels()] == 0.25
    assert [record.message for record in caplog.records if "disk" in record.message] == [
        "figures for Prometheus cannot be read: the disk is away"
    ]


def test_a_port_that_is_taken_is_one_sentence(ledger):
    """With the remedy."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with (
            pytest.raises(BadArguments, match=rf"--host 127\.0\.0\.1 --port {port}: .*; choose another\."),
            serving(LedgerCollector(ledger), host="127.0.0.1", port=port),
        ):
            pass


# --- the dashboard ---------------------------------------------------------------------------------------------------

PAGE = json.loads(dashboard())
EXPRESSIONS = [target["expr"] for panel in PAGE["panels"] for target in panel["targets"]]


def test_the_dashboard_asks_for_every_metric_and_no_other():
    """Each name in an expression is served, and each that is served is asked for."""
    asked = {name for text in EXPRESSIONS for name in re.findall(r"\bfinops_\w+", text)}
    assert asked == {metric.prometheus for metric in METRICS if metric.prometheus is not None}
    variables = json.dumps(PAGE["templating"])
    assert set(re.findall(r"\bfinops_\w+", variables)) <= asked


def test_the_dashboard_breaks_down_by_labels_there_are():
    """Names in `by (...)`, in `{...}` and in legends are labels of the metrics in the expression."""
    for panel in PAGE["panels"]:
        for target in panel["targets"]:
            text = target["expr"]
            assert all(text.count(left) == text.count(right) for left, right in ("()", "[]", "{}"))
            named = {name.strip() for part in re.findall(r"by \(([^)]*)\)", text) for name in part.split(",")}
            named |= set(re.findall(r"[{,]\s*(\w+)\s*=", text)) | set(re.findall(r"{{(\w+)}}", target["legendFormat"]))
            of_budgets = "finops_budget" in text
            assert named <= ({"budget", "unit"} if of_budgets else {"agent", "node", "model"})


def test_the_dashboard_fits_and_asks_the_chosen_source():
    """No panel lies on another, none leaves the grid, and each asks the Prometheus that one chooses."""
    taken = set()
    for panel in PAGE["panels"]:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken
        taken |= cells
        assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
    assert len({panel["id"] for panel in PAGE["panels"]}) == len(PAGE["panels"])
    assert [variable["name"] for variable in PAGE["templating"]["list"]] == ["datasource", "agent"]


def test_spend_is_cost_less_credits_less_what_was_taken_back(ledger):
    """The dashboard's spend of a range, worked out by hand from two scrapes: what the ledger says."""
    spend = next(panel for panel in PAGE["panels"] if panel["title"] == "Spend in this range")["targets"][0]["expr"]
    signs = re.findall(r"(?:^| ([-+]) )sum \(increase\((\w+)", spend)
    collector = LedgerCollector(ledger)
    ledger.write(a_call("0", usd="7"))
    with serving(collector, host="127.0.0.1", port=0) as where:
        before = scraped(where)
        ledger.write(a_call("1", usd="0.5"), a_charge("c", usd="-0.25", kind="credit"))
        ledger.write(a_call("1", usd="0.75", revision=1))
        after = scraped(where)
    spent = Decimal(0)
    for sign, name in signs:
        grown = sum(Decimal(value) for key, value in after.items() if key[0] == name)
        grown -= sum(Decimal(value) for key, value in before.items() if key[0] == name)
        spent += -grown if sign == "-" else grown
    assert spent == Decimal("0.5")  # $0.75 for the call as it is now, less the credit.
