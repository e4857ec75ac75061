"""Finding the target, and telling when its code has changed."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from langchain_finops.errors import EvalError
from langchain_finops.evals.target import fingerprint, import_roots, resolve


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A suite's folder with a target that imports a module and a package beside it."""
    monkeypatch.chdir(tmp_path)
    suites = tmp_path / "suites"
    (suites / "kit").mkdir(parents=True)
    (suites / "agent_x.py").write_text(
        "import json\nimport helper_x\nfrom kit import part\n\ndef build(c):\n    return 1\n"
    )
    (suites / "helper_x.py").write_text("X = 1\n")
    (suites / "kit" / "__init__.py").write_text("")
    (suites / "kit" / "part.py").write_text("from . import deep\n")
    (suites / "kit" / "deep.py").write_text("from ..nowhere import x\n")
    (suites / "kit" / "unused.py").write_text("")
    path, modules = list(sys.path), set(sys.modules)
    yield suites
    sys.path[:] = path
    for name in set(sys.modules) - modules:
        del sys.modules[name]


def roots_of(folder: Path) -> tuple[Path, ...]:
    return import_roots(folder / "tasks.yaml")


def test_modules_are_looked_up_around_the_suite(folder: Path, tmp_path: Path) -> None:
    """The suite's folder, its parent, the current folder; each once."""
    assert roots_of(folder) == (folder, tmp_path)


def test_a_function_is_found(folder: Path) -> None:
    """`module:function`, nested attributes too."""
    (folder / "kit" / "deep.py").write_text("")

    assert resolve("agent_x:build", roots_of(folder))({}) == 1
    assert callable(resolve("pathlib:Path.exists", ()))


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("agent_z:build", "module 'agent_z' cannot be imported: ModuleNotFoundError: No module named 'agent_z'"),
        ("helper_x:build", r"helper_x\.py has no 'build'"),
        ("helper_x:X", r"'helper_x:X' is int, and no function"),
        ("kit.deep:x", "module 'kit.deep' cannot be imported: ImportError: "),
    ],
)
def test_what_is_not_there_is_named(folder: Path, spec: str, message: str) -> None:
    """The error names the module or the function."""
    with pytest.raises(EvalError, match=message):
        resolve(spec, roots_of(folder))


def test_another_suites_module_of_the_same_name_does_not_answer(folder: Path, tmp_path: Path) -> None:
    """The module beside this suite is meant, whatever was imported before."""
    other = tmp_path / "other"
    other.mkdir()
    (other / "helper_x.py").write_text("def build(c):\n    return 'other'\n")
    (folder / "helper_x.py").write_text("def build(c):\n    return 'this'\n")

    assert resolve("helper_x:build", (other,))({}) == "other"
    assert resolve("helper_x:build", roots_of(folder))({}) == "this"


@pytest.mark.parametrize("changed", ["agent_x.py", "helper_x.py", "kit/__init__.py", "kit/part.py", "kit/deep.py"])
def test_any_code_of_the_target_changes_its_fingerprint(folder: Path, changed: str) -> None:
    """The target's module, what it imports beside it, and what those import."""
    before = fingerprint("agent_x:build", roots_of(folder))
    path = folder / changed
    path.write_text(path.read_text() + "\nY = 2\n")

    assert fingerprint("agent_x:build", roots_of(folder)) != before


def test_other_files_do_not_change_it(folder: Path) -> None:
    """What the target does not import has no say; nor has the place where all of it stands."""
    before = fingerprint("agent_x:build", roots_of(folder))
    (folder / "kit" / "unused.py").write_text("Y = 2\n")
    moved = folder.rename(folder.with_name("moved"))

    assert fingerprint("agent_x:build", roots_of(moved)) == before


@pytest.mark.parametrize("source", [b'# -*- coding: latin-1 -*-\nX = "\xe9"\n', b'print "2"\n', b"\xff\n"])
def test_a_module_beside_it_in_another_encoding_or_tongue_is_part_of_the_code(folder: Path, source: bytes) -> None:
    """What Python reads, we read; what it cannot read changes the fingerprint all the same."""
    before = fingerprint("agent_x:build", roots_of(folder))
    (folder / "helper_x.py").write_bytes(source)
    once = fingerprint("agent_x:build", roots_of(folder))
    (folder / "helper_x.py").write_bytes(source + b"#")

    assert len({before, once, fingerprint("agent_x:build", roots_of(folder))}) == 3
