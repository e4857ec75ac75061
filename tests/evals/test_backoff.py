"""Letting up where a service is asked too much: one pace for all attempts of a provider."""

import asyncio

from langchain_finops.evals.backoff import Throttle


class Time:
    """A clock that only sleeping moves."""

    def __init__(self) -> None:
        self.now = 100.0
        self.slept: list[float] = []

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


def throttle(most: int, time: Time) -> Throttle:
    made = Throttle(most=most, clock=time, sleep=time.sleep)
    made.met("small", ["openai"])
    made.met("large", ["openai"])
    made.met("other", ["anthropic"])
    return made


async def test_nobody_begins_before_the_service_says() -> None:
    """`retry-after` of one attempt holds for all that ask the same provider, and for nobody else."""
    time = Time()
    throttle_ = throttle(8, time)
    throttle_.refused("openai", 7.0)

    await throttle_.enter("other")
    assert time.slept == []

    await throttle_.enter("large")
    assert time.slept == [7.0]
    await throttle_.enter("small")
    assert time.slept == [7.0]


async def test_without_a_word_of_the_service_the_wait_doubles() -> None:
    """1, 2, 4 s in a row, a minute at most; what went well begins anew."""
    time = Time()
    throttle_ = throttle(8, time)
    waits = []
    for _ in range(8):
        throttle_.refused("openai", None)
        waits.append(throttle_.pace("openai").not_before - time.now)
        time.now = throttle_.pace("openai").not_before
    assert waits == [1, 2, 4, 8, 16, 32, 60, 60]

    throttle_.answered(["openai"])
    throttle_.refused("openai", None)
    assert throttle_.pace("openai").not_before - time.now == 1


async def test_a_service_that_asks_for_an_hour_is_asked_again_after_a_minute() -> None:
    """A run that waits for an hour without a word would be taken for dead."""
    throttle_ = throttle(8, Time())

    throttle_.refused("openai", 3600.0)

    assert throttle_.pace("openai").not_before == 160.0


async def test_half_as_many_ask_at_once_and_one_more_again_after_a_round() -> None:
    """Eight at once, refused: four. After four that went well five, after five more six, and never above eight."""
    throttle_ = throttle(8, Time())
    for _ in range(8):
        await throttle_.enter("small")

    throttle_.refused("openai", 0.0)

    assert throttle_.pace("openai").limit == 4
    limits = []
    for _ in range(4 + 5 + 6 + 7 + 20):
        throttle_.answered(["openai"])
        limits.append(throttle_.pace("openai").limit)
    assert (limits[3], limits[8], limits[14], limits[21], limits[-1]) == (5, 6, 7, 8, 8)


async def test_refusals_that_were_on_their_way_together_halve_once() -> None:
    """Eight attempts that hit one full minute are one complaint."""
    throttle_ = throttle(8, Time())
    for _ in range(8):
        await throttle_.enter("small")

    for _ in range(8):
        throttle_.refused("openai", 5.0)

    assert throttle_.pace("openai").limit == 4


async def test_who_waits_for_a_place_gets_the_next_one() -> None:
    """Above the limit an attempt waits until another one has ended."""
    throttle_ = throttle(2, Time())
    first = await throttle_.enter("small")
    await throttle_.enter("large")
    waiting = asyncio.create_task(throttle_.enter("small"))
    for _ in range(3):
        await asyncio.sleep(0)
    assert not waiting.done()

    throttle_.leave(first)

    await waiting
    assert throttle_.pace("openai").running == 2


async def test_one_goes_on_always() -> None:
    """However often a service refuses, it is asked again, one attempt at a time."""
    time = Time()
    throttle_ = throttle(8, time)
    for _ in range(10):
        throttle_.refused("openai", 1.0)
        time.now += 2

    await throttle_.enter("small")

    assert throttle_.pace("openai").limit == 1
