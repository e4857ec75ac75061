"""LLM judges: the real openevals on the real OpenAI SDK, against a server on this machine."""

import asyncio
import json
import threading
from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import TYPE_CHECKING

import pytest
from tests.integration.provider_server import Answer, ProviderServer, openai_usage, provider_server

from langchain_finops.errors import BadData, RecordingMissing
from langchain_finops.evals.dataset import load_dataset
from langchain_finops.evals.prepare import Options
from langchain_finops.evals.results import Verdict, read_verdicts
from langchain_finops.evals.resume import Results, table_of
from langchain_finops.evals.runner import arun
from langchain_finops.evals.scoring import ScoreOptions, score
from langchain_finops.evals.suite import load_suite
from langchain_finops.ledger import open_ledger

if TYPE_CHECKING:
    from tests.evals.conftest import Workshop

SUITE = """
target: agent:build
scorers:
  - {{type: contains, name: text}}
  - type: judge
    name: right
    model:
      {{model: "openai:gpt-4.1-nano", base_url: "{url}/v1", api_key: "${{JUDGE_KEY}}",
       max_retries: 0, max_tokens: 20}}
    prompt: "Question: {{inputs}}\\nAnswer: {{outputs}}\\nReference: {{reference_outputs}}"
configurations: [{{name: right}}, {{name: wrong, wrong: true}}]
concurrency: 1
cards:
  hosted: [{{id: hosted, match: {{model: "gpt-4.1*"}}, rates: {{input_tokens: 1, output_tokens: 10}}}}]
"""
YES, NO = True, False
# 200 tokens at $1 a million and 20 at $10 a million.
JUDGED_USD = Decimal("0.0004")


def says(score: object, reasoning: str = "because", **more: object) -> Answer:
    """A judge's answer."""
    text = json.dumps({"reasoning": reasoning, "score": score})
    usage = openai_usage(200, 20)
    return Answer(**{"text": text, "usage": usage, "model": "gpt-4.1-nano-2025-04-14", **more})


@pytest.fixture
def judge(workshop: "Workshop", monkeypatch: pytest.MonkeyPatch) -> Iterator[ProviderServer]:
    monkeypatch.setenv("JUDGE_KEY", "secret-of-the-judge")
    with provider_server() as server:
        server.answers = [says(YES)]
        workshop.suite(SUITE.format(url=server.url))
        workshop.data(number=[1])
        yield server


def by_scorer(results: Results, name: str = "right") -> Mapping[str, Verdict]:
    return {verdict.configuration: verdict for verdict in results.verdicts if verdict.scorer == name}


def test_a_judge_says_whether_an_answer_is_right_and_its_cost_stands_apart(
    judge: ProviderServer, workshop: "Workshop"
) -> None:
    """Its verdict, cost, model as resolved and prompt's hash are kept; no configuration's cost has any of it."""
    judge.answers = [says(YES), says(NO, "it is off by one")]

    results = workshop.run(concurrency=1)

    right, wrong = by_scorer(results)["right"], by_scorer(results)["wrong"]
    assert (right.success, right.score, right.reason) == (True, 1.0, "because")
    assert (wrong.success, wrong.score, wrong.reason) == (False, 0.0, "it is off by one")
    assert (right.cost_usd, right.known_usd, right.calls) == (JUDGED_USD, JUDGED_USD, 1)
    assert right.model == "gpt-4.1-nano-2025-04-14"
    assert right.prompt_hash
    assert right.stop_reason is None
    asked = judge.seen[0].body["messages"][0]["content"]
    assert asked == 'Question: {"do": "answer", "number": 1}\nAnswer: 2\nReference: 2'
    # The agent's own call: 100 tokens in and 10 out.
    assert [attempt.cost_usd for attempt in results.attempts] == [Decimal("0.0002")] * 2
    assert [attempt.overhead_usd for attempt in results.attempts] == [0, 0]
    row = table_of(results).rows[0]
    assert (row["total_cost_usd"], row["judge_cost_usd"], row["judge_calls"]) == (Decimal("0.0002"), JUDGED_USD, 1)
    assert row["cost_per_success_usd"] == pytest.approx(0.0002)


def test_a_judges_calls_are_in_the_ledger_under_their_own_role(judge: ProviderServer, workshop: "Workshop") -> None:
    """What judging cost can be looked up, and is no cost of the task."""
    workshop.run()

    ledger = open_ledger(str(workshop.results / "ledger.db"))
    roles = [(call.attribution.role, call.cost_usd) for call in ledger.calls()]
    ledger.close()
    assert sorted(roles) == [("agent", Decimal("0.0002"))] * 2 + [("judge", JUDGED_USD)] * 2


def test_a_threshold_asks_for_a_score(judge: ProviderServer, workshop: "Workshop") -> None:
    """With a threshold the judge gives a score from 0 to 1, and a score at the threshold is a success."""
    workshop.suite(SUITE.format(url=judge.url).replace("    name: right\n", "    name: right\n    threshold: 0.7\n"))
    judge.answers = [says(0.7), says(0.69)]

    results = workshop.run(concurrency=1)

    assert [(each.success, each.score) for each in by_scorer(results).values()] == [(True, 0.7), (False, 0.69)]


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (says("certainly"), "'certainly' found, true or false is expected"),
        (says(0.5), "0.5 found, true or false is expected"),
        (says(YES, text="I think it is right."), "gave no verdict"),
        (says(YES, text='{"reasoning": "no score"}'), "gave no verdict: KeyError: 'score'"),
        (Answer(status=400), "gave no verdict: "),
    ],
)
def test_what_is_no_verdict_cannot_tell(judge: ProviderServer, workshop: "Workshop", answer: Answer, told: str) -> None:
    """An answer that is no verdict, or a request that the judge refuses, is unscored: neither wrong nor right."""
    judge.answers = [answer]

    results = workshop.run()

    verdict = by_scorer(results)["right"]
    assert verdict.success is None
    assert told in str(verdict.reason)
    assert (verdict.stop_reason, verdict.calls) == (None, 1)
    assert verdict.cost_usd == (JUDGED_USD if answer.status == 200 else 0)
    assert table_of(results).rows[0]["unjudged"] == 1


def test_an_outage_of_the_judge_is_tried_again_and_told_apart(
    judge: ProviderServer, workshop: "Workshop", monkeypatch: pytest.MonkeyPatch
) -> None:
    """As attempts are: so often as the suite says, then it is an outage, which --retry-errors asks again."""
    monkeypatch.setattr("langchain_finops.evals.court.LONGEST_WAIT_S", 0.0)
    workshop.suite(SUITE.format(url=judge.url) + "tries: 2\n")
    judge.answers = [Answer(status=500), says(YES), Answer(status=500), Answer(status=500), says(YES)]

    results = workshop.run(concurrency=1, retry_errors=False)

    right, wrong = by_scorer(results)["right"], by_scorer(results)["wrong"]
    assert (right.success, right.calls, right.stop_reason) == (True, 2, None)
    assert (wrong.success, wrong.calls, wrong.stop_reason) == (None, 2, "infrastructure")
    assert str(wrong.reason).startswith("the judge could not be reached: ")
    assert str(wrong.reason).endswith("Error (HTTP status 500)")

    workshop.run()
    assert len(judge.seen) == 4, "an outage is not asked about again by itself"

    again = by_scorer(workshop.run(retry_errors=True))
    assert (again["wrong"].success, len(judge.seen)) == (True, 5)


def test_what_is_judged_is_on_disk_and_paid_once(judge: ProviderServer, workshop: "Workshop") -> None:
    """Running again asks no judge about what it has said; a changed prompt asks anew, and keeps the old verdicts."""
    workshop.run()
    workshop.run()
    assert len(judge.seen) == 2

    workshop.suite(SUITE.format(url=judge.url).replace("Question:", "Asked:"))
    results = workshop.run()

    assert len(judge.seen) == 4
    assert len(results.attempts) == 2
    kept, _ = read_verdicts(workshop.results)
    assert len({each.prompt_hash for each in kept if each.scorer == "right"}) == 2


def test_the_judges_count_on_the_runs_money(judge: ProviderServer, workshop: "Workshop") -> None:
    """With --max-usd the run ends where agents and judges together have spent it; a higher one goes on."""
    workshop.data(number=[1, 2, 3])
    # An attempt and its verdict cost 0.0006. After two of them 0.0003 are left, and the next may cost 0.0006.
    results = workshop.run(max_usd="0.0015", concurrency=1)

    assert len(results.attempts) == len(judge.seen) == 2
    assert "$0.0012 of at most $0.0015 are spent" in results.run["stopped"]

    assert len(workshop.run(max_usd="0.01").attempts) == 6
    assert len(judge.seen) == 6


def test_a_judge_that_would_break_the_maximum_is_not_asked(judge: ProviderServer, workshop: "Workshop") -> None:
    """The answer stays, unscored, until there is money for the judge; then it alone is bought."""
    results = workshop.run(max_usd="0.00025", concurrency=1)

    assert judge.seen == []
    verdict = by_scorer(results)["right"]
    assert (verdict.success, verdict.stop_reason, verdict.cost_usd) == (None, "max_usd", 0)
    assert "what is left of --max-usd is not enough" in results.run["stopped"]

    workshop.calls()
    again = workshop.run(max_usd="0.0006")
    assert by_scorer(again)["right"].success is True
    assert workshop.calls() == [], "no answer is bought twice"
    assert len(judge.seen) == 1


def test_a_judge_without_a_price_is_refused_before_anything_is_bought(
    judge: ProviderServer, workshop: "Workshop"
) -> None:
    """Its cost could break the maximum unseen."""
    workshop.suite(SUITE.format(url=judge.url).replace("gpt-4.1-nano", "of-our-own"))

    with pytest.raises(BadData, match=r"scorer right: model: the price of 'openai:of-our-own' is not known"):
        workshop.run(max_usd=1)

    assert judge.seen == []
    assert workshop.calls() == []


def test_an_unpriced_judge_costs_an_unknown_amount(judge: ProviderServer, workshop: "Workshop") -> None:
    """Without a maximum it is asked; what it cost is unknown, and never 0."""
    workshop.suite(SUITE.format(url=judge.url).replace("gpt-4.1-nano", "of-our-own"))
    judge.answers = [says(YES, model="of-our-own")]

    verdict = by_scorer(workshop.run())["right"]

    assert (verdict.success, verdict.cost_usd, verdict.known_usd, verdict.calls) == (True, None, 0, 1)


def test_a_judge_is_recorded_and_replayed(
    judge: ProviderServer, workshop: "Workshop", monkeypatch: pytest.MonkeyPatch
) -> None:
    """A replay needs neither the judge nor its key, says the same, and costs the same at list price."""
    workshop.suite(SUITE.format(url=judge.url) + "recording: calls.jsonl\n")
    recorded = workshop.run(mode="record")
    judge.answers = [Answer(status=500)]
    monkeypatch.delenv("JUDGE_KEY")

    replayed = workshop.run(mode="replay", concurrency=2)

    assert len(judge.seen) == 2
    told = [(each.success, each.score, each.reason, each.cost_usd, each.model) for each in recorded.verdicts]
    assert sorted(map(repr, told)) == sorted(
        repr((each.success, each.score, each.reason, each.cost_usd, each.model)) for each in replayed.verdicts
    )
    text = (workshop.folder / "calls.jsonl").read_text()
    assert '"scorer": "right"' in text
    assert "secret-of-the-judge" not in text
    ledger = open_ledger(str(replayed.run["ledger"]))
    assert {call.billed_usd for call in ledger.calls() if call.attribution.role == "judge"} == {Decimal(0)}
    ledger.close()


def test_a_replay_that_lacks_a_judges_call_says_so(judge: ProviderServer, workshop: "Workshop") -> None:
    """A changed prompt was never asked: the error names slot and scorer."""
    workshop.suite(SUITE.format(url=judge.url) + "recording: calls.jsonl\n")
    workshop.run(mode="record")
    workshop.suite((SUITE.format(url=judge.url) + "recording: calls.jsonl\n").replace("Question:", "Asked:"))

    with pytest.raises(RecordingMissing, match=r"task 't1', repeat 0, scorer 'right'.*differs from what was recorded"):
        workshop.run(mode="replay")


def test_a_function_may_make_the_judge(judge: ProviderServer, workshop: "Workshop") -> None:
    """`function` names what returns the chat model, and its code decides whether verdicts still hold."""
    (workshop.folder / "helper.py").write_text(
        "from langchain_openai import ChatOpenAI\n\n"
        f"def small():\n    return ChatOpenAI(model='gpt-4.1-nano', base_url='{judge.url}/v1', api_key='k')\n"
    )
    lines = SUITE.format(url=judge.url).splitlines()
    lines = ["    function: helper:small" if '{model: "openai' in line else line for line in lines]
    lines = [line for line in lines if line != "    model:" and "max_tokens" not in line]
    workshop.suite("\n".join(lines))

    assert by_scorer(workshop.run())["right"].success is True


def test_a_trajectory_judge_reads_what_the_agent_did(judge: ProviderServer, workshop: "Workshop") -> None:
    """Messages and tool calls with their arguments are in the prompt; an answer without messages cannot be told."""
    (workshop.folder / "agent.py").write_text(MESSAGES)
    suite = SUITE.format(url=judge.url).replace("type: judge", "type: trajectory_judge")
    lines = [line for line in suite.splitlines() if "prompt:" not in line and "type: contains" not in line]
    workshop.suite("\n".join(lines))

    assert by_scorer(workshop.run())["right"].success is True

    asked = judge.seen[0].body["messages"][0]["content"]
    told = 'user: 1 lamp\n\nai: \ncalls price({"of": "lamp"})\n\ntool: 3.50\n\nassistant: It is 3.50.'
    assert told.replace("ai: \n", "assistant:\n") in asked


MESSAGES = """
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langchain_core.runnables import RunnableLambda

def build(configuration):
    call = {"name": "price", "args": {"of": "lamp"}, "id": "1"}
    said = [HumanMessage("1 lamp"), AIMessage("", tool_calls=[call]), ToolMessage("3.50", tool_call_id="1")]
    return RunnableLambda(lambda _: {"messages": [*said, AIMessage("It is 3.50.")]})
"""


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("prompt: 'no field'", r"no field cannot be read: No such file or directory; a text has \{outputs\} in it"),
        ("prompt: 'Is it right? {inputs}'", r"prompt: there is no \{outputs\} in it"),
        ("prompt: '{outputs} {\"score\": 1}'", "a brace that is none of a field's is written twice"),
        ("prompt: CORRECTNES_PROMPT", "openevals has no prompt CORRECTNES_PROMPT: CORRECTNESS_PROMPT is meant"),
        ("prompt: '{outputs} {context}'", r"tasks.jsonl:1: scorer 'right' asks its judge about \{context\}"),
        ("function: agent:build", "model: stands beside `function`: keep one of them"),
        ("reasoning: 3", "reasoning: 3 found: true or false is expected"),
        ("threshold: 2", "threshold: 2 found: a number from 0 to 1 is expected"),
        ("continuous: true", "scorers.1..continuous: is not known"),
    ],
)
def test_a_judge_that_cannot_be_asked_is_refused(
    judge: ProviderServer, workshop: "Workshop", line: str, told: str
) -> None:
    """Before anything is bought, naming the field and the remedy."""
    lines = SUITE.format(url=judge.url).splitlines()
    if line.startswith("prompt"):
        lines = [each for each in lines if "prompt:" not in each]
    workshop.suite("\n".join([*lines[:5], "    " + line, *lines[5:]]))

    with pytest.raises(BadData, match=told):
        workshop.run()

    assert judge.seen == []


def test_a_prompt_may_ask_about_any_field_of_an_item(judge: ProviderServer, workshop: "Workshop") -> None:
    """Fields of inputs, outputs and metadata, in this order; a file beside the suite holds the prompt."""
    item = {"id": "t1", "inputs": {"number": 1}, "outputs": {"answer": "2"}, "metadata": {"context": "arithmetic {x}"}}
    workshop.dataset.write_text(json.dumps(item) + "\n")
    (workshop.folder / "prompt.txt").write_text("{context}: {number} doubled is {outputs}, as {{a brace}}")
    lines = SUITE.format(url=judge.url).splitlines()
    lines = ["    prompt: prompt.txt" if "prompt:" in line else line for line in lines]
    workshop.suite("\n".join(lines))

    workshop.run()

    assert judge.seen[0].body["messages"][0]["content"] == "arithmetic {x}: 1 doubled is 2, as {a brace}"


def test_without_the_extra_the_pip_line_is_told(
    judge: ProviderServer, workshop: "Workshop", monkeypatch: pytest.MonkeyPatch
) -> None:
    """A judge without openevals is refused before anything is bought."""
    monkeypatch.setattr("langchain_finops.evals.judge_prompts.find_spec", lambda name: None)

    with pytest.raises(Exception, match=r"a judge needs an extra: pip install 'langchain-finops\[judge\]'"):
        workshop.run()

    assert workshop.calls() == []


def test_verdicts_lost_in_a_crash_are_paid_once_more_and_counted(judge: ProviderServer, workshop: "Workshop") -> None:
    """The judge's call in the ledger counts; another may have been on its way, so that the cost is at least that."""
    workshop.run(concurrency=1)
    scores = workshop.results / "scores.jsonl"
    kept = [line for line in scores.read_text().splitlines() if not ('"right"' in line and '"scorer": "right"' in line)]
    scores.write_text("".join(line + "\n" for line in kept))

    results = workshop.run(concurrency=1)

    assert len(judge.seen) == 4
    mine = [verdict for verdict in results.verdicts if verdict.scorer == "right"]
    assert [verdict.stop_reason for verdict in mine] == ["interrupted", "interrupted", None, None]
    assert [(verdict.cost_usd, verdict.known_usd) for verdict in mine] == [(None, JUDGED_USD)] * 2 + [
        (JUDGED_USD, JUDGED_USD)
    ] * 2
    row = table_of(results).rows[0]
    assert (row["judge_cost_usd"], row["judge_calls"]) == (None, 2), "unknown, and not what is known of it"


def test_verdicts_lost_in_a_crash_cost_what_they_would_now(judge: ProviderServer, workshop: "Workshop") -> None:
    """Prices doubled between the crash and the next run: the lost call counts twice what it did, in the ledger too."""
    workshop.run(concurrency=1)
    scores = workshop.results / "scores.jsonl"
    lines = scores.read_text().splitlines(keepends=True)
    scores.write_text("".join(line for line in lines if '"configuration": "right"' not in line))
    double = SUITE.replace("input_tokens: 1, output_tokens: 10", "input_tokens: 2, output_tokens: 20")
    workshop.suite(double.format(url=judge.url))

    results = workshop.run(concurrency=1)

    mine = [verdict for verdict in results.verdicts if verdict.scorer == "right"]
    assert sorted(verdict.stop_reason or "" for verdict in mine) == ["", "", "interrupted"]
    assert [verdict.known_usd for verdict in mine] == [2 * JUDGED_USD] * 3
    ledger = open_ledger(str(workshop.results / "ledger.db"))
    costs = [call.cost_usd for call in ledger.calls() if call.attribution.role == "judge"]
    ledger.close()
    assert costs == [2 * JUDGED_USD] * 3


async def test_ctrl_c_while_a_judge_thinks_loses_neither_answer_nor_cost(
    judge: ProviderServer, workshop: "Workshop"
) -> None:
    """What its call may have cost is on disk, and so is the answer; the same command asks about it again."""
    release = threading.Event()
    judge.answers = [says(YES, wait_for=release), says(YES)]
    suite = load_suite(workshop.folder / "tasks.yaml")
    running = asyncio.create_task(arun(load_dataset(workshop.dataset), suite, Options(concurrency=1)))
    await asyncio.to_thread(judge.arrived.wait, 60)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    release.set()
    workshop.calls()

    (kept,) = [verdict for verdict in read_verdicts(workshop.results)[0] if verdict.scorer == "right"]
    assert (kept.success, kept.stop_reason, kept.calls) == (None, "interrupted", 1)
    assert kept.cost_usd is not None
    assert kept.cost_usd > 0

    results = await arun(load_dataset(workshop.dataset), suite, Options(concurrency=1))

    assert workshop.calls() == ["answer 1"], "of the other configuration"
    assert len(judge.seen) == 3
    said = [verdict for verdict in results.verdicts if verdict.scorer == "right"]
    assert [verdict.success for verdict in said] == [None, True, True]
    assert table_of(results).rows[0]["judge_cost_usd"] == kept.cost_usd + JUDGED_USD


def test_a_judge_killed_in_the_middle_has_cost_an_unknown_amount(judge: ProviderServer, workshop: "Workshop") -> None:
    """It began to be asked, and neither a verdict nor a call tells what came of it: unknown, and not nothing."""
    workshop.run(concurrency=1)
    scores = workshop.results / "scores.jsonl"
    scores.write_text("")
    (workshop.results / "ledger.db").unlink()

    results = workshop.run(concurrency=1)

    mine = [verdict for verdict in results.verdicts if verdict.scorer == "right"]
    assert [(verdict.stop_reason, verdict.cost_usd, verdict.calls) for verdict in mine] == [
        *[("interrupted", None, 0)] * 2,
        *[(None, JUDGED_USD, 1)] * 2,
    ]


def test_judges_that_start_together_do_not_break_the_maximum(judge: ProviderServer, workshop: "Workshop") -> None:
    """Each costs 40 times what its attempt may: the first is asked alone, and from then on as much is set aside."""
    suite = SUITE.format(url=judge.url).replace("concurrency: 1", "concurrency: 8\nlimits: {usd: 0.001}")
    workshop.suite(suite.replace("max_tokens: 20", "max_tokens: 2000"))
    workshop.data(number=[1, 2, 3, 4])
    judge.answers = [says(YES, usage=openai_usage(20_000, 2_000))]

    results = workshop.run(max_usd="0.05")

    # A verdict costs 0.04, and none is asked for beyond the first.
    assert len(judge.seen) == 1
    spent = sum(each.known_usd for each in (*results.attempts, *results.verdicts))
    assert Decimal("0.04") < spent < Decimal("0.05")
    assert results.run["stopped"]


def test_what_a_judge_paid_before_its_money_ended_counts(judge: ProviderServer, workshop: "Workshop") -> None:
    """One of two tiers: the cheap one is paid, the dear one refused, and all of it asked again with more money."""
    (workshop.folder / "helper.py").write_text(
        "from langchain_finops.levers import Tier, TieredChatModel\n"
        "from langchain_openai import ChatOpenAI\n\n"
        "def model(length):\n"
        f"    return ChatOpenAI(model='gpt-4.1-nano', base_url='{judge.url}/v1', api_key='k', max_tokens=length)\n\n"
        "def tiers():\n    return TieredChatModel(tiers=[Tier('small', model(20)), Tier('large', model(9000))])\n"
    )
    lines = SUITE.format(url=judge.url).splitlines()
    lines = ["    function: helper:tiers" if '{model: "openai' in line else line for line in lines]
    lines = [line for line in lines if line != "    model:" and "max_tokens" not in line]
    workshop.suite("\n".join([*lines, "limits: {usd: 0.0003}"]).replace(", {name: wrong, wrong: true}", ""))
    workshop.data(number=[1, 2])
    unread = says(YES, text="no verdict")
    judge.answers = [unread, says(YES), unread, unread, says(YES)]

    results = workshop.run(max_usd="0.2", concurrency=1)

    first, second = (each for each in results.verdicts if each.scorer == "right")
    assert (first.success, first.calls, first.cost_usd) == (True, 2, 2 * JUDGED_USD)
    # Set aside for the second is what the first cost: enough for its small tier, not for the large one's 9,000 tokens.
    assert (second.success, second.calls, second.cost_usd) == (True, 3, 3 * JUDGED_USD)
    written = [call for call in open_ledger(results.run["ledger"]).calls() if call.attribution.role == "judge"]
    assert len(written) == len(judge.seen) == 5


def test_a_lost_verdict_of_another_prompt_takes_no_verdicts_place(judge: ProviderServer, workshop: "Workshop") -> None:
    """A crash while a changed prompt was judged, and the old prompt back: its verdicts stand, and nobody is asked."""
    workshop.run(concurrency=1)
    scores = workshop.results / "scores.jsonl"
    before = scores.read_bytes()
    workshop.suite(SUITE.format(url=judge.url).replace("Question:", "Asked:"))
    workshop.run(concurrency=1)
    scores.write_bytes(before)
    workshop.suite(SUITE.format(url=judge.url))

    rows = table_of(workshop.run(concurrency=1)).rows

    assert len(judge.seen) == 4
    assert [(row["successes"], row["unjudged"], row["judge_cost_usd"]) for row in rows] == [
        (1, 0, JUDGED_USD),
        (0, 0, JUDGED_USD),
    ]


def test_live_judges_of_a_replayed_run_that_a_crash_lost_are_counted(
    judge: ProviderServer, workshop: "Workshop"
) -> None:
    """The replay's own calls cost nothing and are not taken for theirs, nor theirs for the replay's."""
    suite = SUITE.format(url=judge.url) + "recording: calls.jsonl\n"
    workshop.suite(suite)
    workshop.run(mode="record")
    folder = workshop.run(mode="replay").folder
    other = workshop.folder / "other.yaml"
    other.write_text(suite.replace("Question:", "Asked:"))
    before = (folder / "scores.jsonl").read_bytes()
    score(folder, load_suite(other), ScoreOptions(mode="live"))
    (folder / "scores.jsonl").write_bytes(before)

    results = score(folder, load_suite(other), ScoreOptions(mode="live"))

    assert len(judge.seen) == 6
    mine = [verdict for verdict in results.verdicts if verdict.scorer == "right"]
    assert [(verdict.cost_usd, verdict.known_usd) for verdict in mine] == [
        *[(None, JUDGED_USD)] * 2,
        *[(JUDGED_USD, JUDGED_USD)] * 2,
    ]
