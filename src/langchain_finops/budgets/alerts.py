"""Alerts on how fast a budget is used up: what sets them off, and who is told, once for each window and threshold.

Spend is counted on the ledger when calls settle; looking at it, and telling somebody, is another thread's work.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from functools import partial
from typing import Any, Final, NamedTuple
from uuid import uuid4

from langchain_finops.budgets import checks
from langchain_finops.budgets.background import Background
from langchain_finops.budgets.burn import BUCKETS, BurnRate, Rolling, burn_rates, forecast
from langchain_finops.budgets.checks import Number
from langchain_finops.budgets.keys import applies, balance_keys, is_local, parse_key
from langchain_finops.budgets.notify import Alert, AlertKind, Notifier, Target, fields
from langchain_finops.budgets.policy import Budget, Limit
from langchain_finops.budgets.switch import change_event
from langchain_finops.budgets.units import Unit, in_units, say
from langchain_finops.budgets.windows import length_s, per_of, window
from langchain_finops.errors import BadArguments
from langchain_finops.ledger.base import Ledger
from langchain_finops.ledger.summary import printable
from langchain_finops.money import PICO_PER_USD, usd
from langchain_finops.records import Attribution

__all__ = ["AlertBook", "BurnRateAlert", "Passed", "Watched", "passed"]

LOOK_S: Final = 1.0
"""One balance is looked at no oftener, however many calls there are."""


@dataclass(frozen=True, slots=True, init=False)
class BurnRateAlert:
    """Tells somebody that a budget is used up too fast; stops nothing.

    `share` of the limit spent `within` any stretch of that length; `actual` and `forecast`: shares of the limit spent,
    or to be spent by the window's end at its pace; `burn_rates`: the pace of two windows each, fast and slow (what is
    watched where nothing else is said). docs/alerts.md explains each. Whatever is wrong with the arguments is told at
    once, by BadArguments.
    """

    of: Budget
    share: Decimal | None
    within: str | None
    actual: tuple[Decimal, ...]
    forecast: tuple[Decimal, ...]
    burn_rates: bool
    notify: tuple[Target, ...]
    name: str | None

    def __init__(
        self,
        *,
        of: Budget | str,
        share: Number | None = None,
        within: str | None = None,
        actual: Iterable[Number] | Number = (),
        forecast: Iterable[Number] | Number = (),
        burn_rates: bool | None = None,
        notify: Iterable[Target] | Target = (),
        name: str | None = None,
    ) -> None:
        given = {
            "of": of,
            "share": share,
            "within": within,
            "actual": actual,
            "forecast": forecast,
            "burn_rates": burn_rates,
            "notify": notify,
            "name": name,
        }
        faults = checks.settle(self, _RULES, given)
        if not faults:
            others = self.share is not None or bool(self.actual or self.forecast)
            object.__setattr__(self, "burn_rates", burn_rates if burn_rates is not None else not others)
            faults = list(self._faults())
        checks.refuse("BurnRateAlert", faults)

    def _faults(self) -> Iterator[str]:
        """What does not go together."""
        if (self.share is None) != (self.within is None):
            yield "share and within: give both, such as share=0.25, within='1h', or neither"
        if is_local(self.of):
            yield f"of: {self.of} is one run's own; warn_at and on_exceed say what becomes of it. Give it a window"
        if self.of.per is None and (self.forecast or self.burn_rates):
            yield f"of: {self.of} has no window, so no pace is too fast for it; give it one, such as per='day'"
        if self.of.steps is not None:
            yield "of: steps are counted on the ledger when a run ends, too late for an alert; watch llm_calls"
        if self.burn_rates and self.of.per is not None and not burn_rates(length_s(self.of.per)):
            yield f"burn_rates: {self.of.per} is too short for them; use share and within"
        if not (self.share is not None or self.actual or self.forecast or self.burn_rates):
            yield "nothing sets it off: give share and within, actual, forecast or burn_rates"

    @property
    def label(self) -> str:
        """What logs and events call it: its name, else what sets it off. Alerts of one label are told of once."""
        return self.name or f"{', '.join(self._conditions())} of {self.of.label}"

    def _conditions(self) -> Iterator[str]:
        if self.share is not None and self.within is not None:
            yield f"{_percent(Fraction(self.share))} within {_length(length_s(self.within))}"
        yield from (_percent(Fraction(share)) for share in self.actual)
        yield from (f"a forecast of {_percent(Fraction(share))}" for share in self.forecast)
        if self.burn_rates:
            yield "burn rates"

    def rollings(self) -> tuple[Rolling, ...]:
        """The rolling windows that have to be counted."""
        windows = [] if self.within is None else [_rolling(length_s(self.within))]
        windows += (rolling for rate in self.rates() for rolling in (rate.long, rate.short))
        return tuple(dict.fromkeys(windows))

    def rates(self) -> tuple[BurnRate, ...]:
        """The burn rates that set it off."""
        return burn_rates(length_s(self.of.per)) if self.burn_rates and self.of.per is not None else ()


def _rolling(seconds: int) -> Rolling:
    return Rolling(seconds, max(-(-seconds // BUCKETS), 1))


def _of(value: object) -> Budget:
    if isinstance(value, Budget):
        return value
    if isinstance(value, str):
        try:
            return Budget.parse(value)
        except BadArguments as error:
            raise ValueError(str(error)) from error
    raise ValueError(f"must be a Budget, or the text of one such as $20/day per agent_id, not {value!r}")


LARGEST_SHARE: Final = 10
"""No limit is warned of at ten times itself."""


def _share(value: Any) -> Decimal:
    number = usd(value)
    if number <= 0:
        raise ValueError(f"must be more than 0, such as 0.25 for a quarter of the limit, not {value}")
    if number > LARGEST_SHARE:  # A percentage: the alert would never be told.
        raise ValueError(f"is a share of the limit, not per cent: write {number / 100:f}, not {value}")
    return number


def _shares(value: Any) -> tuple[Decimal, ...]:
    values = (value,) if isinstance(value, str | int | float | Decimal) else tuple(value)
    return tuple(sorted({_share(each) for each in values}))


def _per(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"must be a length such as 1h or 30m, not {value!r}")  # noqa: TRY004 - told with the others.
    return per_of(value)


def _targets(value: Any) -> tuple[Target, ...]:
    targets = (value,) if callable(value) else tuple(value)
    for target in targets:
        if not callable(target):
            what = "functions that take an Alert, Webhooks or AppriseNotices"
            raise ValueError(f"must be {what}, not {target!r}")  # noqa: TRY004 - told with the other faults.
    return targets


_RULES: Final[Mapping[str, Callable[[Any], object]]] = {
    "of": _of,
    "share": lambda value: None if value is None else _share(value),
    "within": lambda value: None if value is None else _per(value),
    "actual": _shares,
    "forecast": _shares,
    "burn_rates": lambda value: None if value is None else checks.flag(value),
    "notify": _targets,
    "name": checks.name,
}


class Watched(NamedTuple):
    """One limit that an alert watches, for those whom a call is for."""

    alert: BurnRateAlert
    label: str
    limit: Limit
    keys: tuple[str, ...]
    """Balances that what the call spent is to be added to: the limit's own, then the buckets of rolling windows."""
    base: str
    """What the buckets' keys are made from."""
    at: datetime


class _Plan(NamedTuple):
    """An alert, and what would be worked out again for every call."""

    alert: BurnRateAlert
    label: str
    limits: tuple[Limit, ...]
    buckets: tuple[Rolling, ...]
    """One for each length of bucket."""

    @classmethod
    def of(cls, alert: BurnRateAlert) -> "_Plan":
        """The same, worked out."""
        buckets = {rolling.bucket_s: rolling for rolling in alert.rollings()}
        return cls(alert, alert.label, alert.of.limits(), tuple(buckets.values()))

    def watch(self, limit: Limit, key: str, at: datetime, now: datetime) -> Watched:
        """What is to be counted for one balance."""
        # The buckets of a rolling window go on where the budget's own window ends.
        base = " ".join(part for part in key.split(" ") if not part.startswith("@"))
        buckets = [rolling.key(base, now) for rolling in self.buckets]
        return Watched(self.alert, self.label, limit, (key, *buckets), base, at)


def _whose(key: str) -> str:
    """Whose balance it is, as a person reads it."""
    said = parse_key(key)
    if said.run_id is not None:
        return f"run={said.run_id}"
    if said.scope == "all":
        return "all"
    return f"{said.scope}={printable(said.value)}" if said.value is not None else f"{said.scope} not named"


class Passed(NamedTuple):
    """A threshold that was passed."""

    kind: AlertKind
    threshold: Decimal
    value: Fraction
    """What it came to, as the threshold is counted."""
    spent: int
    start: datetime
    end: datetime
    once_s: int
    """Length of the stretch in which it is told once; 0: once for this window of the budget."""
    told: str
    """What happened, for the sentence."""


def passed(watched: Watched, amounts: Mapping[str, int], at: datetime) -> Iterator[Passed]:
    """Thresholds that what stands in the balances is at or over. Pure."""
    alert, limit = watched.alert, watched.limit
    spent = amounts.get(watched.keys[0], 0)
    start, end = watched.at, watched.at
    if alert.of.per is not None:
        start, end = window(alert.of.per, watched.at, alert.of.time_zone)
    yield from _of_window(watched, spent, (start, end), at)
    if alert.share is not None and alert.within is not None:
        rolling = _rolling(length_s(alert.within))
        recent = rolling.spent(watched.base, at, amounts)
        value = Fraction(recent, limit.amount)
        if value >= Fraction(alert.share):
            told = f"{_said(limit.unit, recent)} within {_length(rolling.window_s)}, {_percent(value)} of it"
            yield Passed("share", alert.share, value, recent, *_stretch(rolling, at), rolling.window_s, told)
    for rate in alert.rates():
        yield from _of_rate(watched, rate, amounts, at)


def _of_window(watched: Watched, spent: int, period: tuple[datetime, datetime], at: datetime) -> Iterator[Passed]:
    """Thresholds on the budget's own window."""
    alert, limit = watched.alert, watched.limit
    value = Fraction(spent, limit.amount)
    for threshold in alert.actual:
        if value >= Fraction(threshold):
            told = f"{_said(limit.unit, spent)} is spent, {_percent(value)} of it"
            yield Passed("actual", threshold, value, spent, *period, 0, told)
    if not alert.forecast:
        return
    ahead = forecast(spent, *period, at)
    value = Fraction(ahead, limit.amount)
    for threshold in alert.forecast:
        if value >= Fraction(threshold):
            by = f"{period[1]:%Y-%m-%d %H:%M} UTC"
            told = f"{_said(limit.unit, ahead)} by {by} if its pace stays, {_percent(value)} of it"
            yield Passed("forecast", threshold, value, spent, *period, 0, told)


def _of_rate(watched: Watched, rate: BurnRate, amounts: Mapping[str, int], at: datetime) -> Iterator[Passed]:
    """Both windows have to be at or over the rate."""
    period_s = length_s(watched.alert.of.per or "day")
    spent = [rolling.spent(watched.base, at, amounts) for rolling in (rate.long, rate.short)]
    paces = [
        Fraction(amount * period_s, watched.limit.amount * rolling.window_s)
        for amount, rolling in zip(spent, (rate.long, rate.short), strict=True)
    ]
    if min(paces) >= rate.multiple:
        lengths = f"{_length(rate.long.window_s)} and {_length(rate.short.window_s)}"
        told = f"used up {_times(paces[0])} times as fast as it is to last, over {lengths}"
        multiple = Decimal(rate.multiple.numerator) / rate.multiple.denominator
        yield Passed("burn_rate", multiple, paces[0], spent[0], *_stretch(rate.long, at), rate.long.window_s, told)


def _threshold(found: Passed) -> str:
    if found.kind == "burn_rate":
        return f"{_times(Fraction(found.threshold))} times"
    return _percent(Fraction(found.threshold))


def _stretch(rolling: Rolling, at: datetime) -> tuple[datetime, datetime]:
    return at - timedelta(seconds=rolling.window_s), at


def _said(unit: Unit, amount: int) -> str:
    """An amount as a sentence has it: cents, below a dollar hundredths of them, tenths of a second."""
    digits = 5 if unit == "seconds" else 0 if unit != "usd" else 10 if abs(amount) >= PICO_PER_USD else 8
    return say(unit, int(round(Decimal(amount), -digits)))


def _percent(value: Fraction) -> str:
    return f"{float(value):.1%}".replace(".0%", "%")


def _times(value: Fraction) -> str:
    return f"{float(value):.1f}".removesuffix(".0")


def _length(seconds: int) -> str:
    for unit, length in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds % length == 0:
            return f"{seconds // length} {unit}"
    return f"{seconds} s"


class AlertBook:
    """All alerts of a handler. Calls count and go on; looking and telling is another thread's work."""

    def __init__(
        self,
        ledger: Ledger,
        alerts: Callable[[], Sequence[BurnRateAlert]],
        targets: Callable[[], Sequence[Target]] = tuple,
        *,
        failed: Callable[[Exception], None],
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """`targets` are told of every alert. They and `alerts` are asked for anew: a policy file may change them."""
        self._ledger, self._alerts, self._targets, self._now = ledger, alerts, targets, now
        self._background = Background("finops-alerts", failed, apart_s=LOOK_S)
        self.notifier = Notifier(failed)
        self._plans: tuple[Sequence[BurnRateAlert], list[_Plan]] = ((), [])

    def watched(self, who: Attribution, at: datetime, *, run_id: str) -> tuple[Watched, ...]:
        """What has to be counted when a call settles that began at that time.

        It counts in the window in which it began, as budgets do, and in the buckets of now. A key that budgets have,
        too, gets the amount once, not twice.
        """
        alerts = self._alerts()
        if not alerts:
            return ()
        known, plans = self._plans
        if known is not alerts:
            plans = [_Plan.of(alert) for alert in alerts]
            self._plans = alerts, plans
        now = self._now()
        return tuple(
            plan.watch(limit, key, at, now)
            for plan in plans
            if applies(plan.alert.of, who)
            for limit in plan.limits
            for key in balance_keys(limit, who, at, run_id=run_id)
        )

    def look(self, watched: Iterable[Watched]) -> None:
        """Have these looked at, soon, on another thread: their balances have just changed. Waits for nothing."""
        for each in watched:
            self._background.submit(partial(self._look, each), key=(each.label, each.keys[0]))

    def flush(self, timeout: float | None = None) -> bool:
        """Look at what waits, and wait until everybody is told; False if `timeout` seconds passed first."""
        end = None if timeout is None else time.monotonic() + timeout
        self._background.hurry()
        return self._background.flush(timeout) and self.notifier.flush(None if end is None else end - time.monotonic())

    def _look(self, watched: Watched) -> None:
        at = self._now()
        rolling = (key for each in watched.alert.rollings() for key in each.keys(watched.base, at))
        keys = tuple(dict.fromkeys((watched.keys[0], *rolling)))
        amounts = {each.balance: each.spent for each in self._ledger.balances(*keys)}
        for found in passed(watched, amounts, at):
            if self._is_first(watched, found, at):
                self._tell(watched, found, at)

    def _is_first(self, watched: Watched, found: Passed, at: datetime) -> bool:
        """True for one caller in all processes, in the window or within the stretch's length."""
        limit = watched.limit
        what = f"alert {watched.label} {found.kind} {found.threshold} {limit.amount}"
        if not found.once_s:
            return self._ledger.claim(f"{what} {watched.keys[0]}", at=at)
        # Who tells in one stretch takes the next one along, or an alert just before its end would come twice.
        number = int(at.timestamp()) // found.once_s
        claims = (f"{what} {found.once_s}s {number + later} {watched.base}" for later in (0, 1))
        return all(self._ledger.claim(claim, at=at) for claim in claims)

    def _tell(self, watched: Watched, found: Passed, at: datetime) -> None:
        alert, limit = watched.alert, watched.limit
        scope = _whose(watched.keys[0])
        once = Alert(
            alert_id=uuid4().hex,
            alert=watched.label,
            kind=found.kind,
            text=f"{alert.of.label} for {scope}: {found.told}; the alert is at {_threshold(found)}",
            budget=alert.of.label,
            scope=scope,
            unit=limit.unit,
            limit=in_units(limit.unit, limit.amount),
            spent=in_units(limit.unit, found.spent),
            threshold=found.threshold,
            value=round(Decimal(found.value.numerator) / found.value.denominator, 4),
            window_start=found.start,
            window_end=found.end,
            at=at,
        )
        self.notifier.tell(once, tuple(dict.fromkeys((*alert.notify, *self._targets()))))
        self._ledger.write(
            change_event("alert", alert.label, by="langchain-finops", at=at, reason=once.text, after=fields(once))
        )
