"""The tables of `finops prices`: a model's prices through time, and what differs between two price lists."""

from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from decimal import Decimal

from langchain_finops.pricing.diff import Change
from langchain_finops.pricing.history import Period
from langchain_finops.reports.render import Column, Row, Table
from langchain_finops.usage import METERS

__all__ = ["diff_table", "history_table"]

WRITES = tuple(meter for meter in METERS if meter.startswith("cache_write"))
PRICED = (*METERS, "reasoning_tokens", "hours")
FIELDS = (
    *("provider", "model", "condition", "above_input_tokens", "from", "until", "in_force", "kind"),
    *(f"{meter}_usd" for meter in PRICED),
    *("stand_ins", "contract_factor", "currency", "fx_id", "card_id", "source", "pages", "checked", "reasons"),
)
TITLES = {
    "input_tokens": ("input", 1),
    "cache_read_tokens": ("cached", 2),
    "cache_write_5m_tokens": ("write 5m", 5),
    "cache_write_30m_tokens": ("write 30m", 9),
    "cache_write_1h_tokens": ("write 1h", 6),
    "cache_write_12h_tokens": ("write 12h", 9),
    "audio_input_tokens": ("audio in", 7),
    "cached_audio_tokens": ("cached audio", 9),
    "output_tokens": ("output", 1),
    "audio_output_tokens": ("audio out", 8),
    "web_searches": ("search", 4),
    "requests": ("request", 3),
    "reasoning_tokens": ("reasoning", 3),
    "hours": ("hour", 1),
}
"""Each meter's title, and how early its column leaves where the terminal is narrow."""
DIFF_FIELDS = ("name", "condition", "since", "what", "change", "old", "new", "ratio")


def history_table(periods: Sequence[Period], at: datetime) -> Table:
    """A model's prices: those in force are marked, and their sources told."""
    rows = [_row(period) for period in periods]
    current = [period for period in periods if period.in_force]
    first = current[0]
    of = f" of {first.provider}" if first.provider else ""
    return Table(
        rows=rows,
        fields=FIELDS,
        columns=tuple(_columns(rows)),
        caption=f"{first.model}{of}; * in force at {at:%Y-%m-%d %H:%M} UTC",
        notes=tuple(_notes(rows, current)),
    )


def diff_table(found: Sequence[Change], old: str, new: str) -> Table:
    """What differs, and by how much."""
    rows = [
        {
            "name": change.place.name,
            "condition": change.place.condition or None,
            "since": change.place.since or None,
            "what": change.place.what,
            "change": change.kind,
            "old": change.old,
            "new": change.new,
            "ratio": change.ratio,
        }
        for change in found
    ]
    columns = [
        Column(title="name", text=lambda row: row["name"], name=True),
        Column(title="condition", text=lambda row: row["condition"] or "", name=True, rank=3),
        Column(title="since", text=lambda row: row["since"] or "", name=True, rank=2),
        Column(title="what", text=_what, name=True),
        Column(title="old", text=lambda row: _plain(row["old"]), name=not _all_amounts(rows)),
        Column(title="new", text=lambda row: _plain(row["new"]), name=not _all_amounts(rows)),
        Column(title="change", text=_change, rank=1),
    ]
    kinds = {kind: sum(change.kind == kind for change in found) for kind in ("changed", "added", "removed")}
    told = ", ".join(f"{count:,} {kind}" for kind, count in kinds.items() if count)
    return Table(
        rows=rows,
        fields=DIFF_FIELDS,
        columns=columns,
        caption=f"From {old} to {new}: {told}",
        notes=("Dollars, or the card's currency, for a million tokens; searches, requests and calls each.",),
    )


def _row(period: Period) -> dict[str, object]:
    quote, source = period.quote, period.source
    charged = {**period.stand_ins, **period.prices}
    return {
        "provider": period.provider,
        "model": period.model,
        "condition": period.condition,
        "above_input_tokens": period.above_input_tokens,
        "from": period.starts,
        "until": period.until,
        "in_force": period.in_force,
        "kind": period.kind,
        **{f"{meter}_usd": charged.get(meter) for meter in PRICED},
        "stand_ins": tuple(period.stand_ins),
        "contract_factor": quote.contract,
        "currency": quote.currency,
        "fx_id": quote.fx_id,
        "card_id": source.card_id,
        "source": source.kind,
        "pages": source.pages,
        "checked": source.checked,
        "reasons": _reasons(period),
    }


def _reasons(period: Period) -> tuple[str, ...]:
    rates = period.quote.rates
    return period.quote.reasons if rates is None else rates.reasons


def _columns(rows: Sequence[Row]) -> Iterator[Column]:
    yield Column(title="*", text=lambda row: "*" if row["in_force"] else "", name=True)
    yield Column(title="from", text=lambda row: _day(row["from"]), name=True)
    yield Column(title="until", text=lambda row: _day(row["until"]), name=True, rank=10)
    yield Column(title="condition", text=_condition, name=True)
    for meter in PRICED:
        if any(_is_told(row, meter) for row in rows):
            title, rank = TITLES[meter]
            yield Column(title=title, text=_price_of(meter), rank=rank)


def _is_told(row: Row, meter: str) -> bool:
    """False where the meter has no price, or the price of input or of other writes stands in for it."""
    price = row[f"{meter}_usd"]
    if meter in row["stand_ins"]:
        return meter not in WRITES and price != row["input_tokens_usd"]
    return price is not None


def _price_of(meter: str) -> Callable[[Row], str]:
    def text(row: Row) -> str:
        if row["kind"] == "free":
            return "free"
        mark = "~" if meter in row["stand_ins"] else ""
        price = _plain(row[f"{meter}_usd"])
        return f"{mark}{price}" if price else "-"

    return text


def _condition(row: Row) -> str:
    above = row["above_input_tokens"]
    size = "" if above is None else _size(above)
    named = "" if row["condition"] == "standard" and size else row["condition"]
    return ", ".join(part for part in (named, size) if part)


def _size(above: int) -> str:
    """Such as `>200k`, in as few letters as it takes: a narrow table cuts names."""
    sign, limit = ("≥", above + 1) if (above + 1) % 1000 == 0 else (">", above)
    return f"{sign}{limit // 1000}k" if limit % 1000 == 0 else f"{sign}{limit:,}"


def _day(moment: datetime | None) -> str:
    if moment is None:
        return ""
    return f"{moment:%Y-%m-%d}" if moment.time() == datetime.min.time() else f"{moment:%Y-%m-%d %H:%M}"


def _plain(value: object) -> str:
    """An amount as a price list writes it: no digit is lost, and no zero is added."""
    if isinstance(value, Decimal):
        text = f"{value:f}"
        return text.rstrip("0").rstrip(".") if "." in text else text
    return "" if value is None else str(value)


def _all_amounts(rows: Sequence[Row]) -> bool:
    return all(isinstance(row[name], Decimal | None) for row in rows for name in ("old", "new"))


def _what(row: Row) -> str:
    """A meter by its title, with the size of prompts it is for; a card's field by its name."""
    meter, _, above = row["what"].partition(" above ")
    title = TITLES[meter][0] if meter in TITLES else meter
    return f"{title} > {above}" if above else title


def _change(row: Row) -> str:
    ratio = row["ratio"]
    return row["change"] if ratio is None else f"{ratio * 100:+.1f}%"


def _notes(rows: Sequence[Row], current: Sequence[Period]) -> Iterator[str]:
    yield "Dollars for a million tokens; for searches, requests and hours of a machine each. `-`: no rate of its own."
    if any(row["above_input_tokens"] is not None for row in rows):
        yield "`>200k`: for all tokens of a call with more than 200,000 tokens of input."
    columns = [meter for meter in PRICED if any(_is_told(row, meter) for row in rows)]
    if any(meter in row["stand_ins"] for row in rows for meter in columns):
        yield "`~`: not known for sure, but charged: a call that uses it is an estimate."
    told = [(period, _origin(period)) for period in current if period.kind != "unpriced"]
    for origin in dict.fromkeys(origin for _, origin in told):
        named = dict.fromkeys(_condition(_row(period)) for period, each in told if each == origin)
        yield f"{'; '.join(named)}: {origin}"


def _origin(period: Period) -> str:
    """Who says so, when it was looked up, and what has to be known of it."""
    quote, source = period.quote, period.source
    card_id = source.card_id or ""
    if source.kind == "catalogue":
        # The card's name goes on with the model and the condition, which are told beside it.
        where = f"the catalogue {card_id.partition(':')[0]}"
    else:
        where = f"{'your card' if source.kind == 'card' else 'our correction'} {card_id}"
    page = f", {source.pages[0]}" if source.pages else ""
    checked = f", checked {source.checked:%Y-%m-%d}" if source.checked else ""
    sentences = [f"{where}{page}{checked}."]
    if quote.fx_id is not None:
        sentences.append(f"The card is in {quote.currency}, converted by the table {quote.fx_id}.")
    if quote.contract is not None:
        sentences.append(f"You pay {_plain(quote.contract)} of it by {card_id.rpartition(' + ')[2]}.")
    if _reasons(period):
        sentences.append(f"Costs from it are estimates: {', '.join(_reasons(period))}.")
    return " ".join(sentences)
