"""The report page in a real browser: it draws everything, its numbers are those of --json, and its controls work."""

import itertools
import json
import shutil
from types import SimpleNamespace

import pytest
from click.testing import CliRunner
from constructed_run import build
from playwright.sync_api import sync_playwright
from sv6d.reports.cli import command

FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync"
)
SERIES = """(id) => document.querySelector(`#panel-${id} .chart`).data
    .filter((t) => !t.meta.derived).map((t) => ({name: t.name, x: t.x, y: t.y, meta: t.meta}))"""
PHONE = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}


@pytest.fixture(scope="module")
def browser():
    chromium = shutil.which("chromium")
    assert chromium, "chromium is not on the PATH; `make test` installs it (Debian: apt-get install chromium)."
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS.split())
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    run = build(folder / "run", steps=20)
    skipped = {"task": "subject", "index": 1, "id": "clip-1", "error": "moov atom not found"}
    (run / "skipped_rows.jsonl").write_text(json.dumps(skipped) + "\n")
    (run / "dropped.json").write_text(json.dumps({"rows": 7, "last": "step 3: No space left on device"}))
    arguments = [run, "-o", folder / "report.html", "--json", folder / "report.json"]
    result = CliRunner().invoke(command, [str(a) for a in arguments])
    assert result.exit_code == 0, result.output
    return SimpleNamespace(url=f"file://{folder}/report.html", numbers=json.loads((folder / "report.json").read_text()))


@pytest.fixture(scope="module")
def opened(browser, report):
    """Opens the report; in the end the console must have stayed silent and nothing but the file been asked for."""
    pages = []

    def open_page(**context):
        page = browser.new_context(**({"viewport": {"width": 1280, "height": 900}} | context)).new_page()
        said, asked = [], []
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("request", lambda request: asked.append(request.url))
        page.goto(report.url)
        settle(page)
        pages.append((page, said, asked))
        return page

    yield open_page
    for page, said, asked in pages:
        assert said == []
        assert [url for url in asked if not url.startswith(("data:", "blob:"))] == [report.url]
        page.context.close()


@pytest.fixture(scope="module")
def page(opened):
    """One page that the tests only read."""
    return opened()


def settle(page):
    page.wait_for_selector("html[data-drawn=true]", state="attached")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_panel_draws_its_traces(opened, scheme):
    page = opened(color_scheme=scheme)
    panels = page.eval_on_selector_all(
        "figure.panel",
        """figures => figures.map((f) => [f.id, f.querySelectorAll(
            '.chart svg .scatterlayer .trace, .chart svg .barlayer .trace').length])""",
    )
    assert len(panels) == 3 + 1 + 13 + 5 + 2 + 1 + 4 + 1
    assert [name for name, traces in panels if traces == 0] == []


def test_dark_and_light_have_their_own_colours_and_the_page_follows_a_change(opened):
    page = opened(color_scheme="light")
    colours = (
        "() => [getComputedStyle(document.body).backgroundColor, document.querySelector('.chart').data[0].line.color]"
    )
    light = page.evaluate(colours)
    page.emulate_media(color_scheme="dark")
    page.wait_for_selector("html[data-scheme=dark][data-drawn=true]", state="attached")
    dark = page.evaluate(colours)
    assert light[0] == "rgb(255, 255, 255)"
    assert dark[0] != light[0]
    assert dark[1] != light[1]


def test_figure_3_shows_the_numbers_of_the_json(page, report):
    for measure in ("entropy", "reward", "length"):
        drawn = page.evaluate(SERIES, f"dynamics-{measure}")
        assert [(t["name"], t["x"], t["y"]) for t in drawn] == [
            ("all tasks", report.numbers["steps"], report.numbers["overall"][measure])
        ]


def test_the_cards_and_tables_show_the_numbers_of_the_json(page, report):
    summary, heldout = report.numbers["summary"], report.numbers["heldout"]
    for card, form in (("reward", ".3f"), ("entropy", ".3f"), ("length", ".1f")):
        for end in ("first", "last"):
            assert page.inner_text(f"#card-{card} .{end}") == format(summary[f"{card}_{end}"], form)
    assert page.inner_text("#card-heldout .last") == f"{heldout['mean_after']:.3f}"
    for task in report.numbers["tasks"]:
        before, after = (summary[f"heldout_{when}"][task] for when in ("before", "after"))
        cells = page.eval_on_selector_all(f"#table-heldout tr[data-task={task}] td", "c => c.map(x => x.textContent)")
        assert cells[:2] == [f"{before:.3f}", f"{after:.3f}"]
        ends = report.numbers["components"][task]["reward"]
        cells = page.eval_on_selector_all(
            f"#table-components tr[data-task={task}] td", "c => c.map(x => x.textContent)"
        )
        assert cells[0] == f"{ends['first']:.3f} → {ends['last']:.3f}"


def test_every_failure_is_counted_on_the_page(page, report):
    total = report.numbers["failures"]["failed_total"]
    assert page.inner_text("#failed-total") == f"{total} rollouts whose scoring failed"
    assert page.inner_text("#dropped-rows").startswith("7 rollout rows lost by the recorder (last: step 3: No space")
    assert "1 data row skipped" in page.inner_text("#skipped-rows")
    assert "clip-1: moov atom not found" in page.inner_text("#skipped-rows")


def test_by_task_charts_hold_the_numbers_of_the_json(opened, report):
    page = opened()
    for measure in ("reward", "iou", "dead_groups"):
        page.select_option("#measure", measure)
        settle(page)
        curves = page.evaluate(SERIES, "task-subject")
        drawn = {trace["name"]: trace["y"] for trace in curves}
        assert drawn["subject"] == report.numbers["by_task"]["subject"][measure]
        assert drawn["all tasks"] == report.numbers["overall"][measure]
    dead = page.evaluate(SERIES, "groups-tasks")[0]
    assert dead["x"] == [report.numbers["groups"][task]["dead_share"] for task in report.numbers["tasks"]]
    realised, requested = page.evaluate(SERIES, "mixture")
    assert realised["x"] == [report.numbers["mixture"][task]["realised"] for task in report.numbers["tasks"]]
    assert requested["x"] == [report.numbers["mixture"][task]["requested"] for task in report.numbers["tasks"]]


def test_task_by_task_curves_replace_the_common_one_and_get_a_key(opened, report):
    page = opened()
    assert page.is_hidden("#legend")
    page.select_option("#scope", "task")
    settle(page)
    drawn = page.evaluate(SERIES, "dynamics-reward")
    assert [t["meta"]["task"] for t in drawn] == report.numbers["tasks"]
    assert [t["y"] for t in drawn] == [report.numbers["by_task"][task]["reward"] for task in report.numbers["tasks"]]
    assert page.locator("#legend li").count() == 13


def test_the_task_filter_reaches_every_chart_and_table(opened):
    page = opened()
    page.click("details.tasks summary")
    page.click("#tasks-none")
    settle(page)
    page.check("input[value=subject]")
    settle(page)
    page.check("input[value=ocr_regular]")
    settle(page)
    assert page.inner_text("#task-count") == "2 of 13"
    assert page.locator("figure[data-task]:visible").count() == 2
    assert page.locator("#table-heldout tbody tr:visible").count() == 2
    assert page.evaluate(SERIES, "groups-tasks")[0]["y"] == ["subject", "ocr regular"]
    page.select_option("#scope", "task")
    settle(page)
    assert [t["name"] for t in page.evaluate(SERIES, "dynamics-reward")] == ["subject", "ocr regular"]
    page.click("#tasks-all")
    settle(page)
    assert page.locator("figure[data-task]:visible").count() == 13


def test_smoothing_follows_the_trend_without_delay_and_can_be_switched_off(opened, report):
    page = opened()
    derived = "() => document.querySelector('#panel-dynamics-entropy .chart').data.filter((t) => t.meta.derived).map((t) => t.y)"
    raw, smooth = report.numbers["overall"]["entropy"], page.evaluate(derived)[0]
    middle = len(raw) // 2  # on a falling curve a delayed mean would lie above the raw one in the middle
    assert smooth[middle] == pytest.approx(raw[middle], abs=0.03)
    page.fill("#smooth", "0")
    settle(page)
    assert page.evaluate(derived) == []


def test_a_phone_shows_the_page_without_sideways_scrolling(opened):
    page = opened(**PHONE)
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    widths = page.eval_on_selector_all(".chart .main-svg", "s => s.map((x) => x.getBoundingClientRect().right)")
    assert max(widths) <= 390


def test_every_chart_has_a_text_alternative_and_headings_are_in_order(page):
    for chart in page.locator(".chart").all():
        assert chart.get_attribute("role") == "group"
        assert len(chart.get_attribute("aria-label")) > 10
    levels = page.eval_on_selector_all("h1, h2, h3", "h => h.map((x) => Number(x.tagName[1]))")
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in itertools.pairwise(levels))
