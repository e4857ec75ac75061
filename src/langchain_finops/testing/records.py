"""Records for tests: valid as they are, with any field changed by name."""

from dataclasses import fields
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, Final

from langchain_finops.records import Attribution, CallError, CallRecord, ChargeRecord, Event, Outcome, RunRecord
from langchain_finops.usage import Usage

__all__ = ["DAY", "MONDAY", "TICK", "a_call", "a_charge", "a_full_call", "a_run", "an_event", "an_outcome"]

MONDAY: Final = datetime(2026, 3, 2, 12, tzinfo=UTC)
DAY: Final = timedelta(days=1)
TICK: Final = timedelta(microseconds=1)
_WHO: Final = frozenset(field.name for field in fields(Attribution))


def _split(changes: dict[str, Any]) -> tuple[dict[str, Any], Attribution]:
    """Fields of the record, and the attribution that the others make."""
    who = {name: changes.pop(name) for name in _WHO & changes.keys()}
    return changes, changes.pop("attribution", None) or Attribution(**who)


def a_call(call_id: str = "c1", *, usd: str | None = "0.25", **changes: Any) -> CallRecord:
    """A call of $0.25 at noon on Monday; `agent_id=` and the like go to its attribution."""
    own, who = _split(changes)
    started_at = own.pop("started_at", MONDAY)
    cost = None if usd is None else Decimal(usd)
    parts: dict[str, Any] = {
        "run_id": "r1", "invocation_id": "i1", "provider": "openai", "model": "gpt-4.1-mini",
        "usage": Usage(input_tokens=100, output_tokens=20), "cost_usd": cost, "contracted_usd": cost,
        "billed_usd": cost, "cost_status": "unpriced" if cost is None else "exact",
        "ended_at": started_at + timedelta(seconds=2),
    }  # fmt: skip
    return CallRecord(call_id=call_id, attribution=who, started_at=started_at, **{**parts, **own})


def a_full_call() -> CallRecord:
    """A call with every field filled, each with a value of its own."""
    who = {name: f"the {name}" for name in _WHO - {"step", "attempt", "role", "tags"}}
    texts = {
        name: f"the {name}"
        for name in ("provider", "model", "requested_model", "fx_id", "card_id", "price_book_hash", "account",
                     "provider_request_id", "project", "region", "service_tier", "base_url_host")
    }  # fmt: skip
    return CallRecord(
        call_id="full",
        run_id="the run",
        invocation_id="the invocation",
        attribution=Attribution(**who, step=3, attempt=2, role="judge", tags={"team": "cx", "cost": "ä 0.1"}),
        usage=Usage(input_tokens=10**12, cache_read_tokens=2, cache_write_1h_tokens=3, cached_audio_tokens=4,
                    output_tokens=5, reasoning_tokens=1, web_searches=6, requests=0),
        raw_usage={"prompt_tokens": 7, "details": {"cached": [1, 2], "share": 0.1, "none": None}},
        cost_usd=Decimal("1234567.000000000123"),
        contracted_usd=Decimal("1234566.999999999999"),
        billed_usd=Decimal(0),
        meter_usd={"input_tokens": Decimal("0.00000000000000123"), "requests": Decimal("1E+3")},
        currency="EUR",
        billing_mode="cache",
        cost_status="estimated",
        estimated=True,
        reasons=("no_usage_reported", "unknown_tier"),
        started_at=datetime(2026, 3, 2, 23, 59, 59, 999_999, tzinfo=UTC),
        first_token_at=datetime(2026, 3, 3, 0, 0, 0, 1, tzinfo=UTC),
        ended_at=datetime(2026, 3, 3, 0, 0, 7, tzinfo=UTC),
        error=CallError(error_class="APITimeoutError", http_status=504, code="timeout"),
        prompt_digests=bytes(range(256)),
        revision=2,
        **texts,
    )  # fmt: skip


def a_charge(charge_id: str = "h1", *, usd: str | None = "1.50", **changes: Any) -> ChargeRecord:
    """A tool call of $1.50 at noon on Monday."""
    own, who = _split(changes)
    cost = None if usd is None else Decimal(usd)
    parts: dict[str, Any] = {
        "kind": "tool", "name": "web_search", "run_id": "r1", "invocation_id": "i1", "cost_usd": cost,
        "cost_status": "unpriced" if cost is None else "exact", "at": MONDAY,
    }  # fmt: skip
    return ChargeRecord(charge_id=charge_id, attribution=who, **{**parts, **own})


def a_run(run_id: str = "r1", *, invocation_id: str = "i1", **changes: Any) -> RunRecord:
    """A run that completed on Monday."""
    own, who = _split(changes)
    parts: dict[str, Any] = {"status": "completed", "started_at": MONDAY, "ended_at": MONDAY + timedelta(minutes=1)}
    return RunRecord(run_id=run_id, invocation_id=invocation_id, attribution=who, **{**parts, **own})


def an_outcome(task_id: str = "t1", *, success: bool | None = True, **changes: Any) -> Outcome:
    """A success on Monday."""
    return Outcome(task_id=task_id, success=success, **{"at": MONDAY, **changes})


def an_event(event_id: str = "e1", **changes: Any) -> Event:
    """Somebody raised a budget on Monday."""
    parts: dict[str, Any] = {"at": MONDAY, "actor": "ops@example.com", "action": "raise", "subject": "budget:day"}
    return Event(event_id=event_id, **{**parts, **changes})
