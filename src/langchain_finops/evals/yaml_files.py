"""Reads YAML files of an evaluation: what would vanish without a word is a fault of its line."""

from collections.abc import Hashable
from pathlib import Path

import yaml

from langchain_finops.errors import BadData, EvalError, Fault

__all__ = ["read_yaml", "read_yaml_entries"]


def read_yaml(path: Path, what: str) -> object:
    """A file's content as plain data. Raises BadData with the line, or EvalError where there is no such file."""
    loader = _loader(path, what)
    try:
        return loader.get_single_data()
    except (yaml.YAMLError, RecursionError) as error:
        raise _bad(path, error) from error
    finally:
        loader.dispose()


def read_yaml_entries(path: Path, what: str) -> list[tuple[int, object]] | None:
    """The entries of a file that is a list, each with the line where it begins; None where it is no list."""
    loader = _loader(path, what)
    try:
        node = loader.get_single_node()
        if not isinstance(node, yaml.SequenceNode):
            return None
        entries = loader.construct_document(node)
        return [(child.start_mark.line + 1, entry) for child, entry in zip(node.value, entries, strict=True)]
    except (yaml.YAMLError, RecursionError) as error:
        raise _bad(path, error) from error
    finally:
        loader.dispose()


def _loader(path: Path, what: str) -> "_Loader":
    try:
        text = path.read_text("utf-8-sig")
    except OSError as error:
        raise EvalError(f"{what} {path} cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise BadData([Fault(where=str(path), what=f"byte {error.start + 1} is not UTF-8")]) from error
    try:
        return _Loader(text)
    except (yaml.YAMLError, RecursionError) as error:
        raise _bad(path, error) from error


def _bad(path: Path, error: Exception) -> BadData:
    if isinstance(error, RecursionError):
        return BadData([Fault(where=str(path), what="nested too deep")])
    if isinstance(error, yaml.MarkedYAMLError):
        line = f":{error.problem_mark.line + 1}" if error.problem_mark else ""
        return BadData([Fault(where=f"{path}{line}", what=f"not YAML: {error.problem}")])
    return BadData([Fault(where=str(path), what=f"not YAML: {error}")])


class _Loader(yaml.SafeLoader):
    """YAML, in which a key that stands there twice is a fault: the first one would vanish without a word."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, object]:
        seen: set[object] = set()
        for key_node, _ in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                what = "a list or mapping cannot be a key"
                raise yaml.constructor.ConstructorError(None, None, what, key_node.start_mark)
            key = key_node.value
            if key in seen and key != "<<":
                raise yaml.constructor.ConstructorError(None, None, f"{key!r} stands there twice", key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep=deep)
