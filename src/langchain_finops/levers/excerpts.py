"""`passages(text, question)`: of a long document only what bears on the question, word for word and in its order.

No model is called. A document is split at its paragraphs, long ones at lines or sentences; a table's row keeps its
head, a passage the headings above it, and code in fences stays in one piece.
"""

import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Final
from unicodedata import normalize

__all__ = ["GAP", "bearing_on", "passages"]

GAP: Final = "[...]"
"""Stands on a line of its own where something was left out."""
SHARE: Final = 0.5
"""A passage that scores at least this share of the best one's score stays."""
LONG: Final = 600
"""Letters from which on a paragraph or a table is split: about 150 tokens."""
K1: Final = 1.2
B: Final = 0.75
PREFIX: Final = 4
EMPTY_WORDS: Final = frozenset(
    """a about an and any are as at be been but by can could did do does for from had has have he her his how i if in
    into is it its many may me much must my no not of on or our shall she should so some than that the their them then
    there these they this those to us was we were what when where which who whom whose why will with would you
    your""".split()  # noqa: SIM905  A list of so many would be a page.
)
"""English words that say nothing of what is asked; in other languages their being everywhere has to do."""

_FENCE = re.compile(r"\s{0,3}(?:```|~~~)")
_HEADING = re.compile(r"(#{1,6})\s")
_RULE = re.compile(r"\s*\|[\s|:-]+$")
_SENTENCE = re.compile("(?<=[.!?\u2026])\\s+|(?<=[\u3002\uff01\uff1f\u0964])")
_WORD = re.compile(r"[^\W_]+")
COLONS: Final = (":", "\uff1a")
_UNSPACED = re.compile("[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]+")


Span = tuple[int, int]
"""Where a part of the text starts and ends."""


@dataclass(frozen=True, slots=True)
class _Passage:
    """A part of the text."""

    span: Span
    lead: int | None
    """Number of the heading or table head that goes with it."""
    counts: bool = True
    """Whether it can be chosen; a heading with something under it only comes along."""


def passages(text: str, question: str) -> str:
    """The passages of `text` that bear on `question`, in their order, with `[...]` for what was left out between them.

    A passage bears on it whose score is at least half of the best one's. The score is BM25 with k1 = 1.2 and b = 0.75
    (Robertson and Zaragoza, The Probabilistic Relevance Framework: BM25 and Beyond, 2009, section 3.4) over the
    passages of this text, with the logarithm of 1 + (N - n + 0.5) / (n + 0.5) as a word's weight, which is never
    negative. Words are compared without case, and by their first four letters once more, so that other endings count
    less but count; scripts without spaces by pairs of letters. The words of headings above a passage count for it.

    The text itself comes back where no passage has a word of the question, or where cutting would not shorten it.
    """
    return bearing_on(text, question) or text


def bearing_on(text: str, question: str) -> str | None:
    """The same; None where no passage has a word of the question."""
    parts = _split(text)
    scores = _scores(text, parts, question)
    best = max(scores, default=0.0)
    if best <= 0:
        return None
    kept: set[int] = set()
    for place, score in enumerate(scores):
        at: int | None = place if score >= best * SHARE else None
        while at is not None and at not in kept:
            kept.add(at)
            at = parts[at].lead
    cut = _joined(text, [parts[place] for place in sorted(kept)])
    return cut if len(cut) < len(text) else text


# --- passages --------------------------------------------------------------------------------------------------------


def _split(text: str) -> list[_Passage]:
    """The text in passages: each starts where the one before ends."""
    found: list[_Passage] = []
    above: list[tuple[int, int]] = []
    """Level and number of the headings that the next passage stands under."""
    for kind, lines in _blocks(text):
        level = _level(text, lines[0]) if kind == "heading" else 0
        if level:
            if above and above[-1][1] == len(found) - 1 and above[-1][0] >= level:
                found[-1] = replace(found[-1], counts=True)
            while above and above[-1][0] >= level:
                above.pop()
        lead = above[-1][1] if above else None
        if level:
            above.append((level, len(found)))
            found.append(_Passage(_whole(lines), lead, counts=False))
        else:
            found += _parts(text, kind, lines, lead, len(found))
    if found and not found[-1].counts:
        found[-1] = replace(found[-1], counts=True)
    return found


def _parts(text: str, kind: str, lines: Sequence[Span], lead: int | None, number: int) -> list[_Passage]:
    """A block as one passage, or as several where it is long; `number` is that of the first."""
    start, end = whole = _whole(lines)
    if end - start <= LONG or kind == "code":
        return [_Passage(whole, lead)]
    if kind == "prose":
        return [_Passage(span, lead) for span in _packed(_sentences(text, lines))]
    head = 2 if len(lines) > 2 and _RULE.match(text[slice(*lines[1])].rstrip()) else 1
    if len(lines) <= head:
        return [_Passage(whole, lead)]
    first = _Passage(_whole(lines[:head]), lead, counts=False)
    return [first, *(_Passage(span, number) for span in _filled(text, lines[head:]))]


def _blocks(text: str) -> Iterator[tuple[str, list[Span]]]:
    """Headings, tables, fenced code and prose, as their lines; blank ones belong to those before.

    What ends in a colon goes on behind blank lines: a list stays with what introduces it.
    """
    kind, lines, goes_on = "", list[Span](), True
    for now, span in _kinds(text):
        if now == "blank":
            goes_on = goes_on and text[slice(*lines[-1])].rstrip().endswith(COLONS) if kind else True
        else:
            if kind and (now != kind or now == "heading" or not goes_on):
                yield kind, lines
                lines = []
            kind, goes_on = now, True
        lines.append(span)
    if lines:
        yield kind or "prose", lines


def _kinds(text: str) -> Iterator[tuple[str, Span]]:
    """Each line and what it is: blank, heading, table, prose, or the code of a fence, whatever stands in it."""
    lines = _lines(text)
    fences = [place for place, span in enumerate(lines) if _FENCE.match(text, *span)]
    closes = dict(zip(fences[::2], fences[1::2], strict=False))  # One that is never closed is none.
    until = -1
    for place, (start, end) in enumerate(lines):
        until = closes.get(place, until)
        line = text[start:end].strip()
        if place <= until:
            yield "code", (start, end)
        elif not line:
            yield "blank", (start, end)
        else:
            yield (
                "heading" if _HEADING.match(text, start, end) else "table" if line[0] == "|" else "prose",
                (start, end),
            )


def _lines(text: str) -> list[Span]:
    spans, start = [], 0
    for line in text.split("\n"):
        end = min(start + len(line) + 1, len(text))
        if end > start:
            spans.append((start, end))
        start = end
    return spans


def _sentences(text: str, lines: Iterable[Span]) -> Iterator[Span]:
    """Lines, and sentences of lines that are long."""
    for start, end in lines:
        if end - start <= LONG:
            yield start, end
            continue
        cuts = [start, *(cut.end() for cut in _SENTENCE.finditer(text, start, end)), end]
        yield from ((one, other) for one, other in pairwise(cuts) if one < other)


def _packed(spans: Iterable[Span]) -> Iterator[Span]:
    """Neighbours together, as many as make half of what is long."""
    held: Span | None = None
    for start, end in spans:
        if held is not None and end - held[0] > LONG // 2:
            yield held
            held = None
        held = (start if held is None else held[0], end)
    if held is not None:
        yield held


def _filled(text: str, lines: Iterable[Span]) -> list[Span]:
    """Lines, the blank ones with those before."""
    spans: list[Span] = []
    for start, end in lines:
        if spans and not text[start:end].strip():
            spans[-1] = (spans[-1][0], end)
        else:
            spans.append((start, end))
    return spans


def _whole(lines: Sequence[Span]) -> Span:
    return lines[0][0], lines[-1][1]


def _level(text: str, line: Span) -> int:
    match = _HEADING.match(text, *line)
    return len(match[1]) if match else 0


def _joined(text: str, kept: Sequence[_Passage]) -> str:
    """What is kept, with a word for each gap."""
    pieces: list[str] = []
    at = 0
    for passage in kept:
        start, end = passage.span
        if text[at:start].strip():
            pieces += [GAP, text[start:end]]
        elif pieces:
            pieces[-1] += text[at:end]
        else:
            pieces.append(text[at:end])
        at = end
    if text[at:].strip():
        pieces.append(GAP)
    return "\n".join(piece.strip("\r\n") if place else piece.rstrip() for place, piece in enumerate(pieces))


# --- scores ----------------------------------------------------------------------------------------------------------


def _scores(text: str, parts: Sequence[_Passage], question: str) -> list[float]:
    """BM25 of each passage; 0 for what cannot be chosen."""
    wanted = {term for word in _WORD.findall(_plain(question)) if word not in EMPTY_WORDS for term in _terms(word)}
    begins = {term[:PREFIX] for term in wanted if term.endswith("*")}
    bags: list[Counter[str]] = []
    lengths: list[int] = []
    for part in parts:
        words = _WORD.findall(_plain(text[slice(*part.span)]))
        bag: Counter[str] = Counter() if part.lead is None else bags[part.lead].copy()
        for word in words:
            if word in wanted or word[:PREFIX] in begins or not word.isascii():
                bag.update(term for term in _terms(word) if term in wanted)
        bags.append(bag)
        lengths.append(len(words) + (0 if part.lead is None else lengths[part.lead]))
    chosen = [place for place, part in enumerate(parts) if part.counts]
    within = Counter(term for place in chosen for term in bags[place])
    count, mean = len(chosen), sum(lengths[place] for place in chosen) / max(1, len(chosen)) or 1.0
    weights = {term: math.log(1 + (count - held + 0.5) / (held + 0.5)) for term, held in within.items()}

    def score(bag: Counter[str], length: int) -> float:
        norm = K1 * (1 - B + B * length / mean)
        return math.fsum(weights[term] * times * (K1 + 1) / (times + norm) for term, times in bag.items())

    return [score(bags[at], lengths[at]) if part.counts else 0.0 for at, part in enumerate(parts)]


def _plain(text: str) -> str:
    return normalize("NFKC", text).casefold()


def _terms(word: str) -> list[str]:
    """A word and its beginning; of a script without spaces its letters in pairs."""
    if word.isascii() or not _UNSPACED.search(word):
        return [word, f"{word[:PREFIX]}*"] if len(word) >= PREFIX and word.isalpha() else [word]
    runs = _UNSPACED.findall(word)
    pairs = [run[at : at + 2] for run in runs for at in range(max(1, len(run) - 1))]
    return [*pairs, *(term for rest in _UNSPACED.split(word) if rest for term in _terms(rest))]
