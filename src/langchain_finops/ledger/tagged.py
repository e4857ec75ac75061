"""What tags of ours in a ledger say of a call: which item of an evaluation it was for, and which cap stood on it."""

from collections.abc import Mapping
from typing import Final

__all__ = ["CAP_TAG", "MARKING", "cap_in", "item_in"]

CAP_TAG: Final = "answer_cap"
"""Tag of a call that a cap was set on: an answer that reached it is longer than it shows."""
RUN_TAG: Final = "evaluation_run"
MARKING: Final = (CAP_TAG, RUN_TAG)
"""Without one of these there is nothing to be read here."""


def item_in(tags: Mapping[str, str]) -> str | None:
    """The item of a dataset that an evaluation's call was for: its repeats tell of one task. None outside of one."""
    return tags.get("item") if RUN_TAG in tags else None


def cap_in(tags: Mapping[str, str]) -> int | None:
    """Output tokens that a cap let the call have; None where none was set."""
    cap = tags.get(CAP_TAG, "")
    return int(cap) if cap.isdecimal() else None
