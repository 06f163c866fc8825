"""The report as a browser shows it: it loads from disk without an error, sorts, filters and draws the runs' points.

Slow (`pytest -m slow`), and skipped without a browser: `apt-get install chromium chromium-driver`. What each test saw at
its end lies in its folder as `report.png`; `--basetemp=DIR` says where.
"""

from pathlib import Path

import pytest
from helpers.made_results import put
from helpers.made_study import study

CHROMIUM, DRIVER = Path("/usr/bin/chromium"), Path("/usr/bin/chromedriver")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not (CHROMIUM.exists() and DRIVER.exists()), reason="needs `apt-get install chromium chromium-driver`"
    ),
]


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    webdriver = pytest.importorskip("selenium.webdriver")
    from distillab.reporting.report import write_report

    runs = tmp_path_factory.mktemp("browser") / "runs"
    put(runs, *study())
    page = write_report(runs, runs / "report.html")
    options = webdriver.ChromeOptions()
    options.binary_location = str(CHROMIUM)
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--window-size=1280,900"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options, webdriver.ChromeService(str(DRIVER)))
    driver.get(page.as_uri())
    yield driver
    driver.quit()


@pytest.fixture(autouse=True)
def screenshot(browser, tmp_path):
    """A picture of what the test left."""
    yield
    assert browser.save_screenshot(str(tmp_path / "report.png"))


def column(browser, number):
    """The texts of one column of the leaderboard of digits, protocol standard, as far as they are seen."""
    return browser.execute_script(
        "const rows = document.querySelectorAll('#leaderboard .body > div:nth-child(3) tbody tr');"
        "return [...rows].filter(row => row.offsetParent).map(row => row.cells[arguments[0]].textContent)",
        number,
    )


def choose(browser, section, name, value):
    browser.execute_script(
        "const made = document.querySelector(`#${arguments[0]} [name='${arguments[1]}']`); made.value = arguments[2];"
        "made.dispatchEvent(new Event('input')); made.dispatchEvent(new Event('change'))",
        section,
        name,
        value,
    )


def drawn(browser, section):
    """Trace name → x values that plotly holds, of the section's first chart."""
    return browser.execute_script(
        "const chart = document.querySelector(`#${arguments[0]} .chart`);"
        "return Object.fromEntries(chart.data.map(trace => [trace.name, trace.x]))",
        section,
    )


def test_page_loads_without_an_error_or_a_request(browser):
    assert [entry for entry in browser.get_log("browser") if entry["level"] != "DEBUG"] == []
    requested = browser.execute_script("return performance.getEntriesByType('resource').map(entry => entry.name)")
    assert [name for name in requested if not name.startswith("data:")] == []
    buttons = [button.get_attribute("data-title") for button in browser.find_elements("css selector", ".modebar-btn")]
    assert buttons and not any("Share" in title or "Cloud" in title for title in buttons)
    assert len(browser.find_elements("css selector", "section")) == 8
    assert len(browser.find_elements("css selector", ".chart .main-svg")) > 4


def test_heading_sorts_and_sorts_back(browser):
    heading = next(
        button for button in browser.find_elements("css selector", "#leaderboard .body > div:nth-child(3) th button")
        if button.text == "parameters"
    )  # fmt: skip
    place = [cell.text for cell in browser.find_elements("css selector", "#leaderboard .body > div:nth-child(3) th")]
    shown = place.index("parameters")
    browser.execute_script("arguments[0].click()", heading)
    assert column(browser, shown) == ["272 k"] * 2 + ["78.0 k"] * 3
    browser.execute_script("arguments[0].click()", heading)
    assert column(browser, shown) == ["78.0 k"] * 3 + ["272 k"] * 2


def test_text_and_drop_downs_filter(browser):
    choose(browser, "leaderboard", "method", "kd")
    assert column(browser, 1) == ["kd", "kd"]
    choose(browser, "leaderboard", "student", "resnet20")
    assert column(browser, 1) == ["kd"]
    choose(browser, "leaderboard", "search", "no such words")
    assert column(browser, 1) == []
    choose(browser, "leaderboard", "search", "")
    choose(browser, "leaderboard", "method", "all")
    choose(browser, "leaderboard", "student", "all")
    choose(browser, "leaderboard", "protocol", "paper")
    assert column(browser, 1) == [] and len(browser.find_elements("css selector", "#leaderboard tbody tr")) == 7
    choose(browser, "leaderboard", "protocol", "all")
    assert len(column(browser, 1)) == 5


def test_charts_hold_the_points_of_the_runs_and_follow_the_drop_downs(browser):
    choose(browser, "accuracy", "data", "digits, protocol standard")
    assert sorted(drawn(browser, "accuracy")["kd"]) == [78_042, 272_474]
    marks = browser.find_elements("css selector", "#accuracy .scatterlayer .point")
    assert len(marks) >= 8  # kd, hint on two students, dkd, teacher, two students alone
    choose(browser, "accuracy", "against", "multiply-adds")
    assert sorted(drawn(browser, "accuracy")["kd"]) == [40 * 78_042, 40 * 272_474]
    choose(browser, "learning", "metric", "train/kd")
    assert set(drawn(browser, "learning")) == {"kd"}


def test_narrow_window_scrolls_tables_not_the_page(browser):
    browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride", {"width": 400, "height": 800, "deviceScaleFactor": 1, "mobile": True}
    )
    from selenium.webdriver.support.ui import WebDriverWait

    # Plotly redraws a moment after the window has changed.
    WebDriverWait(browser, 10).until(
        lambda driver: driver.execute_script("return document.documentElement.scrollWidth") <= 400
    )
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
