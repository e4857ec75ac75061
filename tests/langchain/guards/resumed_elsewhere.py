"""Starts a run, or goes on with it, in a process of its own: `python resumed_elsewhere.py LEDGER CHECKPOINTS`."""

import pickle
import sys
from pathlib import Path
from typing import Any

from langgraph.checkpoint.memory import InMemorySaver
from langgraph.types import Command
from limited_graphs import BOOK, Paid, asking, line

from langchain_finops import Budget, FinOpsHandler, stopped


def saver_from(path: Path) -> InMemorySaver:
    """The checkpoints that another process left."""
    saver = InMemorySaver()
    if path.exists():
        storage, writes, blobs = pickle.loads(path.read_bytes())
        for thread, namespaces in storage.items():
            for namespace, checkpoints in namespaces.items():
                saver.storage[thread][namespace].update(checkpoints)
        for key, written in writes.items():
            saver.writes[key].update(written)
        saver.blobs.update(blobs)
    return saver


def leave(saver: InMemorySaver, path: Path) -> None:
    """Leave them for the next."""
    storage = {
        thread: {namespace: dict(checkpoints) for namespace, checkpoints in namespaces.items()}
        for thread, namespaces in saver.storage.items()
    }
    path.write_bytes(
        pickle.dumps((storage, {key: dict(each) for key, each in saver.writes.items()}, dict(saver.blobs)))
    )


def main(ledger: str, kept: Path) -> None:
    """Eight calls of a cent on three and a half cents; each answer allows two cents more."""
    model, resumes, saver = Paid(), kept.exists(), saver_from(kept)
    graph = line(*[asking(model, "hi")] * 8, checkpointer=saver)
    handler = FinOpsHandler(budgets=[Budget(usd="0.035", on_exceed="interrupt")], ledger=ledger, prices=BOOK)
    state: Any = Command(resume={"approve": True, "usd": "0.02"}) if resumes else {"said": []}
    result = graph.invoke(state, {"callbacks": [handler], "configurable": {"thread_id": "t"}})
    leave(saver, kept)
    print(model.calls, stopped(result) is not None, handler.faults)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
