"""Our dated corrections to the catalogue, from `data/*.yaml`. An entry is never edited once published, only superseded.

The first entry that fits decides, so a newer one stands above the one it supersedes.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, time
from decimal import Decimal
from fnmatch import fnmatchcase
from functools import cache
from importlib.resources import files

from langchain_finops.errors import BadData, Fault
from langchain_finops.pricing.cards import Fields, read_stepped_rates, read_validity
from langchain_finops.pricing.engine import Rates
from langchain_finops.pricing.matching import Validity
from langchain_finops.usage import METERS

__all__ = ["Correction", "Overlay", "parse_corrections", "shipped_overlay"]

CONDITIONS = ("processing", "service_tier", "speed", "geography")
FIELDS = (
    "id",
    "provider",
    "model",
    "when",
    "from",
    "until",
    "hours",
    "weekdays",
    "rates",
    "steps",
    "factor",
    "as_of",
    "free",
    "uncertain",
    "source",
    "checked",
    "doubt",
    "steps_doubt",
)
EFFECTS = ("rates", "factor", "as_of", "free")
DOUBTS = ("rate_not_confirmed", "rate_inferred", "hour_not_known", "holidays_not_announced", "before_release")
"""Why a price that an entry gives is only an estimate: the reason code of every call that it prices."""
WEEKDAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")


@dataclass(frozen=True, slots=True, kw_only=True)
class Correction:
    """One entry: where the catalogue is wrong or silent, what is right, who says so, and when or why not surely."""

    id: str
    provider: str
    model: tuple[str, ...]
    """Names of models as answers give them, in lower case, or patterns of them, which have a `*`."""
    when: tuple[str, str] | None
    """The condition it is for, such as `("processing", "batch")`; None for the standard price."""
    validity: Validity
    rates: Rates | None
    """Rates that replace those of the same meters."""
    factor: Mapping[str, Decimal] | None
    """Multipliers of the standard rates by meter."""
    as_of: datetime | None
    """The condition's rates are those that the catalogue has from then on, if the standard rates were the same."""
    uncertain: tuple[str, ...]
    """Meters whose rate at that time is not known for certain: a call that used one is only estimated."""
    free: bool
    source: str
    checked: datetime | None
    """When the source was read and said so; None where there is a doubt instead."""
    doubt: str | None
    """Why the price is an estimate, one of DOUBTS; None where the source proves it."""
    steps_doubt: str | None = None
    """The same, of the rates for long prompts alone."""

    def is_for(self, model: str) -> bool:
        """True for a model of the provider that the entry is about, dates and conditions apart."""
        return model in self.model or any("*" in glob and fnmatchcase(model, glob) for glob in self.model)


class Overlay:
    """The corrections, in the order of their file. Immutable."""

    def __init__(self, corrections: tuple[Correction, ...]) -> None:
        self._corrections = corrections
        # By provider, so that the first price of one does not wait for the patterns of all.
        self._by_provider: dict[str, list[Correction]] = {}
        for entry in corrections:
            self._by_provider.setdefault(entry.provider, []).append(entry)

    def find(
        self, provider: str | None, model: str, at: datetime, when: tuple[str, str] | None = None
    ) -> Correction | None:
        """The correction in force for a model under a condition; None where the catalogue stands."""
        return next(self.all_in_force(provider, model, at, when), None)

    def all_in_force(
        self, provider: str | None, model: str, at: datetime, when: tuple[str, str] | None = None
    ) -> Iterator[Correction]:
        """Those in force, in order: where one follows rates of another time and leads nowhere, the next counts."""
        return (entry for entry in self._of(provider, model) if entry.when == when and entry.validity.holds(at))

    def edges(self, provider: str | None, model: str, at: datetime) -> Iterator[datetime]:
        """The moments near `at` from which another correction may count."""
        for entry in self._of(provider, model):
            yield from entry.validity.edges(at)

    def named(self, card_ids: Collection[str]) -> list[Correction]:
        """The entries that a rate card names, as `overlay:` and their id."""
        return [entry for entry in self._corrections if f"overlay:{entry.id}" in card_ids]

    def _of(self, provider: str | None, model: str) -> Iterator[Correction]:
        name = model.lower()
        return (entry for entry in self._by_provider.get(provider or "", ()) if entry.is_for(name))


@cache
def shipped_overlay() -> tuple[Overlay, str]:
    """The overlay in this package, and its text, which decides prices and so belongs into a book's hash."""
    import yaml

    # The C loader takes a sixth of the time of the other, and the first book waits for it.
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    corrections: list[Correction] = []
    texts = []
    for path in sorted(files("langchain_finops.pricing").joinpath("data").iterdir(), key=lambda path: path.name):
        if path.name.endswith(".yaml"):
            text = path.read_text(encoding="utf-8")
            texts.append(text)
            corrections += parse_corrections(yaml.load(text, Loader=loader), where=path.name)  # noqa: S506  Both are safe loaders.
    return Overlay(tuple(corrections)), "\n".join(texts)


def parse_corrections(data: object, *, where: str) -> tuple[Correction, ...]:
    """Corrections from a list as YAML gives it. Raises BadData that names every fault."""
    faults: list[Fault] = []
    entries = data if isinstance(data, list) else []
    if not isinstance(data, list):
        faults.append(Fault(where=where, what="has to be a list of corrections"))
    corrections = tuple(_correction(item, f"{where}: [{index}]", faults) for index, item in enumerate(entries))
    if faults:
        raise BadData(faults)
    return corrections


def _correction(data: object, where: str, faults: list[Fault]) -> Correction:
    fields = Fields(data, where, faults, FIELDS)
    for name in ("id", "provider", "model", "source"):
        if name not in fields:
            fields.fault(name, "is missing")
    effects = sum(name in fields for name in EFFECTS)
    if effects > 1 or not (effects or "uncertain" in fields or "doubt" in fields):
        fields.fault("rates", f"an entry has one of {', '.join(EFFECTS)}, or at least `uncertain` or `doubt`")
    uncertain = fields.texts("uncertain")
    for meter in uncertain:
        if meter not in METERS:
            fields.fault("uncertain", f"is {meter!r}; there are {', '.join(METERS)}")
    when = _when(fields, faults)
    if when is None and ("as_of" in fields or "factor" in fields):
        fields.fault("when", "is missing: `factor` and `as_of` say how a condition differs from the standard")
    plain = read_validity(fields)
    return Correction(
        id=fields.text("id") or where,
        provider=fields.text("provider") or "",
        model=tuple(glob.lower() for glob in fields.texts("model")),
        when=when,
        validity=Validity(starts=plain.starts, until=plain.until, hours=_hours(fields), weekdays=_weekdays(fields)),
        rates=read_stepped_rates(fields, faults) if "rates" in fields else None,
        factor=_factors(fields, faults) if "factor" in fields else None,
        as_of=fields.moment("as_of"),
        free=fields.flag("free"),
        uncertain=uncertain,
        source=fields.text("source") or "",
        checked=fields.moment("checked"),
        doubt=_doubt(fields),
        steps_doubt=_known_doubt(fields, "steps_doubt"),
    )


def _doubt(fields: Fields) -> str | None:
    """The entry's doubt. One that has none was checked, and one that has one does not pretend to be."""
    doubt = _known_doubt(fields, "doubt")
    if ("doubt" in fields) == ("checked" in fields):
        fields.fault("checked", "an entry has either `checked` or `doubt`")
    if doubt is not None and fields.flag("free"):
        fields.fault("doubt", "is of no use with `free`: a call that may cost something is not free")
    return doubt


def _known_doubt(fields: Fields, name: str) -> str | None:
    doubt = fields.text(name)
    if doubt is not None and doubt not in DOUBTS:
        fields.fault(name, f"is {doubt!r}; there are {', '.join(DOUBTS)}")
    return doubt


def _when(entry: Fields, faults: list[Fault]) -> tuple[str, str] | None:
    if "when" not in entry:
        return None
    fields = Fields(entry.get("when"), entry.path("when"), faults, CONDITIONS)
    named = [(name, value) for name in CONDITIONS if (value := fields.text(name)) is not None]
    if len(named) != 1:
        entry.fault("when", "names one condition")
        return None
    return named[0]


def _factors(entry: Fields, faults: list[Fault]) -> Mapping[str, Decimal]:
    fields = Fields(entry.get("factor"), entry.path("factor"), faults, METERS)
    return {meter: factor for meter in METERS if (factor := fields.amount(meter)) is not None}


def _hours(entry: Fields) -> tuple[tuple[time, time], ...]:
    windows = []
    for window in entry.texts("hours"):
        first, _, last = window.partition("-")
        try:
            windows.append((time.fromisoformat(first), time.fromisoformat(last)))
        except ValueError:
            entry.fault("hours", f"is {window!r}; it has to be a window such as 01:00-04:00")
    return tuple(windows)


def _weekdays(entry: Fields) -> frozenset[int]:
    names = entry.texts("weekdays")
    for name in names:
        if name not in WEEKDAYS:
            entry.fault("weekdays", f"is {name!r}; there are {', '.join(WEEKDAYS)}")
    return frozenset(WEEKDAYS.index(name) for name in names if name in WEEKDAYS) or frozenset(range(7))
