"""Every correction names its source, and the shipped ones are sound."""

from datetime import UTC, datetime
from decimal import Decimal

import pytest

from langchain_finops.errors import BadData
from langchain_finops.pricing.overlay import Overlay, parse_corrections, shipped_overlay

ENTRY = {
    "id": "x",
    "provider": "p",
    "model": "m*",
    "free": True,
    "source": "https://example.org",
    "checked": "2026-01-01",
}


def test_every_shipped_correction_says_who_says_so() -> None:
    """A source with an address, and the day on which it was read or why it proves nothing; ids are unique."""
    overlay, text = shipped_overlay()
    entries = overlay._corrections

    assert entries
    assert len({entry.id for entry in entries}) == len(entries)
    for entry in entries:
        assert "https://" in entry.source, entry.id
        assert (entry.checked is None) != (entry.doubt is None), entry.id
        assert entry.checked is None or entry.checked > datetime(2026, 1, 1, tzinfo=UTC), entry.id
        assert f"id: {entry.id}\n" in text


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"source": None}, "source"),
        ({"id": None}, "id"),
        ({"checked": "lately"}, "checked"),
        ({"checked": None}, "checked"),
        ({"doubt": "rate_inferred"}, "checked"),
        ({"checked": None, "free": None, "doubt": "who knows"}, "doubt"),
        ({"checked": None, "doubt": "rate_inferred"}, "doubt"),
        ({"rates": {"input_tokens": 1}}, "rates"),
        ({"free": None}, "rates"),
        ({"hours": ["1 to 4"]}, "hours"),
        ({"weekdays": ["monday"]}, "weekdays"),
        ({"uncertain": ["tokens"]}, "uncertain"),
        ({"when": {"speed": "fast", "geography": "us"}}, "when"),
        ({"when": {"moon": "full"}}, "when.moon"),
        ({"free": None, "factor": {"input_tokens": 2}}, "when"),
        ({"colour": "red"}, "colour"),
        ({"steps_doubt": "perhaps"}, "steps_doubt"),
        ({"free": None, "rates": {"input_tokens": 1}, "steps": [{"above": 0, "rates": {}}]}, "steps[0].above"),
    ],
)
def test_a_bad_correction_is_refused(change: dict[str, object], fault: str) -> None:
    """Data that ships is checked like any other."""
    entry = {name: value for name, value in (ENTRY | change).items() if value is not None}
    with pytest.raises(BadData) as caught:
        parse_corrections([entry], where="data.yaml")

    assert any(found.where == f"data.yaml: [0].{fault}" for found in caught.value.faults), caught.value


def test_corrections_are_a_list() -> None:
    """Anything else is said to be none."""
    with pytest.raises(BadData, match="has to be a list of corrections"):
        parse_corrections({"a": 1}, where="data.yaml")


def test_the_first_entry_that_fits_decides() -> None:
    """A newer entry stands above the one it supersedes; conditions, dates and names have to fit."""
    overlay = Overlay(
        parse_corrections(
            [
                {**ENTRY, "id": "later", "from": "2026-06-01"},
                {**ENTRY, "id": "batch", "when": {"processing": "batch"}},
                {**ENTRY, "id": "older"},
            ],
            where="data.yaml",
        )
    )

    def found(provider: str, model: str, month: int, when: tuple[str, str] | None = None) -> str | None:
        entry = overlay.find(provider, model, datetime(2026, month, 1, tzinfo=UTC), when)
        return entry.id if entry else None

    assert found("p", "Model", 5) == "older"
    assert found("p", "model", 6) == "later"
    assert found("p", "model", 6, ("processing", "batch")) == "batch"
    assert found("p", "model", 6, ("speed", "fast")) is None
    assert found("q", "model", 6) is None
    assert found("p", "a-model", 6) is None


def test_factors_are_by_meter() -> None:
    """What is not named keeps its rate."""
    (entry,) = parse_corrections(
        [
            {
                **{name: value for name, value in ENTRY.items() if name != "free"},
                "when": {"geography": "us"},
                "factor": {"input_tokens": 1.1},
            }
        ],
        where="data.yaml",
    )

    assert entry.factor == {"input_tokens": Decimal("1.1")}


def test_long_prompts_may_have_rates_and_doubts_of_their_own() -> None:
    """As cards have."""
    plain = {name: value for name, value in ENTRY.items() if name != "free"}
    steps = [{"above": 200000, "rates": {"input_tokens": 6}}]
    entry = {**plain, "rates": {"input_tokens": 3}, "steps": steps, "steps_doubt": "rate_inferred"}
    (correction,) = parse_corrections([entry], where="data.yaml")

    assert correction.rates is not None
    assert correction.rates["input_tokens"].steps == ((200000, Decimal("0.000006")),)
    assert correction.steps_doubt == "rate_inferred"
