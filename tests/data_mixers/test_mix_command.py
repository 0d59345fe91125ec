"""`sv6d mix`: the schedule of given weights, before a run follows it."""

import re

import pytest
from click.testing import CliRunner
from sv6d.data_mixers.cli import command


def run(*arguments):
    return CliRunner().invoke(command, arguments, terminal_width=100)


def test_without_weights_the_13_tasks_weigh_the_same():
    result = run()
    assert result.exit_code == 0
    rows = re.findall(r"██\s+(\w+)\s+0\.0769\s+1\s+30\s+13\n", result.output)
    assert len(rows) == 13
    assert "worst error of any prefix: 0.9231 draws" in result.output
    assert "1 - 1/(2n-2) = 0.9583" in result.output
    assert result.output.count("█") == 13 * 2 + 390


def test_weights_are_shares_of_any_scale():
    # 6 : 4 : 1 of 11 draws; the first 390 draws are 35 periods of 11 and 5 more.
    result = run("cut_point_detection=3", "subject=2", "ocr_regular=0.5")
    assert re.search(r"cut_point_detection\s+0\.5455\s+6\s+213", result.output)
    assert "period: 11 draws" in result.output


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["subject"], "write TASK=NUMBER"),
        (["subject=many"], "write TASK=NUMBER"),
        (["subject=0"], "'subject' is 0.0; a weight is a finite number above 0"),
        (["subject=1", "subject=2"], "named twice"),
    ],
)
def test_weights_that_make_no_schedule_are_refused(arguments, error):
    result = run(*arguments)
    assert result.exit_code == 2
    assert error in result.output
