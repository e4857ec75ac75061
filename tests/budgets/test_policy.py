"""Budgets: what can be said, in arguments and in one line, and what is refused at construction."""

import math
import pickle
from dataclasses import FrozenInstanceError, replace
from decimal import Decimal
from fractions import Fraction
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from langchain_finops.budgets.policy import Budget
from langchain_finops.budgets.refusal import Refusal
from langchain_finops.budgets.scopes import MATCHED, SCOPES
from langchain_finops.budgets.units import UNITS, in_units, say, smallest
from langchain_finops.budgets.windows import PERIODS, per_of
from langchain_finops.errors import BadArguments


def test_a_budget_says_what_it_was_given() -> None:
    """Every argument is kept, exactly; a float is read as it is written."""
    budget = Budget(
        usd=0.1,
        tokens=1e6,
        llm_calls=3,
        tool_calls=Decimal(4),
        steps="10",
        seconds=0.5,
        per="24h",
        scope="tag:team",
        match={"role": "agent", "node": "researcher"},
        on_exceed="interrupt",
        warn_at=[0.9, 0.5, 0.9],
        admission="expected",
        expected_output_tokens=200,
        fail_closed=True,
        unpriced="estimate",
        reach="fleet",
        name="team's",
        time_zone="Europe/Berlin",
    )

    assert (budget.usd, budget.tokens, budget.llm_calls) == (Decimal("0.1"), 1_000_000, 3)
    assert (budget.tool_calls, budget.steps, budget.seconds) == (4, 10, Decimal("0.5"))
    assert (budget.per, budget.scope, budget.on_exceed, budget.warn_at) == ("day", "tag:team", "interrupt", (0.5, 0.9))
    assert budget.match == (("node", "researcher"), ("role", "agent"))
    assert (budget.admission, budget.expected_output_tokens, budget.fail_closed) == ("expected", 200, True)
    assert (budget.unpriced, budget.reach, budget.name) == ("estimate", "fleet", "team's")
    assert budget.time_zone == "Europe/Berlin"


def test_the_defaults_are_careful_and_quiet() -> None:
    """A run's own balance, a raise at the limit, two warnings, and no price means no call."""
    budget = Budget(usd=1)

    assert (budget.per, budget.scope, budget.match, budget.name, budget.reach) == (None, "run", (), None, None)
    assert (budget.on_exceed, budget.warn_at, budget.admission) == ("raise", (0.5, 0.8), "expected")
    assert (budget.fail_closed, budget.unpriced, budget.time_zone) == (False, "refuse", "UTC")


def test_a_window_without_a_scope_is_for_all() -> None:
    """`Budget(usd=20, per="day")` is twenty dollars a day, and not for each run in a day."""
    assert Budget(usd=20, per="day").scope == "all"
    assert Budget(usd=20, per="day", scope="run").scope == "run"


def test_each_limit_of_a_budget_is_a_balance_of_its_own() -> None:
    """In the unit's smallest part: picodollars, microseconds, or whole ones."""
    budget = Budget(usd="0.035", tokens=5, llm_calls=6, tool_calls=7, steps=8, seconds=Decimal("1.5"))

    assert [(limit.unit, limit.amount) for limit in budget.limits()] == [
        ("usd", 35_000_000_000),
        ("tokens", 5),
        ("llm_calls", 6),
        ("tool_calls", 7),
        ("steps", 8),
        ("seconds", 1_500_000),
    ]
    assert all(limit.budget is budget for limit in budget.limits())


def test_warnings_are_exact_amounts() -> None:
    """80% of a limit, and not but for a float's error; 10% is half a picodollar, rounded up."""
    (limit,) = Budget(usd="1000000000000.000000000005", warn_at=(0.8, 0.1)).limits()

    assert limit.warnings() == (100_000_000_000_000_000_000_001, 800_000_000_000_000_000_000_004)
    assert Budget(steps=3, warn_at=()).limits()[0].warnings() == ()


def test_a_warning_is_never_at_nothing() -> None:
    """Half of one step is the first step."""
    assert Budget(steps=1, warn_at=(0.5,)).limits()[0].warnings() == (1,)
    assert Budget(steps=5, warn_at=(0.5, 0.8)).limits()[0].warnings() == (3, 4)


def test_a_limit_finer_than_what_is_kept_is_rounded() -> None:
    """Sums of floats carry digits that nobody meant."""
    assert Budget(usd=0.1 + 0.2) == Budget(usd="0.3")
    assert Budget(seconds=1 / 3).seconds == Decimal("0.333333")


def test_equal_budgets_are_equal_however_they_are_written() -> None:
    """They hash alike, too, and survive a pickle: they ride to other processes."""
    one = Budget(usd=0.50, per="1h", scope="agent_id", match={"node": "a", "role": "agent"}, warn_at=0.5)
    same = Budget(
        usd="0.5", per="hour", scope="agent_id", match=(("role", "agent"), ("node", "a")), warn_at=[Decimal("0.5")]
    )

    assert one == same
    assert hash(one) == hash(same)
    assert pickle.loads(pickle.dumps(one)) == one
    assert replace(one, usd=2) == Budget(usd=2, per="hour", scope="agent_id", match=one.match, warn_at=0.5)
    assert one != replace(one, warn_at=0.6)


def test_a_budget_cannot_be_changed() -> None:
    """Its limits are in force in several threads at once."""
    with pytest.raises(FrozenInstanceError):
        Budget(usd=1).usd = Decimal(2)  # type: ignore[misc]


def test_ids_to_match_may_be_numbers_and_uuids() -> None:
    """As in the metadata, where they become text."""
    some_id = UUID(int=7)

    assert Budget(usd=1, match={"user_id": 7, "task_id": some_id}).match == (  # type: ignore[dict-item]
        ("task_id", "00000000-0000-0000-0000-000000000007"),
        ("user_id", "7"),
    )


def test_a_function_may_decide_what_happens_at_the_limit() -> None:
    """It is kept as it is."""

    def decide(refusal: Refusal) -> str:
        return "warn"

    assert Budget(usd=1, on_exceed=decide).on_exceed is decide  # type: ignore[arg-type]


def test_a_time_zone_may_be_one() -> None:
    """By name or as zoneinfo has it."""
    assert Budget(usd=1, time_zone=ZoneInfo("Asia/Tokyo")).time_zone == "Asia/Tokyo"  # type: ignore[arg-type]


FAULTS = [
    ({}, "no limit: give at least one of usd, tokens, llm_calls, tool_calls, steps, seconds"),
    ({"usd": 0}, "usd: must be more than 0, not 0"),
    ({"usd": -0.5}, "usd: must be more than 0, not -0.5"),
    ({"usd": math.nan}, "usd: must be a finite number, not nan"),
    ({"usd": math.inf}, "usd: must be a finite number, not inf"),
    ({"usd": Decimal("-Infinity")}, r"usd: must be a finite number, not Decimal\('-Infinity'\)"),
    ({"usd": True}, "usd: must be a finite number, not True"),
    ({"usd": "a dollar"}, "usd: must be a finite number, not 'a dollar'"),
    ({"usd": [1]}, r"usd: must be a finite number, not \[1\]"),
    ({"usd": Fraction(1, 3)}, r"usd: must be a finite number, not Fraction\(1, 3\)"),
    ({"usd": 1e-13}, r"usd: must be at least \$0.000000000001, not 1e-13"),
    ({"usd": "1e30"}, "usd: must be a finite number"),
    ({"tokens": 0}, "tokens: must be more than 0, not 0"),
    ({"tokens": 0.5}, "tokens: must be a whole number, not 0.5"),
    ({"llm_calls": 1.5}, "llm_calls: must be a whole number, not 1.5"),
    ({"tool_calls": False}, "tool_calls: must be a finite number, not False"),
    ({"steps": "2.5"}, "steps: must be a whole number, not 2.5"),
    ({"seconds": 0}, "seconds: must be more than 0, not 0"),
    ({"seconds": 1e-7}, "seconds: must be at least 0.000001 seconds, not 1e-07"),
    ({"steps": 1, "per": "dayly"}, "per: 'dayly' is no window: there are hour, day, week, month, quarter, year, and"),
    ({"steps": 1, "per": "400d"}, "per: '400d' is no window: a length is between 1s and 366d"),
    ({"steps": 1, "per": 3600}, "per: '3600' is no window"),
    ({"steps": 1, "scope": "agent"}, "scope: must be one of all, customer_id, .*, node, tag:NAME, not 'agent'"),
    ({"steps": 1, "scope": "tag:"}, "scope: must be one of .*, not 'tag:'"),
    ({"steps": 1, "scope": 1}, "scope: must be one of .*, not 1"),
    ({"steps": 1, "match": {"step": "1"}}, "match: knows no 'step', but agent_id, .*, tag:NAME"),
    ({"steps": 1, "match": {"node": ["a", "b"]}}, r"match: node must equal one text, not \['a', 'b'\]"),
    ({"steps": 1, "match": {"node": ""}}, "match: node must equal one text, not ''"),
    ({"steps": 1, "match": {"node": None}}, "match: node must equal one text, not None"),
    ({"steps": 1, "match": {"node": True}}, "match: node must equal one text, not True"),
    ({"steps": 1, "match": "node"}, "match: must be a mapping such as {'node': 'researcher'}, not 'node'"),
    ({"steps": 1, "match": 5}, "match: must be a mapping such as {'node': 'researcher'}, not 5"),
    ({"steps": 1, "on_exceed": "stop"}, "on_exceed: must be one of raise, interrupt, drain, warn, or a function"),
    ({"steps": 1, "on_exceed": None}, "on_exceed: must be one of raise, .*, not None"),
    ({"steps": 1, "warn_at": (0.5, 1)}, "warn_at: must be shares of the limit between 0 and 1, such as 0.8, not 1"),
    ({"steps": 1, "warn_at": 0}, "warn_at: .*, not 0"),
    ({"steps": 1, "warn_at": math.nan}, "warn_at: .*, not nan"),
    ({"steps": 1, "warn_at": True}, "warn_at: .*, not True"),
    ({"steps": 1, "warn_at": "80%"}, "warn_at: .*, not '80%'"),
    ({"steps": 1, "admission": "loose"}, "admission: must be one of expected, strict, not 'loose'"),
    ({"steps": 1, "expected_output_tokens": 0}, "expected_output_tokens: must be a whole number of at least 1, not 0"),
    ({"steps": 1, "expected_output_tokens": 1.5}, "expected_output_tokens: must be a whole number"),
    ({"steps": 1, "fail_closed": "no"}, "fail_closed: must be True or False, not 'no'"),
    ({"steps": 1, "fail_closed": 1}, "fail_closed: must be True or False, not 1"),
    ({"steps": 1, "unpriced": "allow"}, "unpriced: must be one of refuse, estimate, not 'allow'"),
    ({"steps": 1, "reach": "world"}, "reach: must be one of process, host, fleet or None, not 'world'"),
    ({"steps": 1, "name": " "}, "name: must be a text, not ' '"),
    ({"steps": 1, "name": 7}, "name: must be a text, not 7"),
    ({"steps": 1, "time_zone": "Mars"}, "time_zone: 'Mars' is no time zone this machine knows"),
    ({"steps": 1, "time_zone": None}, "time_zone: 'None' is no time zone this machine knows"),
    (
        {"seconds": 1, "admission": "strict"},
        "admission: nothing bounds how long a call takes, so `seconds` must be a budget of its own",
    ),
]


@pytest.mark.parametrize(("arguments", "message"), FAULTS)
def test_what_makes_no_sense_is_refused_at_construction(arguments: dict[str, object], message: str) -> None:
    """The error names the field and what it must be."""
    with pytest.raises(BadArguments, match=f"^Budget: {message}"):
        Budget(**arguments)  # type: ignore[arg-type]


def test_all_faults_are_told_at_once() -> None:
    """One look is enough."""
    with pytest.raises(BadArguments) as caught:
        Budget(usd=-1, steps=1.5, per="dayly", scope="x", match={"a": "1", "node": ""}, warn_at=2, name="")

    named = [part.partition(":")[0] for part in str(caught.value).removeprefix("Budget: ").split("; ")]
    assert named == [
        "usd",
        "steps",
        "per",
        "scope",
        "match",
        "warn_at",
        "name",
    ]
    assert "knows no 'a'" in str(caught.value)
    assert "node must equal" in str(caught.value)


@pytest.mark.parametrize(
    ("text", "budget"),
    [
        ("$0.50", Budget(usd="0.5")),
        ("$0.50 per run", Budget(usd="0.5")),
        ("10 steps", Budget(steps=10)),
        ("1 step", Budget(steps=1)),
        ("3 llm_calls per node", Budget(llm_calls=3, scope="node")),
        ("3 LLM calls per node", Budget(llm_calls=3, scope="node")),
        ("2 tool calls", Budget(tool_calls=2)),
        ("100000 tokens/hour per user_id", Budget(tokens=100_000, per="hour", scope="user_id")),
        ("100,000 tokens per hour per user_id", Budget(tokens=100_000, per="hour", scope="user_id")),
        ("1_000 tokens per user_id per hour", Budget(tokens=1_000, per="hour", scope="user_id")),
        ("$20/day", Budget(usd=20, per="day", scope="all")),
        ("$20/day per agent_id", Budget(usd=20, per="day", scope="agent_id")),
        ("$ 20 / Day  per agent_id ", Budget(usd=20, per="day", scope="agent_id")),
        ("$5/30m per tag:team", Budget(usd=5, per="30m", scope="tag:team")),
        ("$5/30m per tag:Team/EU", Budget(usd=5, per="30m", scope="tag:Team/EU")),
        ("$1 per thread_id", Budget(usd=1, scope="thread_id")),
        ("60 seconds", Budget(seconds=60)),
        (".5 seconds", Budget(seconds="0.5")),
        ("0.50 usd", Budget(usd="0.5")),
        ("$1 and 10 steps per task_id", Budget(usd=1, steps=10, scope="task_id")),
        ("$1 where node=writer", Budget(usd=1, match={"node": "writer"})),
        (
            "$1/day where tag:team=cx, node_path=a/b c",
            Budget(usd=1, per="day", match={"tag:team": "cx", "node_path": "a/b c"}),
        ),
    ],
)
def test_a_budget_can_be_said_in_one_line(text: str, budget: Budget) -> None:
    """What it says is what the arguments would, and its own text says it again."""
    assert Budget.parse(text) == budget
    assert Budget.parse(str(budget)) == budget


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "it has another form"),
        ("20", "'20' is in no unit that there is"),
        ("$20 a day", "'\\$20 a day' is in no unit that there is"),
        ("$5 tokens", "'\\$5 tokens' is in no unit that there is"),
        ("5 bananas", "'5 bananas' is in no unit that there is"),
        ("€5", "'€5' is no amount"),
        ("-$5", "'-\\$5' is no amount"),
        ("$-5", "'\\$-5' is no amount"),
        ("$1e3", "'\\$1e3' is no amount"),
        ("$1 and $2", "usd is limited twice"),
        ("$1/day per week", "day and week are two windows"),
        ("$1 per run per node", "run and node are two scopes"),
        ("$1/day/agent_id", "it has another form"),
        ("$1 per", "is in no unit that there is"),
        ("$1 per run where node", "'node' is no NAME=VALUE"),
        ("$1 per run where node=a, node=b", "node is matched twice"),
    ],
)
def test_a_line_that_says_no_budget_is_told(text: str, fault: str) -> None:
    """The error names what is wrong and all that is understood: amounts, windows and scopes."""
    with pytest.raises(BadArguments, match=fault) as caught:
        Budget.parse(text)

    for word in ("$20/day per agent_id", *UNITS[1:], *PERIODS, *SCOPES, "tag:NAME", "30m"):
        assert word in str(caught.value)


@pytest.mark.parametrize(
    ("text", "fault"), [("$0", "usd: must be more than 0"), ("1.5 steps", "steps: must be a whole number")]
)
def test_a_line_is_held_to_what_arguments_are_held_to(text: str, fault: str) -> None:
    """No budget is made by words that could not be made by arguments."""
    with pytest.raises(BadArguments, match=fault):
        Budget.parse(text)


def test_only_a_text_is_parsed() -> None:
    """A number without a unit would be anything."""
    with pytest.raises(BadArguments, match="a budget's text is a str, not int"):
        Budget.parse(20)  # type: ignore[arg-type]


def test_a_budget_is_called_by_its_name_or_its_text() -> None:
    """Refusals name the budget so that its owner finds it."""
    assert Budget(usd="0.035", per="day", scope="agent_id").label == "$0.035/day per agent_id"
    assert Budget(usd=1, match={"node": "writer", "role": "agent"}).label == "$1 per run where node=writer, role=agent"
    assert Budget(usd=1, name="nightly").label == "nightly"
    assert str(Budget(usd=1, name="nightly")) == "$1 per run"


NAMES = st.text(st.characters(categories=("L", "N", "P")), min_size=1, max_size=8)
AMOUNTS = st.fixed_dictionaries(
    {},
    optional={
        "usd": st.decimals(min_value="0.000000000001", max_value=10**12, places=12),
        "tokens": st.integers(1, 10**24),
        "llm_calls": st.integers(1, 10**6),
        "tool_calls": st.integers(1, 10**6),
        "steps": st.integers(1, 10**6),
        "seconds": st.decimals(min_value="0.000001", max_value=10**6, places=6),
    },
).filter(bool)
SCOPE = st.sampled_from(SCOPES) | NAMES.map(lambda name: f"tag:{name}")
PER = st.none() | st.sampled_from(PERIODS) | st.integers(1, 366 * 86_400).map(lambda seconds: per_of(f"{seconds}s"))
MATCH = st.dictionaries(st.sampled_from(MATCHED), NAMES.filter(lambda value: "," not in value), max_size=3)


@given(amounts=AMOUNTS, per=PER, scope=SCOPE, match=MATCH)
def test_whatever_a_line_can_say_reads_back(amounts: dict, per: str | None, scope: str, match: dict) -> None:
    """All limits to the last digit, all windows, all scopes, and matches without commas and blanks at their ends."""
    budget = Budget(**amounts, per=per, scope=scope, match=match)

    assert Budget.parse(str(budget)) == budget


@given(text=st.text(st.sampled_from("$0123456789. /perdaystokn_where=,and"), max_size=30) | st.text(max_size=30))
def test_any_text_is_a_budget_or_a_fault(text: str) -> None:
    """Never another error; and what was read reads back."""
    try:
        budget = Budget.parse(text)
    except BadArguments:
        return
    assert Budget.parse(str(budget)) == budget


@example(unit="usd", amount=10**36 + 1)
@given(unit=st.sampled_from(UNITS), amount=st.integers(-(10**36), 10**36))
def test_an_amount_in_its_unit_is_exact(unit: str, amount: int) -> None:
    """Far beyond what sums of floats or 64 bits can hold."""
    value = in_units(unit, amount)  # type: ignore[arg-type]

    assert smallest(unit, value) == amount  # type: ignore[arg-type]
    assert "E+" not in str(value)


@pytest.mark.parametrize(
    ("unit", "amount", "text"),
    [
        ("usd", 10**12, "$1"),
        ("usd", 5 * 10**11, "$0.50"),
        ("usd", 35 * 10**9, "$0.035"),
        ("usd", 1, "$0.000000000001"),
        ("usd", -25 * 10**10, "-$0.25"),
        ("usd", 0, "$0"),
        ("usd", 120 * 10**12, "$120"),
        ("steps", 1, "1 step"),
        ("llm_calls", 20, "20 llm_calls"),
        ("seconds", 60_000_000, "60 seconds"),
        ("seconds", 500_000, "0.5 seconds"),
        ("tokens", 0, "0 tokens"),
    ],
)
def test_amounts_are_said_alike_everywhere(unit: str, amount: int, text: str) -> None:
    """Without exponents and without digits that say nothing."""
    assert say(unit, amount) == text  # type: ignore[arg-type]
