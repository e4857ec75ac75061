"""What the finders of `advise` look at, and what they return: a finding with the calls that it would make cheaper."""

import shlex
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any, Final, Literal

from langchain_finops.ledger.base import Ledger
from langchain_finops.ledger.columns import Columns, Series
from langchain_finops.reports.advise_prices import Prices, Units
from langchain_finops.reports.prefix_audit import Group

__all__ = [
    "PAID_MODES",
    "Claims",
    "Confidence",
    "Finding",
    "Look",
    "Place",
    "as_paid",
    "by_model",
    "command",
    "key_of",
    "longest_input",
    "sequences",
    "tokens_of",
    "when",
]

Confidence = Literal["high", "medium", "low"]
PAID_MODES: Final = frozenset({None, "payg", "committed", "credit", "replay"})
"""Ways of billing under which fewer or cheaper tokens cost less. An own machine costs the same whatever it does."""
Place = tuple[Series, int]


class Claims:
    """What a finding would save, call by call."""

    def __init__(self) -> None:
        self._of: dict[Series, tuple[array[int], array[int]]] = {}

    def add(self, series: Series, place: int, pico: int) -> None:
        """Claim a part of what a call cost: 0 where that is unknown, never more than the call."""
        places, amounts = self._of.setdefault(series, (array("q"), array("q")))
        places.append(place)
        amounts.append(max(0, min(pico, series.pico[place])))

    def scale(self, most: int) -> None:
        """Bring all claims down in proportion, so that they come to no more than `most`."""
        whole, most = self.pico, max(most, 0)
        if whole > most:
            for _, amounts in self._of.values():
                amounts[:] = array("q", [amount * most // whole for amount in amounts])

    def items(self) -> "Iterator[tuple[Series, array[int], array[int]]]":
        """Series, places in it, and what is claimed of each."""
        for series, (places, amounts) in self._of.items():
            yield series, places, amounts

    @property
    def pico(self) -> int:
        """All of it."""
        return sum(sum(amounts) for _, amounts in self._of.values())

    @property
    def whole(self) -> int:
        """What the calls and charges have cost that are claimed of."""
        return sum(series.pico[place] for series, (places, _) in self._of.items() for place in places)

    @property
    def calls(self) -> int:
        """How many calls are claimed of."""
        return sum(len(places) for series, (places, _) in self._of.items() if series.sort.is_call)

    @property
    def unpriced(self) -> int:
        """Those of the calls and charges whose price is unknown: the saving is then a lower bound."""
        return sum(len(places) for series, (places, _) in self._of.items() if series.sort.unpriced)

    @property
    def has_known(self) -> bool:
        """Whether anything that is claimed of has a price."""
        return any(len(places) and not series.sort.unpriced for series, (places, _) in self._of.items())


@dataclass(slots=True, kw_only=True)
class Finding:
    """One way to spend less."""

    kind: str
    agent: str | None = None
    node: str | None = None
    provider: str | None = None
    model: str | None = None
    claims: Claims
    confidence: Confidence
    rests_on: str
    evidence: list[dict[str, Any]]
    see: str
    lever: str
    risk: str
    is_most: bool = False
    """Whether the saving is the most that can be saved, rather than what would be."""
    is_unknown: bool = False
    """Whether nobody knows the saving, for want of a price to compare with."""
    change: Mapping[str, object] = field(default_factory=dict)
    """What the lever sets, by the names that `advise.CHANGES` has for the kind: another model, a number of calls."""


@dataclass(slots=True, kw_only=True)
class Look:
    """All calls and charges of a period, and what one asks of them."""

    ledger: Ledger
    columns: Columns
    prices: Prices
    protected: frozenset[str]
    unattended: frozenset[str] = frozenset()
    """Agents that nobody waits for, by the word of the user."""
    audited: Mapping[tuple[str | None, ...], Group] = field(default_factory=dict)
    """By agent, node, provider and model, what the digests of prompts tell; nothing where no call has any."""

    @property
    def verdicts(self) -> Mapping[str, bool | None]:
        """What became of tasks, by id."""
        return self.columns.verdicts

    def is_protected(self, series: Series) -> bool:
        """Whether the node, or one that it lies in, must not be touched."""
        return series.sort.node is not None and not self.protected.isdisjoint(series.sort.node.split("/"))

    def units(
        self,
        group: Sequence[Series],
        *,
        sold: Sequence[Series] = (),
        model: str | None = None,
        tier: str | None = None,
        batch: bool = False,
        needs_cache: bool = False,
    ) -> Units | None:
        """The rates at which calls of one model are sold, or those of `sold` or of another model at the same place,
        for prompts as long as theirs; None where they are not known, or differ from place to place."""
        longest = longest_input(group)
        found = {
            self.prices.units(
                provider, model or own, longest=longest, host=host, tier=tier, batch=batch, needs_cache=needs_cache
            )
            for provider, own, host in {(s.sort.provider, s.sort.model, s.sort.host) for s in sold or group}
        }
        return found.pop() if len(found) == 1 else None

    def groups(
        self, key: Callable[[Series], tuple[str | None, ...]], *, roles: Iterable[str] = ("agent",)
    ) -> dict[tuple[str | None, ...], list[Series]]:
        """The series of paid calls, by a key; those of protected nodes are left out."""
        wanted, found = frozenset(roles), dict[tuple[str | None, ...], list[Series]]()
        for series in self.columns.series:
            sort = series.sort
            is_paid = sort.is_call and sort.role in wanted and sort.mode in PAID_MODES
            if is_paid and series.at and not self.is_protected(series):
                found.setdefault(key(series), []).append(series)
        return found


def sequences(group: Iterable[Series]) -> Iterator[list[Place]]:
    """The calls of each run, in the order in which they began."""
    listed = list(group)
    places = sorted(
        (run, at, number, place)
        for number, series in enumerate(listed)
        for place, (run, at) in enumerate(zip(series.run, series.at, strict=True))
        if run >= 0
    )
    for _, those in groupby(places, key=lambda each: each[0]):
        yield [(listed[number], place) for _, _, number, place in those]


def key_of(series: Series) -> tuple[str | None, ...]:
    """Agent, node, provider and model."""
    sort = series.sort
    return sort.agent, sort.node, sort.provider, sort.model


def by_model(key: tuple[str | None, ...]) -> dict[str, Any]:
    """The same as a finding has them."""
    return dict(zip(("agent", "node", "provider", "model"), key, strict=True))


def tokens_of(place: Place) -> int:
    """Input tokens of a call."""
    series, at = place
    return series.fresh[at] + series.read[at] + series.written[at]


def when(place: Place) -> int:
    """When a call began, in microseconds."""
    return place[0].at[place[1]]


def longest_input(group: Iterable[Series]) -> int:
    """The most input tokens of a call."""
    return max(
        (max(map(sum, zip(series.fresh, series.read, series.written, strict=True)), default=0) for series in group),
        default=0,
    )


def as_paid(units: Units, place: Place, saved: int) -> int:
    """A saving at list prices, less where the call was cheaper than these: by a slower tier, or at an older price."""
    series, at = place
    listed, paid = units.cost(series, at), series.pico[at]
    return saved if paid >= listed else saved * paid // listed


def command(*words: str) -> str:
    """A command line as a shell takes it."""
    return shlex.join(["finops", *words])
