"""The page on budgets, from the limit on: its code runs as it stands, and names what there is."""

import re
from pathlib import Path
from typing import get_args

from langchain_finops.budgets.refusal import OnExceed
from langchain_finops.langchain.refusals import stop_reason

PAGE = (Path(__file__).parents[3] / "docs/budgets.md").read_text(encoding="utf-8")
HALF = PAGE.partition("\n## What happens at the limit\n")[2]


def test_its_code_runs_from_top_to_bottom() -> None:
    """One block after the other, its assertions included."""
    blocks = re.findall(r"^```python\n(.*?)^```", HALF, flags=re.MULTILINE | re.DOTALL)
    assert len(blocks) == 4
    names: dict[str, object] = {}
    for block in blocks:
        exec(block, names)


def test_every_word_for_the_limit_and_every_reason_is_explained() -> None:
    """A new one has to be written down."""
    for word in get_args(OnExceed):
        assert f'| `"{word}"` |' in HALF
    for reason in ("budget:LABEL", "loop", "killed", "unpriced", "drained", "recursion_limit"):
        assert f"`{reason}`" in HALF
    assert stop_reason.__name__ in HALF
