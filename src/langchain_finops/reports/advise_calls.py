"""Calls that pay twice for the same: prefixes without a cache, contexts that grow, repeats, futile retries."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from statistics import median
from typing import Any, Final

from langchain_finops.ledger.columns import Series
from langchain_finops.money import from_pico
from langchain_finops.reports.advise_look import (
    Claims,
    Confidence,
    Finding,
    Look,
    Place,
    as_paid,
    command,
    longest_input,
    sequences,
)
from langchain_finops.reports.advise_prices import Units

__all__ = ["futile_retries", "growing_context", "repeated_calls", "uncached_prefix", "unread_cache"]

Name = str | None
BY_MODEL: Final = ("agent", "node", "provider", "model")
TTL_MICROS: Final = 300_000_000
"""How long a provider's cache lives unasked: five minutes."""
LEAST_PREFIX, LEAST_PREFIX_LARGE = 1024, 4096
"""Tokens that a prefix needs to be cached; the second for Anthropic's Opus and Haiku."""
LEAST_HITS: Final = 10
LEAST_SAVED: Final = 0.05
"""Of what the node cost with that model."""
SAME_SIZE: Final = 0.9
"""The smallest input over the mean one, from which prompts are taken for one template."""
KEPT_STEPS: Final = 3
STOPPED: Final = 4
"""How many times less the last steps add than the first ones did where a history is cut."""
LEAST_RUNS: Final = 3
LEAST_AVOIDED: Final = 0.2
"""Of the input tokens of the node."""
LEAST_LAST: Final = 2000
LEAST_INPUT, LEAST_OUTPUT = 50, 8
"""Tokens of calls whose equal counts are no chance."""
LEAST_REPEATS: Final = 5
REPEATED_SHARE: Final = 0.1
OVER_CHANCE: Final = 3
"""How many times as often two calls of one run are alike as two of different runs."""
GROWN_SHARE: Final = 0.9
"""Of the calls that follow another one: so many are as long as that, or longer, where a history is added to."""
LEAST_FUTILE: Final = 5
FUTILE_SHARE: Final = 0.9
SURE_RUNS: Final = 20


def _key(series: Series) -> tuple[Name, ...]:
    sort = series.sort
    return sort.agent, sort.node, sort.provider, sort.model


def _tokens(place: Place) -> int:
    series, at = place
    return series.fresh[at] + series.read[at] + series.written[at]


def _when(place: Place) -> int:
    return place[0].at[place[1]]


def _by_model(key: tuple[Name, ...]) -> dict[str, Any]:
    return dict(zip(BY_MODEL, key, strict=True))


# --- a prefix that is paid for again and again -----------------------------------------------------------------------


@dataclass(slots=True)
class _Cached:
    """What a group would save with a cache."""

    units: Units | None
    claims: Claims
    debt: int = 0
    """What writing has cost that no reading has paid back yet."""
    hits: int = 0
    tokens: int = 0

    def miss(self, tokens: int) -> None:
        """The tokens are written, and nothing is read."""
        if self.units is not None:
            self.debt += max(0, self.units.pico(written=tokens) - self.units.pico(fresh=tokens))

    def hit(self, place: Place, read: int, written: int) -> None:
        """So many of a call's tokens come from the cache, and so many are written."""
        self.hits += 1
        self.tokens += read
        series, at = place
        if self.units is None or series.sort.unpriced:
            self.claims.add(series, at, 0)
            return
        self.miss(written)
        gained = self.units.pico(fresh=read) - self.units.pico(read=read)
        saved = as_paid(self.units, place, gained) - self.debt
        self.debt = max(0, -saved)
        self.claims.add(series, at, saved)


def uncached_prefix(look: Look) -> Iterator[Finding]:
    """Nodes that send much of the same input soon again, and of which no call read anything from a cache."""
    for key, group in look.groups(_key, roles=("agent", "overhead")).items():
        if any(any(series.read) or any(series.written) or any(series.other) for series in group):
            continue
        if longest_input(group) < LEAST_PREFIX:
            continue
        model = key[-1]
        units = look.units(group, needs_cache=True)
        if units is None or units.read >= units.fresh:
            continue
        least = LEAST_PREFIX_LARGE if model and ("opus" in model or "haiku" in model) else LEAST_PREFIX
        grown = _in_runs(units, group, least)
        found = grown if grown.hits >= LEAST_HITS else _in_template(units, group, least)
        cost = sum(sum(series.pico) for series in group)
        found.claims.scale(found.claims.pico - found.debt)
        if found.hits >= LEAST_HITS and found.claims.pico >= LEAST_SAVED * cost and found.claims.pico:
            yield _prefix(key, group, found, is_grown=found is grown)


def _in_runs(units: Units, group: list[Series], least: int) -> _Cached:
    """Each call of a run sends again what the one before it sent, and more."""
    found, follow, grow = _Cached(units, Claims()), 0, 0
    for calls in sequences(group):
        last: Place | None = None
        for place in calls:
            size, before = _tokens(place), 0 if last is None else _tokens(last)
            follow += last is not None
            grow += last is not None and before <= size
            if last is not None and least <= before <= size and _when(place) - _when(last) <= TTL_MICROS:
                found.hit(place, before, size - before)
            elif len(calls) > 1:
                found.miss(size)
            last = place
    # Else these are different texts, such as the documents of a fan-out, of which half happen to follow a shorter one.
    return found if grow >= GROWN_SHARE * follow else _Cached(units, Claims())


def _in_template(units: Units, group: list[Series], least: int) -> _Cached:
    """All prompts of a node have nearly the same size: one template, if that is more than chance."""
    found = _Cached(units, Claims())
    places = sorted(((series, at) for series in group for at in range(len(series))), key=_when)
    sizes = [_tokens(place) for place in places]
    smallest = min(sizes)
    if smallest < least or smallest < SAME_SIZE * sum(sizes) / len(sizes):
        return found
    last: int | None = None
    for place in places:
        if last is not None and _when(place) - last <= TTL_MICROS:
            found.hit(place, smallest, 0)
        else:
            found.miss(smallest)
        last = _when(place)
    return found


def _prefix(key: tuple[Name, ...], group: list[Series], found: _Cached, *, is_grown: bool) -> Finding:
    calls = sum(map(len, group))
    how = (
        "each sent at least as much as the call of the same run before it, within five minutes"
        if is_grown
        else "all prompts of the node have nearly one size, and each came within five minutes of the one before"
    )
    return Finding(
        kind="uncached_prefix",
        **_by_model(key),
        claims=found.claims,
        confidence="medium" if is_grown else "low",
        rests_on=f"{found.hits:,} of {calls:,} calls: {how}. No call is reported to have read from a cache. The "
        "ledger keeps no text: that it is the same is inferred from its size",
        evidence=[
            {
                "calls": calls,
                "calls_that_could_read": found.hits,
                "tokens_that_could_be_read": found.tokens,
                "input_tokens": sum(sum(series.fresh) for series in group),
                "cost_usd": from_pico(sum(sum(series.pico) for series in group)),
            }
        ],
        see=command("insight", "context"),
        lever="Prompt caching: what stays the same first (system prompt, tools in one order, no time stamp), then what "
        "changes; cache_policy() sets a breakpoint where the provider wants one and it pays",
        risk="None to the answers. Writes cost more than they save where a prefix is not read again in time",
    )


def unread_cache(look: Look) -> Iterator[Finding]:
    """Nodes whose cache writes cost more than what is read from the cache saves."""
    for key, group in look.groups(_key, roles=("agent", "overhead")).items():
        if not any(any(series.written) for series in group):
            continue
        units = look.units(group, needs_cache=True)
        if units is None or units.written <= units.fresh or any(any(series.other) for series in group):
            continue
        read, written = (sum(sum(getattr(series, name)) for series in group) for name in ("read", "written"))
        lost = units.pico(written=written) - units.pico(fresh=written)
        lost -= units.pico(fresh=read) - units.pico(read=read)
        if lost <= 0 or sum(map(len, group)) < LEAST_HITS:
            continue
        claims = Claims()
        for series in group:
            for place, tokens in enumerate(series.written):
                extra = units.pico(written=tokens) - units.pico(fresh=tokens)
                claims.add(series, place, as_paid(units, (series, place), extra))
        listed = sum(units.cost(series, place) for series in group for place in range(len(series)))
        claims.scale(lost * min(sum(sum(series.pico) for series in group), listed) // listed)
        yield Finding(
            kind="unread_cache",
            **_by_model(key),
            claims=claims,
            confidence="high",
            rests_on=f"{written:,} tokens were written to the cache and {read:,} read from it: both are reported by "
            "the provider",
            evidence=[{"calls": sum(map(len, group)), "cache_write_tokens": written, "cache_read_tokens": read}],
            see=command("insight", "cache"),
            lever="cache_policy(), which sets a breakpoint only where it would have paid; or none at this node",
            risk="None to the answers; waiting for the first token may take longer where the cache was read",
        )


# --- contexts that grow ----------------------------------------------------------------------------------------------


def growing_context(look: Look) -> Iterator[Finding]:
    """Nodes whose input grows from call to call of a run, until most of it is old."""
    for key, group in look.groups(_key).items():
        if longest_input(group) < LEAST_LAST:
            continue
        has_cache = any(any(series.read) for series in group)
        units = look.units(group, needs_cache=has_cache)
        claims, runs, tokens, shrunk = Claims(), 0, 0, 0
        for calls in sequences(group):
            sizes = [_tokens(place) for place in calls]
            if len(sizes) <= KEPT_STEPS + 1 or sizes[-1] < LEAST_LAST or sizes[-1] < 2 * sizes[0]:
                continue
            shorter = sum(later < size for size, later in pairwise(sizes))
            if shorter > (1 - GROWN_SHARE) * (len(sizes) - 1) or _has_stopped(sizes):
                shrunk += 1  # Texts that have nothing to do with each other, or a history that is pruned already.
                continue
            runs += 1
            for number in range(KEPT_STEPS + 1, len(calls)):
                old = min(sizes[number - KEPT_STEPS], sizes[number]) - sizes[0]
                if old <= 0:
                    continue
                tokens += old
                series, place = calls[number]
                # What comes from a cache is cheap already, and cutting it may have the rest written anew.
                saved = 0 if units is None else units.pico(**{"read" if has_cache else "fresh": old})
                claims.add(series, place, 0 if units is None else as_paid(units, (series, place), saved))
        whole = sum(_tokens((series, place)) for series in group for place in range(len(series)))
        if runs >= max(LEAST_RUNS, shrunk) and tokens >= LEAST_AVOIDED * whole:
            yield _context(key, claims, units, {"runs": runs, "old_tokens": tokens, "input_tokens": whole}, has_cache)


def _has_stopped(sizes: list[int]) -> bool:
    """Whether the last steps added much less than the first ones did: what is older is being cut already."""
    first = sizes[: len(sizes) // 2 + 1]
    usual = median(later - size for size, later in pairwise(first))
    return STOPPED * (sizes[-1] - sizes[-1 - KEPT_STEPS]) < KEPT_STEPS * usual


def _context(
    key: tuple[Name, ...], claims: Claims, units: Units | None, counts: dict[str, Any], has_cache: bool
) -> Finding:
    confidence: Confidence = "low" if has_cache else "medium"
    return Finding(
        kind="growing_context",
        **_by_model(key),
        claims=claims,
        confidence=confidence,
        is_unknown=units is None,
        rests_on=f"In {counts['runs']:,} runs {counts['old_tokens']:,} of {counts['input_tokens']:,} input tokens are "
        f"older than the last {KEPT_STEPS} steps, the first prompt apart"
        + ("; at the price of cached input" if has_cache else "")
        + ". Whether they are still needed, no count tells",
        evidence=[counts],
        see=command("insight", "context"),
        lever=f"prune(...): the first prompt and the last {KEPT_STEPS} steps stay, older results go or are summed up",
        risk="What was dropped may be needed; a summary costs, and a cut in the middle has cached input written anew",
    )


# --- the same call twice ---------------------------------------------------------------------------------------------


def _may_repeat(group: list[Series]) -> bool:
    """Whether enough calls have the counts of another one of their run. Sorting all of them takes longer."""
    seen: set[tuple[int, int, int]] = set()
    for series in group:
        columns = zip(series.run, series.fresh, series.read, series.written, series.output, strict=True)
        seen.update((run, fresh + read + written, output) for run, fresh, read, written, output in columns)
    whole = sum(map(len, group))
    return whole - len(seen) >= max(LEAST_REPEATS, REPEATED_SHARE * whole)


def _is_no_chance(group: list[Series]) -> bool:
    """Whether two calls of one run are alike far more often than two of different runs, as those of a template are."""
    whole: Counter[tuple[int, int]] = Counter()
    alike = pairs = 0
    for calls in sequences(group):
        run = Counter((_tokens(place), place[0].output[place[1]]) for place in calls)
        alike += sum(each * each for each in run.values())
        pairs += len(calls) ** 2
        whole.update(run)
    calls_in_all = whole.total()
    between = sum(each * each for each in whole.values()) - alike
    others = calls_in_all**2 - pairs
    return (alike - calls_in_all) * others >= OVER_CHANCE * between * (pairs - calls_in_all)


def repeated_calls(look: Look) -> Iterator[Finding]:
    """Nodes that ask one thing several times in a run, by all that counts tell."""
    for key, group in look.groups(_key).items():
        answered = [series for series in group if not series.sort.failed]
        if not _may_repeat(answered):
            continue
        claims, runs, repeats = Claims(), 0, 0
        for calls in sequences(answered):
            seen: set[tuple[int, int]] = set()
            before = repeats
            for place in calls:
                series, at = place
                counts = _tokens(place), series.output[at]
                if counts in seen and at not in series.retried:
                    repeats += 1
                    claims.add(series, at, series.pico[at])
                if counts[0] >= LEAST_INPUT and counts[1] >= LEAST_OUTPUT:
                    seen.add(counts)
            runs += repeats > before
        whole = sum(map(len, answered))
        is_often = repeats >= LEAST_REPEATS and runs >= LEAST_RUNS and repeats >= REPEATED_SHARE * whole
        if is_often and _is_no_chance(answered):
            yield Finding(
                kind="repeated_calls",
                **_by_model(key),
                claims=claims,
                confidence="low",
                rests_on=f"{repeats:,} of {whole:,} calls have exactly as many input and output tokens as an earlier "
                f"one of their run and node, in {runs:,} runs. The ledger keeps no text: equal counts are no proof",
                evidence=[{"calls": whole, "repeats": repeats, "runs": runs}],
                see=command("report", "--by", "run,node", *(() if key[0] is None else ("--agent", key[0]))),
                lever="LoopGuard to see and stop repeats by their hashes; a node or model cache (CachePolicy, "
                "set_llm_cache) for what may be answered twice alike",
                risk="A cache answers what it answered before: not for prompts whose answer should vary or go stale",
            )


# --- retries that never succeed --------------------------------------------------------------------------------------


def futile_retries(look: Look) -> Iterator[Finding]:
    """Nodes whose second tries bring nothing: the run fails all the same."""
    statuses: dict[str, str] | None = None
    roles = ("agent", "overhead")
    for key, group in look.groups(_key, roles=roles).items():
        if not any(series.retried for series in group):
            continue
        if statuses is None:
            statuses = {run.run_id: run.status for run in look.ledger.runs()}
        claims, runs, futile = Claims(), 0, 0
        for calls in sequences(group):
            again = [(series, at) for series, at in calls if at in series.retried]
            if not again:
                continue
            runs += 1
            status = statuses.get(look.columns.runs[calls[0][0].run[calls[0][1]]])
            last, at_last = calls[-1]
            # A retry that helped, in a run that failed later of something else, is not futile.
            if last.sort.failed or (status in {"failed", "stopped"} and at_last in last.retried):
                futile += 1
                for series, at in again:
                    claims.add(series, at, series.pico[at])
        is_paid = claims.pico or claims.unpriced
        if futile >= LEAST_FUTILE and futile >= FUTILE_SHARE * runs and is_paid:
            yield _futile(key, claims, runs, futile)


def _futile(key: tuple[Name, ...], claims: Claims, runs: int, futile: int) -> Finding:
    return Finding(
        kind="futile_retries",
        **_by_model(key),
        claims=claims,
        confidence="high" if runs == futile >= SURE_RUNS else "medium",
        rests_on=f"In {futile:,} of {runs:,} runs that tried again, the node or the run failed all the same",
        evidence=[{"runs_with_retries": runs, "futile_runs": futile, "retries": claims.calls}],
        see=command("insight", "retries"),
        lever="RetryPolicy(retry_on=...) for faults that pass, such as time-outs and 429, and no retry for the others; "
        "or a person after the first failure",
        risk="A fault that passes is no longer waited out, where the rule is drawn too narrowly",
    )
