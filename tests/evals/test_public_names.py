"""What `langchain_finops.evals` offers, and that the command line does nothing that it does not."""

import inspect
import pkgutil
import re
from importlib import import_module
from pathlib import Path
from typing import Any

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
    """What the command line can do, Python can; `init`, `show`, `power`, `routers` are about files and reading only."""
    commands = {each.name for each in app.registered_commands}
    by_command = {"table": "evaluation_table", "demo": "run"}

    for command in commands - {"init", "show", "power", "routers"}:
        assert by_command.get(command, command) in evals.__all__


def test_the_python_of_the_documentation_runs(workshop: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """docs/finops-eval.md's block as it stands, on a dataset of that name; `await arun` gives the same results."""
    workshop.suite(
        (workshop.folder / "tasks.yaml")
        .read_text()
        .replace("name: right", "name: small")
        .replace("name: wrong", "name: large")
    )
    for name in ("tasks.jsonl", "tasks.yaml"):
        (workshop.folder / name).rename(workshop.folder / name.replace("tasks", "tickets"))
    text = (Path(__file__).parents[2] / "docs" / "finops-eval.md").read_text("utf-8")
    (block,) = [block for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL) if "compare(" in block]

    exec(block, {})

    printed = capsys.readouterr().out.splitlines()
    assert printed[0].startswith("INCONCLUSIVE ")
    assert printed[1].startswith("INCONCLUSIVE [('small', 'INCONCLUSIVE', '2 tasks: 50 are needed')")


async def test_notebooks_await_the_same_results(workshop: Any) -> None:
    """Under a running event loop `arun` runs, and decides nothing else."""
    dataset, suite = evals.load_dataset(workshop.dataset), evals.load_suite(workshop.folder / "tasks.yaml")

    results = await evals.arun(dataset, suite)

    assert evals.gate(results, "unpriced == 0").outcome == "PASS"
