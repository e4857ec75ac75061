"""`open_ledger` finds the ledger that is meant, or says in one sentence why not."""

from pathlib import Path

import pytest

from langchain_finops.errors import BadArguments, LedgerError
from langchain_finops.ledger import Ledger, default_path, open_ledger
from langchain_finops.testing.records import a_call


def test_none_is_the_users_own(opened, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """In the data directory, made when it is missing; $FINOPS_LEDGER overrides it, an empty one does not."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setenv("FINOPS_LEDGER", "")
    assert default_path() == tmp_path / "data" / "langchain-finops" / "ledger.db"
    opened(None).write(a_call())

    assert default_path().is_file()
    monkeypatch.setenv("FINOPS_LEDGER", str(tmp_path / "mine.db"))
    assert opened(None).url == f"sqlite:///{tmp_path / 'mine.db'}"
    monkeypatch.setenv("FINOPS_LEDGER", ":memory:")
    assert opened(None).url == ":memory:"


@pytest.mark.parametrize("name", ["ledger.db", "with space?.db", "ü#%41.db"])
def test_a_ledger_is_found_by_its_url(opened, tmp_path: Path, name: str):
    """`url` opens the same ledger again, whatever the file's name."""
    first = opened(tmp_path / name)
    first.write(a_call())

    assert [call.call_id for call in opened(first.url).calls()] == ["c1"]
    assert [call.call_id for call in opened(str(tmp_path / name)).calls()] == ["c1"]
    assert (tmp_path / name).is_file()


def test_paths_are_read_as_a_person_writes_them(opened, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Relative ones count from here, a tilde is home."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))

    urls = [opened(where).url for where in ("a.db", "sqlite:///b.db", "~/c.db", Path("d/e.db"))]

    expected = ["a.db", "b.db", "home/c.db", "d/e.db"]
    assert urls == [f"sqlite:///{tmp_path}/{name}" for name in expected]


def test_a_ledger_is_itself(opened):
    """So that whoever takes a ledger may pass on what it was given."""
    ledger = opened(":memory:")

    assert open_ledger(ledger) is ledger
    assert isinstance(ledger, Ledger)


@pytest.mark.parametrize("where", [":memory:", "sqlite://", "sqlite:///:memory:"])
def test_memory_is_another_one_each_time(where: str):
    """What is in memory belongs to who opened it."""
    one, other = open_ledger(where), open_ledger(where)
    one.write(a_call())

    assert list(other.calls()) == []


@pytest.mark.parametrize(
    ("where", "says"),
    [
        ("postgresql+asyncpg://host/db", r"postgresql\+asyncpg://... is no ledger"),
        ("mysql://host/db", "is no ledger"),
        ("sqlite:///", "is no ledger"),
        ("sqlite://host/x.db", "is no ledger"),
        ("/dev/null/ledger.db", "cannot make the folder"),
        ("/proc/ledger.db", "cannot open the ledger /proc/ledger.db"),
        ("/", "cannot open the ledger"),
    ],
)
def test_what_cannot_be_opened_is_named(where: str, says: str):
    """In one sentence, with the remedy where there is one."""
    with pytest.raises(LedgerError, match=says):
        open_ledger(where)


@pytest.mark.parametrize("hold_timeout", [0, -1.0, float("nan")])
def test_a_hold_timeout_is_a_time(hold_timeout: float):
    """A hook that waits for no time would spill everything."""
    with pytest.raises(BadArguments, match="hold_timeout"):
        open_ledger(":memory:", hold_timeout=hold_timeout)
