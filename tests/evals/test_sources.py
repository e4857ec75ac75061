"""Several results in one table: what may stand together, and under which names."""

from decimal import Decimal
from typing import TYPE_CHECKING

import pytest

from langchain_finops.errors import BadArguments
from langchain_finops.evals.sources import read_sources
from langchain_finops.evals.table import TableOptions, evaluation_table

if TYPE_CHECKING:
    from pathlib import Path

    from tests.evals.conftest import Workshop

SUITE = """
target: agent:build
scorer: exact
repeats: 2
configurations: [{{name: {name}, model: gpt-4.1-mini}}]
"""


@pytest.fixture
def folders(workshop: "Workshop") -> "list[Path]":
    """The same ten tasks with a configuration of its own in each folder."""
    workshop.data(number=list(range(10)))
    made = []
    for name in ("small", "large"):
        workshop.suite(SUITE.format(name=name))
        made.append(workshop.run(folder=workshop.folder / f"of-{name}").folder)
    return made


def test_folders_stand_in_one_table(folders: "list[Path]") -> None:
    """As one run of both configurations would: 10 tasks x 2 repeats each, compared with the first one's."""
    read = read_sources(folders)
    small, large = evaluation_table(read.attempts, read.verdicts, plan=read.plan).rows

    assert [(row["configuration"], row["tasks"], row["attempts"]) for row in (small, large)] == [
        ("small", 10, 20),
        ("large", 10, 20),
    ]
    assert (small["baseline"], large["vs_baseline_tasks"]) == (True, 10)
    assert small["total_cost_usd"] == 20 * (100 * Decimal("0.4") + 10 * Decimal("1.6")) / 1_000_000


def test_the_same_name_twice_is_told_by_its_folder(workshop: "Workshop", folders: "list[Path]") -> None:
    """Two configurations of one name are not one of twice the attempts."""
    workshop.suite(SUITE.format(name="small"))
    again = workshop.run(folder=workshop.folder / "again").folder

    read = read_sources([folders[0], again])

    assert read.plan.configurations == ("of-small:small", "again:small")
    assert {attempt.configuration for attempt in read.attempts} == set(read.plan.configurations)


def test_other_datasets_are_not_mixed(workshop: "Workshop", folders: "list[Path]") -> None:
    """Their figures are of other tasks: compare knows how."""
    workshop.data(number=[1, 2])
    other = workshop.run(folder=workshop.folder / "other").folder

    with pytest.raises(BadArguments, match=r"are of different datasets.*--common-tasks"):
        read_sources([folders[0], other])


def test_other_scorers_are_not_mixed(workshop: "Workshop", folders: "list[Path]") -> None:
    """A success is another thing there."""
    workshop.suite(SUITE.format(name="small").replace("scorer: exact", "scorer: contains"))
    other = workshop.run(folder=workshop.folder / "other").folder

    with pytest.raises(BadArguments, match="judged by different scorers"):
        read_sources([folders[0], other])


def test_another_worth_is_not_mixed(workshop: "Workshop", folders: "list[Path]") -> None:
    """A margin would be of one and the other."""
    made = []
    for usd in ("1", "2"):
        workshop.suite(SUITE.format(name=f"worth{usd}") + f"value_usd: {usd}\n")
        made.append(workshop.run(folder=workshop.folder / f"worth{usd}").folder)

    with pytest.raises(BadArguments, match="differ in value_usd"):
        read_sources(made)
    assert read_sources([folders[0], made[0]]).plan.value_usd == 1


def test_options_of_files_are_refused_for_folders(folders: "list[Path]") -> None:
    """They would do nothing, and one would think that they did."""
    with pytest.raises(BadArguments, match="--columns is for CSV and JSON lines files"):
        read_sources(folders, columns={"cost": "usd"})
    with pytest.raises(BadArguments, match="--zero-is-unknown is for"):
        read_sources(folders, zero_is_unknown=True)


def test_a_card_set_cannot_price_a_file(folders: "list[Path]") -> None:
    """It tells costs, and no tokens."""
    file = folders[0].parent / "theirs.csv"
    file.write_text("task,cost,success\nt,1,1\n")

    with pytest.raises(BadArguments, match="--cards hosted prices calls of a run"):
        read_sources([folders[0], file], cards="hosted")


def test_what_a_suite_says_is_in_the_table_without_options(workshop: "Workshop") -> None:
    """failure_usd, margin, value and person come from run.json; an option goes before it."""
    workshop.data(number=[1, 2])
    worth = "failure_usd: 5\nmargin: 0.1\nvalue_usd: 2\nhuman: {usd_per_hour: 30, tasks_per_hour: 10}\n"
    workshop.suite(SUITE.format(name="small") + worth)
    read = read_sources([workshop.run().folder])

    made = evaluation_table(read.attempts, read.verdicts, plan=read.plan)
    other = evaluation_table(read.attempts, read.verdicts, plan=read.plan, options=TableOptions(failure_usd=Decimal(0)))
    (row,), (without,) = made.rows, other.rows

    assert row["human_cost_per_success_usd"] == 3
    assert row["value_usd"] == 2 * row["successes"] == 8
    assert row["expected_cost_usd"] == without["expected_cost_usd"]  # All four succeed: there is nothing to mend.
    assert any("Looks taken: 1" in note for note in made.notes)
    assert read.plan.margin == 0.1
