"""The report page in a real browser: it draws everything, its numbers are those of --json, and its controls work."""

import itertools
import json
from types import SimpleNamespace

import pytest
from axe_playwright_python.sync_playwright import Axe
from chromium import PHONE, WINDOW, launched, reveal, series, settle
from click.testing import CliRunner
from constructed_run import build
from sv6d.reports.cli import command
from sv6d.reports.printed import smoothed

KINDS = ("subject", "ocr_regular", "visual_reasoning", "temporal_action_localization")
DARK = {"color_scheme": "dark"}


@pytest.fixture(scope="module")
def browser():
    with launched() as browser:
        yield browser


def write_report(folder, *runs):
    arguments = [*runs, "-o", folder / "report.html", "--json", folder / "report.json"]
    result = CliRunner().invoke(command, [str(a) for a in arguments])
    assert result.exit_code == 0, result.output
    return SimpleNamespace(
        url=f"file://{folder}/report.html", runs=json.loads((folder / "report.json").read_text())["runs"]
    )


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    run = build(tmp_path_factory.mktemp("one") / "run", steps=20, failing={"visual_reasoning": 0.2})
    skipped = {"task": "subject", "index": 1, "id": "clip-1", "error": "moov atom not found"}
    (run / "skipped_rows.jsonl").write_text(json.dumps(skipped) + "\n")
    (run / "dropped.json").write_text(json.dumps({"rows": 7, "last": "step 3: No space left on device"}))
    return run


@pytest.fixture(scope="module")
def report(run):
    return write_report(run.parent, run)


@pytest.fixture(scope="module")
def numbers(report):
    return report.runs[0]


@pytest.fixture(scope="module")
def overlaid(tmp_path_factory):
    """Two runs, the second shorter and of fewer tasks."""
    folder = tmp_path_factory.mktemp("several")
    one = build(folder / "one", steps=20, prompts=8, tasks=KINDS)
    two = build(folder / "two", steps=12, prompts=8, seed=1, tasks=KINDS[:3])
    return write_report(folder, one, two)


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A run of a task of each kind."""
    folder = tmp_path_factory.mktemp("small")
    return write_report(folder, build(folder / "run", steps=20, tasks=KINDS, failing={"visual_reasoning": 0.5}))


@pytest.fixture(scope="module")
def opened(browser):
    """Opens a report; in the end the console must have stayed silent and nothing but the file been asked for."""
    pages = []

    def open_page(report, **context):
        page = browser.new_context(**(WINDOW | context)).new_page()
        said, asked = [], []
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("request", lambda request: asked.append(request.url))
        page.goto(report.url)
        settle(page)
        pages.append((page, report, said, asked))
        return page

    yield open_page
    for page, report, said, asked in pages:
        assert said == []
        assert [url for url in asked if not url.startswith(("data:", "blob:"))] == [report.url]
        page.context.close()


@pytest.fixture(scope="module")
def page(opened, report):
    """One page that the tests only read."""
    return opened(report)


@pytest.mark.parametrize(("which", "scheme"), [("report", "light"), ("overlaid", "dark")])
def test_every_panel_draws_its_traces(opened, request, which, scheme):
    page = opened(request.getfixturevalue(which), color_scheme=scheme)
    reveal(page)
    panels = page.eval_on_selector_all(
        "figure.panel:has(.chart)",
        """figures => figures.map((f) => [f.id, f.querySelectorAll(
            '.chart svg .scatterlayer .trace, .chart svg .barlayer .trace').length])""",
    )
    sections = dict.fromkeys(name.split("-")[1] for name, _ in panels)
    wanted = "dynamics heldout task component groups mixture replaced kl truncation staleness agreement failures judge reward timing"
    assert [name for name in wanted.split() if name not in sections] == []
    assert [name for name, traces in panels if traces == 0] == []


@pytest.mark.parametrize("which", ["small", "overlaid"])
def test_axe_finds_nothing_to_complain_of_in_light_or_dark(opened, request, which):
    page = opened(request.getfixturevalue(which), color_scheme="light")
    page.eval_on_selector_all("details", "all => all.forEach((each) => { each.open = true; })")
    series(page, "dynamics-reward")
    assert violations(page) == []
    page.emulate_media(color_scheme="dark")
    page.wait_for_selector("html[data-scheme=dark][data-drawn=true]", state="attached")
    assert violations(page) == []


def violations(page):
    found = Axe().run(page).response["violations"]
    return [(each["id"], [node["target"] for node in each["nodes"]]) for each in found]


def test_dark_and_light_have_their_own_colours_and_the_page_follows_a_change(opened, small):
    page = opened(small, color_scheme="light")
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


def test_figure_3_shows_the_numbers_of_the_json(page, numbers):
    for measure in ("entropy", "reward", "length"):
        drawn = series(page, f"dynamics-{measure}")
        assert [(t["name"], t["x"], t["y"]) for t in drawn] == [
            ("all tasks", numbers["steps"], numbers["overall"][measure])
        ]


def test_the_cards_and_tables_show_the_numbers_of_the_json(page, numbers):
    summary, heldout = numbers["summary"], numbers["heldout"]
    for card, form in (("reward", ".3f"), ("entropy", ".3f"), ("length", ".1f")):
        for end in ("first", "last"):
            assert page.inner_text(f"#card-{card} .{end}") == format(summary[f"{card}_{end}"], form)
    assert page.inner_text("#card-heldout .last") == f"{heldout['mean_after']:.3f}"
    for task in numbers["tasks"]:
        before, after = (summary[f"heldout_{when}"][task] for when in ("before", "after"))
        ends, groups = numbers["components"][task]["reward"], numbers["groups"][task]
        assert cells(page, "heldout", task)[:2] == [f"{before:.3f}", f"{after:.3f}"]
        assert cells(page, "components", task)[0] == f"{ends['first']:.3f} → {ends['last']:.3f}"
        assert cells(page, "groups", task)[:2] == [f"{groups['groups']:,}", f"{groups['dead_share']:.1%}"]


def cells(page, table, task):
    return page.eval_on_selector_all(f"#table-{table} tr[data-task={task}] td", "c => c.map(x => x.textContent)")


def test_what_the_diagnosis_found_stands_on_top(page, numbers):
    found = [finding for finding in numbers["findings"] if finding["level"] != "unjudged"]
    assert page.locator("#findings .finding").count() == len(found) > 0
    for finding, item in zip(found, page.locator("#findings .finding").all(), strict=True):
        text = item.inner_text()
        assert all(finding[part] in text for part in ("level", "title", "evidence", "advice"))
    assert page.locator("#unjudged li").count() == len(numbers["findings"]) - len(found)


def test_every_failure_is_counted_on_the_page(page, numbers):
    failures = numbers["failures"]
    assert page.inner_text("#failed-total") == f"{failures['failed_total']} rollouts whose scoring failed"
    assert page.inner_text("#judge-failed").startswith(f"{failures['judge_failed']} questions to the judge")
    assert page.inner_text("#stood-in").endswith(f"{failures['skipped_groups']} trained without")
    assert page.inner_text("#dropped-rows").startswith("7 rollout rows lost by the recorder (last: step 3: No space")
    assert "1 data row skipped" in page.inner_text("#skipped-rows")
    assert "clip-1: moov atom not found" in page.inner_text("#skipped-rows")


def test_charts_over_all_tasks_hold_the_numbers_of_the_json(page, numbers):
    dead, *_ = series(page, "groups-tasks")
    assert dead["x"] == [numbers["groups"][task]["dead_share"] for task in numbers["tasks"]]
    *_, median = series(page, "groups-spread")
    assert median["y"] == numbers["spread"]["quantiles"]["p50"]
    realised, requested = series(page, "mixture")
    assert realised["x"] == [numbers["mixture"][task]["realised"] for task in numbers["tasks"]]
    assert requested["x"] == [numbers["mixture"][task]["requested"] for task in numbers["tasks"]]
    owed, *_ = series(page, "mixture-debt")
    assert owed["y"] == numbers["by_task"][owed["meta"]["task"]]["debt"]
    assert series(page, "kl")[0]["y"] == numbers["overall"]["kl"]
    assert series(page, "judge-failures")[0]["y"] == numbers["overall"]["judge_failure_rate"]
    longest = series(page, "reward-seconds")[-1]
    assert longest["y"] == numbers["overall"]["reward_seconds_max"]


def test_the_small_charts_hold_the_numbers_of_the_json(opened, small):
    page = opened(small)
    for measure in ("reward", "iou", "dead_groups", "share", "kl"):
        page.select_option("#measure", measure)
        drawn = {trace["name"]: trace["y"] for trace in series(page, "task-subject")}
        assert drawn["subject"] == small.runs[0]["by_task"]["subject"][measure]
        if measure == "share":
            assert drawn["requested"] == small.runs[0]["requested"]["subject"]
        else:
            assert drawn["all tasks"] == small.runs[0]["overall"][measure]


def test_the_shots_of_an_answer_stand_against_the_true_ones(page, numbers):
    """Of each task the best and the worst of the recorded answers; a pair of the matching has one colour."""
    examples = {(e["task"], e["kind"]): e for e in numbers["examples"]}
    assert set(examples) == set(itertools.product(numbers["tasks"], ("best", "worst")))
    assert all(examples[task, "best"]["score"] >= examples[task, "worst"]["score"] for task in numbers["tasks"])
    shots = examples["subject", "best"]["shots"]
    true, said = series(page, "example-0-best-subject")
    pairs = len(shots["pairs"])
    assert pairs > 0
    assert true["base"][:pairs] == [pair["true"][0] for pair in shots["pairs"]]
    assert said["base"][:pairs] == [pair["predicted"][0] for pair in shots["pairs"]]
    assert true["meta"]["color"][:pairs] == said["meta"]["color"][:pairs]
    assert len(true["x"]) == pairs + len(shots["unmatched_true"])
    listed = page.inner_text("#panel-example-0-best-subject .pairs")
    assert all(tag in listed for pair in shots["pairs"] for tags in pair["tags"] for tag in tags["predicted"])


def test_a_point_tells_its_value_when_it_is_hovered(page, numbers):
    series(page, "dynamics-reward")
    x, y = page.evaluate(
        """() => {
            const chart = document.querySelector("#panel-dynamics-reward .chart"), { xaxis, yaxis } = chart._fullLayout;
            const smooth = chart.data.find((trace) => trace.meta.derived), box = chart.getBoundingClientRect();
            return [box.x + xaxis._offset + xaxis.d2p(smooth.x[4]), box.y + yaxis._offset + yaxis.d2p(smooth.y[4])];
        }"""
    )
    page.mouse.move(x - 30, y)
    page.mouse.move(x, y, steps=5)
    page.wait_for_selector("#panel-dynamics-reward .hoverlayer .hovertext", state="attached")
    text = page.text_content("#panel-dynamics-reward .hoverlayer .hovertext")
    told = float(text.removeprefix("all tasksstep 5: ").split(",")[0])
    assert told == pytest.approx(numbers["overall"]["reward"][4], rel=1e-3)


def test_task_by_task_curves_replace_the_common_one_and_get_a_key(opened, small):
    page = opened(small)
    assert page.is_hidden("#legend")
    page.select_option("#scope", "task")
    drawn = series(page, "dynamics-reward")
    assert [t["meta"]["task"] for t in drawn] == small.runs[0]["tasks"]
    assert [t["y"] for t in drawn] == [small.runs[0]["by_task"][task]["reward"] for task in small.runs[0]["tasks"]]
    assert page.locator("#legend li").count() == 4


def test_the_task_filter_reaches_every_chart_and_table(opened, small):
    page = opened(small)
    page.click("#tasks-none")
    page.check("input[value=subject]")
    page.check("input[value=ocr_regular]")
    settle(page)
    assert page.inner_text("#task-count") == "2 of 4"
    assert page.locator("#tasks figure:visible").count() == 2
    assert page.locator("#examples figure:visible").count() == 4
    assert page.locator("#table-heldout tbody tr:visible").count() == 2
    assert series(page, "groups-tasks")[0]["y"] == ["subject", "ocr regular"]
    page.select_option("#scope", "task")
    assert [t["name"] for t in series(page, "dynamics-reward")] == ["subject", "ocr regular"]
    page.click("#tasks-all")
    settle(page)
    assert page.locator("#tasks figure:visible").count() == 4


def test_smoothing_follows_the_trend_without_delay_and_can_be_switched_off(opened, small):
    page = opened(small)
    derived = "() => document.querySelector('#panel-dynamics-entropy .chart').data.filter((t) => t.meta.derived).map((t) => t.y)"
    raw, smooth = small.runs[0]["overall"]["entropy"], page.evaluate(derived)[0]
    middle = len(raw) // 2  # on a falling curve a delayed mean would lie above the raw one in the middle
    assert smooth[middle] == pytest.approx(raw[middle], abs=0.03)
    assert smooth == pytest.approx(smoothed(raw, 0.3))  # as it is printed
    page.fill("#smooth", "0")
    settle(page)
    assert page.evaluate(derived) == []


def test_several_runs_share_the_charts_and_can_be_hidden_one_by_one(opened, overlaid):
    page, (one, two) = opened(overlaid), overlaid.runs
    assert [t["y"] for t in series(page, "dynamics-reward")] == [run["overall"]["reward"] for run in (one, two)]
    assert [t["y"] for t in series(page, "task-subject")][::2] == [
        run["by_task"]["subject"]["reward"] for run in (one, two)
    ]
    assert (
        len(series(page, "task-temporal_action_localization")) == 2
    )  # the second run lacks this task: one curve, its held-out scores
    rows = page.eval_on_selector_all("#table-runs tbody tr", "r => r.map((x) => x.innerText)")
    for row, run in zip(rows, (one, two), strict=True):
        assert run["name"] in row
        assert f"{run['summary']['reward_first']:.3f} → {run['summary']['reward_last']:.3f}" in row
    page.uncheck("input[name=run][value='0']")
    settle(page)
    assert [t["name"] for t in series(page, "dynamics-reward")] == [two["name"]]
    assert page.locator("#examples figure:visible").count() == 2 * len(two["tasks"])


def test_a_phone_shows_the_page_without_sideways_scrolling(opened, overlaid, small):
    for shown in (small, overlaid):
        page = opened(shown, **PHONE)
        series(page, "dynamics-reward")
        assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
        widths = page.eval_on_selector_all(".chart .main-svg", "s => s.map((x) => x.getBoundingClientRect().right)")
        assert max(widths) <= 390


def test_print_is_light_has_every_chart_and_fits_the_paper(opened, small):
    page = opened(small, **DARK)
    page.emulate_media(media="print")
    page.wait_for_selector("html.printing", state="attached")
    undrawn = "all => all.filter((chart) => !chart.querySelector('.main-svg')).length"
    assert page.eval_on_selector_all(".chart", undrawn) == 0
    assert page.evaluate("getComputedStyle(document.documentElement).getPropertyValue('--paper').trim()") == "#ffffff"
    right = "all => Math.max(...all.map((each) => each.getBoundingClientRect().right - document.body.getBoundingClientRect().left))"
    assert page.eval_on_selector_all(".main-svg", right) <= 681  # 180 mm
    assert page.is_hidden(".controls")
    page.emulate_media(media="screen")
    page.wait_for_selector("html:not(.printing)", state="attached")


def test_every_chart_has_a_text_alternative_and_headings_are_in_order(page):
    for label in page.eval_on_selector_all(".chart", "all => all.map((c) => [c.role, c.getAttribute('aria-label')])"):
        assert label[0] == "group"
        assert len(label[1]) > 10
    levels = page.eval_on_selector_all("h1, h2, h3", "h => h.map((x) => Number(x.tagName[1]))")
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in itertools.pairwise(levels))
