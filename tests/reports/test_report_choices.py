"""The page in a real browser: which tasks are chosen, where the key of several runs stands, labels of shots, runs of few things."""

import json

import pytest
from chromium import PHONE, WINDOW, launched, reveal, series, settle
from constructed_run import build
from sv6d.reports.page import write_page
from sv6d.reports.runs import load_run

KINDS = ("subject", "ocr_regular", "visual_reasoning")


@pytest.fixture(scope="module")
def browser():
    with launched() as browser:
        yield browser


@pytest.fixture
def opened(browser):
    """Opens a page; in the end its console must have stayed silent."""
    contexts, said = [], []

    def open_page(file, **context):
        contexts.append(browser.new_context(**(WINDOW | context)))
        page = contexts[-1].new_page()
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.goto(f"file://{file}")
        settle(page)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert said == []


@pytest.fixture(scope="module")
def one(tmp_path_factory):
    folder = tmp_path_factory.mktemp("one")
    (shown,) = write_page([load_run(build(folder / "run", steps=20, tasks=KINDS))], folder / "page.html")["runs"]
    return folder / "page.html", shown


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    folder = tmp_path_factory.mktemp("two")
    runs = [load_run(build(folder / name, steps=12, seed=i, tasks=KINDS)) for i, name in enumerate("ab")]
    return folder / "page.html", write_page(runs, folder / "page.html")["runs"]


def choose(page, *tasks):
    page.evaluate("document.getElementById('tasks-choice').open = true")
    page.click("#tasks-none")
    for task in tasks:
        page.check(f"input[name=task][value={task}]")
    settle(page)


def over(shown, measure, tasks):
    """The mean over the rollouts of these tasks, step by step."""
    counts = [[shown["rollouts"][task][i] for task in tasks] for i in range(len(shown["steps"]))]
    return [
        sum(count * shown["by_task"][task][measure][i] for task, count in zip(tasks, each, strict=True)) / sum(each)
        for i, each in enumerate(counts)
    ]


def caption(page, panel):
    return page.inner_text(f"#panel-{panel} figcaption p")


def test_figure_3_is_the_mean_over_the_tasks_that_are_chosen(opened, one):
    file, shown = one
    page = opened(file)
    assert caption(page, "dynamics-reward").startswith("Over all 3 tasks: first five steps")
    choose(page, "subject", "ocr_regular")
    (drawn,) = series(page, "dynamics-reward")
    weighed = over(shown, "reward", KINDS[:2])
    assert drawn["name"] == "2 of 3 tasks" and drawn["y"] == pytest.approx(weighed)
    first, last = sum(weighed[:5]) / 5, sum(weighed[-5:]) / 5
    assert caption(page, "dynamics-reward") == f"Over 2 of 3 tasks: first five steps {first:.3g}, last five {last:.3g}."
    page.click("#tasks-all")
    settle(page)
    (drawn,) = series(page, "dynamics-reward")
    assert drawn["y"] == shown["overall"]["reward"] and caption(page, "dynamics-reward").startswith("Over all 3 tasks")


def test_the_mean_of_all_tasks_is_what_their_means_come_to(one):
    """So that nothing jumps when the last task is chosen: what the page reckons is the mean over the rollouts."""
    _, shown = one
    for measure in ("reward", "entropy", "length"):
        assert over(shown, measure, KINDS) == pytest.approx(shown["overall"][measure], rel=1e-4)


def test_each_run_has_its_own_mean_over_the_chosen_tasks(opened, two):
    file, shown = two
    page = opened(file)
    choose(page, "subject")
    drawn = {trace["name"]: trace["y"] for trace in series(page, "dynamics-reward")}
    assert drawn == {run["name"]: pytest.approx(run["by_task"]["subject"]["reward"]) for run in shown}
    assert caption(page, "dynamics-reward").startswith("A line for each run, over 1 of 3 tasks")


def test_charts_over_all_tasks_say_so_and_charts_without_rows_are_hidden(opened, one):
    page = opened(one[0])
    note = "(id) => getComputedStyle(document.querySelector(`#panel-${id} figcaption p`), '::after').content"
    assert page.evaluate(note, "truncation") == "none" and page.is_visible("#panel-component-judge")
    choose(page, "subject")
    assert page.evaluate(note, "truncation") == '" Over all tasks, whichever are chosen."'
    assert page.evaluate(note, "component-format") == page.evaluate(note, "dynamics-reward") == "none"
    assert page.is_hidden("#panel-component-judge") and page.is_visible("#panel-component-format")


def test_a_phone_keeps_the_key_of_several_runs_in_sight(opened, two):
    file, shown = two
    page = opened(file, **PHONE)
    figure = page.locator("#tasks figure").last
    figure.scroll_into_view_if_needed()
    key = page.locator("#tasks .runs-key")
    assert [item.inner_text().strip() for item in key.locator("li").all()] == [run["name"] for run in shown]
    assert 0 <= key.bounding_box()["y"] < figure.bounding_box()["y"] < 844
    page.uncheck("input[name=run][value='0']")
    assert key.locator("li:visible").count() == 1
    assert opened(file).locator(".runs-key:visible").count() == 0  # where there is room the controls stay, with the key


def test_charts_of_several_runs_have_their_key_on_paper(opened, two):
    file, shown = two
    page = opened(file)
    page.emulate_media(media="print")
    page.wait_for_selector("html.printing", state="attached")
    for panel in ("dynamics-reward", "heldout", "component-format", "truncation"):
        names = page.locator(f"#panel-{panel} .legendtext").all_text_contents()
        assert names == [run["name"] for run in shown], panel
    assert page.locator("#tasks .runs-key:visible").count() == 1  # the small charts share one


def test_the_labels_of_shots_are_as_long_as_there_is_room(opened, one):
    """Each bar shows its labels, or the first of them, or the beginning of one; none is left empty that could hold a word."""
    page = opened(one[0], **PHONE)
    reveal(page)
    rows = page.eval_on_selector_all(
        "#panel-example-0-best-subject .chart, #panel-example-0-worst-subject .chart",
        """charts => charts.flatMap((c) => c.data.flatMap((t) => t.text.map((text, i) =>
            [text, t.x[i] * c._fullLayout.xaxis._length / c._fullLayout.xaxis.range[1]])))""",
    )
    assert len(rows) > 4
    assert all(text for text, width in rows if width > 40)
    assert any("…" in text for text, _ in rows)


def test_an_answer_that_cannot_be_read_says_so_and_its_texts_are_headed(opened, tmp_path):
    run = build(tmp_path / "run", steps=1, tasks=("subject",))
    table = load_run(run).texts().assign(response="no JSON")
    import pyarrow.parquet as pq

    part = next((run / "rollouts").iterdir())
    rows = pq.read_table(part).to_pandas()
    rows["response"] = rows["uid"].map(table.set_index("uid")["response"])
    rows.loc[rows["response"].notna(), "score"] = 0.0
    rows.to_parquet(part)
    write_page([load_run(run)], tmp_path / "page.html")
    page = opened(tmp_path / "page.html")
    example = page.locator("#panel-example-0-worst-subject")
    assert "Unread: nothing can be read as JSON after the thinking." in example.locator("figcaption").inner_text()
    assert "not answered" in example.locator(".pairs").inner_text()
    example.locator("summary").last.click()
    assert [p.inner_text() for p in example.locator(".scroll p").all()] == ["Answered:", "True:"]


def supervised(folder):
    folder.mkdir()
    lines = [
        {"step": s, "data": {"train/loss": 2 / s, "language/lr": 1e-5} | ({"val/loss": 3 / s} if s % 5 == 0 else {})}
        for s in range(1, 21)
    ]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return load_run(folder)


def test_a_supervised_run_shows_its_losses_and_that_nothing_could_be_judged(opened, tmp_path):
    (shown,) = write_page([supervised(tmp_path / "run")], tmp_path / "page.html")["runs"]
    page = opened(tmp_path / "page.html")
    assert page.inner_text("#h-findings") == "Nothing could be judged"
    training, validation = series(page, "sft-loss")
    assert training["y"] == shown["supervised"]["losses"]["training"] and validation["y"][4] == 0.6
    assert series(page, "sft-rates")[0]["name"] == "language"
    assert page.inner_text("#card-validation .last") == f"{shown['supervised']['ends']['validation'][1]:.3f}"
    assert page.is_hidden("#tasks-choice") and page.is_hidden("#scope") and page.is_visible("#smooth")


def test_what_could_not_be_judged_fits_a_phone(opened, tmp_path):
    """The longest names of metrics and settings stand there."""
    write_page([supervised(tmp_path / "run")], tmp_path / "page.html")
    page = opened(tmp_path / "page.html", **PHONE)
    page.click("#unjudged summary")
    assert page.evaluate("document.documentElement.scrollWidth") == 390


def test_a_page_without_charts_is_drawn_too(opened, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "metrics.jsonl").write_text('{"step": 1, "data": {"perf/throughput": 3.0}}\n')
    write_page([load_run(tmp_path / "run")], tmp_path / "page.html")
    assert opened(tmp_path / "page.html").locator("figure").count() == 0
