"""Shards: each slot in one of them, and put together they are the run that one process would have made."""

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.evals.test_judges import JUDGED_USD, YES, says
from tests.evals.test_judges import SUITE as JUDGED
from tests.integration.provider_server import provider_server

from langchain_finops.errors import BadArguments, BadData, EvalError
from langchain_finops.evals.dataset import content_hash
from langchain_finops.evals.labels import Label, keep_labels, stored_labels
from langchain_finops.evals.matrix import in_shard
from langchain_finops.evals.merging import merge
from langchain_finops.evals.resume import Results, load_results, table_of
from langchain_finops.ledger import open_ledger
from langchain_finops.money import sum_usd

if TYPE_CHECKING:
    from tests.evals.conftest import Workshop


@pytest.fixture
def shards(workshop: "Workshop") -> list[Path]:
    """Two parts of ten tasks in two configurations."""
    workshop.data(number=list(range(10)))
    folders = [workshop.folder / f"part-{number}" for number in (1, 2)]
    for number, folder in enumerate(folders, start=1):
        workshop.run(shard=(number, 2), folder=folder)
    workshop.calls()
    return folders


def figures(results: Results) -> list[tuple[object, ...]]:
    """What the attempts come to, without what differs from one run to the next."""
    said = {verdict.slot: verdict.success for verdict in results.verdicts}
    return sorted(
        (one.slot, one.status, one.cost_usd, one.answer["answer"], said[one.slot]) for one in results.attempts
    )


def test_every_slot_is_in_one_shard() -> None:
    """All configurations of a task and repeat together; no shard of a hundred tasks has less than half of its share."""
    slots = [(name, f"t{n}", repeat) for name in "ab" for n in range(50) for repeat in range(2)]

    parts = [[slot for slot in slots if in_shard(slot, (number, 4))] for number in (1, 2, 3, 4)]

    assert sorted(slot for part in parts for slot in part) == sorted(slots)
    for part in parts:
        assert {("b", *slot[1:]) for slot in part if slot[0] == "a"} == {slot for slot in part if slot[0] == "b"}
        assert len(part) > 25


def test_merged_shards_are_the_whole_run(workshop: "Workshop", shards: list[Path]) -> None:
    """The same answers, costs and verdicts; the ledger has every call; and there is nothing left to buy."""
    out = workshop.folder / "whole"

    merged = merge(out, shards)

    assert figures(merged) == figures(workshop.run(folder=workshop.folder / "at once"))
    assert (merged.run["stopped"], merged.run["shard"]) == (None, None)
    ledger = open_ledger(out / "ledger.db")
    (total,) = ledger.totals()
    ledger.close()
    assert total.totals.cost_usd == sum_usd([one.known_usd for one in merged.attempts])
    assert (total.judged, total.successes) == (20, 10)
    workshop.calls()
    again = workshop.run(folder=out)
    assert (workshop.calls(), len(again.attempts)) == ([], 20)


def test_what_was_merged_can_be_priced_again(workshop: "Workshop", shards: list[Path]) -> None:
    """Its ledger knows the calls of all parts."""
    merged = merge(workshop.folder / "whole", shards)

    double = workshop.run(folder=workshop.folder / "whole", cards="double")

    assert sum_usd([one.cost_usd for one in double.attempts]) == 2 * sum_usd([one.cost_usd for one in merged.attempts])
    assert workshop.calls() == []


def test_a_missing_part_is_told_and_can_be_run(workshop: "Workshop", shards: list[Path]) -> None:
    """The results say that they are not whole; the same dataset and suite go on in the merged folder."""
    merged = merge(workshop.folder / "whole", shards[:1])
    missing = 20 - len(merged.attempts)
    assert merged.run["stopped"] == f"{missing} of 20 slots are in none of the folders that were merged"

    results = workshop.run(folder=workshop.folder / "whole")

    assert len(workshop.calls()) == missing
    assert (len(results.attempts), results.run["stopped"]) == (20, None)


def test_copies_of_one_part_count_once(workshop: "Workshop", shards: list[Path]) -> None:
    """An artifact that was downloaded twice changes nothing."""
    shutil.copytree(shards[0], workshop.folder / "copy")

    merged = merge(workshop.folder / "whole", [*shards, workshop.folder / "copy", shards[1]])

    assert len(merged.attempts) == len(merged.verdicts) == 20
    ledger = open_ledger(workshop.folder / "whole" / "ledger.db")
    assert len(list(ledger.calls())) == 20
    ledger.close()


def test_slots_that_were_tried_twice_are_refused(workshop: "Workshop", shards: list[Path]) -> None:
    """Which of two answers counts is nobody's to choose: each slot is named, and nothing is written."""
    workshop.run(shard=(1, 2), folder=workshop.folder / "again")

    with pytest.raises(BadData) as caught:
        merge(workshop.folder / "whole", [*shards, workshop.folder / "again"])

    first = json.loads((shards[0] / "attempts.jsonl").read_text().splitlines()[0])
    assert len(caught.value.faults) == len((shards[0] / "attempts.jsonl").read_text().splitlines())
    assert any(f"task {first['task']!r}" in fault.where for fault in caught.value.faults)
    assert "leave one of the two out" in caught.value.faults[0].what
    assert not (workshop.folder / "whole").exists()


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (("scorer: exact", "scorer: contains"), "scorers"),
        (("wrong: true", "wrong: true, more: 1"), "configurations"),
        (("input_tokens: 1,", "input_tokens: 3,"), "price_book_hashes"),
    ],
)
def test_parts_of_another_run_are_refused(
    workshop: "Workshop", shards: list[Path], change: tuple[str, str], named: str
) -> None:
    """What differs is named."""
    suite = workshop.folder / "tasks.yaml"
    suite.write_text(suite.read_text().replace(*change))
    workshop.run(shard=(2, 2), folder=workshop.folder / "other")

    with pytest.raises(BadData, match=rf"other: is of another run than .*part-1: it differs in .*{named}"):
        merge(workshop.folder / "whole", [shards[0], workshop.folder / "other"])


def test_another_dataset_is_refused(workshop: "Workshop", shards: list[Path]) -> None:
    """Its items are others."""
    workshop.data(number=list(range(11)))
    workshop.run(shard=(2, 2), folder=workshop.folder / "other")

    with pytest.raises(BadData, match="it differs in dataset"):
        merge(workshop.folder / "whole", [shards[0], workshop.folder / "other"])


def test_a_torn_part_is_mended_first(workshop: "Workshop", shards: list[Path]) -> None:
    """Its own command buys what the crash has torn; merging it as it is would lose a paid answer."""
    path = shards[1] / "attempts.jsonl"
    path.write_bytes(path.read_bytes()[:-20])

    with pytest.raises(BadData, match=r"part-2/attempts\.jsonl:\d+: is torn by a crash: run the shard's command again"):
        merge(workshop.folder / "whole", shards)


def test_what_cannot_be_merged_is_told(workshop: "Workshop", shards: list[Path]) -> None:
    """Folders that are there, that are not, and parts without their ledger."""
    with pytest.raises(BadArguments, match="part-1 is there already"):
        merge(shards[0], shards)
    with pytest.raises(EvalError, match="nowhere is no results folder: it is not there"):
        merge(workshop.folder / "whole", [workshop.folder / "nowhere"])
    (shards[1] / "ledger.db").unlink()
    with pytest.raises(EvalError, match=r"part-2 has no ledger\.db, which has its calls: copy it there"):
        merge(workshop.folder / "whole", shards)
    assert sorted(path.name for path in workshop.folder.iterdir() if "whole" in path.name) == []


def test_what_a_killed_judge_may_have_cost_stays_unknown(workshop: "Workshop", monkeypatch: pytest.MonkeyPatch) -> None:
    """It was asked once more and killed before a verdict: in the whole, and in one of copies, as in the part itself."""
    monkeypatch.setenv("JUDGE_KEY", "secret-of-the-judge")
    with provider_server() as server:
        server.answers = [says(YES)]
        workshop.suite(JUDGED.format(url=server.url))
        workshop.data(number=[1])
        part = workshop.run().folder
        shutil.copytree(part, workshop.folder / "copy")
        (once,) = [line for line in (part / "asked.jsonl").read_text().splitlines() if '"wrong"' in line]
        with (part / "asked.jsonl").open("a") as asked:
            asked.write(json.dumps([*json.loads(once)[:-1], "another time"]) + "\n")
        verdicts = (part / "scores.jsonl").read_text().splitlines(keepends=True)
        kept = [line for line in verdicts if json.loads(line)["configuration"] == "right"]
        for folder in (part, workshop.folder / "copy"):
            (folder / "scores.jsonl").write_text("".join(kept))

        merge(workshop.folder / "whole", [workshop.folder / "copy", part])
        results = workshop.run(folder=workshop.folder / "whole")

    right, wrong = table_of(results).rows
    assert (right["judge_cost_usd"], right["judge_calls"]) == (JUDGED_USD, 1)
    assert (wrong["judge_cost_usd"], wrong["judge_calls"]) == (None, 2)
    asked_of = (workshop.folder / "whole" / "asked.jsonl").read_text().splitlines()
    assert sum('"wrong"' in line for line in asked_of) == 3, (
        "two of the part, which its copy tells in part, and one now"
    )


@pytest.mark.parametrize("shard", [(0, 2), (3, 2)])
def test_a_shard_is_one_of_them(workshop: "Workshop", shard: tuple[int, int]) -> None:
    """Others are told."""
    with pytest.raises(BadArguments, match=r"from 1/N to N/N is expected"):
        workshop.run(shard=shard)


def test_shards_have_folders_of_their_own(workshop: "Workshop") -> None:
    """On one machine they do not meet."""
    assert workshop.run(shard=(2, 3)).folder == Path("results/tasks-2-of-3")


def test_labels_go_with_their_answers(workshop: "Workshop", shards: list[Path]) -> None:
    """What people said of each shard's answers is said of the whole's."""
    for number, folder in enumerate(shards):
        one = load_results(folder).attempts[0]
        label = Label(
            configuration=one.configuration,
            task=one.task,
            repeat=one.repeat,
            scorer="exact",
            success=bool(number),
            answer_hash=content_hash(one.answer),
        )
        keep_labels(folder, [label])
    said = [label for folder in shards for label in stored_labels(folder)]

    merge(workshop.folder / "whole", shards)

    assert stored_labels(workshop.folder / "whole") == said
    assert len(said) == 2
