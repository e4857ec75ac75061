"""Bills and exports: every cent, once, whole or not at all; and the ledger against them."""

import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from langchain_finops.errors import BadArguments, BadData
from langchain_finops.ledger import open_ledger
from langchain_finops.reports.bills import read_bill
from langchain_finops.reports.imports import import_bill, read_agents
from langchain_finops.reports.reconcile import reconcile
from langchain_finops.testing.records import a_call
from langchain_finops.usage import Usage

DAY = datetime(2026, 3, 2, tzinfo=UTC)
SECONDS = int(DAY.timestamp())


def openai(*results, has_more=False):
    bucket = {"object": "bucket", "start_time": SECONDS, "end_time": SECONDS + 86_400, "results": list(results)}
    return {"object": "page", "data": [bucket], "has_more": has_more, "next_page": None}


def cost(value, item="gpt-4.1-mini, input", project="proj_a", **more):
    amount = {"value": value, "currency": "usd"}
    return {"amount": amount, "line_item": item, "project_id": project, "organization_id": "org", **more}


def anthropic(*results):
    bucket = {"starting_at": "2026-03-02T00:00:00Z", "ending_at": "2026-03-03T00:00:00Z", "results": list(results)}
    return {"data": [bucket], "has_more": False, "next_page": None}


def written(tmp_path, data, name="bill.json"):
    path = tmp_path / name
    path.write_text(data if isinstance(data, str) else json.dumps(data), "utf-8")
    return path


@pytest.fixture
def ledger(tmp_path):
    opened = open_ledger(tmp_path / "ledger.db")
    yield opened
    opened.close()


def by(ledger, name):
    return {group.key[0]: group.totals.cost_usd for group in ledger.totals((name,))}


def test_an_openai_cost_report_gives_every_cent_a_project_and_an_agent_where_it_can(ledger, tmp_path):
    """Two lines of a project with an agent, one of none: $0.06 and $0.10 are support's, a tenth of a cent nobody's."""
    path = written(tmp_path, openai(cost(0.06), cost(0.1, "gpt-4.1-mini, output"), cost(0.001, None, None)))
    agents = read_agents(written(tmp_path, "proj_a: support\n", "agents.yaml"))
    done = import_bill(ledger, read_bill(path, "openai"), agents)

    assert [(row["project"], row["agent"], row["cost_usd"]) for row in done.rows] == [
        ("proj_a", "support", Decimal("0.16")), (None, None, Decimal("0.001")),
    ]  # fmt: skip
    assert by(ledger, "agent") == {"support": Decimal("0.16"), None: Decimal("0.001")}
    assert by(ledger, "project") == {"proj_a": Decimal("0.16"), None: Decimal("0.001")}
    assert by(ledger, "model") == {"gpt-4.1-mini": Decimal("0.16"), None: Decimal("0.001")}
    assert {call.cost_status for call in ledger.calls()} == {"reported"}


def test_importing_twice_changes_nothing_and_a_correction_is_a_new_version(ledger, tmp_path):
    """The provider's later amount replaces its earlier one; the history keeps both. A credit is negative."""
    bill = read_bill(written(tmp_path, openai(cost(0.06), cost(-0.02, "credit"))))
    assert import_bill(ledger, bill).new == 2
    again = import_bill(ledger, bill)
    assert (again.new, again.corrected, again.known) == (0, 0, 2)
    later = import_bill(ledger, read_bill(written(tmp_path, openai(cost(0.07), cost(-0.02, "credit")))))
    assert (later.new, later.corrected, later.known) == (0, 1, 1)
    assert by(ledger, "provider") == {"openai": Decimal("0.05")}
    assert len(list(ledger.calls(history=True))) == 3


def test_an_anthropic_cost_report_is_in_cents(ledger, tmp_path):
    """ "123.78912" is $1.2378912. Lines that nothing tells apart are added up, not dropped."""
    line = {"currency": "USD", "amount": "123.78912", "workspace_id": "wrk", "description": "Claude Sonnet Usage",
            "cost_type": "tokens", "context_window": "0-200k", "model": "claude-sonnet-4-5", "service_tier": "standard",
            "token_type": "output_tokens"}  # fmt: skip
    bill = read_bill(written(tmp_path, anthropic(line, {**line, "token_type": "uncached_input_tokens"}, line)))
    done = import_bill(ledger, bill)
    assert (bill.kind, done.new) == ("anthropic", 2)
    assert by(ledger, "project") == {"wrk": Decimal("3.7136736")}
    assert import_bill(ledger, bill).known == 2


def test_litellm_spend_logs_are_calls(ledger, tmp_path):
    """Agent by the key's alias, team as the project, tokens and cents; no spend is unknown, not free."""
    row = {"request_id": "r1", "api_key": "hash", "spend": 0.25, "prompt_tokens": 100, "completion_tokens": 20,
           "startTime": "2026-03-02T10:00:00.000Z", "endTime": "2026-03-02T10:00:02Z", "model": "gpt-4.1-mini",
           "custom_llm_provider": "openai", "team_id": "cx", "end_user": "u", "cache_hit": "False",
           "metadata": {"user_api_key_alias": "support"}}  # fmt: skip
    lines = "\n".join(json.dumps(each) for each in (row, {**row, "request_id": "r2", "spend": None, "metadata": {}}))
    done = import_bill(ledger, read_bill(written(tmp_path, lines, "spend.jsonl"), "litellm"))
    assert [(row["agent"], row["cost_usd"], row["unpriced"]) for row in done.rows] == [
        ("support", Decimal("0.25"), 0), (None, None, 1),
    ]  # fmt: skip
    (call, _) = ledger.calls()
    assert (call.usage.input_tokens, call.usage.output_tokens, call.attribution.user_id) == (100, 20, "u")
    assert import_bill(ledger, read_bill(tmp_path / "spend.jsonl")).known == 2


def test_langsmith_runs_are_calls_where_they_asked_a_model(ledger, tmp_path):
    """Only runs of type llm cost: the chain above them has the same cost once more."""
    run = {"id": "a", "trace_id": "t", "run_type": "llm", "start_time": "2026-03-02T10:00:00", "end_time": None,
           "prompt_tokens": 10, "completion_tokens": 2, "total_cost": "0.5", "session_name": "prod",
           "extra": {"metadata": {"ls_provider": "openai", "ls_model_name": "gpt-4.1-mini", "agent_id": "support",
                                  "task_id": "t-1", "langgraph_node": "plan"}}}  # fmt: skip
    bill = read_bill(written(tmp_path, [run, {**run, "id": "b", "run_type": "chain"}]))
    done = import_bill(ledger, bill)
    (call,) = ledger.calls()
    assert (bill.kind, done.new, call.run_id, call.attribution.node_path) == ("langsmith", 1, "t", "plan")
    assert (call.attribution.task_id, call.cost_usd) == ("t-1", Decimal("0.5"))


@pytest.mark.parametrize(
    ("data", "told"),
    [
        ('{"data": [{"start_time": 1', ["is no JSON"]),
        (openai(cost(0.06), has_more=True), ["says has_more"]),
        (openai(cost("much"), cost(1, currency="x"), {"x": 1}), ["results[0]: amount", "[2]: amount: is missing"]),
        (openai({"amount": {"value": 1, "currency": "eur"}}), ["currency: is 'eur'"]),
        ({"data": [{"start_time": "soon", "end_time": 1, "results": []}]}, ["start_time: is 'soon'"]),
        ({"data": [{"start_time": 1}]}, ["is no bucket with results"]),
        ([1, {"start_time": 1}], ["[0]: is no object"]),
        ('{"request_id": "r"}\n{"request_id": ', [":2: is no JSON"]),
        ({"request_id": "r", "startTime": "2026-03-02", "spend": True, "prompt_tokens": -1}, ["spend", "prompt"]),
    ],
)  # fmt: skip
def test_every_fault_is_told_at_once_and_nothing_is_read(tmp_path, data, told):
    """A half-written file, a page that is missing, amounts in another currency."""
    with pytest.raises(BadData) as raised:
        read_bill(written(tmp_path, data))
    for part in told:
        assert part in str(raised.value)


def test_nobodys_file_and_a_usage_report_are_refused(ledger, tmp_path):
    """Tokens have no dollars: the cost report has."""
    with pytest.raises(BadArguments, match="is no report of OpenAI"):
        read_bill(written(tmp_path, {"hello": 1}))
    usage = openai({"input_tokens": 5, "output_tokens": 1, "num_model_requests": 1, "model": "m"})
    with pytest.raises(BadArguments, match="import the cost report instead"):
        import_bill(ledger, read_bill(written(tmp_path, usage)))
    with pytest.raises(BadData, match="name an agent"):
        read_agents(written(tmp_path, "proj: [1]\n", "agents.yaml"))
    assert list(ledger.calls()) == []


# --- reconcile --------------------------------------------------------------------------------------------------------


def at(hours):
    return DAY + timedelta(hours=hours)


def test_totals_that_agree_agree_and_each_difference_has_a_name(ledger, tmp_path):
    """Mini agrees within 1%; nano is more in the file; one model is only there, one only here; one has no price."""
    ledger.write(
        a_call("1", usd="0.994", model="mini", started_at=at(1)), a_call("2", usd="1", model="nano", started_at=at(2)),
        a_call("3", usd="3", model="ours", started_at=at(3)), a_call("4", usd=None, model="new", started_at=at(4)),
        a_call("5", usd="9", model="mini", started_at=at(30)), a_call("6", usd="9", provider="x", started_at=at(5)),
    )  # fmt: skip
    items = [cost(0.6, "mini, input"), cost(0.4, "mini, output"), cost(2, "nano, input"), cost(4, "theirs, input"),
             cost(0.5, "new, input")]  # fmt: skip
    found = reconcile(ledger, read_bill(written(tmp_path, openai(*items))), ("day", "model"))
    assert {row["model"]: (row["difference"], row["what"]) for row in found.rows} == {
        "mini": (Decimal("-0.006"), "agrees"),
        "nano": (-1, "more in the file"),
        "theirs": (-4, "only in the file"),
        "ours": (3, "only in the ledger"),
        "new": (Decimal("-0.5"), "unpriced calls"),
    }
    assert {row["day"] for row in found.rows} == {"2026-03-02"}
    assert not found.agrees


def test_a_line_without_an_amount_is_not_nothing(ledger, tmp_path):
    """The stated dollar is the ledger's; what the other line comes to is not known: the row does not agree."""
    ledger.write(a_call("1", usd="1", model="mini", started_at=at(1)))
    bill = read_bill(written(tmp_path, openai(cost(1, "mini, input"), cost(None, "mini, output"))))
    found = reconcile(ledger, bill, ("day", "model"))

    assert [(row["theirs"], row["unstated"], row["what"]) for row in found.rows] == [(1, 1, "lines without an amount")]
    assert not found.agrees
    assert "Lines of the file without an amount: 1." in " ".join(found.table("").notes)


def test_lines_that_nothing_tells_apart_are_unknown_together_where_one_is(ledger, tmp_path):
    """$1, an amount that is not said, and $2 of the same line: their sum is not $3."""
    bill = read_bill(written(tmp_path, openai(cost(1), cost(None), cost(2), cost(4, "other, input"))))
    done = import_bill(ledger, bill)

    assert sorted((call.cost_usd is None, call.cost_usd or 0, call.cost_status) for call in ledger.calls()) == [
        (False, 4, "reported"), (True, 0, "unpriced"),
    ]  # fmt: skip
    assert [(row["cost_usd"], row["unpriced"]) for row in done.rows] == [(4, 1)]
    assert import_bill(ledger, bill).known == 2


def test_keys_projects_and_tokens_are_compared_where_the_file_has_them(ledger, tmp_path):
    """A usage report compares tokens by key; a replay was not billed; what was imported does not agree with itself."""
    usage = Usage(input_tokens=70, cache_read_tokens=30, output_tokens=20)
    ledger.write(a_call("1", usd="1", model="m", account="key_1", usage=usage, started_at=at(1)))
    result = {"input_tokens": 100, "input_cached_tokens": 30, "output_tokens": 20, "num_model_requests": 1,
              "model": "m", "api_key_id": "key_1"}  # fmt: skip
    found = reconcile(ledger, read_bill(written(tmp_path, openai(result))))
    assert [(row["key"], row["unit"], row["theirs"], row["ours"]) for row in found.rows] == [
        ("key_1", "tokens", 120, 120)
    ]
    assert found.agrees
    bill = read_bill(written(tmp_path, openai(cost(1, "m, input", api_key_id="key_1"))))
    import_bill(ledger, bill)
    assert [row["ours"] for row in reconcile(ledger, bill).rows] == [1]
    with pytest.raises(BadArguments, match="cannot compare by 'agent'"):
        reconcile(ledger, bill, ("agent",))


def test_calls_that_a_handler_recorded_are_counted_as_a_warning(ledger, tmp_path):
    """The same cost twice would be wrong by all of it."""
    ledger.write(a_call("1", started_at=at(1)))
    assert import_bill(ledger, read_bill(written(tmp_path, openai(cost(1))))).metered == 1
