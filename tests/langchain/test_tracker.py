"""What is open and what is forgotten."""

from typing import Any
from uuid import UUID

import pytest

from langchain_finops.langchain import tracker as module
from langchain_finops.langchain.tracker import Tracker, retry_attempt
from langchain_finops.records import NO_ATTRIBUTION


@pytest.fixture
def tracker() -> Tracker:
    return Tracker(NO_ATTRIBUTION)


def node_of(tracker: Tracker, root: Any, number: int, *, failed: bool = False) -> Any:
    """A node execution that begins and ends."""
    run_id = UUID(int=number)
    node = tracker.open_node(run_id, root, f"a:{number}")
    tracker.close_span(run_id)
    tracker.close_node(node, failed=failed)
    return node


@pytest.mark.parametrize(("failed", "limit"), [(False, "NODES_KEPT"), (True, "FAILED_KEPT")])
def test_a_long_run_forgets_its_earlier_nodes(
    failed: bool, limit: str, tracker: Tracker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A loop of a million steps needs no more memory than one of a hundred; every step is counted all the same."""
    monkeypatch.setattr(module, limit, 3)
    root = tracker.open_run(UUID(int=1), "graph", {})
    for number in range(10, 20):
        node_of(tracker, root, number, failed=failed)

    assert (len(root.run.nodes), root.run.steps) == (3, 10)
    assert tracker.place(None, {"langgraph_checkpoint_ns": "a:10"}) is None
    assert tracker.place(None, {"langgraph_checkpoint_ns": "a:19"}) is not None


def test_a_node_that_failed_is_known_again_after_many_others(tracker: Tracker) -> None:
    """RetryPolicy waits before it tries again, and other branches go on meanwhile."""
    root = tracker.open_run(UUID(int=1), "graph", {})
    failed = node_of(tracker, root, 10, failed=True)
    for number in range(11, 11 + 2 * module.NODES_KEPT):
        node_of(tracker, root, number)

    again = node_of(tracker, root, 10)

    assert again is failed
    assert (again.attempt, again.step) == (2, 1)


def test_a_node_that_is_running_is_not_forgotten(tracker: Tracker, monkeypatch: pytest.MonkeyPatch) -> None:
    """It failed, and its next attempt has begun: its calls must find it."""
    monkeypatch.setattr(module, "FAILED_KEPT", 1)
    root = tracker.open_run(UUID(int=1), "graph", {})
    node_of(tracker, root, 10, failed=True)
    tracker.open_node(UUID(int=99), root, "a:10")
    node_of(tracker, root, 11, failed=True)

    assert tracker.place(None, {"langgraph_checkpoint_ns": "a:10"}) is not None


def test_a_closed_run_leaves_nothing(tracker: Tracker) -> None:
    """Runnables and nodes that never ended are no longer open; closing it again is nothing."""
    root = tracker.open_run(UUID(int=1), "graph", {})
    tracker.open_node(UUID(int=10), root, "a:10")
    tracker.open_span(UUID(int=11), root)

    assert tracker.close_run(root.run)
    assert not tracker.close_run(root.run)
    tracker.forget_run(root.run)
    assert [tracker.span(UUID(int=number)) for number in (1, 10, 11)] == [None] * 3
    assert tracker.place(None, {"langgraph_checkpoint_ns": "a:10"}) is None
    assert tracker.open_runs() == []


def test_what_begins_in_something_that_never_ended_belongs_to_the_run_that_has(tracker: Tracker) -> None:
    """Nobody cancels the branches of a node that failed."""
    root = tracker.open_run(UUID(int=1), "graph", {})
    node = tracker.open_node(UUID(int=10), root, "a:10")
    tracker.close_run(root.run)

    span = tracker.place(UUID(int=10), {"langgraph_checkpoint_ns": "a:10"})

    assert span is not None
    assert (span.run, span.node) == (root.run, node)


def test_ids_are_remembered_within_bounds(tracker: Tracker, monkeypatch: pytest.MonkeyPatch) -> None:
    """An id that comes again names a second thing; at least so many are known."""
    monkeypatch.setattr(module, "IDS_KEPT", 3)

    names = [tracker.name_of(UUID(int=number)) for number in (1, 1, 2, 3, 4, 4)]

    texts = {number: str(UUID(int=number)) for number in range(5)}
    assert names == [texts[1], f"{texts[1]}:2", texts[2], texts[3], texts[4], f"{texts[4]}:2"]
    for number in range(100, 120):
        tracker.name_of(UUID(int=number))
    assert len(tracker._ids) + len(tracker._older_ids) <= 2 * 4


@pytest.mark.parametrize(
    ("tags", "attempt"),
    [(None, None), ([], None), (["seq:step:1", "retry:attempt:3"], 3), (["retry:attempt:x"], None), (["mine"], None)],
)
def test_a_try_is_read_from_the_tags(tags: list[str] | None, attempt: int | None) -> None:
    """The user's own tags are not."""
    assert retry_attempt(tags) == attempt
