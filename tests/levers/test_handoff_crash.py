"""A process that dies between a person's answer and the end of the node: their minutes are in the books once."""

import subprocess
import sys
from decimal import Decimal
from pathlib import Path

from langchain_finops import open_ledger

CHILD = Path(__file__).parent / "handoff_child.py"


def test_a_kill_after_the_answer_charges_the_person_once(tmp_path: Path) -> None:
    """Killed twice with the answer in hand, answered again in a new process: one charge, 3 minutes at $60."""
    command = [sys.executable, str(CHILD), str(tmp_path), "start", "die", "die", "answer"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)

    said = ["start asks", "die killed by 9", "die killed by 9", "answer By hand."]
    assert (done.stdout.splitlines(), done.stderr) == (said, "")
    kept = list(open_ledger(tmp_path / "ledger.db").charges(history=True))
    assert [(charge.kind, charge.cost_usd, charge.quantity) for charge in kept] == [("human", Decimal(3), Decimal(3))]
