"""The page on levers: its code runs as it stands, and it names what there is."""

import re
from pathlib import Path

import pytest

from langchain_finops import levers

PAGE = (Path(__file__).parents[2] / "docs/levers.md").read_text(encoding="utf-8")


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
