"""The study page in a real browser: no complaint, a click shows a trial, dark is dark, filters filter."""

import shutil

import numpy as np
import pytest
from fake_evaluator import finished

from autoprune_lab.pruner import Pruner
from search.results.page.data import Source
from search.results.page.patches import _uri
from search.results.page.writing import write

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium is installed: apt-get install chromium"),
]
playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: pip install playwright")
QUIET = "GPU stall due to ReadPixels"  # chromium says so of any WebGL picture that is drawn without a GPU


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    return finished(tmp_path_factory.mktemp("runs"), "fixed", "policy=fixed", "~report.arms.random")


@pytest.fixture(scope="module")
def page_file(study):
    """The study's page, with a picture of 2 x 3 patches that go after layers 0 to 5."""
    data = Source.find(study.folder).data()
    picture = _uri(np.full((20, 30, 3), 200, dtype=np.uint8))
    sample = {
        "id": "a",
        "kind": "easy",
        "question": "which?",
        "answer": "this",
        "picture": picture,
        "rows": 2,
        "columns": 3,
    }
    depths = {label: [[1, 2, 3, 4, 5, 6]] for label in study.front.labels}
    write(study.folder / "index.html", [data | {"patches": {"samples": [sample], "layers": 16, "depths": depths}}])
    return study.folder / "index.html"


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def opened(browser, page_file):
    """Opens the page in a window of a size and scheme; at the end nothing may have been complained about or fetched."""
    complaints, pages = [], []

    def open_page(width=1280, height=900, scheme="light"):
        page = browser.new_page(viewport={"width": width, "height": height}, color_scheme=scheme)
        page.on("console", lambda said: complaints.append(said.text) if QUIET not in said.text else None)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda asked: complaints.append(asked.url) if asked.url.startswith("http") else None)
        page.goto(page_file.as_uri())
        page.wait_for_selector("#tune .point")
        pages.append(page)
        return page

    yield open_page
    for page in pages:
        page.close()
    assert complaints == []


def test_a_click_on_a_point_shows_the_trial(opened, study, tmp_path):
    page = opened()
    label = study.front.labels[0]
    assert page.inner_text("#point h2").startswith(
        f"trial {study.front.labels[study.front.knee()]}"
    )  # before any click
    point = page.locator("#tune .trace.scatter").nth(1).locator(".point").first
    box = point.bounding_box()
    page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.wait_for_function(f"document.querySelector('#point h2').textContent.startsWith('trial {label}')")
    shown = page.inner_text("#point")
    values = study.trials.set_index("trial").loc[int(label)]
    assert f"policy.layer\t{int(values['pruner.policy.layer'])}" in shown
    assert "layer 8: 0 of 6" in shown
    page.locator("#point input[type=range]").fill("3")
    assert "layer 3: 3 of 6" in page.inner_text("#point")
    (tmp_path / "copied.yaml").write_text(page.locator("#point pre").text_content())
    assert Pruner.load(tmp_path / "copied.yaml") == Pruner.load(study.folder / "tuned" / f"trial-{label}.yaml")
    page.click("#copy")
    page.wait_for_function("document.querySelector('#copy').textContent === 'copied'")
    page.reload()  # the address remembers
    assert page.inner_text("#point h2").startswith(f"trial {label}")


def test_every_figure_is_drawn(opened, study):
    page = opened()
    for place in ("#tune", "#report", "#importance", "#parallel", "#slices > div"):
        assert page.locator(f"{place} .main-svg").count() > 0, place
    assert page.locator("#tune .point").count() == int(study.trials["feasible"].sum()) + 1  # and the ring of the choice


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_theme_is_the_system_s_until_another_is_chosen(opened, scheme):
    page = opened(scheme=scheme)

    def background():
        return page.evaluate("getComputedStyle(document.body).backgroundColor")

    light, dark = "rgb(255, 255, 255)", "rgb(20, 23, 28)"
    assert background() == {"light": light, "dark": dark}[scheme]
    page.click("#theme")
    assert (background(), page.inner_text("#theme")) == (light, "theme: light")
    page.click("#theme")
    assert (background(), page.inner_text("#theme")) == (dark, "theme: dark")
    axis = page.locator("#tune .xtick text").first.evaluate("e => getComputedStyle(e).fill")
    assert axis == "rgb(230, 233, 238)"


def test_the_table_is_sorted_and_filtered(opened, study):
    page = opened()
    rows = page.locator("#trials tbody tr")
    for shown in ("score", "score ▲"):
        page.get_by_role("columnheader", name=shown, exact=True).click()
    scores = study.trials.set_index("trial")["score"]
    assert scores[int(rows.first.locator("td").first.inner_text())] == scores.max()
    page.select_option("#among", "front")
    assert rows.count() == len(study.front.labels)
    page.fill("#filter", "nothing has this")
    assert rows.count() == 0


def test_a_phone_needs_no_sideways_scrolling(opened):
    page = opened(390, 844)
    assert page.evaluate("document.documentElement.scrollWidth") == 390
