"""`sv6d report RUN --watch`: a page that follows a run, in a real browser, from before its first step to the end."""

import json
import signal
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from contextlib import contextmanager

import numpy as np
import pytest
from chromium import WINDOW, launched, series, settle
from click.testing import CliRunner
from constructed_run import add_step, build
from sv6d.reports.cli import command
from sv6d.reports.watch import Server, Watched, signature

TASKS = ("subject", "ocr_regular")
SV6D = (sys.executable, "-c", "from sv6d.recipes.cli import main; main()")


@contextmanager
def watching(*runs):
    """The command as a process of its own, and its address."""
    arguments = [*SV6D, "report", *map(str, runs), "--watch", "--port", "0"]
    process = subprocess.Popen(
        arguments,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # tests that run in the background ignore it
    )
    try:
        yield process, process.stdout.readline().split()[0]
    finally:
        process.kill()
        process.communicate()


def train_another_step(run, step):
    data = add_step(run, np.random.default_rng(step), step, 20, tasks=TASKS)
    with (run / "metrics.jsonl").open("a") as file:
        file.write(json.dumps({"step": step, "data": data}) + "\n")


def test_a_page_follows_a_run_and_keeps_what_its_reader_chose(tmp_path):
    run = tmp_path / "run"
    with watching(run) as (process, url), launched() as browser:
        page, said = browser.new_page(**WINDOW), []
        page.on("pageerror", lambda error: said.append(str(error)))
        page.goto(url)
        assert "no such folder" in page.inner_text("main")

        build(run, steps=8, tasks=TASKS)
        page.wait_for_selector("#table-heldout", state="attached")  # what is written last has arrived
        settle(page)
        zoomed = zoom(page)
        page.uncheck("input[value=ocr_regular]", force=True)
        page.select_option("#measure", "entropy")
        page.click("#numbers-mixture summary")
        before = page.get_attribute("html", "data-live")

        train_another_step(run, 9)
        page.wait_for_function("(before) => document.documentElement.dataset.live !== before", arg=before)
        page.wait_for_function("() => document.querySelector('header').innerText.includes('9 steps')")
        settle(page)
        assert series(page, "dynamics-reward")[0]["x"] == list(range(1, 10))
        assert x_range(page) == zoomed
        assert page.inner_text("#task-count") == "1 of 2"
        assert page.locator("#tasks figure:visible").count() == 1
        assert page.input_value("#measure") == "entropy"
        assert series(page, "task-subject")[-1]["meta"]["measure"] == "entropy"
        assert page.is_visible("#table-mixture")
        assert page.text_content("#live").startswith("live, updated")

        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=20) == 0
        page.wait_for_function("() => document.querySelector('#live').textContent.includes('ended')")
        assert said == []


def zoom(page):
    """Drags over the middle of the reward chart, as a reader does; the range that is then seen."""
    page.evaluate("document.querySelector('#panel-dynamics-reward').scrollIntoView({ block: 'center' })")
    settle(page)
    box = page.locator("#panel-dynamics-reward .nsewdrag").bounding_box()
    middle, whole = box["y"] + box["height"] / 2, x_range(page)
    page.mouse.move(box["x"] + box["width"] * 0.3, middle)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.7, middle, steps=8)
    page.mouse.up()
    page.wait_for_function(f"() => {X_RANGE}[0] > {whole[0]}")
    return x_range(page)


X_RANGE = "document.querySelector('#panel-dynamics-reward .chart')._fullLayout.xaxis.range"


def x_range(page):
    return page.evaluate(X_RANGE)


def test_a_page_is_rendered_anew_only_when_a_file_of_the_run_changed(tmp_path):
    run = build(tmp_path / "run", steps=2, tasks=TASKS)
    watched = Watched([run])
    assert watched.version == 1
    assert not watched.look()
    (run / "checkpoints").mkdir()
    (run / "checkpoints" / "weights").write_bytes(b"0" * 1000)
    assert not watched.look()
    train_another_step(run, 3)
    assert watched.look()
    assert watched.news()["version"] == 2


def test_runs_that_wrote_nothing_yet_are_waited_for_beside_those_that_did(tmp_path):
    run = build(tmp_path / "run", steps=2, tasks=TASKS)
    watched = Watched([run, tmp_path / "later"])
    assert watched.news()["said"].endswith("waiting for 1 more")
    build(tmp_path / "later", steps=2, tasks=TASKS)
    assert watched.look()
    assert "<h1>2 runs</h1>" in watched.page


def test_a_run_may_be_a_single_file_and_may_not_be_there_yet(tmp_path):
    assert signature(tmp_path / "metrics.jsonl") == []
    (tmp_path / "metrics.jsonl").write_text("{}\n")
    ((name, size, _),) = signature(tmp_path / "metrics.jsonl")
    assert (name, size) == (str(tmp_path / "metrics.jsonl"), 3)


def test_only_this_machine_is_answered(tmp_path):
    """A web site that points a name of its own at 127.0.0.1 could otherwise read the page through its visitor's browser."""
    with Server(Watched([tmp_path / "run"]), 0) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        assert b"Waiting" in urllib.request.urlopen(server.url).read()
        with pytest.raises(urllib.error.HTTPError, match="403"):
            urllib.request.urlopen(urllib.request.Request(server.url, headers={"Host": "elsewhere.example"}))
        with pytest.raises(urllib.error.HTTPError, match="404"):
            urllib.request.urlopen(server.url + "etc/passwd")
        server.shutdown()


def test_a_port_that_is_taken_is_said_in_one_sentence(tmp_path):
    with Server(Watched([tmp_path / "run"]), 0) as server:
        port = str(server.server_address[1])
        result = CliRunner().invoke(command, [str(tmp_path / "run"), "--watch", "--port", port])
    assert result.exit_code == 1
    assert f"port {port} of this machine: Address already in use; take another with --port" in result.output


def test_watching_writes_nothing_so_other_outputs_are_refused(tmp_path):
    result = CliRunner().invoke(command, [str(tmp_path), "--watch", "-o", str(tmp_path / "report.html")])
    assert result.exit_code == 2
    assert "--watch serves the page and writes nothing" in result.output
