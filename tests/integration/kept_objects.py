"""What a handler holds on to: found by following its references, not by asking it."""

import gc
import types
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any
from uuid import UUID

__all__ = ["keeps_text", "objects_kept"]

_NOT_STATE = (type, types.ModuleType, types.FunctionType, types.BuiltinFunctionType, types.FrameType)
_IDS_AND_COUNTS = (str, bytes, UUID, int)


def reachable(root: object, besides: Iterable[object]) -> Iterator[object]:
    """Everything that an object refers to, directly or not; code and what is in `besides` left out."""
    left_out = {id(each) for each in besides}
    seen: set[int] = set()
    todo: list[Any] = [root]
    while todo:
        each = todo.pop()
        if id(each) in seen or id(each) in left_out or isinstance(each, _NOT_STATE):
            continue
        seen.add(id(each))
        yield each
        todo.extend(gc.get_referents(each))


def keeps_text(handler: Any, text: str) -> bool:
    """Whether a string that holds the text can be reached from the handler."""
    return any(isinstance(each, str) and text in each for each in reachable(handler, [handler.ledger]))


def objects_kept(handler: Any) -> Counter[str]:
    """How many objects of each type the handler holds, without plain ids and counts: open runs, calls, nodes, sums."""
    return Counter(
        type(each).__name__ for each in reachable(handler, [handler.ledger]) if not isinstance(each, _IDS_AND_COUNTS)
    )
