"""The report in a real browser: it opens, draws, sorts, filters, brushes, and asks for nothing.

Left out where there is no Chromium or no Playwright. To run it: `pip install -e '.[browser]'` and
a chromium on the PATH, such as the one of Debian (Playwright need not download its own), then
`pytest tests/report/test_browser.py`.
"""

import shutil

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome")
CHROMIUM = next(filter(None, map(shutil.which, NAMES)), None)
playwright = pytest.importorskip(
    "playwright.sync_api", reason="no Playwright: pip install -e '.[browser]'"
)
pytestmark = pytest.mark.skipif(
    CHROMIUM is None,
    reason="no Chromium: install it so that one of these is on the PATH: " + ", ".join(NAMES),
)

# Without a GPU the lines of the parallel coordinates are drawn by SwiftShader.
SOFTWARE = ["--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]


@pytest.fixture(scope="module")
def chromium():
    with playwright.sync_playwright() as p:
        browser = p.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", *SOFTWARE])
        yield browser
        browser.close()


@pytest.fixture
def opened(chromium):
    """A function that opens a report, has all of it drawn, and returns the page."""
    pages = []

    def open_(path, width=1280, scheme="light"):
        page = chromium.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
        said, asked = [], []
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("request", lambda request: asked.append(request.url))
        page.goto(path.as_uri())
        page.wait_for_selector("main[data-ready]")
        for chart in page.query_selector_all(".chart"):
            chart.scroll_into_view_if_needed()
            page.wait_for_function("node => node.dataset.drawn", arg=chart)
        pages.append((page, said, asked))
        return page

    yield open_
    for page, said, asked in pages:
        assert said == []
        assert [url for url in asked if not url.startswith(("file:", "data:", "blob:"))] == []
        page.close()


def cells(page, name):
    """The texts of a column of the table."""
    heads = [head.inner_text().rstrip(" ▼▲") for head in page.query_selector_all("#table th")]
    at = heads.index(name) + 1
    return [c.inner_text() for c in page.query_selector_all(f"#table tbody td:nth-child({at})")]


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "dark")])
def test_it_fits_and_draws(opened, swept, width, scheme):
    page = opened(swept.folder / "report.html", width, scheme)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert len(page.query_selector_all(".chart[data-drawn]")) >= 9
    assert "12 of 12" in page.inner_text("#count")


def test_sort_and_filter(opened, swept):
    page = opened(swept.folder / "report.html")
    accuracies = [float(a) for a in cells(page, "val accuracy") if a != "–"]
    assert accuracies == sorted(accuracies, reverse=True)
    page.click("#table th:first-child button")
    assert [int(i.rstrip(" ★")) for i in cells(page, "id")] == list(range(12))
    page.fill("#filter", "learning_rate<1 l2=0 status=ok")
    assert "4 of 12" in page.inner_text("#count")
    assert set(cells(page, "l2")) == {"0"}
    page.fill("#filter", "diverged")
    assert len(cells(page, "id")) == 4


def test_brushing_chooses_rows(opened, swept):
    page = opened(swept.folder / "report.html")
    axis = page.query_selector(".parallel .y-axis .axis-brush .background")
    axis.scroll_into_view_if_needed()
    box = axis.bounding_box()
    x = box["x"] + box["width"] / 2
    # The lower half of the first axis: the lower rates.
    page.mouse.move(x, box["y"] + box["height"] - 2)
    page.mouse.down()
    page.mouse.move(x, box["y"] + box["height"] * 0.75, steps=5)
    page.mouse.up()
    page.wait_for_function("!document.querySelector('#count').textContent.startsWith('12 ')")
    assert set(cells(page, "learning rate")) == {"0.001"}
    page.click("#clear")
    assert "12 of 12" in page.inner_text("#count")


def test_the_maps_take_any_two_axes(opened, swept):
    page = opened(swept.folder / "report.html")
    page.select_option("#map-axes select >> nth=0", "l2")
    page.select_option("#map-axes select >> nth=1", "learning_rate")
    page.wait_for_function(
        "[...document.querySelectorAll('.chart')].some("
        "c => c.layout && c.layout.xaxis.title && c.layout.xaxis.title.text === 'l2'"
        " && c.data[0].type === 'heatmap')"
    )


def test_runs_and_comparisons_open_too(opened, single, swept, halved, tmp_path):
    import jaxnet

    assert "Update-to-weight ratio" in opened(single.folder / "report.html").inner_text("main")
    assert "Rungs of the halving" in opened(halved.folder / "report.html").inner_text("main")
    both = jaxnet.write_report([single.folder, swept.folder], tmp_path / "both.html")
    assert opened(both).inner_text("#sides th:nth-child(2)") == "single"
