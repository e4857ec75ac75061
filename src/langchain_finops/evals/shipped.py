"""The evaluation that comes with the package: data, suite, agent, and a recording of a real model."""

from pathlib import Path

from langchain_finops.errors import EvalError

__all__ = ["shipped_dataset"]

# The wheel carries the files of the repository, byte for byte (see pyproject.toml); an editable install has them there.
PLACES = (Path(__file__).parent / "demo", Path(__file__).parents[3])


def shipped_dataset() -> Path:
    """Where the golden dataset lies; its suite is beside it. Raises EvalError where the installation lacks it."""
    for place in PLACES:
        data = place / "golden_datasets" / "tickets.jsonl"
        if data.is_file() and (data.parent / "recordings" / data.name).is_file():
            return data
    raise EvalError(f"the demo's files are not in {PLACES[0]}: install langchain-finops from a wheel, or clone it")
