"""Energy is a range with its warnings, made when somebody looks, and never money."""

import importlib.util
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from langchain_finops.cli.common import run
from langchain_finops.cli.finops import app
from langchain_finops.errors import BadArguments, MissingExtra
from langchain_finops.ledger import open_ledger
from langchain_finops.ledger.base import Ledger
from langchain_finops.records import Attribution, CallRecord, Outcome
from langchain_finops.reports import energy as module
from langchain_finops.reports.energy import Range, call_energy, energy_report
from langchain_finops.usage import Usage

AT = datetime(2026, 3, 1, 12, tzinfo=UTC)
with_ecologits = pytest.mark.skipif(
    importlib.util.find_spec("ecologits") is None, reason="the extra `carbon` is not part of `dev`"
)


def call(number: int, model: str = "gpt-4.1-mini", provider: str | None = "openai", **more: Any) -> CallRecord:
    who = {"agent_id": "a", "task_id": "t", **more.pop("who", {})}
    values: dict[str, Any] = {
        "call_id": f"c{number}",
        "run_id": "r",
        "invocation_id": "i",
        "attribution": Attribution(**who),
        "provider": provider,
        "model": model,
        "usage": Usage(input_tokens=10_000, output_tokens=100),
        "cost_usd": Decimal("0.001"),
        "cost_status": "exact",
        "started_at": AT,
        "ended_at": AT + timedelta(seconds=2),
    }
    return CallRecord(**values | more)


class Impacts:
    """EcoLogits' answers, by hand: a kWh for each output token at least, three at most; models `m*` are known."""

    def __init__(self) -> None:
        self.asked: list[tuple[object, ...]] = []
        self.electricity_mixes = SimpleNamespace(find_electricity_mix=lambda zone: zone if zone == "FRA" else None)

    def llm_impacts(self, provider: str, model: str, tokens: int, seconds: float, zone: str | None) -> Any:
        self.asked.append((provider, model, tokens, seconds, zone))
        if not model.startswith("m"):
            return SimpleNamespace(errors=["not registered"])
        amount = SimpleNamespace(value=SimpleNamespace(min=tokens, max=3 * tokens))
        warnings = [SimpleNamespace(message="expect lower precision")]
        one = SimpleNamespace(value=2.0)  # Sometimes it is one number.
        return SimpleNamespace(errors=None, energy=amount, gwp=one, wcf=amount, warnings=warnings)


@pytest.fixture
def impacts(monkeypatch: pytest.MonkeyPatch) -> Impacts:
    """The extra, as far as it is used here; real ones follow below."""
    made = Impacts()
    monkeypatch.setattr(module, "import_module", lambda name: made)
    monkeypatch.setattr(module, "version", lambda name: "0.11.3")
    return made


@pytest.fixture
def ledger() -> Ledger:
    return open_ledger(":memory:")


def test_without_the_extra_it_says_what_to_install(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """One sentence with the pip line, before a ledger of a million calls is read."""
    monkeypatch.setitem(sys.modules, "ecologits", None)
    monkeypatch.setitem(sys.modules, "ecologits.tracers.utils", None)
    for ask in (lambda: energy_report(ledger), lambda: call_energy(call(1))):
        with pytest.raises(MissingExtra, match=r"Energy needs an extra: pip install 'langchain-finops\[carbon\]'"):
            ask()


def test_the_command_without_the_extra_exits_2(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As every command whose extra is missing."""
    open_ledger(tmp_path / "l.db").close()
    monkeypatch.setitem(sys.modules, "ecologits.tracers.utils", None)
    code = run(app, "finops", ["energy", "--ledger", str(tmp_path / "l.db")])

    assert code == 2
    assert capsys.readouterr().err == "Error: Energy needs an extra: pip install 'langchain-finops[carbon]'\n"


def test_ranges_of_calls_add_up_by_key(ledger: Ledger, impacts: Impacts) -> None:
    """Least and most apart: two calls of 100 tokens and one of 300 are 500 to 1500."""
    ledger.write(
        call(1, "m1"), call(2, "m1"), call(3, "m2", usage=Usage(output_tokens=200, audio_output_tokens=100)),
    )  # fmt: skip
    (row,) = energy_report(ledger, by=("agent",)).rows()

    assert (row["agent"], row["calls"], row["unknown"]) == ("a", 3, 0)
    assert (row["energy_kwh_low"], row["energy_kwh_high"]) == (500.0, 1500.0)
    assert (row["gwp_kgco2eq_low"], row["gwp_kgco2eq_high"]) == (6.0, 6.0)
    assert impacts.asked[0] == ("openai", "m1", 100, 2.0, None)


def test_what_no_model_worked_for_takes_nothing(ledger: Ledger, impacts: Impacts) -> None:
    """Cached answers, replays, refused calls: counted, and not asked about."""
    ledger.write(
        call(1, "m1", billing_mode="cache"),
        call(2, "m1", billing_mode="replay"),
        call(3, "m1", usage=Usage(requests=0)),
    )
    (row,) = energy_report(ledger).rows()

    assert (row["calls"], row["not_sent"], row["energy_kwh_high"]) == (0, 3, 0.0)
    assert impacts.asked == []


def test_unknown_is_not_nothing(ledger: Ledger, impacts: Impacts) -> None:
    """A group of unknown models has no range; one with some of them has a lower bound, marked as such."""
    ledger.write(call(1, "x"), call(2, "x", who={"agent_id": "b"}), call(3, "m", who={"agent_id": "b"}))
    found = energy_report(ledger)
    rows = {row["agent"]: row for row in found.rows()}
    energy = next(column for column in found.table("x").columns if column.title == "energy, Wh")

    assert (rows["a"]["energy_kwh_low"], rows["a"]["energy_kwh_high"]) == (None, None)
    assert energy.text(rows["a"]) == "-"
    assert energy.text(rows["b"]) == ">= 100,000 - 300,000"
    assert any("2 calls of models that EcoLogits does not know" in note for note in found.table("x").notes)


def test_a_success_has_its_share_of_what_tasks_took(ledger: Ledger, impacts: Impacts) -> None:
    """All calls for tasks, failed ones too, judges and what names no task apart, over the successes."""
    ledger.write(
        call(1, "m"), call(2, "m", who={"task_id": "failed"}), call(3, "m", who={"role": "judge"}),
        call(4, "m", who={"task_id": None}), Outcome(task_id="t", success=True, at=AT),
        Outcome(task_id="failed", success=False, at=AT),
    )  # fmt: skip
    (row,) = energy_report(ledger).rows()

    assert (row["successes"], row["energy_kwh_low"]) == (1, 400.0)
    assert (row["energy_kwh_per_success_low"], row["energy_kwh_per_success_high"]) == (200.0, 600.0)


def test_without_a_success_there_is_no_share(ledger: Ledger, impacts: Impacts) -> None:
    """Neither 0 nor infinity."""
    ledger.write(call(1, "m"))

    assert energy_report(ledger).rows()[0]["energy_kwh_per_success_low"] is None


def test_warnings_are_told_with_how_many_calls(ledger: Ledger, impacts: Impacts) -> None:
    """And with what the figures are not."""
    ledger.write(call(1, "m"), call(2, "m"))
    notes = energy_report(ledger, zone="FRA").table("x").notes

    assert any(note.startswith("Ranges of EcoLogits 0.11.3") and "electricity of FRA" in note for note in notes)
    assert "2 calls: expect lower precision" in notes


def test_a_zone_that_nobody_knows_is_refused(ledger: Ledger, impacts: Impacts) -> None:
    """With the remedy, before anything is read."""
    with pytest.raises(BadArguments, match="no electricity of zone 'XX' is known: write a country's three letters"):
        energy_report(ledger, zone="XX")


@pytest.mark.parametrize(
    ("provider", "model", "expected"),
    [
        ("openai", "m", ("openai", "m")),
        ("azure", "m", ("openai", "m")),
        ("google", "m", ("google_genai", "m")),
        ("aws", "eu.mistral.mistral-large-2402-v1:0", ("mistralai", "mistral-large-2402")),
        ("openrouter", "mistralai/mistral-large-2512", ("mistralai", "mistral-large-2512")),
        ("together", "x-llama/8b", None),
        ("groq", "m/open", ("huggingface_hub", "m/open")),
        (None, "m", ("huggingface_hub", "m")),
    ],
)
def test_resellers_models_are_their_makers(
    impacts: Impacts, provider: str | None, model: str, expected: tuple[str, str] | None
) -> None:
    """The names that EcoLogits may know a model by, the likeliest first."""
    found = call_energy(call(1, model, provider))

    assert (found is not None) == (expected is not None)
    if expected is not None:
        assert impacts.asked[-1][:2] == expected


def test_days_and_missing_names_are_groups(ledger: Ledger, impacts: Impacts) -> None:
    """The day on which a call began, in UTC."""
    ledger.write(call(1, "m"), call(2, "m", started_at=AT + timedelta(days=1), ended_at=AT + timedelta(days=1)))
    rows = energy_report(ledger, by=("day", "user")).rows()

    assert [(row["day"], row["user"]) for row in rows] == [("2026-03-01", None), ("2026-03-02", None)]
    assert energy_report(ledger, by=("day",), since=AT + timedelta(hours=1)).rows()[0]["day"] == "2026-03-02"


def test_money_is_in_no_table_of_energy(ledger: Ledger, impacts: Impacts) -> None:
    """Nor the other way round: nothing that prices loads this."""
    ledger.write(call(1, "m"))
    table = energy_report(ledger).table("x")
    code = "import sys, langchain_finops.pricing, langchain_finops.reports.summary; print('ecologits' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert not [name for name in table.fields if "usd" in name or "cost" in name]
    assert done.stdout.strip() == "False"


def test_ranges() -> None:
    """Ends add up apart."""
    assert Range(1.0, 2.0) + Range(0.5, 4.0) == Range(1.5, 6.0)
    assert Range(1.0, 3.0).over(2) == Range(0.5, 1.5)


# --- with the extra -------------------------------------------------------------------------------------------------


@with_ecologits
def test_a_known_model_has_a_true_range_and_its_warnings() -> None:
    """Of EcoLogits itself: least below most, more tokens more, and a warning that the model is not published."""
    small, large = call_energy(call(1)), call_energy(call(1, usage=Usage(output_tokens=1000)))

    assert small is not None
    assert large is not None
    assert 0 < small.ranges["energy"].low < small.ranges["energy"].high < 0.01
    assert small.ranges["energy"].high < large.ranges["energy"].high
    assert 0 < small.ranges["gwp"].low < small.ranges["gwp"].high
    assert small.ranges["water"].low > 0
    assert any("architecture has not been released" in warning for warning in small.warnings)


@with_ecologits
def test_the_electricity_of_a_zone_counts() -> None:
    """France's is cleaner than America's, where OpenAI's data centres are."""
    there, here = call_energy(call(1)), call_energy(call(1), zone="FRA")

    assert there is not None
    assert here is not None
    assert here.ranges["energy"] == there.ranges["energy"]
    assert here.ranges["gwp"].high < there.ranges["gwp"].high


@with_ecologits
@pytest.mark.parametrize(
    ("provider", "model"),
    [
        ("aws", "us.anthropic.claude-sonnet-4-5-20250929-v1:0"),
        ("google", "gemini-2.5-pro"),
        ("groq", "openai/gpt-oss-120b"),
        ("openrouter", "anthropic/claude-sonnet-4-5"),
    ],
)
def test_models_of_other_sellers_are_known(provider: str, model: str) -> None:
    """By the names that answers give them."""
    assert call_energy(call(1, model, provider)) is not None


@with_ecologits
@pytest.mark.filterwarnings("ignore")
def test_the_command_shows_ranges(tmp_path: Path) -> None:
    """In a process of its own: nothing but the table on stdout, and no warning of EcoLogits on stderr."""
    ledger = open_ledger(tmp_path / "l.db")
    ledger.write(call(1), call(2, "unknown", "nobody"), Outcome(task_id="t", success=True, at=AT))
    ledger.close()
    command = "from langchain_finops.cli.finops import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", command, "energy", "--by", "model", "--ledger", str(tmp_path / "l.db")],
        capture_output=True, text=True, check=True, env={"COLUMNS": "80", "TERM": "dumb"},
    )  # fmt: skip

    assert done.stderr == ""
    assert "Wh/success" in done.stdout
    assert all(len(line) <= 80 for line in done.stdout.splitlines())
    assert next(line for line in done.stdout.splitlines() if line.startswith("unknown ")).split()[-1] == "-"
