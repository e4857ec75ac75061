"""How the YAML files of prices are read: field by field, so that every fault is told at once, with its place."""

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, Final, TypeVar

from langchain_finops.errors import Fault
from langchain_finops.money import usd
from langchain_finops.pricing.matching import Validity, midnight

__all__ = ["Fields", "kind_of", "read_amount", "read_moment", "read_validity", "read_yaml"]

T = TypeVar("T")

MOST_DECIMALS = 30
"""More than any price has that a person wrote."""


def read_yaml(path: Path, faults: list[Fault]) -> object:
    """What a YAML file holds; an empty mapping where it is empty or cannot be read, which is added to `faults`."""
    import yaml

    class Loader(yaml.SafeLoader):
        """Refuses a key that is given twice: YAML takes the last one, and a price would be lost without a word."""

        def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
            seen: set[tuple[str, str]] = set()
            for key, _ in node.value:
                # A day is the same key whether it is quoted or not.
                name = (key.tag.replace("timestamp", "str"), str(key.value))
                if name in seen:
                    place = f"{path}:{key.start_mark.line + 1}"
                    faults.append(Fault(where=place, what=f"{key.value!r} is given twice; keep one of them"))
                seen.add(name)
            return super().construct_mapping(node, deep=deep)

    # YAML would give up the whole file for a day that is in no calendar; as text it is one fault among the others.
    Loader.add_constructor("tag:yaml.org,2002:timestamp", lambda _, node: node.value)
    try:
        data = yaml.load(path.read_text(encoding="utf-8-sig"), Loader=Loader)  # noqa: S506  It is a safe loader.
    except OSError as error:
        why = error.strerror or type(error).__name__
        faults.append(Fault(where=str(path), what=f"cannot be read: {why}; check the path"))
    except (yaml.YAMLError, UnicodeDecodeError, ValueError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark is not None else ""
        problem = getattr(error, "problem", None) or getattr(error, "reason", None)
        why = f": {problem}" if problem else ""
        faults.append(Fault(where=f"{path}{line}", what=f"is not YAML in UTF-8{why}"))
    else:
        return {} if data is None else data
    return {}


class Fields:
    """A mapping from a file, read field by field; what is wrong is noted and reading goes on."""

    def __init__(self, data: object, where: str, faults: list[Fault], known: Sequence[str]) -> None:
        self._data: Mapping[object, object] = data if isinstance(data, Mapping) else {}
        self._where, self._faults = where, faults
        if not isinstance(data, Mapping):
            faults.append(Fault(where=where, what=f"is {kind_of(data)}; it has to be a mapping of {', '.join(known)}"))
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
        self.fault(name, f"is {kind_of(value)}; it has to be a mapping")
        return {}

    def text(self, name: str) -> str | None:
        """Text that is not empty, or None."""
        return self._checked(name, _text)

    def amount(self, name: str, *, positive: bool = False) -> Decimal | None:
        """An amount of 0 or more, or None."""
        return self._checked(name, _positive if positive else read_amount)

    def moment(self, name: str) -> datetime | None:
        """A moment in UTC, or None; a date is its first moment."""
        return self._checked(name, read_moment)

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


def read_validity(fields: Fields) -> Validity:
    """The dates between which a price counts."""
    starts, until = fields.moment("from"), fields.moment("until")
    if starts is not None and until is not None and until <= starts:
        fields.fault("until", f"is {until}, which is not after {starts}: the price would never count")
    return Validity(starts=starts, until=until)


def kind_of(value: object) -> str:
    """What a file has where something else should be, in the words of YAML, not of Python."""
    if value is None:
        return "empty"
    return _KINDS.get(type(value), f"a {type(value).__name__}")


_KINDS: Final = {dict: "a mapping", list: "a list", str: "text", int: "a number", float: "a number"}


def _text(value: object) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"is {value!r}; it has to be text")
    return value


def read_amount(value: object) -> Decimal:
    """An amount of 0 or more; raises ValueError for anything else."""
    # What is no number or text becomes a text that is no amount, so that one message serves all.
    amount = usd(value if isinstance(value, int | float | str | Decimal) else repr(value))
    if amount < 0:
        raise ValueError(f"is {value}; it has to be 0 or more")
    # Without it `1e-999999999` would fill the memory when it becomes an integer.
    if amount.as_tuple().exponent < -MOST_DECIMALS:  # type: ignore[operator]  # usd() lets finite amounts through only.
        raise ValueError(f"is {value}; it has more than {MOST_DECIMALS} decimals")
    return amount


def _positive(value: object) -> Decimal:
    amount = read_amount(value)
    if not amount:
        raise ValueError("is 0; it has to be more")
    return amount


def read_moment(value: object) -> datetime:
    """A moment in UTC; a date is its first moment. Raises ValueError for anything else."""
    moment = value
    if isinstance(value, str):
        try:
            is_time = "T" in value or " " in value
            moment = datetime.fromisoformat(value) if is_time else date.fromisoformat(value)
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
