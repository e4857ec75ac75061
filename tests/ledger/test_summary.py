"""Sums as rows: what a reader sees of a handler or a ledger."""

from decimal import Decimal

import pytest

from langchain_finops.ledger.summary import Summary, show_usd
from langchain_finops.ledger.totals import Group, Totals
from langchain_finops.money import to_pico


def group(*key: str | None, usd: str = "0", calls: int = 1, unpriced: int = 0, **more: int) -> Group:
    totals = Totals(calls=calls, unpriced=unpriced, cost_pico=to_pico(Decimal(usd)))
    totals.contracted_pico = totals.billed_pico = totals.cost_pico
    for meter in ("input_tokens", "cache_read_tokens", "output_tokens", "reasoning_tokens"):
        totals.meters[meter] = more.pop(meter, 0)
    return Group(key=key, totals=totals, **more)


TREE = [
    group("writer", usd="0.30"),
    group("researcher/search", usd="0.25"),
    group("researcher/rank", usd="0.15"),
    group(None, usd="0.05"),
    group("researcher", usd="0.01"),
    group("planner/inner/think", usd="0.02"),
]


def by_node(groups: list[Group]) -> dict[object, dict[str, object]]:
    return {row["node"]: row for row in Summary(("node",), groups).rows()}


def test_own_costs_of_nodes_add_up_and_each_prefix_has_its_subtree():
    """Own costs sum to the total, whatever the nesting; a subtree is a node and all below it."""
    rows = by_node(TREE)

    assert sum(row["cost_usd"] for row in rows.values()) == Decimal("0.78")
    assert rows["researcher"]["cost_usd"] == Decimal("0.01")
    assert rows["researcher"]["subtree_cost_usd"] == Decimal("0.41")  # 0.01 + 0.25 + 0.15
    assert rows["researcher"]["subtree_calls"] == 3
    assert rows["researcher/search"]["subtree_cost_usd"] == Decimal("0.25")
    assert rows["planner"]["cost_usd"] == 0
    assert rows["planner"]["calls"] == 0
    assert rows["planner"]["subtree_cost_usd"] == rows["planner/inner"]["subtree_cost_usd"] == Decimal("0.02")
    assert rows[None]["subtree_cost_usd"] == Decimal("0.05")


def test_parents_come_before_their_children_and_the_dearest_subtree_first():
    """The table reads as a tree."""
    assert [row["node"] for row in Summary(("node",), TREE).rows()] == [
        "researcher",
        "researcher/search",
        "researcher/rank",
        "writer",
        None,
        "planner",
        "planner/inner",
        "planner/inner/think",
    ]


def test_a_node_named_like_the_beginning_of_another_is_not_its_parent():
    """A prefix ends at a slash: `search` is not above `searcher`."""
    rows = by_node([group("search", usd="1"), group("searcher/x", usd="2")])
    assert rows["search"]["subtree_cost_usd"] == 1


def test_trees_of_two_agents_stay_apart():
    """With another key beside the node, subtrees are summed within it."""
    groups = [group("a", "n/x", usd="1"), group("b", "n/x", usd="4"), group("a", "n", usd="2")]

    rows = {(row["agent"], row["node"]): row for row in Summary(("agent", "node"), groups).rows()}

    assert rows["a", "n"]["subtree_cost_usd"] == 3
    assert rows["b", "n"]["subtree_cost_usd"] == 4
    assert list(rows) == [("b", "n"), ("b", "n/x"), ("a", "n"), ("a", "n/x")]


def test_nothing_priced_is_unknown_and_not_zero():
    """Where no call has a price the amounts are None; where some have, they are sums of the known."""
    none, some = Summary(("model",), [group("x", calls=2, unpriced=2), group("y", usd="1", calls=2, unpriced=1)]).rows()

    assert none["model_usd"] is none["contracted_usd"] is none["billed_usd"] is none["cost_usd"] is None
    assert some["cost_usd"] == 1
    assert some["unpriced"] == 1


def test_free_calls_cost_zero():
    """Free is known: 0, not None."""
    (row,) = Summary((), [group(calls=2)]).rows()
    assert row["cost_usd"] == 0


def test_an_unpriced_charge_makes_the_cost_unknown_only_where_nothing_else_is_known():
    """A tool without a price beside a priced call leaves a lower bound."""
    alone, beside = Totals(charges=1, charges_unpriced=1), Totals(calls=1, cost_pico=5, charges=1, charges_unpriced=1)
    rows = Summary(("agent",), [Group(key=("a",), totals=alone), Group(key=("b",), totals=beside)]).rows()

    assert rows[0]["cost_usd"] is None
    assert rows[0]["charge_usd"] is None
    assert rows[1]["cost_usd"] == Decimal("5E-12")


def test_amounts_are_exact():
    """No float on the way: a picodollar on a million dollars survives."""
    (row,) = Summary((), [group(usd="1234567.000000000123")]).rows()
    assert row["cost_usd"] == Decimal("1234567.000000000123")


def test_the_text_is_a_table_of_80_columns_with_what_is_unknown():
    """`print(handler.summary())` is readable as it stands."""
    groups = [
        group("support", "gpt-4.1-mini", usd="12.345", calls=1200, input_tokens=2_000_000, cache_read_tokens=500_000),
        group("support", "home-made", calls=3, unpriced=3, output_tokens=90, input_tokens=10),
        group(None, "gpt-4.1-mini", usd="0.00000123", calls=1, unpriced=0),
    ]
    assert str(Summary(("agent", "model"), groups)).splitlines() == [
        "agent         model         calls      input   cached  output        cost",
        "support       gpt-4.1-mini  1,200  2,500,000  500,000       0      $12.34",
        "support       home-made         3         10        0      90    unpriced",
        "unattributed  gpt-4.1-mini      1          0        0       0  $0.0000012",
        "total                       1,204  2,500,010  500,000      90   >= $12.34",
        ">=: at least; 3 of 1,204 calls are unpriced.",
    ]


def test_the_text_of_a_tree_shows_own_and_subtree_cost():
    """By node, both costs stand side by side."""
    groups = [group("a/b", usd="2"), group("a", usd="1")]
    assert str(Summary(("node",), groups)).splitlines() == [
        "node   calls  input  cached  output     cost  subtree",
        "a          1      0       0       0  $1.0000  $3.0000",
        "a/b        1      0       0       0  $2.0000  $2.0000",
        "total      2      0       0       0  $3.0000",
    ]


@pytest.mark.parametrize("name", ["researcher/" * 30 + "search", "\u7814\u7a76" * 60])
def test_long_names_are_cut_in_their_middle(name):
    """A path's end and its beginning stay; 80 columns are never passed, double-width letters included."""
    text = str(Summary(("agent",), [group(name, usd="1", calls=1_000_000)]))

    for line in text.splitlines():
        assert sum(2 if ord(char) > 0x2FFF else 1 for char in line) <= 80
    assert name[-4:] in text


def test_a_name_cannot_move_the_cursor_or_break_a_row():
    """Control characters, direction marks among them, are replaced."""
    text = str(Summary(("agent",), [group("a\x1b[2J\n\u202eb", usd="1")]))
    assert "\x1b" not in text
    assert "\u202e" not in text
    assert len(text.splitlines()) == 3


def test_an_empty_summary_says_so_and_keeps_its_columns():
    """Code that reads the frame of a handler that saw nothing still finds the columns."""
    summary = Summary(("node",), [])

    assert str(summary) == "No calls yet."
    assert summary.rows() == []
    frame = summary.to_pandas()
    assert frame.empty
    assert {"node", "cost_usd", "subtree_cost_usd", "calls"} <= set(frame.columns)


def test_the_frame_holds_exact_amounts():
    """A sum over the column is exact."""
    frame = Summary(("agent",), [group("a", usd="0.1"), group("b", usd="0.2")]).to_pandas()
    assert frame["cost_usd"].sum() == Decimal("0.3")


@pytest.mark.parametrize(
    ("amount", "shown"),
    [
        ("0", "$0"),
        ("1234.565", "$1,234.56"),
        ("10", "$10.00"),
        ("9.99996", "$10.0000"),
        ("1", "$1.0000"),
        ("0.0012345", "$0.0012"),
        ("0.00099999", "$0.00100"),
        ("0.000123", "$0.00012"),
        ("0.000000000001", "$0.0000000000010"),
        ("-0.5", "-$0.5000"),
        ("12345678901234567890123456789.12", "$12,345,678,901,234,567,890,123,456,789.12"),
    ],
)
def test_dollars_are_readable_and_never_a_false_zero(amount, shown):
    """Cents for dollars, digits for fractions of a cent, $0 only for zero."""
    assert show_usd(Decimal(amount)) == shown


def test_a_lower_bound_is_rounded_down():
    """`>= $0.1235` would be false of 0.12345."""
    assert show_usd(Decimal("0.12349"), bound=True) == "$0.1234"
    assert show_usd(Decimal("-0.12341"), bound=True) == "-$0.1235"


def test_days_are_in_order_even_where_nodes_are_a_tree():
    """By day the rows run through time; within a day the dearest comes first."""
    groups = [
        group("2026-03-02", "a", usd="9"),
        group("2026-03-01", "a", usd="1"),
        group("2026-03-01", "b", usd="2"),
    ]
    for by in (("day", "node"), ("day", "agent")):
        rows = Summary(by, groups).rows()
        assert [row["day"] for row in rows] == ["2026-03-01", "2026-03-01", "2026-03-02"]
    assert [row["node"] for row in Summary(("day", "node"), groups).rows()] == ["b", "a", "a"]
