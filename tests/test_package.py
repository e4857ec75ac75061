"""The package as it is imported and installed."""

import ast
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

import langchain_finops

HEAVY = (
    "langgraph",
    "langchain_core",
    "pandas",
    "scipy",
    "numpy",
    "sqlalchemy",
    "genai_prices",
    "rich",
    "vcr",
    "typer",
)


def loaded_by(statement: str) -> set[str]:
    """Top-level modules that a fresh interpreter has loaded after a statement."""
    code = f"import sys; {statement}; print(' '.join(sorted({{name.partition('.')[0] for name in sys.modules}})))"
    return set(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split())


def test_importing_the_package_loads_nothing_heavy() -> None:
    """`import langchain_finops` costs next to nothing: what is heavy comes in with first use."""
    assert loaded_by("import langchain_finops").isdisjoint(HEAVY)


def test_the_handler_brings_no_database_and_no_catalogue_in() -> None:
    """Importing the handler loads LangChain, which its user has anyway, and neither SQLAlchemy nor pandas."""
    loaded = loaded_by("from langchain_finops import FinOpsHandler") - loaded_by("import langgraph.graph")

    assert "langchain_finops" in loaded
    assert loaded.isdisjoint({"pandas", "scipy", "sqlalchemy", "genai_prices", "vcr", "typer", "rich"})


@pytest.mark.parametrize("command", ["finops", "finops_eval"])
def test_the_command_lines_start_without_langgraph(command: str) -> None:
    """`--help` is quick because the command lines load neither LangGraph nor what only some commands need."""
    loaded = loaded_by(f"import langchain_finops.cli.{command}")

    assert loaded.isdisjoint({"langgraph", "langchain_core", "pandas", "scipy", "sqlalchemy", "genai_prices", "vcr"})


def test_there_are_at_most_15_public_names_and_all_resolve() -> None:
    """Every public name is there, is listed by `dir`, and there are few enough to remember."""
    names = [name for name in langchain_finops.__all__ if name != "__version__"]

    assert len(names) <= 15
    for name in names:
        assert getattr(langchain_finops, name) is not None
        assert name in dir(langchain_finops)


@pytest.mark.parametrize("name", ["Killed", "LoopDetected", "ModelPolicy", "RunDrained", "Stop", "UnpricedCall"])
def test_what_goes_with_the_public_names_is_found_beside_them(name: str) -> None:
    """Whoever catches `BudgetExceeded` looks for its siblings in the same place; `import *` leaves them out."""
    found = getattr(langchain_finops, name)

    assert found.__name__ == name
    assert name in dir(langchain_finops)
    assert name not in langchain_finops.__all__


def test_an_unknown_name_is_an_attribute_error() -> None:
    """A typing mistake is told like in any other module."""
    with pytest.raises(AttributeError, match="FinOpsHandlr"):
        langchain_finops.FinOpsHandlr  # noqa: B018  The look-up is what is tested.


def test_the_core_installs_without_pandas_scipy_or_vcrpy() -> None:
    """What rides in production containers stays light: those three are asked for by an extra only."""
    requirements = metadata.requires("langchain-finops") or []
    core = [line.lower() for line in requirements if "extra ==" not in line]

    assert core
    assert not [line for line in core if line.startswith(("pandas", "scipy", "vcrpy", "pyarrow"))]


def test_no_module_and_no_function_grows_past_its_bound() -> None:
    """A function fits on a screen (50 lines), a module on a few (about 400)."""
    too_long = []
    for path in sorted(Path(langchain_finops.__file__).parent.rglob("*.py")):
        text = path.read_text(encoding="utf-8")
        if text.count("\n") > 450:
            too_long.append(f"{path.name}: {text.count(chr(10))} lines")
        too_long += [
            f"{path.name}: {node.name}"
            for node in ast.walk(ast.parse(text))
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.end_lineno - node.lineno >= 50
        ]

    assert not too_long
