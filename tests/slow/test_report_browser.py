"""The report as a browser shows it: it loads from disk without an error, sorts, filters, draws, and fits a phone.

Slow (`pytest -m slow`), and skipped without a browser: `apt-get install chromium chromium-driver`. What each test saw at
its end lies in its folder as `report.png`; `--basetemp=DIR` says where.
"""

import pytest
from helpers.browser import needs_browser, started
from helpers.made_results import put
from helpers.made_study import study

pytestmark = [pytest.mark.slow, needs_browser]


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    from distillab.reporting.report import write_report

    runs = tmp_path_factory.mktemp("browser") / "runs"
    put(runs, *study())
    page, *_ = write_report(runs, runs / "report.html")
    with started() as driver:
        driver.get(page.as_uri())
        yield driver


@pytest.fixture(autouse=True)
def screenshot(browser, tmp_path):
    """A picture of what the test left."""
    yield
    assert browser.save_screenshot(str(tmp_path / "report.png"))


def column(browser, heading):
    """The texts of one column of the leaderboard of two students, as far as they are seen."""
    return browser.execute_script(
        "const table = [...document.querySelectorAll('#leaderboard table')].at(-2), head = [...table.tHead.rows[0].cells];"
        "const place = head.findIndex(cell => cell.textContent === arguments[0]);"
        "return [...table.tBodies].filter(body => body.offsetParent).map(body => body.rows[0].cells[place].textContent)",
        heading,
    )


def drawn(browser, section):
    """The chart of the view that a section shows, once it is there: the legend's names and the number of markers."""
    from selenium.webdriver.support.ui import WebDriverWait

    script = (
        "const charts = [...document.querySelectorAll(`#${arguments[0]} .chart`)].filter(chart => chart.offsetParent);"
        "charts[0].scrollIntoView();"
        "const texts = [...charts[0].querySelectorAll('.role-legend-label text')].map(text => text.textContent);"
        "return texts.length ? [texts, charts[0].querySelectorAll('.mark-symbol.role-mark path').length] : null"
    )
    return WebDriverWait(browser, 60).until(lambda driver: driver.execute_script(script, section))


def test_page_loads_and_draws_without_an_error_or_a_request(browser):
    names, marks = drawn(browser, "top-1-against-cost")
    assert {"kd", "student alone", "teacher"} <= set(names) and marks >= 3
    assert [entry for entry in browser.get_log("browser") if entry["level"] != "DEBUG"] == []
    requested = browser.execute_script("return performance.getEntriesByType('resource').map(entry => entry.name)")
    assert [name for name in requested if not name.startswith("data:")] == []
    assert "Editor" not in browser.execute_script("return document.querySelector('.vega-actions').textContent")


def test_heading_sorts_and_sorts_back(browser):
    def click():
        browser.execute_script(
            "const table = [...document.querySelectorAll('#leaderboard table')].at(-2);"
            "[...table.querySelectorAll('th button')].find(one => one.textContent === 'parameters').click()"
        )

    click()
    assert column(browser, "parameters") == ["272 k"] * 4 + ["78.0 k"] * 4
    click()
    assert column(browser, "parameters") == ["78.0 k"] * 4 + ["272 k"] * 4


def test_words_filter_the_rows(browser):
    search = browser.find_element("css selector", "[type=search]")
    for words, left in (("kd resnet20", 1), ("no such words", 0)):
        search.clear()
        search.send_keys(words)
        assert len(column(browser, "student")) == left
    browser.execute_script("arguments[0].value = ''; arguments[0].dispatchEvent(new Event('input'))", search)
    assert len(column(browser, "student")) == 8


def test_a_drop_down_changes_the_chart(browser):
    browser.execute_script(
        "const select = document.querySelector('#top-1-against-cost select');"
        "select.selectedIndex = [...select.options].findIndex(one => one.text === 'digits, protocol standard, 8 epochs · latency');"
        "select.onchange()"
    )
    names, marks = drawn(browser, "top-1-against-cost")
    assert {"kd", "hint", "student alone, longer"} <= set(names)
    assert marks >= 9, "kd, hint, alone and longer on two students, and the teacher"


@pytest.mark.parametrize("width", [1280, 390])
def test_leaderboard_fits_the_window_without_scrolling_sideways(browser, width):
    browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 700},
    )
    wide = browser.execute_script(
        "return [document.documentElement, ...document.querySelectorAll('#leaderboard .scroll')]"
        ".filter(one => one.scrollWidth > one.clientWidth).map(one => [one.scrollWidth, one.clientWidth])"
    )
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    assert wide == []
