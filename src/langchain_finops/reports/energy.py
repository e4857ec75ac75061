"""What calls took of energy, warmed and drank, as ranges: EcoLogits' model over the ledger, when somebody asks.

Never one number, never mixed with money, and never part of a call's own path. The model knows output tokens and time,
not input tokens; what a provider really used it does not tell.
"""

import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from importlib import import_module
from importlib.metadata import version
from typing import Any

from langchain_finops.errors import BadArguments, MissingExtra
from langchain_finops.ledger.base import Ledger
from langchain_finops.ledger.grouping import check_by, value_of
from langchain_finops.ledger.summary import UNATTRIBUTED
from langchain_finops.ledger.totals import APART, DIMENSIONS
from langchain_finops.records import CallRecord
from langchain_finops.reports.render import Column, Row, Table
from langchain_finops.usage import Usage

__all__ = ["CallEnergy", "EnergyReport", "Range", "call_energy", "energy_report"]

SELLERS: Mapping[str, str] = {
    "openai": "openai",
    "azure": "openai",
    "anthropic": "anthropic",
    "google": "google_genai",
    "mistral": "mistralai",
    "cohere": "cohere",
}
"""Our names of providers, and EcoLogits'."""
MAKERS = (
    *(("claude", "anthropic"), ("gpt-", "openai"), ("gemini", "google_genai")),
    *(("mistral", "mistralai"), ("magistral", "mistralai"), ("ministral", "mistralai"), ("command-", "cohere")),
)
"""How models' names begin that others sell, too."""
BEDROCK = re.compile(r"(?:[a-z-]+\.)?(?:anthropic|mistral|cohere)\.(?P<model>.+?)(?:-v\d+(?::\d+)?)?")
NOT_SENT = ("cache", "replay")
"""Ways of billing a call that no model answered."""
MEASURES = {"energy": "kwh", "gwp": "kgco2eq", "water": "l"}
"""What is estimated, and its unit."""
SUMS = tuple(f"{name}_{unit}_{end}" for name, unit in MEASURES.items() for end in ("low", "high"))
PER_SUCCESS = tuple(f"{name}_{unit}_per_success_{end}" for name, unit in MEASURES.items() for end in ("low", "high"))
COUNTS = ("calls", "unknown", "not_sent", "successes")


@dataclass(frozen=True, slots=True)
class Range:
    """From the least to the most that the model holds possible."""

    low: float = 0.0
    high: float = 0.0

    def __add__(self, other: "Range") -> "Range":
        return Range(self.low + other.low, self.high + other.high)

    def over(self, count: int) -> "Range":
        """The same for each of so many."""
        return Range(self.low / count, self.high / count)


NOTHING = dict.fromkeys(MEASURES, Range())


@dataclass(frozen=True, slots=True, kw_only=True)
class CallEnergy:
    """Of one call: energy in kWh, greenhouse gases in kg CO2eq, water in litres; and why they may be too narrow."""

    ranges: Mapping[str, Range]
    """By the names of MEASURES."""
    warnings: tuple[str, ...] = ()


def call_energy(call: CallRecord, *, zone: str | None = None) -> CallEnergy | None:
    """The ranges of one call that a model answered; None for a model that EcoLogits does not know.

    `zone` is the ISO 3166 alpha-3 code of the electricity, such as FRA; without it that of the provider's data centres.
    Raises BadArguments for a zone that EcoLogits does not know, MissingExtra where it is not installed.
    """
    impacts_of = _ecologits(zone)
    seconds = max(0.0, (call.ended_at - call.started_at).total_seconds())
    for provider, model in _names(call):
        impacts = impacts_of(provider, model, call.usage.total_output_tokens, seconds, zone)
        if impacts.errors:
            continue
        measured = {"energy": impacts.energy, "gwp": impacts.gwp, "water": impacts.wcf}
        return CallEnergy(
            ranges={name: _range(impact) for name, impact in measured.items()},
            warnings=tuple(warning.message for warning in impacts.warnings or ()),
        )
    return None


# Any: EcoLogits is an extra, so that its types are not there for whoever checks this package.
def _ecologits(zone: str | None) -> Any:
    try:
        utils = import_module("ecologits.tracers.utils")
    except ImportError as error:
        raise MissingExtra("Energy", "carbon") from error
    # It warns of each model once a process, on stderr where nobody has set up logging: the report tells it instead.
    logger = logging.getLogger("ecologits")
    logger.addHandler(logging.NullHandler())
    if not hasattr(logger, "warning_once"):  # Somebody asked for it earlier, and it is not EcoLogits' own class.
        vars(logger)["warning_once"] = logger.debug
    if zone is not None and utils.electricity_mixes.find_electricity_mix(zone=zone) is None:
        raise BadArguments(f"no electricity of zone {zone!r} is known: write a country's three letters, such as FRA")
    return utils.llm_impacts


def _names(call: CallRecord) -> Iterator[tuple[str, str]]:
    """What EcoLogits may call the provider and the model, the likeliest first."""
    for name in dict.fromkeys((call.model, call.requested_model)):
        if name is None:
            continue
        seller = SELLERS.get(call.provider or "")
        if seller is not None:
            yield seller, name
        bedrock = BEDROCK.fullmatch(name)
        plain = bedrock["model"] if bedrock else name.rpartition("/")[2]
        yield from ((maker, plain) for start, maker in MAKERS if plain.startswith(start))
        yield "huggingface_hub", name


def _range(impact: Any) -> Range:
    value = impact.value
    return Range(float(getattr(value, "min", value)), float(getattr(value, "max", value)))


@dataclass(slots=True)
class Sums:
    """The ranges of a group's calls, and of those of its tasks' own."""

    calls: int = 0
    """That a model answered."""
    unknown: int = 0
    """Of these, calls of models that EcoLogits does not know."""
    not_sent: int = 0
    """Cache hits, replays and refused calls: no model worked for them."""
    ranges: dict[str, Range] = field(default_factory=lambda: dict(NOTHING))
    task_ranges: dict[str, Range] = field(default_factory=lambda: dict(NOTHING))

    def add(self, call: CallRecord, found: CallEnergy) -> None:
        """Count a call's ranges."""
        for name, each in found.ranges.items():
            self.ranges[name] += each
            if call.attribution.task_id is not None and call.attribution.role not in APART:
                self.task_ranges[name] += each


@dataclass(frozen=True, slots=True, kw_only=True)
class EnergyReport:
    """Ranges by key, and what to know of them."""

    by: tuple[str, ...]
    zone: str | None
    sums: Mapping[tuple[str | None, ...], Sums]
    successes: Mapping[tuple[str | None, ...], int]
    warnings: Mapping[str, int]
    """What EcoLogits warns of, and for how many calls."""

    def rows(self) -> list[dict[str, Any]]:
        """One for each key, the most energy first."""
        rows = [self._row(key, each) for key, each in self.sums.items()]
        return sorted(rows, key=lambda row: (-(row["energy_kwh_high"] or 0), *(str(row[name]) for name in self.by)))

    def _row(self, key: tuple[str | None, ...], sums: Sums) -> dict[str, Any]:
        successes = self.successes.get(key, 0)
        row: dict[str, Any] = dict(zip(self.by, key, strict=True))
        row |= {"calls": sums.calls, "unknown": sums.unknown, "not_sent": sums.not_sent, "successes": successes}
        for name, unit in MEASURES.items():
            # What is not known at all is not nothing.
            whole = sums.ranges[name] if sums.unknown < sums.calls or not sums.calls else None
            each = sums.task_ranges[name].over(successes) if successes and whole is not None else None
            for what, found in ((f"{name}_{unit}", whole), (f"{name}_{unit}_per_success", each)):
                row[f"{what}_low"] = None if found is None else found.low
                row[f"{what}_high"] = None if found is None else found.high
        return row

    def table(self, caption: str) -> Table:
        """Ready to render."""
        return Table(
            rows=self.rows(),
            fields=(*self.by, *COUNTS, *SUMS, *PER_SUCCESS),
            columns=tuple(self._columns()),
            caption=caption,
            notes=tuple(self._notes()),
        )

    def _columns(self) -> Iterator[Column]:
        for name in self.by:
            yield Column(title=name, text=lambda row, name=name: row[name] or UNATTRIBUTED, name=True)  # type: ignore[misc]  # mypy cannot infer the default
        yield Column(title="calls", text=lambda row: f"{row['calls']:,}", rank=1)
        if any(each.unknown for each in self.sums.values()):
            yield Column(title="unknown", text=lambda row: f"{row['unknown']:,}")
        yield Column(title="energy, Wh", text=lambda row: _shown(row, "energy_kwh"))
        yield Column(title="CO2eq, g", text=lambda row: _shown(row, "gwp_kgco2eq"))
        yield Column(title="water, ml", text=lambda row: _shown(row, "water_l"), rank=3)
        if any(self.successes.values()):
            yield Column(title="Wh/success", text=lambda row: _shown(row, "energy_kwh_per_success"), rank=2)

    def _notes(self) -> Iterator[str]:
        where = "the provider's data centres" if self.zone is None else self.zone
        yield (
            f"Ranges of EcoLogits {version('ecologits')} from output tokens and time, with the electricity of {where}. "
            "What providers really used they do not tell. Input tokens are not counted."
        )
        unknown = sum(each.unknown for each in self.sums.values())
        if unknown:
            yield f"{_calls(unknown)} of models that EcoLogits does not know: left out, the rest is a lower bound."
        not_sent = sum(each.not_sent for each in self.sums.values())
        if not_sent:
            yield f"{_calls(not_sent)} not sent to a model (cache hits, replays, refusals) took nothing."
        for warning, count in self.warnings.items():
            yield f"{_calls(count)}: {warning}"


def energy_report(
    ledger: Ledger,
    by: Sequence[str] = ("agent",),
    *,
    since: datetime | None = None,
    until: datetime | None = None,
    zone: str | None = None,
) -> EnergyReport:
    """The ranges of a period's calls by these dimensions, and for each success of their tasks.

    A success's share is what its group's calls for tasks took in the period, judges apart, over its successes.
    """
    names = check_by(by)
    _ecologits(zone)  # Before the ledger is read: what is missing is told at once.
    sums: dict[tuple[str | None, ...], Sums] = {}
    warnings: dict[str, int] = {}
    for call in ledger.calls(since=since, until=until):
        each = sums.setdefault(tuple(_value(call, name) for name in names), Sums())
        if call.billing_mode in NOT_SENT or call.usage == Usage(requests=0):
            each.not_sent += 1
            continue
        each.calls += 1
        found = call_energy(call, zone=zone)
        if found is None:
            each.unknown += 1
            continue
        each.add(call, found)
        for warning in found.warnings:
            warnings[warning] = warnings.get(warning, 0) + 1
    groups = ledger.totals(names, since=since, until=until)
    successes = {group.key: group.successes for group in groups}
    return EnergyReport(by=names, zone=zone, sums=sums, successes=successes, warnings=warnings)


def _value(call: CallRecord, name: str) -> str | None:
    if name == "day":
        return f"{call.started_at:%Y-%m-%d}"
    value = value_of(call, DIMENSIONS[name])
    return None if value is None else str(value)


def _shown(row: Row, name: str) -> str:
    """A range for a reader, a thousandth of the unit, two digits of each end; equal ends are still two."""
    low, high = row[f"{name}_low"], row[f"{name}_high"]
    if low is None or high is None:
        return "-"
    return f"{'>= ' if row['unknown'] else ''}{_digits(low * 1000)} - {_digits(high * 1000)}"


def _calls(count: int) -> str:
    return f"{count:,} call{'' if count == 1 else 's'}"


def _digits(value: float) -> str:
    if value >= 100:
        return f"{value:,.0f}"
    return f"{float(f'{value:.2g}'):.12f}".rstrip("0").rstrip(".")
