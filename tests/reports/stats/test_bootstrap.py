"""The bootstrap, with its generator passed in."""

import math

import numpy as np
import pytest

from langchain_finops.errors import BadArguments
from langchain_finops.reports import stats
from langchain_finops.reports.stats import bootstrap

COST = [1.0, 2.0, 0.5, 4.0, 1.5, 3.0, 2.5, 0.7, 5.0, 1.1, 2.2, 0.9, 3.3, 1.8, 2.6, 0.6, 4.4, 1.3, 2.9, 1.7]
WON = [1, 1, 1, 0, 1, 0, 1, 1, 0, 1, 1, 1, 0, 1, 0, 1, 0, 1, 1, 0]


def interval(seed: int, resamples: int = 4_000) -> stats.Interval:
    found = stats.bca_interval(COST, WON, [1] * 20, generator=np.random.default_rng(seed), resamples=resamples)
    assert found is not None
    return found


def test_the_same_seed_gives_the_same_bounds() -> None:
    """Nothing is drawn from a global generator."""
    assert interval(1) == interval(1)
    assert interval(1) != interval(2)


def test_it_agrees_with_scipys_bca() -> None:
    """scipy.stats.bootstrap, paired, 400,000 resamples, gives 2.0375 to 6.3333 for these data."""
    found = interval(4, 20_000)

    assert found.low == pytest.approx(2.0375, rel=0.02)
    assert found.high == pytest.approx(6.3333, rel=0.02)


def test_the_bias_is_corrected_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """600 of 1,000 resamples below the point: z0 = .253347, so the 7.308% and 99.318% quantiles: the 73rd and 995th."""
    ratios = [(place + 0.5) / 300 for place in range(1_000)]
    monkeypatch.setattr(bootstrap, "_resampled", lambda *_: ratios)

    found = stats.bca_interval([1.0, 3.0], [1, 1], [1, 1], generator=np.random.default_rng(1), resamples=1_000)

    assert found == stats.Interval(ratios[72], ratios[994], 0.95)


def test_resamples_without_success_count_as_infinite() -> None:
    """One success in four: nearly a third of the resamples have none, so there is no upper bound."""
    found = stats.bca_interval([1.0] * 4, [1, 0, 0, 0], [1] * 4, generator=np.random.default_rng(1))

    assert found is not None
    assert found.high == math.inf
    assert math.isfinite(found.low)


def test_equal_tasks_give_a_point() -> None:
    """No spread, no width."""
    found = stats.bca_interval([2.0] * 5, [1] * 5, [1] * 5, generator=np.random.default_rng(1))

    assert found == stats.Interval(2.0, 2.0, 0.95)


@pytest.mark.parametrize(("cost", "won"), [([1.0], [1]), ([0.0, 0.0], [1, 1]), ([1.0, 1.0], [0, 0])])
def test_no_interval_where_there_is_none(cost: list[float], won: list[int]) -> None:
    """One task, nothing spent, no success."""
    assert stats.bca_interval(cost, won, [1] * len(cost), generator=np.random.default_rng(1)) is None


def test_too_few_resamples_are_refused() -> None:
    """Fifty resamples have no 2.5% tail."""
    with pytest.raises(BadArguments, match="50"):
        stats.bca_interval(COST, WON, [1] * 20, generator=np.random.default_rng(1), resamples=50)
