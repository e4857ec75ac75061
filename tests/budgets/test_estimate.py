"""What a call without reported usage is charged."""

import pytest

from langchain_finops.budgets import estimate
from langchain_finops.budgets.estimate import (
    Expectation,
    Past,
    Request,
    bound,
    charged_usage,
    expected_output_tokens,
    tokens_of_bytes,
)
from langchain_finops.usage import Usage


@pytest.mark.parametrize(("size", "tokens"), [(0, 0), (1, 1), (4, 1), (5, 2), (4000, 1000)])
def test_four_bytes_are_a_token_rounded_up(size: int, tokens: int) -> None:
    """A text that is there at all is at least a token."""
    assert tokens_of_bytes(size) == tokens


def test_the_requests_own_maximum_goes_first() -> None:
    """What the request states is what it may cost, whatever the past was; each of its answers may be as long."""
    assert expected_output_tokens(max_tokens=50, past=700, promised=9) == (50, "max_tokens")
    assert expected_output_tokens(max_tokens=50, past=700, answers=3) == (150, "max_tokens")


def test_the_past_goes_before_the_default() -> None:
    """Without a maximum the mean of the past counts, else what the budget expects, else 1,000 tokens an answer."""
    assert expected_output_tokens(max_tokens=None, past=0) == (0, "past")
    assert expected_output_tokens(max_tokens=None, past=70, answers=3, promised=9) == (70, "past")
    assert expected_output_tokens(max_tokens=None, past=None, answers=2, promised=9) == (18, "expected_output_tokens")
    assert expected_output_tokens(max_tokens=None, past=None) == (1000, "default")
    assert expected_output_tokens(max_tokens=None, past=None, answers=2) == (2000, "default")


def test_the_larger_of_expected_and_received_is_charged() -> None:
    """Hidden reasoning is billed too, and so is text that went on past what was expected."""
    assert charged_usage(None, prompt_tokens=9, received_tokens=3, expected_tokens=50) == Usage(
        input_tokens=9, output_tokens=50
    )
    assert charged_usage(None, prompt_tokens=9, received_tokens=80, expected_tokens=50).output_tokens == 80


def test_what_a_broken_off_answer_reported_of_its_input_counts() -> None:
    """The provider's count of the prompt is better than ours; its count of the output so far is only a beginning."""
    partial = Usage(input_tokens=5, cache_read_tokens=100, output_tokens=2)

    charged = charged_usage(partial, prompt_tokens=60, received_tokens=3, expected_tokens=50)

    assert charged == Usage(input_tokens=5, cache_read_tokens=100, output_tokens=50)


def test_a_broken_off_answer_without_input_gets_the_prompts_estimate() -> None:
    """Some providers report output alone until the stream has ended."""
    charged = charged_usage(Usage(output_tokens=70), prompt_tokens=60, received_tokens=3, expected_tokens=50)

    assert charged == Usage(input_tokens=60, output_tokens=70)


def test_the_past_is_kept_by_node_and_model() -> None:
    """A planner's long answers say nothing of a classifier's."""
    past = Past()
    past.add("plan", "m", 10)
    past.add("plan", "m", 11)
    past.add("plan", "other", 900)

    assert past.mean("plan", "m") == 11  # 21 / 2, rounded up
    assert past.mean("classify", "m") is None


def test_the_past_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Names that vary by call do not fill the memory; the ones known go on being counted."""
    monkeypatch.setattr(estimate, "KEYS_KEPT", 2)
    past = Past()
    for number in range(3):
        past.add(str(number), "m", number)
    past.add("1", "m", 3)

    assert [past.mean(str(number), "m") for number in range(3)] == [0, 2, None]


@pytest.mark.parametrize(
    ("calls", "prompt", "expected"),
    [
        ([], 100, 100),
        ([(100, 150)], 200, 300),
        ([(100, 120), (300, 480)], 100, 150),
        ([(100, 101)], 10, 11),
        ([(1000, 85)], 1000, 100),
        ([(5, 2500)], 5, 2500),
        ([(50, 2000)], 1000, 3900),
        ([(0, 50), (50, 0)], 7, 7),
    ],
)
def test_prompts_are_corrected_by_what_the_model_has_counted(
    calls: list[tuple[int, int]], prompt: int, expected: int
) -> None:
    """In proportion, up to twice as many; what comes on top of that comes on top of each. Rounded up, at least a tenth.

    50 estimated tokens that were 2,000 are a prompt of the provider's own of 1,900, not a factor of 40.
    """
    past = Past()
    for estimated, reported in calls:
        past.measure("m", estimated=estimated, reported=reported)

    assert past.corrected("m", prompt) == expected
    assert past.corrected("other", prompt) == prompt


def test_what_a_model_counts_today_weighs_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """Four calls that count as estimated are halved, and the fifth, twice as large, is a third of what counts."""
    monkeypatch.setattr(estimate, "CALLS_WEIGHED", 4)
    past = Past()
    for _ in range(4):
        past.measure("m", estimated=100, reported=100)
    past.measure("m", estimated=100, reported=190)

    assert past.corrected("m", 100) == 130


def test_models_that_are_measured_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Names that vary by call do not fill the memory."""
    monkeypatch.setattr(estimate, "KEYS_KEPT", 1)
    past = Past()
    for model in ("a", "b"):
        past.measure(model, estimated=1, reported=2)

    assert (past.corrected("a", 10), past.corrected("b", 10)) == (20, 10)


def test_the_time_of_calls_is_a_mean_too() -> None:
    """A self-hosted model is held by it."""
    past = Past()
    past.add("plan", "m", 1, 1_000_000)
    past.add("plan", "m", 1, 2_000_001)

    assert past.microseconds("plan", "m") == 1_500_001
    assert past.microseconds("other", "m") is None


def test_a_bound_is_the_bytes_and_what_is_promised() -> None:
    """The past bounds nothing."""
    asked, open_end = Request(10, 50, 2), Request(10, None, 2)

    assert bound(asked, 40, promised=9) == Expectation(40, 100, "max_tokens", strict=True)
    assert bound(open_end, 40, promised=9) == Expectation(40, 18, "expected_output_tokens", strict=True)
    assert bound(open_end, 40) == Expectation(40, 0, "unbounded", strict=True)


def test_what_was_cached_so_far_is_expected_to_be_cached_again() -> None:
    """A prompt read from a cache costs a tenth: held in full, it would be refused long before its limit."""
    past = Past()
    past.add_prompt("plan", "m", Usage(input_tokens=1000))  # Before the first that was cached: not counted.
    past.add_prompt("plan", "m", Usage(input_tokens=100, cache_write_5m_tokens=900))
    past.add_prompt("plan", "m", Usage(input_tokens=100, cache_read_tokens=900))

    # Of 2,000 tokens 900 were written and 900 read: 45% each.
    assert past.cached("plan", "m", 101) == (45, 45, 0, 0, 0)
    assert past.cached("write", "m", 101) == (0, 0, 0, 0, 0)
    expected = estimate.expect(Request(101, 7, 1), past, node_path="plan", model="m")
    assert expected.usage == Usage(input_tokens=11, cache_read_tokens=45, cache_write_5m_tokens=45, output_tokens=7)
    assert "101 input tokens from the prompt and its tools, 45 of them cached as so far" in expected.source


def test_prompts_that_are_no_longer_cached_are_soon_expected_in_full(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was long ago counts less with each halving, and the keys are bounded."""
    monkeypatch.setattr(estimate, "CALLS_WEIGHED", 2)
    monkeypatch.setattr(estimate, "KEYS_KEPT", 1)
    past = Past()
    past.add_prompt("a", "m", Usage(cache_read_tokens=80))
    for _ in range(2):
        past.add_prompt("a", "m", Usage(input_tokens=80))
    past.add_prompt("b", "m", Usage(cache_read_tokens=80))

    # 80 of 80; then 80 of 160, halved to 40 of 80; then 40 of 160, halved to 20 of 80.
    assert past.cached("a", "m", 100) == (25, 0, 0, 0, 0)
    assert past.cached("b", "m", 100) == (0, 0, 0, 0, 0)


def test_a_bound_expects_nothing_to_be_cached() -> None:
    """A cache may have run out."""
    assert bound(Request(10, 5, 1), 40).usage == Usage(input_tokens=40, output_tokens=5)
