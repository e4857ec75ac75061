"""An agent that pauses for a person, in processes of which some are killed: `handoff_child.py FOLDER start die answer`.

Each word is a process of its own, forked from one that has loaded everything and opened nothing.
"""

import os
import pickle
import signal
import sys
import threading
from pathlib import Path
from typing import Annotated, Any, TypedDict

from langchain_core.messages import HumanMessage
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, StateGraph
from langgraph.graph.message import add_messages
from langgraph.types import Command

from langchain_finops import FinOpsHandler
from langchain_finops.levers import handoff


class State(TypedDict, total=False):
    messages: Annotated[list[Any], add_messages]


class FileSaver(InMemorySaver):
    """LangGraph's own saver, whose checkpoints and pending writes outlive the process."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self._file, self._lock = file, threading.Lock()  # LangGraph saves from several threads.
        if file.exists():
            storage, writes, blobs = pickle.loads(file.read_bytes())
            for thread, spaces in storage.items():
                self.storage[thread].update(spaces)
            self.writes.update(writes)
            self.blobs.update(blobs)

    def put(self, *args: Any) -> Any:
        try:
            return super().put(*args)
        finally:
            self._save()

    def put_writes(self, *args: Any) -> None:
        super().put_writes(*args)
        self._save()

    def _save(self) -> None:
        with self._lock:
            storage = {thread: dict(spaces) for thread, spaces in self.storage.items()}
            new = self._file.with_suffix(".new")
            new.write_bytes(pickle.dumps((storage, dict(self.writes), dict(self.blobs))))
            new.replace(self._file)


def run(folder: Path, what: str) -> None:
    """`start` asks the person, `answer` goes on with their answer, `die` is killed with it in hand."""
    ask = handoff(threshold=0.5, scorer=lambda request: 0.9, usd_per_hour=60, minutes=3)

    def node(state: State) -> State:
        said = ask.asks(state["messages"])
        if what == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        return {"messages": [said]}

    graph = StateGraph(State)
    graph.add_node("ask", node)
    graph.add_edge(START, "ask")
    app = graph.compile(checkpointer=FileSaver(folder / "threads"))
    handler = FinOpsHandler(ledger=folder / "ledger.db")
    config: Any = {"callbacks": [handler], "configurable": {"thread_id": "t"}}
    given: Any = {"messages": [HumanMessage("hi")]} if what == "start" else Command(resume="By hand.")
    result = app.invoke(given, config)
    print(what, "asks" if "__interrupt__" in result else result["messages"][-1].text, flush=True)


def main(folder: Path, words: list[str]) -> None:
    for what in words:
        process = os.fork()
        if process == 0:
            run(folder, what)
            os._exit(0)
        _, status = os.waitpid(process, 0)
        if os.WIFSIGNALED(status):
            print(what, f"killed by {os.WTERMSIG(status)}", flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
