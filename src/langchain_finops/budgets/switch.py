"""What a person changes while agents run, kills and budgets: each change together with its event in the audit trail.

Pure functions over a ledger: every handler on it takes a change up within a second, see `standing`.
"""

import getpass
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, Literal, get_args
from uuid import uuid4

from langchain_finops.errors import BadArguments
from langchain_finops.ledger.base import Ledger
from langchain_finops.records import Attribution, Event

__all__ = [
    "KILL",
    "KILL_SCOPES",
    "Kill",
    "KillScope",
    "change_event",
    "kill",
    "kills",
    "read_kills",
    "revive",
    "whoami",
]

KillScope = Literal["all", "agent_id", "user_id", "task_id"]
KILL_SCOPES: Final[tuple[KillScope, ...]] = get_args(KillScope)
KILL: Final = "kill"
"""Kind of the ledger's controls that kills are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kill:
    """Whose calls are refused, until when, by whom and why."""

    scope: KillScope
    value: str | None = None
    """The agent, user or task; None for all."""
    by: str
    at: datetime
    reason: str | None = None
    until: datetime | None = None
    """The first moment at which it no longer holds; None: until somebody revives."""
    now: bool = False
    """True: streams in flight are cut off, too."""

    @property
    def key(self) -> str:
        """What it stops, as text: `agent_id=support`, or `all`."""
        return "all" if self.scope == "all" else f"{self.scope}={self.value}"

    def holds(self, at: datetime) -> bool:
        """True as long as it has not run out."""
        return self.until is None or at < self.until

    def stops(self, who: Attribution) -> bool:
        """True for calls of whom it is meant for."""
        return self.scope == "all" or getattr(who, self.scope) == self.value


def kill(
    ledger: Ledger,
    scope: KillScope,
    value: str | None = None,
    *,
    by: str | None = None,
    reason: str | None = None,
    until: datetime | None = None,
    now: bool = False,
) -> Kill:
    """Refuse every further call of an agent, user or task, or all calls, on this ledger; what stood before is replaced.

    Raises BadArguments for a scope without its value, or an end that has passed.
    """
    at = datetime.now(UTC)
    if (scope == "all") != (value is None) or (value is not None and not value.strip()):
        raise BadArguments(
            f"a kill is of `all` or of one agent_id, user_id or task_id; this one is of {scope}={value!r}"
        )
    if until is not None and until <= at:
        raise BadArguments(f"the kill would end at {until:%Y-%m-%d %H:%M} UTC, which has passed")
    new = Kill(scope=scope, value=value, by=by or whoami(), at=at, reason=reason, until=until, now=now)
    before = ledger.controls(KILL).get(new.key)
    body = _body(new)
    ledger.set_control(
        KILL, new.key, body, change_event("kill", new.key, by=new.by, at=at, reason=reason, before=before, after=body)
    )
    return new


def revive(
    ledger: Ledger, scope: KillScope, value: str | None = None, *, by: str | None = None, reason: str | None = None
) -> Kill | None:
    """Let calls through again; the kill that stood there, None if there was none. Kills of other scopes stay."""
    key = "all" if scope == "all" else f"{scope}={value}"
    before = ledger.controls(KILL).get(key)
    if before is None:
        return None
    event = change_event("revive", key, by=by or whoami(), at=datetime.now(UTC), reason=reason, before=before)
    ledger.set_control(KILL, key, None, event)
    return _read(before)


def kills(ledger: Ledger) -> list[Kill]:
    """All kills that stand, oldest first; those that have run out stay until somebody revives."""
    return read_kills(ledger.controls(KILL))


def read_kills(bodies: Mapping[str, Mapping[str, object]]) -> list[Kill]:
    """Kills as `Ledger.controls` gives them, oldest first."""
    return sorted((_read(body) for body in bodies.values()), key=lambda each: (each.at, each.key))


def change_event(
    action: str,
    subject: str,
    *,
    by: str,
    at: datetime,
    reason: str | None = None,
    before: Mapping[str, Any] | None = None,
    after: Mapping[str, Any] | None = None,
) -> Event:
    """One entry of the audit trail."""
    return Event(
        event_id=uuid4().hex, at=at, actor=by, action=action, subject=subject, reason=reason, before=before, after=after
    )


def whoami() -> str:
    """The user that this process runs as; `unknown` where the system has no name for it."""
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):  # In a container the user often has a number and no name.
        return "unknown"


def _body(each: Kill) -> dict[str, object]:
    return {
        "scope": each.scope,
        "value": each.value,
        "by": each.by,
        "at": each.at.isoformat(),
        "reason": each.reason,
        "until": None if each.until is None else each.until.isoformat(),
        "now": each.now,
    }


def _read(body: Mapping[str, Any]) -> Kill:
    until = body.get("until")
    return Kill(
        scope=body["scope"],
        value=body.get("value"),
        by=str(body.get("by")),
        at=datetime.fromisoformat(body["at"]),
        reason=body.get("reason"),
        until=None if until is None else datetime.fromisoformat(until),
        now=bool(body.get("now")),
    )
