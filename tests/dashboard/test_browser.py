"""In a real browser: what a person clicks, on a page with a strict policy, with and without JavaScript."""

import shutil
import socket
import threading
from datetime import UTC, datetime

import pytest
import uvicorn
from example import write_example
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import Select, WebDriverWait

from langchain_finops.budgets.switch import kills
from langchain_finops.dashboard.access import Access
from langchain_finops.dashboard.app import make_app
from langchain_finops.ledger import open_ledger
from langchain_finops.testing.records import a_call

PATIENCE_S = 60
CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")

pytestmark = pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="needs chromium and chromedriver")


@pytest.fixture(scope="module")
def ledger(tmp_path_factory):
    path = tmp_path_factory.mktemp("browser") / "ledger.db"
    write_example(path, datetime.now(UTC), runs=90)
    opened = open_ledger(path)
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def address(ledger):
    """The page, served on a thread."""
    listening = socket.create_server(("127.0.0.1", 0))
    app = make_app(ledger, Access(host="127.0.0.1"))
    server = uvicorn.Server(uvicorn.Config(app, log_level="critical", lifespan="on", timeout_graceful_shutdown=1))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    app.state.closing = server.should_exit = True
    thread.join(PATIENCE_S)
    listening.close()


@pytest.fixture(scope="module")
def chromium():
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for word in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(word)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(DRIVER))
    yield driver
    driver.quit()


@pytest.fixture
def browser(chromium):
    """At 1200 x 900, light, with scripts; nothing may have been complained of at its end."""
    chromium.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})
    chromium.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
    size(chromium, 1200, 900)
    chromium.get_log("browser")
    yield chromium
    said = [entry["message"] for entry in chromium.get_log("browser")]
    assert [message for message in said if "status of 503" not in message] == []  # It was reading the ledger.


def size(browser, width, height):
    screen = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)


def visit(browser, address):
    """Load a page, and wait for its figures."""
    browser.get(address)
    WebDriverWait(browser, PATIENCE_S).until(lambda each: "Reading the ledger" not in each.title)


def find(browser, selector):
    return browser.find_element(By.CSS_SELECTOR, selector)


def texts(browser, selector):
    return [each.text for each in browser.find_elements(By.CSS_SELECTOR, selector)]


def until(browser, condition):
    """Wait for what a page shows; a part that was replaced meanwhile is looked up again."""
    from selenium.common.exceptions import StaleElementReferenceException

    return WebDriverWait(browser, PATIENCE_S, ignored_exceptions=[StaleElementReferenceException]).until(condition)


def test_runs_are_filtered_and_one_is_opened(browser, address):
    """Choosing a status filters at once; a row leads to the run, its nodes and why it stopped."""
    visit(browser, f"{address}/runs")
    Select(find(browser, "select[name=status]")).select_by_visible_text("stopped")
    until(browser, lambda each: "status=stopped" in each.current_url and set(texts(each, ".status")) == {"stopped"})
    find(browser, "#list tbody a").click()
    until(browser, lambda each: "/runs/run-" in each.current_url)
    assert "Budget $3 per run stopped it" in find(browser, ".why").text
    assert texts(browser, "#nodes tbody td:first-child")[0] == "edit"
    assert len(browser.find_elements(By.CSS_SELECTOR, "#calls svg.span")) >= 30


def test_an_agent_is_stopped_in_two_clicks_and_allowed_again(browser, address, ledger):
    """From the overview: Stop beside the dearest agent, Stop on the form; it shows, and is undone."""
    visit(browser, address)
    assert find(browser, "#agents tbody tr td").text == "coder"
    find(browser, "#agents tbody tr .danger").click()
    until(browser, lambda each: "/alerts" in each.current_url)
    assert find(browser, "#stop input[name=value]").get_attribute("value") == "coder"
    find(browser, "#stop input[name=reason]").send_keys("loops since 9:00")
    find(browser, "#stop button").click()
    until(browser, lambda each: "loops since 9:00" in find(each, "#standing").text)
    assert [kill.key for kill in kills(ledger)] == ["agent_id=coder"]
    visit(browser, address)
    until(browser, lambda each: find(each, "#agents tbody tr td").text == "coder stopped")
    visit(browser, f"{address}/alerts")
    find(browser, "#standing button").click()
    until(browser, lambda each: "nobody's calls are refused" in find(each, "#standing").text)
    assert kills(ledger) == []


def test_figures_follow_the_ledger_and_keep_the_readers_place(browser, address, ledger):
    """A new call shows without loading the page again; what was unfolded and focused stays so."""
    visit(browser, address)
    until(browser, lambda each: find(each, "#watching").text == "live")
    browser.execute_script("document.getElementById('chart-table').open = true; window.before = true")
    browser.execute_script("document.querySelector('#agents tbody a').focus()")
    ledger.write(a_call("fresh", usd="400", agent_id="newcomer", run_id="fresh", started_at=datetime.now(UTC)))
    until(browser, lambda each: find(each, "#agents tbody td").text == "newcomer")
    assert browser.execute_script("return window.before && document.getElementById('chart-table').open")
    assert browser.execute_script("return document.activeElement.textContent") == "coder"


def test_dark_where_the_reader_wants_it_dark(browser, address):
    """Background and text change places with the setting of the system."""

    def lightness():
        colours = browser.execute_script(
            "const s = getComputedStyle(document.body); return [s.backgroundColor, s.color]"
        )
        return [sum(map(int, colour[4:-1].split(",")[:3])) for colour in colours]

    visit(browser, f"{address}/alerts")
    back, text = lightness()
    assert back > text
    browser.execute_cdp_cmd(
        "Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": "dark"}]}
    )
    back, text = lightness()
    assert back < text


@pytest.mark.parametrize("width", [320, 390, 1200])
def test_no_page_is_wider_than_the_screen(browser, address, width):
    """Tables scroll in their own place, at the width of a phone too."""
    size(browser, width, 800)
    for page in (
        "/",
        "/runs",
        "/runs/live-0001",
        "/agents?wage=25&pace=5",
        "/agents?agent=coder",
        "/models",
        "/alerts",
    ):
        visit(browser, address + page)
        assert browser.execute_script("return document.documentElement.scrollWidth") <= width, page


def test_without_javascript_everything_can_be_reached_and_done(browser, address, ledger):
    """Search, a run, an agent, stopping and allowing again: forms and links alone."""
    visit(browser, f"{address}/models")
    browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    visit(browser, f"{address}/runs")
    find(browser, "input[name=q]").send_keys("live-0001", Keys.ENTER)
    until(browser, lambda each: texts(each, "#list tbody a") == ["live-0001"])
    find(browser, "#list tbody a").click()
    until(browser, lambda each: find(each, "h1").text == "Run live-0001")
    visit(browser, f"{address}/alerts?scope=task_id&value=task-live-0001")
    find(browser, "#stop button").click()
    until(browser, lambda each: "Task task-live-0001" in find(each, "#standing").text)
    assert [kill.key for kill in kills(ledger)] == ["task_id=task-live-0001"]
    find(browser, "#standing button").click()
    until(browser, lambda each: "nobody's calls are refused" in find(each, "#standing").text)


def test_the_keyboard_alone_reaches_the_figures(browser, address):
    """The first Tab offers to skip the navigation; what has the focus is seen."""
    visit(browser, f"{address}/runs")
    find(browser, "body").send_keys(Keys.TAB)
    skip = browser.switch_to.active_element
    assert skip.text == "To the figures"
    assert skip.rect["x"] >= 0
    skip.send_keys(Keys.ENTER)
    assert browser.execute_script("return document.activeElement.id") == "main"
    browser.switch_to.active_element.send_keys(Keys.TAB)
    field = browser.switch_to.active_element
    assert field.get_attribute("name") == "q"
    assert field.value_of_css_property("outline-style") == "solid"
