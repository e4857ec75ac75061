"""Policies as files and ledgers hold them: what they may say, every fault at once, and what changed meanwhile.

A file that became faulty is not taken in part: what it said before stays in force until it is right again.
"""

import dataclasses
import os
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final, TypeVar

from langchain_finops.budgets.alerts import BurnRateAlert
from langchain_finops.budgets.loops import LoopGuard
from langchain_finops.budgets.models import ModelPolicy
from langchain_finops.budgets.notify import AppriseNotice, Target, Webhook
from langchain_finops.budgets.outside import arguments, attempt, names_of, read_budget
from langchain_finops.budgets.policy import Budget
from langchain_finops.budgets.switch import change_event, whoami
from langchain_finops.errors import BadData, Fault
from langchain_finops.ledger.base import Ledger
from langchain_finops.pricing.fields import Fields, kind_of, read_yaml

__all__ = ["NO_POLICIES", "Change", "Policies", "PolicyFile", "read_policies"]

T = TypeVar("T")
DEFAULT_NAME: Final = "finops.yaml"
SECTIONS: Final = ("budgets", "loop_guards", "models", "alerts", "protect", "notify")
GONE: Final = (0, 0, 0)
"""What a file that is not there looks like."""
TARGETS: Final = ("webhook", "secret", "apprise")


@dataclass(frozen=True, slots=True, kw_only=True)
class Policies:
    """What holds for every run of a handler beside what its own arguments say."""

    budgets: tuple[Budget, ...] = ()
    loop_guards: tuple[LoopGuard, ...] = ()
    models: tuple[ModelPolicy, ...] = ()
    alerts: tuple[BurnRateAlert, ...] = ()
    protect: tuple[str, ...] = ()
    notify: tuple[Target, ...] = ()
    """Told of every alert, whoever set it up."""

    def together_with(self, other: "Policies") -> "Policies":
        """Both; what they have in common once."""
        names = [field.name for field in dataclasses.fields(self)]
        return Policies(**{name: _once((*getattr(self, name), *getattr(other, name))) for name in names})

    def summary(self) -> dict[str, list[str]]:
        """What it says, one text each, for the audit trail. Of targets their kind only: addresses are secrets."""
        said: dict[str, list[str]] = {
            "budgets": [budget.label for budget in self.budgets],
            "loop_guards": [guard.label for guard in self.loop_guards],
            "models": [policy.label for policy in self.models],
            "alerts": [alert.label for alert in self.alerts],
            "protect": list(self.protect),
            "notify": [str(target) for target in self.notify],
        }
        return {name: texts for name, texts in said.items() if texts}


NO_POLICIES = Policies()


def _once(items: tuple[T, ...]) -> tuple[T, ...]:
    kept: list[T] = []
    for item in items:
        if item not in kept:  # A list: a policy with a mapping in it may have no hash.
            kept.append(item)
    return tuple(kept)


def read_policies(path: Path) -> Policies:
    """What a policy file says. Raises BadData that names every fault in it."""
    faults: list[Fault] = []
    policies = _policies(read_yaml(path, faults), str(path), faults)
    if faults:
        raise BadData(faults)
    return policies


def _policies(data: object, where: str, faults: list[Fault]) -> Policies:
    fields = Fields(data, where, faults, SECTIONS)
    return Policies(
        budgets=_each(fields, "budgets", read_budget, faults),
        loop_guards=_each(fields, "loop_guards", _plain(LoopGuard), faults),
        models=_each(fields, "models", _plain(ModelPolicy), faults),
        alerts=_each(fields, "alerts", _alert, faults),
        protect=fields.texts("protect"),
        notify=_each(fields, "notify", _target, faults),
    )


def _each(
    fields: Fields, name: str, read: Callable[[object, str, list[Fault]], T | None], faults: list[Fault]
) -> tuple[T, ...]:
    """The items of a list."""
    data = fields.get(name)
    if data is None:
        return ()
    if not isinstance(data, list):
        fields.fault(name, f"is {kind_of(data)}; it has to be a list")
        return ()
    items = [read(item, f"{fields.path(name)}[{index}]", faults) for index, item in enumerate(data)]
    return tuple(item for item in items if item is not None)


def _plain(policy: Callable[..., T]) -> Callable[[object, str, list[Fault]], T | None]:
    """A reader of mappings of a class's own arguments."""

    def read(data: object, where: str, faults: list[Fault]) -> T | None:
        fields = Fields(data, where, faults, names_of(policy))
        if not isinstance(data, Mapping):
            return None
        return attempt(lambda: policy(**arguments(fields, names_of(policy))), where, faults)

    return read


def _alert(data: object, where: str, faults: list[Fault]) -> BurnRateAlert | None:
    names = names_of(BurnRateAlert)
    fields = Fields(data, where, faults, names)
    if not isinstance(data, Mapping):
        return None
    if "of" not in fields:
        fields.fault("of", "is missing; it is the budget that the alert watches, such as $20/day per agent_id")
        return None
    of = read_budget(fields.get("of"), fields.path("of"), faults)
    options = arguments(fields, names)
    options["notify"] = _each(fields, "notify", _target, faults)
    return None if of is None else attempt(lambda: BurnRateAlert(**{**options, "of": of}), where, faults)


def _target(data: object, where: str, faults: list[Fault]) -> Target | None:
    fields = Fields(data, where, faults, TARGETS)
    if not isinstance(data, Mapping):
        return None
    if ("webhook" in fields) == ("apprise" in fields):
        fields.fault("webhook", "a target has `webhook`, one address, or `apprise`, one or more URLs")
        return None
    before = len(faults)
    urls = [_value(fields, name, url) for name in ("webhook", "apprise") for url in fields.texts(name)]
    secret = fields.text("secret")
    key = None if secret is None else _value(fields, "secret", secret)
    if len(faults) > before:
        return None
    if "apprise" in fields:
        return attempt(lambda: AppriseNotice(*urls), where, faults)
    return attempt(lambda: Webhook(url=urls[0], secret=key), where, faults) if len(urls) == 1 else None


def _value(fields: Fields, name: str, text: str) -> str:
    """The text, or what the environment says where it is `$NAME`: passwords do not belong into files."""
    if not text.startswith("$"):
        return text
    value = os.environ.get(text[1:], "")
    if not value:
        fields.fault(name, f"the environment variable {text[1:]} is not set")
    return value


# --- the file that running handlers watch ----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A policy file that says something else than before."""

    before: Policies
    after: Policies
    state: str
    """Tells this state of the file from others."""


class PolicyFile:
    """A policy file and what it said when it was last right."""

    def __init__(self, path: Path | None = None) -> None:
        named = path or (Path(text) if (text := os.environ.get("FINOPS_POLICY", "").strip()) else None)
        self._named = named is not None
        self.path = (named or Path(DEFAULT_NAME)).expanduser().absolute()  # The process may change its directory.
        self.policies = NO_POLICIES
        self._seen: tuple[int, ...] = () if self._named else GONE

    def look(self) -> Change | None:
        """Read the file if it is another one than at the last look; None where it says what it said.

        Raises BadData for a file with faults, once until it is another one again.
        """
        seen = self._stat()  # Before it is read: what is written meanwhile is read at the next look.
        if seen == self._seen:
            return None
        self._seen = seen
        if seen == GONE and self._named:
            raise BadData(
                [Fault(where=str(self.path), what="is not there; write it, or name another in $FINOPS_POLICY")]
            )
        before, after = self.policies, NO_POLICIES if seen == GONE else read_policies(self.path)
        if after == before:
            return None
        self.policies = after
        return Change(before=before, after=after, state=" ".join(map(str, seen)))

    def budgets(self) -> tuple[Budget, ...]:
        """The budgets it says now, whether or not this process could tell its targets. Raises BadData."""
        seen = self._stat()
        if seen == GONE and not self._named:
            return ()
        faults: list[Fault] = []
        fields = Fields(read_yaml(self.path, faults), str(self.path), faults, SECTIONS)
        found = _each(fields, "budgets", read_budget, faults)
        if faults:
            raise BadData(faults)
        return found

    def tell(self, change: Change, ledger: Ledger, at: datetime) -> None:
        """Write a change into the audit trail, once however many processes see it."""
        place = f"{socket.gethostname()}:{self.path}"
        if not ledger.claim(f"policy {place} {change.state}", at=at):
            return
        before, after = change.before.summary(), change.after.summary()
        event = change_event("policy", place, by=whoami(), at=at, before=before or None, after=after or None)
        ledger.write(event)

    def _stat(self) -> tuple[int, ...]:
        try:
            found = self.path.stat()
        except FileNotFoundError:
            return GONE
        return found.st_mtime_ns, found.st_size, found.st_ino
