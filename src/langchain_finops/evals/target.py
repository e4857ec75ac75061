"""What a suite names as its target: where it is, how it is asked, and whether its code has changed."""

import ast
import hashlib
import importlib
import importlib.util
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args
from urllib.parse import urlsplit

from langchain_finops.errors import EvalError
from langchain_finops.evals.suite_values import read_spec, read_text

__all__ = ["Kind", "Target", "fingerprint", "import_roots", "looked_up", "read_target", "resolve"]

Kind = Literal["factory", "graph", "call", "url"]
KINDS: tuple[Kind, ...] = get_args(Kind)
EXPECTED = (
    "`module:function` of a function that takes a configuration and returns a Runnable, or one of "
    "{graph: module:object}, {call: module:function}, {url: https://...}"
)
HEADER = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
Wrong = Callable[[str, str], None]
"""Told of the field that is wrong, and of what is wrong with it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """What answers."""

    spec: str
    """`module:name`, or a URL."""
    kind: Kind = "factory"
    """`factory`: takes a configuration, returns a Runnable. `graph`: is a Runnable, and finds the configuration under
    `configurable`. `call`: takes inputs and configuration, returns the result. `url`: is sent both."""
    headers: Mapping[str, str] = field(default_factory=dict)
    """Sent to a URL; `${NAME}` stands for a variable of the environment."""

    def fingerprint(self, roots: Sequence[Path]) -> str:
        """Changes with the code, and with how it is asked; nobody can tell what is behind a URL."""
        if self.kind == "factory":
            return fingerprint(self.spec, roots)
        code = "" if self.kind == "url" else fingerprint(self.spec, roots)
        return hashlib.sha256(f"{self.kind}\0{self.spec}\0{code}".encode()).hexdigest()


def read_target(value: object, wrong: Wrong) -> Target:
    """Read a suite's `target`; everything that is wrong with it is told to `wrong`."""
    if isinstance(value, str) and value.startswith(("http://", "https://")):
        value = {"url": value}
    if not isinstance(value, dict):
        try:
            return Target(spec=read_spec(value))
        except ValueError:
            wrong("", f"{value!r} found: {EXPECTED}")
            return Target(spec="")
    for name in value:
        if name not in (*KINDS, "headers"):
            wrong(f".{name}", f"is not known: known are {', '.join((*KINDS, 'headers'))}")
    kinds = [kind for kind in KINDS if kind in value]
    if len(kinds) != 1:
        wrong("", f"{' and '.join(kinds) or 'none of them'} found: one of {', '.join(KINDS)} is expected")
        return Target(spec="")
    kind = kinds[0]
    if kind != "url" and "headers" in value:
        wrong(".headers", "are of no use without `url`: leave them out")
    try:
        spec = _url(value[kind]) if kind == "url" else read_spec(value[kind])
    except ValueError as error:
        wrong(f".{kind}", str(error))
        spec = ""
    return Target(spec=spec, kind=kind, headers=_headers(value.get("headers") or {}, wrong))


def _url(value: object) -> str:
    url = urlsplit(read_text(value))
    if url.scheme not in ("http", "https") or not url.hostname:
        raise ValueError(f"{value!r} found: http://... or https://... is expected")
    if url.username or url.password:
        raise ValueError(
            'a URL with a password would be written down with the results: use `headers: {Authorization: "..."}` with '
            "${NAME} for a variable of the environment"
        )
    return str(value)


def _headers(value: object, wrong: Wrong) -> dict[str, str]:
    if not isinstance(value, dict):
        wrong(".headers", f"{value!r} found: a mapping of names to texts is expected")
        return {}
    for name, text in value.items():
        if not isinstance(name, str) or not HEADER.fullmatch(name):
            wrong(f".headers.{name}", "is no name of a header")
        elif not (isinstance(text, str) and text.isascii() and text.isprintable()):
            wrong(f".headers.{name}", f"{text!r} found: a text of ASCII on one line is expected; write it in quotes")
    return {str(name): str(text) for name, text in value.items()}


def import_roots(suite_path: Path) -> tuple[Path, ...]:
    """Where modules are looked up: the suite's folder, its parent, the current folder."""
    folder = suite_path.resolve().parent
    return tuple(dict.fromkeys((folder, folder.parent, Path.cwd())))


def resolve(spec: str, roots: Sequence[Path]) -> Callable[..., object]:
    """Import the function that `module:function` names. Raises EvalError naming what is not there."""
    found = looked_up(spec, roots)
    if not callable(found):
        raise EvalError(f"{spec!r} is {type(found).__name__}, and no function")
    return found


def looked_up(spec: str, roots: Sequence[Path]) -> object:
    """Import what `module:name` names. Raises EvalError naming what is not there."""
    module_name, _, name = spec.partition(":")
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
    for part in name.split("."):
        try:
            found = getattr(found, part)
        except AttributeError:
            raise EvalError(f"{spec!r}: {module.__file__} has no {name!r}") from None
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
