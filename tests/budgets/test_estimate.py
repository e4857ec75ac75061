"""What a call without reported usage is charged."""

import pytest

from langchain_finops.budgets import estimate
from langchain_finops.budgets.estimate import Past, charged_usage, expected_output_tokens, tokens_of_bytes
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
