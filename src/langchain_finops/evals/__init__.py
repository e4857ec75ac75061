"""The evaluation harness: which configuration is worth its money.

* `load_dataset` and `load_suite` read what is to be run; `Options` say how.
* `run`, or `await arun` where an event loop is running, runs it; `load_results` reads what came of it.
* `score` has stored answers judged by other scorers; `merge` puts shards together.
* `evaluation_table` shows each configuration's figures, `compare` sets one against another, `gate` holds them to rules,
  `shadow` asks again and again whether the expensive one still pays.

`finops-eval` has a command for each, and does nothing that these do not. Names are loaded when they are used: the
command lines start without LangGraph.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from langchain_finops.evals.comparing import CompareOptions as CompareOptions
    from langchain_finops.evals.comparing import Comparison as Comparison
    from langchain_finops.evals.comparing import compare
    from langchain_finops.evals.dataset import Dataset as Dataset
    from langchain_finops.evals.dataset import load_dataset
    from langchain_finops.evals.gating import GateOptions as GateOptions
    from langchain_finops.evals.gating import GateReport as GateReport
    from langchain_finops.evals.gating import gate
    from langchain_finops.evals.merging import merge
    from langchain_finops.evals.prepare import Options
    from langchain_finops.evals.results import AttemptResult as AttemptResult
    from langchain_finops.evals.results import Verdict as Verdict
    from langchain_finops.evals.resume import Results as Results
    from langchain_finops.evals.resume import load_results
    from langchain_finops.evals.runner import arun, run
    from langchain_finops.evals.scoring import ScoreOptions as ScoreOptions
    from langchain_finops.evals.scoring import ascore as ascore
    from langchain_finops.evals.scoring import score
    from langchain_finops.evals.shadowing import ShadowOptions as ShadowOptions
    from langchain_finops.evals.shadowing import ShadowReport as ShadowReport
    from langchain_finops.evals.shadowing import shadow
    from langchain_finops.evals.suite import Suite as Suite
    from langchain_finops.evals.suite import load_suite
    from langchain_finops.evals.table import Plan as Plan
    from langchain_finops.evals.table import TableOptions as TableOptions
    from langchain_finops.evals.table import evaluation_table

__all__ = [
    "Options",
    "arun",
    "compare",
    "evaluation_table",
    "gate",
    "load_dataset",
    "load_results",
    "load_suite",
    "merge",
    "run",
    "score",
    "shadow",
]

# No module here may have the name of one of these functions: importing it would put it in the function's place.
_HOMES = {
    "AttemptResult": "results",
    "CompareOptions": "comparing",
    "Comparison": "comparing",
    "Dataset": "dataset",
    "GateOptions": "gating",
    "GateReport": "gating",
    "Options": "prepare",
    "Plan": "table",
    "Results": "resume",
    "ScoreOptions": "scoring",
    "ShadowOptions": "shadowing",
    "ShadowReport": "shadowing",
    "Suite": "suite",
    "TableOptions": "table",
    "Verdict": "results",
    "arun": "runner",
    "ascore": "scoring",
    "compare": "comparing",
    "evaluation_table": "table",
    "gate": "gating",
    "load_dataset": "dataset",
    "load_results": "resume",
    "load_suite": "suite",
    "merge": "merging",
    "run": "runner",
    "score": "scoring",
    "shadow": "shadowing",
}
"""Public names, and beside them their options and what they return."""


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*__all__, *_HOMES})
