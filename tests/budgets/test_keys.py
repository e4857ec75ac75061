"""Keys of balances: who shares one, who never does, and what a key says when it is read back."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise, permutations
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from langchain_finops.budgets.keys import applies, balance_keys, breadth, is_local, parse_key
from langchain_finops.budgets.policy import Budget
from langchain_finops.budgets.scopes import SCOPES
from langchain_finops.budgets.windows import window
from langchain_finops.errors import BadArguments
from langchain_finops.records import Attribution

NOON = datetime(2026, 11, 26, 12, tzinfo=UTC)
WHO = Attribution(
    agent_id="support",
    user_id="u-7",
    task_id="t-42",
    thread_id="th-1",
    customer_id="acme",
    project="atlas",
    node="search",
    node_path="researcher/search",
    tags={"team": "cx"},
)


def keys(budget: Budget, who: Attribution = WHO, at: datetime = NOON, run_id: str = "r-1") -> tuple[str, ...]:
    (limit,) = budget.limits()
    return balance_keys(limit, who, at, run_id=run_id)


@pytest.mark.parametrize(
    ("budget", "expected"),
    [
        (Budget(usd=1), ["usd run=r-1"]),
        (Budget(usd=1, scope="all"), ["usd all"]),
        (Budget(usd=1, per="day"), ["usd/day all @2026-11-26T00:00:00Z"]),
        (Budget(steps=1, scope="thread_id"), ["steps thread_id=th-1"]),
        (Budget(usd=1, per="day", scope="agent_id"), ["usd/day agent_id=support @2026-11-26T00:00:00Z"]),
        (Budget(usd=1, per="hour", scope="run"), ["usd/hour run=r-1 @2026-11-26T12:00:00Z"]),
        (Budget(tokens=1, per="30m", scope="tag:team"), ["tokens/30m tag:team=cx @2026-11-26T12:00:00Z"]),
        (Budget(usd=1, scope="node"), ["usd node=researcher run=r-1", "usd node=search run=r-1"]),
        (
            Budget(usd=1, scope="node", per="week"),
            ["usd/week node=researcher @2026-11-23T00:00:00Z", "usd/week node=search @2026-11-23T00:00:00Z"],
        ),
        (
            Budget(usd=1, per="day", time_zone="Europe/Berlin", scope="user_id", match={"role": "agent"}, name="a b"),
            ["usd/day user_id=u-7 @2026-11-25T23:00:00Z zone=Europe/Berlin match:role=agent name=a%20b"],
        ),
    ],
)
def test_a_key_can_be_read_by_a_person(budget: Budget, expected: list[str]) -> None:
    """Unit and window, whose it is, when the window began, and what else tells it from others."""
    assert list(keys(budget)) == expected


def test_equal_unit_window_scope_match_and_name_share_one_balance() -> None:
    """The limit, and what each handler does at it, are no part of the key."""
    one = Budget(usd=1, per="day", scope="agent_id", match={"role": "agent", "node": "search"}, name="x")
    other = Budget(
        usd=2,
        per="24h",
        scope="agent_id",
        match={"node": "search", "role": "agent"},
        name="x",
        on_exceed="drain",
        warn_at=(),
        fail_closed=True,
        unpriced="estimate",
        expected_output_tokens=5,
        admission="strict",
        reach="host",
    )

    assert keys(one) == keys(other)


def test_whatever_else_differs_has_another_balance() -> None:
    """Unit, window, scope, match, name, time zone, run, agent, and the time."""
    base = Budget(usd=1, per="day", scope="agent_id")
    all_keys = [
        keys(base),
        keys(Budget(tokens=1, per="day", scope="agent_id")),
        keys(Budget(usd=1, per="week", scope="agent_id")),
        keys(Budget(usd=1, scope="agent_id")),
        keys(Budget(usd=1, per="day", scope="user_id")),
        keys(Budget(usd=1, per="day", scope="all")),
        keys(Budget(usd=1, per="day", scope="agent_id", match={"node": "search"})),
        keys(Budget(usd=1, per="day", scope="agent_id", match={"node": "researcher"})),
        keys(Budget(usd=1, per="day", scope="agent_id", name="x")),
        # London's and UTC's day of this date are the same, those in summer are not: they never share.
        keys(Budget(usd=1, per="day", scope="agent_id", time_zone="Europe/London")),
        keys(base, who=Attribution(agent_id="sales")),
        keys(base, at=NOON + timedelta(days=1)),
        keys(Budget(usd=1)),
        keys(Budget(usd=1), run_id="r-2"),
        keys(Budget(usd=1, scope="node")),
        keys(Budget(usd=1, scope="node"), run_id="r-2"),
        keys(Budget(usd=1, scope="node"), who=Attribution(node_path="writer")),
    ]

    assert len({key for some in all_keys for key in some}) == sum(map(len, all_keys))


def test_one_window_has_one_key_and_the_next_another() -> None:
    """Up to its last microsecond."""
    budget = Budget(usd=1, per="hour")
    last = NOON.replace(minute=59, second=59, microsecond=999_999)

    assert keys(budget) == keys(budget, at=last) != keys(budget, at=last + timedelta(microseconds=1))


def test_hours_that_come_twice_have_two_balances() -> None:
    """02:30 in Berlin, before and after the clocks went back."""
    budget = Budget(usd=1, per="hour", time_zone="Europe/Berlin")
    first = datetime(2026, 10, 25, 2, 30, tzinfo=ZoneInfo("Europe/Berlin"))

    assert keys(budget, at=first) == ("usd/hour all @2026-10-25T00:00:00Z zone=Europe/Berlin",)
    assert keys(budget, at=first.replace(fold=1)) == ("usd/hour all @2026-10-25T01:00:00Z zone=Europe/Berlin",)


def test_a_time_without_a_zone_is_refused() -> None:
    """It would be read as the machine's own time."""
    with pytest.raises(BadArguments, match="no time zone"):
        keys(Budget(usd=1, per="day"), at=datetime.fromisoformat("2026-11-26"))


@pytest.mark.parametrize("scope", ["agent_id", "user_id", "customer_id", "project", "tag:team"])
def test_calls_that_do_not_say_whose_they_are_share_one_balance(scope: str) -> None:
    """Leaving an id out is no way around a limit; and no id that can be given is taken for it."""
    budget = Budget(usd=1, scope=scope)
    unknown = keys(budget, who=Attribution(), run_id="r-1")

    assert unknown == keys(budget, who=Attribution(), run_id="r-2") == (f"usd {scope}",)
    assert parse_key(unknown[0]).value is None
    for name in ("", "None", "unknown"):
        said = Attribution(agent_id=name, user_id=name, customer_id=name, project=name, tags={"team": name})
        assert keys(budget, who=said) != unknown


@pytest.mark.parametrize("scope", ["thread_id", "task_id"])
def test_a_run_without_a_thread_or_task_is_one_of_its_own(scope: str) -> None:
    """Else all such runs would share one whole life, and all be refused when it is spent."""
    budget = Budget(usd=1, scope=scope)

    assert keys(budget, who=Attribution()) == (f"usd {scope} run=r-1",)
    assert keys(budget, who=Attribution(), run_id="r-2") != keys(budget, who=Attribution())
    assert parse_key(f"usd {scope} run=r-1").run_id == "r-1"


def test_calls_outside_a_graph_count_as_one_node() -> None:
    """Of the run, or of all runs within a window."""
    assert keys(Budget(usd=1, scope="node"), who=Attribution()) == ("usd node run=r-1",)
    assert keys(Budget(usd=1, scope="node", per="day"), who=Attribution()) == ("usd/day node @2026-11-26T00:00:00Z",)


def test_a_node_that_a_path_goes_through_twice_is_charged_once() -> None:
    """A subgraph may have a node that is called like the one it is in."""
    assert keys(Budget(usd=1, scope="node"), who=Attribution(node_path="a/b/a")) == (
        "usd node=a run=r-1",
        "usd node=b run=r-1",
    )


TEXTS = st.text(min_size=1, max_size=12) | st.text(st.sampled_from("a %=@|:/*\n\x00é\ud800😀"), min_size=1, max_size=6)
BUDGETS = st.builds(
    Budget,
    usd=st.just(1),
    per=st.sampled_from([None, "hour", "day", "30m"]),
    scope=st.sampled_from(SCOPES) | TEXTS.map(lambda name: f"tag:{name}"),
    match=st.dictionaries(
        st.sampled_from(["node", "user_id"]) | TEXTS.map(lambda name: f"tag:{name}"), TEXTS, max_size=2
    ),
    name=st.none() | TEXTS.filter(str.strip),
    time_zone=st.sampled_from(["UTC", "Asia/Kathmandu"]),
)


def who_of(values: list[str | None], budgets: list[Budget]) -> Attribution:
    names = ("agent_id", "user_id", "task_id", "thread_id", "customer_id", "project")
    tags = {budget.scope.removeprefix("tag:"): values[6] for budget in budgets if values[6] is not None}
    path = values[7] if values[7] is None else values[7].replace("/", "")
    return Attribution(**dict(zip(names, values, strict=False)), tags=tags, node_path=path or None)


def facts(budget: Budget, who: Attribution, run_id: str) -> tuple[object, ...]:
    """What tells balances apart, said without a key."""
    scope = budget.scope
    value = who.node_path if scope == "node" else who.tags.get(scope[4:]) if scope[:4] == "tag:" else None
    if scope not in {"all", "run", "node"} and scope[:4] != "tag:":
        value = getattr(who, scope)
    own = scope == "run" or is_local(budget) or (scope in {"thread_id", "task_id"} and value is None)
    zone = budget.time_zone if budget.per else None
    return budget.per, scope, value, run_id if own else None, budget.match, budget.name, zone


@given(
    budgets=st.lists(BUDGETS, min_size=2, max_size=2),
    values=st.lists(st.lists(st.none() | TEXTS, min_size=8, max_size=8), min_size=2, max_size=2),
    runs=st.lists(TEXTS, min_size=2, max_size=2),
)
def test_two_keys_are_equal_only_where_all_they_say_is(
    budgets: list[Budget], values: list[list[str | None]], runs: list[str]
) -> None:
    """Whatever characters ids have: blanks, equals signs, newlines, halves of surrogate pairs."""
    whos = [who_of(some, budgets) for some in values]
    (one,), (other,) = (keys(budget, who, run_id=run) for budget, who, run in zip(budgets, whos, runs, strict=True))
    said = [facts(budget, who, run) for budget, who, run in zip(budgets, whos, runs, strict=True)]

    assert (one == other) == (said[0] == said[1])


@given(budget=BUDGETS, values=st.lists(st.none() | TEXTS, min_size=8, max_size=8), run_id=TEXTS)
def test_a_key_reads_back(budget: Budget, values: list[str | None], run_id: str) -> None:
    """Everything it says, exactly; and it is a line of ASCII that every database can keep."""
    who = who_of(values, [budget])
    (key,) = keys(budget, who, run_id=run_id)
    parts = parse_key(key)

    per, scope, value, run, match, name, zone = facts(budget, who, run_id)
    assert (parts.unit, parts.per, parts.scope, parts.value, parts.run_id) == ("usd", per, scope, value, run)
    assert (parts.match, parts.name, parts.time_zone) == (match, name, zone or "UTC")
    expected = (None, None) if budget.per is None else window(budget.per, NOON, budget.time_zone)
    assert (parts.start, parts.ends_at()) == expected
    assert key.isascii()
    assert key.isprintable()


@pytest.mark.parametrize("letter", ["x", "é", "😀", "=", "x="])
def test_ids_of_any_length_make_keys_that_databases_can_index(letter: str) -> None:
    """A long id is cut, a hash of all of it stays: two that begin alike have two balances."""
    budget = Budget(usd=1, scope="user_id")
    one, other = (keys(budget, who=Attribution(user_id=letter * 5_000 + end))[0] for end in ("1", "2"))

    assert one != other
    assert len(one) < 300
    value = parse_key(one).value
    assert value is not None
    assert value.startswith(letter * 5)
    assert value.endswith("...")
    assert "%" not in value  # No escape is cut in two.


def test_a_short_id_is_never_taken_for_a_long_one() -> None:
    """Not even one that is what a long one was cut to."""
    budget = Budget(usd=1, scope="user_id")
    (long,) = keys(budget, who=Attribution(user_id="x" * 5_000))

    assert keys(budget, who=Attribution(user_id=long.removeprefix("usd user_id="))) != (long,)


@pytest.mark.parametrize(
    "key",
    ["", "usd", "euro all", "usd all x", "usd all @yesterday", "usd/day all @2026-13-01T00:00:00Z", "usd all  name=x"],
)
def test_what_is_no_key_is_told(key: str) -> None:
    """A ledger may hold balances of others."""
    with pytest.raises(BadArguments, match="is no balance's key"):
        parse_key(key)


@pytest.mark.parametrize(
    ("match", "fits"),
    [
        ({}, True),
        ({"agent_id": "support"}, True),
        ({"agent_id": "sales"}, False),
        ({"agent_id": "supp"}, False),
        ({"agent_id": "support", "user_id": "u-7"}, True),
        ({"agent_id": "support", "user_id": "u-8"}, False),
        ({"environment": "production"}, False),  # Not said, so not equal.
        ({"role": "agent"}, True),
        ({"tag:team": "cx"}, True),
        ({"tag:team": "eu"}, False),
        ({"tag:region": "cx"}, False),
        ({"node": "search"}, True),
        ({"node": "researcher"}, True),
        ({"node": "sear"}, False),
        ({"node": "researcher/search"}, False),
        ({"node_path": "researcher"}, True),
        ({"node_path": "researcher/search"}, True),
        ({"node_path": "research"}, False),
        ({"node_path": "search"}, False),
        ({"node_path": "researcher/search/deep"}, False),
    ],
)
def test_a_budget_is_for_calls_that_match(match: dict[str, str], fits: bool) -> None:
    """Values are equal; a node is any of the path, a node path is the path or what it lies under."""
    assert applies(Budget(usd=1, match=match), WHO) is fits


def test_outside_a_graph_no_node_matches() -> None:
    """There is none."""
    assert not applies(Budget(usd=1, match={"node": "search"}), Attribution())
    assert not applies(Budget(usd=1, match={"node_path": "search"}), Attribution())


@pytest.mark.parametrize(
    ("budget", "local"),
    [
        (Budget(usd=1), True),
        (Budget(usd=1, scope="node"), True),
        (Budget(usd=1, scope="run", per="hour"), False),
        (Budget(usd=1, scope="node", per="day"), False),
        (Budget(usd=1, scope="thread_id"), False),
        (Budget(usd=1, scope="all"), False),
    ],
)
def test_a_balance_is_local_where_it_is_of_one_run(budget: Budget, local: bool) -> None:
    """Then it needs no ledger: a run is in one process at a time."""
    assert is_local(budget) is local


def test_budgets_are_sorted_outermost_first() -> None:
    """All, customers and projects, agents and users, runs, nodes; then the longer window; then the wider match."""
    ordered = [
        Budget(usd=1, scope="all"),
        Budget(usd=1, scope="all", per="year"),
        Budget(usd=1, scope="all", per="day"),
        Budget(usd=1, scope="all", per="30m"),
        Budget(usd=1, scope="customer_id"),
        Budget(usd=1, scope="project", per="day"),
        Budget(usd=1, scope="agent_id"),
        Budget(usd=1, scope="user_id", per="week"),
        Budget(usd=2, scope="tag:team", per="day"),
        Budget(usd=1, scope="tag:team", per="day", match={"node": "a"}),
        Budget(usd=1, scope="run"),
        Budget(usd=1, scope="run", per="hour"),
        Budget(usd=1, scope="node"),
        Budget(usd=1, scope="node", per="day"),
    ]

    assert all(breadth(outer) < breadth(inner) for outer, inner in pairwise(ordered))


def test_the_order_is_the_same_for_every_handler() -> None:
    """Whatever order they were given in: what locks in another order may lock for ever."""
    budgets = [Budget(usd=1, scope="agent_id"), Budget(usd=1, scope="user_id"), Budget(usd=1, scope="tag:a")]

    assert len({tuple(sorted(some, key=breadth)) for some in permutations(budgets)}) == 1
