"""Adds up what an attempt cost, from the records that its handler wrote."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import TypedDict

from langchain_finops.budgets.carrying import REFUSE
from langchain_finops.evals.faults import causes, is_outage_error, is_overload
from langchain_finops.ledger.totals import APART
from langchain_finops.money import sum_usd
from langchain_finops.pricing import PriceBook
from langchain_finops.pricing.again import price_call_again, price_tool_again
from langchain_finops.records import CallError, CallRecord, ChargeRecord, Event, Record, RunRecord
from langchain_finops.usage import METERS_AND_REASONING

__all__ = ["Sums", "Tally", "price_again", "tally", "total_usd", "whole_usd"]


class Sums(TypedDict):
    """The fields of an AttemptResult that are sums over its records."""

    cost_usd: Decimal | None
    known_usd: Decimal
    contracted_usd: Decimal | None
    billed_usd: Decimal | None
    charges_usd: Decimal | None
    costs_by_card: Mapping[str, Decimal | None]
    costs_by_node: Mapping[str, Decimal | None]
    overhead_usd: Decimal | None
    usage: Mapping[str, int]
    calls: int
    unpriced_calls: int
    unpriced_charges: int
    estimated_calls: int
    failed_calls: int
    replayed_calls: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """What an attempt's records, the current version of each, say together."""

    calls: Sequence[CallRecord]
    """The agent's own, oldest first."""
    charges: Sequence[ChargeRecord]
    apart: Sequence[CallRecord | ChargeRecord]
    """What judges and simulators cost."""
    runs: Sequence[RunRecord]
    """Of each logical run the version written last, oldest first."""
    refused: Sequence[Event]
    """What limits and guards refused."""
    books: Mapping[str, PriceBook]
    priced_by: str | None
    """The card set that the records are priced by."""

    def fields(self, *, in_the_dark: bool = False) -> Sums:
        """The exact sums. Charges without a price, such as tools without a card, are counted and left out.

        `in_the_dark`: there may have been a call that no record tells of; what is not known is not nothing.
        """
        sums = self._sums()
        if in_the_dark:
            sums["cost_usd"] = sums["contracted_usd"] = sums["billed_usd"] = None
            sums["costs_by_card"] = dict.fromkeys(self.books)
            sums["costs_by_node"] = {**sums["costs_by_node"], "": None}
            sums["unpriced_calls"] += 1
        return sums

    def _sums(self) -> Sums:
        costs = [call.cost_usd for call in self.calls]
        charged = [charge.cost_usd for charge in self.charges if charge.cost_usd is not None]
        return Sums(
            cost_usd=whole_usd([*costs, *charged]),
            known_usd=sum_usd([*(cost for cost in costs if cost is not None), *charged]),
            contracted_usd=whole_usd([*(call.contracted_usd for call in self.calls), *charged]),
            billed_usd=whole_usd([*(call.billed_usd for call in self.calls), *charged]),
            charges_usd=whole_usd(charged),
            costs_by_card={
                name: whole_usd([*costs, *charged]) if name == self.priced_by else self._by(book)
                for name, book in self.books.items()
            },
            costs_by_node=self._by_node(),
            overhead_usd=whole_usd(record.cost_usd for record in self.apart),
            usage=_usage(self.calls),
            calls=len(self.calls),
            unpriced_calls=costs.count(None),
            unpriced_charges=len(self.charges) - len(charged),
            estimated_calls=sum(call.estimated for call in self.calls),
            failed_calls=sum(call.error is not None for call in self.calls),
            replayed_calls=sum(call.billing_mode == "replay" for call in self.calls),
        )

    def _by_node(self) -> dict[str, Decimal | None]:
        costs: dict[str, list[Decimal | None]] = {}
        records: list[CallRecord | ChargeRecord] = [*self.calls, *self.charges]
        for record in records:
            if isinstance(record, CallRecord) or record.cost_usd is not None:
                costs.setdefault(record.attribution.node_path or "", []).append(record.cost_usd)
        return {node: whole_usd(amounts) for node, amounts in costs.items()}

    @property
    def steps(self) -> int:
        """Node executions at any depth."""
        return sum(run.steps for run in self.runs)

    @property
    def tool_calls(self) -> int:
        """Tools that were called, whatever came of it."""
        return sum(charge.kind == "tool" and charge.source == "callback" for charge in self.charges)

    @property
    def final_output_tokens(self) -> int | None:
        """What the last answered call generated, without its hidden reasoning; None where no call was answered.

        The last is the one that began last, the longest where several did at once, as in `finops economics`.
        """
        answered = [call for call in self.calls if call.error is None]
        if not answered:
            return None
        said = ((call.started_at, call.usage.total_output_tokens - call.usage.reasoning_tokens) for call in answered)
        return max(said)[1]

    @property
    def providers(self) -> frozenset[str]:
        """Who was asked."""
        return frozenset(call.provider or "" for call in self.calls)

    @property
    def overloaded(self) -> frozenset[str]:
        """Who said that it was asked too much."""
        return frozenset(call.provider or "" for call in self.calls if call.error and is_overload(call.error))

    @property
    def refusals(self) -> Mapping[str, Event]:
        """What limits and guards refused, by their names."""
        return {str((event.after or {}).get("budget") or ""): event for event in self.refused}

    @property
    def outage(self) -> CallError | None:
        """How the last call failed, where no call of several or one was answered and none of them could be."""
        errors = [call.error for call in self.calls]
        if not errors or not all(error is not None and is_outage_error(error) for error in errors):
            return None
        return errors[-1]

    def met_outage(self, error: BaseException | None) -> bool:
        """Whether a call failed as an outage does, or with `error` or what it was raised from."""
        raised = set() if error is None else {type(cause).__name__ for cause in causes(error)}
        failed = [call.error for call in self.calls if call.error is not None]
        return any(is_outage_error(one) or one.error_class in raised for one in failed)

    def _by(self, book: PriceBook) -> Decimal | None:
        charged = (price_again(charge, book).cost_usd for charge in self.charges)
        costs = (price_again(call, book).cost_usd for call in self.calls)
        return whole_usd([*costs, *(amount for amount in charged if amount is not None)])


def tally(records: Iterable[Record], books: Mapping[str, PriceBook], priced_by: str | None) -> Tally:
    """Sort an attempt's records; `books` are the price books of the suite's card sets, one of which priced them."""
    current: dict[tuple[str, str], Record] = {}
    refused: list[Event] = []
    for record in records:
        if isinstance(record, Event) and record.action == REFUSE:
            refused.append(record)
        key = _key(record)
        if key is not None and (key not in current or _revision(record) >= _revision(current[key])):
            current[key] = record
    mine = [record for record in current.values() if not _is_apart(record)]
    return Tally(
        calls=[record for record in mine if isinstance(record, CallRecord)],
        charges=[record for record in mine if isinstance(record, ChargeRecord)],
        apart=[
            record for record in current.values() if isinstance(record, CallRecord | ChargeRecord) and _is_apart(record)
        ],
        runs=[record for record in mine if isinstance(record, RunRecord)],
        refused=refused,
        books=books,
        priced_by=priced_by,
    )


def _is_apart(record: Record) -> bool:
    return isinstance(record, CallRecord | ChargeRecord) and record.attribution.role in APART


def _key(record: Record) -> tuple[str, str] | None:
    match record:
        case CallRecord():
            return "call", record.call_id
        case ChargeRecord():
            return "charge", record.charge_id
        case RunRecord():
            return "run", record.run_id
        case _:
            return None


def _revision(record: Record) -> int:
    return record.revision if isinstance(record, CallRecord | ChargeRecord | RunRecord) else 0


def total_usd(amounts: Iterable[Decimal | None]) -> tuple[Decimal | None, Decimal]:
    """The exact sum, None where one of the amounts is unknown; and the sum of those that are known."""
    listed = list(amounts)
    known = sum_usd([amount for amount in listed if amount is not None])
    return (None if None in listed else known), known


def whole_usd(amounts: Iterable[Decimal | None]) -> Decimal | None:
    """The exact sum, or None where one of the amounts is unknown."""
    return total_usd(amounts)[0]


def _usage(calls: Iterable[CallRecord]) -> dict[str, int]:
    sums = dict.fromkeys(METERS_AND_REASONING, 0)
    for call in calls:
        for meter in sums:
            sums[meter] += getattr(call.usage, meter)
    return {meter: count for meter, count in sums.items() if count}


def price_again(record: CallRecord | ChargeRecord, book: PriceBook) -> CallRecord | ChargeRecord:
    """The same call or charge at another book's prices. What was known to be free of charge stays so."""
    return price_call_again(record, book) if isinstance(record, CallRecord) else price_tool_again(record, book)
