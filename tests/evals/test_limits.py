"""Limits of an attempt: what would break one is refused before it is made, and no attempt counts on another's."""

from decimal import Decimal
from typing import TYPE_CHECKING

import pytest

from langchain_finops.budgets.policy import Budget
from langchain_finops.errors import EvalError
from langchain_finops.ledger import open_ledger

if TYPE_CHECKING:
    from tests.evals.conftest import Workshop

ONE_CALL = Decimal("0.0002")
"""By hand: (100 x $1 + 10 x $10) / 1,000,000."""

SUITE = """
target: agent:TARGET
scorer: {type: exact, answer_field: answer}
configurations: [{name: right}]
limits: {LIMITS}
cards:
  hosted: [{id: hosted, match: {model: "gpt-4.1*"}, rates: {input_tokens: 1, output_tokens: 10}}]
"""

OWN = '''

from langchain_core.runnables import Runnable, RunnableLambda
from langchain_core.tools import tool


@tool
def look(word: str) -> str:
    """Look a word up."""
    return word


async def _calls(inputs):
    """Bare calls of a model, one after the other."""
    for _ in range(6):
        answer = await Scripted().ainvoke(f"answer {inputs['number']}")
    return {"answer": answer.content}


async def _tools(inputs):
    for _ in range(6):
        await look.ainvoke({"word": "x"})
    return {"answer": (await Scripted().ainvoke(f"answer {inputs['number']}")).content}


async def _swallows(inputs):
    """Goes on whatever it is told, and answers in the end."""
    answers = []
    for _ in range(6):
        try:
            answers.append((await Scripted().ainvoke(f"answer {inputs['number']}")).content)
        except Exception:
            pass
    return {"answer": answers[0]}


async def _raises(inputs):
    """Raises an error of its own where it is refused."""
    try:
        for _ in range(6):
            await Scripted().ainvoke(f"answer {inputs['number']}")
    except Exception as error:
        raise KeyError("total") from error


class Class(Runnable):
    """Hands its config on to nobody."""

    def invoke(self, input, config=None, **_):
        for _ in range(6):
            answer = Scripted().invoke(f"answer {input['number']}")
        return {"answer": answer.content}


def calls(configuration):
    return RunnableLambda(_calls)


def tools(configuration):
    return RunnableLambda(_tools)


def swallows(configuration):
    return RunnableLambda(_swallows)


def raises(configuration):
    return RunnableLambda(_raises)


def threaded(configuration):
    return Class()
'''


def prepare(workshop: "Workshop", target: str, limits: str) -> None:
    agent = workshop.folder / "agent.py"
    agent.write_text(agent.read_text() + OWN)
    workshop.suite(SUITE.replace("TARGET", target).replace("{LIMITS}", f"{{{limits}}}"))


@pytest.mark.parametrize(
    ("target", "limits", "reason", "calls"),
    [
        ("calls", "llm_calls: 3", "llm_calls_limit", 3),
        ("calls", "tokens: 350", "tokens_limit", 3),
        ("calls", "usd: 0.00065", "usd_limit", 3),
        ("threaded", "llm_calls: 3", "llm_calls_limit", 3),
        ("swallows", "llm_calls: 3", "llm_calls_limit", 3),
        ("raises", "llm_calls: 3", "llm_calls_limit", 3),
        ("tools", "tool_calls: 4", "tool_calls_limit", 0),
    ],
)
def test_a_limit_stops_an_attempt_before_it_is_broken(
    workshop: "Workshop", target: str, limits: str, reason: str, calls: int
) -> None:
    """What was made before it counts; the stop names the limit, whatever the target makes of the refusal."""
    prepare(workshop, target, limits)

    results = workshop.run()

    assert len(workshop.calls()) == 2 * calls
    for result in results.attempts:
        assert (result.status, result.stop_reason, result.answer) == ("stopped", reason, None)
        assert (result.calls, result.cost_usd) == (calls, calls * ONE_CALL)
    assert results.verdicts == []


def test_steps_are_limited_at_any_depth(workshop: "Workshop") -> None:
    """Executions of nodes: the fifth is not begun."""
    workshop.data(number=[1], do=["loop"])
    prepare(workshop, "build", "steps: 4")

    (result,) = workshop.run().attempts

    assert (result.status, result.stop_reason) == ("stopped", "steps_limit")
    assert (result.steps, result.cost_usd) == (4, 2 * ONE_CALL)


def test_attempts_count_for_themselves(workshop: "Workshop") -> None:
    """Each of twenty attempts, eight at once, has its own three calls; nothing of it is left in a ledger's balances."""
    workshop.data(number=list(range(20)))
    prepare(workshop, "calls", "llm_calls: 6, usd: 0.01")

    results = workshop.run()

    assert {result.status for result in results.attempts} == {"completed"}
    ledger = open_ledger(workshop.results / "ledger.db")
    assert ledger.balances() == []
    ledger.close()


def test_tries_count_for_themselves(workshop: "Workshop") -> None:
    """What the infrastructure failed is tried again with its limit whole."""
    workshop.data(number=[1], do=["status-503-2"])
    prepare(workshop, "build", "llm_calls: 1")

    results = workshop.run()

    assert [result.status for result in results.attempts] == ["error", "error", "completed"]


def test_the_users_own_budgets_stay_theirs(workshop: "Workshop", monkeypatch: pytest.MonkeyPatch) -> None:
    """A budget that stands in a policy file holds for attempts too, beside their limits, and names itself."""
    (workshop.folder / "finops.yaml").write_text("budgets:\n  - {llm_calls: 2, scope: run, name: house}\n")
    monkeypatch.setenv("FINOPS_POLICY", str(workshop.folder / "finops.yaml"))
    prepare(workshop, "calls", "llm_calls: 5")

    results = workshop.run()

    assert {(result.status, result.stop_reason, result.calls) for result in results.attempts} == {
        ("stopped", "budget:house", 2)
    }


def test_a_dollar_limit_refuses_what_has_no_price(workshop: "Workshop") -> None:
    """Nobody knows whether it would fit."""
    prepare(workshop, "build", "usd: 1")
    suite = workshop.folder / "tasks.yaml"
    suite.write_text(suite.read_text().replace("{name: right}", "{name: right, model: nobody-knows-1}"))

    results = workshop.run()

    assert workshop.calls() == []
    assert {(result.status, result.stop_reason, result.cost_usd) for result in results.attempts} == {
        ("stopped", "unpriced", 0)
    }


def test_what_an_attempt_did_is_counted(workshop: "Workshop") -> None:
    """Steps, tools, what the user sees of the last call, costs by node that add up, and the harness's own time."""
    prepare(workshop, "tools", "usd: 1")
    bare = workshop.run().attempts[0]
    assert (bare.steps, bare.tool_calls, bare.final_output_tokens, bare.turns) == (0, 6, 10, 1)
    assert bare.costs_by_node == {"": ONE_CALL}

    workshop.suite(SUITE.replace("TARGET", "build").replace("{LIMITS}", "{usd: 1}"))
    (graph, _) = workshop.run(folder=workshop.folder / "graph").attempts
    assert (graph.steps, graph.tool_calls, graph.final_output_tokens) == (2, 0, 10)
    assert graph.costs_by_node == {"solve": ONE_CALL}
    assert graph.overhead_s is not None
    assert 0 < graph.overhead_s < 5


def test_changed_limits_are_told(workshop: "Workshop") -> None:
    """Attempts that the limits before stopped are not passed off as those of the limits now."""
    prepare(workshop, "calls", "llm_calls: 3")
    workshop.run()
    workshop.calls()
    suite = workshop.folder / "tasks.yaml"
    suite.write_text(suite.read_text().replace("llm_calls: 3", "llm_calls: 6"))

    with pytest.raises(EvalError, match=r"limits have changed .*\(llm_calls from 3 to 6\).*--fresh .*--allow-mixed"):
        workshop.run()
    assert {one.status for one in workshop.run(allow_mixed=True).attempts} == {"stopped"}
    assert workshop.calls() == []
    assert {one.status for one in workshop.run(fresh=True).attempts} == {"completed"}


def test_limits_are_budgets_of_a_run() -> None:
    """One for each limit, so that a stop says which it was."""
    from langchain_finops.evals.suite import Limits

    assert Limits(seconds=5.0, usd=Decimal("0.5"), steps=9).budgets() == (
        Budget(usd=Decimal("0.5"), name="limits.usd", warn_at=()),
        Budget(steps=9, name="limits.steps", warn_at=()),
    )
