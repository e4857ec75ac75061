"""The page on levers: its code runs as it stands, and it names what there is."""

import re
from pathlib import Path

import pytest

from langchain_finops import levers

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/levers.md").read_text(encoding="utf-8")


def test_its_code_runs_from_top_to_bottom(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One block after the other, its assertions included."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    blocks = re.findall(r"^```python\n(.*?)^```", PAGE, flags=re.MULTILINE | re.DOTALL)
    assert len(blocks) >= 6
    names: dict[str, object] = {"__name__": "page"}
    for block in blocks:
        exec(block, names)


def test_every_lever_is_on_it_and_every_name_is_there() -> None:
    """What is public is documented; what a lever returns may be named by its fields alone."""
    results = {"RoutingCosts", "HandoffThreshold", "Handoff", "Choice", "Pruner", "PromptCachePolicy"}
    for name in levers.__all__:
        assert getattr(levers, name) is not None
        assert name in PAGE or name in results, name
    with pytest.raises(AttributeError):
        levers.unheard_of  # noqa: B018


@pytest.mark.parametrize(
    ("page", "heading"),
    [
        ("README.md", "## What makes it cheaper"),
        ("golden_datasets/levers/README.md", "# Golden datasets of"),
    ],
)
def test_what_short_tables_say_of_levers_stands_on_the_page(page: str, heading: str) -> None:
    """Each ratio with its interval is one of docs/levers.md, whose tables are compared with the replays."""
    told = (ROOT / page).read_text(encoding="utf-8").split(heading)[1].split("\n## ")[0]
    rows = [line for line in told.splitlines() if re.match(r"\| [^l-]", line)]
    assert len(rows) == 6
    for row in rows:
        found = re.search(r"(\d+\.\d+) (\(\d+\.\d+-\d+\.\d+\))", row)
        assert found, row
        ratio, interval = found.groups()
        assert any(ratio in line and interval in line for line in PAGE.splitlines()), row
