"""Machines as tables: who kept them busy with the idle rest, and what a token costs by how busy they are."""

from collections.abc import Iterator, Mapping
from datetime import datetime
from decimal import Decimal
from fractions import Fraction
from typing import Any, Final

from langchain_finops.ledger.codec import from_micros
from langchain_finops.ledger.summary import UNATTRIBUTED, show_usd
from langchain_finops.money import EXACT, from_pico
from langchain_finops.reports.economics_table import percent
from langchain_finops.reports.machines import MILLION, Machines, Pool, Share, ordered
from langchain_finops.reports.render import Column, Table

__all__ = ["break_even_table", "machines_table"]

Row = Mapping[str, Any]
TENTHS: Final = tuple(Fraction(tenth, 10) for tenth in range(1, 11))
BREAK_EVEN_FIELDS: Final = (
    *(
        "card",
        "utilisation",
        "is_now",
        "usd_per_million_tokens",
        "verdict",
        "against",
        "against_usd_per_million_tokens",
    ),
    *("break_even_utilisation", "paid_usd", "paid_instance_hours", "tokens", "since", "until"),
)


def machines_table(found: Machines, caption: str) -> Table:
    """Return a row for each share, dearest first, and of each card one for what was idle."""
    rows = [row for pool in found.pools for row in _rows(found.by, pool)]
    several = len(found.pools) > 1
    names = [Column(title="card", text=lambda row: row["card"] or "", name=True)] if several else []
    names += [
        Column(title=name or "", text=_named(name, is_first=place == 0), name=True)
        for place, name in enumerate(found.by or (None,))
    ]
    return Table(
        rows=rows,
        fields=("card", "kind", *found.by, *_FIELDS),
        columns=(
            *names,
            Column(title="cost", text=_cost),
            Column(title="share", text=lambda row: percent(row["share"])),
            Column(title="hours", text=lambda row: f"{row['instance_hours']:,.2f}", rank=2),
            Column(title="calls", text=lambda row: f"{row['calls']:,}", rank=1),
            Column(title="tokens", text=lambda row: f"{row['input_tokens'] + row['output_tokens']:,}", rank=3),
            Column(title="$/M tokens", text=_per_million, rank=1),
        ),
        total=_total(found) if rows else None,
        caption=caption,
        notes=tuple(_notes(found)),
    )


_FIELDS: Final = (
    *("usd", "usd_is", "share", "instance_hours", "calls", "cut_calls", "input_tokens", "output_tokens"),
    *("usd_per_million_tokens", "paid_usd", "paid_instance_hours", "utilisation", "utilisation_is"),
    *("against", "against_usd", "break_even_utilisation", "since", "until"),
)


def _rows(by: tuple[str, ...], pool: Pool) -> Iterator[Row]:
    done = [share for share in pool.shares if share.calls]
    ranked = sorted(done, key=lambda share: (-share.hours, ordered(share.key)))
    whole = sum((share.hours for share in pool.shares), pool.idle.hours)
    for kind, share in [*(("calls", share) for share in ranked), ("idle", pool.idle)]:
        yield {
            "card": pool.card,
            "kind": kind,
            **dict(zip(by, share.key or (None,) * len(by), strict=True)),
            **_amounts(share, is_least=pool.is_least),
            "share": float(share.hours / whole) if whole else None,
            "instance_hours": float(share.hours),
            "calls": share.calls,
            "cut_calls": share.cut,
            "input_tokens": share.input_tokens,
            "output_tokens": share.output_tokens,
            **_of_pool(pool),
        }


def _amounts(share: Share, *, is_least: bool) -> dict[str, Any]:
    usd = None if share.pico is None else from_pico(share.pico)
    tokens = share.input_tokens + share.output_tokens
    each = EXACT.divide(EXACT.multiply(usd, MILLION), Decimal(tokens)) if usd is not None and tokens else None
    return {
        "usd": usd,
        "usd_is": "unknown" if usd is None else "at_least" if is_least else "known",
        "usd_per_million_tokens": each,
    }


def _of_pool(pool: Pool) -> dict[str, Any]:
    """What all rows of a card have in common."""
    return {
        "paid_usd": None if pool.paid_pico is None else from_pico(pool.paid_pico),
        "paid_instance_hours": float(pool.paid_hours),
        "utilisation": None if pool.utilisation is None else float(pool.utilisation),
        "utilisation_is": "unknown" if pool.utilisation is None else "at_least" if pool.folded else "known",
        "against": pool.seller,
        "against_usd": None if pool.against_pico is None else from_pico(pool.against_pico),
        "break_even_utilisation": None if pool.break_even is None else float(pool.break_even),
        "since": from_micros(pool.begin),
        "until": from_micros(pool.end),
    }


def _total(found: Machines) -> Row:
    pools = found.pools
    known = [pool.paid_pico for pool in pools if pool.paid_pico is not None]
    is_least = len(known) < len(pools) or any(pool.is_least for pool in pools)
    tokens = sum(share.input_tokens + share.output_tokens for pool in pools for share in pool.shares)
    whole = Share(key=(), pico=sum(known) if known else None, input_tokens=tokens)
    return {
        "card": "total",
        "kind": "total",
        **dict.fromkeys(found.by),
        **_amounts(whole, is_least=is_least),
        "share": 1.0,
        "instance_hours": float(sum(sum((s.hours for s in pool.shares), pool.idle.hours) for pool in pools)),
        "calls": sum(pool.calls for pool in pools),
        "input_tokens": tokens,
        "output_tokens": 0,
    }


# --- by how busy they are --------------------------------------------------------------------------------------------


def break_even_table(found: Machines, caption: str) -> Table:
    """Return what a million tokens costs at each tenth of utilisation, and now, beside the price of who sells them."""
    rows = [row for pool in found.pools for row in _by_utilisation(pool)]
    several = len(found.pools) > 1
    card = [Column(title="card", text=lambda row: row["card"] or "", name=True)] if several else []
    compared = any(row["against"] for row in rows)
    return Table(
        rows=rows,
        fields=BREAK_EVEN_FIELDS,
        columns=(
            *card,
            Column(title="utilisation", text=lambda row: percent(row["utilisation"])),
            Column(title="", text=lambda row: "now" if row["is_now"] else "", name=True),
            Column(title="$/M tokens", text=lambda row: _usd(row["usd_per_million_tokens"])),
            *(_AGAINST if compared else ()),
        ),
        caption=caption,
        notes=(
            *_notes(found),
            "By utilisation: what was paid over more or fewer tokens, as if calls took no longer where there are more.",
        ),
    )


def _by_utilisation(pool: Pool) -> Iterator[Row]:
    own, sold = pool.usd_per_million(pool.paid_pico), pool.usd_per_million(pool.against_pico)
    now = pool.utilisation
    at = [(tenth, False) for tenth in TENTHS] + ([(now, True)] if now is not None else [])
    for utilisation, is_now in sorted(at, key=lambda each: each[0]):
        usd = None
        if own is not None and now:
            scaled = Fraction(own) * now / utilisation if utilisation else None
            usd = None if scaled is None else EXACT.divide(Decimal(scaled.numerator), Decimal(scaled.denominator))
        yield {
            "card": pool.card,
            "utilisation": float(utilisation),
            "is_now": is_now,
            "usd_per_million_tokens": usd,
            "verdict": "unknown" if usd is None or sold is None else _verdict(usd, sold),
            "against_usd_per_million_tokens": sold,
            "tokens": pool.all_tokens,
            **{
                name: value
                for name, value in _of_pool(pool).items()
                if name in BREAK_EVEN_FIELDS and name != "utilisation"
            },
        }


def _verdict(own: Decimal, sold: Decimal) -> str:
    return "cheaper" if own < sold else "dearer" if own > sold else "the same"


# --- for people ------------------------------------------------------------------------------------------------------


def _usd(amount: Decimal | None) -> str:
    return "unknown" if amount is None else show_usd(amount)


_AGAINST: Final = (
    Column(title="sold at", text=lambda row: _usd(row["against_usd_per_million_tokens"])),
    Column(title="own machines", text=lambda row: row["verdict"], name=True),
)


def _named(name: str | None, *, is_first: bool) -> Any:
    def text(row: Row) -> str:
        if row["kind"] != "calls":
            return str(row["kind"]) if is_first else ""
        value = "all calls" if name is None else row[name]
        return UNATTRIBUTED if value is None else str(value)

    return text


def _cost(row: Row) -> str:
    if row["usd"] is None:
        return "unknown"
    is_least = row["usd_is"] == "at_least"
    return f"{'>= ' if is_least else ''}{show_usd(row['usd'], bound=is_least)}"


def _per_million(row: Row) -> str:
    return "" if row["kind"] == "idle" else _usd(row["usd_per_million_tokens"])


def _notes(found: Machines) -> Iterator[str]:
    for pool in found.pools:
        yield from _of_machines(pool)
    yield (
        "A call's time is divided by the calls that share the machines; idle is what was paid for and nobody used. "
        "Rows add up to what was paid, exactly."
    )
    if found.replays:
        told = "Replays, counted at the times at which they were recorded"
        if not found.are_replays_counted:
            told = "Replays, left out because no machine answered them (--replays counts them when they were recorded)"
        yield f"{told}: {_calls(found.replays)}."
    if found.unknown_replays:
        yield (
            "Replays known as daily sums only (finops prune), left out because their cards are none of machines in the "
            f"price book: {_calls(found.unknown_replays)}."
        )


def _of_machines(pool: Pool) -> Iterator[str]:
    paid = "unknown" if pool.paid_pico is None else show_usd(from_pico(pool.paid_pico), bound=pool.is_least)
    used = "nothing of it" if not pool.utilisation else f"{float(pool.utilisation):.1%} of it"
    if pool.folded:
        used = f"at least {used}" if pool.utilisation else "nobody knows how much of it"
    yield (
        f"{pool.card}: {'at least ' if pool.is_least else ''}{paid} for {float(pool.paid_hours):,.2f} instance-hours "
        f"from {_moment(from_micros(pool.begin))} to {_moment(from_micros(pool.end))} UTC; {used} used "
        f"(full: {pool.concurrency:f} call{'' if pool.concurrency == 1 else 's'} at once). Reports tell "
        f"{show_usd(from_pico(pool.listed_pico))} for these calls, by their card."
    )
    own, sold = pool.usd_per_million(pool.paid_pico), pool.usd_per_million(pool.against_pico)
    if own is not None and pool.utilisation:
        full = Fraction(own) * pool.utilisation
        at_full = show_usd(EXACT.divide(Decimal(full.numerator), Decimal(full.denominator)))
        yield f"{pool.card}: {show_usd(own)} a million tokens, idle time in it; {at_full} at full load."
    if pool.seller is not None:
        yield f"{pool.card}: {_sold(pool, sold)}"
    yield from _doubts(pool)


def _sold(pool: Pool, sold: Decimal | None) -> str:
    if sold is None or pool.against_pico is None:
        return (
            f"what {pool.seller} takes for the same tokens is not known: some are of a kind that its price leaves out."
        )
    taken = show_usd(from_pico(pool.against_pico))
    told = f"{pool.seller} takes {taken} for the same tokens, {show_usd(sold)} a million: "
    if pool.break_even is None:
        return f"{told}where that breaks even is not known."
    if pool.break_even > 1:
        return f"{told}own machines are dearer even at full load (they break even at {float(pool.break_even):.0%})."
    return f"{told}own machines are cheaper above {float(pool.break_even):.1%} of utilisation."


def _doubts(pool: Pool) -> Iterator[str]:
    """What a reader would else take for known."""
    if pool.busy.crowded:
        yield (
            f"{pool.card}: for {pool.busy.crowded / 3_600_000_000:,.2f} hours there were more calls at once than "
            f"{pool.concurrency:f}, up to {pool.busy.most:,}; they share all of the machines then."
        )
    if pool.utilisation is not None and pool.utilisation > 1:
        yield f"{pool.card}: calls took longer than was paid for: hours are missing, or it bears more calls at once."
    if cut := sum(share.cut for share in pool.shares):
        yield f"{pool.card}: cut at the period's edges, with the part inside counted: {_calls(cut)}."
    if pool.timed_with:
        alone = _calls(pool.timed_with)
        yield f"{pool.card}: without a time of their own, which another prompt of the request has: {alone}."
    if pool.folded:
        yield (
            f"{pool.card}: known as daily sums only (finops prune), so that idle, and what a token costs with it, is "
            f"at most what it says: {_calls(pool.folded)}."
        )
    if pool.estimated:
        yield f"{pool.card}: with estimated tokens: {_calls(pool.estimated)}."


def _calls(count: int) -> str:
    return f"{count:,} call{'' if count == 1 else 's'}"


def _moment(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M}"
