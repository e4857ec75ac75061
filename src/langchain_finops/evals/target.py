"""Finds what `module:function` names, and tells when its code has changed."""

import ast
import hashlib
import importlib
import importlib.util
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from langchain_finops.errors import EvalError

__all__ = ["fingerprint", "import_roots", "resolve"]


def import_roots(suite_path: Path) -> tuple[Path, ...]:
    """Where modules are looked up: the suite's folder, its parent, the current folder."""
    folder = suite_path.resolve().parent
    return tuple(dict.fromkeys((folder, folder.parent, Path.cwd())))


def resolve(spec: str, roots: Sequence[Path]) -> Callable[..., object]:
    """Import the function that `module:function` names. Raises EvalError naming what is not there."""
    module_name, _, function_name = spec.partition(":")
    for root in reversed(roots):  # The suite's own folder ends up first.
        if str(root) in sys.path:
            sys.path.remove(str(root))
        sys.path.insert(0, str(root))
    importlib.invalidate_caches()
    loaded, source = sys.modules.get(module_name), _local_source(module_name, roots)
    if loaded is not None and source is not None and getattr(loaded, "__file__", None) != str(source):
        del sys.modules[module_name]  # Another suite's module of the same name would answer for this one.
    try:
        module = importlib.import_module(module_name)
    except (Exception, SystemExit) as error:
        what = f"{type(error).__name__}: {error}"
        raise EvalError(f"{spec!r}: module {module_name!r} cannot be imported: {what}") from error
    found: object = module
    for part in function_name.split("."):
        found = getattr(found, part, None)
    if not callable(found):
        raise EvalError(f"{spec!r}: {module.__file__} has no function {function_name!r}")
    return found


def fingerprint(spec: str, roots: Sequence[Path]) -> str:
    """Hash of the target's source and of every module beside it that it imports, however deep.

    Installed packages are not in it: `run.json` has their versions.
    """
    digest = hashlib.sha256(spec.encode())
    seen: set[str] = set()
    waiting = [spec.partition(":")[0]]
    sources: list[tuple[str, str]] = []
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        path = _local_source(name, roots)
        if path is None:
            continue
        source = _text(path)
        sources.append((name, source))
        waiting += _imports(source, name, is_package=path.name == "__init__.py")
    for name, source in sorted(sources):
        digest.update(f"\0{name}\0{source}".encode("utf-8", "surrogatepass"))
    return digest.hexdigest()


def _text(path: Path) -> str:
    """A module's source in the encoding that it declares; one that Python could not read either, byte by byte."""
    data = path.read_bytes()
    try:
        return importlib.util.decode_source(data)
    except (SyntaxError, UnicodeDecodeError):
        return data.decode("latin-1")


def _local_source(name: str, roots: Sequence[Path]) -> Path | None:
    """The source of a module that lies in one of the roots; None for installed and built-in ones."""
    parts = name.replace(".", "/")
    for root in roots if name else ():
        for path in (root / f"{parts}.py", root / parts / "__init__.py"):
            if path.is_file():
                return path
    return None


def _imports(source: str, name: str, *, is_package: bool) -> list[str]:
    """Full names of all modules that a source may import; a name imported from a package may be a module too."""
    package = name if is_package else name.rpartition(".")[0]
    names: list[str] = []
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError):  # One that is never imported, or whose importer knows how to do without it.
        return []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = ".".join(package.split(".")[: len(package.split(".")) - node.level + 1])
                base = f"{above}.{base}".strip(".")
            names += [base, *(f"{base}.{alias.name}".strip(".") for alias in node.names)]
    # Importing a.b.c runs a and a.b as well.
    return [".".join(full.split(".")[:depth]) for full in names for depth in range(1, full.count(".") + 2)]
