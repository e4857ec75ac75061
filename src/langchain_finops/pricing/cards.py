"""The user's price cards: what they may say, and every fault of a card file at once."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import TypeVar

from langchain_finops.errors import BadData, Fault
from langchain_finops.money import EXACT, usd
from langchain_finops.pricing.engine import Rate, Rates
from langchain_finops.pricing.matching import ALWAYS, EVERY_CALL, Match, Validity, midnight
from langchain_finops.pricing.providers import canonical_provider
from langchain_finops.usage import METERS, TOKEN_METERS

__all__ = ["Card", "SelfHosted", "parse_cards", "read_card_file"]

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class SelfHosted:
    """A machine of one's own: a call costs its share of the wall time it took."""

    usd_per_instance_hour: Decimal
    instances: Decimal = Decimal(1)
    concurrency: Decimal = Decimal(1)
    """Calls that share the machines at once."""

    @property
    def usd_per_second(self) -> Decimal:
        """What one call pays for each second, to 60 digits."""
        return EXACT.divide(EXACT.multiply(self.usd_per_instance_hour, self.instances), self.concurrency * 3600)

    def usd(self, seconds: Decimal) -> Decimal:
        """What a call of that length costs, to 60 digits. Divides last, so that whole amounts stay whole."""
        machines = EXACT.multiply(self.usd_per_instance_hour, self.instances)
        return EXACT.divide(EXACT.multiply(machines, seconds), EXACT.multiply(self.concurrency, Decimal(3600)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """One price that the user states. Exactly one of `rates`, `factor`, `self_hosted`, `free` and `tool` is given."""

    id: str
    match: Match = EVERY_CALL
    validity: Validity = ALWAYS
    rates: Rates | None = None
    factor: Decimal | None = None
    """Contracted cost as a part of the list cost; the list stays."""
    self_hosted: SelfHosted | None = None
    free: bool = False
    tool: str | None = None
    """Glob of the names of tools that cost `usd_per_call`."""
    usd_per_call: Decimal | None = None
    source: str | None = None


CARD_FIELDS = (
    "id",
    "match",
    "rates",
    "factor",
    "self_hosted",
    "free",
    "tool",
    "usd_per_call",
    "from",
    "until",
    "source",
)
KINDS = ("rates", "factor", "self_hosted", "free", "tool")
MATCH_FIELDS = ("provider", "model", "base_url_host", "tags")
SELF_HOSTED_FIELDS = ("usd_per_instance_hour", "instances", "concurrency")


def parse_cards(data: object, *, where: str) -> tuple[Card, ...]:
    """Cards from a list as YAML gives it. Raises BadData that names every fault in it, with `where` before each."""
    faults: list[Fault] = []
    cards = _cards(data, where, faults)
    if faults:
        raise BadData(faults)
    return cards


def read_card_file(path: Path, faults: list[Fault]) -> tuple[tuple[Card, ...], dict[str, str]]:
    """Cards and aliases of a YAML file. What is wrong with it is added to `faults`."""
    import yaml

    where = str(path)
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        faults.append(Fault(where=where, what=f"cannot be read: {error.strerror or type(error).__name__}"))
        return (), {}
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark is not None else ""
        faults.append(Fault(where=f"{where}{line}", what="is not YAML in UTF-8"))
        return (), {}
    fields = Fields(data if data is not None else {}, where, faults, ("cards", "aliases"))
    cards = _cards(fields.get("cards") or [], f"{where}: cards", faults)
    aliases = fields.mapping("aliases")
    for name, model in aliases.items():
        if not isinstance(name, str) or not isinstance(model, str) or not model:
            fields.fault(f"aliases.{name}", "an alias is a name and a model, both text")
    return cards, {str(name): str(model) for name, model in aliases.items()}


class Fields:
    """A mapping from a file, read field by field; what is wrong is noted and reading goes on."""

    def __init__(self, data: object, where: str, faults: list[Fault], known: Sequence[str]) -> None:
        self._data: Mapping[object, object] = data if isinstance(data, Mapping) else {}
        self._where, self._faults = where, faults
        if not isinstance(data, Mapping):
            faults.append(Fault(where=where, what=f"is {_kind(data)}; it has to be a mapping of {', '.join(known)}"))
        for name in self._data:
            if name not in known:
                self.fault(str(name), f"is no field of it; there are {', '.join(known)}")

    def fault(self, name: str, what: str) -> None:
        """Note that a field is wrong."""
        separator = "." if ": " in self._where else ": "
        self._faults.append(Fault(where=f"{self._where}{separator}{name}", what=what))

    def __contains__(self, name: str) -> bool:
        return name in self._data

    def get(self, name: str) -> object:
        """The field as it came; None where it is missing."""
        return self._data.get(name)

    def path(self, name: str) -> str:
        """Where the field stands, for what is read within it."""
        separator = "." if ": " in self._where else ": "
        return f"{self._where}{separator}{name}"

    def mapping(self, name: str) -> Mapping[object, object]:
        """A mapping, or an empty one."""
        value = self._data.get(name)
        if value is None or isinstance(value, Mapping):
            return value or {}
        self.fault(name, f"is {_kind(value)}; it has to be a mapping")
        return {}

    def text(self, name: str) -> str | None:
        """Text that is not empty, or None."""
        return self._checked(name, _text)

    def amount(self, name: str, *, positive: bool = False) -> Decimal | None:
        """An amount of 0 or more, or None."""
        return self._checked(name, _positive if positive else _amount)

    def moment(self, name: str) -> datetime | None:
        """A moment in UTC, or None; a date is its first moment."""
        return self._checked(name, _moment)

    def flag(self, name: str) -> bool:
        """True or False; False where it is missing."""
        return bool(self._checked(name, _true))

    def texts(self, name: str) -> tuple[str, ...]:
        """One text or a list of them, or none."""
        value = self._data.get(name)
        values = value if isinstance(value, list) else [] if value is None else [value]
        return tuple(text for item in values if (text := self._read(name, item, _text)) is not None)

    def _checked(self, name: str, read: Callable[[object], T]) -> T | None:
        value = self._data.get(name)
        return None if value is None else self._read(name, value, read)

    def _read(self, name: str, value: object, read: Callable[[object], T]) -> T | None:
        try:
            return read(value)
        except ValueError as error:
            self.fault(name, str(error))
            return None


def _cards(data: object, where: str, faults: list[Fault]) -> tuple[Card, ...]:
    if not isinstance(data, list):
        faults.append(Fault(where=where, what=f"is {_kind(data)}; it has to be a list of cards"))
        return ()
    cards = [_card(item, f"{where}[{index}]", faults) for index, item in enumerate(data)]
    seen: set[str] = set()
    for index, card in enumerate(cards):
        if card.id in seen:
            faults.append(Fault(where=f"{where}[{index}].id", what=f"{card.id!r} is the id of an earlier card, too"))
        seen.add(card.id)
    return tuple(cards)


def _card(data: object, where: str, faults: list[Fault]) -> Card:
    fields = Fields(data, where, faults, CARD_FIELDS)
    kinds = [kind for kind in KINDS if kind in fields]
    if isinstance(data, Mapping) and len(kinds) != 1:
        found = ", ".join(kinds) or "none"
        fields.fault("rates", f"a card has exactly one of {', '.join(KINDS)}; this one has {found}")
    card_id = fields.text("id")
    if card_id is None and isinstance(data, Mapping) and fields.get("id") is None:
        fields.fault("id", "is missing; reports name a card by it")
    if ("tool" in fields) != ("usd_per_call" in fields):
        fields.fault("usd_per_call", "a tool card has `tool` and `usd_per_call`, both of them")
    if fields.get("free") is False:
        fields.fault("free", "is false; leave it out, and give a price")
    return Card(
        id=card_id or where,
        match=_match(fields, faults),
        validity=read_validity(fields),
        rates=read_rates(fields, "rates", faults) if "rates" in fields else None,
        factor=fields.amount("factor"),
        self_hosted=_self_hosted(fields, faults) if "self_hosted" in fields else None,
        free=fields.flag("free"),
        tool=fields.text("tool"),
        usd_per_call=fields.amount("usd_per_call"),
        source=fields.text("source"),
    )


def _match(card: Fields, faults: list[Fault]) -> Match:
    if card.get("match") is None:
        return EVERY_CALL
    fields = Fields(card.get("match"), card.path("match"), faults, MATCH_FIELDS)
    provider = fields.text("provider")
    tags = fields.mapping("tags")
    for name, value in tags.items():
        if not isinstance(value, str):
            fields.fault(f"tags.{name}", "has to be text")
    return Match(
        provider=None if provider is None else canonical_provider(provider),
        model=fields.texts("model"),
        base_url_host=fields.text("base_url_host"),
        tags={str(name): str(value) for name, value in tags.items()},
    )


def read_validity(fields: Fields) -> Validity:
    """The dates between which a price counts."""
    starts, until = fields.moment("from"), fields.moment("until")
    if starts is not None and until is not None and until <= starts:
        fields.fault("until", f"is {until}, which is not after {starts}: the price would never count")
    return Validity(starts=starts, until=until)


def read_rates(card: Fields, name: str, faults: list[Fault]) -> Rates:
    """Rates by meter: dollars a million for tokens, dollars each for searches and requests."""
    fields = Fields(card.get(name), card.path(name), faults, METERS)
    rates: dict[str, Rate] = {}
    for meter in METERS:
        price = fields.amount(meter)
        if price is not None:
            rates[meter] = Rate(usd=EXACT.scaleb(price, -6) if meter in TOKEN_METERS else price)
    if card.get(name) == {}:
        card.fault(name, "has no rate; for a call that costs nothing say `free: true`")
    return rates


def _self_hosted(card: Fields, faults: list[Fault]) -> SelfHosted:
    fields = Fields(card.get("self_hosted"), card.path("self_hosted"), faults, SELF_HOSTED_FIELDS)
    price = fields.amount("usd_per_instance_hour")
    if "usd_per_instance_hour" not in fields:
        fields.fault("usd_per_instance_hour", "is missing")
    return SelfHosted(
        usd_per_instance_hour=price if price is not None else Decimal(0),
        instances=fields.amount("instances", positive=True) or Decimal(1),
        concurrency=fields.amount("concurrency", positive=True) or Decimal(1),
    )


def _kind(value: object) -> str:
    return "empty" if value is None else f"a {type(value).__name__}"


def _text(value: object) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"is {value!r}; it has to be text")
    return value


def _amount(value: object) -> Decimal:
    # What is no number or text becomes a text that is no amount, so that one message serves all.
    amount = usd(value if isinstance(value, int | float | str | Decimal) else repr(value))
    if amount < 0:
        raise ValueError(f"is {value}; it has to be 0 or more")
    return amount


def _positive(value: object) -> Decimal:
    amount = _amount(value)
    if not amount:
        raise ValueError("is 0; it has to be more")
    return amount


def _moment(value: object) -> datetime:
    moment = value
    if isinstance(value, str):
        try:
            moment = datetime.fromisoformat(value) if "T" in value else date.fromisoformat(value)
        except ValueError:
            moment = None
    if isinstance(moment, datetime):
        if moment.utcoffset() is None:
            raise ValueError(f"is {value}, without a time zone; write it such as 2026-01-31T16:00:00Z")
        return moment.astimezone(UTC)
    if isinstance(moment, date):
        return midnight(moment)
    raise ValueError(f"is {value!r}; it has to be a date such as 2026-01-31")


def _true(value: object) -> bool:
    if value is True or value is False:
        return value
    raise ValueError(f"is {value!r}; it has to be true")
