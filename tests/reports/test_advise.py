"""Planted waste, by hand: each kind is found where it is, at what it costs, and nothing is found where nothing is."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from hashlib import blake2b
from pathlib import Path

import pytest

from langchain_finops.ledger import open_ledger
from langchain_finops.ledger.marks import End, Marks, read_marks
from langchain_finops.pricing import PriceBook
from langchain_finops.pricing.cards import parse_cards
from langchain_finops.records import CallError
from langchain_finops.reports.advise import FIELDS, KINDS, Machine, advise
from langchain_finops.testing.records import a_call, a_charge, a_run, an_outcome
from langchain_finops.usage import Usage

NOON = datetime(2026, 11, 2, 12, tzinfo=UTC)
DOLLARS = {  # A million tokens: input, read from a cache, written to one, output.
    "gpt-4.1": ("2", "0.5", "2", "8"),
    "gpt-4.1-mini": ("0.4", "0.1", "0.4", "1.6"),
    "gpt-5": ("1.25", "0.125", "1.25", "10"),
    "claude-sonnet-4-5": ("3", "0.3", "3.75", "15"),
}
TOKENS = ("input_tokens", "cache_read_tokens", "cache_write_5m_tokens", "output_tokens")
FAILED = CallError(error_class="TimeoutError")


@pytest.fixture(scope="module")
def book():
    return PriceBook()


@pytest.fixture(params=["memory", "file"])
def ledger(request, tmp_path):
    opened = open_ledger(":memory:" if request.param == "memory" else tmp_path / "ledger.db")
    yield opened
    opened.close()


def cost(model, *tokens):
    """What so many tokens cost: by hand, from `DOLLARS`."""
    return sum(Decimal(rate) * count for rate, count in zip(DOLLARS[model], tokens, strict=True)) / 1_000_000


def call(name, model, *tokens, at=NOON, **more):
    """A call of that model with so many tokens of each meter, at its price."""
    usage = Usage(**dict(zip(TOKENS, tokens, strict=True)))
    provider = "anthropic" if model.startswith("claude") else "openai"
    parts = {"provider": provider, "model": model, "usage": usage, "started_at": at, "run_id": name, **more}
    return a_call(name, usd=str(cost(model, *tokens)), **parts)


def minutes(count):
    return timedelta(minutes=count)


def found(ledger, book, **more):
    """The findings by kind, each kind at most once."""
    rows = advise(ledger, book=book, **more).rows
    assert all(tuple(row) == FIELDS for row in rows)
    kinds = [row["kind"] for row in rows]
    assert len(set(kinds)) == len(kinds)
    return dict(zip(kinds, rows, strict=True))


def two_models(ledger, cheap_successes=60):
    """Sixty tasks each: gpt-4.1 solves 57, gpt-4.1-mini as many as said; the same tokens."""
    for number in range(60):
        for model, successes in (("gpt-4.1", 57), ("gpt-4.1-mini", cheap_successes)):
            task = f"{model}-{number}"
            at = NOON + minutes(number)
            who = {"agent_id": "a", "node_path": "answer", "task_id": task, "user_id": "u"}
            ledger.write(call(task, model, 1000, 0, 0, 500, at=at, **who), an_outcome(task, success=number < successes))


def test_a_cheaper_model_that_succeeds_as_often_is_found(ledger, book):
    """60 calls at $0.006 would cost $0.0012: $0.288 in one day is $8.64 a month, and a fifth of the models' share."""
    two_models(ledger)
    (row,) = found(ledger, book).values()
    assert (row["kind"], row["node"], row["model"], row["confidence"]) == (
        "cheaper_model", "answer", "gpt-4.1", "medium",
    )  # fmt: skip
    assert row["saving_usd"] == 60 * (Decimal("0.006") - Decimal("0.0012")) == Decimal("0.288")
    assert row["usd_per_month"] == row["adds_usd_per_month"] == Decimal("8.64")
    assert (row["days"], row["saving_is"], row["calls"], row["unpriced"]) == (1, "known", 60, 0)
    assert [(each["tasks"], each["successes"], each["cost_usd"]) for each in row["evidence"]] == [
        (60, 57, "0.36"),
        (60, 60, "0.072"),
    ]
    assert "gpt-4.1-mini" in row["lever"]


@pytest.mark.parametrize("successes", [30, 50])
def test_a_cheaper_model_that_succeeds_less_often_is_not(ledger, book, successes):
    """30 or 50 of 60 against 57 of 60."""
    two_models(ledger, cheap_successes=successes)
    assert found(ledger, book) == {}


def test_a_small_difference_that_is_sure_is_no_equal_success(ledger, book):
    """900 of 1,000 against 860: at worst 7 points less, but at best 1 (Newcombe: -0.069 to -0.012)."""
    records = []
    for number in range(1000):
        for model, successes in (("gpt-4.1", 900), ("gpt-4.1-mini", 860)):
            task = f"{model}-{number}"
            who = {"task_id": task, "user_id": "u", "at": NOON + timedelta(minutes=number**2)}
            records += [call(task, model, 1000, 0, 0, 500, **who), an_outcome(task, success=number < successes)]
    ledger.write(*records)
    assert found(ledger, book) == {}


def test_a_cheaper_model_that_takes_twice_the_calls_saves_less(ledger, book):
    """Twenty tasks each: gpt-4.1 in a call of $0.006, mini in two of $0.0012: 60% are saved, not 80%."""
    for number in range(25):
        for model, calls in (("gpt-4.1", 1), ("gpt-4.1-mini", 2)):
            task = f"{model}-{number}"
            for step in range(calls):
                ledger.write(call(f"{task}-{step}", model, 1000, 0, 0, 500, run_id=task, task_id=task, user_id="u"))
            ledger.write(an_outcome(task))
    row = found(ledger, book)["cheaper_model"]
    assert row["saving_usd"] == 25 * (Decimal("0.006") - 2 * Decimal("0.0012"))
    assert row["confidence"] == "low"  # 25 of 25 may be 87%.


def test_small_answers_of_a_dear_model_are_found(ledger, book):
    """50 answers of 3 tokens to 500: $0.001024 each with gpt-4.1, a fifth of it with gpt-4.1-mini."""
    for number in range(50):
        ledger.write(call(f"c{number}", "gpt-4.1", 500, 0, 0, 3, at=NOON + number * minutes(number), user_id="u"))
    row = found(ledger, book)["small_answers"]
    assert row["saving_usd"] == 50 * Decimal("0.001024") * 4 / 5
    assert (row["confidence"], row["evidence"][0]["small_answers"]) == ("low", 50)
    assert row["lever"].startswith("gpt-4.1-mini")


@pytest.mark.parametrize(("model", "output", "calls"), [
    ("gpt-4.1-mini", 3, 50),  # Cheap already.
    ("gpt-4.1", 300, 50),  # Long answers.
    ("gpt-4.1", 3, 49),  # Too few to tell.
])  # fmt: skip
def test_small_answers_that_are_not(ledger, book, model, output, calls):
    """Of a cheap model, or not small, or few."""
    for number in range(calls):
        ledger.write(call(f"c{number}", model, 500, 0, 0, output, at=NOON + number * minutes(number), user_id="u"))
    assert found(ledger, book) == {}


def runs(ledger, model, sizes, *, count=6, apart=1, cached=False, **more):
    """Runs whose calls have so many input tokens, one after the other; the runs at odd times."""
    for run in range(count):
        for step, size in enumerate(sizes):
            at = NOON + timedelta(hours=run**2) + step * minutes(apart)
            before = sizes[step - 1] if step and cached else 0
            ledger.write(
                call(
                    f"{run}-{step}", model, size - before, before, 0, 100,
                    at=at, run_id=f"r{run}", node_path="think", user_id="u", **more,
                )
            )  # fmt: skip


def test_a_prefix_without_a_cache_is_found(ledger, book):
    """2,000, 2,500 and 3,000 tokens a minute apart: 4,500 of them in each of six runs at $0.50, not $2, a million."""
    runs(ledger, "gpt-4.1", [2000, 2500, 3000])
    row = found(ledger, book)["uncached_prefix"]
    assert row["saving_usd"] == 6 * (2000 + 2500) * Decimal("1.5") / 1_000_000
    assert (row["confidence"], row["calls"]) == ("medium", 12)
    assert row["evidence"][0]["tokens_that_could_be_read"] == 6 * 4500


def test_what_writing_to_a_cache_costs_is_taken_off(ledger, book):
    """Anthropic: 4,500 tokens at $0.30, not $3; but all 3,000 that were new at $3.75."""
    runs(ledger, "claude-sonnet-4-5", [2000, 2500, 3000])
    row = found(ledger, book)["uncached_prefix"]
    assert row["saving_usd"] == 6 * (4500 * Decimal("2.7") - 3000 * Decimal("0.75")) / 1_000_000


def test_one_template_without_a_cache_is_found_and_is_less_sure(ledger, book):
    """21 prompts of 3,000 to 3,200 tokens, a minute apart: of 20 of them 3,000 could be read."""
    for number in range(21):
        at = NOON + minutes(number)
        ledger.write(call(f"c{number}", "gpt-4.1", 3000 + number % 2 * 200, 0, 0, 100, at=at, user_id="u"))
    row = found(ledger, book)["uncached_prefix"]
    assert (row["saving_usd"], row["confidence"]) == (20 * 3000 * Decimal("1.5") / 1_000_000, "low")


@pytest.mark.parametrize(("sizes", "more"), [
    ([200, 250, 300], {}),  # Too short for a cache.
    ([2000, 2500, 3000], {"apart": 6}),  # Too late for one.
    ([2000, 2500, 3000], {"cached": True}),  # It is used.
    ([9000, 4000, 2000], {}),  # Each is shorter than the one before: not the same with more.
])  # fmt: skip
def test_prefixes_that_no_cache_would_help(ledger, book, sizes, more):
    """Short, late, cached, or not the same."""
    runs(ledger, "gpt-4.1", sizes, **more)
    assert "uncached_prefix" not in found(ledger, book)


def digested(number, *, system=b"systemsy", said=None, size=3000):
    """A prompt of `size` tokens, four bytes each: 2,000 of a system prompt, the rest a message of its own."""
    own = f"{number if said is None else said:>8}".encode()
    marks = Marks(
        whole=blake2b(system + own, digest_size=8).digest(), size=4 * size, system=system, system_masked=b"maskmask",
        system_size=8000, ends=(End("human", 1, 4 * size - 8000, own),), recent=(own[-4:],),
    )  # fmt: skip
    return marks.to_bytes()


def test_a_prefix_is_proved_by_digests(ledger, book):
    """21 prompts of 3,000 tokens under one system prompt of 2,000: 20 times these, and not all that has one size."""
    for number in range(21):
        more = {"at": NOON + minutes(number), "user_id": "u", "prompt_digests": digested(number)}
        ledger.write(call(f"c{number}", "gpt-4.1", 3000, 0, 0, 100, **more))
    rows = found(ledger, book)
    row = rows["uncached_prefix"]
    assert (row["saving_usd"], row["confidence"]) == (20 * 2000 * Decimal("1.5") / 1_000_000, "high")
    assert row["see"] == "finops insight prefixes"
    assert rows.keys() == {"uncached_prefix"}


def test_sizes_do_not_count_where_digests_tell_prompts_apart(ledger, book):
    """A template by size, and each system prompt is another text: nothing could be read, or would be if mended."""
    for number in range(21):
        system = f"{number:>8}".encode()
        marks = replace(read_marks(digested(number, system=system)), system_masked=system)
        more = {"at": NOON + minutes(number), "user_id": "u", "prompt_digests": marks.to_bytes()}
        ledger.write(call(f"c{number}", "gpt-4.1", 3000, 0, 0, 100, **more))
    assert found(ledger, book) == {}


@pytest.mark.parametrize(("model", "added", "finds"), [
    ("gpt-4.1", 10, True), ("claude-sonnet-4-5", 10, False), ("claude-sonnet-4-5", 9, True),
])  # fmt: skip
def test_a_prefix_that_no_mark_finds_is_not_advised(ledger, book, model, added, finds):
    """Each call of a run adds so many messages of 200 tokens: nine are 18 blocks, behind which Claude's mark finds what
    is cached, and ten are 20, which are too many. OpenAI needs no mark."""
    for number in range(1, 22):
        ends = [End("tool", added * n, added * 800 * n, f"{n:>8}".encode()) for n in (number - 1, number) if n]
        marks = Marks(whole=f"{number:>8}".encode(), size=ends[-1].size, ends=tuple(ends), recent=(b"aaaa",))
        more = {"at": NOON + minutes(number), "run_id": "r", "prompt_digests": marks.to_bytes()}
        ledger.write(call(f"c{number}", model, added * 200 * number, 0, 0, 100, **more))
    assert ("uncached_prefix" in found(ledger, book)) == finds


def stamped(ledger, model="gpt-4.1", **more):
    """21 calls whose system prompts differ in what has digits in it."""
    for number in range(21):
        digests = digested(number, system=f"{number:>8}".encode())
        parts = {
            "at": NOON + minutes(number),
            "user_id": "u",
            "prompt_digests": digests,
            "node_path": "a/answer",
            **more,
        }
        ledger.write(call(f"c{number}", model, 3000, 0, 0, 100, **parts))


def test_a_time_stamp_that_breaks_a_cache_is_found(ledger, book):
    """20 times the system prompt's 2,000 tokens at $0.50, not $2; never at a protected node."""
    stamped(ledger)
    row = found(ledger, book)["broken_cache"]
    assert row["saving_usd"] == 20 * 2000 * Decimal("1.5") / 1_000_000
    assert (row["saving_is"], row["confidence"], row["calls"]) == ("known", "high", 20)
    assert row["evidence"] == [{"cause": "time_stamp", "calls": 20, "lost_tokens": 40_000}]
    assert "time stamp in the system prompt" in row["rests_on"]
    assert found(ledger, book, protect=["a"]) == {}


def test_where_marks_are_to_be_set_a_broken_cache_costs_at_most_that(ledger, book):
    """Claude: $0.30, not $3, but who sets the first mark pays for writing."""
    stamped(ledger, "claude-sonnet-4-5")
    row = found(ledger, book)["broken_cache"]
    assert (row["saving_usd"], row["saving_is"]) == (20 * 2000 * Decimal("2.7") / 1_000_000, "at_most")
    assert "cache_policy()" in row["lever"]


def test_a_cache_that_breaks_seldom_is_left_alone(ledger, book):
    """Six minutes apart no cache would hold it, whatever stands in the prompt."""
    for number in range(21):
        more = {"at": NOON + minutes(6 * number), "prompt_digests": digested(number, system=f"{number:>8}".encode())}
        ledger.write(call(f"c{number}", "gpt-4.1", 3000, 0, 0, 100, user_id="u", **more))
    assert found(ledger, book) == {}


def test_the_same_call_again_is_proved_by_digests(ledger, book):
    """In three runs two of four calls ask what was asked before; at the other node equal counts alone are nothing."""
    for said, name in (("ab", "same"), ("abcd", "other")):
        for run in range(3):
            for step in range(4):
                at = NOON + timedelta(hours=run**2, minutes=10 * step)
                digests = digested(0, said=f"{run}{said[step % len(said)]}", size=2100)
                who = {"run_id": f"{name}{run}", "node_path": name, "user_id": "u", "prompt_digests": digests}
                ledger.write(
                    call(
                        f"{name}{run}-{step}", "gpt-4.1-mini", 400, 0, 0, 40 + step % 2 * said.count("d"), at=at, **who
                    )
                )
    row = found(ledger, book)["repeated_calls"]
    assert (row["node"], row["confidence"], row["evidence"]) == (
        "same",
        "high",
        [{"calls": 12, "repeats": 6, "runs": 3}],
    )
    assert row["saving_usd"] == 6 * cost("gpt-4.1-mini", 400, 0, 0, 40)


@pytest.mark.parametrize(("other", "is_found"), [(1, True), (2, False)])
def test_who_asks_again_for_another_answer_is_not_advised(ledger, book, other, is_found):
    """Of ten prompts asked twice, one (a tenth) is answered at another length: found. Of two, it is a vote: not."""
    for run in range(10):
        for step in range(2):
            at = NOON + timedelta(hours=run**2, minutes=10 * step)
            who = {"run_id": f"r{run}", "user_id": "u", "prompt_digests": digested(0, said=f"{run}", size=2100)}
            output = 40 + (step and run < other)
            ledger.write(call(f"{run}-{step}", "gpt-4.1-mini", 400, 0, 0, output, at=at, **who))
    assert ("repeated_calls" in found(ledger, book)) is is_found


def test_chunks_of_documents_are_no_template(ledger, book):
    """Nineteen full chunks and a rest: the smallest is far from the mean."""
    for number in range(20):
        size = 3000 if number else 1500
        ledger.write(call(f"c{number}", "gpt-4.1", size, 0, 0, 100, at=NOON + minutes(number), user_id="u"))
    assert found(ledger, book) == {}


def test_a_cache_that_is_written_and_not_read_is_found(ledger, book):
    """12 calls write 4,000 tokens at $3.75, not $3, and one reads 1,000 at $0.30: $0.036 less $0.0027."""
    for number in range(12):
        read = 1000 if number == 11 else 0
        at = NOON + timedelta(hours=number**2)
        ledger.write(call(f"c{number}", "claude-sonnet-4-5", 50, read, 4000, 100, at=at, user_id="u"))
    row = found(ledger, book)["unread_cache"]
    assert row["saving_usd"] == (12 * 4000 * Decimal("0.75") - 1000 * Decimal("2.7")) / 1_000_000
    assert row["confidence"] == "high"


def test_a_cache_that_pays_is_not(ledger, book):
    """Written once, read eleven times."""
    for number in range(12):
        tokens = (50, 4000, 0, 100) if number else (50, 0, 4000, 100)
        ledger.write(call(f"c{number}", "claude-sonnet-4-5", *tokens, at=NOON + minutes(number), user_id="u"))
    assert found(ledger, book) == {}


GROWING = [1000, 2000, 3000, 4000, 5000, 6000, 7000]
"""Past the first prompt and the last three steps: 1,000, 2,000 and 3,000 tokens of the fifth call and those after."""


def test_a_context_that_grows_is_found(ledger, book):
    """6,000 of 28,000 tokens in each of six runs are old, at $2 a million."""
    runs(ledger, "gpt-4.1", GROWING, apart=6)
    row = found(ledger, book)["growing_context"]
    assert row["saving_usd"] == 6 * 6000 * Decimal(2) / 1_000_000
    assert row["evidence"] == [{"runs": 6, "old_tokens": 36_000, "input_tokens": 168_000}]
    assert row["confidence"] == "medium"


def test_a_context_that_grows_in_a_cache_saves_what_the_cache_costs(ledger, book):
    """The same tokens at $0.50, and less sure: cutting costs the cache."""
    runs(ledger, "gpt-4.1", GROWING, cached=True)
    row = found(ledger, book)["growing_context"]
    assert (row["saving_usd"], row["confidence"]) == (6 * 6000 * Decimal("0.5") / 1_000_000, "low")


def test_a_context_that_is_cut_already_is_not(ledger, book):
    """A thousand tokens a step until three steps are there, and then next to none: what is older goes already."""
    runs(ledger, "gpt-4.1", [1000, 2000, 3000, 4000, 4050, 4100, 4150, 4200], apart=6)
    assert "growing_context" not in found(ledger, book)


def test_a_document_that_is_read_first_and_stays_is_found(ledger, book):
    """5,000 tokens of it at the second step, little after: 5,000, 5,100 and 5,200 are older in the last three."""
    runs(ledger, "gpt-4.1", [400, 5400, 5500, 5600, 5700, 5800, 5900], apart=6)
    row = found(ledger, book)["growing_context"]
    assert row["saving_usd"] == 6 * (5000 + 5100 + 5200) * Decimal(2) / 1_000_000


@pytest.mark.parametrize("sizes", [[3000] * 7, [1000, 2000, 3000, 4000], [100, 200, 300, 400, 500, 600, 700]])
def test_contexts_that_do_not_grow_too_long(ledger, book, sizes):
    """Always the same, over in four calls, or small."""
    runs(ledger, "gpt-4.1", sizes, apart=6)
    assert "growing_context" not in found(ledger, book)


def repeats(ledger, outputs, *, count=3):
    """Runs of one node that is asked 400 tokens, or 410, 420, and answers so many."""
    for run in range(count):
        for step, output in enumerate(outputs):
            at = NOON + timedelta(hours=run**2, minutes=10 * step)
            who = {"run_id": f"r{run}", "node_path": "look", "user_id": "u"}
            ledger.write(call(f"{run}-{step}", "gpt-4.1-mini", 400 + 10 * run, 0, 0, output, at=at, **who))


def test_the_same_call_again_is_found_by_its_counts(ledger, book):
    """Two of four calls in three runs have the counts of an earlier one."""
    repeats(ledger, [40, 40, 40, 55])
    row = found(ledger, book)["repeated_calls"]
    assert row["saving_usd"] == 2 * sum(cost("gpt-4.1-mini", size, 0, 0, 40) for size in (400, 410, 420))
    assert (row["confidence"], row["evidence"]) == ("low", [{"calls": 12, "repeats": 6, "runs": 3}])


def test_the_same_call_again_is_found_where_a_cache_read_its_prompt(ledger, book):
    """2,000 tokens each time, at the second time from the provider's cache: still one call too many."""
    for run in range(5):
        for step, read in enumerate((0, 1500)):
            at = NOON + timedelta(hours=run**2, minutes=10 * step)
            who = {"run_id": f"r{run}", "node_path": "look", "user_id": "u", "at": at}
            ledger.write(call(f"{run}-{step}", "gpt-4.1-mini", 2000 + run - read, read, 0, 40, **who))
    assert found(ledger, book)["repeated_calls"]["evidence"] == [{"calls": 10, "repeats": 5, "runs": 5}]


def test_a_fan_out_over_items_is_neither_a_repeat_nor_a_prefix_nor_a_context(ledger, book):
    """Twenty texts a run, of 1,500 to 6,000 tokens in no order; a template of one size with a label for an answer."""
    for run in range(10):
        for item in range(20):
            at = NOON + timedelta(hours=run**2, milliseconds=item)
            size = 1500 + (item * 7919 + run * 104_729) % 4500
            label = (item * 31 + run * 17) % 3
            who = {"run_id": f"r{run}", "user_id": "u", "at": at}
            ledger.write(
                call(f"d{run}-{item}", "gpt-4.1-mini", size, 0, 0, 300 + item, node_path="read", **who),
                call(f"l{run}-{item}", "gpt-4.1-mini", 400 + label, 0, 0, 9, node_path="label", **who),
            )
    assert found(ledger, book) == {}


@pytest.mark.parametrize("outputs", [[40, 41, 42, 43], [3, 3, 3, 3]])
def test_calls_that_are_not_the_same(ledger, book, outputs):
    """Other answers; and answers so short that equal counts are chance."""
    repeats(ledger, outputs)
    assert found(ledger, book) == {}


def tries(ledger, succeeds, count=20):
    """Runs of a first and two further tries, each paid for; the third succeeds where it is said so."""
    for run in range(count):
        for attempt in (1, 2, 3):
            last = attempt == 3 and succeeds(run)
            at = NOON + timedelta(hours=run**2, seconds=attempt)
            more = {"step": 1, "attempt": attempt, "error": None if last else FAILED, "run_id": f"r{run}"}
            ledger.write(call(f"{run}-{attempt}", "gpt-4.1", 100 + attempt, 0, 0, 200, at=at, user_id="u", **more))
        ledger.write(a_run(f"r{run}", status="completed"))


def test_retries_that_never_succeed_are_found(ledger, book):
    """Forty second and third tries; the first ones would have been paid all the same."""
    tries(ledger, lambda run: False)
    row = found(ledger, book)["futile_retries"]
    assert row["saving_usd"] == 20 * sum(cost("gpt-4.1", 100 + attempt, 0, 0, 200) for attempt in (2, 3))
    assert (row["confidence"], row["calls"]) == ("high", 40)


def test_retries_that_help_are_not(ledger, book):
    """A fifth of them succeed."""
    tries(ledger, lambda run: run % 5 == 0)
    assert found(ledger, book) == {}


def test_a_retry_that_was_answered_and_whose_run_failed_is_futile(ledger, book):
    """The model answered each time; what it said could not be used."""
    for run in range(6):
        for attempt in (1, 2):
            at = NOON + timedelta(hours=run**2, seconds=attempt)
            ledger.write(call(f"{run}-{attempt}", "gpt-4.1", 100 + attempt, 0, 0, 200, at=at, run_id=f"r{run}",
                              step=1, attempt=attempt, user_id="u"))  # fmt: skip
        ledger.write(a_run(f"r{run}", status="failed"))
    row = found(ledger, book)["futile_retries"]
    assert (row["calls"], row["confidence"]) == (6, "medium")


def test_a_retry_that_helped_in_a_run_that_failed_later_is_not_futile(ledger, book):
    """The node was answered at the second try and went on; the run stopped at a limit."""
    for run in range(6):
        for step, attempt in ((1, 1), (1, 2), (2, 1)):
            at = NOON + timedelta(hours=run**2, seconds=10 * step + attempt)
            error = FAILED if (step, attempt) == (1, 1) else None
            ledger.write(call(f"{run}-{step}-{attempt}", "gpt-4.1", 100 * step + attempt, 0, 0, 200, at=at,
                              run_id=f"r{run}", step=step, attempt=attempt, error=error, user_id="u"))  # fmt: skip
        ledger.write(a_run(f"r{run}", status="stopped"))
    assert found(ledger, book) == {}


def with_overhead(ledger, model, tokens):
    for number in range(10):
        at = NOON + timedelta(hours=number**2)
        who = {"agent_id": "a", "user_id": "u", "at": at}
        ledger.write(call(f"c{number}", "gpt-4.1", 1000, 0, 0, 1000, **who))
        ledger.write(call(f"s{number}", model, tokens, 0, 0, 100, node_path="sum", role="overhead", **who))


def test_overhead_is_found_with_what_a_smaller_model_would_save(ledger, book):
    """Ten summaries of $0.0028 beside calls of $0.01: 22%; four fifths of it with gpt-4.1-mini."""
    with_overhead(ledger, "gpt-4.1", 1000)
    row = found(ledger, book)["overhead"]
    assert row["saving_usd"] == 10 * Decimal("0.0028") * 4 / 5
    assert (row["saving_is"], row["confidence"]) == ("known", "medium")
    assert row["evidence"][0]["share"] == 28 / 128


def test_overhead_of_a_small_model_is_the_most_that_can_go(ledger, book):
    """Nobody can tell how much of it is of use."""
    with_overhead(ledger, "gpt-4.1-mini", 5000)
    row = found(ledger, book)["overhead"]
    assert (row["saving_usd"], row["saving_is"], row["confidence"]) == (
        10 * cost("gpt-4.1-mini", 5000, 0, 0, 100), "at_most", "low",
    )  # fmt: skip


def test_little_overhead_is_none(ledger, book):
    """5% of the agent's cost."""
    with_overhead(ledger, "gpt-4.1-mini", 1000)
    assert found(ledger, book) == {}


def polling(ledger, *, work=2, output=60, user="u", node="look", model="gpt-4.1-mini"):
    """Twelve runs an hour apart, some of which find work to do."""
    for hour in range(12):
        at = NOON + timedelta(hours=hour)
        who = {"agent_id": "poller", "run_id": f"r{hour}", "user_id": user}
        ledger.write(call(f"p{hour}", model, 800, 0, 0, output, at=at, node_path=node, **who))
        ledger.write(a_charge(f"i{hour}", usd="0.001", name="inbox", at=at, agent_id="poller", run_id=f"r{hour}"))
        if hour < work:
            ledger.write(call(f"w{hour}", model, 900, 0, 0, 400, at=at, node_path="work", **who))


def test_an_agent_that_polls_is_found_with_its_tools(ledger, book):
    """Ten idle runs, each a call and a tool of $0.001."""
    polling(ledger)
    row = found(ledger, book)["idle_polling"]
    assert row["saving_usd"] == 10 * (cost("gpt-4.1-mini", 800, 0, 0, 60) + Decimal("0.001"))
    assert (row["agent"], row["confidence"], row["evidence"][0]["every_s"]) == ("poller", "medium", 3600)
    polling(ledger, work=0, output=5)  # The same ids: nothing is written twice.
    assert len(advise(ledger, book=book).rows) == 1


def test_an_agent_that_never_found_anything_polls_if_it_says_nothing(ledger, book):
    """A word each time is polling, less surely; a page each time is a report that is wanted."""
    polling(ledger, work=0, output=5)
    assert found(ledger, book)["idle_polling"]["confidence"] == "low"


def test_a_report_that_is_written_each_hour_is_no_polling(ledger, book):
    """It goes one way each time and has no outcome, but it has something to say."""
    polling(ledger, work=0, output=900)
    assert found(ledger, book) == {}


def nightly(ledger, *, model="gpt-5", user=None, single=True):
    for night in range(12):
        at = NOON + timedelta(days=night)
        for step in range(1 if single else 2):
            who = {"agent_id": "nightly", "run_id": f"r{night}", "user_id": user, "at": at + minutes(10 * step)}
            ledger.write(call(f"{night}-{step}", model, 900 - 50 * step, 0, 0, 700, **who))


@pytest.mark.parametrize(("single", "way"), [(True, "the batch API"), (False, "service tier flex")])
def test_runs_that_nobody_waits_for_are_found(ledger, book, single, way):
    """Each night, without a user: half the price by batch or flex; over 12 days, so 30/12 of it a month."""
    nightly(ledger, single=single)
    row = found(ledger, book)["not_waited_for"]
    whole = 12 * sum(cost("gpt-5", size, 0, 0, 700) for size in ([900] if single else [900, 850]))
    assert (row["saving_usd"], row["usd_per_month"]) == (whole / 2, whole / 2 * 30 / 12)
    assert (row["evidence"][0]["price_by"], row["confidence"], row["days"]) == (way, "low", 12)


def test_runs_that_somebody_waits_for_are_not(ledger, book):
    """They name a user; and gpt-4.1 has no flex tier, so that nothing is known of its price."""
    nightly(ledger, user="u")
    assert found(ledger, book) == {}
    assert found(ledger, book, unattended=["nightly"])["not_waited_for"]["confidence"] == "high"


def test_runs_that_follow_each_other_fast_come_from_no_clock(ledger, book):
    """A script, every two seconds, without a user or an outcome, a word each: neither polling nor scheduled."""
    for number in range(40):
        at = NOON + timedelta(seconds=2 * number)
        ledger.write(call(f"c{number}", "gpt-5", 900, 0, 0, 5, agent_id="script", at=at, role="agent"))
    assert {"idle_polling", "not_waited_for"}.isdisjoint(found(ledger, book))


def test_a_tier_whose_price_is_not_known_is_no_advice(ledger, book):
    """gpt-4.1 has no flex tier."""
    nightly(ledger, model="gpt-4.1", single=False)
    assert found(ledger, book) == {}


def attempts(ledger, failed_calls):
    """25 tasks that succeed in three calls, 6 that fail after so many."""
    for task in range(31):
        for step in range(3 if task < 25 else failed_calls):
            at = NOON + timedelta(hours=task**2, minutes=10 * step)
            who = {"agent_id": "a", "run_id": f"r{task}", "task_id": f"t{task}", "user_id": "u"}
            ledger.write(call(f"{task}-{step}", "gpt-4.1-mini", 300 + step, 0, 0, 100, at=at, **who))
        ledger.write(an_outcome(f"t{task}", success=task < 25))


def test_going_on_with_what_fails_is_found(ledger, book):
    """No success took more than 3 calls; of eight in six failed tasks five are too many."""
    attempts(ledger, 8)
    row = found(ledger, book)["late_handoff"]
    assert row["saving_usd"] == 6 * sum(cost("gpt-4.1-mini", 300 + step, 0, 0, 100) for step in range(3, 8))
    assert (row["calls"], row["confidence"], row["evidence"][0]["most_calls_of_a_success"]) == (30, "low", 3)


def test_failing_as_fast_as_succeeding_is_not(ledger, book):
    """There is no call at which one could tell."""
    attempts(ledger, 3)
    assert found(ledger, book) == {}


def steady(ledger):
    """A million tokens an hour for a day, at $0.80 and $1.60: $2.40 in all, in 24 calls of each kind."""
    for hour in range(24):
        at = NOON.replace(hour=0) + timedelta(hours=hour)
        ledger.write(call(f"c{hour}", "gpt-4.1-mini", 500_000, 0, 0, 500_000, at=at, user_id="u"))


def test_a_machine_of_ones_own_is_told_where_it_pays(ledger, book):
    """$1 an hour for 400 tokens a second, 1.44 million an hour: one does it, $0.50 an hour is paid above its price."""
    steady(ledger)
    machine = Machine(usd_per_hour=Decimal("0.5"), tokens_per_second=Decimal(400))
    row = found(ledger, book, machine=machine)["self_hosting"]
    paid = 24 * cost("gpt-4.1-mini", 500_000, 0, 0, 500_000)
    assert (paid, row["saving_usd"]) == (24, paid - 12)
    evidence = row["evidence"][0]
    assert (evidence["machines"], evidence["machines_usd"], evidence["busiest_hour_tokens"]) == (1, "12", 1_000_000)
    assert round(evidence["utilisation"], 9) == round(1 / 1.44, 9)
    assert round(evidence["break_even_utilisation"], 9) == round(1 / 1.44 / 2, 9)


@pytest.mark.parametrize(("usd", "pace"), [("1", "400"), ("0.5", "200")])
def test_a_machine_that_costs_as_much_is_not(ledger, book, usd, pace):
    """At $1 an hour, or with two machines of half the pace, nothing is gained."""
    steady(ledger)
    assert found(ledger, book, machine=Machine(usd_per_hour=Decimal(usd), tokens_per_second=Decimal(pace))) == {}


# --- what holds for all ----------------------------------------------------------------------------------------------


def test_a_call_counts_once_in_the_total(ledger, book):
    """An agent that polls and nobody waits for: idle runs cost all, flex half. A call of an idle run counts once."""
    polling(ledger, user=None, model="gpt-5")
    found_ = advise(ledger, book=book)
    idle, slower = found_.rows
    assert (idle["kind"], slower["kind"]) == ("idle_polling", "not_waited_for")
    # Of the ten idle runs nothing is left to save; of the two that worked half of what their calls cost.
    rest = 2 * (cost("gpt-5", 800, 0, 0, 60) + cost("gpt-5", 900, 0, 0, 400)) / 2
    assert slower["adds_usd_per_month"] == rest * 30
    assert found_.usd_per_month == idle["usd_per_month"] + rest * 30
    assert slower["usd_per_month"] > slower["adds_usd_per_month"]


def test_unknown_prices_are_said_and_never_counted(ledger, book):
    """Half of the retries have no price: the saving is a lower bound. All of them: it is unknown, and still found."""
    tries(ledger, lambda run: False, count=6)
    for number in range(6):
        who = {"run_id": f"x{number}", "step": 1, "model": "mystery", "error": FAILED, "user_id": "u"}
        at = NOON + timedelta(hours=number**2)
        ledger.write(a_call(f"x{number}-1", usd=None, attempt=1, started_at=at, **who))
        ledger.write(a_call(f"x{number}-2", usd=None, attempt=2, started_at=at + minutes(1), **who))
    result = advise(ledger, book=book)
    known, unknown = result.rows
    assert (known["saving_is"], unknown["saving_is"]) == ("known", "unknown")
    assert (unknown["model"], unknown["saving_usd"], unknown["usd_per_month"], unknown["unpriced"]) == (
        "mystery", None, None, 6,
    )  # fmt: skip
    assert result.unpriced == 12
    assert result.usd_per_month == known["usd_per_month"]


def test_nothing_is_advised_that_touches_a_protected_node(ledger, book):
    """Not its model, not its prefix, and no agent's runs that go through it; other nodes are advised as before."""
    runs(ledger, "gpt-4.1", GROWING, agent_id="g")
    polling(ledger, node="guard/look")
    assert {"growing_context", "idle_polling"} <= found(ledger, book).keys()
    assert found(ledger, book, protect=["think", "guard"]) == {}
    assert "growing_context" in found(ledger, book, protect=["guard"])


def test_what_a_cache_of_langchain_answered_saves_nothing(ledger, book):
    """It is billed at nothing already; a replay counts as if it were sent."""
    for number in range(50):
        for mode in ("cache", "replay"):
            ledger.write(call(f"{mode}{number}", "gpt-4.1", 500, 0, 0, 3, at=NOON + number * minutes(number),
                              user_id="u", node_path=mode, billing_mode=mode, billed_usd=Decimal(0)))  # fmt: skip
    (row,) = advise(ledger, book=book).rows
    assert row["node"] == "replay"


def test_discounts_are_in_the_saving(ledger):
    """A contract of 80% counts for what was paid, and for what the smaller model would cost."""
    book = PriceBook(cards=parse_cards([{"id": "contract", "factor": 0.8}], where="test"))
    for number in range(50):
        record = call(f"c{number}", "gpt-4.1", 500, 0, 0, 3, at=NOON + number * minutes(number), user_id="u",
                      contracted_usd=Decimal("0.0008192"))  # fmt: skip
        ledger.write(record)
    assert found(ledger, book)["small_answers"]["saving_usd"] == 50 * Decimal("0.0008192") * 4 / 5


def test_calls_of_a_cheaper_tier_save_less(ledger, book):
    """Paid at half of the list price: what is cut or read from a cache is worth half as much."""
    for run in range(6):
        for step, size in enumerate(GROWING):
            at = NOON + timedelta(hours=run**2, minutes=step)
            half = cost("gpt-4.1", size, 0, 0, 100) / 2
            ledger.write(call(f"{run}-{step}", "gpt-4.1", size, 0, 0, 100, at=at, run_id=f"r{run}", user_id="u",
                              contracted_usd=half, service_tier="flex"))  # fmt: skip
    result = found(ledger, book)
    assert result["growing_context"]["saving_usd"] == 6 * 6000 * Decimal(2) / 1_000_000 / 2
    assert result["uncached_prefix"]["saving_usd"] == 6 * sum(GROWING[1:-1]) * Decimal("1.5") / 1_000_000 / 2


def test_a_card_for_one_host_counts_there(ledger):
    """The same model at a server whose card has no price for a cache: no prefix can be cached; at OpenAI it can."""
    card = {"id": "own", "match": {"base_url_host": "llm.corp"}, "rates": {"input_tokens": 2, "output_tokens": 8}}
    book = PriceBook(cards=parse_cards([card], where="test"))
    runs(ledger, "gpt-4.1", [2000, 2500, 3000], base_url_host="llm.corp")
    assert found(ledger, book) == {}
    assert "uncached_prefix" in found(ledger, PriceBook())


def test_a_dearer_tier_is_not_the_models_fault(ledger, book):
    """Calls at twice the price (priority) save what the models differ by, not what the tier costs."""
    for number in range(50):
        ledger.write(call(f"c{number}", "gpt-4.1", 500, 0, 0, 3, at=NOON + number * minutes(number), user_id="u",
                          contracted_usd=Decimal("0.002048"), service_tier="priority"))  # fmt: skip
    assert found(ledger, book)["small_answers"]["saving_usd"] == 50 * Decimal("0.001024") * 4 / 5


def test_only_the_period_counts_and_judges_do_not(ledger, book):
    """Calls of before, and those that measure, are no waste of the agent."""
    for number in range(50):
        ledger.write(call(f"old{number}", "gpt-4.1", 500, 0, 0, 3, at=NOON - timedelta(days=30), user_id="u"))
        ledger.write(call(f"judge{number}", "gpt-4.1", 500, 0, 0, 3, role="judge", user_id="u"))
    result = advise(ledger, book=book, since=NOON - timedelta(days=1))
    assert (result.rows, result.cost_usd) == ([], 0)
    assert advise(ledger, book=book, until=NOON - timedelta(days=1)).rows != []


def test_a_call_that_was_priced_again_counts_once(ledger, book):
    """The current version counts."""
    two_models(ledger)
    for number in range(60):
        who = {"agent_id": "a", "node_path": "answer", "task_id": f"gpt-4.1-{number}", "user_id": "u"}
        ledger.write(
            call(f"gpt-4.1-{number}", "gpt-4.1", 1000, 0, 0, 500, at=NOON + minutes(number), revision=1, **who)
        )
    assert found(ledger, book)["cheaper_model"]["saving_usd"] == Decimal("0.288")


def test_calls_in_daily_sums_are_told_of(ledger, book):
    """What was pruned nobody can look at one by one."""
    two_models(ledger)
    ledger.prune(NOON + timedelta(days=2))
    result = advise(ledger, book=book)
    assert result.rows == []
    assert result.folded == 120


def answers(ledger, *, good, bad=20, length=900, node="say", name=None, **more):
    """So many tasks that succeed with 100 tokens out, and others that fail with more."""
    for number in range(good + bad):
        output = 100 if number < good else length
        who = {"agent_id": "a", "node_path": node, "task_id": f"{node}{number}", "user_id": f"u{number}", **more}
        made = call(f"{node}{number}", "gpt-4.1-mini", 400, 0, 0, output, at=NOON + minutes(number**2), **who)
        ledger.write(replace(made, model=name or made.model))
        ledger.write(an_outcome(f"{node}{number}", success=number < good))


@pytest.mark.parametrize(("good", "confidence"), [(58, None), (59, "low"), (298, "low"), (299, "medium")])
def test_answers_beyond_those_of_successes_are_found(ledger, book, good, confidence):
    """20 x 800 tokens at $1.60 a million, at most. 59 successes show it for 95% of all, 299 for 99%; 58 for neither."""
    answers(ledger, good=good)
    rows = found(ledger, book)
    assert set(rows) == ({"long_answers"} if confidence else set())
    if confidence:
        row = rows["long_answers"]
        assert (row["confidence"], row["saving_is"], row["node"]) == (confidence, "at_most", "say")
        assert row["saving_usd"] == 20 * 800 * Decimal("1.6") / 1_000_000
        assert row["change"] == {"tokens": 100}
        (evidence,) = row["evidence"]
        assert (evidence["longer"], evidence["successful_tasks"], evidence["tokens_beyond"]) == (20, good, 16_000)


@pytest.mark.parametrize("clean", [{"bad": 19}, {"length": 100}, {"length": 175}, {"role": "judge"}])
def test_answers_that_are_little_longer_or_few_are_clean(ledger, book, clean):
    """19 long ones; none; 75 tokens more in 20 of 80 answers, which are 1,500 of 9,400, no fifth; a judge's."""
    answers(ledger, **{"good": 60, **clean})
    assert found(ledger, book) == {}


@pytest.mark.parametrize(("repeats", "tasks"), [(1, 60), (2, None)])
def test_repeats_of_an_evaluations_item_are_no_more_evidence(ledger, book, repeats, tasks):
    """60 attempts succeed: of 60 items they show something, of 30 items twice they are one half of what is needed."""
    for number in range(80):
        tags = {"evaluation_run": "e", "item": f"t{number // repeats}"}
        who = {"agent_id": "a", "node_path": "say", "user_id": "u", "task_id": f"e/{number}", "tags": tags}
        length = 100 if number < 60 else 900
        ledger.write(
            call(str(number), "gpt-4.1-mini", 100, 0, 0, length, at=NOON + minutes(number), **who),
            an_outcome(f"e/{number}", success=number < 60),
        )
    rows = [row for row in advise(ledger, book=book).rows if row["kind"] == "long_answers"]
    assert [row["evidence"][0]["successful_tasks"] for row in rows] == ([tasks] if tasks else [])


@pytest.mark.parametrize(("cap", "is_found"), [("50", False), ("51", True)])
def test_answers_that_an_earlier_cap_cut_off_do_not_show_that_they_were_long_enough(ledger, book, cap, is_found):
    """70 answers of 50 tokens that reached a cap of 50 are cut off; below one of 51 they are whole."""
    for number in range(130):
        who = {"agent_id": "a", "node_path": "say", "user_id": "u", "task_id": f"t{number}"}
        who["tags"] = {"answer_cap": cap} if number < 70 else {}
        ledger.write(
            call(str(number), "gpt-4.1-mini", 100, 0, 0, 50 if number < 70 else 600, at=NOON + minutes(number), **who)
        )
        if number < 70:
            ledger.write(an_outcome(f"t{number}", success=True))
    assert any(row["kind"] == "long_answers" for row in advise(ledger, book=book).rows) is is_found


def test_long_answers_of_a_protected_node_are_left_alone(ledger, book):
    """And only there: another node of the agent is named."""
    answers(ledger, good=60)
    answers(ledger, good=60, node="check")
    rows = advise(ledger, book=book, protect=["check"]).rows
    assert [row["node"] for row in rows] == ["say"]


def test_what_long_answers_cost_without_a_price_is_unknown(ledger, book):
    """A model that nobody has a price of: the finding stands, and its saving is unknown."""
    answers(ledger, good=60, name="unheard-of")
    row = found(ledger, book)["long_answers"]
    assert (row["usd_per_month"], row["saving_is"]) == (None, "unknown")


def test_an_empty_ledger_has_nothing_to_advise(ledger, book):
    """Nor has it a cost."""
    result = advise(ledger, book=book)
    assert (result.rows, result.cost_usd, result.usd_per_month) == ([], 0, 0)


def test_every_kind_is_tested_here():
    """A kind without a ledger that has it would be a promise nobody holds."""
    text = Path(__file__).read_text(encoding="utf-8")
    assert all(f'"{kind}"' in text for kind in KINDS)
