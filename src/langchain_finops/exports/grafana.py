"""The dashboard that goes with the Prometheus endpoint, as Grafana imports it."""

from importlib.resources import files
from pathlib import Path

from langchain_finops.exports.files import check_target, replaced

__all__ = ["dashboard", "write_dashboard"]


def dashboard() -> str:
    """The dashboard's JSON."""
    return files("langchain_finops.exports").joinpath("grafana.json").read_text("utf-8")


def write_dashboard(path: Path) -> None:
    """Write it to a file. Raises BadArguments where that cannot be."""
    check_target(path, (".json",))
    with replaced(path) as part:
        part.write_text(dashboard(), "utf-8")
