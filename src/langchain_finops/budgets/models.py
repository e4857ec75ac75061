"""Which models may be used where: "small model first" as a rule."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, Final, Literal

from langchain_finops.budgets import checks
from langchain_finops.budgets.scopes import Match, check_match
from langchain_finops.budgets.texts import where_text

__all__ = ["ModelPolicy"]


@dataclass(frozen=True, slots=True, init=False)
class ModelPolicy:
    """Where it matches, only models that it allows are called. Names are globs, and case does not matter."""

    match: Match
    allow: tuple[str, ...]
    """Empty: all that are not denied."""
    deny: tuple[str, ...]
    """Denied whatever `allow` says."""
    on_exceed: Literal["raise", "warn"]
    name: str | None

    def __init__(
        self,
        *,
        match: Mapping[str, str] | Match = (),
        allow: Iterable[str] | str = (),
        deny: Iterable[str] | str = (),
        on_exceed: Literal["raise", "warn"] = "raise",
        name: str | None = None,
    ) -> None:
        given = (match, allow, deny, on_exceed, name)
        faults = checks.settle(self, _RULES, dict(zip(_RULES, given, strict=True)))
        if not faults and not (self.allow or self.deny):
            faults.append("nothing is allowed or denied: give allow=['*mini*'] or deny=['*opus*']")
        checks.refuse("ModelPolicy", faults)

    def allows(self, model: str | None) -> bool:
        """Whether a model may be called. One whose name is not known only where there is no `allow`."""
        name = "" if model is None else model.lower()
        if any(fnmatchcase(name, glob.lower()) for glob in self.deny):
            return False
        return not self.allow or any(fnmatchcase(name, glob.lower()) for glob in self.allow)

    @property
    def label(self) -> str:
        """What refusals and events call it: its name, else what it says."""
        return self.name or str(self)

    def __str__(self) -> str:
        said = [f"{word} {', '.join(globs)}" for word, globs in (("allow", self.allow), ("deny", self.deny)) if globs]
        return f"models: {'; '.join(said)}{where_text(self.match)}"


def _globs(value: Any) -> tuple[str, ...]:
    globs = (value,) if isinstance(value, str) else tuple(value) if isinstance(value, Iterable) else (value,)
    for glob in globs:
        if not isinstance(glob, str) or not glob.strip():
            raise ValueError(f"must be names of models such as '*mini*', not {glob!r}")
    return globs


_RULES: Final[dict[str, checks.Rule]] = {
    "match": check_match,
    "allow": _globs,
    "deny": _globs,
    "on_exceed": checks.word("raise", "warn"),
    "name": checks.name,
}
"""How each argument is read, in the order of the fields."""
