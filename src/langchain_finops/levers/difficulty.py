"""How difficult a request is: by its shape and by what became of tasks like it, or by asking a small model.

A score is a share between 0 and 1 and ranks requests. It is a probability of failure only once it is `calibrated` on
what an evaluation showed.
"""

import re
import secrets
from bisect import bisect_right
from collections import deque
from collections.abc import Iterable
from hashlib import blake2b
from itertools import groupby
from operator import itemgetter
from typing import Any, Final, Protocol

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.runnables import Runnable

from langchain_finops.errors import BadArguments
from langchain_finops.levers.choices import Request, share_of
from langchain_finops.levers.policies import last_words, percent_of
from langchain_finops.levers.steps import Steps, asked, resolved, text_of

__all__ = ["DifficultyScorer", "PastFailures", "asked_difficulty", "calibrated", "shape_difficulty"]

MANY_TOKENS: Final = 8_000
MANY_TOOLS: Final = 20
MANY_STEPS: Final = 20
MANY_FAULTS: Final = 3
WEIGHTS: Final = (0.25, 0.15, 0.25, 0.35)
"""Of length, tools, steps so far and tools that failed: by judgement, not by measurement. Calibrate what matters."""
ENOUGH: Final = 5
"""Like tasks that count as much as the shape does."""
KEPT: Final = 500
ALIKE: Final = 0.5


class DifficultyScorer(Protocol):
    """Says how difficult a request is, between 0 and 1. A plain function, async ones included, is one."""

    def __call__(self, request: Request, /) -> Any:
        """The score."""
        ...


class PastFailures:
    """What became of the last 500 tasks, by keyed hashes of their words: no text is kept.

    Tasks are alike that have the same type and half of their words in common. `key`: the same one makes hashes of two
    processes comparable; None: one of this object's own.
    """

    def __init__(self, *, key: bytes | None = None) -> None:
        self._key = secrets.token_bytes(16) if key is None else key[:64]
        self._past: deque[tuple[frozenset[int], bool]] = deque(maxlen=KEPT)

    def learn(self, request: Request, *, success: bool) -> None:
        """Remember what became of a task."""
        self._past.append((self._features(request), success))

    def rate(self, request: Request) -> tuple[float, int]:
        """The share of like tasks that failed, and how many they are; 0 of 0 where there is none."""
        asked_for = self._features(request)
        alike = [success for words, success in list(self._past) if _overlap(asked_for, words) >= ALIKE]
        return (alike.count(False) / len(alike) if alike else 0.0), len(alike)

    def _features(self, request: Request) -> frozenset[int]:
        task = next((each for each in request.messages if isinstance(each, HumanMessage)), None)
        words = set(re.findall(r"\w+", text_of(task).lower()))
        return frozenset(self._hash(f"{request.task_type}|{word}") for word in words)

    def _hash(self, word: str) -> int:
        return int.from_bytes(blake2b(word.encode(errors="replace"), key=self._key, digest_size=6).digest())


class shape_difficulty:  # noqa: N801  Reads as the function that it is used as.
    """Difficulty without any model call: length, tools offered, steps so far, tools that failed, and like tasks' past.

    The weights are judgement. With `past`, failures of like tasks count as much as the shape from five of them on.
    """

    def __init__(self, past: PastFailures | None = None) -> None:
        self._past = past

    @property
    def is_pure(self) -> bool:
        """Whether it says the same of the same request for ever."""
        return self._past is None

    def __call__(self, request: Request) -> float:
        """The score."""
        steps = sum(isinstance(each, AIMessage) for each in request.messages)
        faults = sum(isinstance(each, ToolMessage) and each.status == "error" for each in request.messages)
        parts = (
            request.tokens / MANY_TOKENS,
            len(request.tools) / MANY_TOOLS,
            steps / MANY_STEPS,
            faults / MANY_FAULTS,
        )
        shape = sum(weight * min(1.0, part) for weight, part in zip(WEIGHTS, parts, strict=True))
        if self._past is None:
            return shape
        rate, count = self._past.rate(request)
        trust = count / (count + ENOUGH)
        return (1 - trust) * shape + trust * rate


class asked_difficulty:  # noqa: N801
    """A small model says how certain it is to solve the request alone; its doubt is the score.

    Its call is metered as overhead. None, which no lever takes for a score, where it gives no number from 0 to 100.
    """

    def __init__(self, model: Runnable[Any, Any]) -> None:
        self._model = model

    def steps(self, request: Request) -> Steps[float | None]:
        """Ask it."""
        prompt: list[BaseMessage] = [
            SystemMessage(
                "How certain are you that you would solve this request correctly on your own? Do not solve it. Answer "
                "with one number from 0 to 100 and nothing else."
            ),
            HumanMessage(last_words(request)),
        ]
        certain = percent_of(text_of((yield from asked(self._model, prompt, request.config, "difficulty"))))
        return None if certain is None else 1 - certain


class calibrated:  # noqa: N801
    """A scorer whose score is the share of failures that an evaluation showed at scores like it.

    `seen`: pairs of a score and whether the task succeeded. Rising by pooling adjacent violators, so the order of
    requests stays. Raises BadArguments for scores that are none, and for fewer than ten.
    """

    def __init__(self, scorer: DifficultyScorer, seen: Iterable[tuple[float, bool]]) -> None:
        pairs = sorted((score, 0.0 if success else 1.0) for score, success in seen)
        if len(pairs) < 10 or any(share_of(score) is None for score, _ in pairs):
            raise BadArguments(f"calibrated: {len(pairs)} pairs; give ten at least, each score between 0 and 1")
        self._scorer = scorer
        self._starts, self._rates = _pooled(pairs)

    def steps(self, request: Request) -> Steps[float | None]:
        """The scorer's score, looked up."""
        score = share_of((yield from resolved(self._scorer, request)))
        return None if score is None else self.rate(score)

    def rate(self, score: float) -> float:
        """The share of failures at this score."""
        return self._rates[max(0, bisect_right(self._starts, score) - 1)]


def _overlap(one: frozenset[int], other: frozenset[int]) -> float:
    common = len(one & other)
    return common / (len(one) + len(other) - common) if common else 0.0


def _pooled(pairs: list[tuple[float, float]]) -> tuple[list[float], list[float]]:
    """The first score of each pool, and its share of failures; equal scores are in one pool."""
    pools: list[tuple[float, float, int]] = []
    for score, group in groupby(pairs, key=itemgetter(0)):
        outcomes = [failed for _, failed in group]
        pools.append((score, sum(outcomes), len(outcomes)))
        while len(pools) > 1 and pools[-2][1] / pools[-2][2] >= pools[-1][1] / pools[-1][2]:
            _, failures, count = pools.pop()
            start, sum_before, before = pools.pop()
            pools.append((start, sum_before + failures, before + count))
    return [start for start, _, _ in pools], [failures / count for _, failures, count in pools]
