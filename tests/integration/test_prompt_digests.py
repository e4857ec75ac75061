"""Digests of prompts: equal in all processes that share a ledger, different in two, and never in a hook's way."""

import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

from langchain_core.messages import AIMessage, HumanMessage, SystemMessage
from scripted_models import Reply, ScriptedChat, tokens

from langchain_finops import FinOpsHandler, Ledger, PriceBook, open_ledger
from langchain_finops.ledger.marks import read_marks

CHILD = """
    import sys
    from langchain_core.language_models import FakeListChatModel
    from langchain_core.messages import HumanMessage, SystemMessage
    from langchain_finops import FinOpsHandler

    handler = FinOpsHandler(ledger=sys.argv[1])
    for text in ("Who?", "Why?"):
        prompt = [SystemMessage("Be brief. " * 400), HumanMessage(text)]
        FakeListChatModel(responses=["so"]).invoke(prompt, {"callbacks": [handler]})
    handler.flush(30)
    assert not handler.faults
"""


def prompts_of(path: Path) -> list[bytes | None]:
    """The digests of two calls that a process of its own makes."""
    ledger = open_ledger(path)
    before = {call.call_id for call in ledger.calls()}
    subprocess.run([sys.executable, "-c", textwrap.dedent(CHILD), str(path)], check=True)
    found = [call.prompt_digests for call in ledger.calls() if call.call_id not in before]
    ledger.close()
    return found


def test_equal_calls_have_equal_digests_in_one_ledger_and_no_others(tmp_path: Path) -> None:
    """Whichever process makes them; in another ledger the same calls have digests that lead nowhere."""
    first, again = prompts_of(tmp_path / "a.db"), prompts_of(tmp_path / "a.db")
    other = prompts_of(tmp_path / "b.db")

    assert first == again
    who, why = (read_marks(each or b"") for each in first)
    assert who.system == why.system
    assert who.whole != why.whole
    assert read_marks(other[0] or b"").system != who.system
    assert read_marks(other[0] or b"").size == who.size


def test_a_call_whose_answer_comes_late_keeps_its_digests(sql_ledger: Ledger, prices: PriceBook) -> None:
    """A revision is of the same prompt: both versions have the same digests."""
    handler = FinOpsHandler(ledger=sql_ledger, prices=prices)
    prompt = [SystemMessage("Be brief. " * 400), HumanMessage("Who?"), AIMessage("I"), HumanMessage("Why?")]
    ScriptedChat(script=lambda *_: Reply(usage=tokens(7, 3))).invoke(prompt, {"callbacks": [handler]})
    (call,) = sql_ledger.calls()
    kept = call.prompt_digests
    assert kept is not None
    answer: Any = handler.recorder.meter.supersede(call.call_id, _nothing())
    assert answer is not None
    assert [each.prompt_digests for each in sql_ledger.calls(history=True)] == [kept, kept]


def _nothing() -> Any:
    from langchain_finops.meter import Answer

    return Answer(usage={"input_tokens": 9, "output_tokens": 1, "total_tokens": 10})


def test_a_prompt_that_cannot_be_read_is_metered_all_the_same(sql_ledger: Ledger, prices: PriceBook) -> None:
    """It has no digests, and its call is there; the fault is counted and reaches no run."""

    class Odd(str):
        __slots__ = ()

        def encode(self, *_: Any, **__: Any) -> bytes:
            raise RuntimeError("no")

    handler = FinOpsHandler(ledger=sql_ledger, prices=prices)
    prompt = [HumanMessage([{"type": "text", "text": Odd("x" * 300)}])]
    ScriptedChat(script=lambda *_: Reply(usage=tokens(7, 3))).invoke(prompt, {"callbacks": [handler]})
    assert [call.prompt_digests for call in sql_ledger.calls()] == [None]
    assert handler.faults == 1
