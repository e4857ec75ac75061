"""A record that was filled as a draft is the same record, and as frozen."""

from dataclasses import FrozenInstanceError, fields, replace
from datetime import UTC, datetime
from decimal import Decimal

import pytest

from langchain_finops.pricing import Cost, PriceKey, Reading
from langchain_finops.pricing.drafts import CostDraft, PriceKeyDraft, ReadingDraft, UsageDraft, sealed
from langchain_finops.usage import Usage

USAGE = Usage(input_tokens=3, output_tokens=2, reasoning_tokens=1)
KEY = PriceKey(provider="openai", model="gpt-4.1", at=datetime(2026, 1, 1, tzinfo=UTC))
RECORDS = [
    (USAGE, UsageDraft),
    (KEY, PriceKeyDraft),
    (Reading(usage=USAGE, key=KEY), ReadingDraft),
    (Cost(usd=Decimal(1), contracted_usd=Decimal(1), billed_usd=Decimal(1), status="exact"), CostDraft),
]


@pytest.mark.parametrize(("record", "draft_class"), RECORDS)
def test_a_sealed_draft_is_the_record(record: object, draft_class: type) -> None:
    """Equal to the one its constructor makes, of the same class, replaceable, and frozen."""
    draft = draft_class()
    for field in fields(record):  # type: ignore[arg-type]
        setattr(draft, field.name, getattr(record, field.name))
    made = sealed(draft, type(record))

    assert type(made) is type(record)
    assert made == record
    assert replace(made) == record  # type: ignore[type-var]
    with pytest.raises(FrozenInstanceError):
        setattr(made, fields(record)[0].name, None)  # type: ignore[arg-type]


@pytest.mark.parametrize(("record", "draft_class"), RECORDS)
def test_a_draft_declares_every_field(record: object, draft_class: type) -> None:
    """A field added to the record and forgotten in the draft would be an AttributeError for whoever reads it."""
    assert list(draft_class.__annotations__) == [field.name for field in fields(record)]  # type: ignore[arg-type]
