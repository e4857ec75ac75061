"""What sets an alert off, and that somebody is told once: of real ledgers, in one process and in eight."""

import logging
import os
import pickle
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import count
from pathlib import Path

import pytest

from langchain_finops.budgets.alerts import AlertBook, BurnRateAlert
from langchain_finops.budgets.notify import Alert, Webhook
from langchain_finops.budgets.policy import Budget
from langchain_finops.errors import BadArguments
from langchain_finops.ledger import open_ledger
from langchain_finops.ledger.holds import Settlement
from langchain_finops.records import Attribution, CallRecord
from langchain_finops.usage import Usage

NOON = datetime(2026, 11, 26, 12, 0, 7, tzinfo=UTC)
DAILY = Budget(usd=20, per="day", scope="agent_id")
SUPPORT = Attribution(agent_id="support")
PICO = 10**12
_numbers = count()


class Bench:
    """A ledger, a book of alerts on it, a clock, and what was told."""

    def __init__(self, *alerts: BurnRateAlert, ledger=None) -> None:
        self.ledger = open_ledger(":memory:") if ledger is None else ledger
        self.now = NOON
        self.told: list[Alert] = []
        self.faults: list[Exception] = []
        self.alerts = alerts
        self.book = AlertBook(
            self.ledger,
            lambda: self.alerts,
            lambda: (self.told.append,),
            failed=self.faults.append,
            now=lambda: self.now,
        )

    def spend(self, usd: object, who: Attribution = SUPPORT, *, tokens: int = 0, at: datetime | None = None) -> None:
        """Settle a call as the meter does, and have the alerts looked at."""
        self.now = at or self.now
        watched = self.book.watched(who, self.now, run_id="r")
        spent = {"usd": int(Decimal(str(usd)) * PICO), "tokens": tokens, "llm_calls": 1}
        amounts = {key: spent[each.limit.unit] for each in watched for key in each.keys}
        self.ledger.settle(Settlement(record=call(who, self.now), amounts=amounts))
        self.book.look(watched)
        assert self.book.flush(10)
        assert self.faults == []

    def kinds(self) -> list[tuple[str, str]]:
        return [(alert.kind, str(alert.threshold)) for alert in self.told]


def call(who: Attribution, at: datetime) -> CallRecord:
    return CallRecord(
        call_id=f"c-{os.getpid()}-{next(_numbers)}",
        run_id="r",
        invocation_id="r",
        attribution=who,
        usage=Usage(input_tokens=1),
        started_at=at,
        ended_at=at,
    )


def test_a_share_within_an_hour():
    """$5 of $20 within any hour is a quarter: $4.99 is silent, the next cent tells, and says so in one sentence."""
    bench = Bench(BurnRateAlert(share=0.25, of=DAILY, within="1h"))
    bench.spend("4.99")
    assert bench.told == []

    bench.spend("0.01", at=NOON + timedelta(minutes=30))

    (alert,) = bench.told
    assert alert.text == ("$20/day per agent_id for agent_id=support: $5 within 1 h, 25% of it; the alert is at 25%")
    assert (alert.kind, alert.spent, alert.limit, alert.unit, alert.scope) == (
        "share", Decimal(5), Decimal(20), "usd", "agent_id=support",
    )  # fmt: skip
    assert (alert.window_end - alert.window_start, alert.at) == (timedelta(hours=1), NOON + timedelta(minutes=30))


def test_what_was_spent_before_the_window_is_forgotten():
    """$4.99 at noon and $4.99 at 13:10 are never $5 within one hour."""
    bench = Bench(BurnRateAlert(share=0.25, of=DAILY, within="1h"))
    bench.spend("4.99")
    bench.spend("4.99", at=NOON + timedelta(minutes=70))

    assert bench.told == []


def test_a_long_call_counts_when_it_is_settled():
    """A call that began three hours ago costs $6 now: within this hour, in the day that it began in."""
    bench = Bench(BurnRateAlert(share=0.25, of=DAILY, within="1h"))
    bench.now = datetime(2026, 11, 27, 1, tzinfo=UTC)
    watched = bench.book.watched(SUPPORT, bench.now - timedelta(hours=3), run_id="r")
    amounts = {key: 6 * PICO for each in watched for key in each.keys}
    bench.ledger.settle(Settlement(record=call(SUPPORT, bench.now), amounts=amounts))
    bench.book.look(watched)
    assert bench.book.flush(10)

    assert bench.kinds() == [("share", "0.25")]
    assert "usd/day agent_id=support @2026-11-26T00:00:00Z" in amounts


def test_a_rolling_window_goes_on_over_midnight():
    """$3 before and $3 after midnight are $6 within the hour, though the day's budget begins anew."""
    bench = Bench(BurnRateAlert(share=0.25, of=DAILY, within="1h"))
    bench.spend(3, at=datetime(2026, 11, 26, 23, 50, tzinfo=UTC))
    bench.spend(3, at=datetime(2026, 11, 27, 0, 10, tzinfo=UTC))

    assert bench.kinds() == [("share", "0.25")]


def test_of_a_rolling_window_it_is_told_once_and_again_if_it_goes_on():
    """$6 each five minutes: told at the first call, and then not before an hour has passed."""
    bench = Bench(BurnRateAlert(share=0.25, of=DAILY, within="1h"))
    for step in range(37):
        bench.spend(6, at=NOON + timedelta(minutes=5 * step))

    at = [alert.at for alert in bench.told]
    assert at[0] == NOON
    assert len(at) == 2
    assert timedelta(hours=1) <= at[1] - at[0] <= timedelta(hours=2)


def test_an_alert_just_before_a_stretch_ends_is_not_told_again_just_after():
    """12:59 and 13:01 are of one hour's stretch, whatever the clock's hours are."""
    bench = Bench(BurnRateAlert(share=0.25, of=DAILY, within="1h"))
    for minutes in (59, 61, 63):
        bench.spend(6, at=datetime(2026, 11, 26, 12, tzinfo=UTC) + timedelta(minutes=minutes))

    assert len(bench.told) == 1


def test_thresholds_on_what_is_spent():
    """Each share of the limit is told once in its day, and again the next day."""
    bench = Bench(BurnRateAlert(of=DAILY, actual=(0.5, 0.9)))
    for usd in ("9.99", "0.01", "7", "1", "30"):
        bench.spend(usd)
    assert bench.kinds() == [("actual", "0.5"), ("actual", "0.9")]
    assert (bench.told[0].spent, bench.told[0].value) == (Decimal(10), Decimal("0.5"))
    assert bench.told[0].window_start == datetime(2026, 11, 26, tzinfo=UTC)

    bench.spend(10, at=NOON + timedelta(days=1))
    assert bench.kinds()[2:] == [("actual", "0.5")]


def test_a_threshold_on_the_forecast():
    """By noon $9.99 make $19.98 of the day, $10 make $20: the limit."""
    bench = Bench(BurnRateAlert(of=DAILY, forecast=1.0))
    noon = datetime(2026, 11, 26, 12, tzinfo=UTC)
    bench.spend("9.99", at=noon)
    assert bench.told == []
    bench.spend("0.01")
    bench.spend(1)

    (alert,) = bench.told
    assert alert.text == (
        "$20/day per agent_id for agent_id=support: $20 by 2026-11-27 00:00 UTC if its pace stays, 100% of it; "
        "the alert is at 100%"
    )
    assert alert.spent == 10


def test_burn_rates_need_both_windows():
    """Of $7200 in 30 days $144 within an hour is 14.4 times too fast, and $12 of it within 5 minutes."""
    monthly = Budget(usd=7_200, per="30d", scope="all")
    slow = Bench(BurnRateAlert(of=monthly))
    for step in range(12):  # $132 in the hour's first 55 minutes, then nothing for ten, and then a cent.
        slow.spend(11, at=NOON + timedelta(minutes=5 * step))
    assert "14.4" not in [threshold for _, threshold in slow.kinds()]

    fast = Bench(BurnRateAlert(of=monthly))
    for step in range(13):
        fast.spend(12, at=datetime(2026, 11, 26, 12, tzinfo=UTC) + timedelta(minutes=5 * step))
    # 5 min later the window holds twelve whole buckets and the one of now.
    assert ("burn_rate", "14.4") in fast.kinds()
    assert "used up" in fast.told[0].text


def test_a_burst_that_is_over_is_not_told():
    """$150 an hour ago in one call is over the slow windows' rates, not over the fast one's short window."""
    bench = Bench(BurnRateAlert(of=Budget(usd=7_200, per="30d", scope="all")))
    bench.alerts = ()
    bench.alerts = (BurnRateAlert(of=Budget(usd=7_200, per="30d", scope="all")),)
    watched = bench.book.watched(SUPPORT, NOON, run_id="r")
    amounts = {key: 150 * PICO for each in watched for key in each.keys}
    bench.ledger.settle(Settlement(record=call(SUPPORT, NOON), amounts=amounts))

    bench.spend("0.01", at=NOON + timedelta(minutes=20))

    assert ("burn_rate", "14.4") not in bench.kinds()


def test_whoever_spends_is_watched_apart():
    """Two agents with $3 each are not one with $6."""
    bench = Bench(BurnRateAlert(share=0.25, of=DAILY, within="1h"))
    bench.spend(3)
    bench.spend(3, Attribution(agent_id="sales"))
    assert bench.told == []

    bench.spend(3, Attribution(agent_id="sales"))
    assert [alert.scope for alert in bench.told] == ["agent_id=sales"]


def test_a_name_begins_no_line_of_the_log():
    """Users choose their ids themselves: a line break in one is no new entry."""
    bench = Bench(BurnRateAlert(of=DAILY, actual=0.5))
    bench.spend(10, Attribution(agent_id="x\nERROR all is well"))

    assert "\n" not in bench.told[0].text


def test_only_what_matches_counts():
    """An alert on one node's budget does not see the other's spend."""
    alert = BurnRateAlert(of=Budget(usd=1, per="day", match={"node": "plan"}), actual=1)
    bench = Bench(alert)
    bench.spend(5, Attribution(node="act", node_path="act"))
    assert bench.told == []
    bench.spend(5, Attribution(node="plan", node_path="outer/plan"))
    assert bench.kinds() == [("actual", "1")]


def test_each_unit_is_watched():
    """A budget of dollars and tokens has two balances, and an alert for each."""
    bench = Bench(BurnRateAlert(of=Budget(usd=20, tokens=1_000, per="day"), actual=0.5))
    bench.spend(1, tokens=500)

    assert [(alert.unit, alert.spent) for alert in bench.told] == [("tokens", 500)]


def test_alerts_of_one_budget_do_not_hide_each_other():
    """Two alerts on the same balance, without names, are both looked at."""
    bench = Bench(BurnRateAlert(of=DAILY, share=0.25, within="1h"), BurnRateAlert(of=DAILY, actual=0.5))
    bench.spend(10)

    assert bench.kinds() == [("share", "0.25"), ("actual", "0.5")]


def test_a_changed_limit_is_watched_anew():
    """$10 are half of $20, and all of $10."""
    bench = Bench(BurnRateAlert(of=DAILY, actual=0.5, name="half"))
    bench.spend(10)
    bench.alerts = (BurnRateAlert(of=Budget(usd=10, per="day", scope="agent_id"), actual=0.5, name="half"),)
    bench.spend(0)

    assert [alert.limit for alert in bench.told] == [20, 10]


def test_it_is_logged_and_in_the_audit_trail(caplog):
    """Without any target the alert is in the log once, and an event of the ledger."""
    bench = Bench(BurnRateAlert(of=DAILY, actual=0.5))
    with caplog.at_level(logging.WARNING, "langchain_finops"):
        bench.spend(10)

    assert [record.getMessage() for record in caplog.records] == [bench.told[0].text]
    (event,) = bench.ledger.events(action="alert")
    assert (event.subject, event.reason, event.after["spent"]) == (bench.told[0].alert, bench.told[0].text, "10")


def test_its_own_targets_are_told_beside_those_of_all():
    """`notify` of the alert, then whoever is told of every alert; the same one once."""
    own: list[Alert] = []
    bench = Bench()
    bench.alerts = (BurnRateAlert(of=DAILY, actual=0.5, notify=(own.append,)),)
    bench.spend(10)

    assert own == bench.told


def test_without_alerts_nothing_is_counted():
    """A handler without alerts pays for none: no balance, no thread."""
    bench = Bench()
    bench.spend(10)

    assert bench.ledger.balances() == []
    assert bench.book.watched(SUPPORT, NOON, run_id="r") == ()


def test_a_ledger_that_cannot_be_read_is_a_fault_and_no_more(monkeypatch):
    """The call went on long ago; the fault is counted."""
    bench = Bench(BurnRateAlert(of=DAILY, actual=0.5))
    monkeypatch.setattr(bench.ledger, "balances", lambda *keys: 1 / 0)

    bench.book.look(bench.book.watched(SUPPORT, NOON, run_id="r"))
    assert bench.book.flush(10)
    assert [type(error) for error in bench.faults] == [ZeroDivisionError]


def test_many_calls_are_looked_at_once(monkeypatch):
    """A thousand calls in a moment read the balances twice at most: at the first call, and a second later."""
    bench = Bench(BurnRateAlert(of=DAILY, actual=0.5))
    reads: list[object] = []
    read = bench.ledger.balances
    monkeypatch.setattr(bench.ledger, "balances", lambda *keys: reads.append(keys) or read(*keys))

    for _ in range(1_000):
        bench.book.look(bench.book.watched(SUPPORT, NOON, run_id="r"))
    assert bench.book.flush(10)

    assert len(reads) <= 2


EIGHT_PROCESSES = """
import os, sys, traceback
import langchain_finops.ledger.sql  # Once, and not in each of the eight.
from test_alerts import Bench, BurnRateAlert, DAILY
from langchain_finops.ledger import open_ledger

def spend() -> None:
    ledger = open_ledger(sys.argv[1], hold_timeout=60)
    alerts = BurnRateAlert(share=0.25, of=DAILY, within="1h"), BurnRateAlert(of=DAILY, actual=(0.5, 1))
    bench = Bench(*alerts, ledger=ledger)
    for _ in range(4):
        bench.spend(1)
    ledger.close()
    print("told" * len(bench.told), flush=True)

children = []
for _ in range(8):  # Forked, so that they begin together.
    children.append(os.fork())
    if not children[-1]:
        try:
            spend()
        except BaseException:
            traceback.print_exc()
        os._exit(0)
for child in children:
    os.waitpid(child, 0)
"""


def test_eight_processes_tell_once(tmp_path):
    """$32 of $20 by 8 processes of $4 each: none passes a threshold alone, and each is told once by one of them."""
    open_ledger(tmp_path / "l.db").close()
    done = subprocess.run(
        [sys.executable, "-c", EIGHT_PROCESSES, str(tmp_path / "l.db")],
        capture_output=True, text=True, check=True, cwd=Path(__file__).parent,
    )  # fmt: skip

    assert ("Traceback" in done.stderr, done.stdout.count("\n"), done.stdout.count("told")) == (False, 8, 3)
    ledger = open_ledger(tmp_path / "l.db")
    events = list(ledger.events(action="alert"))
    assert sorted((event.after["kind"], event.after["threshold"]) for event in events) == [
        ("actual", "0.5"),
        ("actual", "1"),
        ("share", "0.25"),
    ]
    ledger.close()


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"share": 0.25}, "share and within"),
        ({"within": "1h"}, "share and within"),
        ({"share": 0, "within": "1h"}, "share: must be more than 0"),
        ({"share": 25, "within": "1h"}, "share: is a share of the limit, not per cent: write 0.25, not 25"),
        ({"actual": (0.5, 80)}, "actual: is a share of the limit, not per cent: write 0.8, not 80"),
        ({"share": 0.1, "within": "soon"}, "within: 'soon' is no window"),
        ({"actual": (0.5, -1)}, "actual: must be more than 0"),
        ({"of": Budget(usd=1)}, "is one run's own"),
        ({"of": Budget(usd=1, scope="agent_id"), "forecast": 1}, "has no window"),
        ({"of": Budget(usd=1, scope="agent_id")}, "has no window"),
        ({"of": Budget(usd=1, per="1m"), "burn_rates": True}, "too short"),
        ({"burn_rates": False}, "nothing sets it off"),
        ({"of": "20 bananas"}, "of: "),
        ({"actual": 1, "notify": ("https://example.com",)}, "notify: "),
    ],
)
def test_what_is_wrong_is_told_at_construction(wrong, told):
    """Each fault names the argument and what would be right."""
    with pytest.raises(BadArguments, match="BurnRateAlert") as caught:
        BurnRateAlert(**{"of": DAILY, **wrong})
    assert told in str(caught.value)


def test_all_faults_are_told_at_once():
    """One look is enough."""
    with pytest.raises(BadArguments) as caught:
        BurnRateAlert(of=3, share=-1, within="x", actual="y")  # type: ignore[arg-type]
    assert all(f"{name}: " in str(caught.value) for name in ("of", "share", "within", "actual"))


def test_an_alert_hashes_pickles_and_has_a_label():
    """It crosses process boundaries like a budget; without a name it is called by what sets it off."""
    alert = BurnRateAlert(of="$20/day per agent_id", share="0.25", within="60m", forecast=(1, "1.5"))

    assert pickle.loads(pickle.dumps(alert)) == alert
    assert hash(alert) == hash(pickle.loads(pickle.dumps(alert)))
    assert alert.label == "25% within 1 h, a forecast of 100%, a forecast of 150% of $20/day per agent_id"
    assert BurnRateAlert(of=DAILY).label == "burn rates of $20/day per agent_id"
    assert BurnRateAlert(of=DAILY, name="fast").label == "fast"
    assert hash(BurnRateAlert(of=DAILY, notify=Webhook(url="https://example.com/")))
