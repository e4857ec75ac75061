"""The evaluation harness: which configuration is worth its money.

`load_dataset` and `load_suite` read what is to be run, `run` or `await arun` runs it, `load_results` reads what came of
it. Names are loaded when they are used: the command lines start without LangGraph.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from langchain_finops.evals.dataset import Dataset, load_dataset
    from langchain_finops.evals.prepare import Options
    from langchain_finops.evals.results import AttemptResult, Verdict
    from langchain_finops.evals.resume import Results, load_results
    from langchain_finops.evals.runner import arun, run
    from langchain_finops.evals.suite import Suite, load_suite
    from langchain_finops.evals.table import evaluation_table

__all__ = [
    "AttemptResult",
    "Dataset",
    "Options",
    "Results",
    "Suite",
    "Verdict",
    "arun",
    "evaluation_table",
    "load_dataset",
    "load_results",
    "load_suite",
    "run",
]

_HOMES = {
    "AttemptResult": "results",
    "Dataset": "dataset",
    "Options": "prepare",
    "Results": "resume",
    "Suite": "suite",
    "Verdict": "results",
    "arun": "runner",
    "evaluation_table": "table",
    "load_dataset": "dataset",
    "load_results": "resume",
    "load_suite": "suite",
    "run": "runner",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
