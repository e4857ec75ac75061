"""The page on budgets says what the code does."""

import re
from pathlib import Path

import pytest

from langchain_finops.budgets.policy import Budget
from langchain_finops.budgets.scopes import MATCHED, SCOPES
from langchain_finops.budgets.units import UNITS
from langchain_finops.budgets.windows import PERIODS

PAGE = (Path(__file__).parents[2] / "docs/budgets.md").read_text(encoding="utf-8")


def section(title: str) -> str:
    return PAGE.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def test_the_words_of_the_page_read_as_it_shows(capsys: pytest.CaptureFixture[str]) -> None:
    """The loop prints what stands below it."""
    (code,) = re.findall(r"^```python\n(.*?)^```", section("In words"), flags=re.MULTILINE | re.DOTALL)
    (shown,) = re.findall(r"^```text\n(.*?)^```", section("In words"), flags=re.MULTILINE | re.DOTALL)
    exec(code, {})

    assert capsys.readouterr().out == shown


def test_the_policy_of_the_page_allows_what_it_shows() -> None:
    """Its assertion holds."""
    (code,) = re.findall(r"^```python\n(.*?)^```", section("ModelPolicy"), flags=re.MULTILINE | re.DOTALL)
    exec(code, {})


@pytest.mark.parametrize(
    ("title", "names"),
    [
        ("Limits", UNITS),
        ("Windows", PERIODS),
        ("Scopes", [scope for scope in SCOPES if not scope.startswith("tag:")]),
        ("Which calls", MATCHED),
        (
            "What else a budget says",
            Budget.__dataclass_fields__.keys() - {*UNITS, "per", "scope", "match", "time_zone"},
        ),
    ],
)
def test_every_word_there_is_is_explained(title: str, names: list[str]) -> None:
    """No unit, window, scope or argument is missing in its section."""
    missing = [name for name in names if f"`{name}`" not in section(title) and f'`"{name}"`' not in section(title)]

    assert not missing
