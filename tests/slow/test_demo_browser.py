"""The page of `distillab demo` as a browser shows it: an image that is dropped, one of the test split, a text.

Slow (`pytest -m slow`), and skipped without gradio (`pip install "distillab[demo]"`) or a browser
(`apt-get install chromium chromium-driver`). What a test saw at its end lies in its folder as `demo.png`;
`--basetemp=DIR` says where.
"""

import os
import signal
import subprocess
import sys
from importlib.util import find_spec

import numpy as np
import pytest
from helpers import small_run
from helpers.browser import needs_browser, started
from helpers.texts import write
from PIL import Image

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(find_spec("gradio") is None, reason='needs `pip install "distillab[demo]"`'),
    needs_browser,
]
LABELS = ["teacher", "student alone", "student distilled"]


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    with small_run.unmeasured():
        small_run.run(folder, "data.samples=200", "recipe.epochs=1", "teacher.recipe.epochs=1")
    return next((folder / "runs" / "digits").glob("[0-9a-f]*"))


@pytest.fixture(scope="module")
def texts(tmp_path_factory):
    folder = tmp_path_factory.mktemp("texts")
    file = write(folder, 25)
    words = (
        "data=text",
        f"data.path={file}",
        "data.vocabulary=300",
        "data.length=32",
        "data.samples=48",
        "logger=none",
    )
    words += ("teacher.width=32", "teacher.layers=2", "teacher.hidden=48", "student.width=16", "student.hidden=24")
    words += (
        "recipe.epochs=1",
        "teacher.recipe.epochs=1",
        "equal_compute=false",
        "strategy=kd",
        "strategy.kd.temperature=1",
    )
    with small_run.unmeasured():
        small_run.run(folder, base=words)
    return next((folder / "runs" / "topics.jsonl").glob("[0-9a-f]*"))


@pytest.fixture
def page(request):
    """The address of the page of a run, served by the command."""
    home = request.getfixturevalue(request.param)
    words = [sys.executable, "-m", "distillab.demo", f"run={home}", "port=0"]
    running = subprocess.Popen(words, stdout=subprocess.PIPE, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
    line = running.stdout.readline()
    assert line.startswith("http://127.0.0.1:"), line
    yield line.split()[0]
    running.send_signal(signal.SIGINT)
    assert running.wait(60) == 0


@pytest.fixture
def browser(tmp_path):
    with started() as driver:
        yield driver
        assert driver.save_screenshot(str(tmp_path / "demo.png"))


def until(browser, selector):
    """The elements of a selector, once there are some."""
    from selenium.webdriver.support.ui import WebDriverWait

    return WebDriverWait(browser, 120).until(lambda driver: driver.find_elements("css selector", selector))


def texts_of(browser, selector):
    return [one.text for one in browser.find_elements("css selector", selector)]


def check_page(browser, page):
    """It has no error, asks no other machine for anything, and fits a phone."""
    assert [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"] == []
    asked = browser.execute_script("return performance.getEntriesByType('resource').map(entry => entry.name)")
    assert asked and [name for name in asked if not name.startswith((page, "data:", "blob:"))] == []
    mobile = {"width": 390, "height": 800, "deviceScaleFactor": 1, "mobile": True}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", mobile)
    wide, window = browser.execute_script(
        "const page = document.documentElement; return [page.scrollWidth, page.clientWidth]"
    )
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    assert wide <= window


@pytest.mark.parametrize("page", ["images"], indirect=True)
def test_a_dropped_image_and_one_of_the_test_split_are_answered_by_all_three(page, browser, tmp_path):
    browser.get(page)
    until(browser, ".network")
    assert texts_of(browser, ".role") == LABELS and texts_of(browser, ".network h3") == [
        "resnet14",
        "resnet8",
        "resnet8",
    ]

    Image.fromarray(np.full((40, 60, 3), 90, np.uint8)).save(tmp_path / "photo.jpg")
    until(browser, "#image input[type=file]")[0].send_keys(str(tmp_path / "photo.jpg"))
    until(browser, ".bars")
    named = texts_of(browser, ".bars .name")
    assert len(named) == 3 * 5 and set(named) <= set(map(str, range(10)))
    shares = [float(text.split()[0]) for text in texts_of(browser, ".bars .value")]
    assert all(shares[place] >= shares[place + 1] for place in range(14) if place % 5 != 4) and min(shares) >= 0
    assert not browser.find_elements("css selector", ".truth")
    assert all(text.split()[1] == "ms" for text in texts_of(browser, ".network dl div:first-child dd"))

    until(browser, "#examples .thumbnail-item")[2].click()
    until(browser, ".truth")
    assert texts_of(browser, ".truth b")[0] in map(str, range(10))

    (tmp_path / "broken.png").write_bytes(b"no image")
    browser.refresh()
    until(browser, "#image input[type=file]")[0].send_keys(str(tmp_path / "broken.png"))
    until(browser, ".refusal")
    check_page(browser, page)


@pytest.mark.parametrize("page", ["texts"], indirect=True)
def test_a_typed_text_is_continued_by_all_three(page, browser):
    browser.get(page)
    until(browser, "#text textarea")[0].send_keys("<b>The assert statement</b>")
    until(browser, "#ask")[0].click()
    assert len(until(browser, ".bits")) == 3 and texts_of(browser, ".role") == LABELS
    assert all(0 < float(text) < 20 for text in texts_of(browser, ".bits b"))
    assert all(text.startswith("<b>The assert statement</b>") for text in texts_of(browser, ".network .text"))
    check_page(browser, page)


@pytest.mark.parametrize("page", ["images"], indirect=True)
def test_the_page_answers_to_its_own_name_alone(page):
    from urllib.error import HTTPError
    from urllib.request import Request, urlopen

    assert "default-src 'self'" in urlopen(page).headers["Content-Security-Policy"]
    with pytest.raises(HTTPError, match="400"):
        urlopen(Request(page, headers={"Host": "example.com"}))
