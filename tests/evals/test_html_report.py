"""The report as a page: what it says, what it must not let in, and how a browser shows it."""

import json
import re
import shutil
from collections.abc import Callable, Iterator
from decimal import Decimal
from html.parser import HTMLParser
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from langchain_finops.cli.common import run as run_command_line
from langchain_finops.cli.finops_eval import app
from langchain_finops.errors import BadArguments
from langchain_finops.evals.html_charts import Scale, strip
from langchain_finops.evals.html_report import Evaluation, about_of, check_html_path, html_report, write_html
from langchain_finops.evals.html_words import dollars
from langchain_finops.evals.resume import load_results, plan_of, table_of
from langchain_finops.evals.rows import TableOptions

if TYPE_CHECKING:
    from selenium.webdriver import Chrome
    from tests.evals.conftest import MakeResults

VOID = {"meta", "link", "img", "br", "hr", "input"}
CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")


class Page(HTMLParser):
    """What a browser makes of the page: elements, their attributes, and text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.cells: list[str] = []
        self.text = ""
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        if tag in {"td", "th", "li"}:
            self.cells.append("")
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.text += data
        if self.cells and {"td", "th", "li"} & set(self.open):
            self.cells[-1] += data

    def having(self, tag: str, **wanted: str) -> list[dict[str, str]]:
        """Attributes of the elements that have these."""
        named = {"class" if name == "kind" else name: value for name, value in wanted.items()}
        return [attrs for name, attrs in self.elements if name == tag and named.items() <= attrs.items()]


Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def finops_eval(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Command:
    """The command, as a shell calls it: exit code, stdout, stderr."""

    def called(*words: object) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["finops-eval", *map(str, words)])
        code = run_command_line(app, "finops-eval")
        return code, *capsys.readouterr()

    return called


def page_of(folder: Path, **options: Any) -> Page:
    return Page(report_of(folder, **options))


def report_of(folder: Path, **options: Any) -> str:
    results = load_results(folder)
    evaluation = Evaluation(
        title=f"What a success costs: {results.run['dataset']['name']}",
        about=about_of(results),
        table=table_of(results),
        attempts=results.attempts,
        verdicts=results.verdicts,
        plan=plan_of(results),
        options=TableOptions(**options),
    )
    return html_report(evaluation)


def two(make_results: "MakeResults", **more: Any) -> Path:
    """A cheap configuration that solves half of four tasks, a dear one that solves all."""
    cheap = {f"t{n}": [(f"0.0{n + 1}", n % 2 == 0)] for n in range(4)}
    dear = {f"t{n}": [(f"0.{n + 1}", True)] for n in range(4)}
    return make_results({"cheap": cheap, "dear": dear, **more})


def test_the_page_has_every_figure_and_note_of_the_table(make_results: "MakeResults") -> None:
    """It is the same table, however much room there is."""
    folder = two(make_results)
    table = table_of(load_results(folder))
    page = page_of(folder)

    for number, row in enumerate(table.rows, start=1):
        for column in table.columns:
            text = column.text(row)
            assert (f"{number} {text}" if column.name else text) in page.cells, column.title
    assert [note for note in table.notes if note not in page.cells] == []
    assert {column.title for column in table.columns} <= set(page.cells)


def test_names_are_text_whatever_they_are(make_results: "MakeResults") -> None:
    """A configuration, task or node may be called anything: none becomes markup, or turns a line around."""
    names = ["<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "</style></title><b>&amp;", "\u202egnp.exe"]
    costs = {f"{name} task": [("0.5", True)] for name in names}
    folder = make_results(dict.fromkeys(names, costs), name="odd")
    lines = (folder / "attempts.jsonl").read_text().splitlines()
    nodes = [json.dumps(json.loads(line) | {"costs_by_node": {names[0]: "0.5"}}) for line in lines]
    (folder / "attempts.jsonl").write_text("\n".join(nodes) + "\n")

    text = report_of(folder)
    page = Page(text)

    assert not {tag for tag, _ in page.elements} & {"script", "img"}
    assert len(page.having("style")) == 1
    assert all(not name.startswith("on") for _, attrs in page.elements for name in attrs)
    assert {f"{number} {name}" for number, name in enumerate(names[:3], 1)} <= set(page.cells)
    assert names[0] in page.cells  # As a node.
    assert "\u202e" not in text


def test_the_page_is_whole_in_itself(make_results: "MakeResults") -> None:
    """Nothing is loaded from anywhere, and a browser is told that nothing may be."""
    text = report_of(two(make_results))
    page = Page(text)

    assert not [attrs for _, attrs in page.elements if {"src", "href", "srcset"} & attrs.keys()]
    assert not re.search(r"https?:|//|@import|url\(|<script|javascript:", text)
    (policy,) = [attrs["content"] for attrs in page.having("meta") if attrs.get("http-equiv")]
    assert policy == "default-src 'none'; style-src 'unsafe-inline'"


def test_dots_stand_where_costs_and_rates_are(make_results: "MakeResults") -> None:
    """Cheap is left of dear and below it; both are on the frontier, the one that is dominated is not."""
    worse = {f"t{n}": [("0.9", False)] for n in range(4)}
    page = page_of(two(make_results, worse=worse))

    cheap, dear = page.having("circle", kind="dot on")
    (off,) = page.having("circle", kind="dot")
    assert float(cheap["cx"]) < float(dear["cx"]) < float(off["cx"])
    # 100% is 14 from the top and 0% 280 below it: half of the tasks, all of them, none.
    assert [float(dot["cy"]) for dot in (cheap, dear, off)] == [154.0, 14.0, 294.0]
    (front,) = page.having("polyline")
    assert front["points"] == f"{cheap['cx']},{cheap['cy']} {dear['cx']},{dear['cy']}"
    # Wilson's interval of 2 of 4 successes is 15.0% to 85.0%, of tasks that were tried once each.
    reach = [attrs for attrs in page.having("line", kind="reach") if attrs["x1"] == attrs["x2"] == cheap["cx"]]
    assert [float(reach[0][name]) for name in ("y1", "y2")] == pytest.approx([252.0, 56.0], abs=0.2)


def test_what_is_not_known_is_called_so_and_drawn_nowhere(make_results: "MakeResults") -> None:
    """Unknown is not nothing: no dot at $0, no tick, no share."""
    unsure = {f"t{n}": [(None if n == 0 else "0.1", True)] for n in range(4)}
    folder = two(make_results, unsure=unsure)
    lines = [json.loads(line) for line in (folder / "attempts.jsonl").read_text().splitlines()]
    for line in lines:
        line["costs_by_node"] = {"plan": line["cost_usd"], "act": "0"}
    (folder / "attempts.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    page = page_of(folder)

    assert len(page.having("circle")) == 2
    assert "Not in the picture, for their cost is not known: unsure." in page.text
    assert "t1, t2, t3; 1 of unknown cost" in page.cells
    assert "at least $0.300" in page.cells
    at = page.cells.index("at least $0.300")
    assert page.cells[at - 3 : at] == ["plan", "", "unknown"]


def test_a_run_of_unknown_costs_alone_has_no_pictures(make_results: "MakeResults") -> None:
    """It says so instead, for a table of nothing would look like a table of zeros."""
    page = page_of(make_results({"a": {"t1": [(None, True)]}}))
    assert "No configuration has a cost above $0 that is known." in page.text
    assert "No task has a cost above $0 that is known." in page.text
    assert "Nothing is known of nodes." in page.text
    assert not page.having("svg")


def test_shares_of_nodes_are_of_their_configuration(make_results: "MakeResults") -> None:
    """Dearest first; what runs outside of every node has a name; the many small ones are one line."""
    folder = make_results({"a": {"t1": [("0.20", True)], "t2": [("0.20", True)]}})
    lines = [json.loads(line) for line in (folder / "attempts.jsonl").read_text().splitlines()]
    small = {f"n{n:02}": "0.001" for n in range(20)}
    for line in lines:
        line["costs_by_node"] = {"": "0.03", "plan/search": "0.15", **small}
    (folder / "attempts.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    cells = page_of(folder).cells

    at = cells.index("plan/search")
    assert cells[at : at + 4] == ["plan/search", "", "75%", "$0.300"]
    assert cells[at + 5 : at + 9] == ["outside of nodes", "", "15%", "$0.0600"]
    at = cells.index("10 more")  # Twelve are named.
    assert cells[at + 2 : at + 4] == ["5%", "$0.0200"]


def test_a_scale_puts_the_middle_of_a_hundredfold_at_ten() -> None:
    """By hand: from 0.01 to 1, a cost of 0.1 stands half way; what is free stands at the lower end."""
    scale = Scale.of([0.01, 1.0, 0.0])
    assert scale is not None
    assert [scale.place(cost) for cost in (0.0, 0.01, 0.1, 1.0)] == pytest.approx([0, 0, 0.5, 1])
    assert scale.steps() == pytest.approx([0.01, 0.1, 1.0])
    assert Scale.of([0.0]) is None
    alone = Scale.of([3.0])
    assert alone is not None
    assert 0 < alone.place(3.0) < 1
    assert len(alone.steps()) >= 2


def test_a_strip_of_many_tasks_stays_small() -> None:
    """Ticks that lie on each other are one, so that 25 configurations of 500 tasks make no page of megabytes."""
    drawn = strip([1 + n / 100_000 for n in range(100_000)], Scale(1.0, 2.0))
    assert drawn.count('class="tick"') < 400


@pytest.mark.parametrize(
    ("amount", "text"),
    [
        (None, "unknown"),
        (Decimal(0), "$0"),
        (0.000002071, "$0.00000207"),
        (1234.5, "$1,234"),
        (Decimal("0.5"), "$0.500"),
    ],
)
def test_amounts_have_three_digits(amount: Any, text: str) -> None:
    """As in the table, and what is not known is not $0."""
    assert dollars(amount) == text


def test_commands_write_the_page_beside_the_table(
    finops_eval: Command, make_results: "MakeResults", tmp_path: Path
) -> None:
    """Standard output is the table alone; where the page is stands on stderr."""
    folder, path = two(make_results), tmp_path / "report.html"

    code, out, err = finops_eval("table", str(folder), "--html", str(path), "--format", "json")

    assert code == 0
    assert [row["configuration"] for row in json.loads(out)] == ["cheap", "dear"]
    assert f"Report: {path}" in err
    assert "What a success costs: tasks" in Page(path.read_text("utf-8")).text


def test_a_page_of_a_foreign_file_says_what_it_has(finops_eval: Command, tmp_path: Path) -> None:
    """Costs and successes are pictured; of nodes nothing is known."""
    file, path = tmp_path / "theirs.csv", tmp_path / "report.html"
    file.write_text("configuration,task,cost,success\nx,1,0.5,1\nx,2,0.6,0\ny,1,0.1,1\ny,2,0.2,1\n")

    assert finops_eval("table", str(file), "--html", str(path))[0] == 0

    page = Page(path.read_text("utf-8"))
    assert len(page.having("circle")) == 2
    assert "Nothing is known of nodes." in page.text


def test_where_no_page_can_be_written_nothing_is_begun(finops_eval: Command, tmp_path: Path) -> None:
    """One sentence with the remedy, before a run buys anything; a page that is there stays whole."""
    with pytest.raises(BadArguments, match="is a folder: name a file, such as"):
        check_html_path(tmp_path)
    with pytest.raises(BadArguments, match=r"there is no folder .*: make it first"):
        check_html_path(tmp_path / "none" / "report.html")
    path = tmp_path / "report.html"
    write_html(path, "old")
    (tmp_path / ".report.html.new").mkdir()
    with pytest.raises(BadArguments, match="cannot be written"):
        write_html(path, "new")
    assert path.read_text() == "old"
    data = tmp_path / "tasks.jsonl"
    data.write_text("not even JSON")
    code, _, err = finops_eval("run", str(data), "--html", str(tmp_path))
    assert (code, err.count("\n")) == (2, 1)
    assert "--html" in err


if CHROMIUM and DRIVER:  # .ci/run installs them.

    @pytest.fixture
    def browser() -> Iterator["Chrome"]:
        """Without a window; nothing may have been complained of at its end."""
        from selenium import webdriver
        from selenium.webdriver.chrome.service import Service

        options = webdriver.ChromeOptions()
        options.binary_location = str(CHROMIUM)
        for word in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
            options.add_argument(word)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        driver = webdriver.Chrome(options=options, service=Service(DRIVER))
        yield driver
        complaints = driver.get_log("browser")  # type: ignore[no-untyped-call]
        driver.quit()
        assert complaints == []

    def test_a_browser_shows_it_light_dark_narrow_and_on_paper(
        browser: "Chrome", make_results: "MakeResults", tmp_path: Path
    ) -> None:
        """No page is wider than its screen, colours follow the reader's setting, and paper is white."""
        path = tmp_path / "report.html"
        names = ["cheap", "a name without any break " + "x" * 90, "<script>document.title='broken'</script>"]
        write_html(
            path, report_of(make_results({name: {"t1": [("0.5", True)], "t2": [("0.7", False)]} for name in names}))
        )
        colours = "const style = getComputedStyle(document.body); return [style.color, style.backgroundColor]"
        seen = {}
        for scheme, width in (("light", 1280), ("dark", 1280), ("light", 390)):
            features = [{"name": "prefers-color-scheme", "value": scheme}]
            browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
            size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
            browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
            browser.get(path.as_uri())
            assert browser.execute_script("return document.documentElement.scrollWidth <= innerWidth")
            seen[scheme] = browser.execute_script(colours)
        assert seen == {
            "light": ["rgb(26, 29, 33)", "rgb(255, 255, 255)"],
            "dark": ["rgb(232, 234, 237)", "rgb(20, 23, 26)"],
        }
        assert browser.title == "What a success costs: tasks"
        features = [{"name": "prefers-color-scheme", "value": "dark"}]
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print", "features": features})
        assert browser.execute_script(colours) == ["rgb(0, 0, 0)", "rgb(255, 255, 255)"]
        printed = browser.execute_cdp_cmd("Page.printToPDF", {"preferCSSPageSize": True})
        assert len(printed["data"]) > 10_000
