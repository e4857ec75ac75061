"""pytest: what a test's model calls cost, and how much they may.

    @pytest.mark.finops(max_usd=0.05, max_steps=10)
    def test_refund(finops):
        graph.invoke(state, {"callbacks": [finops]})
        finops.assert_under(calls=4)

Nothing of LangChain is loaded before a test asks for the fixture.
"""

import json
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from langchain_finops.pytest_plugin.metered import Metered

__all__ = ["finops"]

PROPERTY = "finops"
"""The name under which a test's figures travel in its report: from xdist's workers, and into JUnit XML."""
OPTIONS = frozenset({"max_usd", "max_steps", "max_calls", "recording"})
METERED = pytest.StashKey["Metered"]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options."""
    group = parser.getgroup("finops", "cost of model calls")
    group.addoption(
        "--finops-record-mode",
        choices=("none", "once", "all"),
        default="none",
        help="recordings of tests with @pytest.mark.finops(recording=True): none replays only, once records what is "
        "missing, all records anew (default: none)",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Declare the marker."""
    config.addinivalue_line(
        "markers",
        "finops(max_usd=None, max_steps=None, max_calls=None, recording=False): what the test's model calls may come "
        "to; calls beyond are refused before they are sent. recording: play the test's model calls from a file.",
    )


@pytest.fixture
def finops(request: pytest.FixtureRequest) -> Iterator["Metered"]:
    """A FinOpsHandler for this test, with a ledger of its own in memory and the marker's limits."""
    from langchain_finops.pytest_plugin.metered import metered

    handler = metered(request.node.nodeid, **_limits(request.node))
    request.node.stash[METERED] = handler
    yield handler
    handler.ledger.close()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item: pytest.Item) -> Iterator[None]:
    """A marker whose limits nobody would hold is a fault of the test's."""
    if item.get_closest_marker("finops") is not None:
        _limits(item)
        if "finops" not in getattr(item, "fixturenames", ()):
            pytest.fail(
                "@pytest.mark.finops holds through the fixture: take `finops` as an argument, and pass it as a callback"
            )
    return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    """Play the test's recording, keep its figures, and fail it where it passed a limit in silence."""
    with ExitStack() as stack:
        if (handler := item.stash.get(METERED, None)) is None:
            return (yield)
        stack.callback(lambda: item.user_properties.append((PROPERTY, json.dumps(handler.figures()))))
        if (path := _recording(item)) is not None:
            stack.enter_context(handler.recorded(path, item.name, item.config.getoption("--finops-record-mode")))
        result = yield
        handler.check()
        return result


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Collect the figures; with xdist this runs where the summary is written."""
    if report.when == "call":
        _SEEN.extend((report.nodeid, json.loads(value)) for name, value in report.user_properties if name == PROPERTY)  # type: ignore[arg-type]


_SEEN: list[tuple[str, dict[str, Any]]] = []


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Say what the session's model calls cost, dearest test first."""
    seen, _SEEN[:] = list(_SEEN), []
    if not any(figures["calls"] or figures["charges"] for _, figures in seen):
        return
    from langchain_finops.pytest_plugin.summary import lines

    terminalreporter.section("cost of model calls (finops)")
    for line in lines(seen):
        terminalreporter.write_line(line)


def _limits(item: pytest.Item) -> dict[str, Any]:
    """What the markers say together: the closest one wins. Fails the test for an unknown name or a wrong value."""
    given: dict[str, Any] = {}
    for marker in reversed(list(item.iter_markers("finops"))):
        if marker.args:
            pytest.fail(f"@pytest.mark.finops{marker.args!r}: name its values, as in max_usd=0.05", pytrace=False)
        given |= marker.kwargs
    if unknown := sorted(given.keys() - OPTIONS):
        pytest.fail(f"@pytest.mark.finops knows {', '.join(sorted(OPTIONS))}, not {', '.join(unknown)}", pytrace=False)
    return {name: value for name, value in given.items() if name != "recording" and value is not None}


def _recording(item: pytest.Item) -> Path | None:
    """The file of the test's recording: named by the marker, or beside the test in recordings/<module>/<test>.jsonl."""
    wanted: object = False
    for marker in reversed(list(item.iter_markers("finops"))):
        wanted = marker.kwargs.get("recording", wanted)
    if not wanted:
        return None
    folder = item.path.parent
    if isinstance(wanted, str | Path):
        return folder / wanted
    name = "".join(letter if letter.isalnum() or letter in "-_." else "-" for letter in item.name)
    return folder / "recordings" / item.path.stem / f"{name}.jsonl"
