"""Which marks a prompt gets: by what was seen of its beginnings, and never against what was seen."""

from collections import deque
from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st
from langchain_core.messages import HumanMessage, SystemMessage

from langchain_finops.levers.cache_plans import NOTHING, Plan, plan
from langchain_finops.levers.seen_prefixes import NEVER_S, Seen, SeenPrefixes, Step, Uses
from langchain_finops.pricing.cache_terms import CacheTerms


def cache(name: str, ttl_s: int, write: str) -> CacheTerms:
    """A cache of a model whose input costs $1 a token, of which 1,000 are the least that is cached."""
    return CacheTerms(
        name=name,
        kind="explicit",
        ttl_s=ttl_s,
        least_tokens=1_000,
        input_usd=Decimal(1),
        write_usd=Decimal(write),
        read_usd=Decimal("0.1"),
    )


CACHES = (cache("5m", 300, "1.25"), cache("1h", 3_600, "2"))


def seen(
    *steps: Step, tools: tuple[int, list[float]] | None = None, system: tuple[int, list[float]] | None = None
) -> Seen:
    """What was seen: tokens of a beginning, and the gaps between its uses."""
    uses = [None if each is None else Uses(each[0], deque(each[1])) for each in (tools, system)]
    return Seen(tools=uses[0], system=uses[1], steps=steps or (Step(10, 0, NEVER_S),), _live=(), _at_s=0)


def test_a_beginning_that_was_not_seen_again_is_not_marked() -> None:
    assert plan(CACHES, seen(system=(5_000, []))) is NOTHING
    assert plan((), seen(system=(5_000, [1, 1, 1]))) is NOTHING


def test_of_two_caches_the_one_that_would_have_cost_less_is_taken() -> None:
    """Gaps of 10, 10 and 1,000 s. Five minutes: two written, two read, 2.7. An hour: one written, three read, 2.3.
    Without the long gap: 1.25 + 2 x 0.1 against 2 + 2 x 0.1."""
    assert plan(CACHES, seen(system=(5_000, [10, 10, 1_000]))) == Plan(system="1h")
    assert plan(CACHES, seen(system=(5_000, [10, 10]))) == Plan(system="5m")


def test_a_beginning_that_is_too_short_is_a_part_of_the_next() -> None:
    """Tools of 400 tokens have no mark of their own; with the system message they are 1,200."""
    both = seen(tools=(400, [10, 10]), system=(1_200, [10, 10]))
    assert plan(CACHES, both) == Plan(system="5m")
    assert plan(CACHES, seen(tools=(400, [10, 10]), system=(999, [10, 10]))) is NOTHING


def test_a_short_prompt_is_marked_as_a_whole_once_it_has_grown() -> None:
    """Nothing but messages, of which 1,100, then 2,000 tokens were sent: 1,100 are read, 2,000 written in all, and that
    is 2,610 against 3,100."""
    grown = (Step(1_100, 0, NEVER_S), Step(2_000, 1_100, 5))
    assert plan(CACHES, seen(*grown)) == Plan(messages="5m")
    assert plan(CACHES, seen(Step(400, 0, NEVER_S), Step(900, 400, 5))) is NOTHING


def test_a_prompt_below_the_least_was_not_written_and_cannot_be_read() -> None:
    """900 tokens before 1,800 of which 1,000 is the least: no cache ever holds them, and conversations that end there
    would pay a quarter more for the 1,800, for ever. One step further 1,800 are read, of 2,700 that are written in all:
    2,700 x 1.25 + 1,800 x 0.1 is less than 4,500. With a head of 200 tokens before them the first is long enough."""
    short = [Step(900, 0, NEVER_S), Step(1_800, 900, 5)]
    assert plan(CACHES, seen(*short * 20)) is NOTHING
    assert plan(CACHES, seen(*short, Step(2_700, 1_800, 5))) == Plan(messages="5m")
    assert plan(CACHES, seen(*short, system=(200, [NEVER_S]))) == Plan(messages="5m")


def test_what_ended_20_blocks_ago_is_not_found() -> None:
    """Ten calls and ten results a step: a mark at the end finds nothing, and would have all written again at each step.
    The head has a mark of its own, which finds it. 19 blocks are found: the marked one is the first of the 20."""
    far, near = (
        [Step(2_000 * at, 2_000 * (at - 1), 5 if at > 1 else NEVER_S, blocks) for at in range(1, 7)]
        for blocks in (20, 19)
    )
    assert plan(CACHES, seen(*far)) is NOTHING
    assert plan(CACHES, seen(*far, system=(2_000, [5] * 6))) == Plan(system="5m")
    assert plan(CACHES, seen(*near)) == Plan(messages="5m")


def test_prompts_below_the_least_cost_nothing() -> None:
    """Twenty short prompts are sent as they are whatever is marked: they do not count against those that are cached."""
    short = [Step(900, 0, NEVER_S)] * 20
    assert plan(CACHES, seen(*short, Step(2_000, 0, NEVER_S), Step(2_400, 2_000, 5))) == Plan(messages="5m")


def test_a_mark_never_lives_longer_than_one_before_it() -> None:
    """The conversation came again after 600 s each time, and tools and system message in between: five minutes would do
    for them alone, but an hour behind five minutes is an error, and the whole for an hour costs least."""
    steps = [Step(10_000 + at, 10_000 + at - 1 if at else 0, 600 if at else NEVER_S) for at in range(6)]
    chosen = plan(CACHES, seen(*steps, tools=(2_000, [1.0] * 12), system=(4_000, [1.0] * 12)))

    assert chosen == Plan(tools="1h", system="1h", messages="1h")


def test_a_beginning_that_loses_is_marked_where_what_follows_gains_more() -> None:
    """A mark caches all that stands before it: the sum decides, and here the messages gain it all."""
    steps = [Step(50_000 + at, 50_000 + at - 1 if at else 0, 5 if at else NEVER_S) for at in range(4)]
    chosen = plan(CACHES, seen(*steps, system=(1_000, [NEVER_S] * 3)))

    assert chosen == Plan(system="5m", messages="5m")


def test_expected_uses_count_until_as_many_were_seen() -> None:
    """Three more in time at first; of four gaps that were all too long none is missing, nor of four prompts that none
    went on from: the system message that does come again keeps its mark."""
    alone = [Step(2_000, 0, NEVER_S)] * 4
    assert plan(CACHES, seen(system=(5_000, [])), expected_uses=3) == Plan(system="5m", messages="5m")
    assert plan(CACHES, seen(*alone, system=(5_000, [NEVER_S] * 4)), expected_uses=3) is NOTHING
    assert plan(CACHES, seen(*alone, system=(5_000, [10] * 4)), expected_uses=3) == Plan(system="5m")


def test_what_was_seen_of_a_prompt_stays_as_it_was_whatever_other_threads_send() -> None:
    """It is read without the lock, while others count the same beginnings up: a copy of them."""
    prefixes = SeenPrefixes(lambda: 1.0)
    noted = [prefixes.note(["m"], [{"name": "look"}], SystemMessage("Look."), [HumanMessage("?")]) for _ in range(3)]

    assert [len(each.tools.gaps_s) for each in noted if each.tools] == [0, 1, 2]
    assert [len(each.system.gaps_s) for each in noted if each.system] == [0, 1, 2]
    prefixes.answered(noted[0])
    again = prefixes.note(["m"], [{"name": "look"}], SystemMessage("Look."), [HumanMessage("?")])
    assert again.system is not None
    assert list(again.system.gaps_s) == [NEVER_S, NEVER_S, 0]


GAPS = st.lists(st.sampled_from([1.0, 299.0, 300.0, 1_800.0, 3_600.0, NEVER_S]), max_size=12)


@given(tools=GAPS, system=GAPS, growth=st.lists(st.sampled_from([1.0, 400.0, NEVER_S]), max_size=8))
def test_the_marks_would_have_saved_something_and_stand_in_the_order_that_providers_take(
    tools: list[float], system: list[float], growth: list[float]
) -> None:
    """Whatever was seen: played again with its own marks, it costs less than without any, by a reckoning of its own."""
    steps = [Step(1_000, 0, NEVER_S)]
    for gap in growth:
        steps.append(Step(steps[-1].tokens + 500, steps[-1].tokens, gap))
    chosen = plan(CACHES, seen(*steps, tools=(2_000, tools), system=(5_000, system)))
    order = [{"5m": 1, "1h": 2}.get(name or "", 0) for name in (chosen.tools, chosen.system, chosen.messages)]

    saved = 0.0
    prices = {"5m": (300, 1.25), "1h": (3_600, 2.0)}
    for name, tokens, gaps in ((chosen.tools, 2_000, tools), (chosen.system, 3_000, system)):
        if name is not None:
            ttl, write = prices[name]
            for gap in [NEVER_S, *gaps]:
                saved += tokens * (1 - (0.1 if gap < ttl else write))
    if chosen.messages is not None:
        ttl, write = prices[chosen.messages]
        for step in steps:
            read = step.tokens_before if step.gap_s < ttl else 0
            saved += step.tokens - 0.1 * read - write * (step.tokens - read)

    assert order == sorted(order, reverse=True)
    assert bool(chosen) == (saved > 0)
