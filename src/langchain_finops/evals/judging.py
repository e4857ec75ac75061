"""Asks a model for its verdict on an answer, once, through openevals, and says what that cost."""

import asyncio
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING

from langchain_finops.budgets.policy import Budget
from langchain_finops.errors import EvalError, Fault
from langchain_finops.evals.attempt import Bench, out_of_money, surroundings
from langchain_finops.evals.costs import Tally, tally
from langchain_finops.evals.dataset import Dataset, Item
from langchain_finops.evals.faults import call_error, is_outage, is_overload, is_worth_another_try, retry_after_s
from langchain_finops.evals.judge_prompts import filled_in, need_openevals, prompt_faults
from langchain_finops.evals.matrix import Configuration
from langchain_finops.evals.models import chat_model, model_faults, offline
from langchain_finops.evals.recorded import Slot
from langchain_finops.evals.results import INTERRUPTED, MAX_USD, AttemptResult, JudgingKey
from langchain_finops.evals.scorers import Function, Judgement, Scorer
from langchain_finops.evals.stock import judging_tags_of
from langchain_finops.evals.suite import Suite
from langchain_finops.evals.watch import Witness
from langchain_finops.langchain.handler import FinOpsHandler
from langchain_finops.langchain.refusals import CallRefused
from langchain_finops.pricing import PriceBook
from langchain_finops.records import CallRecord, ChargeRecord, Record

if TYPE_CHECKING:
    from langchain_core.language_models import BaseChatModel

__all__ = ["Heard", "ask", "judges_of"]

LONGEST_REASON = 2_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Heard:
    """What came of asking a judge once."""

    judgement: Judgement
    priced: Sequence[CallRecord | ChargeRecord] = ()
    """Its calls, and what else it was charged."""
    held_back: Sequence[Record] = ()
    """Records that are yet to be written to the ledger."""
    in_the_dark: bool = False
    """It may have cost more than its calls tell."""
    stop_reason: str | None = None
    """Why there is no verdict: `infrastructure`, `max_usd` or `interrupted`."""
    try_again: bool = False
    """The same request may succeed in a while."""
    wait_s: float | None = None
    """How long the service asks to wait."""
    out_of_money: str | None = None
    """Why the run's money ended it, in a sentence."""

    def after(self, before: "Heard") -> "Heard":
        """What came of it, with what an asking before it was charged that the run's money cut off."""
        return replace(
            self,
            priced=[*before.priced, *self.priced],
            held_back=[*before.held_back, *self.held_back],
            in_the_dark=before.in_the_dark or self.in_the_dark,
        )

    @property
    def calls(self) -> list[CallRecord]:
        """Its model calls."""
        return [record for record in self.priced if isinstance(record, CallRecord)]

    @property
    def providers(self) -> frozenset[str]:
        """Who was asked."""
        return frozenset(call.provider or "" for call in self.calls)

    @property
    def overloaded(self) -> frozenset[str]:
        """Who said that it was asked too much."""
        return frozenset(call.provider or "" for call in self.calls if call.error and is_overload(call.error))


def judges_of(
    suite: Suite,
    functions: Mapping[str, Function],
    dataset: Dataset,
    faults: list[Fault],
    *,
    replays: bool,
    prices: PriceBook | None,
) -> "dict[str, BaseChatModel]":
    """The models of a suite's judges; what keeps one from judging is added to `faults`. Raises MissingExtra.

    `prices`: where the run's money has a maximum, which a judge of unknown price would break unseen.
    """
    need_openevals()
    models: dict[str, BaseChatModel] = {}
    for scorer in suite.scorers:
        if scorer.judge is None:
            continue
        faults += prompt_faults(scorer, dataset)
        wrong = _model_faults(scorer, suite, replays=replays, prices=prices)
        if not wrong and (scorer.function is None or scorer.name in functions):
            try:
                with offline(wanted=replays):
                    model = models[scorer.name] = _made(scorer, functions.get(scorer.name))
                if prices is not None and scorer.function is not None:
                    _check_price(model, prices)
            except EvalError as error:
                wrong.append(Fault(where=f"{suite.path}: scorer {scorer.name}", what=str(error)))
        faults += wrong
    return models


def _model_faults(scorer: Scorer, suite: Suite, *, replays: bool, prices: PriceBook | None) -> list[Fault]:
    """What keeps a judge that is named from being asked; one that a function makes is known when it is made."""
    assert scorer.judge is not None, "only judges have models"
    if scorer.judge.model is None:
        return []
    judge = Configuration(name=f"scorer {scorer.name}", parameters={"model": scorer.judge.model})
    book = PriceBook.default() if prices is None else prices
    return model_faults([judge], suite=suite.path, prices=book, without_key=replays, needs_prices=prices is not None)


def _made(scorer: Scorer, function: Function | None) -> "BaseChatModel":
    """The chat model that judges. Raises EvalError where there is none."""
    from langchain_core.language_models import BaseChatModel

    assert scorer.judge is not None, "only judges have models"
    if scorer.judge.model is not None:
        return chat_model({"model": scorer.judge.model})
    assert function is not None, "a suite's judge has a model or a function"
    try:
        made = function()
    except (Exception, SystemExit) as error:
        raise EvalError(f"{scorer.function!r} raised {type(error).__name__}: {error}") from error
    if not isinstance(made, BaseChatModel):
        raise EvalError(f"{scorer.function!r} returned a {type(made).__name__}, which is no chat model")
    return made


def _check_price(model: "BaseChatModel", prices: PriceBook) -> None:
    """Raise EvalError where a model tells its name and no price is known by it."""
    params = dict(model._get_ls_params())  # noqa: SLF001  What LangChain itself tells handlers of a model by.
    usage = {"input_tokens": 1000, "output_tokens": 1000, "total_tokens": 2000}
    reading = prices.read(usage, {}, params, at=datetime.now(UTC))
    if params.get("ls_model_name") and prices.price(reading, seconds=1).usd is None:
        raise EvalError(
            f"the price of {params['ls_model_name']!r} is not known, so that no limit in USD can be held: add a card "
            "to the suite's `cards`, or leave the limit out"
        )


async def ask(
    scorer: Scorer,
    model: "BaseChatModel",
    result: AttemptResult,
    item: Item,
    bench: Bench,
    *,
    key: JudgingKey,
    played: int,
    cap_usd: Decimal | None = None,
    counted: Collection[datetime] = (),
) -> Heard:
    """Ask a judge about a stored answer. Its failure cannot tell, nor can a cancelled one; only a recording that lacks
    a call raises.

    `played`: which time of asking it is, counted from 1. `cap_usd`: what the run's money leaves it. `counted`: when
    calls began that earlier lines are charged with, and that the recording may serve again.
    """
    fields = filled_in(scorer, result.answer, item)
    if isinstance(fields, Judgement):
        return Heard(judgement=fields)
    witness = Witness(bench.ledger, hold_back=bench.replays, standing=bench.standing, counted=counted)
    handler = _handler(key, result, bench, witness, cap_usd)
    slot = Slot(result.configuration, result.task, result.repeat, scorer=scorer.name)
    said: object = None
    raised: BaseException | None = None
    with surroundings(slot, bench, played):
        try:
            said = await _answer(scorer, model, fields, handler)
        except (Exception, asyncio.CancelledError, SystemExit) as error:  # noqa: BLE001  A judge that breaks cannot tell; what was paid stays.
            raised = error
    sums = tally(witness.records, {}, None)
    held_back = witness.let_go()
    if raised is None:
        judgement, stop_reason = _read(said, scorer), None
    else:
        judgement, stop_reason = _failed(raised, sums)
    return Heard(
        judgement=judgement,
        priced=sums.apart,
        held_back=held_back,
        in_the_dark=handler.faults > 0,
        stop_reason=stop_reason,
        try_again=stop_reason == "infrastructure"
        and raised is not None
        and _may_try_again(raised, slot, bench, played),
        wait_s=None if raised is None else retry_after_s(raised),
        out_of_money=out_of_money(sums),
    )


def _handler(
    key: JudgingKey, result: AttemptResult, bench: Bench, witness: Witness, cap_usd: Decimal | None
) -> FinOpsHandler:
    return FinOpsHandler(
        agent_id=result.configuration,
        task_id=result.task_id,
        project=bench.project,
        environment="evaluation",
        tags=judging_tags_of(bench.run_id, result, key),
        budgets=() if cap_usd is None else (Budget(usd=cap_usd, name=MAX_USD, warn_at=()),),
        ledger=witness,
        prices=bench.prices,
        role="judge",
    )


async def _answer(scorer: Scorer, model: "BaseChatModel", fields: Mapping[str, str], handler: FinOpsHandler) -> object:
    """What openevals makes of the judge's answer. In a context in which every call is the handler's."""
    from langchain_core.runnables.config import set_config_context
    from openevals.llm import create_async_llm_as_judge

    judge = scorer.judge
    assert judge is not None, "only judges are asked"
    evaluate = create_async_llm_as_judge(
        prompt=judge.prompt, judge=model, continuous=judge.continuous, use_reasoning=judge.reasoning
    )

    async def asking() -> object:
        return await evaluate(**fields)

    with set_config_context({"callbacks": [handler]}) as context:
        return await asyncio.create_task(asking(), context=context)


def _failed(error: BaseException, sums: Tally) -> tuple[Judgement, str | None]:
    """What an exception makes of a verdict: none, and whether because nobody could be asked."""
    told = f"{type(error).__name__}: {error}"[:LONGEST_REASON]
    if isinstance(error, asyncio.CancelledError):
        return Judgement(success=None, reason="Ctrl-C ended the judging"), INTERRUPTED
    if MAX_USD in sums.refusals:
        return Judgement(success=None, reason="the run's money does not suffice for the judge"), MAX_USD
    if isinstance(error, CallRefused):
        return Judgement(success=None, reason=f"the judge was not asked: {told}"), None
    if is_outage(error):
        known = call_error(error)
        status = "" if known.http_status is None else f" (HTTP status {known.http_status})"
        reason = f"the judge could not be reached: {known.error_class}{status}"
        return Judgement(success=None, reason=reason), "infrastructure"
    return Judgement(success=None, reason=f"the judge gave no verdict: {told}"), None


def _may_try_again(error: BaseException, slot: Slot, bench: Bench, played: int) -> bool:
    if not is_worth_another_try(error):
        return False
    return bench.recording is None or not bench.replays or bench.recording.goes_on(slot, played)


def _read(said: object, scorer: Scorer) -> Judgement:
    """openevals' result: true or false, or a score where one was asked for; anything else is no verdict."""
    assert scorer.judge is not None, "only judges are asked"
    score = said.get("score") if isinstance(said, Mapping) else None
    comment = said.get("comment") if isinstance(said, Mapping) else None
    reason = comment if isinstance(comment, str) and comment else None
    if isinstance(score, bool):
        if not scorer.judge.continuous:
            return Judgement(success=score, score=float(score), reason=reason)
    elif isinstance(score, int | float) and scorer.judge.continuous and 0 <= score <= 1:
        return Judgement(success=score >= scorer.threshold, score=float(score), reason=reason)
    wanted = "a score from 0 to 1" if scorer.judge.continuous else "true or false"
    return Judgement(success=None, reason=f"the judge gave no verdict: {score!r} found, {wanted} is expected")
