"""Intervals and verdicts keep their word, as benchmarks/coverage.py shows at length and this in small, seeded."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).parents[3] / "benchmarks" / "coverage.py"


@pytest.fixture(scope="module")
def benchmark() -> ModuleType:
    spec = importlib.util.spec_from_file_location("coverage_benchmark", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # Dataclasses look their own module up.
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("rate", [0.65, 0.35, 0.21, 0.09])
def test_the_log_delta_interval_covers(benchmark: ModuleType, rate: float) -> None:
    """At 50 tasks at least 92% of 600 nominal 95% intervals hold the truth; what misses lies mostly below it."""
    found = benchmark.coverage(benchmark.log_delta, rate, 50, 600, 1)

    assert 0.92 <= found.held <= 0.99
    assert found.below >= found.above


def test_repeats_taken_as_independent_would_not_cover(benchmark: ModuleType) -> None:
    """By task 95% is near 95%; with 4 agreeing repeats as 200 attempts it is less than 80%."""
    by_task, by_attempt = (benchmark.clustered_coverage(0.35, 50, 300, 1, by_task=each) for each in (True, False))

    assert by_attempt.held < 0.8
    assert by_task.held > 0.91


def test_the_bound_without_success_counts_tasks(benchmark: ModuleType) -> None:
    """By task it is wrong in at most 5% of samples; by attempt in a third of them."""
    by_task = benchmark.no_success_misses(by_task=True, samples=400, seed=1)
    by_attempt = benchmark.no_success_misses(by_task=False, samples=400, seed=1)

    assert by_task <= 0.05
    assert by_attempt > 0.3


def test_many_comparisons_are_adjusted(benchmark: ModuleType) -> None:
    """Of 60 tables of 25 equal configurations a third or more hold a false verdict; with Holm one in ten at most."""
    unadjusted = benchmark.false_verdicts(adjusted=False, samples=60, seed=1)
    adjusted = benchmark.false_verdicts(adjusted=True, samples=60, seed=1)

    assert adjusted <= 0.1
    assert unadjusted > 0.33


def test_the_same_seed_prints_the_same_figures(benchmark: ModuleType) -> None:
    """Every part draws from a generator of its own."""
    first = [benchmark.coverage(benchmark.bca, 0.35, 20, 20, seed) for seed in (1, 1, 2)]

    assert first[0] == first[1]
    assert benchmark.population(0.35, 1).truth != benchmark.population(0.35, 2).truth
