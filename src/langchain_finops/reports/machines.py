"""Machines of one's own: what was paid for them, shared out over the calls that kept them busy, the idle rest apart.

A call's share is its time on the machines, divided by how many calls share them (`machine_time`); what no call used is
a row of its own. Shares and idle add up to what was paid, to the picodollar. docs/economics.md defines each figure.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from fractions import Fraction
from typing import Final

from langchain_finops.errors import BadArguments
from langchain_finops.ledger.base import Ledger
from langchain_finops.ledger.codec import MICROS_PER_DAY, from_micros, to_micros
from langchain_finops.ledger.grouping import Key, Period
from langchain_finops.ledger.machine_calls import MachineCall, MachineSort, with_machine_calls
from langchain_finops.money import EXACT, from_pico
from langchain_finops.pricing.book import PriceBook
from langchain_finops.pricing.cards import Card
from langchain_finops.reports.advise_prices import Prices
from langchain_finops.reports.machine_costs import HOUR, Paid, Terms, paid_pico, terms_of
from langchain_finops.reports.machine_time import BITS, MASK, Busy, busy, mark
from langchain_finops.reports.shares import divided

__all__ = ["MILLION", "Against", "Machines", "Paid", "Pool", "Share", "machines", "ordered"]

MILLION: Final = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Against:
    """Who sells tokens, to compare with. Without a model: the calls' own."""

    model: str | None = None
    provider: str | None = None


@dataclass(slots=True, kw_only=True)
class Share:
    """What one group did, in the period."""

    number: int = 0
    key: Key = ()
    calls: int = 0
    cut: int = 0
    """Those of the calls that reach over an edge of the period: they count with the part inside."""
    input_tokens: int = 0
    output_tokens: int = 0
    hours: Fraction = Fraction(0)
    """Instance-hours."""
    pico: int | None = None
    """Of what was paid; None where that is unknown."""


@dataclass(slots=True, kw_only=True)
class Pool:
    """The machines of one card."""

    card: str
    shares: list[Share]
    idle: Share
    paid_pico: int | None
    is_least: bool = False
    """Whether more was paid than is known: charges without a price."""
    instances: Decimal
    concurrency: Decimal
    begin: int
    end: int
    """Microseconds: what the period of these machines is."""
    paid_hours: Fraction
    """Instance-hours."""
    utilisation: Fraction | None
    """Of what was paid for: above 1 where the calls took longer than the machines were there. None for no time."""
    listed_pico: int
    """What the calls cost by their card, as reports have it, folded ones too; of calls that are cut, all of it."""
    busy: Busy
    tokens: list[int]
    """As `columns.FIGURES` has them."""
    against_pico: int | None = None
    """What the same tokens cost of who sells them."""
    seller: str | None = None
    folded: int = 0
    timed_with: int = 0
    """Calls whose time is another's: prompts of one request."""
    estimated: int = 0

    @property
    def calls(self) -> int:
        """All calls."""
        return sum(share.calls for share in self.shares)

    @property
    def all_tokens(self) -> int:
        """Input and output."""
        return sum(self.tokens[:4])

    def usd_per_million(self, pico: int | None) -> Decimal | None:
        """An amount over the tokens, in dollars a million; None where either is not there."""
        if pico is None or not self.all_tokens:
            return None
        return EXACT.divide(from_pico(pico * MILLION), Decimal(self.all_tokens))

    @property
    def break_even(self) -> Fraction | None:
        """The utilisation at which a token costs what the seller takes; above 1: not even at full load."""
        if self.utilisation is None or self.paid_pico is None or not self.against_pico or not self.all_tokens:
            return None
        return self.utilisation * self.paid_pico / self.against_pico


@dataclass(frozen=True, slots=True, kw_only=True)
class Machines:
    """The pools, dearest first."""

    by: tuple[str, ...]
    pools: list[Pool]
    replays: int
    """Calls of these cards that a recording answered: left out, or counted when they were recorded."""
    are_replays_counted: bool
    unknown_replays: int = 0
    """Folded replays whose card is none of a machine in the price book: left out."""


def machines(
    ledger: Ledger,
    *,
    by: Sequence[str] = ("agent",),
    since: datetime | None = None,
    until: datetime | None = None,
    card: str | None = None,
    paid: Paid | None = None,
    against: Against | None = None,
    replays: bool = False,
    book: PriceBook | None = None,
) -> Machines:
    """Return what machines of a period cost, by who kept them busy, with the idle rest.

    A period that is open at an end goes to the first call's begin or the last one's end; of a day whose calls are
    folded, to that of the day. `card`: of these machines
    alone. `replays`: count what a recording answered, at the times at which it was recorded. Raises BadArguments for a
    dimension that is none, for a card that the book does not have where `paid` does not say all of it, and for a price
    to compare with that is not known.
    """
    paid, book = paid or Paid(), book or PriceBook.default()
    period = Period.of(since, until)
    left = _Replays(are_counted=replays, book=book)
    gathered = with_machine_calls(
        ledger, by, period.until, lambda calls: _gathered(calls, period, card=card, replays=left)
    )
    if paid.is_of_one and len(gathered) > 1:
        raise BadArguments(f"calls are of the cards {', '.join(sorted(gathered))}: name one of them with --card")
    pools = [_pool(each, period, terms_of(each.card, paid, book), ledger) for each in gathered.values()]
    if against is not None:
        sold = book.without_machines()
        for pool in pools:
            _compare(pool, gathered[pool.card], against, sold)
    pools = [pool for pool in pools if pool.calls or pool.folded or pool.paid_hours]
    pools.sort(key=lambda pool: (-(pool.paid_pico or 0), pool.card))
    return Machines(
        by=tuple(by),
        pools=pools,
        replays=left.calls,
        are_replays_counted=replays,
        unknown_replays=left.unknown,
    )


# --- what the calls did ----------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Gathered:
    """The calls of one card, as marks, and sums of their tokens."""

    card: str
    groups: dict[MachineSort, int] = field(default_factory=dict)
    shares: dict[Key, Share] = field(default_factory=dict)
    begins: list[int] = field(default_factory=list)
    ends: list[int] = field(default_factory=list)
    free: list[tuple[int, int]] = field(default_factory=list)
    """Marks of calls that cost nothing: where others of the card cost something, their time is another's."""
    tokens: list[int] = field(default_factory=lambda: [0] * 5)
    longest: int = 0
    pico: int = 0
    folded: int = 0
    days: set[int] = field(default_factory=set)
    """Whose calls are folded: UTC days since 1970."""
    estimated: int = 0

    def group_of(self, sort: MachineSort) -> int:
        """The number of the share."""
        found = self.groups.get(sort)
        if found is None:
            share = self.shares.setdefault(sort.key, Share(number=len(self.shares), key=sort.key))
            found = self.groups[sort] = share.number
            if found > MASK:
                raise BadArguments(f"more than {MASK:,} rows: group by less")
        return found


@dataclass(slots=True)
class _Replays:
    """Counts what a recording answered. A folded replay tells by its card alone whether a machine had answered."""

    are_counted: bool
    book: PriceBook
    calls: int = 0
    unknown: int = 0
    machines: dict[str, bool] = field(default_factory=dict)
    """By id, whether the card is one of a machine."""

    def is_taken(self, call: MachineCall, *, is_over: bool) -> bool:
        """Note a replay, and return whether it counts."""
        name, records = call.sort.card, 0 if is_over else call.records
        if call.ended_at is None:
            if name not in self.machines:
                card = self.book.card(name.split(" + ")[0])
                self.machines[name] = card is not None and card.self_hosted is not None
            if not self.machines[name]:
                self.unknown += records
                return False
        self.calls += records
        return self.are_counted


def _gathered(
    calls: Iterator[MachineCall], period: Period, *, card: str | None, replays: _Replays
) -> dict[str, _Gathered]:
    found: dict[str, _Gathered] = {}
    least = 0 if period.since is None else period.since
    last: MachineSort | None = None
    into, group = _Gathered(""), 0
    for call in calls:
        sort, at, ended_at, records = call[:4]
        if card is not None and sort.card != card:
            continue
        # One without length belongs to when it began, and a folded one to its day.
        is_over = at < least and (ended_at is None or ended_at <= least)
        if sort.is_replay and not replays.is_taken(call, is_over=is_over):
            continue
        if sort is not last:  # Most calls are like the one before.
            into = found.setdefault(sort.card, _Gathered(sort.card))
            group, last = into.group_of(sort), sort
        if is_over:
            continue
        if ended_at is None:
            into.folded += records
            into.pico += call.pico
            into.days.add(at // MICROS_PER_DAY)
        else:
            _take(into, call, group, (least, period.until))
    return found


def _take(into: _Gathered, call: MachineCall, group: int, period: tuple[int, int | None]) -> None:
    """Add a call, or the part of it that lies in the period."""
    sort, at, ended_at, _, pico, fresh, read, written, output, other = call
    assert ended_at is not None
    share, tokens, (least, until) = into.shares[sort.key], into.tokens, period
    begin, end = max(least, at), ended_at if until is None or ended_at < until else until
    share.calls += 1
    if sort.estimated:
        into.estimated += 1
    into.pico += pico
    into.longest = max(into.longest, fresh + read + written)
    if begin > at or end < ended_at:
        share.cut += 1
        inside, length = end - begin, ended_at - at
        fresh, read, written, output, other = (
            (2 * count * inside + length) // (2 * length)  # Half up.
            for count in (fresh, read, written, output, other)
        )
    tokens[0] += fresh
    tokens[1] += read
    tokens[2] += written
    tokens[3] += output
    tokens[4] += other
    share.input_tokens += fresh + read + written
    share.output_tokens += output
    if pico and end > begin:
        into.begins.append(begin << BITS | group)  # As `mark` does: a call of it takes as long as all the rest.
        into.ends.append(end << BITS | group)
    else:
        into.free.append((mark(begin, group), mark(max(begin, end), group)))


# --- what was paid ---------------------------------------------------------------------------------------------------


def _pool(of: _Gathered, period: Period, terms: Terms, ledger: Ledger) -> Pool:
    timed_with = 0
    if of.begins:
        timed_with = sum(begin < end for begin, end in of.free)
    else:  # A card of machines that cost nothing: all its calls have a time of their own.
        marks = [pair for pair in of.free if pair[0] < pair[1]]
        of.begins, of.ends = [begin for begin, _ in marks], [end for _, end in marks]
    of.begins.sort()
    of.ends.sort()
    begin, end = _window(of, period, terms.card)
    kept = busy(of.begins, of.ends, groups=len(of.shares), capacity=Fraction(terms.concurrency))
    instances = Fraction(terms.instances)
    there = Fraction(end - begin)
    if terms.paid.instance_hours is not None:
        there = Fraction(terms.paid.instance_hours) * HOUR / instances
    used = sum(kept.parts)
    idle = max(0, int(there * kept.unit) - used)
    amount, is_least = paid_pico(terms, begin, end, period, ledger)
    pool = Pool(
        card=of.card,
        shares=list(of.shares.values()),
        idle=Share(),
        paid_pico=amount,
        is_least=is_least,
        instances=terms.instances,
        concurrency=terms.concurrency,
        begin=begin,
        end=end,
        paid_hours=there * instances / HOUR,
        utilisation=Fraction(used, kept.unit) / there if there else None,
        listed_pico=of.pico,
        busy=kept,
        tokens=of.tokens,
        folded=of.folded,
        timed_with=timed_with,
        estimated=of.estimated,
    )
    _share_out(pool, [*kept.parts, idle], instances)
    return pool


def _share_out(pool: Pool, parts: Sequence[int], instances: Fraction) -> None:
    """Divide what was paid. Where nothing has a time all of it is idle."""
    pairs = list(zip((*pool.shares, pool.idle), parts, strict=True))
    for share, part in pairs:
        share.hours = Fraction(part, pool.busy.unit) * instances / HOUR
    if pool.paid_pico is None:
        return
    # By name, so that who has the picodollar that is left is not the ledger's affair; idle comes last.
    pairs = [*sorted(pairs[:-1], key=lambda pair: ordered(pair[0].key)), pairs[-1]]
    weights = [part for _, part in pairs] if any(parts) else [*(0 for _ in pool.shares), 1]
    for (share, _), pico in zip(pairs, divided(pool.paid_pico, weights), strict=True):
        share.pico = pico


def ordered(key: Key) -> tuple[tuple[bool, str], ...]:
    """What sorts keys; what is not named comes last."""
    return tuple((value is None, value or "") for value in key)


def _window(of: _Gathered, period: Period, card: Card | None) -> tuple[int, int]:
    """From when until when the machines were there: the period, as far as their card counts, and all of their calls.

    What is folded makes an open end that of its day.
    """
    begins = [begin >> BITS for begin in (*of.begins[:1], *(begin for begin, _ in of.free))]
    ends = [end >> BITS for end in (*of.ends[-1:], *(end for _, end in of.free))]
    validity = None if card is None else card.validity
    starts, over = (None, None) if validity is None else (validity.starts, validity.until)
    # When in a folded day its calls began is not known any more.
    since = min(of.days) * MICROS_PER_DAY if period.since is None and of.days else period.since
    until = (max(of.days) + 1) * MICROS_PER_DAY if period.until is None and of.days else period.until
    if since is not None:
        begins.append(max(since, to_micros(starts)) if starts else since)
    if until is not None:
        ends.append(min(until, to_micros(over)) if over else until)
    begin = min(begins, default=0)
    return begin, max(begin, max(ends, default=begin))


# --- what the same tokens cost of who sells them ---------------------------------------------------------------------


def _compare(pool: Pool, of: _Gathered, against: Against, book: PriceBook) -> None:
    """Note what the same tokens would have cost. Raises BadArguments for a price that is not known."""
    models = {sort.model for sort in of.groups}
    model = against.model or (models.pop() if len(models) == 1 else None)
    if model is None:
        raise BadArguments(f"{pool.card} has calls of several models: name the one that is sold with --against")
    provider = against.provider
    if provider is None:
        provider = next((each.provider for each in book.history(model) if each.in_force), None)
    prices = Prices(book, from_micros(pool.end))
    units = prices.units(provider, model, longest=of.longest)
    if units is None:
        near = book.similar(model, provider=provider)
        hint = f"; {near[0]!r} is meant?" if near else ""
        raise BadArguments(
            f"no one price of {model!r}{f' at {provider}' if provider else ''} is known for prompts of up to "
            f"{of.longest:,} tokens: name a model that finops prices show has, and its seller{hint}"
        )
    pool.seller = f"{model} at {provider}"
    if not pool.tokens[4]:  # Else there are tokens that this price does not tell.
        fresh, read, written, output, _ = pool.tokens
        pool.against_pico = units.pico(fresh=fresh, read=read, written=written, output=output)
