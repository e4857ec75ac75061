"""What was set from outside while agents run: kills, budgets of the ledger, the policy file. Looked at twice a second.

Nothing here waits long or raises into a run: a ledger or a file that cannot be read leaves the last known state.
"""

import logging
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Final

from langchain_finops.budgets.outside import BUDGET, kept_budgets
from langchain_finops.budgets.policy_file import NO_POLICIES, Change, Policies, PolicyFile
from langchain_finops.budgets.switch import KILL, Kill, KillScope, read_kills
from langchain_finops.errors import Fault, FinOpsError
from langchain_finops.ledger.base import Ledger
from langchain_finops.ledger.forks import renew_in_child
from langchain_finops.ledger.worker import on_own_thread
from langchain_finops.records import Attribution

__all__ = ["POLL_S", "Standing"]

log = logging.getLogger("langchain_finops")

POLL_S: Final = 0.5
"""How old what is known may be when a call starts."""
OPEN_TIMEOUT_S: Final = 30.0
PATIENCE_S: Final = 1.0
"""How long a start waits for the ledger to say what is new."""
SPARED: Final = 9
"""How many times as long as it took to fail a ledger is left alone: else starts would spend their time with it."""
LONGEST_WAIT_S: Final = 30.0


class Standing:
    """Kills and policies as they stand. `refresh()` at each start; everything else only reads."""

    def __init__(
        self,
        ledger: Ledger,
        policy: Path | None = None,
        *,
        failed: Callable[[Exception], None],
        monotonic: Callable[[], float] = time.monotonic,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """`policy`: a policy file; None: `$FINOPS_POLICY`, else `finops.yaml` in the working directory if there is one.

        Raises BadData for a policy file with faults: whoever starts with limits that do not hold has to know.
        """
        self._ledger, self._failed, self._monotonic, self._now = ledger, failed, monotonic, now
        self._version: int | None = None
        self._kills: dict[tuple[KillScope, str | None], Kill] = {}
        self._on_ledger = NO_POLICIES
        self.policies = NO_POLICIES
        """Budgets, guards, alerts and targets of the ledger and the policy file together."""
        self._said: set[str] = set()
        self.after_fork()
        self._file, self._change = on_own_thread(partial(_opened, policy), OPEN_TIMEOUT_S)
        self._settle()
        self.refresh()
        renew_in_child(self)

    def after_fork(self) -> None:
        """Look anew, in the child."""
        self._lock = threading.RLock()
        self._looking = False
        self._looked_at = self._ask_at = -float("inf")

    def refresh(self) -> None:
        """Learn what was changed, unless that was looked at in the last half second. Never raises."""
        if self._monotonic() - self._looked_at < POLL_S:
            return
        # The others wait for who looks: a call that starts after an hour must not miss the kill that came meanwhile.
        if not self._lock.acquire(timeout=PATIENCE_S):
            return
        try:
            if self._looking or self._monotonic() - self._looked_at < POLL_S:
                return
            self._looking = True
            try:
                on_own_thread(self._look, PATIENCE_S)
            finally:
                # Not before: others would go on without what is being read. Also where it failed: a ledger that is gone
                # must not cost every call a second.
                self._looked_at = self._monotonic()
        except TimeoutError:
            self._say("the ledger did not answer in time: kills and budgets that were set since are not known yet")
        except RuntimeError as error:  # No thread is to be had for it: it has not begun, and nobody else would look.
            self._looking = False
            self._say(f"kills and budgets that were set since are not known yet: {error}")
        finally:
            self._lock.release()

    def kill_for(self, who: Attribution, *, now: bool = False) -> Kill | None:
        """The kill that stops these calls; None where none does. `now`: only one that cuts streams in flight off."""
        kills = self._kills
        if not kills:
            return None
        at = self._now()
        names: tuple[tuple[KillScope, str | None], ...] = (
            ("all", None),
            ("agent_id", who.agent_id),
            ("user_id", who.user_id),
            ("task_id", who.task_id),
        )
        for name in names:
            found = kills.get(name)
            if found is not None and found.holds(at) and (found.now or not now):
                return found
        return None

    @property
    def kills_now(self) -> bool:
        """Whether any kill cuts streams in flight off: nobody has to look at each token otherwise."""
        return any(kill.now for kill in self._kills.values())

    def _look(self) -> None:
        """Read what is new; on whatever thread may do so."""
        try:
            self._ask_ledger()
        except Exception as error:  # noqa: BLE001 - a ledger that is gone leaves what was known.
            self._say("the ledger cannot be read: kills and budgets stay as they were last known")
            self._note(error)
        try:
            change = self._file.look() or self._change
            if change is not None:
                self._settle()
                self._change = change
                self._file.tell(change, self._ledger, self._now())
                self._change = None
        except Exception as error:  # noqa: BLE001 - neither is a file that is gone, or wrong.
            self._say(f"the policy file is not used as it is now, but as it was: {error}")
            self._note(error)
        finally:
            self._looking = False

    def _note(self, error: Exception) -> None:
        """Count a fault of ours. What the user can mend was said, and would take the one line there is for ours."""
        if not isinstance(error, FinOpsError):
            self._failed(error)

    def _ask_ledger(self) -> None:
        """Look at the ledger, unless it failed a moment ago, and took its time to."""
        began = self._monotonic()
        if began < self._ask_at:
            return
        try:
            self._look_at_ledger()
        except Exception:
            ended = self._monotonic()
            self._ask_at = ended + min(SPARED * (ended - began), LONGEST_WAIT_S)
            raise

    def _look_at_ledger(self) -> None:
        version = self._ledger.controls_version()
        if version == self._version:
            return
        kills = read_kills(self._ledger.controls(KILL))
        self._kills = {(kill.scope, kill.value): kill for kill in kills}
        faults: list[Fault] = []
        self._on_ledger = Policies(budgets=kept_budgets(self._ledger.controls(BUDGET), faults))
        for fault in faults:
            self._say(f"{fault}; it does not hold here")
        self._version = version  # After all was read: what failed is read again.
        self._settle()

    def _settle(self) -> None:
        self.policies = self._on_ledger.together_with(self._file.policies)

    def _say(self, sentence: str) -> None:
        """Log something once, however often it is met."""
        if sentence not in self._said and len(self._said) < 1_000:
            self._said.add(sentence)
            log.warning("%s", sentence)


def _opened(path: Path | None) -> tuple[PolicyFile, Change | None]:
    file = PolicyFile(path)
    return file, file.look()
