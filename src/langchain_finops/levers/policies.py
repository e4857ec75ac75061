"""Policies: by rule, intent, difficulty, what is left of the budget, and the default: small model first."""

import inspect
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Final

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage
from langchain_core.runnables import Runnable

from langchain_finops.errors import BadArguments
from langchain_finops.levers.choices import Choice, Judge, Policy, Request, Verdict, is_sound, share_of
from langchain_finops.levers.pressure import share_left
from langchain_finops.levers.steps import Steps, asked, passes, resolved, text_of
from langchain_finops.levers.tiers import warn_once

__all__ = ["Rule", "by_budget", "by_difficulty", "by_intent", "by_rule", "cascade", "policy_of"]

Rule = Callable[[Request], Any]
READ: Final = 4_000
"""Letters of a request's last message that a classifier is shown: it costs less than what it is to save."""


class by_rule:  # noqa: N801  Reads as the function that it is used as.
    """A function of the request names the tier, or makes a `Choice`. It may be async where the model is."""

    def __init__(self, rule: Rule) -> None:
        self._rule = rule

    def steps(self, request: Request) -> Steps[Choice]:
        """The rule's word."""
        said = yield from resolved(self._rule, request)
        return said if isinstance(said, Choice) else Choice(tier=_known(said, request, "the rule"), why="rule")


class by_intent:  # noqa: N801
    """A small model sorts the request into one of `tiers`' intents, each with its tier; what fits none: `otherwise`.

    Its call is metered as overhead. Where it fails, `otherwise` answers; None: the dearest tier.
    """

    def __init__(self, model: Runnable[Any, Any], tiers: Mapping[str, str], *, otherwise: str | None = None) -> None:
        if not tiers or not all(0 < len(each) <= 40 for each in tiers):
            raise BadArguments("by_intent: give intents of 1 to 40 letters, each with its tier: {'refund': 'worker'}")
        self._model, self._tiers, self._otherwise = model, dict(tiers), otherwise

    def steps(self, request: Request) -> Steps[Choice]:
        """Ask, and look the answer up."""
        otherwise = self._otherwise or request.tiers[-1]
        names = ", ".join(self._tiers)
        prompt: list[BaseMessage] = [
            SystemMessage(f"Sort the request into one of: {names}. Answer with that one word and nothing else."),
            HumanMessage(last_words(request)),
        ]
        try:
            said = text_of((yield from asked(self._model, prompt, request.config, "intent")))
        except Exception as error:  # A classifier that is down must not take the agent with it.
            if passes(error):
                raise
            warn_once(f"by_intent: the classifier failed with {type(error).__name__}; {otherwise!r} answers meanwhile")
            return Choice(tier=_known(otherwise, request, "otherwise"), why="intent_failed")
        intent = _named(said, self._tiers)
        if intent is None:
            return Choice(tier=_known(otherwise, request, "otherwise"), why="intent_unknown")
        return Choice(tier=_known(self._tiers[intent], request, f"intent {intent!r}"), why=f"intent:{intent}")


class by_difficulty:  # noqa: N801
    """A scorer says how difficult the request is; the dearest tier of `at` whose figure it reaches answers.

    `at={"worker": 0.3, "brain": 0.7}`; below all of them the cheapest tier does. A score that is no share between 0
    and 1, such as NaN, is said once, and the dearest tier answers.
    """

    def __init__(self, scorer: Callable[[Request], Any], at: Mapping[str, float]) -> None:
        wrong = [name for name, value in at.items() if share_of(value) is None]
        if wrong or not at:
            raise BadArguments(f"by_difficulty: at={dict(at)!r}: give tiers with a share from 0 to 1 each")
        self._scorer, self._at = scorer, dict(at)

    def steps(self, request: Request) -> Steps[Choice]:
        """Score, and compare."""
        for name in self._at:
            _known(name, request, "at")
        try:
            score = share_of((yield from resolved(self._scorer, request)))
        except Exception as error:  # As in `by_intent`.
            if passes(error):
                raise
            score = None
        if score is None:
            warn_once(
                "by_difficulty: the scorer failed or gave no share between 0 and 1; the dearest tier answers then"
            )
            return Choice(tier=request.tiers[-1], why="score_invalid")
        reached = [name for name, value in self._at.items() if score >= value]
        tier = max(reached, key=request.tiers.index, default=request.tiers[0])
        return Choice(tier=tier, why="difficulty", score=score)


class cascade:  # noqa: N801
    """Try the cheapest tier, judge its answer, and go up only where it will not do: small model first.

    An answer that is empty, cut off, declined, or calls a tool that there is not never does. `judge` says of the rest
    whether it does: a function of request and answer that returns a bool or a share between 0 and 1, or a chat model,
    which is asked how certain it is that the answer is right. `accept`: the least share that does. None: a sound answer
    does. `start`, `up_to`: the tiers between which it goes; None: all.
    """

    def __init__(
        self,
        judge: "Judge | Runnable[Any, Any] | None" = None,
        *,
        accept: float = 0.7,
        start: str | None = None,
        up_to: str | None = None,
    ) -> None:
        if share_of(accept) is None:
            raise BadArguments(f"cascade: accept={accept!r}: give a share between 0 and 1")
        self._judge: Any = _AskedJudge(judge) if isinstance(judge, Runnable) else judge
        self._accept, self._start, self._up_to = accept, start, up_to

    def steps(self, request: Request) -> Steps[Choice]:
        """The first tier, and who judges."""
        yield from ()
        start = _known(self._start or request.tiers[0], request, "start")
        up_to = None if self._up_to is None else _known(self._up_to, request, "up_to")
        return Choice(tier=start, why="first", up_to=up_to, accept=self._verdict)

    def _verdict(self, request: Request, answer: AIMessage) -> Steps[Verdict]:
        sound = is_sound(request, answer)
        if not sound.accepted or self._judge is None:
            return sound
        try:
            said = yield from resolved(self._judge, request, answer)
        except Exception as error:  # A judge that is down has not accepted anything.
            if passes(error):
                raise
            warn_once(f"cascade: the judge failed with {type(error).__name__}; answers count as not accepted meanwhile")
            return Verdict(accepted=False, why="judge_failed")
        share = share_of(said)
        if share is None:
            warn_once("cascade: the judge gave no bool and no share between 0 and 1; its answers count as not accepted")
            return Verdict(accepted=False, why="judge_unclear")
        accepted = share >= self._accept
        return Verdict(accepted=accepted, why="accepted" if accepted else "rejected", score=share)


class by_budget:  # noqa: N801
    """Step down as the budget runs out: `below={"worker": 0.5, "router": 0.2}` caps the tier once less than half, and
    less than a fifth, of the tightest limit that applies is left. Another policy chooses below the cap.

    It looks at the budgets of the run's FinOpsHandler. Without one, or without a limit, nothing is capped.
    """

    def __init__(self, below: Mapping[str, float], *, otherwise: "Policy | Rule | None" = None) -> None:
        wrong = [name for name, value in below.items() if share_of(value) is None]
        if wrong or not below:
            raise BadArguments(f"by_budget: below={dict(below)!r}: give tiers with a share from 0 to 1 each")
        self._below = dict(below)
        self._otherwise = None if otherwise is None else policy_of(otherwise)

    def steps(self, request: Request) -> Steps[Choice]:
        """The other policy's choice, capped."""
        for name in self._below:
            _known(name, request, "below")
        left = share_left(request.config)
        caps = [name for name, value in self._below.items() if left is not None and left < value]
        cap = min(caps, key=request.tiers.index, default=None)
        if self._otherwise is not None:
            choice = yield from self._otherwise.steps(request)
        else:
            choice = Choice(tier=request.tiers[-1], why="in_budget", score=left)
        if cap is None:
            return choice
        order = request.tiers.index
        up_to = min(cap, choice.up_to or cap, key=order)
        if order(choice.tier) <= order(cap):
            return replace(choice, up_to=up_to)
        return replace(choice, tier=cap, why="budget", score=left, up_to=up_to)


class _AskedJudge:
    """A chat model that is asked how certain it is that an answer is right."""

    def __init__(self, model: Runnable[Any, Any]) -> None:
        self._model = model

    def steps(self, request: Request, answer: AIMessage) -> Steps[float | None]:
        """Its certainty; None where it gave no number."""
        calls = "".join(f"\n[calls {call['name']} with {call['args']}]" for call in answer.tool_calls)
        prompt: list[BaseMessage] = [
            SystemMessage(
                "You check another model's answer. How certain are you that it is correct and complete, and that a "
                "tool it calls is the right next step? Answer with one number from 0 to 100 and nothing else."
            ),
            HumanMessage(f"Request:\n{last_words(request)}\n\nAnswer:\n{text_of(answer)}{calls}"),
        ]
        return percent_of(text_of((yield from asked(self._model, prompt, request.config, "judge"))))


def percent_of(text: str) -> float | None:
    """The one number from 0 to 100 in a text, as a share; None where there is none, or several."""
    numbers = set(re.findall(r"(?<![\w.])\d+(?:\.\d+)?", text))
    return share_of(float(next(iter(numbers))) / 100) if len(numbers) == 1 else None


def policy_of(policy: "Policy | Rule | None") -> Policy:
    """The policy; of a plain function one by rule, of nothing the default. Raises BadArguments for what is none."""
    if policy is None:
        return cascade()
    if inspect.isclass(policy) or not (hasattr(policy, "steps") or callable(policy)):
        raise BadArguments(f"policy is {policy!r}: give a function of the request, or cascade(), by_intent(...)")
    return policy if hasattr(policy, "steps") else by_rule(policy)


def _known(name: object, request: Request, who: str) -> str:
    if not isinstance(name, str) or name not in request.tiers:
        raise BadArguments(f"policy: {who} says {name!r}, which is no tier; there are {', '.join(request.tiers)}.")
    return name


def last_words(request: Request) -> str:
    """The last thing a person said, cut at the length that a classifier is shown."""
    messages = request.messages
    said = [each for each in messages if isinstance(each, HumanMessage)]
    return text_of((said or messages)[-1])[-READ:] if messages else ""


def _named(said: str, intents: Mapping[str, str]) -> str | None:
    """The intent that an answer names; None where it names none, or several."""
    word = said.strip().strip(".!\"'`*").lower()
    exact = [each for each in intents if each.lower() == word]
    found = exact or [each for each in intents if re.search(rf"(?<!\w){re.escape(each.lower())}(?!\w)", said.lower())]
    return found[0] if len(found) == 1 else None
