"""Calls that pay twice for the same: caches nobody reads, contexts that grow, repeats, futile retries."""

from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from statistics import median
from typing import Any, Final

from langchain_finops.ledger.columns import Series
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
)
from langchain_finops.reports.advise_prefixes import wholes_of
from langchain_finops.reports.advise_prices import Units

__all__ = ["futile_retries", "growing_context", "repeated_calls", "unread_cache"]

Name = str | None
LEAST_HITS: Final = 10
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
OTHER_ANSWERS: Final = 0.1
"""Of the repeats: so many may be answered at another length than at first where nothing is drawn anew."""
OVER_CHANCE: Final = 3
"""How many times as often two calls of one run are alike as two of different runs."""
GROWN_SHARE: Final = 0.9
"""Of the calls that follow another one: so many are as long as that, or longer, where a history is added to."""
LEAST_FUTILE: Final = 5
FUTILE_SHARE: Final = 0.9
SURE_RUNS: Final = 20


# --- a cache that is written in vain ---------------------------------------------------------------------------------


def unread_cache(look: Look) -> Iterator[Finding]:
    """Nodes whose cache writes cost more than what is read from the cache saves."""
    for key, group in look.groups(key_of, roles=("agent", "overhead")).items():
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
            **by_model(key),
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
    for key, group in look.groups(key_of).items():
        if longest_input(group) < LEAST_LAST:
            continue
        has_cache = any(any(series.read) for series in group)
        units = look.units(group, needs_cache=has_cache)
        claims, runs, tokens, shrunk = Claims(), 0, 0, 0
        for calls in sequences(group):
            sizes = [tokens_of(place) for place in calls]
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
        whole = sum(tokens_of((series, place)) for series in group for place in range(len(series)))
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
        **by_model(key),
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
        run = Counter((tokens_of(place), place[0].output[place[1]]) for place in calls)
        alike += sum(each * each for each in run.values())
        pairs += len(calls) ** 2
        whole.update(run)
    calls_in_all = whole.total()
    between = sum(each * each for each in whole.values()) - alike
    others = calls_in_all**2 - pairs
    return (alike - calls_in_all) * others >= OVER_CHANCE * between * (pairs - calls_in_all)


def repeated_calls(look: Look) -> Iterator[Finding]:
    """Nodes that ask one thing several times in a run: by digests of the prompts, else by all that counts tell."""
    for key, group in look.groups(key_of).items():
        answered = [series for series in group if not series.sort.failed]
        proved = wholes_of(look, key, answered, LEAST_INPUT)
        if proved is None and not _may_repeat(answered):
            continue
        claims, runs, repeats, others = Claims(), 0, 0, 0
        for calls in sequences(answered) if proved is None or len(set(proved.values())) < len(proved) else ():
            seen: dict[object, int] = {}
            before = repeats
            for place in calls:
                series, at = place
                same = _counts(place) if proved is None else proved.get(place)
                if same in seen and at not in series.retried:
                    repeats += 1
                    others += series.output[at] != seen[same]
                    claims.add(series, at, series.pico[at])
                if same is not None:
                    seen.setdefault(same, series.output[at])
            runs += repeats > before
        whole = sum(map(len, answered))
        is_often = repeats >= LEAST_REPEATS and runs >= LEAST_RUNS and repeats >= REPEATED_SHARE * whole
        # Who asks again and is told something else, as in a vote, asks for that: a cache would take it away.
        if is_often and others <= OTHER_ANSWERS * repeats and (proved is not None or _is_no_chance(answered)):
            yield _repeats(
                key, claims, {"calls": whole, "repeats": repeats, "runs": runs}, is_proved=proved is not None
            )


def _counts(place: Place) -> tuple[int, int] | None:
    """What two calls have in common that may be the same; None for one too short to tell."""
    counts = tokens_of(place), place[0].output[place[1]]
    return counts if counts[0] >= LEAST_INPUT and counts[1] >= LEAST_OUTPUT else None


def _repeats(key: tuple[Name, ...], claims: Claims, counts: dict[str, Any], *, is_proved: bool) -> Finding:
    said = (
        "ask exactly what an earlier one of their run and node asked, by digests of their whole prompts"
        if is_proved
        else "have exactly as many input and output tokens as an earlier one of their run and node"
    )
    doubt = "" if is_proved else ". The ledger keeps no text: equal counts are no proof"
    return Finding(
        kind="repeated_calls",
        **by_model(key),
        claims=claims,
        confidence="high" if is_proved else "low",
        rests_on=f"{counts['repeats']:,} of {counts['calls']:,} calls {said}, in {counts['runs']:,} runs{doubt}",
        evidence=[counts],
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
    for key, group in look.groups(key_of, roles=roles).items():
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
        **by_model(key),
        claims=claims,
        confidence="high" if runs == futile >= SURE_RUNS else "medium",
        rests_on=f"In {futile:,} of {runs:,} runs that tried again, the node or the run failed all the same",
        evidence=[{"runs_with_retries": runs, "futile_runs": futile, "retries": claims.calls}],
        see=command("insight", "retries"),
        lever="RetryPolicy(retry_on=...) for faults that pass, such as time-outs and 429, and no retry for the others; "
        "or a person after the first failure",
        risk="A fault that passes is no longer waited out, where the rule is drawn too narrowly",
    )
