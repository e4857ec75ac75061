"""What a prompt cache could have read, call by call, and what kept it from that: by digests, in bounded memory."""

from array import array
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final, Literal, NamedTuple

from langchain_finops.ledger.codec import from_micros
from langchain_finops.ledger.columns import Sort
from langchain_finops.ledger.marks import LENGTHS, Marks, read_marks
from langchain_finops.ledger.prompts import Prompted
from langchain_finops.pricing.book import PriceBook
from langchain_finops.pricing.cache_terms import CacheTerms, caches_of
from langchain_finops.pricing.cost import PriceKey
from langchain_finops.pricing.providers import COMMON, RULES

__all__ = ["CAUSES", "Calls", "Group", "Plan", "Sold", "Used", "audit"]

Key = tuple[str | None, str | None, str | None, str | None]
"""Agent, node, provider and model."""
CAUSES: Final = ("time_stamp", "tools_reordered", "tools_changed", "system_changed", "history_rewritten")
"""What keeps a prefix from being read that was sent shortly before."""
SOON_MICROS: Final = 300_000_000
"""How long any cache lives unasked: five minutes."""
LEAST_TOKENS: Final = 1024
"""Of a prefix that is cached, where the model's caches are not known."""
KNOWN: Final = 200_000
"""Prefixes that are remembered at once; then those go that were sent longest ago."""
LOOK_BACK: Final = 20
"""Blocks at which what is cached is looked for, by Anthropic, the marked one being the first: 19 new ones are found,
and 20 are too many. Elsewhere marks are taken for that, too.
https://platform.claude.com/docs/en/build-with-claude/prompt-caching"""
MESSAGE_BLOCKS: Final = 2
"""What a message is taken for, whose blocks the digests do not tell: a tool's result, and the call that asked for it,
which is a block of a message that has all of them. The Claude API itself counts calls in a row as one block, and
results in a row: what lies between two marked ends is not known, so that is left out, and less is told as read."""
RUNS: Final = 20_000
TOP: Final = 200
"""Prefixes of a group of which it is counted how often they come."""


class Prefix(NamedTuple):
    """A beginning of a prompt."""

    id: int
    """Equal for equal ones of a group."""
    name: str
    """As people read it: the digest of the part that ends it, shortened."""
    size: int
    """Bytes."""
    parts: int
    """Tools, system prompt and messages in it: the last one whole, or a beginning of it."""
    ends: Literal["head", "inner", "message"]
    """With all that comes before the messages, or tools; within a part, where no request can set a mark; or with one
    of the messages."""


@dataclass(slots=True)
class Plan:
    """A way to cache: how many tokens it would have read and written."""

    terms: CacheTerms
    is_whole: bool
    """Whether each prompt is written as a whole, or what comes before its messages only."""
    reads: int = 0
    writes: int = 0


class Sold(NamedTuple):
    """What decides at which prices a model's calls are sold."""

    provider: str | None
    model: str | None
    host: str | None
    tier: str | None
    is_batch: bool

    @classmethod
    def of(cls, sort: Sort) -> "Sold":
        """As a call's provider names its tier, and we do."""
        named = (sort.tier or "default").lower()
        tier = RULES.get(sort.provider or "", COMMON).tiers.get(named, named)
        is_batch = tier == "batch"
        return cls(sort.provider, sort.model, sort.host, None if is_batch else tier, is_batch)

    def key(self, at: int) -> PriceKey:
        """As a price book is asked for the prices at a time, in microseconds."""
        return PriceKey(
            provider=self.provider, model=self.model, requested_model=self.model, at=from_micros(at),
            base_url_host=self.host, tier=self.tier, batch=self.is_batch,
        )  # fmt: skip


@dataclass(slots=True)
class Used:
    """The calls of a group that are sold at the same prices."""

    terms: tuple[CacheTerms, ...]
    plans: list[Plan]
    longest: int = 0
    read: int = 0
    written: int = 0
    kept: int = 0
    lost: dict[int, int] = field(default_factory=dict)
    """Tokens by cause."""


@dataclass(slots=True)
class Calls:
    """What is known of each call of a group, a place in each column for each of them, in the order of time."""

    n: "array[int]" = field(default_factory=lambda: array("q"))
    read: "array[int]" = field(default_factory=lambda: array("q"))
    """Tokens that a cache of five minutes could have had, with each prompt written as a whole."""
    head: "array[int]" = field(default_factory=lambda: array("q"))
    """Tokens of what comes before the messages, negative where a cache had to write them."""
    lost: "array[int]" = field(default_factory=lambda: array("q"))
    """Tokens that were not shared with the call before for a cause."""
    cause: "array[int]" = field(default_factory=lambda: array("b"))
    """Which of `CAUSES`; -1 for none."""
    whole: "array[int]" = field(default_factory=lambda: array("q"))
    """The number of the prompt's digest: equal for prompts that are the same."""


@dataclass(slots=True)
class Group:
    """The calls of one agent, node, provider and model that have digests."""

    key: Key
    number: int
    terms: tuple[CacheTerms, ...]
    last_at: int = 0
    calls: int = 0
    tokens: int = 0
    used: dict[Sold, Used] = field(default_factory=dict)
    """By the prices at which the calls are sold: what each plan, and what the provider reported, comes to."""
    read: int = 0
    written: int = 0
    kept: int = 0
    shared: int = 0
    """Tokens of prefixes that had been sent before."""
    gaps: "array[int]" = field(default_factory=lambda: array("q"))
    """Microseconds since a call's longest known prefix was sent, of each call that has one."""
    top: dict[int, tuple[int, int, int, str]] = field(default_factory=dict)
    """Of prefixes: how often each came again, its tokens, parts and name."""
    broken: dict[int, tuple[int, int]] = field(default_factory=dict)
    """Of causes: calls and tokens."""
    each: Calls = field(default_factory=Calls)
    before: "tuple[Marks, int] | None" = None
    """The call before, in whichever run, and when it began."""

    @property
    def least(self) -> int:
        """Tokens of the smallest prefix that is cached."""
        return self.terms[0].least_tokens if self.terms else LEAST_TOKENS

    @property
    def is_marked(self) -> bool:
        """Whether a cache holds only what a request marks; a mark is at a part's end."""
        return bool(self.terms) and self.terms[0].kind == "explicit"

    @property
    def reach(self) -> int | None:
        """How many messages before its end a prompt's mark finds what is cached; None where no mark is needed."""
        return (LOOK_BACK - 1) // MESSAGE_BLOCKS if self.is_marked else None


def audit(
    prompts: Iterable[Prompted], book: PriceBook, *, wanted: Callable[[Sort], bool], by_call: bool = False
) -> list[Group]:
    """Return the groups of those calls that are wanted, which come oldest first; `by_call` with what is known of each.

    A call reads what an earlier one had sent that had ended when it began: calls made at once read nothing from each
    other. What was sent within five minutes, and differs in one part only, has lost the rest by that.
    """
    auditor = _Auditor(book, by_call=by_call)
    for prompted in prompts:
        if prompted.tokens and wanted(prompted.sort):
            auditor.see(prompted)
    return list(auditor.groups.values())


class _Auditor:
    def __init__(self, book: PriceBook, *, by_call: bool) -> None:
        self._book, self._by_call = book, by_call
        self.groups: dict[Key, Group] = {}
        self._sold: dict[Sort, Sold] = {}
        self._seen: OrderedDict[int, tuple[int, int, int]] = OrderedDict()
        """When each prefix was sent last, since when a cache can have it, and its tokens if it was all of a prompt."""
        self._runs: OrderedDict[tuple[int, object], tuple[bytes, int, int]] = OrderedDict()
        """The last call of each run: its digests, when it began, and its prompt's bytes."""

    def see(self, call: Prompted) -> None:
        try:
            marks = read_marks(call.digests)
        except ValueError:  # Of a newer version: nothing is known of it.
            return
        group, used = self._group(call)
        group.calls += 1
        group.last_at = call.at
        group.tokens += call.tokens
        used.longest = max(used.longest, call.tokens)
        for each in (group, used):
            each.read += call.read
            each.written += call.written
            each.kept += call.kept
        read = head = lost = 0
        cause = -1
        if marks.ends:
            prefixes = list(_prefixes(group.number, marks))
            shared = self._share(group, call, marks, prefixes)
            read, head = self._plan(group, used, call, marks, prefixes)
            cause, lost = self._break(group, call, marks, shared)
            if lost:
                used.lost[cause] = used.lost.get(cause, 0) + lost
            self._send(group, call, prefixes)
            group.before = marks, call.at
        # A prompt of many tokens and few bytes is more than the request showed: nothing is known of its beginning.
        if self._by_call and (marks.ends or call.tokens < group.least):
            for column, value in (
                (group.each.n, call.n), (group.each.read, read), (group.each.head, head), (group.each.lost, lost),
                (group.each.cause, cause), (group.each.whole, int.from_bytes(marks.whole, signed=True)),
            ):  # fmt: skip
                column.append(value)

    def _group(self, call: Prompted) -> tuple[Group, Used]:
        sort = call.sort
        key = (sort.agent, sort.node, sort.provider, sort.model)
        group = self.groups.get(key)
        # A sort is what thousands of calls share: its prices are looked for once.
        sold = self._sold.get(sort)
        if sold is None:
            sold = self._sold[sort] = Sold.of(sort)
        used = None if group is None else group.used.get(sold)
        if used is None:
            terms = caches_of(self._book, sold.key(call.at))
            if group is None:
                group = self.groups[key] = Group(key, len(self.groups), terms)
            group.terms = group.terms or terms
            used = group.used[sold] = Used(terms, [Plan(each, is_whole) for each in terms for is_whole in _ways(each)])
        assert group is not None
        return group, used

    def _share(self, group: Group, call: Prompted, marks: Marks, prefixes: list[Prefix]) -> tuple[int, int]:
        """Note the longest prefix that was sent before; its tokens if that was soon, and its bytes whenever it was."""
        for prefix in reversed(prefixes):
            seen = self._seen.get(prefix.id)
            if seen is None or (prefix.ends == "inner" and group.is_marked):
                continue
            tokens = self._tokens(call, marks, prefix)
            gap = call.at - seen[0]
            group.shared += tokens
            group.gaps.append(gap)
            head = next((each for each in reversed(prefixes) if each.ends == "head" and each.id in self._seen), prefix)
            _count(group, head, self._tokens(call, marks, head))
            return (tokens if gap < SOON_MICROS else 0), prefix.size
        return 0, 0

    def _plan(self, group: Group, used: Used, call: Prompted, marks: Marks, prefixes: list[Prefix]) -> tuple[int, int]:
        """Add to each plan what the call would have read and written; tokens read and of the head, for the shortest."""
        head = next((each for each in reversed(prefixes) if each.ends == "head"), None)
        size = 0 if head is None else self._tokens(call, marks, head)
        size = size if size >= group.least else 0
        has_head = size > 0 and head is not None and self._holds(head, call.at, SOON_MICROS)
        shortest = self._longest(group, call, marks, prefixes, SOON_MICROS)
        for plan in used.plans:
            ttl = plan.terms.ttl_s * 1_000_000
            if plan.is_whole:
                read = shortest if ttl == SOON_MICROS else self._longest(group, call, marks, prefixes, ttl)
                plan.reads += read
                plan.writes += call.tokens - read if call.tokens >= group.least else 0
            elif size and head is not None:
                is_held = self._holds(head, call.at, ttl)
                plan.reads += size if is_held else 0
                plan.writes += 0 if is_held else size
        return shortest, size if has_head else -size

    def _longest(self, group: Group, call: Prompted, marks: Marks, prefixes: list[Prefix], ttl: int) -> int:
        for prefix in reversed(prefixes):
            if _is_found(group, prefix, prefixes) and self._holds(prefix, call.at, ttl):
                tokens = self._tokens(call, marks, prefix)
                return tokens if tokens >= group.least else 0
        return 0

    def _tokens(self, call: Prompted, marks: Marks, prefix: Prefix) -> int:
        """Tokens of a prefix: as reported, where it was all that an earlier call sent, else by its bytes."""
        seen = self._seen.get(prefix.id)
        return min(seen[2], call.tokens) if seen is not None and seen[2] else _tokens(call, marks, prefix.size)

    def _holds(self, prefix: Prefix, at: int, ttl: int) -> bool:
        seen = self._seen.get(prefix.id)
        return seen is not None and at - seen[0] < ttl and seen[1] <= at

    def _send(self, group: Group, call: Prompted, prefixes: list[Prefix]) -> None:
        """Remember what the call has sent: with marks, what they are set after."""
        last = len(prefixes) - 1
        used = next(
            (each for each in reversed(prefixes) if each.id in self._seen and _is_found(group, each, prefixes)), None
        )
        for number, prefix in enumerate(prefixes):
            if group.is_marked and number < last and prefix.ends != "head" and prefix is not used:
                continue
            seen = self._seen.pop(prefix.id, None)
            ready = call.ended if seen is None or call.at - seen[0] >= SOON_MICROS else min(seen[1], call.ended)
            tokens = call.tokens if number == last else seen[2] if seen is not None else 0
            self._seen[prefix.id] = call.at, ready, tokens
        while len(self._seen) > KNOWN:
            self._seen.popitem(last=False)

    def _break(self, group: Group, call: Prompted, marks: Marks, shared: tuple[int, int]) -> tuple[int, int]:
        """What kept the call from sharing more with the one before it, and how many tokens: -1 and 0 for nothing."""
        mine = None if call.run is None else self._runs.pop((group.number, call.run), None)
        if call.run is not None:
            self._runs[group.number, call.run] = call.digests, call.at, marks.size
            if len(self._runs) > RUNS:
                self._runs.popitem(last=False)
        found: tuple[int, int] | None = None
        if mine is not None and call.at - mine[1] < SOON_MICROS:
            if shared[1] >= mine[2]:
                return -1, 0
            found = _cause(read_marks(mine[0]), marks, is_same_run=True, reach=group.reach)
        elif group.before is not None and call.at - group.before[1] < SOON_MICROS:
            found = _cause(group.before[0], marks, is_same_run=False, reach=group.reach)
        if found is None:
            return -1, 0
        could = _tokens(call, marks, found[1])
        lost = could - shared[0]
        if could < group.least or lost <= 0:
            return -1, 0
        calls, tokens = group.broken.get(found[0], (0, 0))
        group.broken[found[0]] = calls + 1, tokens + lost
        return found[0], lost


def _is_found(group: Group, prefix: Prefix, prefixes: list[Prefix]) -> bool:
    """Whether a cache that has the prefix finds it: by a mark after what comes before the messages, or at the end."""
    reach = group.reach
    return (
        reach is None
        or prefix.ends == "head"
        or (prefix.ends == "message" and prefixes[-1].parts - prefix.parts <= reach)
    )


def _ways(terms: CacheTerms) -> tuple[bool, ...]:
    return (False, True) if terms.kind == "explicit" else (True,)


def _tokens(call: Prompted, marks: Marks, size: int) -> int:
    """Tokens of the first `size` bytes: as large a part of the call's tokens as they are of its bytes, rounded down."""
    return call.tokens * min(size, marks.size) // marks.size


def _count(group: Group, prefix: Prefix, tokens: int) -> None:
    count = group.top.get(prefix.id, (0, 0, 0, ""))[0]
    if not count and len(group.top) >= TOP:
        kept = sorted(group.top.items(), key=lambda each: each[1][0] * each[1][1])[TOP // 2 :]
        group.top = dict(kept)
    group.top[prefix.id] = count + 1, tokens, prefix.parts, prefix.name


def _prefixes(number: int, marks: Marks) -> Iterator[Prefix]:
    """The marked beginnings of a long prompt of the group with this number, the shortest first."""
    head = number, marks.tools
    tools, base = marks.tools_size, int(marks.tools is not None)
    if marks.tools is not None:
        yield Prefix(hash(head), marks.tools.hex()[:8], tools, 1, "head")
    for length, digest in zip(LENGTHS, marks.system_inner, strict=False):
        yield Prefix(hash((head, length, digest)), digest.hex()[:8], tools + length, base + 1, "inner")
    if marks.system is not None:
        base += 1
        yield Prefix(hash((head, marks.system)), marks.system.hex()[:8], tools + marks.system_size, base, "head")
    before, size = (head, marks.system), tools + marks.system_size
    for length, digest in zip(LENGTHS, marks.first_inner, strict=False):
        yield Prefix(hash((before, length, digest)), digest.hex()[:8], size + length, base + 1, "inner")
    for end in marks.ends:
        if end.parts:
            yield Prefix(hash((before, end.digest)), end.digest.hex()[:8], size + end.size, base + end.parts, "message")


def _cause(before: Marks, after: Marks, *, is_same_run: bool, reach: int | None) -> tuple[int, int] | None:
    """Which of `CAUSES` told two prompts apart, and the bytes that they would share without it; None for none.

    `reach`: how many messages before the later one's end its history is found; None for all of them.
    """
    least = 0 if reach is None else after.ends[-1].parts - reach
    history = max((end.size for end in after.ends if end.parts >= least and end in before.ends), default=0)
    system = after.system_size if before.system == after.system else _shared_inside(before, after)
    rest = system + (history if before.system == after.system else 0)
    if before.tools != after.tools:
        if before.tools_sorted == after.tools_sorted:
            return CAUSES.index("tools_reordered"), after.tools_size + rest
        return CAUSES.index("tools_changed"), rest
    if before.system != after.system:
        if before.system_masked == after.system_masked:
            return CAUSES.index("time_stamp"), after.tools_size + after.system_size + history
        # A prompt of its own for each task is no change; one that changes while the conversation goes on is.
        return (CAUSES.index("system_changed"), after.tools_size + system + history) if history else None
    if is_same_run and before.ends[-1] not in after.ends and _is_rewritten(before, after):
        length = min(before.ends[-1].size, after.ends[-1].size)
        return CAUSES.index("history_rewritten"), after.tools_size + after.system_size + length
    return None


def _is_rewritten(before: Marks, after: Marks) -> bool:
    """Whether a conversation goes on, and what was said before is not there as it was: never guessed from what only one
    of the two prompts has marked."""
    places = [at for at, digest in enumerate(after.recent[:-1]) if before.recent and digest == before.recent[-1]]
    marked = {end.parts: end.digest for end in before.ends}
    is_changed = any(marked.get(end.parts, end.digest) != end.digest for end in after.ends)
    return bool(places) and (is_changed or not any(_goes_on(before, after, at) for at in places))


def _goes_on(before: Marks, after: Marks, at: int) -> bool:
    """Whether the earlier prompt's last messages end there in the later one's, and as many came before them."""
    count = min(at + 1, len(before.recent))
    has_as_many = after.ends[-1].parts - (len(after.recent) - 1 - at) == before.ends[-1].parts
    return has_as_many and before.recent[-count:] == after.recent[at + 1 - count : at + 1]


def _shared_inside(before: Marks, after: Marks) -> int:
    """Bytes of the system prompts' beginnings that are the same, as far as they are marked."""
    pairs = zip(LENGTHS, before.system_inner, after.system_inner, strict=False)
    return max((length for length, one, other in pairs if one == other), default=0)
