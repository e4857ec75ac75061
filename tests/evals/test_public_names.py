"""What `langchain_finops.evals` offers, and that the command line does nothing that it does not."""

import inspect
import pkgutil
from importlib import import_module
from pathlib import Path

import pytest

from langchain_finops import evals
from langchain_finops.cli.finops_eval import app


def test_there_are_at_most_12_names_and_each_says_what_it_does() -> None:
    """All resolve, and are documented."""
    assert len(evals.__all__) <= 12
    assert {"arun", "run"} <= set(evals.__all__)
    for name in evals.__all__:
        assert (inspect.getdoc(getattr(evals, name)) or "").strip(), name


def test_no_module_stands_in_a_functions_place() -> None:
    """`from langchain_finops.evals import gate` is a function, whatever was imported before it."""
    modules = [each.name for each in pkgutil.iter_modules([str(Path(evals.__file__).parent)])]

    assert not set(modules) & set(evals.__all__)
    for name in evals._HOMES.values():
        import_module(f"langchain_finops.evals.{name}")
    for name in evals.__all__:
        assert callable(getattr(evals, name))


def test_names_that_go_with_the_public_ones_are_found_beside_them() -> None:
    """Options and results of the functions have no second place to be looked for."""
    for name in ("AttemptResult", "CompareOptions", "Dataset", "GateOptions", "Results", "ShadowOptions", "Suite"):
        assert getattr(evals, name).__name__ == name
        assert name in dir(evals)
    with pytest.raises(AttributeError, match="gates"):
        evals.gates  # noqa: B018  The look-up is what is tested.


def test_every_command_has_a_function() -> None:
    """What the command line can do, Python can. `init`, `show` and `power` are about files and reading only."""
    commands = {each.name for each in app.registered_commands}
    by_command = {"table": "evaluation_table", "demo": "run"}

    for command in commands - {"init", "show", "power"}:
        assert by_command.get(command, command) in evals.__all__
