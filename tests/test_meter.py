"""The order in which a call is read, priced and written down, and what happens when one of these fails."""

import asyncio
from collections.abc import Iterator, Mapping
from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from langchain_finops.ledger import open_ledger
from langchain_finops.ledger.base import Ledger
from langchain_finops.meter import CALL_CLOCK, Answer, CallClock, Faults, Meter, OpenCall, Request
from langchain_finops.pricing import PriceBook, parse_cards
from langchain_finops.records import Attribution, CallError, CallRecord, ChargeRecord
from langchain_finops.usage import Usage

AT = datetime(2026, 3, 1, 12, tzinfo=UTC)
USAGE = {"input_tokens": 7, "output_tokens": 3, "total_tokens": 10}
CARDS = [
    {"id": "m", "match": {"model": "m"}, "rates": {"input_tokens": "2", "output_tokens": "10"}},
    {"id": "own", "match": {"model": "own"}, "self_hosted": {"usd_per_instance_hour": "3.6", "instances": 1}},
    {"id": "search", "tool": "search", "usd_per_call": "0.005"},
]


@pytest.fixture
def ledger() -> Ledger:
    return open_ledger(":memory:")


@pytest.fixture
def faults() -> Faults:
    return Faults()


@pytest.fixture
def meter(ledger: Ledger, faults: Faults) -> Meter:
    prices = PriceBook(cards=parse_cards(CARDS, where="test"), catalog=False)
    return Meter(ledger=ledger, prices=prices, faults=faults)


REQUEST = Request(60, None, 1)


def opened(model: str = "m", request: Request = REQUEST) -> OpenCall:
    """A call that has just begun."""
    metadata = {"ls_provider": "test", "ls_model_name": model}
    return OpenCall(("call", "run", "invocation"), Attribution(node_path="a"), metadata, lambda: request)


def test_a_call_is_priced_and_written(meter: Meter, ledger: Ledger) -> None:
    """7 tokens at $2 and 3 at $10 for a million are 44 millionths of a dollar."""
    record = meter.close(opened(), Answer(usage=USAGE, response={"model_name": "m", "id": "resp-1"}))

    assert list(ledger.calls()) == [record]
    assert record.cost_usd == record.contracted_usd == record.billed_usd == Decimal("0.000044")
    assert record.meter_usd == {"input_tokens": Decimal("0.000014"), "output_tokens": Decimal("0.00003")}
    assert (record.cost_status, record.card_id, record.estimated, record.reasons) == ("exact", "m", False, ())
    assert (record.provider, record.model, record.requested_model) == ("test", "m", "m")
    assert (record.call_id, record.run_id, record.invocation_id) == ("call", "run", "invocation")
    assert (record.raw_usage, record.provider_request_id) == (USAGE, "resp-1")
    assert record.price_book_hash == meter.prices.hash


def test_a_record_that_is_filled_is_one_that_was_constructed(meter: Meter) -> None:
    """Filling skips the constructor: every field must be there all the same, and the record frozen."""
    record = meter.close(opened(), Answer(usage=USAGE))
    values = {field.name: getattr(record, field.name) for field in fields(CallRecord)}

    assert type(record) is CallRecord
    assert record == CallRecord(**values)
    with pytest.raises(AttributeError):
        record.cost_usd = Decimal(0)  # type: ignore[misc]


def test_unreported_usage_is_estimated_from_the_request(meter: Meter) -> None:
    """60 tokens of prompt, and 1,000 of output, because nothing is known."""
    record = meter.close(opened(), Answer(received_bytes=8))

    assert record.usage == Usage(input_tokens=60, output_tokens=1000)
    assert (record.estimated, record.cost_status, record.raw_usage) == (True, "estimated", None)
    assert "no_usage_reported" in record.reasons
    assert record.reasons.count("no_usage_reported") == 1


def test_the_past_of_the_node_and_model_is_the_estimate(meter: Meter) -> None:
    """What this node's calls of this model have used is the best guess, and estimates do not feed on themselves."""
    meter.close(opened(), Answer(usage={**USAGE, "output_tokens": 40}))
    meter.close(opened(), Answer(usage={**USAGE, "output_tokens": 60}))

    assert [meter.close(opened(), Answer()).usage.output_tokens for _ in range(2)] == [50, 50]


def test_a_broken_off_answer_is_charged_for_more_than_it_reported(meter: Meter) -> None:
    """Its count of the output stopped where the stream did."""
    answer = Answer(usage=USAGE, whole=False, reasons=("cancelled",), error=CallError(error_class="CancelledError"))

    record = meter.close(opened(request=Request(60, 500, 2)), answer)

    assert record.usage == Usage(input_tokens=7, output_tokens=1000)  # 500 for each of two answers
    assert (record.estimated, record.reasons) == (True, ("cancelled",))


def test_an_answer_that_is_not_charged_is_known_to_be_free(meter: Meter) -> None:
    """Even where the model's price is unknown: nothing was used."""
    error = CallError(error_class="RateLimitError", http_status=429)

    record = meter.close(opened("unknown"), Answer(error=error, whole=False, charged=False, reasons=("http_error",)))

    assert (record.cost_usd, record.billed_usd, record.cost_status) == (0, 0, "free")
    assert (record.usage, record.estimated, record.error) == (Usage(requests=0), False, error)
    assert record.reasons == ("http_error",)


def test_usage_that_another_prompt_of_the_request_carries_is_not_charged_twice(meter: Meter) -> None:
    """LangChain gives the usage of a request for several prompts to the first."""
    record = meter.close(opened(), Answer(counted_elsewhere=True))

    assert (record.usage, record.cost_usd, record.estimated) == (Usage(requests=0), 0, False)


def test_the_past_is_known_by_the_name_that_was_asked_for(meter: Meter) -> None:
    """Answers name a model with its date, and a call without an answer has no such name."""
    for _ in range(3):
        meter.close(opened(), Answer(usage={**USAGE, "output_tokens": 6000}, response={"model_name": "m-2026-01-01"}))

    record = meter.close(opened(), Answer(whole=False, reasons=("cancelled",)))

    assert record.usage.output_tokens == 6000


def test_what_a_stream_reported_before_it_broke_counts(meter: Meter) -> None:
    """Anthropic counts the prompt first: 50,000 tokens of it are no estimate of ours."""
    call = opened()
    call.usage_so_far = {"input_tokens": 50_000, "output_tokens": 1, "total_tokens": 50_001}

    record = meter.close(call, Answer(whole=False, reasons=("failed",)))

    assert (record.usage.input_tokens, record.usage.output_tokens, record.estimated) == (50_000, 1000, True)
    assert record.raw_usage == call.usage_so_far


def test_a_request_for_two_prompts_takes_its_time_once(meter: Meter) -> None:
    """A machine at $3.60 an hour is not paid twice for one request."""
    calls = [opened("own") for _ in range(2)]
    calls[0].started_at = calls[1].started_at = datetime.now(UTC) - timedelta(hours=1)

    first = meter.close(calls[0], Answer(usage=USAGE))
    second = meter.close(calls[1], Answer(counted_elsewhere=True, timed_elsewhere=True))

    assert first.cost_usd is not None
    assert first.cost_usd >= Decimal("3.6")
    assert second.cost_usd == 0


@pytest.mark.parametrize("text", ["SECRET", {"text": "SECRET"}, ["SECRET"]])
def test_no_text_gets_into_raw_usage(text: object, meter: Meter) -> None:
    """Whatever a provider adds to its counts: numbers and the names that prices hang on stay, text does not."""
    answer = Answer(
        usage={**USAGE, "note": text, "output_token_details": {"reasoning": 1}},
        response={"token_usage": {"service_tier": "flex", "thought": text}},
    )

    record = meter.close(opened(), answer)

    assert "SECRET" not in repr(record)
    assert record.raw_usage is not None
    assert record.raw_usage["output_token_details"] == {"reasoning": 1}
    assert record.raw_usage["provider_usage"]["service_tier"] == "flex"


# --- faults ----------------------------------------------------------------------------------------------------


class Broken(PriceBook):
    """Fails wherever it is asked."""

    def read(self, *_: Any, **__: Any) -> Any:
        raise RuntimeError("SECRET")

    def price(self, *_: Any, **__: Any) -> Any:
        raise RuntimeError("SECRET")

    def tool_price(self, *_: Any, **__: Any) -> Any:
        raise RuntimeError("SECRET")


def test_a_call_that_cannot_be_priced_is_still_recorded(
    ledger: Ledger, faults: Faults, caplog: pytest.LogCaptureFixture
) -> None:
    """It is estimated, unpriced and says why; the fault is logged once, with its place and without its text."""
    meter = Meter(ledger=ledger, prices=Broken(catalog=False), faults=faults)

    meter.close(opened(), Answer(usage=USAGE))
    meter.charge(ChargeRecord(charge_id="c", kind="tool", name="search", at=AT))

    (call,) = ledger.calls()
    assert (call.cost_usd, call.cost_status, call.reasons) == (None, "unpriced", ("pricing_failed",))
    assert (call.provider, call.model, call.usage.input_tokens) == ("test", "m", 60)
    assert [charge.cost_status for charge in ledger.charges()] == ["unpriced"]
    assert faults.count == 3
    (entry,) = caplog.records
    assert "RuntimeError in Broken.read:" in entry.getMessage()
    assert "SECRET" not in caplog.text


def test_an_answer_that_breaks_the_meter_is_still_charged(meter: Meter, ledger: Ledger, faults: Faults) -> None:
    """It was paid for: there is an estimate that says why, and the fault is counted."""

    class Odd(dict[str, Any]):
        def get(self, *_: Any) -> Any:
            raise RuntimeError("SECRET")

    meter.close(opened(), Answer(usage=USAGE, response=Odd({"id": "x"})))

    (call,) = ledger.calls()
    assert call.estimated
    assert call.cost_usd == (2 * 60 + 10 * 1000) * Decimal("0.000001")
    assert "unreadable_answer" in call.reasons
    assert faults.count >= 1


def test_a_prompt_that_cannot_be_measured_does_not_lose_its_call(meter: Meter, ledger: Ledger, faults: Faults) -> None:
    """Its answer is charged at its estimate all the same."""

    def request() -> Request:
        raise RecursionError

    call = opened()
    call.request = request
    meter.close(call, Answer(whole=False, reasons=("cancelled",)))

    assert [each.usage.output_tokens for each in ledger.calls()] == [1000]
    assert faults.count == 1


def test_a_ledger_that_breaks_its_contract_loses_records_and_not_the_run(
    meter: Meter, faults: Faults, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The sums still have the call."""
    monkeypatch.setattr(meter.ledger, "write", lambda *_: 1 / 0)

    assert meter.close(opened(), Answer(usage=USAGE)).cost_usd == Decimal("0.000044")
    assert faults.count == 1


# --- clocks ----------------------------------------------------------------------------------------------------


@pytest.fixture
def recorded_clock() -> Iterator[CallClock]:
    """As a replay sets it."""
    clock = CallClock()
    token = CALL_CLOCK.set(clock)
    yield clock
    CALL_CLOCK.reset(token)


@pytest.mark.usefixtures("recorded_clock")
def test_a_replayed_call_has_the_times_it_was_recorded_with(meter: Meter) -> None:
    """Half an hour of a machine at $3.60 an hour, of which nothing is paid again."""
    call = opened("own")
    clock = CALL_CLOCK.get()
    assert clock is not None
    clock.started_at, clock.first_token_at = AT, AT + timedelta(minutes=1)
    clock.ended_at, clock.replayed = AT + timedelta(minutes=30), True

    record = meter.close(call, Answer(usage=USAGE))

    assert (record.started_at, record.first_token_at, record.ended_at) == (
        AT,
        AT + timedelta(minutes=1),
        AT + timedelta(minutes=30),
    )
    assert (record.cost_usd, record.billed_usd, record.billing_mode) == (Decimal("1.8"), 0, "replay")


@pytest.mark.usefixtures("recorded_clock")
def test_a_replay_of_an_unpriced_call_stays_unpriced(meter: Meter) -> None:
    """Unknown is not free, replayed or not; but nothing is paid for it again."""
    call = opened("unknown")
    clock = CALL_CLOCK.get()
    assert clock is not None
    clock.replayed = True

    record = meter.close(call, Answer(usage=USAGE))

    assert (record.cost_usd, record.cost_status) == (None, "unpriced")
    assert (record.billed_usd, record.billing_mode) == (0, "replay")


async def test_each_call_has_a_clock_of_its_own(recorded_clock: CallClock, meter: Meter) -> None:
    """Calls one after another in a context, or at once in tasks, must not get each other's times."""

    async def replayed(minute: int) -> CallRecord:
        call = opened()
        await asyncio.sleep(0)

        async def client() -> None:  # Deep in the HTTP client, in a task with a copy of the context.
            clock = CALL_CLOCK.get()
            assert clock is not None
            clock.started_at = clock.ended_at = AT + timedelta(minutes=minute)

        await asyncio.ensure_future(client())
        return meter.close(call, Answer(usage=USAGE))

    first = await replayed(1)
    both = await asyncio.gather(replayed(2), replayed(3))

    assert [record.started_at for record in (first, *both)] == [AT + timedelta(minutes=each) for each in (1, 2, 3)]
    assert recorded_clock == CallClock()


def test_a_live_call_reads_the_real_clock(meter: Meter) -> None:
    """While nothing is replayed there is no clock, and while recording it stays unfilled."""
    before = datetime.now(UTC)
    plain = meter.close(opened(), Answer(usage=USAGE))
    token = CALL_CLOCK.set(CallClock())
    recording = meter.close(opened(), Answer(usage=USAGE))
    CALL_CLOCK.reset(token)

    for record in (plain, recording):
        assert before <= record.started_at <= record.ended_at <= datetime.now(UTC)
        assert record.billing_mode == "payg"


# --- late answers and charges ------------------------------------------------------------------------------------


def test_a_late_answer_is_the_next_revision_of_the_same_call(meter: Meter, ledger: Ledger) -> None:
    """Whose it is, and when it began, stays; the estimate stays in the history."""
    old = meter.close(opened(), Answer(whole=False, reasons=("cancelled",)))

    versions = meter.supersede("call", Answer(usage=USAGE, response={"model_name": "m"}))

    assert versions is not None
    assert versions[0] == old
    new = versions[1]
    assert list(ledger.calls()) == [new]
    assert list(ledger.calls(history=True)) == [old, new]
    assert (new.revision, new.cost_usd, new.estimated) == (1, Decimal("0.000044"), False)
    same = ("call_id", "run_id", "invocation_id", "attribution", "provider", "model", "requested_model", "started_at")
    assert [getattr(new, name) for name in same] == [getattr(old, name) for name in same]


def test_a_late_answer_without_usage_does_not_lower_the_estimate(meter: Meter) -> None:
    """The request asked for at most 8,000 tokens; an answer that tells no number proves no smaller one."""
    meter.close(opened(request=Request(60, 8000, 1)), Answer(whole=False, reasons=("cancelled",)))

    versions = meter.supersede("call", Answer(received_bytes=40))

    assert versions is not None
    assert [version.usage.output_tokens for version in versions] == [8000, 8000]
    assert versions[1].estimated


@pytest.mark.usefixtures("recorded_clock")
@pytest.mark.parametrize("model", ["m", "unknown"])
def test_a_late_answer_to_a_replayed_call_is_replayed_too(model: str, meter: Meter) -> None:
    """It is the recording's: nothing is paid, and it took as long as was recorded."""
    call = opened(model)
    clock = CALL_CLOCK.get()
    assert clock is not None
    clock.started_at, clock.ended_at, clock.replayed = AT, AT + timedelta(seconds=1), True
    old = meter.close(call, Answer(whole=False, reasons=("cancelled",)))

    versions = meter.supersede("call", Answer(usage=USAGE))

    assert versions is not None
    new = versions[1]
    assert (new.billing_mode, new.billed_usd, new.usage.output_tokens) == ("replay", 0, 3)
    assert (new.started_at, new.ended_at) == (old.started_at, old.ended_at) == (AT, AT + timedelta(seconds=1))


def test_a_late_answer_to_a_call_nobody_knows_is_nothing(meter: Meter, ledger: Ledger) -> None:
    """A call that was pruned meanwhile does not come back."""
    assert meter.supersede("gone", Answer(usage=USAGE)) is None
    assert list(ledger.calls()) == []


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"name": "search"}, (Decimal("0.005"), "exact", "search")),
        ({"name": "search", "quantity": Decimal(4)}, (Decimal("0.02"), "exact", "search")),
        ({"name": "search", "cost_usd": Decimal(1), "cost_status": "reported"}, (Decimal(1), "reported", None)),
        ({"name": "unknown"}, (None, "unpriced", None)),
        ({"name": None}, (None, "unpriced", None)),
    ],
)
def test_a_charge_is_priced_by_its_card_unless_it_says_what_it_cost(
    given: Mapping[str, Any], expected: tuple[object, ...], meter: Meter, ledger: Ledger
) -> None:
    """An amount that somebody named is believed; no card is no price."""
    charge = meter.charge(replace(ChargeRecord(charge_id="c", kind="tool", at=AT), **given))

    assert (charge.cost_usd, charge.cost_status, charge.card_id) == expected
    assert list(ledger.charges()) == [charge]
