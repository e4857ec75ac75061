"""Prefixes that are paid for again and again, and what keeps a cache from them: by digests, else by sizes."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from langchain_finops.ledger.columns import Series
from langchain_finops.money import from_pico
from langchain_finops.reports.advise_look import (
    Claims,
    Confidence,
    Finding,
    Look,
    Place,
    as_paid,
    by_model,
    command,
    key_of,
    longest_input,
    sequences,
    tokens_of,
    when,
)
from langchain_finops.reports.advise_prices import Units
from langchain_finops.reports.prefix_audit import CAUSES, Group
from langchain_finops.reports.prefixes import WORDS

__all__ = ["broken_cache", "uncached_prefix", "wholes_of"]

Name = str | None
TTL_MICROS: Final = 300_000_000
"""How long a provider's cache lives unasked: five minutes."""
LEAST_PREFIX, LEAST_PREFIX_LARGE = 1024, 4096
"""Tokens that a prefix needs to be cached; the second for Anthropic's Opus and Haiku."""
LEAST_HITS: Final = 10
LEAST_SAVED: Final = 0.05
"""Of what the node cost with that model."""
SAME_SIZE: Final = 0.9
"""The smallest input over the mean one, from which prompts are taken for one template."""
GROWN_SHARE: Final = 0.9
"""Of the calls that follow another one: so many are as long as that, or longer, where a history is added to."""
DIGESTED: Final = 0.9
"""Of the calls that are long enough: with fewer digests sizes have to tell."""
INFERRED: Final = ". Not all of these calls have digests: that it is the same is inferred from its size"
BY_DIGEST: Final[tuple[Confidence, str, str]] = (
    "high", "each begins as an earlier one did within five minutes, by digests of their prompts", "",
)  # fmt: skip
BY_RUN: Final[tuple[Confidence, str, str]] = (
    "medium", "each sent at least as much as the call of the same run before it, within five minutes", INFERRED,
)  # fmt: skip
BY_SIZE: Final[tuple[Confidence, str, str]] = (
    "low", "all prompts of the node have nearly one size, and each came within five minutes of the one before",
    INFERRED,
)  # fmt: skip
MENDED: Final = {
    "time_stamp": "what changes (a time stamp, a counter) out of the system prompt and into the last message",
    "tools_reordered": "the tools in one order, such as by name",
    "tools_changed": "all tools at every call, and which of them may be used said elsewhere (tool_choice)",
    "system_changed": "what changes out of the system prompt and into the last message",
}
"""By cause, what to do. A history that is rewritten may save more than it loses: that is no waste by itself."""
SURE: Final = frozenset({"time_stamp", "tools_reordered"})
"""Causes that lose what they need not: the others may have a reason."""


@dataclass(slots=True)
class Cached:
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
    for key, group in look.groups(key_of, roles=("agent", "overhead")).items():
        if any(any(series.read) or any(series.written) or any(series.other) for series in group):
            continue
        if longest_input(group) < LEAST_PREFIX:
            continue
        model = key[-1]
        units = look.units(group, needs_cache=True)
        if units is None or units.read >= units.fresh:
            continue
        least = LEAST_PREFIX_LARGE if model and ("opus" in model or "haiku" in model) else LEAST_PREFIX
        proved = _proved(look, key, group, units, least)
        grown = _in_runs(units, group, least) if proved is None else proved
        found = grown if proved is not None or grown.hits >= LEAST_HITS else _in_template(units, group, least)
        cost = sum(sum(series.pico) for series in group)
        found.claims.scale(found.claims.pico - found.debt)
        if found.hits >= LEAST_HITS and found.claims.pico >= LEAST_SAVED * cost and found.claims.pico:
            how = BY_DIGEST if proved is not None else BY_RUN if found is grown else BY_SIZE
            yield _prefix(key, group, found, how)


def _in_runs(units: Units, group: list[Series], least: int) -> Cached:
    """Each call of a run sends again what the one before it sent, and more."""
    found, follow, grow = Cached(units, Claims()), 0, 0
    for calls in sequences(group):
        last: Place | None = None
        for place in calls:
            size, before = tokens_of(place), 0 if last is None else tokens_of(last)
            follow += last is not None
            grow += last is not None and before <= size
            if last is not None and least <= before <= size and when(place) - when(last) <= TTL_MICROS:
                found.hit(place, before, size - before)
            elif len(calls) > 1:
                found.miss(size)
            last = place
    # Else these are different texts, such as the documents of a fan-out, of which half happen to follow a shorter one.
    return found if grow >= GROWN_SHARE * follow else Cached(units, Claims())


def _in_template(units: Units, group: list[Series], least: int) -> Cached:
    """All prompts of a node have nearly the same size: one template, if that is more than chance."""
    found = Cached(units, Claims())
    places = sorted(((series, at) for series in group for at in range(len(series))), key=when)
    sizes = [tokens_of(place) for place in places]
    smallest = min(sizes)
    if smallest < least or smallest < SAME_SIZE * sum(sizes) / len(sizes):
        return found
    last: int | None = None
    for place in places:
        if last is not None and when(place) - last <= TTL_MICROS:
            found.hit(place, smallest, 0)
        else:
            found.miss(smallest)
        last = when(place)
    return found


def _prefix(key: tuple[Name, ...], group: list[Series], found: Cached, how: tuple[Confidence, str, str]) -> Finding:
    calls = sum(map(len, group))
    confidence, said, doubt = how
    return Finding(
        kind="uncached_prefix",
        **by_model(key),
        claims=found.claims,
        confidence=confidence,
        rests_on=f"{found.hits:,} of {calls:,} calls: {said}. No call is reported to have read from a cache{doubt}",
        evidence=[
            {
                "calls": calls,
                "calls_that_could_read": found.hits,
                "tokens_that_could_be_read": found.tokens,
                "input_tokens": sum(sum(series.fresh) for series in group),
                "cost_usd": from_pico(sum(sum(series.pico) for series in group)),
            }
        ],
        see=command("insight", "prefixes" if confidence == "high" else "context"),
        lever="Prompt caching: what stays the same first (system prompt, tools in one order, no time stamp), then what "
        "changes; cache_policy() sets a breakpoint where the provider wants one and it pays",
        risk="None to the answers. Writes cost more than they save where a prefix is not read again in time",
    )


# --- by digests ------------------------------------------------------------------------------------------------------


def _audited(
    look: Look, key: tuple[Name, ...], group: list[Series], least: int
) -> tuple[Group, dict[int, Place]] | None:
    """What digests tell of a group, and where its calls are by their numbers; None where too few of them have any."""
    audited = look.audited.get(key)
    if audited is None:
        return None
    numbers = set(audited.each.n)
    found: dict[int, Place] = {}
    long = 0
    for series in group:
        sizes = zip(series.n, series.fresh, series.read, series.written, strict=True)
        for at, (n, fresh, read, written) in enumerate(sizes):
            if n in numbers:
                found[n] = series, at
            elif fresh + read + written >= least:
                long += 1
    return (audited, found) if len(found) >= DIGESTED * (len(found) + long) else None


def wholes_of(look: Look, key: tuple[Name, ...], group: list[Series], least: int) -> dict[Place, int] | None:
    """Which calls are the same, by where they are; None where too few that have `least` tokens have digests."""
    known = _audited(look, key, group, least)
    if known is None:
        return None
    audited, places = known
    each = zip(audited.each.n, audited.each.whole, strict=True)
    return {places[n]: whole for n, whole in each if n in places}


def _proved(look: Look, key: tuple[Name, ...], group: list[Series], units: Units, least: int) -> Cached | None:
    """What caches of all prompts, or of what comes before the messages, would save: the better of the two."""
    known = _audited(look, key, group, least)
    if known is None:
        return None
    (audited, places), whole, head = known, Cached(units, Claims()), Cached(units, Claims())
    for n, read, first in zip(audited.each.n, audited.each.read, audited.each.head, strict=True):
        place = places.get(n)
        if place is None:
            continue
        tokens = tokens_of(place)
        if read:
            whole.hit(place, read, tokens - read)
        elif tokens >= audited.least:
            whole.miss(tokens)
        if first > 0:
            head.hit(place, first, 0)
        else:
            head.miss(-first)
    return max(whole, head, key=lambda each: each.claims.pico - each.debt)


def broken_cache(look: Look) -> Iterator[Finding]:
    """Nodes whose prompts could be read from a cache, but for what changes at their beginning."""
    for key, group in look.groups(key_of, roles=("agent", "overhead")).items():
        audited = look.audited.get(key)
        if audited is None or not any(CAUSES[cause] in MENDED for cause in audited.broken):
            continue
        units = look.units(group, needs_cache=True)
        known = _audited(look, key, group, audited.least)
        if units is None or units.read >= units.fresh or known is None:
            continue
        claims, causes = Claims(), dict[str, list[int]]()
        for n, lost, cause in zip(audited.each.n, audited.each.lost, audited.each.cause, strict=True):
            place = known[1].get(n)
            if place is None or not lost or CAUSES[cause] not in MENDED:
                continue
            counts = causes.setdefault(CAUSES[cause], [0, 0])
            counts[0] += 1
            counts[1] += lost
            claims.add(*place, as_paid(units, place, units.pico(fresh=lost) - units.pico(read=lost)))
        cost = sum(sum(series.pico) for series in group)
        if claims.calls >= LEAST_HITS and claims.pico >= LEAST_SAVED * cost and (claims.pico or claims.unpriced):
            yield _broken(key, audited, claims, causes, sum(map(len, group)))


def _broken(
    key: tuple[Name, ...], audited: Group, claims: Claims, causes: dict[str, list[int]], calls: int
) -> Finding:  # fmt: skip
    largest = sorted(causes, key=lambda cause: -causes[cause][1])
    told = ", ".join(f"{WORDS[cause]} ({causes[cause][0]:,} calls, {causes[cause][1]:,} tokens)" for cause in largest)
    writes = audited.is_marked and not audited.written and not audited.kept
    return Finding(
        kind="broken_cache",
        **by_model(key),
        claims=claims,
        confidence="high" if SURE.issuperset(largest) else "medium",
        # Where nothing is written yet, writing costs more than plain input; how much, the lever decides.
        is_most=writes,
        rests_on=f"Of {calls:,} calls, by digests of their prompts: {told}, but for which they would begin as the call "
        "before did, five minutes before or less",
        evidence=[{"cause": cause, "calls": causes[cause][0], "lost_tokens": causes[cause][1]} for cause in largest],
        see=command("insight", "prefixes"),
        lever=f"Send {'; '.join(MENDED[cause] for cause in largest)}"
        + ("; then cache_policy(), which marks what is cached where it pays" if audited.is_marked else ""),
        risk="What stands at the end of a prompt weighs more: compare the answers (finops-eval) before switching",
    )
