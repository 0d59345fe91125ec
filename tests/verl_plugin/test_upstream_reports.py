"""The reports under docs/upstream say what happens: each script, run in a verl without our plug-in, prints what its page shows."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

PAGES = sorted(page for page in (Path(__file__).parents[2] / "docs" / "upstream").glob("*.md") if page.stem != "README")
RUNNER = """
import sys
from contextlib import redirect_stdout
from io import StringIO
for script in sys.stdin.read().split("\\f"):
    printed = StringIO()
    with redirect_stdout(printed):
        exec(compile(script, "page", "exec"), {"__name__": "__main__"})
    print(printed.getvalue(), end="\\f")
"""


def block(page, language):
    return re.search(rf"```{language}\n(.*?)```", page.read_text(), re.DOTALL)[1]


@pytest.fixture(scope="module")
def printed():
    """What the scripts of all pages print, run one after another in one fresh process."""
    environment = {**os.environ, "VERL_USE_EXTERNAL_PLUGINS": "none", "VERL_LOGGING_LEVEL": "ERROR"}
    scripts = "\f".join(block(page, "python") for page in PAGES)
    done = subprocess.run(
        [sys.executable, "-c", RUNNER], input=scripts, capture_output=True, text=True, env=environment, timeout=300
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return dict(zip(PAGES, done.stdout.split("\f"), strict=False))


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_script_prints_what_the_page_says(page, printed):
    assert printed[page].strip() == block(page, "text").strip()


def test_every_listed_bug_has_its_page():
    listed = re.findall(r"^\| \[\w+\]\((\w+)\.md\)", (PAGES[0].parent / "README.md").read_text(), re.MULTILINE)
    assert sorted(listed) == [page.stem for page in PAGES]
    for page in PAGES:
        for part in ("**What happens.**", "**Expected.**", "**Suggested change.**", "verl 0.9.1"):
            assert part in page.read_text(), (page, part)
