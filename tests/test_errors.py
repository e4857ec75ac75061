"""The exception tree: complete, drawn, and able to cross a process boundary."""

import inspect
import pickle

import pytest

import langchain_finops.errors as module
from langchain_finops.errors import BadData, Fault, FinOpsError, MissingExtra

ALL = [value for value in vars(module).values() if inspect.isclass(value) and issubclass(value, Exception)]


@pytest.mark.parametrize("error", ALL)
def test_every_error_is_ours_and_in_the_tree(error: type[Exception]) -> None:
    """One `except FinOpsError` is enough, and the module's docstring lists them all."""
    assert issubclass(error, FinOpsError)
    assert module.__doc__ is not None
    assert f" {error.__name__} " in module.__doc__
    assert error.__name__ in module.__all__


def test_bad_data_lists_every_fault_one_a_line() -> None:
    """One look at the message shows all that is wrong with a file."""
    error = BadData([Fault(where="a.jsonl:1", what="no id"), Fault(where="a.jsonl:7", what="not JSON")])

    assert str(error) == "a.jsonl:1: no id\na.jsonl:7: not JSON"


@pytest.mark.parametrize(
    "error", [BadData([Fault(where="a:1", what="x")]), MissingExtra("finops-eval", "eval"), FinOpsError("plain")]
)
def test_errors_survive_a_process_pool(error: FinOpsError) -> None:
    """What a worker process raises arrives as it was, fields included."""
    copy = pickle.loads(pickle.dumps(error))

    assert type(copy) is type(error)
    assert str(copy) == str(error)
    assert vars(copy) == vars(error)


def test_a_missing_extra_names_the_remedy() -> None:
    """Whoever lacks an extra is told the one line that brings it."""
    assert "pip install 'langchain-finops[eval]'" in str(MissingExtra("finops-eval", "eval"))
