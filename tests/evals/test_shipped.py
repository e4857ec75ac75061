"""The demo that comes with the package."""

import json
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

from langchain_finops.cli.common import run
from langchain_finops.cli.finops_eval import app
from langchain_finops.errors import EvalError
from langchain_finops.evals import shipped

ROOT = Path(__file__).parents[2]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
CARRIED: dict[str, str] = PYPROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["force-include"]
IN_WHEEL = "langchain_finops/evals/demo/"


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The demo's files as a wheel lays them out, in place of the repository's."""
    place = tmp_path / "demo"
    for source, target in CARRIED.items():
        copy = place / target.removeprefix(IN_WHEEL)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes((ROOT / source).read_bytes())
    monkeypatch.setattr(shipped, "PLACES", (place,))
    return place


def test_the_wheel_carries_all_that_the_demo_reads() -> None:
    """Data, suite, recording and agent, where the suite looks for them; each file is in the repository."""
    assert all(target.startswith(IN_WHEEL) for target in CARRIED.values())
    assert {target.removeprefix(IN_WHEEL) for target in CARRIED.values()} == set(CARRIED)
    assert set(CARRIED) == {
        "golden_datasets/tickets.jsonl",
        "golden_datasets/tickets.yaml",
        "golden_datasets/recordings/tickets.jsonl",
        "examples/ticket_agent.py",
    }


def test_the_demo_runs_from_what_the_wheel_carries(
    installed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """On the first two tasks of the recording, from any folder: a row a configuration, and commands to go on with."""
    data = installed / "golden_datasets/tickets.jsonl"
    data.write_text("".join(data.read_text("utf-8").splitlines(keepends=True)[:2]), "utf-8")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    path = list(sys.path)
    try:
        code = run(app, "finops-eval", ["demo", "--format", "json"])
    finally:
        sys.path[:] = path
        sys.modules.pop("examples.ticket_agent", None)

    out, err = capsys.readouterr()
    assert code == 0
    rows = json.loads(out)
    assert [row["attempts"] for row in rows] == [6] * 5
    assert all(row["replayed_calls"] > 0 for row in rows)
    assert "finops-eval gate results/demo" in err


def test_an_installation_without_the_files_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """One sentence, with the remedy."""
    monkeypatch.setattr(shipped, "PLACES", (tmp_path,))

    with pytest.raises(EvalError, match="install langchain-finops from a wheel"):
        shipped.shipped_dataset()


@pytest.mark.slow
def test_the_wheel_as_it_is_built(tmp_path: Path) -> None:
    """The demo's and the starter's files are in it, byte for byte, and add little. Needs an index for hatchling."""
    command = [sys.executable, "-m", "build", "--wheel", "--outdir", str(tmp_path), str(ROOT)]
    subprocess.run(command, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        for source, target in CARRIED.items():
            assert archive.read(target) == (ROOT / source).read_bytes()
        assert sum(archive.getinfo(target).compress_size for target in CARRIED.values()) < 500_000
        for name in ("tasks.jsonl", "tasks.yaml", "agent.py"):
            starter = f"langchain_finops/evals/starter/{name}"
            assert archive.read(starter) == (ROOT / "src" / starter).read_bytes()
