"""How far a judge agrees with people: Cohen's kappa, by hand and by simulation."""

import random

import pytest

from langchain_finops.reports.stats.agreement import MIN_LABELLED_TASKS, agreement

YES, NO = True, False


def pairs(yes_yes: int, no_no: int, yes_no: int, no_yes: int, *, copies: int = 1) -> list[tuple[str, bool, bool]]:
    """So many tasks of which person and judge said so; each `copies` times."""
    said = [(YES, YES)] * yes_yes + [(NO, NO)] * no_no + [(YES, NO)] * yes_no + [(NO, YES)] * no_yes
    return [(str(task), *each) for task, each in enumerate(said) for _ in range(copies)]


def test_kappa_is_cohens() -> None:
    """Of 50 answers 35 are agreed on; chance agrees on 0.5 x 0.6 + 0.5 x 0.4 of them: kappa is 0.2 / 0.5."""
    found = agreement(pairs(20, 15, 5, 10))

    assert found is not None
    assert (found.labelled, found.tasks, found.agreed) == (50, 50, 35)
    assert (found.both_right, found.both_wrong, found.only_human_right, found.only_judge_right) == (20, 15, 5, 10)
    assert found.rate == 0.7
    assert found.kappa == pytest.approx(0.4)


def test_its_interval_is_that_of_fleiss_cohen_and_everitt() -> None:
    """Their variance for this table, by hand: (0.10972 + 0.10188 - 0.01) / (0.5^2 x 50) = 0.016128.

    With 50/49 the standard error is 0.128285, t with 49 degrees of freedom 2.009575, so that atanh(kappa) = 0.423649
    goes 0.306907 either way.
    """
    found = agreement(pairs(20, 15, 5, 10))

    assert found is not None
    assert found.interval is not None
    assert found.interval.low == pytest.approx(0.116217, abs=1e-5)
    assert found.interval.high == pytest.approx(0.623393, abs=1e-4)


def test_repeats_make_nothing_surer() -> None:
    """Five repeats that say the same as the first leave the interval as it is: tasks are what is independent."""
    once, five_times = agreement(pairs(20, 15, 5, 10)), agreement(pairs(20, 15, 5, 10, copies=5))

    assert once is not None
    assert five_times is not None
    assert once.interval is not None
    assert five_times.interval is not None
    assert (five_times.labelled, five_times.tasks) == (250, 50)
    assert five_times.interval.low == pytest.approx(once.interval.low)


def test_agreement_on_all_leaves_a_doubt() -> None:
    """Twenty tasks in agreement are found with probability 0.025 where 0.025^(1/20) = 0.83156 of all are agreed on.

    Chance agrees on half of them: the lower end is (0.83156 - 0.5) / 0.5.
    """
    found = agreement(pairs(10, 10, 0, 0))

    assert found is not None
    assert found.kappa == 1
    assert found.interval is not None
    assert (found.interval.low, found.interval.high) == (pytest.approx(0.66312, abs=1e-4), 1.0)


def test_one_that_always_says_the_same_has_no_kappa() -> None:
    """Where both say yes to all there is nothing that chance would not explain; nothing labelled is no agreement."""
    found = agreement(pairs(30, 0, 0, 0))

    assert found is not None
    assert (found.rate, found.kappa, found.interval) == (1.0, None, None)
    assert agreement([]) is None


def test_few_tasks_have_no_interval() -> None:
    """An interval of so few would be a guess."""
    found = agreement(pairs(4, MIN_LABELLED_TASKS - 6, 1, 0))

    assert found is not None
    assert found.kappa is not None
    assert found.interval is None


def test_the_interval_holds_the_truth_as_often_as_it_says() -> None:
    """40 tasks x 3 alike repeats; the judge finds 90% of the right and 85% of the wrong answers."""
    draw = random.Random(7)

    def answer() -> tuple[bool, bool]:
        right = draw.random() < 0.6
        return right, draw.random() < (0.9 if right else 0.15)

    # Agreed on 0.54 + 0.34; right by the judge 0.6; chance agrees on 0.6 x 0.6 + 0.4 x 0.4.
    truth = (0.88 - 0.52) / 0.48
    held = 0
    for _ in range(400):
        said = []
        for task in range(40):
            first = answer()
            said += [(str(task), *(first if repeat == 0 or draw.random() < 0.7 else answer())) for repeat in range(3)]
        found = agreement(said)
        held += found is not None and found.interval is not None and truth in found.interval

    assert 0.92 <= held / 400 <= 0.99
