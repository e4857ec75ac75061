"""What tiers cost, routers and judges included, beside what the dearest tier alone would have: read from a ledger."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, replace
from decimal import Decimal

from langchain_finops.errors import BadArguments
from langchain_finops.money import EXACT
from langchain_finops.pricing.book import PriceBook
from langchain_finops.pricing.cost import Reading
from langchain_finops.records import CallRecord

__all__ = ["RoutingCosts", "routing_costs"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RoutingCosts:
    """List costs of all calls that tiers made. `alone_usd` is an estimate: no such call was made."""

    requests: int
    """Requests that a tier answered."""
    spent_usd: Decimal
    """Of tiers, tries in vain and failures included, and of routers and judges."""
    overhead_usd: Decimal
    """The part of routers and judges."""
    alone_usd: Decimal | None
    """What the dearest tier's own answers cost, and of other requests the first answer's tokens at its list price. None
    where a price is missing."""
    unpriced: int = 0
    """Calls among them without a known price: not in `spent_usd`."""

    @property
    def saved_usd(self) -> Decimal | None:
        """What the tiers are estimated to have saved, less than 0 where they cost more; None where nobody knows.

        Whether their answers were as good it does not say: an evaluation does.
        """
        return None if self.alone_usd is None or self.unpriced else EXACT.subtract(self.alone_usd, self.spent_usd)


def routing_costs(calls: Iterable[CallRecord], *, dearest: str, prices: PriceBook | None = None) -> RoutingCosts:
    """What the tiers cost in these calls, as `ledger.calls(...)` gives them; `dearest`: the name of the dearest tier.

    That tier has to have answered one of them, or its price is not known here. A cheaper model's answer may be longer
    or shorter than the dearest one's would have been. Of requests that a node sends at the same time, the dearest
    tier's answers are told apart by their prompts: alike ones may be mistaken for each other.
    """
    book = PriceBook.default() if prices is None else prices
    made = [call for call in calls if "tier" in call.attribution.tags or "tier_for" in call.attribution.tags]
    if not made:
        raise BadArguments("none of these calls was made by a tier: give those of a run with a TieredChatModel")
    answered = [call for call in made if _try_of(call) == "1" and call.error is None]
    of_dearest = next((each for each in made if _is_of(each, dearest)), None)
    overhead = [call for call in made if "tier_for" in call.attribution.tags]
    return RoutingCosts(
        requests=len(answered),
        spent_usd=_sum(made),
        overhead_usd=_sum(overhead),
        alone_usd=None if of_dearest is None else _alone(_with_own(answered, made, dearest), of_dearest, book),
        unpriced=sum(call.cost_usd is None for call in made),
    )


def _is_of(call: CallRecord, tier: str) -> bool:
    return call.attribution.tags.get("tier") == tier and call.error is None


def _sum(calls: Iterable[CallRecord]) -> Decimal:
    total = Decimal(0)
    for call in calls:
        total = EXACT.add(total, call.cost_usd or Decimal(0))
    return total


def _try_of(call: CallRecord) -> str | None:
    return call.attribution.tags.get("tier_try")


def _place_of(call: CallRecord) -> tuple[str, str, str | None, int | None]:
    return call.run_id, call.invocation_id, call.attribution.node_path, call.attribution.step


def _with_own(answered: list[CallRecord], made: list[CallRecord], dearest: str) -> list[tuple[CallRecord, bool]]:
    """The call that stands for each request, and whether it is the dearest tier's own answer.

    No record names its request. An answer after the first belongs to a first one that ended before it, in the same
    run and execution of a node: of several to the one with the same prompt, else with as many input tokens, else to the
    one that ended last.
    """
    waiting: defaultdict[object, list[CallRecord]] = defaultdict(list)
    for call in sorted(answered, key=lambda each: each.ended_at):
        if not _is_of(call, dearest):
            waiting[_place_of(call)].append(call)
    own: dict[str, CallRecord] = {}
    later = [call for call in made if _is_of(call, dearest) and _try_of(call) != "1"]
    for call in sorted(later, key=lambda each: each.started_at):
        firsts = waiting[_place_of(call)]
        before = [first for first in firsts if first.ended_at <= call.started_at]
        if before:
            first = max(before, key=lambda each: (_likeness(each, call), each.ended_at))
            firsts.remove(first)
            own[first.call_id] = call
    return [(own.get(first.call_id, first), first.call_id in own or _is_of(first, dearest)) for first in answered]


def _likeness(first: CallRecord, later: CallRecord) -> int:
    """How sure it is that both were asked the same."""
    if first.prompt_digests is not None and first.prompt_digests == later.prompt_digests:
        return 2
    return int(first.usage.total_input_tokens == later.usage.total_input_tokens)


def _alone(requests: Iterable[tuple[CallRecord, bool]], dearest: CallRecord, book: PriceBook) -> Decimal | None:
    """What its own answers cost, and the tokens of the others at the price of its model when each was made."""
    total = Decimal(0)
    metadata = {"ls_provider": dearest.provider, "ls_model_name": dearest.requested_model or dearest.model}
    one = {"input_tokens": 1, "output_tokens": 0, "total_tokens": 1}
    host = dearest.base_url_host
    key = book.read(one, {}, metadata, at=dearest.started_at, base_url_host=host, tags=dearest.attribution.tags).key
    for call, is_own in requests:
        cost = (
            call.cost_usd if is_own else book.price(Reading(usage=call.usage, key=replace(key, at=call.started_at))).usd
        )
        if cost is None:
            return None
        total = EXACT.add(total, cost)
    return total
