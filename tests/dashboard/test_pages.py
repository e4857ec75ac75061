"""The pages as text: the figures of the reports, in their words, whatever the names."""

import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from html import unescape
from html.parser import HTMLParser
from urllib.parse import quote

import pytest

from langchain_finops.budgets.outside import set_budget
from langchain_finops.budgets.policy import Budget
from langchain_finops.budgets.switch import kill
from langchain_finops.dashboard.charts import spend_chart
from langchain_finops.reports.economics import economics
from langchain_finops.reports.live import Watch
from langchain_finops.reports.live_table import amount
from langchain_finops.reports.spend import spend_over_time
from langchain_finops.testing.records import a_call, a_charge, a_run, an_event, an_outcome

PAGES = ("/", "/runs", "/agents", "/models", "/alerts")
EVIL = "<script>alert(1)</script>"


def ago(**span):
    return datetime.now(UTC) - timedelta(**span)


def text_of(response) -> str:
    """What a reader sees, in one line."""
    assert response.status_code == 200, response.text
    body = re.sub(r"<(head|script)\b.*?</\1>", " ", response.text, flags=re.DOTALL)
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", body)).split())


class Tags(HTMLParser):
    """Every tag, that must be closed in order; and what would be script or style in a page."""

    VOID = frozenset({"meta", "link", "input", "br", "rect", "line", "polyline"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag, attrs):
        self.seen.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.seen.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def tags_of(html: str) -> list[tuple[str, dict[str, str | None]]]:
    parser = Tags()
    parser.feed(html)
    assert parser.open == []
    return parser.seen


@pytest.fixture
def filled(ledger):
    """Two agents; one call without a price; a run that runs, one that a budget stopped, a task that failed."""
    set_budget(ledger, Budget(usd=2), by="anna")
    ledger.write(
        a_call("a", usd="1.5", agent_id="support", run_id="r-live", invocation_id="l", node_path="plan/search",
               task_id="t1", step=3, started_at=ago(minutes=4)),
        a_call("b", usd=None, agent_id="coder", model="nobody-knows", provider=None, run_id="r-cut",
               invocation_id="c", node_path="edit", task_id="t2", started_at=ago(minutes=9)),
        a_call("c", usd="0.5", agent_id="coder", run_id="r-cut", invocation_id="c", node_path="edit", task_id="t2",
               started_at=ago(minutes=8)),
        a_charge("h", usd="0.25", agent_id="coder", run_id="r-cut", invocation_id="c", at=ago(minutes=8)),
        a_run("r-cut", invocation_id="c", status="stopped", stop_reason="budget:$2 per run", started_at=ago(minutes=9),
              ended_at=ago(minutes=7), steps=2),
        an_outcome("t2", success=False, at=ago(minutes=5)),
        an_event(at=ago(minutes=3), action="alert", reason="too fast"),
    )  # fmt: skip
    return ledger


def test_every_page_of_an_empty_ledger_says_so(client):
    """No page breaks, and none shows a figure that is not there."""
    for page in PAGES:
        said = text_of(client.get(page))
        assert re.search(r"No call|No run|No task|None", said), page


def test_the_overview_says_what_finops_top_says(filled, client):
    """Rate, hour, today, top agents with their dearest node, running runs with what is left, and alerts."""
    live = Watch(filled).look()
    said = text_of(client.get("/"))
    assert amount(live.hour) == ">= $2.2500"
    assert "now $18.00 /h" in said
    assert f"last hour {amount(live.hour)} 3 calls" in said
    assert "support plan/search 1 $1.5000 66.7% Stop support" in said
    assert "coder edit 2 >= $0.7500 33.3% Stop coder" in said
    assert re.search(r"r-live support \$1.5000 \$0.5000 plan/search 3 \d:\d\d", said)
    assert "too fast" in said


def test_unknown_is_never_zero(ledger, visit):
    """Where no price is known, no page says $0."""
    blind = {"agent_id": "blind", "model": "nobody-knows", "provider": None}
    ledger.write(a_call("a", usd=None, run_id="r", node_path="n", started_at=ago(minutes=1), **blind))
    client = visit()
    for page in ("/", "/runs", "/runs/r", "/agents?agent=blind", "/models"):
        said = text_of(client.get(page))
        assert "unpriced" in said
        assert "$0" not in said, page
        assert page == "/models" or "0.0%" not in said  # There it is the cache rate, which is known.


def test_a_runs_page_tells_why_it_stopped_and_what_each_node_cost(filled, client):
    """Status and reason in a sentence; own and subtree cost; calls and charges; an unpriced call makes a bound."""
    said = text_of(client.get("/runs/r-cut"))
    assert "stopped Budget $2 per run stopped it: its next call would have passed the limit." in said
    assert "cost >= $0.7500 2 calls, 1 charges" in said
    assert "edit 2 >= $0.5000 >= $0.5000" in said
    assert "failure" in said
    assert "tool web_search" in said
    assert client.get("/runs/nobody").status_code == 404


@pytest.mark.parametrize("kept", [True, False])
def test_a_run_that_was_folded_keeps_its_cost(ledger, visit, kept):
    """$0.50 and a charge without a price were folded, $0.25 of the next day may be left: the sum is of both."""
    cut = ago(days=90).replace(hour=0, minute=0, second=0, microsecond=0)
    before, after = cut - timedelta(minutes=1), cut + timedelta(minutes=1)
    ledger.write(
        a_call("a", usd="0.5", run_id="r", invocation_id="i", node_path="plan", started_at=before),
        a_charge("h", usd=None, run_id="r", invocation_id="i", at=before),
        *([a_call("b", usd="0.25", run_id="r", invocation_id="i", node_path="edit", started_at=after)] * kept),
        a_run("r", invocation_id="i", started_at=before, ended_at=after, steps=2),
    )
    client = visit()
    whole = ">= $0.7500 2 calls, 1 charges" if kept else ">= $0.5000 1 calls, 1 charges"
    assert "1 run, " in text_of(client.get("/runs"))
    assert ledger.prune(cut) == 2
    for again in (client, visit()):
        said = text_of(again.get("/runs/r"))
        assert f"cost {whole}" in said
        assert "1 calls and 1 charges were folded into daily sums: they are in the cost above, and not below." in said
        assert "plan" not in said
        assert ("edit 1 $0.2500" in said) is kept


def test_a_charge_without_a_price_makes_a_subtree_a_bound_too(ledger, client):
    """$1 of plan/search and a tool of unknown price: own cost and subtree say at least, and so does plan above it."""
    names = {"run_id": "r", "invocation_id": "i", "agent_id": "a", "node_path": "plan/search"}
    ledger.write(
        a_call("a", usd="1", started_at=ago(minutes=2), **names), a_charge("h", usd=None, at=ago(minutes=1), **names)
    )
    for page in ("/runs/r", "/agents?agent=a"):
        said = text_of(client.get(page))
        assert "plan 0 - >= $1.0000" in said
        assert "search 1 >= $1.0000 >= $1.0000" in said


def test_agents_have_the_figures_of_finops_economics(filled, client):
    """$0.75 that brought no success cost more than that: the table is the command's, against a person too."""
    (coder, *_) = (row for row in economics(filled).rows if row["agent"] == "coder")
    assert coder["agent_usd"] == Decimal("0.75")
    said = text_of(client.get("/agents?wage=25&pace=5&value=2"))
    assert "coder >= $0.7500 (1 unknown) 1/1 0.0%" in said
    assert "A person takes $5.00 a task ($25.00 an hour, 5 tasks)." in said


@pytest.mark.parametrize(
    ("query", "fault"),
    [
        ("wage=abc", "What a person costs an hour: 'abc' is not an amount of money"),
        ("wage=25", "A person needs both"),
        ("wage=1&pace=1e-999999", "Tasks that person does an hour: it is below 0.000001 or above 1,000,000,000,000"),
        ("wage=1e-7&pace=1", "What a person costs an hour: it is below 0.000001"),
        ("value=-1e13", "Worth of a success: it is below 0.000001 or above"),
        ("wage=25&pace=0", "human tasks_per_hour is 0: it is a number above 0."),
    ],
)
def test_a_figure_that_cannot_be_read_is_told(client, query, fault):
    """The page still comes, without it."""
    assert fault in text_of(client.get(f"/agents?{query}"))


def test_an_agents_page_has_its_nodes_alone(filled, client):
    """The tree of one agent: plan has no calls of its own and $1.50 below it."""
    said = text_of(client.get("/agents?agent=support&period=24h"))
    assert "$1.5000 in 24h, 1 calls." in said
    assert "plan 0 - $1.5000 100.0%" in said
    assert "edit" not in said.partition("Was it worth it")[0]


@pytest.mark.parametrize(
    ("span", "first", "second"),
    [
        ("1h", "2026-01-05 11:32 - 11:35", "2026-01-05 11:35 - 11:40"),
        ("7d", "2025-12-29 12:32 - 18:00", "2025-12-29 18:00 - 00:00"),
        ("30d", "2025-12-06 from 12:32", "2025-12-07"),
    ],
)
def test_the_first_bar_says_where_it_begins(ledger, span, first, second):
    """A span begins within an hour or day: its first bar is shorter, and does not look like a whole one."""
    over = spend_over_time(ledger, span, datetime(2026, 1, 5, 12, 32, tzinfo=UTC))
    assert [bar.label for bar in spend_chart(over).bars[:2]] == [first, second]


def test_what_names_no_agent_has_no_list_of_runs(ledger, client):
    """The list can be asked for the runs of an agent, not for those of none: a link would lead to all."""
    ledger.write(
        a_call("a", usd="1", run_id="mine", agent_id=None, started_at=ago(minutes=1)),
        a_call("b", usd="2", run_id="other", agent_id="coder", started_at=ago(minutes=1)),
    )
    assert "$1.0000 in 7d, 1 calls." in text_of(client.get("/agents?agent="))
    assert "Its runs" not in client.get("/agents?agent=").text
    assert 'href="/runs?agent=coder">Its runs' in client.get("/agents?agent=coder").text


def test_runs_are_filtered_sorted_and_searched_by_their_address(filled, client):
    """What the form asks for is in the address, so that a list can be sent to somebody; nonsense is left out."""
    assert "2 runs" in text_of(client.get("/runs?sort=nonsense&page=x&status=odd"))
    assert "1 run, $1.5000" in text_of(client.get("/runs?status=running"))
    found = client.get("/runs?q=R-CUT&agent=coder&sort=cost&order=up")
    assert "r-cut" in text_of(found)
    assert "r-live" not in found.text
    assert 'aria-sort="ascending"' in found.text


def test_alerts_show_kills_budgets_and_who_changed_what(filled, client):
    """The fullest budgets, kills with who and why, and the audit trail."""
    kill(filled, "agent_id", "coder", by="anna", reason="loops")
    said = text_of(client.get("/alerts"))
    assert "Agent coder : stopped by anna at" in said
    assert "until somebody allows it again. Why: loops" in said
    assert "$2 per run" in said
    assert re.search(r"anna kill agent_id=coder loops", said)


@pytest.mark.parametrize(
    "name", [EVIL, '"><img src=x onerror=alert(1)>', "\u202egnp.exe\x1b[2J", "ü𝔘🤖漢字", "{{ 7*191 }}"]
)
def test_names_are_text_whatever_they_hold(client, ledger, name):
    """Agents, nodes, models, users, tasks, runs and reasons: nothing of a name acts as markup or moves letters."""
    ledger.write(
        a_call("a", usd="1", agent_id=name, node_path=name, model=name, user_id=name, task_id=name, run_id=name,
               invocation_id="i", started_at=ago(minutes=1)),
        a_run(name, invocation_id="i", status="failed", stop_reason=name, name=name, started_at=ago(minutes=1)),
        an_outcome(name, success=False, reason=name),
        an_event(at=ago(minutes=1), action="alert", reason=name),
    )  # fmt: skip
    kill(ledger, "agent_id", name, by=name, reason=name)
    links = set()
    for page in PAGES:
        links |= {values["href"] for tag, values in tags_of(client.get(page).text) if tag == "a"}
    mine = {link for link in links if link.startswith(("/runs/", "/agents?"))}
    assert len(mine) >= 2
    for page in (*PAGES, *mine, f"/alerts?scope=agent_id&value={quote(name)}"):
        answer = client.get(page)
        assert answer.status_code == 200, page
        seen = tags_of(answer.text)
        assert [values.get("src") for tag, values in seen if tag == "script"] == ["/static/page.js"]
        assert not [tag for tag, _ in seen if tag in {"img", "style", "iframe"}]
        assert not [key for _, values in seen for key in values if key.startswith("on") or key == "style"]
        assert not set("\x1b\u202e") & set(text_of(answer))
        assert "1337" not in text_of(answer) or name != "{{ 7*191 }}"


def test_pages_are_sound_for_a_screen_reader(filled, client):
    """One main part and heading, a language, labels on fields, names on tables that scroll, ids that are there once."""
    for page in (*PAGES, "/runs/r-cut", "/agents?agent=coder"):
        html = client.get(page).text
        seen = tags_of(html)
        names = [tag for tag, _ in seen]
        assert (names.count("main"), names.count("h1")) == (1, 1), page
        ids = [values["id"] for _, values in seen if "id" in values]
        assert len(ids) == len(set(ids)), page
        for tag, values in seen:
            if tag == "div" and values.get("class") == "scroll":
                assert values.get("role") == "region"
                assert "aria-label" in values or values["aria-labelledby"] in ids
            if tag == "svg":
                assert values.get("aria-hidden") == "true" or values.get("aria-label")
        fields = re.findall(r"<(?:input|select)\b[^>]*>", html)
        hidden = [field for field in fields if 'type="hidden"' in field]
        assert html.count("<label") == len(fields) - len(hidden)


def test_while_a_large_ledger_is_read_each_page_says_so_and_comes_again(client, ledger, monkeypatch):
    """The server answers at once: it is reading; a browser without JavaScript asks again in a second."""
    monkeypatch.setattr("langchain_finops.dashboard.desk.FIRST_PATIENCE_S", 0)
    answer = client.get("/agents?agent=new&period=30d")
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    assert 'http-equiv="refresh" content="1"' in answer.text
