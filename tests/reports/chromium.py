"""What the browser tests share: Debian's chromium, pages whose console must stay silent, and how to wait for charts."""

import shutil
from contextlib import contextmanager

from playwright.sync_api import sync_playwright

FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync"
)
WINDOW = {"viewport": {"width": 1280, "height": 900}}
PHONE = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}


@contextmanager
def launched():
    chromium = shutil.which("chromium")
    assert chromium, "chromium is not on the PATH; `make test` installs it (Debian: apt-get install chromium)."
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS.split())
        yield browser
        browser.close()


def settle(page):
    """Waits until every chart near the window is drawn."""
    page.wait_for_selector("html[data-drawn=true]", state="attached")


def reveal(page):
    """Scrolls through the page until every visible chart is drawn."""
    page.evaluate(
        """async () => {
            for (const figure of document.querySelectorAll("figure.panel:not([hidden]):has(.chart)")) {
                figure.scrollIntoView();
                while (figure.dataset.drawn !== "true") await new Promise((resume) => requestAnimationFrame(resume));
            }
        }"""
    )
    settle(page)


def series(page, panel):
    """The curves of a panel as they were given to plotly: name, x, y, meta; without the smoothed ones beside them."""
    page.evaluate("(id) => document.getElementById(`panel-${id}`).scrollIntoView()", panel)
    page.wait_for_function("(id) => document.getElementById(`panel-${id}`).dataset.drawn === 'true'", arg=panel)
    return page.evaluate(
        """(id) => document.querySelector(`#panel-${id} .chart`).data.filter((t) => !t.meta.derived)
            .map(({name, x, y, base, meta}) => ({name, x, y, base, meta}))""",
        panel,
    )
