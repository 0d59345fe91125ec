"""What the report costs at the size of the report's own run: 150 steps x 3,120 rollouts (13 tasks x 30 prompts x 8).

    python benchmarks/report.py [--steps 150] [--no-browser]

Targets: the page in 6 s on one core and 1.5 GB, at most 6 MB, answering in headless Chromium within 2 s; the recorder hands a
step over in milliseconds. The run is constructed by the tests' seeded generator; making it is not timed.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import click

ROOT = Path(__file__).parents[1]
RENDER = """
import os, resource, sys, time
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
start = time.perf_counter()
from sv6d.reports.cli import command
command(sys.argv[1:], standalone_mode=False)
print("seconds", time.perf_counter() - start, time.process_time())
print("megabytes", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""
FLAGS = "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking"


@click.command()
@click.option("--steps", default=150)
@click.option("--browser/--no-browser", default=True, help="Also time the page in Debian's chromium.")
def main(steps: int, browser: bool) -> None:
    sys.path.insert(0, str(ROOT / "tests" / "reports"))
    from constructed_run import build

    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        run = build(folder / "run", steps=steps, prompts=30, group_size=8)
        size = sum(part.stat().st_size for part in (run / "rollouts").iterdir()) / 2**20
        print(f"run        {steps} steps x 3,120 rollouts, {size:.0f} MB of parts")
        render(run, folder / "report.html")
        record(folder / "recorded", run)
        if browser:
            interact(folder / "report.html")


def render(run: Path, page: Path) -> None:
    command = [sys.executable, "-c", RENDER, str(run), "-o", str(page)]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    wall, cpu = map(float, lines[-2].split()[1:])
    print(f"render     {wall:.2f} s wall, {cpu:.2f} s of one core (target 6 s), imports included")
    print(f"memory     {float(lines[-1].split()[1]):.0f} MB peak (target 1,500 MB)")
    print(f"page       {page.stat().st_size / 2**20:.2f} MB (target 6 MB)")


def record(directory: Path, run: Path) -> None:
    import pyarrow.parquet as pq
    from sv6d.reports.recorder import Recorder, part_name

    rows = pq.read_table(run / "rollouts" / part_name(1)).to_pylist()
    handed, written = [], []
    with Recorder(directory) as recorder:
        for step in range(1, 11):
            start = time.perf_counter()
            recorder.write(rows, step)
            handed.append(time.perf_counter() - start)
            recorder.flush()
            written.append(time.perf_counter() - start)
        assert recorder.dropped == 0
    handover, write = (1e3 * sorted(times)[5] for times in (handed, written))
    print(
        f"recorder   {handover:.1f} ms of the training thread a step of {len(rows):,} rows; on the disk after {write:.0f} ms"
    )


def interact(page: Path) -> None:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=FLAGS.split())
        tab = chromium.new_page(viewport={"width": 1280, "height": 900})
        start = time.perf_counter()
        tab.goto(page.as_uri(), wait_until="commit")
        tab.wait_for_selector("#panel-dynamics-reward .main-svg", state="attached")
        tab.evaluate("document.title")  # answered between two slices of drawing: the page is interactive
        interactive = time.perf_counter() - start
        print(f"browser    Figure 3 drawn and answering after {interactive:.2f} s (target 2 s)")
        chromium.close()


if __name__ == "__main__":
    main()
