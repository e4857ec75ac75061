"""`finops-eval run --with-advice`: an advice becomes a configuration, and what it promised is held to the answers."""

import asyncio
import importlib
import json
import shutil
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from decimal import Decimal
from email.message import Message
from pathlib import Path
from typing import Any

import pytest
from provider_server import Answer, ProviderServer, openai_usage

from langchain_finops import FinOpsHandler, open_ledger
from langchain_finops.cli.common import run
from langchain_finops.cli.finops import app as finops
from langchain_finops.cli.finops_eval import app
from langchain_finops.errors import BadArguments, BadData
from langchain_finops.evals.advised import Advice, advice_of, with_advice
from langchain_finops.evals.suite import Suite, load_suite
from langchain_finops.reports.advise import CHANGES, KINDS

Command = Callable[..., tuple[int, str, str]]

AGENT = '''
"""A graph that labels a ticket by one word of a model of OpenAI's, asked through its own SDK."""

import os
from typing import Any, TypedDict

from langchain_openai import ChatOpenAI
from langgraph.graph import END, START, StateGraph


class State(TypedDict, total=False):
    text: str
    answer: str


def build(configuration: dict) -> Any:
    model = ChatOpenAI(model=configuration["model"], base_url=os.environ["SCRIPTED_URL"], api_key="k", max_retries=0)

    async def label(state: State) -> State:
        return {"answer": (await model.ainvoke(state["text"])).text}

    graph = StateGraph(State)
    graph.add_node("label", label)
    graph.add_edge(START, "label")
    graph.add_edge("label", END)
    return graph.compile(name="tickets")
'''

SUITE = """
target: labels:build
scorer: {type: exact, answer_field: answer}
configurations:
  - {name: large, model: gpt-4.1}
"""
TASKS = 60


class Labels(ProviderServer):
    """200 tokens in and 1 out. gpt-4.1 repeats the word after the colon; gpt-4.1-mini too, but for the last ones."""

    failing = 0
    """Of so many of the last tickets the small model makes nothing of."""

    def take(self, path: str, body: dict[str, Any], headers: Message) -> Answer:
        super().take(path, body, headers)
        word = body["messages"][-1]["content"].partition(":")[2]
        is_lost = body["model"] == "gpt-4.1-mini" and int(word[1:]) >= TASKS - self.failing
        return Answer(text="none" if is_lost else word, usage=openai_usage(200, 1), model=body["model"])

    def asked(self) -> dict[str, int]:
        """How often each model was asked since the last look."""
        models = [each.body["model"] for each in self.seen]
        self.seen.clear()
        return {model: models.count(model) for model in models}


@contextmanager
def serving() -> Iterator[Labels]:
    server = Labels()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def labels(monkeypatch: pytest.MonkeyPatch) -> Iterator[Labels]:
    with serving() as server:
        monkeypatch.setenv("SCRIPTED_URL", f"{server.url}/v1")
        yield server


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A dataset of 60 tickets, a suite, and nobody's own ledger or policy."""
    monkeypatch.chdir(tmp_path)
    for name in ("FINOPS_POLICY", "FINOPS_LEDGER"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "labels.py").write_text(AGENT)
    (tmp_path / "tickets.yaml").write_text(SUITE)
    items = [{"id": f"t{n}", "inputs": {"text": f"Label :w{n}"}, "outputs": {"answer": f"w{n}"}} for n in range(TASKS)]
    (tmp_path / "tickets.jsonl").write_text("".join(json.dumps(item) + "\n" for item in items))
    path = list(sys.path)
    yield tmp_path
    sys.path[:] = path
    sys.modules.pop("labels", None)


@pytest.fixture(scope="module")
def bought(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The ledger of 60 tickets that gpt-4.1 labelled, each with a word. Bought once: each test has a copy."""
    folder = tmp_path_factory.mktemp("production")
    (folder / "labels.py").write_text(AGENT)
    with serving() as server, pytest.MonkeyPatch.context() as patch:
        patch.setenv("SCRIPTED_URL", f"{server.url}/v1")
        patch.syspath_prepend(folder)
        graph = importlib.import_module("labels").build({"model": "gpt-4.1"})
        ledger = open_ledger(folder / "production.db", hold_timeout=60.0)
        handler = FinOpsHandler(agent_id="tickets", ledger=ledger)

        async def work() -> None:
            for number in range(TASKS):
                await graph.ainvoke({"text": f"Label :w{number}"}, {"callbacks": [handler]})

        asyncio.run(work())
        ledger.close()
    sys.modules.pop("labels")
    return folder / "production.db"


@pytest.fixture
def production(folder: Path, bought: Path) -> str:
    """The ledger that is advised on."""
    return str(shutil.copy(bought, folder / "production.db"))


@pytest.fixture
def finops_eval(capsys: pytest.CaptureFixture[str]) -> Command:
    """Run a command line; return exit code, stdout and stderr."""

    def command(*words: object) -> tuple[int, str, str]:
        code = run(app, "finops-eval", [str(word) for word in words])
        out, err = capsys.readouterr()
        return code, out, err

    return command


def first_advice(*words: object, production: str) -> tuple[object, ...]:
    """The words that test the first advice on the production ledger."""
    return "run", "tickets.jsonl", "--with-advice", 1, "--advice-ledger", production, *words


def sentences(text: str) -> str:
    """What was printed, on one line."""
    return " ".join(text.split())


def test_an_advice_is_run_beside_the_baseline_and_holds(
    finops_eval: Command, production: str, labels: Labels, folder: Path
) -> None:
    """The same command again buys nothing; programs get one array, and what was promised on stderr.

    200 tokens in and 1 out cost 408 microdollars with gpt-4.1 ($2 and $8 a million) and a fifth with the mini ($0.40
    and $1.60): 60 calls in a day, or two past midnight, save 60 x 326.4 microdollars."""
    code, out, err = finops_eval(*first_advice(production=production))

    told = sentences(out)
    assert code == 0, err
    assert labels.asked() == {"gpt-4.1": TASKS, "gpt-4.1-mini": TASKS}
    run = json.loads((folder / "results/tickets-advice-1/run.json").read_text())
    assert [each["name"] for each in run["configurations"]] == ["large", "large+small_answers"]
    advice = run["advice"]
    assert advice["changed"] == {"model": ["gpt-4.1", "gpt-4.1-mini"]}
    assert (advice["kind"], advice["agent"], advice["node"]) == ("small_answers", "tickets", "label")
    saved = 60 * Decimal("0.0003264")
    assert Decimal(advice["usd_per_month"]) in {saved * 30, saved * 15}
    assert advice["share"] == pytest.approx(0.8)
    assert "(small answers, gpt-4.1 for tickets/label) promised $0." in told
    assert "a month, 80.0% of what the ledger's period cost; low confidence." in told
    assert "Tested as large+small_answers: large with model gpt-4.1-mini instead of gpt-4.1." in told
    assert "The advice holds on 60 tasks: a success costs 0.20 (0.20-0.20) times as much as before (BETTER)" in told
    assert "60 of 60 attempts succeed, 60 of 60 before: +0.0 (-6.0 to +6.0) points" in told

    code, out, err = finops_eval(*first_advice("--format", "json", production=production))
    assert (code, labels.asked()) == (0, {})
    assert [row["configuration"] for row in json.loads(out)] == ["large", "large+small_answers"]
    assert "The advice holds on 60 tasks" in err


def test_an_advice_that_turns_out_wrong_is_told_so(finops_eval: Command, production: str, labels: Labels) -> None:
    """The cheaper model fails on the golden set. A fifth of the cost for a third of the successes is 0.6 of the cost of
    a success: cheaper, and no saving all the same. Of twenty tasks it then solves none."""
    labels.failing = 40
    code, out, _ = finops_eval(*first_advice(production=production))
    assert code == 0
    assert (
        "The advice does not hold on 60 tasks: it solves fewer of them (20 of 60 attempts succeed, 60 of 60 before: "
        "-66.7 (-77.3 to -54.1) points); a success costs 0.60 (" in sentences(out)
    )
    labels.failing = 60
    code, out, _ = finops_eval(*first_advice("--sample", 20, "--out", "none", production=production))
    assert code == 0
    assert "does not hold on 20 tasks: it solves fewer of them (0 of 20 attempts succeed, 20 of 20" in sentences(out)
    assert "nothing succeeds, so that a success has no cost" in sentences(out)


@pytest.mark.usefixtures("labels")
def test_what_cannot_be_told_is_inconclusive(finops_eval: Command, production: str) -> None:
    """Ten tasks are too few, and none that is complete are, too."""
    code, out, _ = finops_eval(*first_advice("--sample", 10, production=production))
    assert code == 0
    assert "INCONCLUSIVE on 10 tasks, because of: fewer than 50 tasks; a success costs 0.20" in sentences(out)
    code, out, _ = finops_eval(*first_advice("--out", "little", "--max-usd", "0.0000001", production=production))
    assert code == 0
    assert "INCONCLUSIVE on 0 tasks" in sentences(out)


def test_an_advice_file_keeps_an_advice_as_it_was(
    finops_eval: Command, production: str, labels: Labels, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What `finops advise --format json` wrote is tested as well; another advice at the same number is refused, and
    nothing is bought for it."""
    assert run(finops, "finops", ["advise", "--ledger", production, "--format", "json"]) == 0
    (folder / "advice.json").write_text(capsys.readouterr().out)
    words = ("run", "tickets.jsonl", "--with-advice", 1, "--advice-file", "advice.json", "--sample", 2)
    assert finops_eval(*words)[0] == 0
    assert labels.asked() == {"gpt-4.1": 2, "gpt-4.1-mini": 2}

    rows = json.loads((folder / "advice.json").read_text())
    rows[0]["change"]["model"] = "gpt-4.1-nano"
    (folder / "advice.json").write_text(json.dumps(rows))
    code, _, err = finops_eval(*words)
    assert (code, labels.asked()) == (2, {})
    assert "'large' with model 'gpt-4.1-mini', and this is advice 1" in err
    assert "--fresh" in err


@pytest.mark.usefixtures("labels")
def test_the_runs_own_calls_stay_out_of_the_ledger_that_is_advised_on(
    finops_eval: Command, production: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """$FINOPS_LEDGER is what is advised on; as the ledger of the run it would change the advice by being tested."""
    monkeypatch.setenv("FINOPS_LEDGER", production)
    code, _, err = finops_eval("run", "tickets.jsonl", "--with-advice", 1, "--sample", 2)
    assert code == 0, err
    ledger = open_ledger(production)
    assert sum(1 for _ in ledger.calls()) == TASKS
    ledger.close()
    assert (folder / "results/tickets-advice-1/ledger.db").exists()
    code, _, err = finops_eval("run", "tickets.jsonl", "--with-advice", 1, "--ledger", f"sqlite:///{production}")
    assert code == 2
    assert "would change the advice" in err


def test_recorded_it_replays(finops_eval: Command, production: str, labels: Labels, folder: Path) -> None:
    """A recording without the new configuration says how to get it; once recorded, it replays without the server."""
    (folder / "tickets.yaml").write_text(f"{SUITE}recording: recorded.jsonl\n")
    assert finops_eval("run", "tickets.jsonl", "--record", "--sample", 3)[0] == 0
    code, _, err = finops_eval(*first_advice("--sample", 3, production=production))
    assert code == 2
    assert "has nothing of 'large+small_answers'" in err
    assert "--record" in err
    labels.asked()
    assert finops_eval(*first_advice("--record", "--sample", 3, production=production))[0] == 0
    assert labels.asked() == {"gpt-4.1-mini": 3}
    code, out, err = finops_eval(*first_advice("--sample", 3, production=production))
    assert code == 0, err
    assert "INCONCLUSIVE on 3 tasks" in sentences(out)
    assert labels.asked() == {}


def test_protected_nodes_have_no_advice_to_test(finops_eval: Command, production: str, folder: Path) -> None:
    """The policy file's protected nodes are no more advised on here than by `finops advise`."""
    (folder / "finops.yaml").write_text("protect: [label]\n")
    code, _, err = finops_eval(*first_advice(production=production))
    assert code == 2
    assert "finds nothing in" in err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--with-advice", 2, "--advice-ledger", "{production}"], "production.db has 1 advice: --with-advice 1"),
        (["--with-advice", 1, "--advice-ledger", "nowhere.db"], "name another with --advice-ledger"),
        (["--with-advice", 1, "--advice-ledger", ""], "--advice-ledger is empty"),
        (["--with-advice", 1, "--advice-file", "nowhere.json"], "nowhere.json cannot be read"),
        (["--with-advice", 1, "--advice-file", "tickets.yaml"], "write it anew"),
        (
            ["--with-advice", 1, "--advice-file", "nowhere.json", "--advice-ledger", "{production}"],
            "exclude each other",
        ),
        (["--advice-for", "large"], "--advice-for is for --with-advice N"),
        (
            ["--with-advice", 1, "--advice-ledger", "{production}", "--advice-for", "huge"],
            "no configuration: those are large",
        ),
    ],
)
def test_bad_words_are_one_sentence_and_nothing_is_bought(
    finops_eval: Command, production: str, labels: Labels, words: list[Any], said: str
) -> None:
    """No such advice, no ledger, no such configuration."""
    code, out, err = finops_eval("run", "tickets.jsonl", *(str(word).format(production=production) for word in words))
    assert (code, out) == (2, "")
    assert said in err
    assert err.count("\n") == 1
    assert labels.asked() == {}


# --- which parameters an advice sets ---------------------------------------------------------------------------------


def suite_of(folder: Path, configurations: str, advice: str = "") -> Suite:
    path = folder / "suite.yaml"
    path.write_text(
        f"target: labels:build\nscorer: exact\nconfigurations:\n{configurations}\n" + (advice and f"advice: {advice}\n")
    )
    return load_suite(path)


def an_advice(kind: str = "cheaper_model", **more: Any) -> Advice:
    given: dict[str, Any] = {
        "n": 1, "kind": kind, "agent": "a", "node": "n", "provider": "openai", "model": "gpt-4.1-2025-04-14",
        "usd_per_month": Decimal(1), "saving_is": "known", "share": 0.5, "confidence": "low",
        "change": {"provider": "openai", "model": "gpt-4.1-mini"}, "source": "ledger.db",
    }  # fmt: skip
    return Advice(**{**given, **more})


def test_every_fault_of_an_advice_file_is_told_before_anything_is_bought(
    finops_eval: Command, labels: Labels, folder: Path
) -> None:
    """Each of these was found when the table was printed, after all answers had been paid for, or not at all."""
    row = {
        "n": 1, "kind": ["x"], "agent": 5, "node": {}, "provider": "openai", "model": 7, "usd_per_month": "-3",
        "saving_is": ["x"], "share": "0.4", "confidence": "sure", "change": {"provider": "openai", "model": {"a": 1}},
    }  # fmt: skip
    (folder / "advice.json").write_text(json.dumps([row]))
    code, out, err = finops_eval("run", "tickets.jsonl", "--with-advice", 1, "--advice-file", "advice.json")
    assert (code, out, labels.asked()) == (2, "", {})
    wrong = ("kind", "agent", "node", "model", "usd_per_month", "saving_is", "share", "confidence", "change.model")
    assert [line.partition("advice 1: ")[2].split(":")[0] for line in err.splitlines() if "advice 1: " in line] == list(
        wrong
    )
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("share", True),
        ("share", float("nan")),
        ("usd_per_month", True),
        ("usd_per_month", "NaN"),
        ("usd_per_month", []),
        ("saving_is", "about"),
        ("kind", "cheapest_model"),
        ("change", {"provider": 3, "model": "gpt-4.1-mini"}),
        ("change", []),
    ],
)
def test_a_field_of_an_advice_is_what_finops_advise_writes(field: str, value: object) -> None:
    """The rest of the row is taken, also with nothing known."""
    row = {**asdict(an_advice(usd_per_month=None, share=None, agent=None, node=None)), "source": "x"}
    assert advice_of([row], 1, "x").model == "gpt-4.1-2025-04-14"
    with pytest.raises(BadData) as raised:
        advice_of([{**row, field: value}], 1, "advice.json")
    assert len(raised.value.faults) == 1
    assert f"advice.json: advice 1: {field}" in str(raised.value.faults[0])


def test_the_number_of_an_advice_is_a_number() -> None:
    """True is equal to 1 and is no number of an advice."""
    with pytest.raises(BadArguments, match="--with-advice 1: x has 1 advice"):
        advice_of([{**asdict(an_advice()), "n": True}], 1, "x")


@pytest.mark.parametrize(
    ("parameters", "changed"),
    [
        ("model: gpt-4.1", {"model": "gpt-4.1-mini"}),
        ("model: 'openai:gpt-4.1', shots: 2", {"model": "openai:gpt-4.1-mini", "shots": 2}),
        (
            "model: {model: 'openai:gpt-4.1', temperature: 0}",
            {"model": {"model": "openai:gpt-4.1-mini", "temperature": 0}},
        ),
        ("worker: gpt-4.1, router: gpt-4.1-nano", {"worker": "gpt-4.1-mini", "router": "gpt-4.1-nano"}),
    ],
)
def test_the_one_parameter_that_names_the_model_is_replaced(
    folder: Path, parameters: str, changed: dict[str, object]
) -> None:
    """With the provider before it or without, by the name that was asked for or that of its snapshot."""
    suite = with_advice(suite_of(folder, f"  - {{name: a, {parameters}}}"), an_advice())
    assert [each.name for each in suite.configurations] == ["a", "a+cheaper_model"]
    assert suite.baseline == "a"
    assert suite.configurations[1].parameters == changed


@pytest.mark.parametrize(
    ("parameters", "advice", "why"),
    [
        ("model: gpt-4o", an_advice(), "no parameter of 'a' is 'gpt-4.1-2025-04-14'"),
        # Another model whose name begins alike.
        ("model: gpt-4", an_advice(), "no parameter of 'a' is"),
        ("worker: gpt-4.1, router: gpt-4.1", an_advice(), "more than one parameter (worker, router) of 'a' is"),
        (
            "model: gpt-4.1",
            an_advice(change={"provider": "anthropic", "model": "claude-haiku-4-5"}),
            "is of another provider, anthropic,",
        ),
        ("model: gpt-4.1", an_advice("growing_context", change={}), "growing_context: {prune: true}"),
        ("model: gpt-4.1", an_advice("late_handoff", change={"calls": 6}), 'handoff_after: "{calls}"'),
    ],
)
def test_what_nobody_can_tell_names_the_line_to_write(folder: Path, parameters: str, advice: Advice, why: str) -> None:
    """No guess: a test of another change would say nothing of the advice."""
    with pytest.raises(BadArguments) as raised:
        with_advice(suite_of(folder, f"  - {{name: a, {parameters}}}"), advice)
    assert why in str(raised.value)
    assert "write into" in str(raised.value)
    assert "suite.yaml" in str(raised.value)


def test_a_suite_says_what_a_finding_sets(folder: Path) -> None:
    """Placeholders alone keep their type, within a text they are written out; the named configuration is changed."""
    suite = suite_of(
        folder,
        "  - {name: a}\n  - {name: b, handoff_after: 99, keep: 1}",
        '{late_handoff: {handoff_after: "{calls}", note: "after {calls} at {node}"}}',
    )
    made = with_advice(suite, an_advice("late_handoff", change={"calls": 6}), configuration="b")
    assert [each.name for each in made.configurations] == ["b", "b+late_handoff"]
    assert made.configurations[1].parameters == {"handoff_after": 6, "keep": 1, "note": "after 6 at n"}
    assert made.tested is not None
    assert made.tested["changed"] == {"handoff_after": [99, 6], "note": [None, "after 6 at n"]}


def test_what_an_advice_does_not_name_stays_in_nested_parameters(folder: Path) -> None:
    """Else more than the advice would be tested. A list is taken whole, and so is a mapping where none was."""
    suite = suite_of(
        folder,
        "  - {name: a, llm: {model: gpt-4.1, temperature: 0, more: {seed: 7, stop: [x, y]}}, cache: true}",
        '{small_answers: {llm: {model: "{model}", more: {stop: [z]}}, cache: {ttl: 1h}}}',
    )
    made = with_advice(suite, an_advice("small_answers"))
    assert made.configurations[1].parameters == {
        "llm": {"model": "gpt-4.1-mini", "temperature": 0, "more": {"seed": 7, "stop": ["z"]}},
        "cache": {"ttl": "1h"},
    }
    assert made.configurations[0].parameters["llm"]["temperature"] == 0


def test_the_suites_own_configuration_is_taken_where_it_is_the_same(folder: Path) -> None:
    """What was recorded of it then replays; one that is called alike and is another is a fault, as is no change."""
    two = "  - {name: large, model: gpt-4.1}\n  - {name: small, model: gpt-4.1-mini}"
    suite = with_advice(suite_of(folder, two), an_advice())
    assert [each.name for each in suite.configurations] == ["large", "small"]
    taken = "  - {name: a, model: gpt-4.1}\n  - {name: a+cheaper_model, model: other}"
    with pytest.raises(BadArguments, match="another configuration 'a\\+cheaper_model'"):
        with_advice(suite_of(folder, taken), an_advice())
    with pytest.raises(BadArguments, match="changes nothing"):
        with_advice(
            suite_of(folder, "  - {name: a, prune: true}", "{growing_context: {prune: true}}"),
            an_advice("growing_context"),
        )


def test_faults_of_the_mapping_are_told_together(folder: Path) -> None:
    """An unknown finding, parameters that are none, and a placeholder that the finding does not fill."""
    with pytest.raises(BadData) as raised:
        suite_of(folder, "  - {name: a}", "{cheaper: {model: x}, growing_context: true, late_handoff: {x: '{model}'}}")
    told = [str(fault) for fault in raised.value.faults]
    assert len(told) == 3
    assert "advice.cheaper: is no finding" in told[0]
    assert "advice.growing_context: parameters" in told[1]
    assert "advice.late_handoff: {model} is nothing that this finding tells: it has calls, agent, node" in told[2]


def test_every_kind_says_what_its_lever_sets() -> None:
    """A finding that `finops advise` can make has an entry."""
    assert set(CHANGES) == set(KINDS)
